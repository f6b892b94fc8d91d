#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: what is set as a rate is moved, no more and no less, while it changes,
# both ways, of all, of a key and of a job; and jobs share it alike.
#
#   tests/e2e/260-bwlimit.sh
#   LONG=1: windows of 20 s, and 5 % of the bytes they may be off
. "$(dirname "$0")/lib.sh"
need ss

if [ -n "${LONG:-}" ]; then
	size=900 off=5 share=10 t=5
else
	# Other tests run beside this one.
	size=300 off=15 share=25 t=1
fi

# good JOBS: the figures in rates.json.  A machine that has no time moves less
# than it may, but nothing moves more.
good() {
	json "$dir/rates.json" "len(j['jobs']) == $1 and
		max(j['counted_off_percent'], j['wire_off_percent']) <= $off and
		(bool('$sanitized') or
		min(j['counted_off_percent'], j['wire_off_percent']) >= -$off and
		max(j['jobs'].values()) / min(j['jobs'].values()) <=
		1 + $share / 100)" | has True
}

# measure VM|all TARGET RATE:SECONDS...: within ${off} percent; of all: two jobs,
# which share within ${share} percent.  Others may use the machine: three tries.
measure() {
	local jobs=1 try

	[ "$1" != all ] || jobs=2
	for try in 1 2 3; do
		"$PYTHON" "$top/tests/e2e/rates.py" "$BIN/backstay" "$repo" \
			"$(cat "$repo/port")" "$@" >"$dir/rates.json" ||
			fail "rates.py $*"
		if good $jobs; then
			[ -z "${LONG:-}" ] || cat "$dir/rates.json"
			return
		fi
		echo "$*: try $try: $(tr -d '\n' <"$dir/rates.json")"
	done
	fail "the rate is not kept"
}

# moves VM MIB: its job has moved so much.
moves() {
	console jobs --json >"$dir/jobs.json" || fail jobs
	json "$dir/jobs.json" "any(i['vm'] == '$1' and i['state'] == 'running'
		and sum(t['in'] + t['out'] for t in i['traffic']) >= $2 << 20
		for i in j)" | has True
}

job_of() {
	console jobs --json >"$dir/jobs.json" || fail jobs
	json "$dir/jobs.json" "[i['job'] for i in j if i['vm'] == '$1'
		and i['state'] == 'running'][0]"
}

# in_force TEXT NOW FROM: of all agents.
in_force() {
	console set --json >"$dir/set.json" || fail set
	[ "$(json "$dir/set.json" "(j['bwlimit']['bwlimit'],
		j['bwlimit']['rate'], j['bwlimit']['from'])")" = \
		"('$1', $2, '$3')" ] || fail "not $*: $(cat "$dir/set.json")"
}

set_rate() { console set bwlimit "$@" >"$dir/set.out" || fail "set $*"; }

end_agents() {
	local it

	for it in "$@"; do
		kill -TERM "$it"
		agent_wait "$it"
	done
}

make_repo "$dir/repo"
echo '[daemon]' >"$repo/backstayd.conf"
echo 'bwlimit = 8M' >>"$repo/backstayd.conf"
start_daemon
enroll_agent one
enroll_agent four
truncate -s 0 "$dir/a" "$dir/b"
put_noise "$dir/a" 0 $((size << 20)) a
put_noise "$dir/b" 0 $((size << 20)) b
in_force 8M $((8 << 20)) settings

agent_start one "$dir/one" backup web1 --disk "vda=$dir/a" --lanes 1 \
	--compression 0 -q
one=$agent_pid
agent_start four "$dir/four" backup web2 --disk "vda=$dir/b" --lanes 6 \
	--compression 0 -q
four=$agent_pid
wait_for 20 moves web1 2 || fail "web1 does not move"
wait_for 20 moves web2 2 || fail "web2 does not move"
measure all all 8:$t 16:$t 4:$t 10:$t
ok "two backups keep a rate that is changed, and share it alike"

in_force 10M $((10 << 20)) set

# --- of a key, of a job

set_rate 0 --key four
set_rate 3M --key one
set_rate 12M
measure web1 "key one" 3:$t 6:$((2 * t)) 2:$t
measure web2 - 10:$((2 * t)) # which web1 leaves of 12
ok "a key is held to its own rate, and what it leaves is the others'"

set_rate settings --key one
set_rate 2M --job "$(job_of web2)"
measure web2 "job $(job_of web2)" 2:$t 5:$t
console status | has "^job $(job_of web2) .*5.0 MiB *5M *set" ||
	fail "status does not tell: $(console status)"
ok "so is a job"
end_agents "$one" "$four"

# --- the other way

set_rate 0
backup one web3 --disk "vda=$dir/a" --compression 0
set_rate 10M
agent_start one "$dir/one" restore web3@latest --disk "vda=$dir/r1.raw" \
	--lanes 1 -q
one=$agent_pid
agent_start one "$dir/two" restore web3@latest --disk "vda=$dir/r2.raw" \
	--lanes 4 -q
two=$agent_pid
wait_for 20 moves web3 4 || fail "no restore moves"
measure all all 10:$t 20:$t 6:$t
ok "restores likewise"

# The console's own: to no rate but its job's.
set_rate 64K
begin=$(now_ms)
console restore web3@latest --to "$dir/r3" >"$dir/out" 2>&1 ||
	fail "restore at the console: $(cat "$dir/out")"
[ $(($(now_ms) - begin)) -lt $((60000 * slower)) ] || fail "it was held back"
end_agents "$one" "$two"
ok "the console is not held to the rate of agents"

# --- what is set, and what is not

expect_fail 1 '"fast" is no rate' console set bwlimit fast
expect_fail 1 "is no rate" console set bwlimit "200M, 25:00-26:00 5M"
expect_fail 1 "cannot be set" console set jobs 5
expect_fail 1 "no key called nobody" console set bwlimit 5M --key nobody
expect_fail 1 "no job 1000 is running" console set bwlimit 5M --job 1000
expect_fail 2 "not both" console set bwlimit 5M --key one --job 1
enroll_agent admin --role admin
enroll_agent other
set_rate "200M, Mon-Fri 08:00-18:00 50M"
console set --json >"$dir/set.json" || fail set
[ "$(json "$dir/set.json" "j['bwlimit']['bwlimit']")" = \
	"200M, Mon-Fri 08:00-18:00 50M" ] || fail "$(cat "$dir/set.json")"
set_rate settings
in_force 8M $((8 << 20)) settings
console audit >"$dir/audit" || fail audit
grep -q ' set .*bwlimit.*value.*5M' "$dir/audit" || fail "$(cat "$dir/audit")"
set_rate 5M
stop_daemon
start_daemon
in_force 8M $((8 << 20)) settings
ok "nonsense is refused; what is set is noted, and ends with the daemon"

# --- by the hour, which a test's clock passes

stop_daemon
use_clock
hour=$(date +%H)
cat >"$repo/backstayd.conf" <<END
[daemon]
bwlimit = 1M, $hour:00-$(printf %02d $((10#$hour + 1))):00 2M
END
start_daemon
in_force "1M, $hour:00-$(printf %02d $((10#$hour + 1))):00 2M" $((2 << 20)) settings
pass 3600
after() {
	console set --json >"$dir/set.json" &&
		json "$dir/set.json" "j['bwlimit']['rate'] == 1 << 20" |
		has True
}
wait_for 10 after || fail "the hour is over, and the rate is the same"
stop_daemon
ok "a rate that depends on the hour changes with it"
