#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: as in 103-live-nas, of an agent that is killed at any moment, alone or with
# its guard.
#
#   [SEED=N] tests/e2e/105-live-agent.sh      LIVE=long: longer stops, more kills
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
agent_dies "$kills"
guard_dies
end
vm_stop web
qemu-img check -q "$disk" || fail "qemu-img check"
