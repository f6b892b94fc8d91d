#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: a machine that was backed up with its memory goes on where it was: what
# it remembers to have written is on its disk, its memory is as it left it; a
# clone does so beside the original; what fails leaves nothing behind.
. "$(dirname "$0")/lib.sh"
. "$top/tests/live/lib.sh"

. "$top/tests/live/going.sh"

going_begin
lv_start
domain shared ram=1
domain stream
lv_stop
plain shared ram="$dir/memory"
plain stream
plain snapshot
