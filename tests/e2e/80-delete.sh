#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: deletes run beside everything else, free exactly what they say, and
# harm nothing that somebody reads or builds on; what an interrupted backup has
# stored is not sent again.
#
#   tests/e2e/80-delete.sh
. "$(dirname "$0")/lib.sh"

# status FIELD: of `backstay status`.
status() {
	console status --json >"$dir/status.json" 2>"$dir/status.err" ||
		fail "status: $(cat "$dir/status.err")"
	json "$dir/status.json" "j$1"
}

gc() {
	console gc --wait=60 "$@" >"$dir/gc.out" 2>&1 ||
		fail "gc $*: $(cat "$dir/gc.out")"
}

# delete ARGUMENT...: must succeed; its answer is in delete.json.
delete() {
	console delete --json "$@" >"$dir/delete.json" 2>"$dir/delete.err" ||
		fail "delete $*: $(cat "$dir/delete.err")"
}

freed() { json "$dir/delete.json" "j['freed']"; }

# name VM N: that of its Nth backup, from 0.
name() {
	console list "$1" --json >"$dir/names.json" || fail "list $1"
	json "$dir/names.json" "j[$2]['vm'] + '@' + j[$2]['time']"
}

nincomplete() {
	console list --incomplete "$@" --json >"$dir/inc.json" ||
		fail "list --incomplete"
	json "$dir/inc.json" 'len(j)'
}

# is_kept [VM]: one incomplete backup is.  The daemon tells first that the job has
# ended, and then keeps what it stored.
is_kept() { [ "$(nincomplete "$@")" = 1 ]; }

# sent_more_than BYTES: by the job that runs.
sent_more_than() {
	console jobs --json >"$dir/jobs.json" || fail jobs
	[ "$(json "$dir/jobs.json" \
		"max([x['sent'] for x in j if x['state'] == 'running'] + [0])")" \
		-gt "$1" ]
}

none_runs() {
	console jobs --json >"$dir/jobs.json" || fail jobs
	[ "$(json "$dir/jobs.json" \
		"len([x for x in j if x['state'] == 'running'])")" = 0 ]
}

check_all() {
	stop_daemon
	check_store --data
	start_daemon "$@"
}

near() { # A B TOLERANCE WHAT
	if ! { [ $(($1 - $2)) -le "$3" ] && [ $(($2 - $1)) -le "$3" ]; }; then
		fail "$4: $1, and not $2"
	fi
}

make_repo "$dir/repo"
start_daemon --live-percent 95
enroll_agent kvm01 --role backup --role restore --role delete
enroll_agent kvm02

# --- what it frees is what it says

mkdisk "$dir/d0" 48 d
cp "$dir/d0" "$dir/d1" && put_noise "$dir/d1" $((3 << 20)) $((6 << 20)) d1
cp "$dir/d1" "$dir/d2" && put_noise "$dir/d2" $((6 << 20)) $((6 << 20)) d2
for i in 0 1 2; do
	backup kvm01 web1 --disk "vda=$dir/d$i"
done
backup kvm01 web2 --disk "vda=$dir/d2"
gc
stored=$(status "['stored']")
live=$(status "['live']")
first=$(name web1 0)
second=$(name web1 1)

delete --dry-run "$second"
said=$(freed)
[ "$(nbackups web1)" = 3 ] || fail "a dry run has deleted"
delete "$second"
[ "$(freed)" = "$said" ] || fail "dry run $said, delete $(freed)"
gc
[ $((live - $(status "['live']"))) = "$said" ] ||
	fail "said $said, and it were $((live - $(status "['live']")))"
near $((stored - $(status "['stored']"))) "$said" $((256 << 10)) "space"
if ! { [ "$said" -gt $((2 << 20)) ] && [ "$said" -lt $((4 << 20)) ]; }; then
	fail "of 6 MiB, half overwritten since, $said bytes are its own"
fi
ok "a dry run says exactly what a delete frees, and the space comes back"

