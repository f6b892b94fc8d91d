#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: what is locked, protected or too young goes by no way before its time:
# not by delete, prune, --force, an agent's key, other keys, other settings, a
# clock that is wrong, nor an older or damaged file of marks.
#
#   tests/e2e/211-locks.sh
. "$(dirname "$0")/lib.sh"

day=86400
year=$((365 * day))

settings() { # SECTION-LINES: in force at once
	cat >"$repo/backstayd.conf"
	[ -z "$daemon_pid" ] || gone "$daemon_pid" || {
		local before
		before=$(grep -c "settings" "$daemon_log")
		kill -HUP "$daemon_pid"
		reread() {
			[ "$(grep -c "settings" "$daemon_log")" -gt "$before" ]
		}
		wait_for 10 reread || fail "the settings are not read again"
	}
}

# name VM N: that of its Nth backup, from 0.
name() {
	console list "$1" --json >"$dir/names.json" || fail "list $1"
	json "$dir/names.json" "j[$2]['vm'] + '@' + j[$2]['time']"
}

# in_time SECONDS: repository time in so long, as one writes it.
in_time() {
	console status --json >"$dir/status.json" || fail status
	json "$dir/status.json" "__import__('datetime').datetime.fromtimestamp(
		__import__('calendar').timegm(__import__('time').strptime(
		j['retention']['time'], '%Y-%m-%dT%H:%M:%SZ')) + $1,
		__import__('datetime').timezone.utc).strftime(
		'%Y-%m-%dT%H:%M:%SZ')"
}

# stays VM N WHY: it still has N backups, whatever one does.
stays() {
	local vm=$1 n=$2 why=$3 it

	[ "$(nbackups "$vm")" = "$n" ] || fail "$vm has not $n backups"
	it=$(name "$vm" 0)
	expect_fail 1 "$why" console delete "$it"
	expect_fail 1 "$why" console delete --dry-run "$it"
	expect_fail 1 "$why" console delete "$it" free@latest
	expect_fail 1 "$why" agent admin delete "$it"
	expect_fail 1 "$why" agent deleter delete "$it"
	console prune "$vm" --keep-last 1 --force >"$dir/prune.out" 2>&1 ||
		fail "prune: $(cat "$dir/prune.out")"
	console prune --keep-within 1s --force >"$dir/prune.out" 2>&1 ||
		fail "prune: $(cat "$dir/prune.out")"
	[ "$(nbackups "$vm")" = "$n" ] || fail "$vm has not $n backups any more"
}

use_clock
make_repo "$dir/repo"
settings <<END
[vm web1]
lock = 7d
[vm young]
min-age = 7d
END
start_daemon
enroll_agent kvm01
enroll_agent admin --role admin
enroll_agent deleter --role delete
mkdisk "$dir/d" 1 d
for vm in web1 web1 young young free; do
	backup kvm01 "$vm" --disk "vda=$dir/d"
done
stays web1 2 "is locked until .* nobody can shorten"
stays young 2 "younger than min-age of its VM: not before"
console list web1 | has 'locked$' || fail "list does not tell"
console show web1@latest | has '^locked  *until' || fail "show does not tell"
console prune web1 --keep-last 1 --dry-run | has "locked, until" ||
	fail "the table does not tell"
ok "no way to delete, nor prune by force, takes what is locked or young"

# --- keys and settings

