#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What deletes and reclaiming cost, and what else may go on meanwhile; beside
# restic and borg with the same disks.
#
#   tests/bench/cost.sh [BUILD [JSON]]        make bench-cost
#
#   DISK_MIB=512 USED_MIB=256   of each VM's disk
#   DAYS=30                     incremental backups of one of them, 2 % each
#   OTHERS=10                   other VMs, for the larger repository
#   RUNS=7                      of each measure; medians count
#   PEERS="restic borg"         installed by apt where missing
#   TMPDIR=DIR                  where it works (about 15 GiB)
#
# Asserts, with 20 ms for the clock, what is promised of Backstay: the time that a delete takes to give
# its space back does not depend on how much else there is, and backups keep
# their pace while space is reclaimed.
BIN=$(realpath "${1:-build/gcc}") || exit 1
export BIN
out=$(realpath -m "${2:-build/bench-cost.json}")
. "$(dirname "$0")/lib.sh"

DISK_MIB=${DISK_MIB:-512} USED_MIB=${USED_MIB:-256} DAYS=${DAYS:-30}
OTHERS=${OTHERS:-10} RUNS=${RUNS:-7} PEERS=${PEERS-restic borg}
[ "$DAYS" -ge $((4 * RUNS)) ] || fail "DAYS is less than 4 * RUNS"

declare -A package=([restic]=restic [borg]=borgbackup)
for it in $PEERS; do
	need_peers "$it=${package[$it]}"
done

mib() { echo $(($1 >> 20)); }

declare -a rows=() fields=()
# say NAME WHAT VALUE UNIT: a line of the table, and a field of the JSON.
say() {
	rows+=("$(printf '%-58s %10s %s' "$2" "$3" "$4")")
	fields+=("\"$1\": $3")
	echo "  ${rows[-1]}"
}

# --- the disks

# new_disk FILE SEED [TIMES]: used in islands of 8 MiB, with holes between;
# of so many times the size.
new_disk() {
	local at times=${3:-1}

	rm -f "$1"
	truncate -s "$((DISK_MIB * times))M" "$1"
	for ((at = 0; at < USED_MIB * times / 8; at++)); do
		put_noise "$1" $(((at * 8 * DISK_MIB / USED_MIB) << 20)) \
			$((8 << 20)) "$2.$at"
	done
}

# 2 % of what is used, in writes of 64 KiB: half at the same places each day,
# which a delete of that day alone frees, half at others.
a_day() {
	local i n=$((USED_MIB * 16 / 50)) slot

	for ((i = 0; i < n; i++)); do
		slot=$(((i * 37 + i % 2 * $2 * 11) % (USED_MIB * 16)))
		put_noise "$1" $(((slot / 128 * 128 * DISK_MIB / USED_MIB + \
			slot % 128) * 65536)) 65536 "day.$2.$i"
	done
}

stored() {
	console status --json >"$dir/status.json" || fail "status"
	json "$dir/status.json" "j['stored']"
}
hwm_kib() { sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$daemon_pid/status"; }
peer_bytes() { du -sB1 "$1" | cut -f1; }

echo "# a disk of $DISK_MIB MiB, $USED_MIB MiB of it used; $DAYS days;" \
	"$OTHERS other VMs; medians of $RUNS"
make_repo "$dir/large"
# Small packs, and rewritten as soon as a tenth is dead: so that what a delete
# frees is on the volume again when `gc --wait` returns.
tuned=(--pack-limit 4M --live-percent 90)
start_daemon "${tuned[@]}"
enroll_agent kvm01
restic_repo=$dir/restic borg_repo=$dir/borg
for it in $PEERS; do
	case $it in
	restic) restic init -q -r "$restic_repo" >"$dir/log" 2>&1 ;;
	borg) borg init -e none "$borg_repo" >"$dir/log" 2>&1 ;;
	esac || fail "$it: $(cat "$dir/log")"
done

