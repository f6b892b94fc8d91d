#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# How fast packs on an NFS export are: beside libnfs' own nfs-cp through the
# same server, and over a long wire between the daemon and the server.
#
#   tests/bench/nfs.sh [BUILD [JSON]]         make bench-nfs (root)
#
#   MIB=1024               of each disk; nothing packs it
#   RUNS=5                 of each measure, in turns; medians count
#   MBIT=1000 RTT_MS=20    the wire; WIRE_MIB=1024, WIRE_RUNS=3
#   PARTS="loop wire"      which to take
#   RECORD=1               the table goes to tests/bench/results/nfs.txt too
#   TMPDIR=DIR             where it works (six times MIB)
#
# All backups are with --compression 0, by an agent on the daemon's machine over
# its local socket.  nfs-cp writes the same file, and is followed by a sync of
# it on the server, in case it left something out.  Shares of the wire are of
# bytes of the disk, from the start of the agent's program to its end.
BIN=$(realpath "${1:-build/gcc}") || exit 1
export BIN
out=$(realpath -m "${2:-build/bench/nfs.json}")
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

MIB=${MIB:-1024} RUNS=${RUNS:-5} MBIT=${MBIT:-1000} RTT_MS=${RTT_MS:-20}
WIRE_MIB=${WIRE_MIB:-1024} WIRE_RUNS=${WIRE_RUNS:-3} PARTS=${PARTS:-loop wire}
near=backstay-near-$$ far=backstay-far-$$
need_peers nfs-cp=libnfs-utils ip=iproute2

net_cleanup() {
	local status=$?

	[ ! -d "$dir/far" ] || "$top/tests/nfs/server.sh" end "$dir/far"
	ip netns del "$near" 2>/dev/null
	ip netns del "$far" 2>/dev/null
	return "$status"
}
trap 'net_cleanup; lib_cleanup' EXIT

declare -A got=()
# timed NAME COMMAND...: milliseconds into got[NAME].
timed() {
	local name=$1 t0 ms

	shift
	t0=$(now_ms)
	"$@"
	ms=$(($(now_ms) - t0))
	got[$name]+=" $ms"
}

# within COMMAND...: on the daemon's side.
within() { bounded "$@"; }
local_agent() {
	local verb=$1

	shift
	within "$BIN/backstay-agent" "$verb" -q --repo "unix:$repo/socket" \
		"$@" >"$dir/agent.out" 2>&1 ||
		fail "$verb: $(cat "$dir/agent.out")"
}
copy() {
	within nfs-cp "$1" "$2" >"$dir/copy.out" 2>&1 ||
		fail "nfs-cp: $(cat "$dir/copy.out")"
}
copy_out() {
	copy "$dir/disk" "$(nfs_name "plain$run")"
	sync "$export/plain$run"
}
restore_disk() {
	rm -f "$dir/back"
	local_agent restore bench@latest --disk "vda=raw:$dir/back"
}

# rounds PREFIX MIB RUNS: interleaved, of another disk each time.
rounds() {
	local run # its file is another each time: the server remembers names

	for ((run = 0; run < $3; run++)); do
		noise "${2}M" "$1.$run.$$" >"$dir/disk"
		sync "$dir/disk"
		[ "$1" = wire ] || timed "$1.cp" copy_out
		timed "$1.backup" local_agent backup bench --compression 0 \
			--disk "vda=raw:$dir/disk"
		timed "$1.restore" restore_disk
		same_bytes "$dir/disk" "$dir/back"
		rm -f "$dir/back"
		[ "$1" = wire ] || timed "$1.cpback" \
			copy "$(nfs_name "plain$run")" "$dir/back"
		rm -f "$dir/back" "$export/plain$run"
		console delete bench@latest >/dev/null || fail "delete"
		console gc --wait >/dev/null || fail "gc"
		echo "# $1: round $((run + 1)) of $3: backup" \
			"${got[$1.backup]##* } ms"
	done
}

peak_mib() { awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/$1/status"; }

# start_here COMMAND...: the daemon, behind that command.
start_here() {
	daemon_log=$dir/daemon.log
	"$@" "$BIN/backstayd" "$repo" --no-ssh >"$daemon_log" 2>&1 &
	daemon_pid=$!
	pids+=("$daemon_pid")
	wait_for 20 ready_or_gone || fail "the daemon is not ready in time"
	alive "$daemon_pid" || fail "the daemon: $(cat "$daemon_log")"
}

declare -a fields=()
missed=0
PACKS=nfs

# row WHAT MS MIB SHARE: SHARE is in per mille, or -.
row() {
	awk -v w="$1" -v ms="$2" -v m="$3" -v s="$4" 'BEGIN {
		printf "%-44s %8.2f %9.1f", w, ms / 1000, m * 1000 / ms
		if (s == "-") print ""; else printf " %10.1f\n", s / 10 }'
}
# judge WHAT SHARE AIM: in per mille.
judge() {
	if [ "$2" -ge "$3" ]; then
		ok "$1: $(($2 / 10)) %, of which $(($3 / 10)) are the aim"
	else
		echo "MISSED: $1: $(($2 / 10)) %, not $(($3 / 10))"
		missed=1
	fi
}