console key remove kvm01 >"$dir/out" || fail "key remove"
stays web1 2 "is locked until"
settings <<END
[vm web1]
lock = 0
[vm young]
min-age = 7d
END
stays web1 2 "is locked until"
backup_now() { # as another host would
	backup admin "$1" --disk "vda=$dir/d"
}
# Shorter is no shorter, nor is a rule that counts more an older one.
settings <<END
[vm web*]
lock = 1s
min-age = 0
keep-last = 1
[vm young]
min-age = 7d
END
stays web1 2 "is locked until"
stays young 2 "younger than min-age"
settings <<END
[vm web1]
lock = 0
[vm young]
min-age = 7d
END
backup_now web1
console show web1@latest | has '^locked' && fail "locked without a lock"
console delete web1@latest >"$dir/out" || fail "$(cat "$dir/out")"
stop_daemon
start_daemon
stays web1 2 "is locked until"
# What was locked by the settings of then stands in the backup itself: an index
# made anew has it, and files of marks and time of another day take nothing away.
stop_daemon
cp "$repo/clock" "$dir/clock.old"
cp "$repo/marks.json" "$dir/marks.old" 2>/dev/null || : >"$dir/none"
rm -r "$repo/index"
console fsck --rebuild-index >"$dir/fsck.out" 2>&1 || fail "rebuild"
start_daemon
stays web1 2 "is locked until"
stays young 2 "younger than min-age"
console protect free@latest >"$dir/out" || fail protect
kill_daemon
cp "$dir/clock.old" "$repo/clock"
rm "$repo/marks.json"
[ -e "$dir/none" ] || cp "$dir/marks.old" "$repo/marks.json"
start_daemon
stays web1 2 "is locked until"
stays young 2 "younger than min-age"
ok "neither does removing keys, other settings, a restart or an index made anew"

# --- clocks

set_clock $((10 * year)) 0
stays web1 2 "is locked until"
stays young 2 "younger than min-age"
settings <<END
[vm web1]
lock = 7d
[vm young]
min-age = 7d
END
backup_now web1
case $(name web1 2) in
web1@203*) ;;
*) fail "the clock of the test does not work: $(name web1 2)" ;;
esac
stop_daemon
start_daemon
grep -q "the clock says 203.* and repository time is" "$daemon_log" ||
	fail "the log says nothing of the clock"
console status | has "days ahead of repository time" ||
	fail "status says nothing of the clock"
stays web1 3 "is locked until"
stays young 2 "younger than min-age"
backup_now free
expect_fail 1 "the clock and the repository's time disagree" \
	console prune free --keep-yearly 1
kill_daemon
start_daemon
stays web1 3 "is locked until"
set_clock $((-2 * year)) 0
stop_daemon
start_daemon
grep -q "the clock says .* and repository time is" "$daemon_log" ||
	fail "the log says nothing of the clock"
stays web1 3 "is locked until"
stays young 2 "younger than min-age"
# Made while the clock is behind: it does not look old.
backup_now young
stays young 3 "younger than min-age"
set_clock 0 0
stop_daemon
start_daemon
grep -q "the clock says" "$daemon_log" && fail "it complains of a right clock"
stays web1 3 "is locked until"
stays young 3 "younger than min-age"
ok "nor does a clock that is ten years ahead, then years behind, then right"

# --- their time

pass $((6 * day))
stays web1 3 "is locked until"
stays young 3 "younger than min-age"
cp "$repo/clock" "$dir/clock.old"
pass $((day + 60))
# Also the one that is called by a day in ten years.
console prune '*' --keep-last 1 --force >"$dir/out" 2>&1 || fail "$(cat "$dir/out")"
[ "$(nbackups web1)" = 1 ] || fail "web1: $(cat "$dir/out")"
[ "$(nbackups young)" = 1 ] || fail "young: $(cat "$dir/out")"
ok "when its time has come, it goes"

# The daemon did not run for a while: the clock is believed, to a bound.
backup_now web1
stop_daemon
pass $((8 * day))
start_daemon
console delete web1@latest web1@-1 >"$dir/out" || fail "$(cat "$dir/out")"
backup_now web1
stop_daemon
set_clock $((clock_wall + 40 * day)) $((clock_steady + 40 * day))
start_daemon
stays web1 1 "is locked until"
stop_daemon
start_daemon --clock-jump 50
console delete web1@latest >"$dir/out" || fail "$(cat "$dir/out")"
# An older file of the time takes time back, and frees nothing.
stop_daemon
cp "$dir/clock.old" "$repo/clock"
start_daemon --clock-jump 100
settings </dev/null
ok "a start believes the clock, to the bound that is set"

