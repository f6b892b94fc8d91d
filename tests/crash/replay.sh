#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The scenario on real file systems, and the power cut at random points.
#
#   tests/crash/replay.sh EXAMINE FS [POINTS] [SEED]
#
# A loop device over a disk that qemu-storage-daemon exports through FUSE; it
# logs every write and flush.  Each point: the disk as of that entry of the log,
# of what was not flushed a random half; mounted, examined against what had been
# acknowledged by then.  Needs root.
set -eu -o pipefail

# Mounts of its own: whoever copies the others' (ip netns exec does) would keep
# a file system of one cut alive behind that of the next.
[ -n "${REPLAY_ALONE:-}" ] ||
	exec env REPLAY_ALONE=1 unshare --mount --propagation private "$0" "$@"

examine=$(realpath "$1") fs=$2 points=${3:-20} seed=${4:-$RANDOM}
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d "${TMPDIR:-/tmp}/backstay-replay-XXXXXX")
daemon='' loop=''

stop_disk() {
	! mountpoint -q "$dir/mnt" || umount "$dir/mnt"
	[ -z "$loop" ] || losetup -d "$loop"
	loop=''
	if [ -n "$daemon" ]; then
		kill "$daemon" || :
		wait "$daemon" || :
	fi
	daemon=''
}
trap 'stop_disk; rm -rf "$dir"' EXIT

# until COMMAND...: true within ten seconds.
until_true() {
	local deadline=$((SECONDS + 10))

	until "$@"; do
		[ $SECONDS -lt $deadline ] || { echo "timeout: $*"; exit 1; }
	done
}
exported() { [ "$(stat -c %s "$dir/disk")" != 0 ]; }

mkdir "$dir/mnt"
truncate -s 320M "$dir/base"
# Nothing of ext4's is left for later, which would be written now or then.
[ "$fs" != ext4 ] || set -- -E lazy_itable_init=0,lazy_journal_init=0
[ "$fs" = ext4 ] || set --
"mkfs.$fs" -q "$@" "$dir/base"
cp --sparse=always "$dir/base" "$dir/now"
truncate -s 4G "$dir/log"
: >"$dir/disk"
qemu-storage-daemon \
	--blockdev driver=file,node-name=now,filename="$dir/now" \
	--blockdev driver=file,node-name=log,filename="$dir/log" \
	--blockdev driver=blklogwrites,node-name=both,file=now,log=log \
	--export type=fuse,id=e,node-name=both,mountpoint="$dir/disk",writable=on &
daemon=$!
until_true exported
loop=$(losetup -f --show "$dir/disk")
mount "$loop" "$dir/mnt"
"$examine" run "$dir/mnt/repo" "$dir/journal" "$dir/log" 2>"$dir/err" ||
	{ cat "$dir/err"; exit 1; }
stop_disk

count=$("$here/writelog.py" count "$dir/log")
first=$("$examine" first "$dir/journal")
RANDOM=$seed
echo "# $fs: $count writes and flushes, seed $seed"
failed=0 tried=0
while [ "$tried" -lt "$points" ]; do
	n=$(((RANDOM * 32768 + RANDOM) % count + 1))
	rm -f "$dir"/cut.*
	cut=$dir/cut.$n.$tried
	upto=$("$here/writelog.py" image "$dir/log" "$dir/base" "$cut" $n "$seed")
	[ "$upto" -gt "$first" ] || continue # no repository yet
	tried=$((tried + 1))
	mount -o loop "$cut" "$dir/mnt"
	cp "$dir/journal" "$dir/journal.now"
	if ! "$examine" verify "$dir/mnt/repo" "$dir/journal.now" "$upto" \
		2>"$dir/err"; then
		echo "not ok - $fs cut behind write $n, seed $seed"
		tail -n 20 "$dir/err" | sed 's/^/        | /'
		failed=$((failed + 1))
	fi
	umount "$dir/mnt"
done
[ "$failed" = 0 ] || exit 1
echo "ok - $fs: a store keeps its word at $points power cuts"
