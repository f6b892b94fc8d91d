#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: what 103-live-nas and 105-live-agent show, shorter, of a libvirt domain.
#
#   [SEED=N] tests/e2e/107-nas-libvirt.sh      LIVE=long: longer stops, more kills
. "$(dirname "$0")/lib.sh"
. "$top/tests/live/lib.sh"
. "$top/tests/live/trouble.sh"

kind=libvirt
lv_start
disk=$lv_files/a.qcow2 scratch=$lv_files/scratch
mkdir "$scratch"
chown "$lv_user:$lv_user" "$scratch"
vm_disk "$disk" 128
vm_fs "$lv_files/b.qcow2" 64
lv_domain web disk="$disk" disk="$lv_files/b.qcow2" fs=/dev/vdb ga=1 \
	work=disks,$region,1000,/dev/vda
how=(--domain web --connect "$LV_URI" --scratch-dir "$scratch")
begin
first
nas_stops
agent_dies $((kills / 3))
guard_dies
scratch_is_full ext4
end
lv_stop
