#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: the daemon's side of connected agents.  Jobs wait in a queue and say why;
# they go to the host where the VM runs, so many at a time; a job keeps its
# number, and its agent's process alone can begin it; any job can be cancelled;
# what a lost agent had in hand is done all the same; deletes never wait.
#
#   tests/e2e/220-agents.sh
. "$(dirname "$0")/lib.sh"

make_repo "$dir/repo"
printf '[daemon]\njobs = 3\n' >"$repo/backstayd.conf"
start_daemon
enroll_agent kvm01
enroll_agent kvm02 --vm 'web*'
enroll_agent kvm03 --role restore
for vm in web1 web2 web3 db1; do
	mkdisk "$dir/$vm.img" 8 $vm
done

# serve_conf NAME JOBS RATE VM...
serve_conf() {
	local name=$1 jobs=$2 rate=$3 vm

	shift 3
	{
		printf '[agent]\nrepo = %s\nscan = 1s\njobs-per-host = %s\n' \
			"$url" "$jobs"
		printf 'bwlimit = %s\nlanes = 1\ncompression = 0\n' "$rate"
		for vm; do
			printf '[vm %s]\ndisk = vda=%s\n' "$vm" "$dir/$vm.img"
		done
	} >"$dir/agent-$name/agent.conf"
}
declare -A served=()
serve() {
	agent_start "$1" "$dir/$1.log" serve
	served[$1]=$agent_pid
	wait_for 20 connected "$1" ||
		fail "$1 is not connected: $(cat "$dir/$1.log.err")"
}
connected() {
	console agents --json >"$dir/agents.json" 2>"$dir/agents.err" &&
		[ "$(json "$dir/agents.json" "[g['connected'] for g in j \
			if g['agent'] == '$1']")" = "[True]" ]
}
lost() { ! connected "$1"; }
stop_serve() {
	kill "-${2:-TERM}" "${served[$1]}"
	wait_for 15 gone "${served[$1]}" || fail "$1 does not end"
	wait "${served[$1]}" 2>/dev/null
	forget "${served[$1]}"
}
# of JOB MEMBER
of() {
	console jobs --json >"$dir/jobs.json" 2>"$dir/jobs.err" ||
		fail "jobs: $(cat "$dir/jobs.err")"
	json "$dir/jobs.json" "' '.join(str(x['$2']) for x in j \
		if x['job'] == $1)"
}
is() { [ "$(of "$1" "$2")" = "$3" ]; }
must() {
	wait_for "${4:-20}" is "$1" "$2" "$3" ||
		fail "job $1: $2 is \"$(of "$1" "$2")\", not \"$3\""
}

# --- who takes what; why one waits

expect_fail 1 "no connected agent has web1; see .backstay agents" \
	console backup web1
expect_fail 1 "there is no key named kvm99" console backup web1 --host kvm99
early=$(console backup web3 --later)
is "$early" text "no connected agent has web3" || fail "$(of "$early" text)"
serve_conf kvm01 2 0 web1 web2 db1
serve_conf kvm02 4 0 web3 db1
serve kvm01
expect_fail 1 "kvm02 is not connected" console backup web3 --host kvm02
serve kvm02
must "$early" state "done"
is "$early" host kvm02 || fail "it was done by $(of "$early" host)"
json "$dir/agents.json" "[(g['agent'], [v['vm'] for v in g['vms']], \
	g['hidden']) for g in j]" >"$dir/told"
grep -qF "[('kvm01', ['db1', 'web1', 'web2'], 0), ('kvm02', ['web3'], 1)]" \
	"$dir/told" || fail "the agents have $(cat "$dir/told")"
name=$(console backup db1 --wait -q) || fail "no backup of db1"
[[ $name == db1@20* ]] || fail "the backup is called \"$name\""
[ "$(nbackups db1)" = 1 ] || fail "db1 has $(nbackups db1) backups"
ok "a job goes to the host that has the VM, or waits for one and says so"

# --- so many at a time; one a VM; in order; deletes do not wait

serve_conf kvm01 2 256K web1 web2 db1
serve_conf kvm02 4 256K web3
kill -HUP "${served[kvm01]}" "${served[kvm02]}"
for vm in web1 web2 web3 db1; do
	put_noise "$dir/$vm.img" 0 3145728 "more.$vm"
