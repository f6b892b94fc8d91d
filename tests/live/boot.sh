#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Boots the systemd of a room, as the first process of a machine that has nothing
# of this one but the kernel: no processes, no network, no devices.  Ends with
# that systemd.  As root.
#
#   tests/live/boot.sh ROOM
#   tests/live/boot.sh --in PID ROOM COMMAND...   a command in there; PID is
#                                                 that of boot.sh
set -eu -o pipefail

if [ "$1" = --in ]; then
	pid=$2
	for _ in unshare systemd; do
		pid=$(ps -o pid= --ppid "$pid" | tr -d ' ')
	done
	room=$3
	shift 3
	exec nsenter -t "$pid" -m -p -u -i -n -C chroot "$room" env -i \
		PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
		DEBIAN_FRONTEND=noninteractive "$@"
fi

if [ "$1" = --first ]; then
	room=$2
	mount --make-rprivate /
	mount -t proc proc "$room/proc"
	# What is the kernel's is not this machine's to set.
	mount -o bind,ro "$room/proc/sys" "$room/proc/sys"
	mount -t sysfs -o ro sysfs "$room/sys"
	mount -t cgroup2 cgroup2 "$room/sys/fs/cgroup"
	mount -t tmpfs -o mode=755 tmpfs "$room/run"
	mount -t tmpfs -o mode=755 tmpfs "$room/dev"
	for it in null zero full random urandom tty; do
		touch "$room/dev/$it"
		mount --bind "/dev/$it" "$room/dev/$it"
	done
	mkdir "$room/dev/shm" "$room/dev/pts"
	mount -t tmpfs tmpfs "$room/dev/shm"
	mount -t devpts -o newinstance,ptmxmode=0666 devpts "$room/dev/pts"
	ln -s pts/ptmx "$room/dev/ptmx"
	ln -s /proc/self/fd "$room/dev/fd"
	exec chroot "$room" env -i container=other \
		PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd \
		--log-target=journal --show-status=no
fi

room=${1:?usage: tests/live/boot.sh ROOM}
# A group of its own, below which systemd makes those of its units.
groups=$room.cgroup
mkdir "$groups"
mount -t cgroup2 cgroup2 "$groups"
mine=$groups/backstay-test.$$
mkdir "$mine"
ended() {
	find "$mine" -depth -type d -exec rmdir {} + 2>/dev/null || :
	umount "$groups" && rmdir "$groups"
}
trap ended EXIT
trap 'kill -9 "$first" 2>/dev/null; exit 130' INT TERM
(
	echo "$BASHPID" >"$mine/cgroup.procs"
	exec unshare -m -p -f -u -i -n -C --kill-child "$0" --first "$room"
) &
first=$!
wait $first
