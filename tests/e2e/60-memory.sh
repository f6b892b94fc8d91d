#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: memory does not grow with disks: an agent with four lanes stays under
# 96 MiB, for a sparse image of 2 TiB as for a dense one, and the daemon under
# 256 MiB with sixteen lanes at work (and 128 more where packs are on NFS).
#
#   tests/e2e/60-memory.sh
. "$(dirname "$0")/lib.sh"
need qemu-img qemu-io

agent_most=$((96 << 10)) # KiB
daemon_most=$((256 << 10))
# And what an NFS server has not on disk yet.
[ "${PACKS:-}" != nfs ] || daemon_most=$((daemon_most + (128 << 10)))
[ -z "$sanitized" ] ||
	echo "# built with sanitizers: run for its outcome, not for its memory"

# peak FILE COMMAND...: the most memory that it had, in KiB, goes into FILE.
peak() {
	"$PYTHON" -c 'import resource, subprocess, sys
status = subprocess.call(sys.argv[2:])
with open(sys.argv[1], "w") as f:
    f.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(status if status >= 0 else 128 - status)' "$@"
}

# lean NAME WHAT COMMAND...: an agent that succeeds within its limit.
lean() {
	local name=$1 what=$2 begun kib

	shift 2
	begun=$(now_ms)
	peak "$dir/kib" env "BACKSTAY_AGENT_DIR=$dir/agent-$name" \
		"BACKSTAY_AGENT_REPO=$url" "$BIN/backstay-agent" "$@" -q \
		--lanes 4 >"$dir/lean.out" 2>&1 ||
		fail "$what: $(cat "$dir/lean.out")"
	kib=$(cat "$dir/kib")
	echo "# $what: $kib KiB, $(($(now_ms) - begun)) ms"
	[ -n "$sanitized" ] || [ "$kib" -lt $agent_most ] ||
		fail "$what: the agent had $kib KiB, more than $agent_most"
}

# daemon_lean WHAT: so far.
daemon_lean() {
	local kib

	kib=$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' \
		"/proc/$daemon_pid/status")
	echo "# the daemon, $1: $kib KiB"
	[ -n "$sanitized" ] || [ "$kib" -lt $daemon_most ] ||
		fail "$1: the daemon had $kib KiB, more than $daemon_most"
}

make_repo "$dir/repo"
start_daemon
for i in 1 2 3 4; do
	enroll_agent kvm0$i
done

# 2 TiB with 24 MiB here and there: L2 tables all over, and long holes.
qemu-img create -q -f qcow2 "$dir/huge.qcow2" 2T || fail "qemu-img create"
writes=()
for ((i = 0; i < 96; i++)); do
	at=$((i * 22906492245 / 512 * 512))
	writes+=(-c "write -P $((i % 250 + 1)) $at 256k")
done
writes+=(-c "write -P 9 $(((2 << 40) - 65536)) 64k")
qemu-io -f qcow2 "${writes[@]}" "$dir/huge.qcow2" >/dev/null || fail "qemu-io"
lean kvm01 "backup of 2 TiB, sparse" backup huge --disk "vda=$dir/huge.qcow2"
lean kvm01 "the same again" backup huge --disk "vda=$dir/huge.qcow2"
lean kvm01 "its restore" restore huge@latest --disk "vda=$dir/r.qcow2"
qemu-img check -q "$dir/r.qcow2" || fail "qemu-img check"
[ "$(virtual_size "$dir/r.qcow2" qcow2)" = $((2 << 40)) ] || fail "its size"
# All data, and the amount of it: comparing 2 TiB would take too long.
reads=()
for it in "${writes[@]}"; do
	reads+=("${it/write/read}")
done
qemu-io -r -f qcow2 "${reads[@]}" "$dir/r.qcow2" >"$dir/read.out" ||
	fail "the restore of 2 TiB is not what was backed up"
grep -q 'verification failed' "$dir/read.out" && fail "other data"
[ "$(stat -c %b "$dir/r.qcow2")" -lt $((200 << 11)) ] || fail "not sparse"
rm "$dir/huge.qcow2" "$dir/r.qcow2"
daemon_lean "after 2 TiB"
ok "2 TiB, sparse"

noise $((1 << 30)) dense >"$dir/dense.raw"
lean kvm01 "backup of 1 GiB, dense" backup dense --disk "vda=$dir/dense.raw"
daemon_lean "after 1 GiB"
lean kvm01 "its restore to raw" restore dense@latest --disk "vda=$dir/r.raw"
same_bytes "$dir/dense.raw" "$dir/r.raw"
lean kvm01 "its restore to qcow2" restore dense@latest \
	--disk "vda=$dir/r.qcow2"
same_disk "$dir/dense.raw" raw "$dir/r.qcow2" qcow2
rm "$dir/r.raw" "$dir/r.qcow2" "$dir/dense.raw"
ok "1 GiB, dense"

# Sixteen lanes: all four agents at once, with data that nobody has.
declare -a agents=()
for i in 1 2 3 4; do
	noise $((128 << 20)) "busy.$i" >"$dir/busy.$i"
done
for i in 1 2 3 4; do
	agent_start kvm0$i "$dir/out$i" backup -q busy$i --lanes 4 \
		--disk "vda=$dir/busy.$i"
	agents+=("$agent_pid")
done
for i in 1 2 3 4; do
	agent_wait "${agents[$((i - 1))]}" ||
		fail "agent $i: $(cat "$dir/out$i.err")"
done
daemon_lean "sixteen lanes that back up"
agents=()
for i in 1 2 3 4; do
	agent_start kvm0$i "$dir/out$i" restore -q busy$i@latest --lanes 4 \
		--disk "vda=$dir/r.$i.raw"
	agents+=("$agent_pid")
done
for i in 1 2 3 4; do
	agent_wait "${agents[$((i - 1))]}" ||
		fail "agent $i: $(cat "$dir/out$i.err")"
	same_bytes "$dir/busy.$i" "$dir/r.$i.raw"
done
daemon_lean "sixteen lanes that restore"
ok "sixteen lanes"
stop_daemon
