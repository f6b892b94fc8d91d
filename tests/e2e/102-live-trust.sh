#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: a record of what changed is not believed.  One that was cleared, made
# anew, switched off, lost or broken behind our back, a parent that is gone, a
# repository that went back in time, a second one beside it: each backup is what
# the guest's disk was, and says why it read all of it.
#
#   tests/e2e/102-live-trust.sh
. "$(dirname "$0")/lib.sh"
. "$top/tests/live/lib.sh"
. "$top/tests/live/trust.sh"

disk=$dir/a.qcow2
vm_disk "$disk" 128
vm_start web disk="$disk" work=disks,$region,1000,/dev/vda
how=(--qmp "$dir/web/qmp.sock")
begin
lies
teeth
record remove
record_again '"granularity": 131072'
full "a bitmap of another granularity" 'another granularity'
parents
back_in_time
two
vm_sound web
vm_stop web