# to_peers NAME FILE: the same content, as a backup of that name.
to_peers() {
	local it

	for it in $PEERS; do
		case $it in
		restic) restic backup -q -r "$restic_repo" --host vm \
			--tag "$1" "$2" ;;
		borg) borg create --sparse -C lz4 "$borg_repo::$1" "$2" ;;
		esac >"$dir/log" 2>&1 || fail "$it: $(cat "$dir/log")"
	done
}

new_disk "$dir/db" db
declare -a days=()
for ((day = 0; day <= DAYS; day++)); do
	[ $day = 0 ] || a_day "$dir/db" $day
	backup kvm01 db --disk "vda=raw:$dir/db"
	days+=("$(json "$dir/backup.json" 'j["backup"]')")
	to_peers "db.$day" "$dir/db"
done
console gc --wait >/dev/null || fail "gc"
# The smaller of the two stays as it is now.
stop_daemon
cp -r "$repo" "$dir/small"
start_daemon "${tuned[@]}"

# one_delete SIZE DAY: of that repository; the times until it is told, and until
# the space is there again, and how much that is: into ${asked}, ${took},
# ${freed} by size.
declare -A asked=() took=() freed=() hwm=()
one_delete() {
	local t0 t1 before

	repo=$dir/$1
	before=$(stored)
	t0=$(now_ms)
	console delete "${days[$2]}" >"$dir/delete.out" 2>&1 ||
		fail "delete: $(cat "$dir/delete.out")"
	t1=$(now_ms)
	console gc --wait >/dev/null || fail "gc"
	took[$1]+=" $(($(now_ms) - t0))"
	asked[$1]+=" $((t1 - t0))"
	freed[$1]+=" $(((before - $(stored)) >> 10))"
}

# ours: deletes RUNS days of both, in turns, so that what else the machine does
# hits both alike.
ours() {
	local i size

	for size in small large; do
		repo=$dir/$size
		start_daemon "${tuned[@]}"
		hwm[$size.pid]=$daemon_pid
		console gc --wait >/dev/null || fail "gc"
	done
	for ((i = 0; i < RUNS; i++)); do
		# Also the first of a pair in turns: it pays for what the
		# machine has not written yet.
		if [ $((i % 2)) = 0 ]; then
			one_delete small $((1 + 2 * i))
			one_delete large $((1 + 2 * i))
		else
			one_delete large $((1 + 2 * i))
			one_delete small $((1 + 2 * i))
		fi
	done
	for size in small large; do
		repo=$dir/$size daemon_pid=${hwm[$size.pid]}
		hwm[$size]=$(hwm_kib)
		# shellcheck disable=SC2086 # numbers
		took[$size]=$(median ${took[$size]})
		say "backstay_${size}_stored_mib" "Backstay, $size: stored" \
			"$(mib "$(stored)")" MiB
		# shellcheck disable=SC2086 # numbers
		say "backstay_${size}_delete_ms" \
			"Backstay, $size: delete one day" \
			"$(median ${asked[$size]})" ms
		say "backstay_${size}_space_ms" \
			"Backstay, $size: delete, until its space is back" \
			"${took[$size]}" ms
		# shellcheck disable=SC2086 # numbers
		say "backstay_${size}_freed_kib" \
			"Backstay, $size: space that came back" \
			"$(median ${freed[$size]})" KiB
		say "backstay_${size}_hwm_kib" \
			"Backstay, $size: most memory of the daemon" \
			"${hwm[$size]}" KiB
		stop_daemon
	done
}

# snapshot TAG: restic's name for it.
snapshot() {
	restic -r "$restic_repo" snapshots --json --tag "$1" | "$PYTHON" -c \
		'import json, sys; print(json.load(sys.stdin)[0]["id"])'
}

