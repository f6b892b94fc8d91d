#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: a repository whose volume is filled to the brim ten times over fails
# backups cleanly and nothing else: what was committed restores, deletes work
# while it is full, and bring the space back; so does a start on a full volume.
#
#   tests/e2e/90-brim.sh [ROUNDS]     (mounts a small file system: as root, or
#                                      in a name space of its own)
[ "$(id -u)" = 0 ] || exec unshare --user --map-root-user --mount "$0" "$@"
. "$(dirname "$0")/lib.sh"
need mkfs.ext4 mount

rounds=${1:-${sanitized:+4}}
rounds=${rounds:-10}
mib=300
SEED=${SEED:-$(date +%s)}
RANDOM=$SEED
echo "# seed $SEED, $rounds rounds"

# What is full is where the packs are.
mkdir "$dir/nas"
room=$dir/nas
[ "${PACKS:-}" != nfs ] || room=$dir/nfs/export
mkdir -p "$room"
truncate -s ${mib}M "$dir/nas.img"
mkfs.ext4 -q -F -m 0 "$dir/nas.img" || fail "mkfs.ext4"
if mount -o loop "$dir/nas.img" "$room" 2>/dev/null; then
	rmdir "$room/lost+found"
	echo "# ext4 of $mib MiB"
else
	mount -t tmpfs -o size=${mib}m tmpfs "$room" || fail "mount"
	echo "# no loop devices here: a tmpfs of $mib MiB"
fi
mounts+=("$room")

free_mib() { df --output=avail -B1M "$room" | tail -n 1 | tr -d ' '; }

# state: of what the daemon says, into status.json.
state() { console status --json >"$dir/status.json" || fail "status"; }
stored() {
	state
	json "$dir/status.json" "j['stored']"
}

make_repo "$dir/nas/repo"
start_daemon
enroll_agent kvm01
enroll_agent kvm02
# Two VMs that stay: they must not suffer from what the others do.
for vm in keep1 keep2; do
	mkdisk "$dir/$vm" 16 "$SEED.$vm"
	backup kvm01 $vm --disk "vda=$dir/$vm"
done
console gc --wait >/dev/null || fail "gc --wait"
least=$(stored)

# full FILE: an agent that failed for lack of space said so, in one line.
full() {
	grep -q -E "full" "$1" || fail "not that it is full: $(cat "$1")"
	[ "$(wc -l <"$1")" = 1 ] || fail "not one line: $(cat "$1")"
}

# fill ROUND: backups of noise, two at a time, until both find no room; those
# that were committed are in ${names}, their disks in $dir/NAME.
declare -a names=()
fill() {
	local n=0 i status failed one two

	names=()
	while :; do
		n=$((n + 1))
		[ $n -lt 40 ] || fail "never full"
		for i in 1 2; do
			rm -f "$dir/new$i"
			put_noise "$dir/new$i" 0 \
				$(((8 + RANDOM % 16) << 20)) "$SEED.$1.$n.$i"
		done
		agent_start kvm01 "$dir/one" backup -q --json "big1" \
			--disk "vda=$dir/new1"
		one=$agent_pid
		agent_start kvm02 "$dir/two" backup -q --json "big2" \
			--disk "vda=$dir/new2"
		two=$agent_pid
		failed=0
		for i in 1 2; do
			[ $i = 1 ] && pid=$one log=$dir/one
			[ $i = 2 ] && pid=$two log=$dir/two
			agent_wait "$pid"
			status=$?
			if [ $status = 0 ]; then
				name=$(json "$log" 'j["backup"]')
				mv "$dir/new$i" "$dir/$name"
				names+=("$name")
				continue
			fi
			[ $status = 1 ] ||
				fail "status $status: $(cat "$log.err")"
			full "$log.err"
			failed=$((failed + 1))
		done
		[ $failed -lt 2 ] || return 0
	done
}

# committed NAME...: they restore as they were.
committed() {
	local name

	for name in "$@"; do
		rm -f "$dir/r.raw"
		restore kvm02 "$name" --disk "vda=$dir/r.raw"
		same_bytes "$dir/$name" "$dir/r.raw"
	done
	rm -f "$dir/r.raw"
}

