#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: a running guest of plain QEMU is backed up while it writes.  Every backup
# of a chain is one point in time of all its disks; incrementals read what the
# guest changed, also after it was switched off and on, and read everything after
# its QEMU was killed.
#
#   tests/e2e/100-live-qmp.sh      LIVE=long: 20 incrementals
. "$(dirname "$0")/lib.sh"
. "$top/tests/live/lib.sh"
. "$top/tests/live/chain.sh"

chain_disks=$dir/disks
mkdir "$chain_disks"
vm_disk "$chain_disks/a.qcow2" 256
vm_disk "$chain_disks/b.qcow2" 256
vm_fs "$chain_disks/c.qcow2" 64
boot() {
	vm_start web disk="$chain_disks/a.qcow2" disk="$chain_disks/b.qcow2" \
		disk="$chain_disks/c.qcow2" fs=/dev/vdc ga=1 memwork=32 \
		work=disks,$chain_region,1000,/dev/vda,/dev/vdb
	vm_wait web '^AGREE .* ok' 90
	vm_wait web '^GA' 30
}
boot
chain_how=(--qmp "$dir/web/qmp.sock" --ga "$dir/web/ga.sock")
make_repo "$dir/repo"
start_daemon
enroll_agent host

chain_control
chain_run
chain_no_trace
chain_quiesce

vm_qmp web quit >"$dir/quit.out" || fail "quit"
vm_stop web
boot
chain_backup
chain_read_little "after the guest was switched off"
ok "after the guest was switched off and on, a backup reads what changed"

vm_stop web KILL
boot
chain_backup
chain_read_all "after QEMU was killed"
ok "after QEMU was killed, a backup reads everything"
chain_choose
vm_stop web
qemu-img check -q "$chain_disks/a.qcow2" || fail "qemu-img check of vda"
