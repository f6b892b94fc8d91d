#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: an agent that is killed at any moment harms nobody: the daemon serves
# on, the VM is free again at once, and the same command run again completes.
#
#   [SEED=N] tests/e2e/40-kill-agent.sh [ROUNDS]
. "$(dirname "$0")/lib.sh"

rounds=${1:-${LONG:+40}}
rounds=${rounds:-8}
SEED=${SEED:-$(date +%s)}
RANDOM=$SEED
echo "# seed $SEED, $rounds rounds"

# retry COMMAND...: the daemon may not have seen yet that the peer is gone.
again() {
	agent kvm01 backup -q web1 --disk "vda=$dir/disk" \
		>"$dir/again.out" 2>"$dir/again.err" && return
	grep -q "is being backed up" "$dir/again.err" ||
		fail "run again: $(cat "$dir/again.err")"
	return 1
}

make_repo "$dir/repo"
start_daemon
enroll_agent kvm01
enroll_agent kvm02
mkdisk "$dir/other" 16 other
mkdisk "$dir/disk" 48 disk
backup kvm02 other --disk "vda=$dir/other"

killed=0
for ((round = 1; round <= rounds; round++)); do
	put_noise "$dir/disk" $((RANDOM % 20 << 20)) $((6 << 20)) "r$round"
	ms=$((RANDOM % 250))
	agent_start kvm01 "$dir/out" backup -q web1 --disk "vda=$dir/disk" \
		--bwlimit 20M
	pause "$(printf '0.%03d' $ms)"
	if kill -9 "$agent_pid" 2>/dev/null; then
		killed=$((killed + 1))
	fi
	agent_wait "$agent_pid"
	alive "$daemon_pid" || fail "round $round: the daemon has ended"
	# The one that died locks nothing, and hinders nobody.
	restore kvm02 other@latest --disk "vda=$dir/o.raw" --force
	same_bytes "$dir/other" "$dir/o.raw"
	if [ $((round % 2)) = 0 ]; then
		wait_for 20 again || fail "round $round: $(cat "$dir/again.err")"
		restore kvm01 web1@latest --disk "vda=$dir/r.raw" --force
		same_bytes "$dir/disk" "$dir/r.raw"
	fi
done
[ $killed -ge $((rounds / 2)) ] || fail "only $killed of $rounds were killed"
ok "killed $killed times in a backup; each one after was complete and right"

# A restore that is killed leaves no file by the target's name.
for ((round = 1; round <= (rounds + 1) / 2; round++)); do
	rm -f "$dir/r.raw"
	agent_start kvm01 "$dir/out" restore -q web1@latest \
		--disk "vda=$dir/r.raw" --bwlimit 20M
	pause "$(printf '0.%03d' $((RANDOM % 250)))"
	kill -9 "$agent_pid" 2>/dev/null
	if agent_wait "$agent_pid"; then
		same_bytes "$dir/disk" "$dir/r.raw"
	else
		[ ! -e "$dir/r.raw" ] || fail "half a restore by the full name"
	fi
done
restore kvm01 web1@latest --disk "vda=$dir/r.raw" --force
same_bytes "$dir/disk" "$dir/r.raw"
ok "a killed restore leaves nothing that could pass for whole"

# By hand: with Ctrl-C, it says so in one line.
agent_start kvm01 "$dir/out" backup -q --full web9 --disk "vda=$dir/disk" \
	--bwlimit 1M
wait_for 20 grep -q "backup of web9 .* began" "$daemon_log" ||
	fail "the slow backup did not begin"
kill -INT "$agent_pid"
agent_wait "$agent_pid"
status=$?
[ $status = 1 ] || [ $status = 130 ] || fail "SIGINT: status $status"
if [ "$(wc -l <"$dir/out.err")" != 1 ] ||
	! grep -q "stopped by a signal" "$dir/out.err"; then
	fail "SIGINT: $(cat "$dir/out.err")"
fi
[ "$(nbackups web9)" = 0 ] || fail "SIGINT: a backup was made"
ok "an agent that is interrupted says so, and leaves no backup"

stop_daemon
check_store
ok "fsck finds nothing wrong"
