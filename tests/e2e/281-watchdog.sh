#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: the service manager hears when the daemon is up, what it does, when it
# reads its settings anew and when it stops; and its watchdog is fed also while
# the repository's disk answers nothing at all.  Needs root, for a disk of its
# own that can be frozen.
#
#   tests/e2e/281-watchdog.sh
. "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || fail "run it as root"
need mkfs.ext4 losetup fsfreeze

export NOTIFY_SOCKET=$dir/notify WATCHDOG_USEC=2000000
told=$dir/told
"$PYTHON" "$top/tests/e2e/manager.py" "$NOTIFY_SOCKET" "$told" &
pids+=("$!")
has_begun() { grep -q begun "$told" 2>/dev/null; }
wait_for 20 has_begun || fail "no service manager"

said() { grep -q -E -- "$1" "$told"; }
# said_since LINE PATTERN: behind that line.
said_since() { tail -n "+$1" "$told" | has -E -- "$2"; }
lines() { wc -l <"$told"; }
# The longest time without food, in ms, behind a line.
longest() {
	tail -n "+$1" "$told" | awk '/ WATCHDOG=1/ {
		if (last && $1 - last > most) most = $1 - last
		last = $1; n++ } END { print(n > 1 ? most : 999999) }'
}

truncate -s 512M "$dir/disk.img"
mkfs.ext4 -q "$dir/disk.img" || fail "mkfs"
loop=$(losetup --find --show "$dir/disk.img") || fail "losetup"
loops+=("$loop")
mkdir "$dir/mnt"
mount "$loop" "$dir/mnt" || fail "mount"
mounts+=("$dir/mnt")

make_repo "$dir/mnt/repo"
start_daemon
wait_for 20 said ' READY=1 STATUS=0 jobs run, 0 wait; [01] agents*; 0 backups of 0 VMs$' ||
	fail "not said to be ready: $(cat "$told")"
[ "$(grep -n -m 1 -o EXTEND_TIMEOUT_USEC "$told" | cut -d: -f1)" -lt \
	"$(grep -n -m 1 -o READY "$told" | cut -d: -f1)" ] ||
	fail "no time was asked for while it started"
[ -S "$repo/socket" ] || fail "ready before it listens"
! said_since "$(grep -n -m 1 READY "$told" | cut -d: -f1)" EXTEND ||
	fail "time is asked for when it is up"
ok "it asks for time until it is up, then says so"

enroll_agent kvm01
mkdisk "$dir/disk" 16 disk
backup kvm01 web1 --disk "vda=$dir/disk"
wait_for 20 said ' STATUS=0 jobs run, 0 wait; [01] agents*; 1 backups of 1 VMs$' ||
	fail "not said what it does: $(cat "$told")"
ok "the line on what it does is kept up"

at=$(lines)
kill -HUP "$daemon_pid"
wait_for 20 said_since "$at" ' READY=1 ' || fail "no end of the reload"
said_since "$at" ' RELOADING=1 MONOTONIC_USEC=[0-9]+$' ||
	fail "no reload: $(tail -n "+$at" "$told")"
ok "a reload is told from its begin to its end"

# In the middle of a backup the disk answers nothing any more, for several times
# as long as the watchdog waits.
put_noise "$dir/disk" 0 $((8 << 20)) other
stored() { du -s --apparent-size -B 1 "$repo/packs/" | cut -f1; }
was=$(stored)
agent_start kvm01 "$dir/out" backup -q web1 --disk "vda=$dir/disk" --bwlimit 1M
grows() { [ "$(stored)" -gt $((was + (1 << 20))) ]; }
wait_for 20 grows || fail "the backup does not begin"
at=$(lines)
fsfreeze -f "$dir/mnt" || fail "fsfreeze"
trap 'status=$?; fsfreeze -u "$dir/mnt" 2>/dev/null; (exit $status); lib_cleanup' EXIT
wait_for 40 said_since "$at" 'STATUS=waits for the repository' ||
	fail "not told that the disk is slow: $(tail -n 5 "$told")"
alive "$agent_pid" || fail "the backup did not wait: $(cat "$dir/out.err")"
before=$(lines)
# Two more of what the watchdog waits.
fed() { [ "$(tail -n "+$before" "$told" | grep -c WATCHDOG)" -ge 5 ]; }
wait_for 20 fed || fail "not fed while the disk waits"
fsfreeze -u "$dir/mnt" || fail "fsfreeze"
trap lib_cleanup EXIT
agent_wait "$agent_pid" || fail "the backup failed: $(cat "$dir/out.err")"
wait_for 20 said_since "$before" ' STATUS=0 jobs run, 0 wait; [01] agents*; 2 backups' ||
	fail "not told that it goes on: $(tail -n 3 "$told")"
most=$(longest "$at")
echo "# longest without food: $most ms"
[ "$most" -lt $((2000 * slower)) ] || fail "not fed for $most ms"
grep -q "is slow" "$daemon_log" || fail "the log does not say it"
ok "a disk that does not answer is no reason to start anew"

at=$(lines)
stop_daemon
said_since "$at" ' STOPPING=1 STATUS=stops: SIGTERM$' ||
	fail "no stop: $(tail -n "+$at" "$told")"
said_since "$at" ' EXTEND_TIMEOUT_USEC=30000000$' ||
	fail "no time was asked for while it stopped"
ok "it says when it stops, and asks for the time that the disk needs"
check_store
