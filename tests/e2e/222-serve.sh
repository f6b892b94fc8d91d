#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: an agent that stays connected: it tells what its host has, does what the
# console asks for in processes of its own, at most so many at a time, tells why
# something failed, finds the daemon again by itself, reads its settings anew,
# and leaves no process behind, however it ends.
#
#   tests/e2e/222-serve.sh
. "$(dirname "$0")/lib.sh"

make_repo "$dir/repo"
start_daemon
enroll_agent kvm01
conf=$dir/agent-kvm01/agent.conf
mkdisk "$dir/web1.img" 24 web1
mkdisk "$dir/web2.img" 24 web2
mkdisk "$dir/web3.img" 24 web3

# write_conf LINE...: [agent] with these, and the machines.
write_conf() {
	{
		echo "[agent]"
		echo "repo = $url"
		echo "scan = 1s"
		echo "verbose = yes"
		printf '%s\n' "$@"
		for vm in web1 web2 web3; do
			printf '[vm %s]\ndisk = vda=%s\n' "$vm" "$dir/$vm.img"
		done
		printf '[vm bad]\ndisk = vda=%s\n' "$dir/no-such.img"
	} >"$conf.new"
	mv "$conf.new" "$conf"
}

# start_serve: as ${agent_pid}; its log is ${log}.
nserves=0
start_serve() {
	nserves=$((nserves + 1))
	log=$dir/serve.$nserves.err
	agent_start kvm01 "$dir/serve.$nserves" serve
}
stop_serve() {
	kill -TERM "$agent_pid"
	wait_for 12 gone "$agent_pid" || fail "serve does not end: $(cat "$log")"
	wait "$agent_pid" 2>/dev/null || fail "serve ended with $?: $(cat "$log")"
	forget "$agent_pid"
}
says() { grep -q -e "$1" "$log"; }
agents() { console agents --json >"$dir/agents.json" 2>/dev/null; }
connected() {
	agents && [ "$(json "$dir/agents.json" \
		"any(g['connected'] for g in j)")" = True ]
}
lost() { ! connected; }
vms() {
	agents && json "$dir/agents.json" \
		"' '.join(v['vm'] for g in j for v in g['vms'])"
}
has_vms() { [ "$(vms)" = "$1" ]; }
state_of() {
	console jobs --json >"$dir/jobs.json" 2>/dev/null
	json "$dir/jobs.json" \
		"[x['state'] for x in j if x['job'] == $1][:1] or ['none']" |
		tr -d "[]'"
}
is_state() { [ "$(state_of "$1")" = "$2" ]; }
nstate() {
	console jobs --json >"$dir/jobs.json" 2>/dev/null
	json "$dir/jobs.json" \
		"sum(x['state'] == '$1' for x in j)"
}
# Of its main thread, which starts them.
children() { tr ' ' '\n' <"/proc/$1/task/$1/children" | grep .; }
nchildren() { children "$1" 2>/dev/null | wc -l; }
no_children() { [ "$(nchildren "$1")" = 0 ]; }
has_children() { [ "$(nchildren "$1")" -ge "${2:-1}" ]; }

# --- settings

printf '[agent]\nrepo = %s\njobs-per-hots = 2\nlanes = 0\n[vm web1]\nram = maybe\n' \
	"$url" >"$conf"
expect_code() {
	local code=$1 status

	shift
	"$@" >"$dir/out" 2>"$dir/err"
	status=$?
	[ $status = "$code" ] || fail "$*: $status, not $code: $(cat "$dir/err")"
}
expect_code 1 agent kvm01 serve -t
grep -q "agent.conf:3: .*jobs-per-hots.*is it jobs-per-host" "$dir/err" ||
	fail "an unknown key: $(cat "$dir/err")"
grep -q "agent.conf:4: lanes takes a number from 1 to 64" "$dir/err" ||
	fail "a bad value: $(cat "$dir/err")"
[ "$(wc -l <"$dir/err")" -ge 4 ] || fail "not all faults: $(cat "$dir/err")"
expect_code 1 agent kvm01 serve
write_conf
expect_code 0 agent kvm01 serve -t
ok "faults in settings stop the start, each with its line"

# --- connect, list, back up

start_serve
wait_for 20 connected || fail "not connected: $(cat "$log")"
has_vms "bad web1 web2 web3" || fail "it offers $(vms)"
ok "a host is connected and tells its machines"

