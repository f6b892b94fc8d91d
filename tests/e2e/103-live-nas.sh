#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: whatever happens to the NAS or to the agent in the middle of a backup, the
# guest runs on: no error, no write that takes longer than 3 times what the
# slowest takes when nothing happens, nothing is left in its QEMU; the next
# incremental is right, and does not send again what was sent.
#
#   [SEED=N] tests/e2e/103-live-nas.sh      LIVE=long: longer stops, more kills
. "$(dirname "$0")/lib.sh"
. "$top/tests/live/lib.sh"
. "$top/tests/live/trouble.sh"

kind=qmp
disk=$dir/a.qcow2 scratch=$dir/scratch
mkdir "$scratch"
vm_disk "$disk" 128
vm_fs "$dir/b.qcow2" 64
vm_start web disk="$disk" disk="$dir/b.qcow2" fs=/dev/vdb ga=1 \
	work=disks,$region,1000,/dev/vda
how=(--qmp "$dir/web/qmp.sock" --ga "$dir/web/ga.sock"
	--scratch-dir "$scratch")
begin
resume
nas_stops
nas_dies
end
vm_stop web
qemu-img check -q "$disk" || fail "qemu-img check"
