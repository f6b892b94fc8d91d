#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: what runs can be watched: `watch` and `jobs --follow` on a terminal, on a
# dumb one and in a file; with each lane's bytes, and an exit code by the
# outcome.  `history` tells encrypted files from a day's work.
#
#   tests/e2e/250-watch.sh
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/screen.sh"

# job_of VM: ${job} is the number of its running job.
is_running() {
	console jobs --json >"$dir/jobs.json" || fail "jobs"
	job=$(json "$dir/jobs.json" "([b['job'] for b in j if b['vm'] == '$1'
		and b['state'] == 'running' and b['done'] > 0] + [0])[0]")
	[ "$job" != 0 ]
}
job_of() { wait_for 20 is_running "$1" || fail "$1 has no running job"; }

# rate RATE: of all that kvm01 does.  Until all was seen, however busy the machine
# is, it is one at which nothing ends.
rate() {
	console set bwlimit "$1" --key kvm01 >"$dir/set.out" ||
		fail "set bwlimit $1"
}

# slow VM DISK: a backup that can be watched, as ${agent_pid}.
slow() {
	agent_start kvm01 "$dir/$1.out" backup -q --json "$1" --disk \
		"vda=$2" --lanes 3
}

# days: ten backups of a database that grows.
days() {
	local day

	backup kvm02 db1 --disk "vda=$dir/db"
	for day in 1 2 3 4 5 6 7 8 9; do
		seq $((day * 1000000)) $((day * 1000000 + 150000)) |
			dd of="$dir/db" bs=1M seek=$((day * 2)) conv=notrunc \
				status=none
		backup kvm02 db1 --disk "vda=$dir/db"
	done
}

make_repo "$dir/repo"
start_daemon
enroll_agent kvm01
enroll_agent kvm02
mkdisk "$dir/disk" 88 disk
mkdisk "$dir/db" 64 db
# A VM of its own, meanwhile.
days >"$dir/days.out" 2>&1 &
days_pid=$!
pids+=("$days_pid")

# --- on a terminal

rate 2M
slow web1 "$dir/disk"
job_of web1
lanes_move() {
	is_running web1 && [ "$(json "$dir/jobs.json" "any(b['job'] == $job
		and b['phase'] == 'reading'
		and len(b['traffic']) == b['lanes'] > 1
		and max(l['in'] for l in b['traffic']) > 1 << 20
		and b['took_ms'] > 0 for b in j)")" = True ]
}
wait_for 20 lanes_move ||
	fail "the daemon does not tell what its lanes move: $(cat "$dir/jobs.json")"
screen_start 80x24 "$BIN/backstay" -r "$repo" watch "$job"
see "job $job: backup of web1 \(kvm01\)" 'reading +█+░* +[0-9]+ %  +ETA [0-9-]' \
	'rate now .* MiB/s' 'mean .* MiB/s' 'unchanged .* B' 'deduplicated .* B' \
	'sent .* MiB' 'wire .* MiB/s' 'lane +from agent +to agent +now' \
	'^ +[1-3] +[0-9.]+ MiB .* [KM]iB/s'
show watch
screen_size 50x14
see "job $job" '\.\.\. and [0-9] more'
rate 0
screen_size 110x30
see 'ended with 0' 'done .* 100 %' \
	"job $job: backup of web1 \(kvm01\) done: web1@.* 88.0 MiB, mean"
agent_wait "$agent_pid" || fail "the backup: $(cat "$dir/web1.out.err")"
ok "watch shows phase, rates, ETA, counts and lanes, at any size, and ends with the job"

# --- elsewhere

