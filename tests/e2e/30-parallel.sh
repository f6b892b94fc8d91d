#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: backups of several VMs from several hosts run at once and do not get
# in each other's way; only a second backup of a VM that is being backed up is
# refused, and says who does it.
#
#   tests/e2e/30-parallel.sh
. "$(dirname "$0")/lib.sh"

declare -a agents=()

# running VM...: the daemon has a running backup of each of them.
running() {
	local vm

	console jobs --json >"$dir/jobs.json" || fail "jobs"
	for vm in "$@"; do
		[ "$(json "$dir/jobs.json" "any(b['vm'] == '$vm' and
			b['state'] == 'running' for b in j)")" = True ] ||
			return 1
	done
}

make_repo "$dir/repo"
start_daemon
for i in 1 2 3; do
	enroll_agent kvm0$i
	mkdisk "$dir/disk$i" 64 disk$i
done
mkdisk "$dir/disk3b" 32 disk3b
# A part that all have: whoever comes second finds it, or both bring it.
for i in 1 2 3; do
	put_noise "$dir/disk$i" $((1 << 20)) $((8 << 20)) common
done

# All are held back until all are at it, whatever the machine does meanwhile.
for round in 1 2; do
	agents=()
	console set bwlimit 64K >"$dir/set.out" || fail "set bwlimit 64K"
	for i in 1 2 3; do
		more=()
		[ $i != 3 ] || more=(--disk "vdb=$dir/disk3b")
		agent_start kvm0$i "$dir/out$i" backup -q --json vm$i \
			--lanes 4 --full \
			--disk "vda=$dir/disk$i" "${more[@]}"
		agents+=("$agent_pid")
	done
	wait_for 60 running vm1 vm2 vm3 || fail "not all three run at once"
	if [ $round = 1 ]; then
		expect_fail 1 "vm2 is being backed up by job [0-9]+ \(kvm02, since" \
			agent kvm01 backup -q vm2 --disk "vda=$dir/disk1"
		expect_fail 1 "vm1 is being backed up by job [0-9]+ \(kvm01, since" \
			agent kvm01 backup -q vm1 --disk "vda=$dir/disk1"
	fi
	running vm1 vm2 vm3 || fail "one has ended already"
	console set bwlimit 0 >"$dir/set.out" || fail "set bwlimit 0"
	for i in 1 2 3; do
		agent_wait "${agents[$((i - 1))]}" ||
			fail "vm$i: status $?: $(cat "$dir/out$i.err")"
	done
	for i in 1 2 3; do
		restore kvm0$i vm$i@latest --disk "vda=$dir/r.raw"
		same_bytes "$dir/disk$i" "$dir/r.raw"
		rm "$dir/r.raw"
	done
	restore kvm03 vm3@latest --disk "vdb=$dir/r.raw"
	same_bytes "$dir/disk3b" "$dir/r.raw"
	rm "$dir/r.raw"
	# The next round writes other data over the same places.
	for i in 1 2 3; do
		put_noise "$dir/disk$i" $((12 << 20)) $((12 << 20)) again$i
	done
done
ok "three VMs at once, 4 lanes each, all as they were"
ok "a second backup of a VM is refused with who is at it"

# Restores of all three at once, while a fourth VM is backed up.
agents=()
agent_start kvm01 "$dir/out0" backup -q vm4 --disk "vda=$dir/disk1"
agents+=("$agent_pid")
for i in 1 2 3; do
	agent_start kvm0$i "$dir/out$i" restore -q vm$i@-1 \
		--disk "vda=$dir/r$i.raw"
	agents+=("$agent_pid")
done
for i in 0 1 2 3; do
	agent_wait "${agents[$i]}" ||
		fail "agent $i: status $?: $(cat "$dir/out$i.err")"
done
for i in 1 2 3; do
	mkdisk "$dir/was" 64 disk$i
	put_noise "$dir/was" $((1 << 20)) $((8 << 20)) common
	same_bytes "$dir/was" "$dir/r$i.raw"
done
restore kvm01 vm4@latest --disk "vda=$dir/r4.raw"
same_bytes "$dir/disk1" "$dir/r4.raw"
[ "$(nbackups)" = 7 ] || fail "$(nbackups) backups, not 7"
ok "restores and a backup at once"

stop_daemon
check_store
ok "fsck finds nothing wrong"
