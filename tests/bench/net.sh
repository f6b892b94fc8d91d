#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What backups and restores make of a long wire: agent and daemon in network
# namespaces of their own, and between them link.c's latency and rate.
#
#   tests/bench/net.sh [BUILD [JSON]]         make bench-net
#
#   MBIT=1000 RTT_MS=20    the wire
#   MIB=1536               of each disk
#   LANES=4                connections of the agent
#   RUNS=3                 of each measure, in turns; medians count
#   TMPDIR=DIR             where it works (six times MIB)
#
# Shares are of the wire's rate: of bytes that crossed it, with all headers,
# from the start of the agent's program to its end; and of bytes of the disk.
# A plain stream over TCP, one connection and LANES of them, is the measure of
# what the wire carries.
BIN=$(realpath "${1:-build/gcc}") || exit 1
export BIN
out=$(realpath -m "${2:-build/bench/net.json}")
. "$(dirname "$0")/../e2e/lib.sh"

MBIT=${MBIT:-1000} RTT_MS=${RTT_MS:-20} MIB=${MIB:-1536} LANES=${LANES:-4}
RUNS=${RUNS:-3}
near=backstay-near-$$ far=backstay-far-$$
need ip

net_cleanup() {
	local status=$?

	ip netns del "$near" 2>/dev/null
	ip netns del "$far" 2>/dev/null
	return "$status"
}
trap 'net_cleanup; lib_cleanup' EXIT

for it in "$near" "$far"; do
	ip netns add "$it" || fail "no network namespaces: it needs root"
done
exec {link_in}<> <(:)
"$BIN/bench/link" "$near" "$far" $((RTT_MS * 500)) "$MBIT" \
	<&"$link_in" >"$dir/link.out" 2>&1 &
link_pid=$!
pids+=("$link_pid")
link_up() { grep -q up "$dir/link.out" || gone "$link_pid"; }
wait_for 5 link_up
alive "$link_pid" || fail "link: $(cat "$dir/link.out")"

# --- both programs, each on its side

make_repo "$dir/repo"
daemon_log=$dir/daemon.log
# Not through a function: what is ended at the end is the daemon itself.
ip netns exec "$far" "$BIN/backstayd" "$repo" --listen 10.204.1.2:7722 \
	>"$daemon_log" 2>&1 &
daemon_pid=$!
pids+=("$daemon_pid")
wait_for 20 ready_or_gone || fail "the daemon is not ready in time"
alive "$daemon_pid" || fail "the daemon did not start"
url=ssh://10.204.1.2:7722

agent() {
	shift
	bounded ip netns exec "$near" env "BACKSTAY_AGENT_DIR=$dir/agent" \
		"BACKSTAY_AGENT_REPO=$url" "$BIN/backstay-agent" "$@"
}
enroll_agent kvm01

# --- what is measured

declare -A got=()
median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }
# crossed SIDE: bytes that arrived there: not what the wire had to drop.
crossed() {
	ip netns exec "$1" cat /sys/class/net/link0/statistics/rx_bytes
}

# timed NAME COMMAND...: what of the wire it takes, in per mille: bytes that
# crossed, the way that had more of them, into got[NAME.wire]; bytes of the disk
# into got[NAME.data].
timed() {
	local name=$1 bytes back t0 ms

	shift
	bytes=$(crossed "$near")
	back=$(crossed "$far")
	t0=$(now_ms)
	"$@"
	ms=$(($(now_ms) - t0))
	bytes=$(($(crossed "$near") - bytes))
	back=$(($(crossed "$far") - back))
	[ $back -lt $bytes ] || bytes=$back
	got[$name.wire]+=" $((bytes * 8 / ms / MBIT))"
	got[$name.data]+=" $((MIB * 1048576 * 8 / ms / MBIT))"
	got[$name.ms]+=" $ms"
}

# plain N: MIB in all, over so many connections at once.
cat >"$dir/plain.py" <<'END'
import socket, sys, threading
role, n, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) << 20
address = ("10.204.1.2", 7723)