dd if="$dir/disk" of="$dir/disk2" bs=1M status=none
put_noise "$dir/disk2" 0 $((20 << 20)) other
rate 1M
slow web2 "$dir/disk2"
job_of web2
SCREEN_TERM=dumb screen_start 80x24 "$BIN/backstay" -r "$repo" watch "$job"
see "job $job: backup of web2 \(kvm01\): reading [0-9]+ %, .* of 88.0 MiB"
"$BIN/backstay" -r "$repo" watch "$job" >"$dir/watch.txt" &
watch_pid=$!
pids+=("$watch_pid")
wait_for 20 grep -q reading "$dir/watch.txt" || fail "watch shows nothing"
rate 0
wait "$watch_pid" || fail "watch: $?"
forget "$watch_pid"
see 'ended with 0'
if [ "$(grep -c . "$dir/watch.txt")" -gt 4 ] ||
	! grep -q "^job $job: backup of web2 (kvm01): reading" "$dir/watch.txt" ||
	! grep -q "^job $job: backup of web2 (kvm01) done: web2@" "$dir/watch.txt" ||
	LC_ALL=C grep -q '[^[:print:]]' "$dir/watch.txt"; then
	fail "watch in a file: $(cat -v "$dir/watch.txt")"
fi
agent_wait "$agent_pid" || fail "the backup: $(cat "$dir/web2.out.err")"
console watch "$job" --json >"$dir/watch.json" || fail "watch of one that has ended"
[ "$(json "$dir/watch.json" "j['state'], j['vm']")" = "('done', 'web2')" ] ||
	fail "watch --json: $(cat "$dir/watch.json")"
expect_fail 1 "there is no job 9999" console watch 9999
expect_fail 2 "no number of a job" console watch web2
ok "on a dumb terminal and in a file watch is lines"

# --- how it ends

"$BIN/backstay" -r "$repo" jobs --follow >"$dir/follow.txt" 2>"$dir/follow.err" &
follow_pid=$!
pids+=("$follow_pid")
"$BIN/backstay" -r "$repo" jobs --follow --json >"$dir/follow.json" 2>/dev/null &
follow_json_pid=$!
pids+=("$follow_json_pid")
put_noise "$dir/disk2" 0 $((24 << 20)) third
rate 1M
slow web3 "$dir/disk2"
job_of web3
screen_start 100x20 "$BIN/backstay" -r "$repo" jobs --follow
see 'JOB +KIND +VM +HOST +STATE +DONE +RATE +ETA' \
	" $job +backup +web3 +kvm01 +reading +[0-9]+ % .* [0-9]:" \
	'backup +web1 +kvm01 +done +web1@'
show "jobs --follow"
console watch "$job" >"$dir/watch.txt" 2>&1 &
watch_pid=$!
kill -KILL "$agent_pid"
agent_wait "$agent_pid"
wait "$watch_pid"
[ $? = 1 ] || fail "watch of a job that failed"
grep -q "web3 (kvm01) failed: " "$dir/watch.txt" ||
	fail "watch: $(cat "$dir/watch.txt")"
see "$job +backup +web3 +kvm01 +failed"
slow web3 "$dir/disk2"
job_of web3
console watch "$job" >"$dir/watch.txt" 2>&1 &
watch_pid=$!
console cancel "$job" >/dev/null || fail "cancel"
wait "$watch_pid"
[ $? = 1 ] || fail "watch of a job that was cancelled"
grep -q "web3 (kvm01) cancelled" "$dir/watch.txt" ||
	fail "watch: $(cat "$dir/watch.txt")"
agent_wait "$agent_pid"
ok "watch ends with 1 where the job does not end well"

wait "$days_pid" || fail "db1: $(cat "$dir/days.out")"
forget "$days_pid"

# --- a restore; and the daemon, gone and back

agent_start kvm01 "$dir/restore.out" restore -q web1@latest --disk \
	"vda=$dir/r.raw"
job_of web1
restore_moves() {
	is_running web1 && [ "$(json "$dir/jobs.json" "any(b['job'] == $job
		and b['phase'] == 'writing'
		and sum(l['out'] for l in b['traffic']) > 0 for b in j)")" = True ]
}
wait_for 20 restore_moves ||
	fail "the phase of a restore: $(cat "$dir/jobs.json")"
