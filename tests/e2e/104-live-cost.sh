#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: an incremental backup of a running guest costs what changed: of 8 GiB with
# 40 MiB changed all over it at most 60 MiB are read, also of a disk that was
# never full; and it is right.
#
#   tests/e2e/104-live-cost.sh        how fast it is: make bench-live
. "$(dirname "$0")/lib.sh"
. "$top/tests/live/lib.sh"
. "$top/tests/live/cost.sh"

# costs WHAT LIMIT_MIB: of the last one.
costs() {
	[ "$(stat_of read)" -le $(($2 << 20)) ] ||
		fail "$1: read $(stat_of read) bytes: $(cat "$dir/backup.json")"
	[ "$(json "$dir/backup.json" '"condemned" in j')" = False ] ||
		fail "$1: condemned: $(cat "$dir/backup.json")"
	# A minute would be what reading all of it takes.
	[ "$cost_ms" -lt $((20000 * slower)) ] || fail "$1: took $cost_ms ms"
}

cost_begin
cost_change
cost_backup
costs "an incremental" 60
read=$(stat_of read)
[ "$read" -ge $((cost_dirty << 20)) ] || fail "only $read bytes were read"
ok "8 GiB with 40 MiB changed at $cost_runs places: $((read >> 20)) MiB read, in $cost_ms ms"
cost_backup --verify-clean 0
costs "nothing changed" 1
ok "nothing changed: $(stat_of read) bytes read, in $cost_ms ms"
cost_change
cost_backup
costs "one more" 60
vm_qmp web quit >"$dir/quit.out"
vm_stop web
restore host acme/web@latest --disk "vda=qcow2:$dir/r.qcow2"
same_disk "$dir/a.qcow2" qcow2 "$dir/r.qcow2" qcow2
ok "and what comes back is the guest's disk"
stop_daemon
check_store
