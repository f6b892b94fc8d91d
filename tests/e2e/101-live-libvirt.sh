#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: what 100-live-qmp shows, of a libvirt domain: by backup jobs and
# checkpoints, which virsh sees too.
#
#   tests/e2e/101-live-libvirt.sh      LIVE=long: 20 incrementals
. "$(dirname "$0")/lib.sh"
. "$top/tests/live/lib.sh"
. "$top/tests/live/chain.sh"

lv_start
chain_disks=$lv_files
vm_disk "$chain_disks/a.qcow2" 256
vm_disk "$chain_disks/b.qcow2" 256
vm_fs "$chain_disks/c.qcow2" 64
lv_domain web disk="$chain_disks/a.qcow2" disk="$chain_disks/b.qcow2" \
	disk="$chain_disks/c.qcow2" fs=/dev/vdc ga=1 memwork=32 \
	work=disks,$chain_region,1000,/dev/vda,/dev/vdb
vm_wait web '^AGREE .* ok' 90
vm_wait web '^GA' 30
chain_how=(--domain web --connect "$LV_URI" --scratch-dir "$lv_files")
make_repo "$dir/repo"
start_daemon
enroll_agent host

# checkpoints: how many libvirt has; they are all ours.
checkpoints() {
	lv_virsh checkpoint-list web --name >"$dir/checkpoints" ||
		fail "checkpoint-list"
	if grep -v '^backstay-' "$dir/checkpoints" | grep .; then
		fail "checkpoints that are not ours"
	fi
	grep -c '^backstay-' "$dir/checkpoints"
}

chain_control
chain_run
chain_no_trace
[ "$(checkpoints)" = 1 ] || fail "checkpoints: $(cat "$dir/checkpoints")"
ok "libvirt has one checkpoint, the last backup's"
chain_quiesce

lv_halt web
lv_power web
vm_wait web '^AGREE .* ok' 90
chain_backup
chain_read_little "after the domain was switched off"
ok "after the domain was switched off and on, a backup reads what changed"
chain_choose
vm_sound web
lv_stop
