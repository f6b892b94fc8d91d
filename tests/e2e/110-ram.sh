#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: memory, devices' state and disk of a running guest are of one instant, by
# each way of saving them: a new QEMU that is fed with them goes on where the
# guest was, and finds on its disk what its memory remembers.  QEMU's migration
# settings are afterwards what they were.
set -u

top=$(cd "$(dirname "$0")/../.." && pwd)
. "$top/tests/e2e/lib.sh"
. "$top/tests/live/lib.sh"
ramcheck=$(realpath "${RAMCHECK:-$BIN/ramcheck}")
need "$ramcheck" python3

settings() {
	python3 "$live/qmp.py" "$dir/$1/mon.sock" query-migrate-capabilities
	python3 "$live/qmp.py" "$dir/$1/mon.sock" query-migrate-parameters
}

# one METHOD [WORD...]: with a guest that is started with these words too.
one() {
	local method=$1 out=$dir/$1.out before uri checker

	shift
	mkdir "$out"
	vm_disk "$dir/a.qcow2" 64
	vm_start a disk="$dir/a.qcow2" work=disks,16,500,/dev/vda memwork=32 "$@"
	vm_wait a '^AGREE .* ok' 60
	vm_wait a '^COUNT .* ok' 60
	before=$(settings a)
	mkfifo "$dir/hold"
	bounded "$ramcheck" view "$dir/a/qmp.sock" "$method" "$dir" "$out" \
		<"$dir/hold" >"$dir/log" 2>"$dir/err" &
	checker=$!
	pids+=("$checker")
	exec 9>"$dir/hold"
	wait_for 60 grep -q ram-facts "$dir/log" ||
		fail "ramcheck: $(cat "$dir/log" "$dir/err")"
	grep -q "^method $method " "$dir/log" || fail "$(cat "$dir/log")"
	[ -n "$before" ] || fail "no settings"
	[ "$(settings a)" = "$before" ] || fail "$method: settings changed"
	uri=$(sed -n 's,.* socket \([^ ]*\) export \([^ ]*\) .*,nbd+unix:///\2?socket=\1,p' "$dir/log")
	nbdcopy "$uri" "$dir/b.raw" || fail "cannot read the view"
	exec 9>&-
	wait "$checker" || fail "ramcheck: $(cat "$dir/err")"
	forget "$checker"
	rm "$dir/hold"
	vm_stop a
	qemu-img convert -O qcow2 "$dir/b.raw" "$dir/b.qcow2"
	vm_start b disk="$dir/b.qcow2" incoming=1 "$@"
	"$ramcheck" load "$dir/b/qmp.sock" "$out" || fail "$(cat "$dir/b/qemu.log")"
	vm_wait b '^AGREE .* ok' 60
	vm_wait b '^COUNT .* ok' 60
	vm_said b BAD && fail "$method: memory and disk disagree"
	vm_stop b
	ok "$method: $(sed 's/.*\(pause_us [0-9]*\).*/\1/' "$dir/log")"
	rm -rf "$out" "$dir"/[ab].*
}

one stream
one snapshot
one shared ram="$dir/memory"
