#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# In how many reads a restore finds its data, after a month of daily backups,
# deletes and reclaiming has scattered it.  Each is a seek on hard disks.
#
#   tests/bench/reads.sh [BUILD [JSON]]       make bench-reads
#
#   USED_MIB=1024      of the VM's disk
#   DAYS=30            incremental backups, about 2 % each; of those that are
#                      older than STAY=7 days every seventh stays
#   TMPDIR=DIR         where it works (four times USED_MIB)
#
# Counted by strace, attached to the daemon for the restore: read calls of
# any kind on files whose name ends in ".pack".  (The counters of /proc/PID/io
# would mix them with those of the index.)
BIN=$(realpath "${1:-build/gcc}") || exit 1
export BIN
out=$(realpath -m "${2:-build/bench/reads.json}")
. "$(dirname "$0")/../e2e/lib.sh"

USED_MIB=${USED_MIB:-1024} DAYS=${DAYS:-30} STAY=${STAY:-7}
here=$(dirname "$0")
if ! command -v strace >/dev/null; then
	echo "# installing strace"
	{ apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y \
		install --no-install-recommends strace; } \
		>"$dir/apt.log" 2>&1 </dev/null ||
		fail "apt: $(tail -n 3 "$dir/apt.log")"
fi

make_repo "$dir/repo"
start_daemon
enroll_agent kvm01
truncate -s $((USED_MIB * 2))M "$dir/disk"
put_noise "$dir/disk" 0 $((USED_MIB << 20)) reads
echo "# $USED_MIB MiB used, $DAYS days, of which the last $STAY and every" \
	"seventh stay"
declare -a days=()
for ((day = 0; day <= DAYS; day++)); do
	[ $day = 0 ] ||
		"$PYTHON" "$here/reads.py" day "$dir/disk" "$USED_MIB" $day ||
		fail "day $day"
	backup kvm01 vm --disk "vda=raw:$dir/disk"
	days+=("$(json "$dir/backup.json" 'j["backup"]')")
	old=$((day - STAY))
	if [ $old -ge 0 ] && [ $((old % 7)) != 0 ]; then
		console delete "${days[old]}" >/dev/null || fail "delete"
		console gc --wait >/dev/null || fail "gc"
	fi
done
console gc --wait >/dev/null || fail "gc"

strace -f -ff -q -y -s 0 -e trace=read,readv,pread64,preadv,preadv2 \
	-o "$dir/trace" -p "$daemon_pid" 2>"$dir/strace.err" &
strace_pid=$!
pids+=("$strace_pid")
# Of the daemon all threads.
traced() {
	! grep -q '^TracerPid:[^0-9]*0$' "/proc/$daemon_pid/task/"*/status ||
		gone "$strace_pid"
}
wait_for 10 traced || fail "strace does not attach"
alive "$strace_pid" || fail "strace: $(cat "$dir/strace.err")"
restore kvm01 vm@latest --disk "vda=raw:$dir/back"
kill -INT "$strace_pid"
wait "$strace_pid"
forget "$strace_pid"
cmp -s "$dir/disk" "$dir/back" || fail "what came back is something else"
rm "$dir/back"
stop_daemon

"$BIN/bench/places" "$repo" vm >"$dir/places" || fail "places"
mkdir -p "$(dirname "$out")"
"$PYTHON" "$here/reads.py" table "$dir/places" "$dir"/trace.* "$out"