table=$dir/table
{
	echo "# $(nproc) processors; medians; nothing in the disks can be packed"
	printf '%-44s %8s %9s %10s\n' "" seconds MiB/s "share, %"
} >"$table"

case $PARTS in
*loop*)
	make_repo "$dir/repo"
	export=$dir/nfs/export
	start_here env
	rounds loop "$MIB" "$RUNS"
	peak=$(peak_mib "$daemon_pid")
	stop_daemon
	# shellcheck disable=SC2086 # numbers
	cp=$(median ${got[loop.cp]}) backup=$(median ${got[loop.backup]}) \
		restore=$(median ${got[loop.restore]}) \
		cpback=$(median ${got[loop.cpback]})
	{
		row "nfs-cp to the server, synced" "$cp" "$MIB" -
		row "backup, of nfs-cp" "$backup" "$MIB" \
			$((cp * 1000 / backup))
		row "nfs-cp from the server" "$cpback" "$MIB" -
		row "restore, of nfs-cp" "$restore" "$MIB" \
			$((cpback * 1000 / restore))
		echo "# the daemon had $peak MiB at most"
	} >>"$table"
	fields+=("$(printf '"loop": {"mib": %d, "cp_ms": %d, "backup_ms": %d, "cp_back_ms": %d, "restore_ms": %d, "daemon_peak_mib": %d}' \
		"$MIB" "$cp" "$backup" "$cpback" "$restore" "$peak")")
	judge "a backup, of what nfs-cp writes" $((cp * 1000 / backup)) 700
	;;
esac

case $PARTS in
*wire*)
	for it in "$near" "$far"; do
		ip netns add "$it" || fail "no network namespaces: it needs root"
		ip -n "$it" link set lo up
	done
	exec {link_in}<> <(:)
	"$BIN/bench/link" "$near" "$far" $((RTT_MS * 500)) "$MBIT" \
		<&"$link_in" >"$dir/link.out" 2>&1 &
	link_pid=$!
	pids+=("$link_pid")
	link_up() { grep -q up "$dir/link.out" || gone "$link_pid"; }
	wait_for 5 link_up
	alive "$link_pid" || fail "link: $(cat "$dir/link.out")"
	# A port mapper of its own, which has its socket in /run.
	# shellcheck disable=SC2016 # expanded there
	nfs_url=$(ip netns exec "$far" env BIND=10.204.1.2 CLIENTS=10.204.1.1 \
		sh -c 'mount -t tmpfs tmpfs /run && exec "$@"' - \
		"$top/tests/nfs/server.sh" start "$dir/far" 2049) ||
		fail "the NFS server has not started"
	export=$dir/far/export
	within() { bounded ip netns exec "$near" "$@"; }
	bounded ip netns exec "$near" "$BIN/backstay" init "$dir/wire" \
		--packs "$(nfs_name packs)" >"$dir/init.out" 2>&1 ||
		fail "init: $(cat "$dir/init.out")"
	repo=$dir/wire
	start_here ip netns exec "$near"
	rounds wire "$WIRE_MIB" "$WIRE_RUNS"
	peak=$(peak_mib "$daemon_pid")
	stop_daemon
	# shellcheck disable=SC2086 # numbers
	backup=$(median ${got[wire.backup]}) \
		restore=$(median ${got[wire.restore]})
	# per mille of the wire
	share() { echo $((WIRE_MIB * 1048576 * 8 / $1 / MBIT)); }
	{
		echo "# $MBIT Mbit/s, round trips of $RTT_MS ms: shares of the wire"
		row "backup" "$backup" "$WIRE_MIB" "$(share "$backup")"
		row "restore" "$restore" "$WIRE_MIB" "$(share "$restore")"
		echo "# the daemon had $peak MiB at most"
	} >>"$table"
	fields+=("$(printf '"wire": {"mbit": %d, "rtt_ms": %d, "mib": %d, "backup_ms": %d, "restore_ms": %d, "daemon_peak_mib": %d}' \
		"$MBIT" "$RTT_MS" "$WIRE_MIB" "$backup" "$restore" "$peak")")
	judge "a backup over the wire" "$(share "$backup")" 800
	judge "a restore over the wire" "$(share "$restore")" 800
	;;
esac

echo
cat "$table"
mkdir -p "$(dirname "$out")"
(
	IFS=,
	echo "{${fields[*]}}"
) >"$out"
echo "# also in $out"
[ -z "${RECORD:-}" ] || cp "$table" "$here/results/nfs.txt"
[ $missed = 0 ]