# theirs PEER SIZE FIRST-DAY: the same with a peer.
theirs() {
	local i day=$3 t0 id before after
	local -a times=() gained=()

	for ((i = 0; i < RUNS; i++)); do
		before=$(peer_bytes "$dir/$1")
		t0=$(now_ms)
		case $1 in
		restic)
			id=$(snapshot "db.$day") || fail "restic: db.$day"
			t0=$(now_ms)
			# All that is unused, as above.
			restic -r "$restic_repo" forget "$id" --prune \
				--max-unused 0
			;;
		borg)
			borg delete "$borg_repo::db.$day" &&
				borg compact --threshold 0 "$borg_repo"
			;;
		esac >"$dir/log" 2>&1 || fail "$1: $(cat "$dir/log")"
		times+=($(($(now_ms) - t0)))
		after=$(peer_bytes "$dir/$1")
		gained+=($(((before - after) >> 10)))
		day=$((day + 2))
	done
	say "$1_$2_space_ms" "$1, $2: delete, until its space is back" \
		"$(median "${times[@]}")" ms
	say "$1_$2_freed_kib" "$1, $2: space that came back" \
		"$(median "${gained[@]}")" KiB
}

for it in $PEERS; do
	theirs "$it" small 1
done

for ((i = 1; i <= OTHERS; i++)); do
	new_disk "$dir/other" "other.$i"
	backup kvm01 "other$i" --disk "vda=raw:$dir/other"
	to_peers "other.$i" "$dir/other"
done
rm "$dir/other"
console gc --wait >/dev/null || fail "gc"
stop_daemon
ours
small_ms=${took[small]} large_ms=${took[large]}
for it in $PEERS; do
	theirs "$it" large $((1 + 2 * RUNS))
done
say cost_ratio "Backstay: large to small" "$(ratio "$large_ms" "$small_ms")" \
	"(at most 1.5)"
say hwm_ratio "Backstay: memory, large to small" \
	"$(ratio "${hwm[large]}" "${hwm[small]}")" ""
repo=$dir/large
start_daemon "${tuned[@]}"

# --- a backup during it

# meanwhile PEER COMMAND...: runs it, and tries small backups until it is over.
head -c 100000 /dev/urandom >"$dir/little"
truncate -s 1M "$dir/little"
meanwhile() {
	local it=$1 pid ok=0 no=0 status=0 n=0

	shift
	"$@" >"$dir/during.log" 2>&1 &
	pid=$!
	pids+=("$pid")
	# Until it is really at it.
	case $it in
	restic) wait_for 10 lock_or_gone "$pid" "$restic_repo/locks" ;;
	borg) wait_for 10 lock_or_gone "$pid" "$borg_repo/lock.exclusive" ;;
	esac
	while alive "$pid"; do
		n=$((n + 1))
		put_noise "$dir/little" 0 65536 "$it.$n"
		case $it in
		restic) restic backup -q -r "$restic_repo" --host vm "$dir/little" ;;
		borg) borg create --lock-wait 0 "$borg_repo::during.$n" \
			"$dir/little" ;;
		backstay) agent kvm01 backup -q small --disk \
			"vda=raw:$dir/little" ;;
		esac >"$dir/log" 2>&1 && status=0 || status=$?
		# What ended behind it does not tell.
		alive "$pid" || break
		if [ $status = 0 ]; then ok=$((ok + 1)); else
			no=$((no + 1))
			head -n 1 "$dir/log" >"$dir/refusal.$it"
		fi
	done
	wait "$pid" || fail "$it: $(tail -n 5 "$dir/during.log")"
	forget "$pid"
	say "${it}_meanwhile_done" "$it: backups done while space is reclaimed" \
		"$ok" ""
	say "${it}_meanwhile_refused" "$it: backups refused meanwhile" "$no" ""
	[ ! -s "$dir/refusal.$it" ] || echo "#   $(cat "$dir/refusal.$it")"
	done_meanwhile=$ok refused_meanwhile=$no
}
lock_or_gone() { gone "$1" || [ -n "$(ls -A "$2" 2>/dev/null)" ]; }

# A whole VM goes, so that there is something to do.
our_prune() {
	console delete other1@latest && console gc --wait
}
restic_prune() {
	restic -r "$restic_repo" forget "$other" --prune --max-unused 0
}
borg_prune() {
	borg delete "$borg_repo::other.1" &&
		borg compact --threshold 0 "$borg_repo"
}
meanwhile backstay our_prune
[ "$refused_meanwhile" = 0 ] || fail "a backup was refused: $(cat "$dir/log")"
[ "$done_meanwhile" -gt 0 ] || echo "# it was over before a backup was"
for it in $PEERS; do
	[ "$it" != restic ] || other=$(snapshot other.1) || fail "restic"
	meanwhile "$it" "${it}_prune"