done
a=$(console backup web1 --full)
b=$(console backup web1)
c=$(console backup web2 --full)
d=$(console backup db1 --full)
e=$(console backup web3 --full)
for job in $a $c $e; do
	must "$job" state running
done
is "$b" text "waits for job $a" || fail "$(of "$b" text)"
is "$d" text "waits for a place on kvm01 (2 of 2)" || fail "$(of "$d" text)"
console jobs | has "^ *$d  backup  db1 .* queued .*waits for a place" ||
	fail "jobs: $(console jobs)"
console delete "db1@latest" >"$dir/out" 2>&1 || fail "delete: $(cat "$dir/out")"
is "$d" state queued || fail "the delete has waited"
ok "jobs_per_host, one job a VM, and a delete that waits for none of them"

# --- cancel: one that waits, one that runs, one that is not the queue's

console cancel "$d" >/dev/null || fail "cancel $d"
is "$d" state cancelled || fail "$(of "$d" state)"
console cancel "$a" >/dev/null || fail "cancel $a"
is "$a" state cancelled || fail "$(of "$a" state)"
is "$a" text "cancelled by uid $(id -u)" || fail "$(of "$a" text)"
expect_fail 1 "job $a has ended already: cancelled" console cancel "$a"
expect_fail 1 "there is no job 4711" console cancel 4711
must "$b" state running
agent_start kvm01 "$dir/hand" backup --bwlimit 256K --lanes 1 \
	--compression 0 hand --disk "vda=$dir/db1.img"
hand=$agent_pid
by_hand() {
	console jobs --json >"$dir/jobs.json"
	job=$(json "$dir/jobs.json" "''.join(str(x['job']) for x in j \
		if x['vm'] == 'hand' and x['state'] == 'running')")
	[ -n "$job" ]
}
wait_for 20 by_hand || fail "no backup by hand: $(cat "$dir/hand.err")"
console cancel "$job" >/dev/null || fail "cancel $job"
agent_wait "$hand" && fail "the backup by hand went on"
grep -q "cancelled by uid" "$dir/hand.err" ||
	fail "it does not say why it ended: $(cat "$dir/hand.err")"
for job in $b $c $e; do
	console cancel "$job" >/dev/null || fail "cancel $job"
done
console audit --json >"$dir/audit.json" || fail "audit"
[ "$(json "$dir/audit.json" "sum(x['op'] == 'cancel' and \
	x['outcome'] == 'done' for x in j)")" = 6 ] ||
	fail "the audit log has not all that was cancelled"
[ "$(json "$dir/audit.json" "len([x for x in j if x['op'] == 'backup' \
	and x['what'].get('job') == $b])")" = 1 ] ||
	fail "the audit log does not say who wanted job $b"
ok "any job can be cancelled, by whom is noted, and its process ends"

# --- a lane that does as it should not