for it in web1@-1 web1@latest; do
	restore kvm01 "$it" --disk "vda=$dir/r.raw" --force
	[ "$it" = web1@latest ] || same_bytes "$dir/d0" "$dir/r.raw"
	[ "$it" != web1@latest ] || same_bytes "$dir/d2" "$dir/r.raw"
done
expect_fail 1 "no backup $second" console delete "$second"
expect_fail 1 "no backup of nobody" console delete web1@latest nobody@latest
expect_fail 2 "which backups" console delete
[ "$(nbackups web1)" = 2 ] || fail "a refused delete has deleted"
ok "the others restore; a name that is not there deletes nothing"

# Two that share: each alone frees little, both together all.
delete --dry-run web1@latest
alone=$(freed)
delete --dry-run web1@latest web2@latest
both=$(freed)
if ! { [ "$alone" -lt $((64 << 10)) ] && [ "$both" -gt $((5 << 20)) ]; }; then
	fail "alone $alone, both $both"
fi
began=$(now_ms)
agent kvm01 delete --json web2@latest web1@latest >"$dir/delete.json" ||
	fail "an agent with the role may delete"
took=$(($(now_ms) - began))
[ "$(freed)" = "$both" ] || fail "both: said $both, then $(freed)"
[ $took -lt $((10000 * slower)) ] || fail "a delete took $took ms"
expect_fail 1 "may not delete" agent kvm02 delete web1@latest
ok "together they free what they share; who has not the role is refused"
check_all --live-percent 95

# --- beside readers

# rate NAME RATE: of all that it does; 64K holds it back until all was seen.
rate() {
	console set bwlimit "$2" --key "$1" >"$dir/set.out" ||
		fail "set bwlimit $2"
}

backup kvm01 web1 --disk "vda=$dir/d1"
rate kvm02 64K
agent_start kvm02 "$dir/slow" restore -q "$first" --disk "vda=$dir/s.raw"
slow=$agent_pid
wait_for 20 grep -q "restore of $first .* began" "$daemon_log" ||
	fail "the slow restore did not begin"
expect_fail 1 "a backup of web1 is being read by job" console delete "$first"
expect_fail 1 "a backup of web1 is being read by job" \
	console delete --wait=1 "$first"
delete web1@latest
[ "$(nbackups web1)" = 1 ] || fail "the other one is still there"
gc
# Who waits and goes away is not waited for.
env "BACKSTAY_AGENT_DIR=$dir/agent-kvm01" "BACKSTAY_AGENT_REPO=$url" \
	"$BIN/backstay-agent" delete --wait "$first" >"$dir/w.out" 2>&1 &
waiter=$!
pids+=("$waiter")
blocked() {
	! agent kvm01 restore -q "$first" --disk "vda=$dir/b.raw" --force \
		2>"$dir/b.err"
}
wait_for 20 blocked || fail "nobody waits for the delete"
grep -q "is waiting to be deleted" "$dir/b.err" || fail "$(cat "$dir/b.err")"
{ kill -9 "$waiter" && wait "$waiter"; } 2>/dev/null
forget "$waiter"
readable() { ! blocked; }
wait_for 20 readable || fail "a dead waiter is waited for: $(cat "$dir/b.err")"
alive "$slow" || fail "the slow restore has ended too early"
rate kvm02 8M
# And who stays gets it, when the reader is done.
console delete --wait "$first" >"$dir/w.out" 2>&1 || fail "$(cat "$dir/w.out")"
agent_wait "$slow" || fail "the slow restore: $(cat "$dir/slow.err")"
same_bytes "$dir/d0" "$dir/s.raw"
[ "$(nbackups)" = 0 ] || fail "there are backups left"
gc
[ "$(status "['live']")" = 0 ] || fail "something lives without a backup"
[ "$(status "['stored']")" -lt $((256 << 10)) ] || fail "space is kept"
ok "what is read is not deleted; one can wait for that; others are"
check_all --live-percent 95

# --- the parent of a backup that runs