# --- what people say

backup_now kept
backup_now kept
backup_now kept
console protect kept@-2 --note "for the auditors" >"$dir/out" || fail protect
until=$(in_time $((20 * day)))
console lock kept@-1 --until "$until" >"$dir/out" || fail lock
expect_fail 1 "can only become later" console lock kept@-1 --until \
	"$(in_time $((19 * day)))"
expect_fail 1 "that is over" console lock kept@-1 --until 2020-01-01
expect_fail 1 "at most ten years" console lock kept@-1 --until 2099-01-01
expect_fail 1 "is locked until $until" console delete kept@-1
stays kept 3 "is protected by .*for the auditors"
said() {
	[ "$(nbackups kept)" = 3 ] || fail "not three"
	expect_fail 1 "is locked until $until" console delete kept@-1
	expect_fail 1 "is protected .*auditors" console delete kept@-2
}
kill_daemon
start_daemon
said
stop_daemon
console fsck --rebuild-index >"$dir/fsck.out" 2>&1 || fail "rebuild"
start_daemon
said
ok "what people protect and lock stays, over restarts and a new index"

cp "$repo/marks.json" "$dir/marks.old"
console lock kept@-1 --until "$(in_time $((30 * day)))" >"$dir/out" || fail lock
until=$(in_time $((30 * day)))
until=${until%T*}
doubt() { # WHY: everything is protected, and says so
	start_daemon
	grep -q "marks.json: .*$1.* all backups count as protected" \
		"$daemon_log" || fail "the log does not say \"$1\""
	console status | has "all backups: what people protected" ||
		fail "status does not tell"
	expect_fail 1 "whether it is protected is not known" \
		console delete kept@latest
	expect_fail 1 "whether it is protected is not known" \
		console delete free@latest
	console prune --keep-last 1 --force >"$dir/out" || fail prune
	expect_fail 1 "until .backstay protect --mend" \
		console protect free@latest
	[ "$(nbackups kept)" = 3 ] || fail "not three"
	stop_daemon
}
stop_daemon
cp "$repo/marks.json" "$dir/marks.new"
cp "$dir/marks.old" "$repo/marks.json"
doubt "an older one"
rm "$repo/marks.json"
doubt "it is gone"
head -c 100 "$dir/marks.new" >"$repo/marks.json"
doubt "damaged"
tr '6' '7' <"$dir/marks.new" >"$repo/marks.json"
doubt "damaged"
: >"$repo/marks.json"
doubt "damaged"
cp "$dir/marks.new" "$repo/marks.json"
start_daemon
grep -q "count as protected" "$daemon_log" && fail "the right file is doubted"
console prune free --keep-last 1 >"$dir/out" || fail "$(cat "$dir/out")"
expect_fail 1 "nothing to mend" console protect --mend
stop_daemon
ok "with an older, torn, lost or damaged file of marks nothing goes"

head -c -1 "$dir/marks.new" >"$repo/marks.json"
start_daemon
console protect --mend >"$dir/out" || fail "mend"
grep -q "mended; [1-9]" "$dir/out" || fail "$(cat "$dir/out")"
expect_fail 1 "is protected .*auditors" console delete kept@-2
expect_fail 1 "marks.json was damaged" console delete kept@latest
console unprotect kept@latest kept@-2 >"$dir/out" || fail unprotect
console unprotect kept@-1 >"$dir/out" || fail unprotect
# Its lock could still be read, and nothing ends that.
expect_fail 1 "is locked until $until" console delete kept@-1
console delete kept@-2 >"$dir/out" || fail "$(cat "$dir/out")"
pass $((31 * day))
console delete kept@-1 kept@latest >"$dir/out" || fail "$(cat "$dir/out")"
ok "mended, it is as before, and what was in doubt is protected"

stop_daemon
check_store --data
ok "fsck finds nothing wrong"
