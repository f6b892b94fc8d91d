#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Include directions: a file includes only what stands above it.  The tables
# are the rule; a folder that stands in none of them is an error.
set -u

cd "$(dirname "$0")/../.." || exit 1
found=0
complain() {
	echo "$*"
	found=1
}

# Which folders the files of a folder may include from, besides their own.
allowed() {
	case $1 in
	proto/base) ;;
	proto) echo proto/base ;;
	proto/nfs) echo proto/base proto ;;
	repo/store) echo proto/base proto proto/nfs ;;
	repo/catalog) echo proto/base proto repo/store ;;
	repo/reclaim) echo proto/base proto repo/store repo/catalog ;;
	repo/settings) echo proto/base proto repo/retain/policy.h \
		repo/dispatch/plan.h ;;
	repo/audit) echo proto/base proto ;;
	repo/notify) echo proto/base proto ;;
	repo/dispatch) echo proto/base proto ;;
	repo/retain) echo proto/base proto repo/settings repo/catalog ;;
	repo/serve) echo proto/base proto repo/store repo/catalog repo/reclaim \
		repo/settings repo/audit repo/retain repo/notify \
		repo/dispatch ;;
	# The console never runs what serves: only modules without threads.
	repo/console) echo proto/base proto proto/nfs repo/store repo/catalog \
		repo/dispatch/plan.h \
		repo/serve/auth.h repo/serve/keyring.h repo/settings \
		repo/audit repo/retain ;;
	repo) echo proto/base proto repo/store repo/catalog repo/reclaim \
		repo/serve repo/settings repo/audit repo/retain \
		repo/notify repo/dispatch ;;
	agent/image) echo proto/base proto proto/nfs ;;
	agent/qcow2) echo proto/base proto proto/nfs agent/image ;;
	agent/source) echo proto/base proto proto/nfs agent/image \
		agent/qcow2 ;;
	agent/sink) echo proto/base proto proto/nfs agent/image agent/qcow2 \
		agent/source ;;
	agent/pipeline) echo proto/base proto proto/nfs agent/image agent/source \
		agent/sink ;;
	agent/archive) echo proto/base proto agent/image agent/qcow2 \
		agent/source agent/sink agent/pipeline ;;
	agent/guest) echo proto/base proto agent/image agent/qcow2 ;;
	agent/ram) echo proto/base proto agent/source agent/guest ;;
	agent/live) echo proto/base proto agent/image agent/source agent/sink \
		agent/pipeline agent/guest agent/ram ;;
	agent/serve) echo proto/base proto agent/image agent/qcow2 agent/sink \
		agent/pipeline agent/guest ;;
	agent) echo proto/base proto proto/nfs agent/image agent/source agent/sink \
		agent/pipeline agent/live agent/guest agent/serve \
		agent/archive ;;
	*) return 1 ;;
	esac
}

while IFS=: read -r file line text; do
	folder=$(dirname "$file")
	header=${text#*\"}
	header=${header%%\"*}
	if ! list=$(allowed "$folder"); then
		complain "$file: tests/lint/includes.sh does not know $folder"
		continue
	fi
	from=$(dirname "$header")
	if [ "$from" = . ]; then
		complain "$file:$line: say the path from the root: $header"
		continue
	fi
	[ "$from" != "$folder" ] || continue
	case " $list " in
	*" $from "* | *" $header "*) ;;
	*) complain "$file:$line: $folder does not see $header" ;;
	esac
done < <(grep -rn '^#include "' --include='*.[ch]' proto repo agent)

# only FILES HEADER: who else includes that library.
only() {
	local list

	if list=$(grep -rn "^#include <$2" --include='*.[ch]' proto repo agent |
		grep -vE "^($1)"); then
		complain "$list"$'\n'"  <$2...> is for $1 alone"
	fi
}
only 'proto/lane_ssh' libssh/
only 'repo/store/index' rocksdb/
only 'proto/nfs/' nfsc/
only 'proto/chunk\.|repo/serve/jobs\.c|repo/catalog/domain\.c|agent/archive/digest\.' openssl/
only 'proto/base/inifile' ini.h
only 'repo/console/top_screen' curses.h
only 'proto/codec\.|agent/qcow2/inflate\.' zstd
only 'agent/qcow2/inflate\.|agent/archive/(form_vmdk|gunzip)\.|agent/image/vmdk\.' zlib
only 'agent/archive/arc(in|out)\.' archive
only 'agent/source/nbd|agent/source/source_nbd' libnbd
only 'agent/guest/guest_libvirt|agent/live/live_restore' libvirt/
only 'agent/guest/guest_libvirt|agent/guest/xml|agent/live/live_restore|agent/archive/ova\.' libxml/

# JSON from outside is bounded and strict in one place, but for QEMU's answers,
# which may be long, and its command line, which is no object.
if list=$(grep -rnE '\bjson_load[a-z]*\(' --include='*.[ch]' proto repo agent |
	grep -vE '^(proto/base/json|agent/guest/linesock|agent/live/live_restore_args)\.c:'); then
	complain "$list"$'\n'"  parse by json_parse of proto/base/json.h"
fi
# A backup goes by one way only, which asks the guard whether it may.
if list=$(grep -rnE '\b(catalog_hide|store_drop)\(' --include='*.c' repo |
	grep -vE '^repo/(serve/leaving|retain/guard|catalog/catalog|store/store_session)\.c:'); then
	complain "$list"$'\n'"  let backups go by repo/serve/leaving.h"
fi
exit $found