done

# --- ingest beside reclaiming

# Larger packs, rewritten when half of them is dead, as it comes; not so large
# that all of it is in the one that backups have open.
stop_daemon
start_daemon --pack-limit 64M
large=4

# Packs that are 60 % dead, all through the ingest.
junk() {
	local i

	new_disk "$dir/junk" "junk.$1" $large
	backup kvm01 junk --disk "vda=raw:$dir/junk"
	for ((i = 0; i < USED_MIB * large / 8; i++)); do
		put_noise "$dir/junk" \
			$(((i * 8 * DISK_MIB / USED_MIB) << 20)) \
			$((5 << 20)) "junk.$1.$i.again"
	done
	backup kvm01 junk --disk "vda=raw:$dir/junk"
	console delete junk@-1 >/dev/null || fail "delete of junk"
}
copied() {
	console gc status --json >"$dir/gc.json" || fail "gc status"
	json "$dir/gc.json" "j['copied']"
}

rewriting() { [ "$(copied)" -gt "$was" ]; }

declare -a alone=() beside=() moved=()
for ((run = 0; run < 2 * ((RUNS + 1) / 2); run++)); do
	console gc pause >/dev/null || fail "gc pause"
	junk "$run"
	new_disk "$dir/in" "in.$run" $large
	sync "$dir/in"
	was=$(copied)
	# In turns, and the first of a pair in turns too.
	mode=$(((run + run / 2) % 2))
	if [ $mode = 1 ]; then
		console gc resume >/dev/null || fail "gc resume"
		wait_for 20 rewriting || fail "nothing is rewritten"
		was=$(copied)
	fi
	t0=$(now_ms)
	backup kvm01 in --disk "vda=raw:$dir/in" --full
	ms=$(($(now_ms) - t0))
	if [ $mode = 1 ]; then
		beside+=($((USED_MIB * large * 1000 / ms)))
		moved+=($((($(copied) - was) >> 20)))
	else
		alone+=($((USED_MIB * large * 1000 / ms)))
	fi
	console gc resume >/dev/null || fail "gc resume"
	console delete in@latest >/dev/null || fail "delete"
	console gc --wait >/dev/null || fail "gc"
done
say ingest_alone "Backstay: ingest of new data" "$(median "${alone[@]}")" MiB/s
say ingest_beside "Backstay: the same while space is reclaimed" \
	"$(median "${beside[@]}")" MiB/s
say ingest_moved "Backstay: what was rewritten meanwhile" \
	"$(median "${moved[@]}")" MiB
say ingest_ratio "Backstay: beside to alone" \
	"$(ratio "$(median "${beside[@]}")" "$(median "${alone[@]}")")" \
	"(at least 0.85)"

stop_daemon
check_store
mkdir -p "$(dirname "$out")"
{
	printf '{"disk_mib": %d, "used_mib": %d, "days": %d, "others": %d, "runs": %d' \
		"$DISK_MIB" "$USED_MIB" "$DAYS" "$OTHERS" "$RUNS"
	printf ', %s' "${fields[@]}"
	printf '}\n'
} >"$out"
echo
printf '%s\n' "${rows[@]}"
echo "# also in $out"

[ "$(awk -v a="$large_ms" -v b="$small_ms" 'BEGIN { print (a <= 1.5 * b + 20) }')" = 1 ] ||
	fail "a delete costs more in a larger repository: $large_ms ms, $small_ms ms"
ok "a delete's cost does not depend on what else there is"
[ "$(awk -v a="$(median "${beside[@]}")" -v b="$(median "${alone[@]}")" \
	'BEGIN { print (a >= 0.85 * b) }')" = 1 ] ||
	fail "backups are slowed down by reclaiming"
ok "backups keep their pace while space is reclaimed"