expect_code 0 console backup web1 --wait -q
[ "$(nbackups web1)" = 1 ] || fail "no backup of web1"
ok "the console queues a backup, the host does it"

expect_code 1 console backup bad --wait -q
grep -q "no-such.img" "$dir/err" ||
	fail "the console does not say why: $(cat "$dir/err")"
ok "the console says why a backup failed"

# --- settings read again; so many at a time

write_conf "jobs-per-host = 2" "bwlimit = 2M" "lanes = 1" "compression = 0"
kill -HUP "$agent_pid"
wait_for 20 says "bwlimit: 0 -> 2M" || fail "not read again: $(cat "$log")"
for vm in web2 web3 web1; do
	put_noise "$dir/$vm.img" 1048576 8388608 "new.$vm"
done
a=$(console backup web2)
console backup web3 >"$dir/out"
c=$(console backup web1)
wait_for 15 has_children "$agent_pid" 2 || fail "no two at once: $(cat "$log")"
[ "$(nchildren "$agent_pid")" = 2 ] || fail "$(nchildren "$agent_pid") at once"
is_state "$c" queued || fail "job $c is $(state_of "$c"), and not queued"
ok "two jobs run at once, as jobs-per-host says, and the third waits"

expect_code 0 console cancel "$a"
wait_for 20 is_state "$a" cancelled || fail "job $a is $(state_of "$a")"
wait_for 20 is_state "$c" running || fail "the third does not run: $(cat "$log")"
[ "$(nchildren "$agent_pid")" -le 2 ] || fail "too many at once"
ok "a cancelled job ends its process, and the next one begins"

# --- the daemon is killed

kill_daemon
start_daemon
wait_for 20 connected || fail "the host does not come back: $(cat "$log")"
wait_for 20 no_children "$agent_pid" || fail "processes are left"
write_conf
kill -HUP "$agent_pid"
wait_for 20 says "bwlimit: 2M -> 0" || fail "not read again: $(cat "$log")"
expect_code 0 console backup web3 --wait -q
ok "the daemon is killed: the host finds the new one by itself"

# --- new machines

printf '[vm web4]\ndisk = vda=%s\n' "$dir/web1.img" >>"$conf"
kill -HUP "$agent_pid"
wait_for 15 has_vms "bad web1 web2 web3 web4" || fail "it offers $(vms)"
ok "new machines are told without a restart"

# --- the agent is stopped, and killed

write_conf "jobs-per-host = 2" "bwlimit = 1M" "lanes = 1" "compression = 0"
kill -HUP "$agent_pid"
wait_for 20 says "bwlimit: 0 -> 1M" || fail "not read again: $(cat "$log")"
put_noise "$dir/web1.img" 1048576 8388608 again
a=$(console backup web1)
wait_for 20 is_state "$a" running || fail "job $a is $(state_of "$a")"
child=$(children "$agent_pid")
stop_serve
gone "$child" || fail "process $child outlives serve"
wait_for 20 lost || fail "it is connected yet"
not_running() { ! is_state "$a" running; }
wait_for 20 not_running || fail "job $a runs yet"
ok "SIGTERM ends the jobs, and then the agent"

start_serve
wait_for 20 connected || fail "not connected: $(cat "$log")"
a=$(console backup web1)
wait_for 20 is_state "$a" running || fail "job $a is $(state_of "$a")"
child=$(children "$agent_pid")
[ -n "$child" ] || fail "no process does job $a"
kill -9 "$agent_pid"
wait "$agent_pid" 2>/dev/null || :
forget "$agent_pid"
wait_for 20 gone "$child" || fail "process $child lives on without its agent"
wait_for 20 not_running || fail "job $a runs yet"
ok "kill -9 of the agent ends its processes, too"

# --- a daemon that is not there; another that cannot be trusted

stop_daemon
start_serve
wait_for 20 says "not connected: " || fail "it does not say so: $(cat "$log")"
start_daemon
wait_for 20 connected || fail "it does not connect: $(cat "$log")"
stop_serve
[ "$(grep -c "not connected: " "$log")" = 1 ] ||
	fail "it says so again and again: $(cat "$log")"
ok "an agent that starts before its daemon waits for it"

for f in "$dir"/serve.*.err; do
	if grep -E -A 30 'Sanitizer|runtime error|Assertion' "$f" >&2; then
		fail "$f has the above"
	fi
done
stop_daemon
check_store
ok "the store is sound"