stop_serve kvm01
stop_serve kvm02
port=${url##*:}
speakers=0
# speak NAME: a lane of that key, as ${to}, ${from} and ${speaker}.
speak() {
	local pipe=$dir/speaker.$((++speakers))

	mkfifo "$pipe.in" "$pipe.out"
	"$PYTHON" "$top/tests/e2e/speaker.py" ssh "$port" \
		"$dir/agent-$1/id_ed25519" <"$pipe.in" >"$pipe.out" &
	speaker=$!
	pids+=("$speaker")
	exec {to}>"$pipe.in" {from}<"$pipe.out"
	read -r -t 30 answer <&"$from" || fail "speaker of $1: no hello"
}
hush() {
	exec {to}>&- {from}<&-
	kill "$speaker"
	wait_for 10 gone "$speaker" || fail "the speaker does not end"
	forget "$speaker"
}
say() {
	echo "$1" >&"$to"
	read -r -t 60 answer <&"$from" || fail "no answer to $1"
}
gets() {
	say "$1"
	echo "$answer" | has -E -- "$2" ||
		fail "$1: $answer, not \"$2\""
}
member() { json <(echo "$answer") "j['$1']"; }
web1='"host":"h1","version":"1","jobs":1,"vms":[{"vm":"web1","state":"running"}]'

speak kvm01
gets '{"op":"next"}' "say serve first"
gets '{"op":"serve"}' 'host'
gets "{\"op\":\"serve\",$web1}" '^{}$'
gets '{"op":"list"}' "this lane serves"
job=$(console backup web1)
gets '{"op":"next","wait":10000,"running":[]}' "\"job\": $job,"
task=$(member task)
is "$job" text "handed to kvm01" || fail "$(of "$job" text)"
begin='"vm":"web1","volumes":[{"name":"vda","kind":"disk","size":65536,"format":"raw","cluster_size":0}]'
# By another key, for another VM, as another kind: not.
serving=("$to" "$from" "$speaker")
speak kvm02
gets "{\"op\":\"prepare\",\"vm\":\"web1\",\"task\":\"$task\"}" \
	"key kvm02 has no such task"
hush
speak kvm01
gets "{\"op\":\"prepare\",\"vm\":\"web2\",\"task\":\"$task\"}" \
	"the task is a backup of web1, not a backup of web2"
gets "{\"op\":\"begin\",$begin,\"task\":\"00$task\"}" '"error"'
gets "{\"op\":\"begin\",$begin,\"task\":\"$task\"}" "\"job\": $job,"
is "$job" state running || fail "$(of "$job" state)"
gets "{\"op\":\"finish\",\"ok\":false,\"text\":\"enough\"}" '^{}$'
must "$job" text enough
gets "{\"op\":\"begin\",$begin,\"task\":\"$task\"}" "job $job has ended"
hush
to=${serving[0]} from=${serving[1]} speaker=${serving[2]}
gets "{\"op\":\"ended\",\"task\":\"$task\",\"ok\":false,\"text\":\"x\"}" '^{}$'
is "$job" text enough || fail "the agent's word counted: $(of "$job" text)"
ok "a task is worth something for its key, VM and kind alone, and once"

# --- an agent that is lost; two hosts with one key

job=$(console backup web1)
gets '{"op":"next","wait":10000,"running":[]}' "\"job\": $job,"
task=$(member task)
serving=("$to" "$from" "$speaker")
speak kvm01
gets "{\"op\":\"serve\",\"host\":\"h2\",\"vms\":[{\"vm\":\"web1\"}],\"running\":[\"$task\"]}" \
	'^{}$'
grep -q "agent kvm01: host h2 .* takes over from host h1 .*one key?" \
	"$daemon_log" || fail "nothing is said of two hosts with one key"
new=("$to" "$from" "$speaker")
to=${serving[0]} from=${serving[1]} speaker=${serving[2]}
gets '{"op":"next","wait":10000}' "another connection of key kvm01 serves now"
hush
to=${new[0]} from=${new[1]} speaker=${new[2]}
# It has the task still; and then not any more.
gets "{\"op\":\"next\",\"wait\":1,\"running\":[\"$task\"]}" '^{}$'
gets '{"op":"next","wait":10000,"running":[]}' "\"job\": $job,"
[ "$(member task)" != "$task" ] || fail "the task is the same"
hush
wait_for 10 lost kvm01 || fail "kvm01 is connected yet"
serve_conf kvm01 1 0 web1
serve kvm01
must "$job" state "done"
ok "what a lost agent had in hand is handed over again, and done"

# --- a key that may only restore

speak kvm03
gets '{"op":"serve","host":"h3","vms":[{"vm":"web1","state":"running"}]}' '^{}$'
job=$(console backup web1 --wait -q --json >"$dir/out" &&
	json "$dir/out" "j['host']")
[ "$job" = kvm01 ] || fail "the backup was made by $job"
expect_fail 1 "the key kvm03 has not the role backup" \
	console backup web1 --host kvm03
hush
ok "backups go to keys that may make them"

# --- stop

stop_serve kvm01
job=$(console backup web1 --later)
stop_daemon
grep -q "job $job: backup of web1 failed before it began: the daemon is stop" \
	"$daemon_log" || fail "nothing is said of what waited"
check_store
ok "a stop ends what waits, and the store is sound"
