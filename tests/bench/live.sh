#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What an incremental backup of a running guest costs: time and bytes read, of a
# disk of 8 GiB with 40 MiB changed all over it since the last one, and of one
# that did not change; and how long the guest's writes take meanwhile.
#
#   tests/bench/live.sh [BUILD [JSON]]       make bench-live (root)
#
#   GIB=8 USED_MIB=1024 DIRTY_MIB=40 RUNS=160   of the disk
#   ROUNDS=5                                    the median counts
#
# Time is that of the whole command, from its start to its end.  The guest (it
# is emulated) writes to a second disk, synchronously, all the time.  On a quiet
# machine: at most 60 MiB and 2 s.
BIN=$(realpath "${1:-build/gcc}") || exit 1
export BIN
out=$(realpath -m "${2:-build/bench/live.json}")
. "$(dirname "$0")/lib.sh"
. "$top/tests/live/lib.sh"
. "$top/tests/live/cost.sh"

ROUNDS=${ROUNDS:-5}
declare -a changed_ms=() changed_mib=() same_ms=() full_ms=() latency=()

vm_disk "$dir/b.qcow2" 64
cost_begin disk="$dir/b.qcow2" work=disks,16,1000,/dev/vdb
vm_wait web '^AGREE .* ok' 60
vm_mark web
for _ in 1 2 3 4 5 6 7 8; do
	vm_advance web 400
done
vm_wait web '^LAT' 30
quiet_us=$(vm_latency web)
for ((round = 1; round <= ROUNDS; round++)); do
	cost_change
	vm_mark web
	cost_backup --disk vda
	vm_wait web '^LAT' 30
	echo "# $cost_ms ms, $(($(stat_of read) >> 20)) MiB read, the guest's slowest write $(vm_latency web) us"
	changed_ms+=("$cost_ms")
	changed_mib+=($(($(stat_of read) >> 20)))
	latency+=("$(vm_latency web)")
	cost_backup --disk vda
	same_ms+=("$cost_ms")
done
for ((round = 1; round <= 3; round++)); do
	cost_backup --disk vda --full
	full_ms+=("$cost_ms")
done
vm_sound web
mkdir -p "$(dirname "$out")"
cat >"$out" <<-JSON
	{"gib": $cost_gib, "used_mib": $cost_used, "dirty_mib": $cost_dirty,
	 "places": $cost_runs, "rounds": $ROUNDS,
	 "incremental_ms": $(median "${changed_ms[@]}"),
	 "incremental_read_mib": $(median "${changed_mib[@]}"),
	 "unchanged_ms": $(median "${same_ms[@]}"),
	 "all_read_ms": $(median "${full_ms[@]}"),
	 "guest_write_quiet_us": $quiet_us,
	 "guest_write_backup_us": $(median "${latency[@]}")}
JSON
json "$out" j >"$dir/out" || exit 1
cat "$out"
