#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Several VMs backed up at once, against the same one after the other: what the
# daemon loses by doing them together, and whether each gets its share.
#
#   tests/bench/many.sh [BUILD [JSON]]        make bench-many
#
#   VMS=8 MIB=192        how many, and the disk of each: half of it does not
#                        compress, half does
#   RUNS=3               of both, in turns, each into a new repository;
#                        medians count
#   TMPDIR=DIR           where it works (three times VMS * MIB)
#
# All runs on one machine: processor time is that of agents and daemon together.
BIN=$(realpath "${1:-build/gcc}") || exit 1
export BIN
out=$(realpath -m "${2:-build/bench/many.json}")
. "$(dirname "$0")/../e2e/lib.sh"

VMS=${VMS:-8} MIB=${MIB:-192} RUNS=${RUNS:-3}

median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }

# daemon_cpu: milliseconds of processor time so far.
tick_ms=$((1000 / $(getconf CLK_TCK)))
daemon_cpu() {
	awk -v t="$tick_ms" '{ print ($14 + $15) * t }' \
		"/proc/$daemon_pid/stat"
}

# agents_cpu: of all children that ended, in milliseconds.
agents_cpu() {
	awk -v t="$tick_ms" '{ print ($16 + $17) * t }' "/proc/$$/stat"
}

# Text with its lines numbered: about 4 to 1, and no two chunks alike.
text() {
	seq -f "%.0f of $1: the quick brown fox jumps over the lazy dog" \
		1 1000000000 2>/dev/null | head -c "$2"
}
for ((i = 0; i < VMS; i++)); do
	{
		noise $((MIB << 19)) "many.$i"
		text "$i" $((MIB << 19))
	} >"$dir/disk.$i"
done
sync "$dir"

one() {
	agent "kvm$1" backup -q "vm$1" --disk "vda=raw:$dir/disk.$1" \
		2>"$dir/backup.$1.err" ||
		fail "backup of vm$1: $(cat "$dir/backup.$1.err")"
}

# at_once: each VM's milliseconds go to ms.N.
at_once() {
	local i t0
	local -a jobs=()

	t0=$(now_ms)
	for ((i = 0; i < VMS; i++)); do
		{
			one "$i"
			echo $(($(now_ms) - t0)) >"$dir/ms.$i"
		} &
		jobs+=($!)
		pids+=($!)
	done
	for i in "${jobs[@]}"; do
		wait "$i" || fail "a backup"
		forget "$i"
	done
}
in_turn() {
	local i

	for ((i = 0; i < VMS; i++)); do
		one "$i"
	done
}

declare -A wall=() cpu=()
declare -a worst=()
# measure at_once|in_turn
measure() {
	local t0 c0 d0

	make_repo "$dir/repo"
	start_daemon
	rm -rf "$dir"/agent-*
	for ((i = 0; i < VMS; i++)); do
		enroll_agent "kvm$i"
	done
	sync "$dir"
	t0=$(now_ms) c0=$(agents_cpu) d0=$(daemon_cpu)
	"$1"
	wall[$1]+=" $(($(now_ms) - t0))"
	cpu[$1]+=" $(($(agents_cpu) - c0 + $(daemon_cpu) - d0))"
	[ "$(nbackups)" = "$VMS" ] || fail "not all of them are there"
	if [ "$1" = at_once ]; then
		worst+=("$(cat "$dir"/ms.* | awk '{ s += $1
			if ($1 > m) m = $1 }
			END { printf "%d", 1000 * m * NR / s }')")
	fi
	stop_daemon
	rm -rf "$dir/repo"
}

echo "# $VMS VMs, disks of $MIB MiB; medians of $RUNS"
for ((run = 0; run < RUNS; run++)); do
	# The first of a pair in turns too.
	if [ $((run % 2)) = 0 ]; then
		measure in_turn
		measure at_once
	else
		measure at_once
		measure in_turn
	fi
done

# shellcheck disable=SC2086 # numbers
wall_turn=$(median ${wall[in_turn]}) wall_once=$(median ${wall[at_once]}) \
	cpu_turn=$(median ${cpu[in_turn]}) cpu_once=$(median ${cpu[at_once]})
slowest=$(median "${worst[@]}")
wall_ratio=$((wall_once * 1000 / wall_turn))
cpu_ratio=$((cpu_once * 1000 / cpu_turn))
awk -v wt="$wall_turn" -v wo="$wall_once" -v ct="$cpu_turn" -v co="$cpu_once" \
	-v s="$slowest" -v mib=$((VMS * MIB)) 'BEGIN {
	printf "\n%-28s %10s %10s %8s\n", "", "in turn", "at once", "ratio"
	printf "%-28s %10.2f %10.2f %8.3f\n", "all done after, s", wt / 1000,
		wo / 1000, wo / wt
	printf "%-28s %10.0f %10.0f\n", "MiB/s", mib * 1000 / wt, mib * 1000 / wo
	printf "%-28s %10.2f %10.2f %8.3f\n", "processor time, s", ct / 1000,
		co / 1000, co / ct
	printf "%-28s %10s %10s %8.3f\n", "the slowest to the mean", "", "",
		s / 1000 }'
mkdir -p "$(dirname "$out")"
printf '{"vms": %d, "mib": %d, "runs": %d, "in_turn_ms": %d, "at_once_ms": %d, "in_turn_cpu_ms": %d, "at_once_cpu_ms": %d, "wall_permille": %d, "cpu_permille": %d, "slowest_permille": %d}\n' \
	"$VMS" "$MIB" "$RUNS" "$wall_turn" "$wall_once" "$cpu_turn" \
	"$cpu_once" "$wall_ratio" "$cpu_ratio" "$slowest" >"$out"
echo "# also in $out"

missed=0
# at_most WHAT PERMILLE MOST
at_most() {
	if [ "$2" -le "$3" ]; then
		ok "$1: $2 per mille (at most $3)"
	else
		echo "MISSED: $1: $2 per mille (at most $3)"
		missed=1
	fi
}
at_most "time, at once to in turn" $wall_ratio 1050
at_most "processor time, at once to in turn" $cpu_ratio 1100
at_most "the slowest to the mean" "$slowest" 1300
[ $missed = 0 ]
