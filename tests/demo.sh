#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What `make demo` shows: a repository, a host, a guest's disk with real files;
# two backups of it, one of its clone; all of them restored and compared.  All
# in one temporary folder that goes away at the end, as does the daemon.
#
#   BIN=DIR    the programs, absolute (default: build/gcc)
#   FILES=600  MiB of this machine's files that the guest's disk holds
set -eu -o pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
BIN=${BIN:-$top/build/gcc}
FILES=${FILES:-600}
# mkfs.ext4 and debugfs are in sbin, which not everybody's PATH has.
PATH=$BIN:$PATH:/usr/sbin:/sbin
export PATH
dir=$(mktemp -d "${TMPDIR:-/tmp}/backstay-demo.XXXXXX")
daemon=
cd "$dir"
export BACKSTAY_REPO=$dir/repo BACKSTAY_AGENT_DIR=$dir/host

bold='' dim='' plain=''
if [ -t 1 ]; then
	bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
fi

cleanup() {
	local status=$?

	trap '' INT TERM HUP
	trap - EXIT
	if [ -n "$daemon" ]; then
		kill "$daemon" 2>/dev/null || :
		wait "$daemon" 2>/dev/null || :
	fi
	if [ $status != 0 ] && [ -s daemon.log ]; then
		echo "--- the daemon said:" >&2
		tail -n 20 daemon.log >&2
	fi
	cd /
	rm -rf "$dir"
	[ $status = 0 ] || echo "demo: did not go through" >&2
	exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
say() { printf '  %s\n' "$*"; }

# show COMMAND...: as it would be typed, then its output, indented.
show() {
	printf '  %s$ %s%s\n' "$dim" "$*" "$plain"
	"$@" | sed 's/^/    /'
}

size_of() { du -B1 -s "$1" | cut -f1 | numfmt --to=iec-i --suffix=B; }

# same RAW IMAGE FORMAT: the image holds what the disk held when it was backed up.
same() {
	local answer

	if answer=$(qemu-img compare -f raw -F "$3" "$1" "$2" 2>&1); then
		say "qemu-img compare $1 $2: identical"
	else
		say "qemu-img compare $1 $2: $answer"
		exit 1
	fi
}

for tool in backstay backstayd backstay-agent qemu-img mkfs.ext4 debugfs \
	e2fsck; do
	command -v $tool >/dev/null || {
		echo "demo: $tool is missing; run it by \`make demo\`" >&2
		exit 1
	}
done

title "1. A guest's disk: 4 GiB, ext4, with files of this machine, as qcow2"
# Up to ${FILES} MiB of what is readable; regular files of moderate size only.
find /usr/bin /usr/include /usr/lib /usr/share -type f -readable -size -32M \
	-printf '%s %p\n' 2>/dev/null | sort -k 2 |
	awk -v most="$FILES" '{
		if (sum + $1 > most * 1048576) exit
		sum += $1; sub(/^[0-9]+ /, ""); print }' >files || :
mkdir tree
tar -cf - --no-recursion -T files 2>/dev/null | tar -xf - -C tree
truncate -s 4G monday.raw
mkfs.ext4 -q -L guest -d tree monday.raw
rm -rf tree
qemu-img convert -f raw -O qcow2 monday.raw monday.qcow2
say "$(wc -l <files) files, $(size_of monday.qcow2) in monday.qcow2"
say "(monday.raw, the same bytes, is kept to compare with)"

title "2. The NAS: a repository and its daemon"
show backstay init repo
printf '  %s$ backstayd repo --listen 127.0.0.1:0 &%s\n' "$dim" "$plain"
backstayd repo --listen 127.0.0.1:0 2>daemon.log &
daemon=$!
for ((i = 0; ; i++)); do
	! grep -q ': ready: ' daemon.log || break
	if [ $i = 200 ] || ! kill -0 "$daemon" 2>/dev/null; then
		echo "demo: the daemon does not start" >&2
		exit 1
	fi
	sleep 0.05
done
url=ssh://127.0.0.1:$(cat repo/port)
export BACKSTAY_AGENT_REPO=$url
say "  it listens at $url"

title "3. A host: a key of its own, let in by the NAS"
show backstay-agent keygen --comment kvm01
printf '  %s$ backstay-agent keygen ... | backstay key add kvm01 -%s\n' \
	"$dim" "$plain"
cat host/*.pub | backstay key add kvm01 - | sed 's/^/    /'
show backstay-agent enroll "$url"

title "4. Monday: the first backup reads all that is not a hole"
show backstay-agent backup web1 --disk vda=monday.qcow2

title "5. Tuesday: 30 MiB of new data, 100 files removed; the second backup"
cp --sparse=always monday.raw tuesday.raw
head -c $((30 << 20)) /dev/urandom >new.bin
{
	echo "write new.bin new.bin"
	awk 'NR % 50 == 0 && ++n <= 100 { print "rm " $0 }' files
} >changes
debugfs -w -f changes tuesday.raw >debugfs.log 2>&1
if grep -q 'not found\|No space' debugfs.log; then
	cat debugfs.log
	exit 1
fi
qemu-img convert -f raw -O qcow2 tuesday.raw tuesday.qcow2
show backstay-agent backup web1 --disk vda=tuesday.qcow2

title "6. A clone of Monday's disk as another VM: stored already"
cp --reflink=auto monday.qcow2 clone.qcow2
show backstay-agent backup web2 --disk vda=clone.qcow2

title "7. What the repository holds"
show backstay list
show backstay status

title "8. Back again: Monday by the NAS's console, Tuesday by the host"
show backstay restore web1@-1 --to out
show backstay-agent restore web1@latest --disk vda=out/tuesday.raw
show backstay-agent restore web2@latest --disk vda=out/clone.qcow2

title "9. The proof"
same monday.raw out/web1-vda.qcow2 qcow2
same tuesday.raw out/tuesday.raw raw
same monday.raw out/clone.qcow2 qcow2
e2fsck -fn out/tuesday.raw >e2fsck.log 2>&1 ||
	{ cat e2fsck.log; exit 1; }
say "e2fsck -fn out/tuesday.raw: clean"

kill "$daemon"
wait "$daemon"
daemon=
cd /
rm -rf "$dir"
title "Done: three backups, three restores, all identical; all is cleaned up."
