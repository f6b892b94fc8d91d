#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: as in 103-live-nas, of scratch files that may not or cannot grow any more.
#
#   [SEED=N] tests/e2e/108-live-scratch.sh      LIVE=long: longer stops, more kills
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
first
scratch_is_full tmpfs ext4 ext2
end
vm_stop web
qemu-img check -q "$disk" || fail "qemu-img check"