def send(data=bytes(1 << 20)):
    with socket.create_connection(address) as s:
        for at in range(0, size // n, len(data)):
            s.sendall(data[:size // n - at])
        s.shutdown(socket.SHUT_WR)
        s.recv(1) # all of it is there

def take(s, data=bytearray(1 << 20)):
    with s:
        while s.recv_into(data):
            pass
        s.sendall(b".")

if role == "take":
    listener = socket.create_server(address)
    print("up", flush=True)
    threads = [threading.Thread(target=take, args=listener.accept()[:1])
        for _ in range(n)]
else:
    threads = [threading.Thread(target=send) for _ in range(n)]
for t in threads:
    t.start()
for t in threads:
    t.join()
END
plain_up() { [ -s "$dir/plain.up" ] || gone "$plain_pid"; }
plain() {
	: >"$dir/plain.up"
	ip netns exec "$far" "$PYTHON" "$dir/plain.py" take "$1" "$MIB" \
		>"$dir/plain.up" &
	plain_pid=$!
	pids+=("$plain_pid")
	wait_for 5 plain_up
	timed "plain$1" bounded ip netns exec "$near" "$PYTHON" \
		"$dir/plain.py" send "$1" "$MIB"
	wait "$plain_pid" || fail "the plain stream"
	forget "$plain_pid"
}

# Files of this system, one after the other, of which each run takes others:
# what is stored already would not cross the wire.
normal() {
	find /usr -xdev -type f -print0 | sort -z | xargs -0 cat |
		tail -c +$(($1 * MIB * 1048576 + 1)) | head -c "${MIB}M"
}

echo "# $MBIT Mbit/s, round trips of $RTT_MS ms, disks of $MIB MiB, $LANES" \
	"lanes; medians of $RUNS; TCP's congestion control is" \
	"$(sysctl -n net.ipv4.tcp_congestion_control)"
for ((run = 0; run < RUNS; run++)); do
	for kind in noise normal; do
		case $kind in
		noise) noise "${MIB}M" "$run.$$" ;;
		normal) normal "$run" ;;
		esac >"$dir/disk" 2>/dev/null
		[ "$(stat -c %s "$dir/disk")" = $((MIB << 20)) ] ||
			fail "/usr has too little for RUNS=$RUNS, MIB=$MIB"
		sync "$dir/disk"
		timed "backup.$kind" backup kvm01 $kind --lanes "$LANES" \
			--disk "vda=raw:$dir/disk"
		timed "restore.$kind" restore kvm01 "$kind@latest" \
			--lanes "$LANES" --disk "vda=raw:$dir/back"
		cmp -s "$dir/disk" "$dir/back" || fail "what came back"
		rm "$dir/disk" "$dir/back"
		console delete "$kind@latest" >/dev/null || fail "delete"
		console gc --wait >/dev/null || fail "gc"
	done
	plain 1
	plain "$LANES"
done

stop_daemon
declare -a fields=()
echo
printf '%-34s %8s %12s %12s %9s\n' "" seconds "wire, %" "disk, %" "disk MB/s"
for it in plain1 "plain$LANES" backup.noise restore.noise backup.normal \
	restore.normal; do
	# shellcheck disable=SC2086 # numbers
	ms=$(median ${got[$it.ms]}) wire=$(median ${got[$it.wire]}) \
		data=$(median ${got[$it.data]})
	case $it in
	plain*) what="plain TCP, ${it#plain} at once" ;;
	*.noise) what="${it%.*}, incompressible" ;;
	*) what="${it%.*}, files of /usr" ;;
	esac
	awk -v w="$what" -v ms="$ms" -v x="$wire" -v d="$data" -v m="$MBIT" \
		'BEGIN { printf "%-34s %8.2f %12.1f %12.1f %9.1f\n",
		w, ms / 1000, x / 10, d / 10, d * m / 8000 }'
	fields+=("$(printf '"%s": {"ms": %d, "wire_permille": %d, "disk_permille": %d}' \
		"${it//./_}" "$ms" "$wire" "$data")")
	got[$it]=$wire
done
mkdir -p "$(dirname "$out")"
{
	printf '{"mbit": %d, "rtt_ms": %d, "mib": %d, "lanes": %d, "runs": %d' \
		"$MBIT" "$RTT_MS" "$MIB" "$LANES" "$RUNS"
	printf ', %s' "${fields[@]}"
	printf '}\n'
} >"$out"
echo "# also in $out"
missed=0
for it in backup.noise restore.noise; do
	if [ "${got[$it]}" -ge 900 ]; then
		ok "$it fills the wire"
	else
		echo "MISSED: $it takes less than 90 % of the wire"
		missed=1
	fi
done
[ $missed = 0 ]