# others: restores, a delete and listings, with the volume as it is.
others() {
	local vm

	for vm in keep1 keep2; do
		rm -f "$dir/r.raw"
		restore kvm01 $vm@latest --disk "vda=$dir/r.raw"
		same_bytes "$dir/$vm" "$dir/r.raw"
	done
	rm -f "$dir/r.raw"
	console list >/dev/null || fail "list"
}

filled=0
for ((round = 1; round <= rounds; round++)); do
	fill "$round"
	filled=$((filled + ${#names[@]}))
	[ ${#names[@]} -gt 0 ] || fail "round $round: nothing went in at all"
	at_brim=$(free_mib)
	others
	alive "$daemon_pid" || fail "the daemon has ended"
	# A start, and a kill, on a full volume.
	case $((round % 3)) in
	1)
		kill_daemon
		start_daemon
		others
		;;
	2)
		stop_daemon
		start_daemon
		others
		;;
	esac
	committed "${names[@]}"
	# One goes while it is full, and there is room for one again.
	console delete "${names[0]}" >"$dir/delete.out" 2>&1 ||
		fail "delete on a full volume: $(cat "$dir/delete.out")"
	console gc --wait >"$dir/gc.out" 2>&1 || fail "gc: $(cat "$dir/gc.out")"
	rm "$dir/${names[0]}"
	put_noise "$dir/keep2" $((RANDOM % 12 << 20)) 1000000 "$SEED.$round"
	backup kvm01 keep2 --disk "vda=$dir/keep2"
	others
	committed "${names[@]:1}"
	# Then all the others but the two that stay, and what those that found
	# no room had stored.
	console list --incomplete --json >"$dir/parts.json" || fail "list"
	mapfile -t parts < <(json "$dir/parts.json" \
		"'\n'.join(b['vm'] + '@' + b['time'] for b in j)")
	[ -n "${parts[0]}" ] || parts=()
	console delete "${names[@]:1}" "${parts[@]}" keep2@-1 \
		>"$dir/delete.out" 2>&1 ||
		fail "delete: $(cat "$dir/delete.out")"
	console gc --wait >"$dir/gc.out" 2>&1 || fail "gc: $(cat "$dir/gc.out")"
	after=$(stored)
	# By default a pack may be half dead; a pack that is open may be more.
	[ "$after" -le $((least * 2 + (8 << 20))) ] ||
		fail "round $round: $after bytes stored, $least are needed"
	[ "$(free_mib)" -gt $((mib / 2)) ] ||
		fail "round $round: only $(free_mib) MiB came back"
	others
	for name in "${names[@]:1}"; do
		rm "$dir/$name"
	done
	echo "# round $round: ${#names[@]} went in, $at_brim MiB left; then" \
		"$(free_mib) MiB, $((after >> 20)) MiB stored"
done
[ "$(nbackups)" = 2 ] || fail "$(nbackups) backups, not 2"
ok "full $rounds times, $filled backups went in; each failure said why"
ok "restores and deletes work while it is full, and the space comes back"

# A third of what is stored is dead, and none of it is a whole pack or half of
# one: that is worth a rewrite only when room is short.
put_noise "$dir/mixed" 0 $((80 << 20)) "$SEED.mixed"
backup kvm01 mixed --disk "vda=$dir/mixed"
for ((at = 0; at < 80 << 20; at += 3 << 16)); do
	put_noise "$dir/mixed" $at 65536 "$SEED.$at"
done
backup kvm01 mixed --disk "vda=$dir/mixed"
console delete mixed@-1 >"$dir/delete.out" 2>&1 || fail "delete"
console gc --wait >"$dir/gc.out" 2>&1 || fail "gc"
before=$(stored)
fallocate -l $(($(free_mib) - mib / 12))M "$room/other" || fail "fallocate"
# How much room there is on an export is known as of a moment ago.
made_room() {
	console gc --wait >"$dir/gc.out" 2>&1 ||
		fail "gc: $(cat "$dir/gc.out")"
	after=$(stored)
	[ $((before - after)) -gt $((20 << 20)) ]
}
wait_for 20 made_room || fail "what is dead did not make room"
echo "# $((before >> 20)) MiB stored, $((after >> 20)) when room is short"
restore kvm01 mixed@latest --disk "vda=$dir/r.raw"
same_bytes "$dir/mixed" "$dir/r.raw"
ok "packs that mostly live are rewritten when room is short"

stop_daemon
check_store --data
ok "fsck finds nothing wrong"