screen_start 80x24 "$BIN/backstay" -r "$repo" watch "$job"
see 'restore of web1' 'written +[0-9]' 'received +[0-9]'
kill_daemon
see 'ended with 1'
agent_wait "$agent_pid" && fail "the restore went on without a daemon"
wait_for 10 grep -q 'the daemon is not running\|closed' "$dir/follow.err" ||
	fail "jobs --follow does not say that the daemon is gone"
start_daemon
wait_for 10 grep -q 'the daemon is back' "$dir/follow.err" ||
	fail "jobs --follow does not come back"
backup kvm01 web1 --disk "vda=$dir/disk"
wait_for 10 grep -q 'backup of web1 (kvm01) done' "$dir/follow.txt" ||
	fail "jobs --follow: $(cat "$dir/follow.txt")"
wait_for 10 grep -q '"state":"done"' "$dir/follow.json" ||
	fail "jobs --follow --json: $(cat "$dir/follow.json")"
for what in 'web3 (kvm01): reading' 'web3 (kvm01) failed' \
	'web3 (kvm01) cancelled' 'restore of web1 (kvm01): writing'; do
	grep -q "^20[0-9T:-]*Z job [0-9]*: .*$what" "$dir/follow.txt" ||
		fail "jobs --follow has no \"$what\": $(cat "$dir/follow.txt")"
done
if sort "$dir/follow.txt" | uniq -d | has .; then
	fail "jobs --follow repeats itself: $(cat "$dir/follow.txt")"
fi
wait_for 10 grep -q '"state":"done"' "$dir/follow.json" ||
	fail "jobs --follow --json: $(cat "$dir/follow.json")"
kill "$follow_pid" "$follow_json_pid"
wait "$follow_pid" "$follow_json_pid" 2>/dev/null
"$PYTHON" -c 'import json, sys
states = {json.loads(l)["state"] for l in open(sys.argv[1])}
assert states >= {"running", "failed", "cancelled", "done"}, states' \
	"$dir/follow.json" || fail "jobs --follow --json: $(cat "$dir/follow.json")"
ok "jobs --follow tells each change once, and waits for a daemon that is gone"

# --- history

console history db1 --json >"$dir/history.json" || fail "history"
[ "$(json "$dir/history.json" "len(j), j[0]['full'], any(b['unusual'] for b in j),
	all(0 < b['new'] <= b['changed'] and b['stored'] < b['new'] for b in j[1:])")" = \
	"(10, True, False, True)" ] || fail "history: $(cat "$dir/history.json")"
put_noise "$dir/db" 0 $((28 << 20)) ransom
backup kvm02 db1 --disk "vda=$dir/db"
grep -q 'unusual: db1@.* of new data that does not compress, where .* are usual' \
	"$daemon_log" || fail "nobody is told"
console list db1 --json >"$dir/list.json"
[ "$(json "$dir/list.json" "[b.get('unusual') for b in j[-2:]]")" = \
	"[None, 'incompressible']" ] || fail "list: $(cat "$dir/list.json")"
console show db1@latest | has "^unusual  *incompressible" ||
	fail "show does not say it to people"
console show db1@latest --json | has '"unusual": "incompressible"' ||
	fail "show does not say it"
console history db1 >"$dir/history.txt" || fail "history"
if [ "$(grep -c '^! ' "$dir/history.txt")" != 2 ] ||
	! grep -q 'does not compress: as if encrypted' "$dir/history.txt"; then
	fail "history: $(cat "$dir/history.txt")"
fi
screen_start 80x24 "$BIN/backstay" -r "$repo" history db1
see 'TIME +TOOK +CHANGED +NEW +STORED' '^! .*█' 'ended with 0'
show history
expect_fail 1 "there is no backup of web9" console history web9
ok "history marks what looks like encryption, and not a day's work"
screen_stop
stop_daemon
check_store
ok "fsck finds nothing wrong"
