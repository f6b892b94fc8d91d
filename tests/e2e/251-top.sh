#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: `top` shows all that goes on on one screen, of any size, takes keys,
# outlives the daemon, and says what to use where there is no such terminal.
#
#   tests/e2e/251-top.sh
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/screen.sh"

is_state() {
	console jobs --json >"$dir/jobs.json" || fail "jobs"
	[ "$(json "$dir/jobs.json" "any(b['vm'] == '$1' and
		b['state'] == '$2' for b in j)")" = True ]
}

make_repo "$dir/repo"
start_daemon
enroll_agent kvm01
enroll_agent kvm02
mkdisk "$dir/disk1" 64 one
mkdisk "$dir/disk2" 64 two

expect_fail 1 'needs a terminal .*jobs --follow' console top
SCREEN_TERM=dumb screen_start 80x24 "$BIN/backstay" -r "$repo" top
see 'top needs a terminal with a cursor .TERM is "dumb"' 'jobs --follow' \
	'ended with 1'
SCREEN_TERM=no-such-terminal screen_start 80x24 "$BIN/backstay" -r "$repo" top
see 'top needs a terminal' 'ended with 1'
screen_start 80x24 "$BIN/backstay" -r "$dir/none" top
see 'the daemon is not running' 'ended with 1'
ok "without a terminal that can do it, top says what does"

printf '[agent]\nrepo = %s\n[vm web1]\ndisk = vda=%s\n' "$url" "$dir/disk1" \
	>"$dir/agent-kvm02/agent.conf"
agent_start kvm02 "$dir/serve" serve
agent_start kvm01 "$dir/out1" backup -q web1 --disk "vda=$dir/disk1" --bwlimit 1M
pid1=$agent_pid
agent_start kvm02 "$dir/out2" backup -q acme/mail --disk "vda=$dir/disk2" \
	--bwlimit 1M
pid2=$agent_pid
wait_for 20 is_state web1 running || fail "web1 does not run"
wait_for 20 is_state acme/mail running || fail "acme/mail does not run"
screen_start 80x24 "$BIN/backstay" -r "$repo" top
see "^ backstay  .* 1 agent  2 running  0 queued" 'store .* free' 'reclaim +idle' \
	'scrub +idle' 'wire +[0-9.]+ [KM]iB/s .*(▁|▄|█)' 'JOB +KIND +VM' \
	'backup +web1 +kvm01 +reading +[0-9]+ %' \
	'backup +acme/mail +kvm02 +reading' 'AGENT +VMS +JOBS +STATE' \
	'kvm02 +1 +0 of [0-9]+ +connected' 'q quit'
show top
[ "$(screen_text | wc -L)" -le 80 ] || fail "too wide"
screen_size 132x40
see 'reading +█*░+ +[0-9]+ %' 'peak [0-9.]+ MiB/s'
show "top, larger"
screen_size 60x12
see 'backup +web1' 'JOB +KIND'
screen_size 30x6
see 'too small'
screen_size 80x24
see 'q quit' 'backup +web1'
ok "top shows store, upkeep, graph and jobs, and follows the terminal's size"

screen_keys '?'
see 'Any key goes back' 'pause giving space back'
screen_keys x
see_not 'Any key goes back'
screen_keys p
see 'no space is given back until p' 'reclaim +paused' '! no space is given back'
screen_keys p
see 'space is given back again' 'reclaim +idle'
ok "p pauses and resumes giving space back"

screen_keys L
see 'limit of all jobs together'
screen_keys 40Q Enter
see '"40Q" is no rate'
screen_keys L
screen_keys 40X BSpace M Enter
see 'the limit is 40M now'
console set --json >"$dir/set.json" || fail "set"
[ "$(json "$dir/set.json" "j['bwlimit']['rate']")" = 41943040 ] ||
	fail "L sets nothing: $(cat "$dir/set.json")"
screen_keys l
see 'limit of job [12]'
screen_keys 30M Escape
see_not 'limit of job'
ok "L and l limit rates"

# The one that is not at the top, so that the arrow counts.
at_top=$(screen_text | grep -E -A 1 'JOB +KIND' | tail -n 1)
vm=web1 pid=$pid1
case $at_top in *web1*) vm=acme/mail pid=$pid2 ;; esac
screen_keys Down
screen_keys c
see 'cancel job [0-9]+\?'
screen_keys n
see_not 'cancel job'
is_state "$vm" running || fail "$vm was cancelled without a yes"
screen_keys c
see 'cancel job [0-9]+\?'
screen_keys y
see "backup +$vm +kvm0[12] +cancelled"
agent_wait "$pid"
is_state "$vm" cancelled || fail "$vm is not cancelled"
ok "c cancels the job that was chosen, once that was confirmed"

kill_daemon
see 'no daemon' 'not running|closed|reset'
see_not 'JOB +KIND'
start_daemon
see_not 'no daemon'
backup kvm01 web3 --disk "vda=$dir/disk1"
see 'backup +web3 +kvm01 +done +web3@'
ok "top waits for a daemon that is gone"

SCREEN_LOCALE=C screen_start 80x24 "$BIN/backstay" -r "$repo" top
see 'store +#*\.+ '
if screen_text | LC_ALL=C has '[^[:print:]]'; then
	fail "more than ASCII in locale C: $(screen_text)"
fi
screen_keys q
see 'ended with 0'
see_not 'q quit'
screen_stop
for pid in "$pid1" "$pid2"; do
	alive "$pid" && agent_wait "$pid"
done
stop_daemon
ok "in locale C it is ASCII, and q leaves the terminal as it was"