backup kvm01 web1 --disk "vda=$dir/d0"
parent=$(name web1 0)
rate kvm01 64K
agent_start kvm01 "$dir/slow" backup -q web1 --disk "vda=$dir/d2"
grown() { [ "$(grep -c "of web1 .*, with a parent" "$daemon_log")" = "$1" ]; }
wait_for 20 grown 1 || fail "the slow backup did not begin"
delete "$parent"
[ "$(nbackups web1)" = 0 ] || fail "the parent is still shown"
expect_fail 1 "no backup of web1" console show web1@latest
gc
alive "$agent_pid" || fail "the backup ended before the delete"
rate kvm01 0
agent_wait "$agent_pid" || fail "the slow backup: $(cat "$dir/slow.err")"
restore kvm01 web1@latest --disk "vda=$dir/r.raw" --force
same_bytes "$dir/d2" "$dir/r.raw"
delete --dry-run web1@latest
gc
[ "$(status "['live']")" = "$(freed)" ] ||
	fail "live $(status "['live']"), and of one backup $(freed)"
ok "a parent is hidden at once, serves its child, and gives its space back"
# The same, with the daemon killed in between.
rate kvm01 64K
agent_start kvm01 "$dir/slow" backup -q web1 --disk "vda=$dir/d0"
wait_for 20 grown 2 || fail "the slow backup did not begin"
delete web1@latest
kill_daemon
agent_wait "$agent_pid" && fail "a backup without its daemon"
start_daemon --live-percent 95
[ "$(nbackups)" = 0 ] || fail "what was deleted is back"
gc
[ "$(nincomplete)" != 0 ] || [ "$(status "['live']")" = 0 ] ||
	fail "the hidden one's space is kept"
check_all --live-percent 95
ok "a start finishes what was hidden when the daemon was killed"

# --- what was interrupted

interrupt() { # DISK HOW: in the middle
	agent_start kvm01 "$dir/slow" backup -q web9 --disk "vda=$1" \
		--bwlimit 3M --lanes 1
	wait_for 20 sent_more_than $((4 << 20)) || fail "it sends nothing"
	$2
	agent_wait "$agent_pid" && fail "it was not interrupted"
}
kill_agent() {
	kill -9 "$agent_pid"
	wait_for 20 none_runs || fail "the job of a dead agent runs on"
}
resumed() { # DISK: by the same command
	local sent

	backup kvm01 web9 --disk "vda=$1"
	sent=$(stat_of sent)
	[ "$sent" -lt $((23 << 20)) ] || fail "$sent bytes were sent again"
	restore kvm01 web9@latest --disk "vda=$dir/r.raw" --force
	same_bytes "$1" "$dir/r.raw"
	[ "$(nincomplete)" = 0 ] || fail "there are incomplete backups"
	delete web9@latest
	gc
	[ "$(status "['live']")" = 0 ] || fail "something lives for nothing"
}

gc
interrupt "$dir/d0" kill_agent
wait_for 20 is_kept web9 || fail "nothing of it is kept"
[ "$(nbackups)" = 0 ] || fail "an incomplete backup is listed as one"
expect_fail 1 "no backup of web9" agent kvm01 restore web9@latest \
	--disk "vda=$dir/x.raw"
agent kvm01 list --incomplete | has web9@ || fail "agent list --incomplete"
gc
[ "$(status "['live']")" -gt $((4 << 20)) ] || fail "the reclaimer took it"
resumed "$dir/d0"
ok "killed in the middle, a backup run again sends only the rest"
check_all --live-percent 95

mkdisk "$dir/d9" 48 d9
backup kvm01 web8 --disk "vda=$dir/d2"
backup kvm01 web8 --disk "vda=$dir/d1"
delete web8@-1
interrupt "$dir/d9" kill_agent
stop_daemon
check_store --data
# The second reader, which knows the documents only.
"$PYTHON" "$top/tests/spec/store_reader.py" "$repo" list >"$dir/spec.out" \
	2>"$dir/spec.err" || fail "second reader: $(cat "$dir/spec.err")"
if ! { [ "$(wc -l <"$dir/spec.out")" = 1 ] && grep -q ^web8@ "$dir/spec.out"; }; then
	fail "second reader: $(cat "$dir/spec.out")"
