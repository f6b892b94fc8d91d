#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: an admin's key with patterns of VMs learns nothing of other VMs and
# changes nothing of theirs, by whatever call; what is the whole daemon's is
# left to keys without patterns.
#
#   tests/e2e/212-patterns.sh
. "$(dirname "$0")/lib.sh"

make_repo "$dir/repo"
cat >"$repo/backstayd.conf" <<'END'
[vm *]
schedule = *-*-1 02:00 UTC
END
start_daemon
enroll_agent kvm01
enroll_agent web --role admin --vm 'web*'
enroll_agent all --role admin
for vm in web1 web2 db1 db2; do
	mkdisk "$dir/$vm.img" 8 $vm
done
backup kvm01 web1 --disk "vda=$dir/web1.img"
backup kvm01 web2 --disk "vda=$dir/web2.img"
backup kvm01 db1 --disk "vda=$dir/db1.img"
cat >"$dir/agent-kvm01/agent.conf" <<END
[agent]
repo = $url
scan = 1s
jobs-per-host = 2
bwlimit = 64K
lanes = 1
compression = 0
[vm web1]
disk = vda=$dir/web1.img
[vm db1]
disk = vda=$dir/db1.img
[vm web2]
disk = vda=$dir/web2.img
[vm db2]
disk = vda=$dir/db2.img
END
agent_start kvm01 "$dir/serve.log" serve
serving=$agent_pid
connected() { console agents 2>/dev/null | has db2; }
wait_for 20 connected || fail "kvm01 is not connected: $(cat "$dir/serve.log.err")"
for vm in web1 db1; do
	put_noise "$dir/$vm.img" 0 3145728 "more.$vm"
done
db=$(console backup db1 --full) || fail "backup db1"
web=$(console backup web1 --full) || fail "backup web1"
dbwaits=$(console backup db2) || fail "backup db2"
webwaits=$(console backup web2) || fail "backup web2"
state() {
	console jobs --json >"$dir/jobs.json" 2>"$dir/jobs.err" ||
		fail "jobs: $(cat "$dir/jobs.err")"
	json "$dir/jobs.json" "''.join(x['state'] for x in j if x['job'] == $1)"
}
is() { [ "$(state "$1")" = "$2" ]; }
wait_for 20 is "$db" running || fail "job $db: $(state "$db")"
wait_for 20 is "$web" running || fail "job $web: $(state "$web")"
is "$dbwaits" queued || fail "job $dbwaits: $(state "$dbwaits")"

# asks NAME CALL: by a lane of that key; the answer is in answer.json.
asks() {
	echo "$2" | bounded "$PYTHON" "$top/tests/e2e/speaker.py" ssh \
		"${url##*:}" "$dir/agent-$1/id_ed25519" 2>"$dir/speaker.err" |
		tail -n 1 >"$dir/answer.json"
	[ -s "$dir/answer.json" ] || fail "$2: $(cat "$dir/speaker.err")"
}
# gets NAME CALL EXPRESSION: of python, over the answer j.
gets() {
	asks "$1" "$2"
	[ "$(json "$dir/answer.json" "$3")" = True ] ||
		fail "$1: $2: not $3: $(cat "$dir/answer.json")"
}
noent=2 denied=7

# --- jobs

gets all '{"op":"jobs"}' \
	"{'web1', 'db1', 'web2', 'db2'} == {x['vm'] for x in j['jobs']}"
gets web '{"op":"jobs"}' "{'web1', 'web2'} == {x['vm'] for x in j['jobs']} \
	and {$web, $webwaits} <= {x['job'] for x in j['jobs']}"
gets web "{\"op\":\"jobs\",\"job\":$web}" "j['jobs'][0]['vm'] == 'web1'"
for job in $db $dbwaits; do
	gets web "{\"op\":\"jobs\",\"job\":$job}" "j['error'] == $noent and \
		j['text'] == 'there is no job $job, or it ended long ago'"
	gets web "{\"op\":\"cancel\",\"job\":$job}" "j['error'] == $noent and \
		j['text'] == 'there is no job $job, or it ended long ago'"
done
is "$db" running || fail "job $db: $(state "$db")"
is "$dbwaits" queued || fail "job $dbwaits: $(state "$dbwaits")"
gets web "{\"op\":\"cancel\",\"job\":$webwaits}" \
	"j['state']['state'] == 'cancelled'"
gets web "{\"op\":\"cancel\",\"job\":999999}" "j['error'] == $noent and \
	j['text'] == 'there is no job 999999, or it ended long ago'"
ok "jobs and cancel know those of VMs that the key sees"

# --- rates

rate='"op":"set","key":"bwlimit","value":"5M"'
gets web "{$rate,\"job\":$db}" "j['error'] == $noent and \
	j['text'] == 'no job $db is running'"
gets web "{$rate}" "j['error'] == $denied and 'without patterns' in j['text']"
gets web "{$rate,\"key_name\":\"kvm01\"}" "j['error'] == $denied"
gets web "{$rate,\"key_name\":\"nobody\"}" "j['error'] == $denied"
gets web "{$rate,\"key_name\":\"web\"}" \
	"[k['key'] for k in j['bwlimit']['keys']] == ['web']"
gets web "{$rate,\"job\":$web}" \
	"[x['job'] for x in j['bwlimit']['jobs']] == [$web]"
gets web '{"op":"status"}' \
	"[x['job'] for x in j['bwlimit']['jobs']] == [$web]"
