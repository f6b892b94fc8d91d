#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: a daemon that is killed at any moment starts again at once, has every
# backup that an agent was told of or that was listed, and all of them restore
# as they were; fsck finds nothing wrong.  An index that is lost is rebuilt
# from the packs.
#
#   [SEED=N] tests/e2e/41-kill-daemon.sh [ROUNDS]
. "$(dirname "$0")/lib.sh"

rounds=${1:-${LONG:+50}}
rounds=${rounds:-8}
SEED=${SEED:-$(date +%s)}
RANDOM=$SEED
echo "# seed $SEED, $rounds rounds"
declare -A copies=() # of each version of a disk, by its backup's name
declare -A seen=()   # names of backups that were restored once

# keep NAME FILE: what the backup of that name must hold.
keep() {
	copies[$1]=$dir/copy.${#copies[@]}
	cp --sparse=always "$2" "${copies[$1]}"
}

# check_backups all|new: those that were reported are listed, and those that
# are listed restore as they were: all, or those that were not looked at yet.
check_backups() {
	local name

	console list --json >"$dir/list.json" || fail "list"
	json "$dir/list.json" \
		'"\n".join(b["vm"] + "@" + b["time"] for b in j)' >"$dir/names"
	for name in "${!copies[@]}"; do
		grep -qxF "$name" "$dir/names" || fail "$name is lost"
	done
	while read -r name; do
		[ -n "$name" ] || continue
		if [ "$1" = new ] && [ -n "${seen[$name]:-}" ]; then
			continue
		fi
		seen[$name]=1
		restore kvm01 "$name" --disk "vda=$dir/r.raw" --force
		# One that was committed and never reported: what its disk was
		# when the daemon was killed.
		if [ -z "${copies[$name]:-}" ]; then
			keep "$name" "$dir/${name%%@*}"
		fi
		same_bytes "${copies[$name]}" "$dir/r.raw"
	done <"$dir/names"
}

make_repo "$dir/repo"
start_daemon
enroll_agent kvm01
enroll_agent kvm02
mkdisk "$dir/vm1" 24 vm1
mkdisk "$dir/vm2" 24 vm2

# work I: backups of one VM, one after the other, each of a disk that changed,
# until the daemon is no more.  The outcome of each is in told.I.
work() {
	local n=0 log=$dir/work.$1

	while [ ! -e "$dir/stop" ]; do
		n=$((n + 1))
		[ $n -le 200 ] || return
		put_noise "$dir/vm$1" $(((n * 7 + $1) % 12 << 20)) 3000000 \
			"$SEED.$round.$n.$1"
		env "BACKSTAY_AGENT_DIR=$dir/agent-kvm0$1" \
			"BACKSTAY_AGENT_REPO=$url" "$BIN/backstay-agent" \
			backup -q --json --lanes 2 "vm$1" \
			--disk "vda=$dir/vm$1" >"$log.json" 2>"$log.err" ||
			return
		# Whole, or not at all: the checks read it meanwhile.
		json "$log.json" 'j["backup"]' >"$log.name"
		cp --sparse=always "$dir/vm$1" \
			"$dir/told.$round.$1.$n.disk"
		mv "$log.name" "$dir/told.$round.$1.$n"
	done
}

for ((round = 1; round <= rounds; round++)); do
	rm -f "$dir/stop"
	work 1 &
	one=$!
	work 2 &
	two=$!
	pids+=("$one" "$two")
	pause "$(printf '%d.%03d' $((RANDOM % 2)) $((RANDOM % 1000)))"
	kill_daemon
	touch "$dir/stop"
	for it in "$one" "$two"; do
		wait_for 30 gone "$it" ||
			fail "round $round: an agent hangs on a dead daemon"
		wait "$it" 2>/dev/null
		forget "$it"
	done
	for told in "$dir/told.$round".*[0-9]; do
		[ -e "$told" ] || continue
		copies[$(cat "$told")]=$told.disk
	done
	begun=$(now_ms)
	start_daemon
	took=$(($(now_ms) - begun))
	[ $took -lt $((5000 * slower)) ] ||
		fail "round $round: ready only after $took ms"
	check_backups new
	if [ $((round % 3)) = 0 ] || [ "$round" = "$rounds" ]; then
		stop_daemon
		check_store
		start_daemon
	fi
	echo "# round $round: ready in $took ms, ${#copies[@]} backups"
done
check_backups all
[ ${#copies[@]} -ge 2 ] || fail "only ${#copies[@]} backups were made at all"
ok "killed $rounds times: ${#copies[@]} backups, none is lost, all are right"

console list --json >"$dir/before.json" || fail "list"
stop_daemon
rm -rf "$repo/index"
expect_fail 1 "rebuild-index" "$BIN/backstayd" "$repo" --no-ssh
check_store --rebuild-index
check_store
start_daemon
console list --json >"$dir/after.json" || fail "list"
cmp "$dir/before.json" "$dir/after.json" || fail "the rebuilt list is another"
check_backups all
[ "$(nbackups)" = ${#copies[@]} ] || fail "backups came from nowhere"
# What it begins with may not be stored yet: the daemon was killed before.
backup kvm01 vm1 --disk "vda=$dir/vm1"
put_noise "$dir/vm1" 0 1000000 last
backup kvm01 vm1 --disk "vda=$dir/vm1"
[ "$(stat_of stored)" -le 1500000 ] ||
	fail "after a rebuild: stored $(stat_of stored)"
restore kvm01 vm1@latest --disk "vda=$dir/r.raw" --force
same_bytes "$dir/vm1" "$dir/r.raw"
stop_daemon
check_store
ok "a lost index is rebuilt from the packs, and all is there"
