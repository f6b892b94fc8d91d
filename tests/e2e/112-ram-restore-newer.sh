#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: what 110-ram-restore shows, with the newer QEMU and libvirt, and of
# memory that QEMU maps into its file.
. "$(dirname "$0")/lib.sh"
. "$top/tests/live/lib.sh"
. "$top/tests/live/going.sh"

new_room
going_begin
# It was started in a room that we do not run in.
cat >"$dir/qemu" <<END
#!/bin/bash
exec unshare -m --propagation private "$live/newer.sh" --enter \\
	"$new_root" "$dir" "$live_cache/guest" -- qemu-system-x86_64 "\$@"
END
chmod +x "$dir/qemu"
going_words=(new=1)
going_qemu=(--qemu "$dir/qemu")
plain shared ram="$dir/memory"
plain mapped
plain snapshot
going_words=()
lv_start new=1
domain shared ram=1
domain mapped
lv_stop
