#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: what 102-live-trust shows, of a libvirt domain, whose checkpoints have two
# halves: the bitmap in the image, and what libvirt knows of it.
#
#   tests/e2e/106-trust-libvirt.sh
. "$(dirname "$0")/lib.sh"
. "$top/tests/live/lib.sh"
. "$top/tests/live/trust.sh"

# lv_power_cut: its QEMU is killed, and the domain is switched on again.
lv_off() { [ "$(lv_virsh domstate web)" = "shut off" ]; }
lv_power_cut() {
	kill -9 "${vm_pid[web]}"
	wait_for 20 lv_off || fail "the domain is not off"
	lv_power web
	vm_wait web '^AGREE .* ok' 90
}

vm=acme/domain
lv_start
disk=$lv_files/a.qcow2
vm_disk "$disk" 128
lv_domain web disk="$disk" work=disks,$region,1000,/dev/vda
how=(--domain web --connect "$LV_URI" --scratch-dir "$lv_files")
begin
lies '(inconsistent|broken|missing|not|checkpoint)' \
	'(inconsistent|broken|missing|not|checkpoint)'
changes
lv_virsh checkpoint-delete web "$(bitmaps '')" --metadata \
	>"$dir/lv.out" 2>&1 || fail "metadata: $(cat "$dir/lv.out")"
incremental "libvirt forgot the checkpoint, the image has the record"
ok "a checkpoint that libvirt forgot is found again in the image"
changes
lv_virsh checkpoint-delete web "$(bitmaps '')" >"$dir/lv.out" 2>&1 ||
	fail "checkpoint-delete: $(cat "$dir/lv.out")"
full "a checkpoint that was deleted" 'does not know'
changes
lv_power_cut
full "a bitmap that is inconsistent" '(inconsistent|broken|not)'
two
vm_sound web
lv_stop