gets all '{"op":"set"}' "j['bwlimit']['from'] == 'settings' and \
	{k['key']: k['from'] for k in j['bwlimit']['keys']} == \
	{'kvm01': 'settings', 'web': 'set'} and \
	{x['job']: x['from'] for x in j['bwlimit']['jobs']} == \
	{$db: 'settings', $web: 'set'}"
gets all "{$rate,\"key_name\":\"kvm01\"}" "'bwlimit' in j"
ok "set changes jobs that the key sees and its own rate, and no other"

# --- agents, schedules

vms="sorted(v['vm'] for g in j['agents'] for v in g['vms'])"
tasks="sorted(t['vm'] for g in j['agents'] for t in g['running'])"
gets all '{"op":"agents"}' "$vms == ['db1', 'db2', 'web1', 'web2']"
gets web '{"op":"agents"}' "$vms == ['web1', 'web2'] and \
	'db' not in ''.join($tasks)"
vms="{v['vm'] for v in j['vms']}"
scheduled() {
	asks all '{"op":"schedule"}'
	[ "$(json "$dir/answer.json" "$vms == {'db1', 'db2', 'web1', 'web2'}")" = True ]
}
wait_for 20 scheduled || fail "schedule: $(cat "$dir/answer.json")"
gets web '{"op":"schedule"}' "$vms == {'web1', 'web2'}"
gets web '{"op":"schedule","vm":"db1"}' "j['error'] == $noent"
gets web '{"op":"status"}' "j['schedule']['vms'] == 2"
ok "agents and schedule have only VMs that the key sees"

console cancel "$db" >"$dir/out" 2>&1 || fail "cancel $db: $(cat "$dir/out")"
wait_for 20 is "$db" cancelled || fail "job $db: $(state "$db")"
for job in $web $dbwaits; do
	console cancel "$job" >"$dir/out" 2>&1
done
kill "$serving"
agent_wait "$serving"

# --- verify and damage

gets web '{"op":"verify","backups":["db1@latest"]}' "j['error'] == $noent"
gets web '{"op":"verify"}' "j['backups'] == 2"
own=$(json "$dir/answer.json" "j['job']")
ended() {
	asks "$1" "{\"op\":\"verified\",\"job\":$2}"
	[ "$(json "$dir/answer.json" "j.get('ended')")" = True ]
}
wait_for 30 ended web "$own" || fail "verified: $(cat "$dir/answer.json")"
# Of a disk that one VM alone has: what is stored once is damaged for all.
spoil_slice "$dir/web2.img" 0
mkdisk "$dir/db3.img" 8 db3
backup kvm01 db3 --disk "vda=$dir/db3.img"
spoil_slice "$dir/db3.img" 0
gets all '{"op":"verify"}' "j['backups'] == 4"
other=$(json "$dir/answer.json" "j['job']")
wait_for 30 ended all "$other" || fail "verified: $(cat "$dir/answer.json")"
[ "$(json "$dir/answer.json" "sorted({x['backup'].split('@')[0] for x in \
	j['damaged']}) == ['db3', 'web2']")" = True ] ||
	fail "verified: $(cat "$dir/answer.json")"
gets web "{\"op\":\"verified\",\"job\":$other}" "j['error'] == $noent"
gets web "{\"op\":\"jobs\",\"job\":$other}" "j['error'] == $noent"
gets web "{\"op\":\"jobs\"}" \
	"[x['job'] for x in j['jobs'] if x['kind'] == 'verify'] == [$own]"
gets all "{\"op\":\"jobs\",\"job\":$other}" "j['jobs'][0]['kind'] == 'verify'"
hit="{x['backup'].split('@')[0] for x in j['damage']['hit']}"
gets all '{"op":"damage"}' "$hit == {'db3', 'web2'}"
for op in damage status scrub; do
	gets web "{\"op\":\"$op\"}" "$hit == {'web2'}"
done
ok "verify reads what the key sees, and damage names nothing else"

# One that reads what the key sees, and writes what it does not.
gets kvm01 '{"op":"restore","backup":"web1@latest","onto":"db1"}' "'job' in j"
across=$(json "$dir/answer.json" "j['job']")
gets all "{\"op\":\"jobs\",\"job\":$across}" \
	"(j['jobs'][0]['vm'], j['jobs'][0]['other']) == ('web1', 'db1')"
gets web "{\"op\":\"jobs\",\"job\":$across}" "j['error'] == $noent"
gets kvm01 '{"op":"restore","backup":"web1@latest","onto":"web2"}' "'job' in j"
across=$(json "$dir/answer.json" "j['job']")
gets web "{\"op\":\"jobs\",\"job\":$across}" "j['jobs'][0]['vm'] == 'web1'"
ok "a restore from one VM to another is seen by who sees both"

# --- what is the whole daemon's

gets web '{"op":"protect","mend":true}' "j['error'] == $denied"
gets web '{"op":"protect","backup":"db1@latest"}' "j['error'] == $noent"
gets web '{"op":"protect","backup":"web1@latest"}' "'protected' in j"
gets web '{"op":"notify"}' "j['error'] == $denied"
gets all '{"op":"notify"}' "'hook' in j"
gets web '{"op":"gc","action":"status"}' "'reclaim' in j"
gets web '{"op":"backup","vm":"db1","later":true}' "j['error'] == $denied"
gets web '{"op":"list"}' \
	"{x['vm'] for x in j['backups']} == {'web1', 'web2'}"
ok "what names all VMs is not for a key that sees some"
stop_daemon