fi
grep -q ", 1 incomplete" "$dir/spec.err" || fail "$(cat "$dir/spec.err")"
"$PYTHON" "$top/tests/spec/store_reader.py" "$repo" extract web8@latest vda \
	"$dir/r.raw" >"$dir/spec.out" 2>&1 || fail "$(cat "$dir/spec.out")"
same_bytes "$dir/d1" "$dir/r.raw"
start_daemon --live-percent 95
delete web8@latest
gc
[ "$(nincomplete web9)" = 1 ] || fail "a restart forgot it"
interrupt "$dir/d9" kill_agent
resumed "$dir/d9"
ok "also twice, and after a restart of the daemon"

stop_daemon
start_daemon --live-percent 95 --checkpoint 1
interrupt "$dir/d2" kill_daemon
start_daemon --live-percent 95 --checkpoint 1
[ "$(nincomplete web9)" = 1 ] || fail "nothing of it was kept in time"
resumed "$dir/d2"
ok "and when it was the daemon that was killed"

interrupt "$dir/d0" stop_daemon
check_store --data
start_daemon --live-percent 95
resumed "$dir/d0"
ok "and when it was stopped"

interrupt "$dir/d0" kill_agent
wait_for 20 is_kept || fail "nothing is kept"
delete "$(json "$dir/inc.json" "j[0]['vm'] + '@' + j[0]['time']")"
[ "$(nincomplete)" = 0 ] || fail "it is still there"
interrupt "$dir/d1" kill_agent
wait_for 20 is_kept || fail "nothing is kept"
stop_daemon
start_daemon --live-percent 95 --keep-incomplete 0
wait_for 20 grep -q "web9: 1 interrupted .* forgotten" "$daemon_log" ||
	fail "it is not forgotten"
[ "$(nincomplete)" = 0 ] || fail "it is forgotten, and yet listed"
gc
[ "$(status "['live']")" = 0 ] || fail "something lives for nothing"
ok "an interrupted backup can be deleted, and is forgotten in time"
check_all --live-percent 95

# --- the reclaimer is told what to do

backup kvm01 web1 --disk "vda=$dir/d0"
console gc pause >"$dir/gc.out" || fail "pause"
delete web1@latest
expect_fail 1 "paused" console gc --wait=5
[ "$(status "['stored']")" -gt $((20 << 20)) ] || fail "paused, and yet done"
[ "$(status "['reclaim']['state']")" = paused ] || fail "it does not say so"
console gc resume >"$dir/gc.out" || fail "resume"
gc --rate 0
[ "$(status "['stored']")" -lt $((256 << 10)) ] || fail "not resumed"
backup kvm01 web1 --disk "vda=$dir/d0"
console hold --for 60s >"$dir/hold.out" || fail "hold"
delete web1@latest
expect_fail 1 "held" console gc --wait=5
[ "$(status "['stored']")" -gt $((20 << 20)) ] || fail "held, and yet done"
# A copy of the packs alone is a repository, once the index is made anew.
mkdir "$dir/copy"
cp -aL "$repo/backstay.json" "$repo/packs" "$repo/keys" "$dir/copy/"
# Wherever they were: in the copy they are where packs are by default.
"$PYTHON" -c 'import json, sys
j = json.load(open(sys.argv[1]))
j.pop("packs", None)
j["features"] = []
json.dump(j, open(sys.argv[1], "w"))' "$dir/copy/backstay.json"
console hold --release >"$dir/hold.out" || fail "release"
gc
[ "$(status "['stored']")" -lt $((256 << 10)) ] || fail "still held"
"$BIN/backstay" -r "$dir/copy" fsck --rebuild-index >"$dir/fsck.out" 2>&1 ||
	fail "the copy: $(cat "$dir/fsck.out")"
"$BIN/backstay" -r "$dir/copy" fsck --data >"$dir/fsck.out" 2>&1 ||
	fail "the copy: $(cat "$dir/fsck.out")"
ok "it pauses, goes on, and holds still for a copy"

stop_daemon
check_store --data
ok "fsck finds nothing wrong"
