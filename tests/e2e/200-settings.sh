#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: whatever is wrong in REPO/backstayd.conf stops a start and is told with
# its line; SIGHUP changes what may change under a running backup, names what
# may not, and takes nothing from a file with faults.
#
#   tests/e2e/200-settings.sh
. "$(dirname "$0")/lib.sh"

conf=
# settings LINE...: are all of the file.
settings() { printf '%s\n' "$@" >"$conf"; }

# daemon_fails PATTERN [OPTION...]: it does not start, and says so with 2.
daemon_fails() {
	local pattern=$1 status

	shift
	timeout -k 5 20 "$BIN/backstayd" "$repo" --listen 127.0.0.1:0 "$@" \
		>"$dir/fails.out" 2>&1
	status=$?
	[ $status = 2 ] || fail "$*: status $status: $(cat "$dir/fails.out")"
	grep -q -E -- "$pattern" "$dir/fails.out" ||
		fail "does not say \"$pattern\": $(cat "$dir/fails.out")"
	! grep -q ': ready: ' "$dir/fails.out" || fail "it was ready"
	[ ! -e "$repo/port" ] || fail "it has listened"
}

# says PATTERN: the daemon's log, soon.
says() {
	wait_for 10 grep -q -E -- "$1" "$daemon_log" ||
		fail "the daemon does not say \"$1\""
}

# --- the sample

make_repo "$dir/repo"
conf=$repo/backstayd.conf
[ "$(stat -c %a "$conf")" = 600 ] || fail "others may read the settings"
"$BIN/backstayd" -t "$repo" >"$dir/t.out" 2>&1 ||
	fail "the sample has faults: $(cat "$dir/t.out")"
[ "$(cat "$dir/t.out")" = ok ] || fail "-t says: $(cat "$dir/t.out")"
# Each key in force at its default.
cp "$conf" "$dir/sample"
sed 's/^#\([a-z[]\)/\1/' "$dir/sample" >"$conf"
! grep -q '^#[a-z]' "$conf" || fail "a key is still commented out"
"$BIN/backstayd" -t "$repo" >"$dir/t.out" 2>&1 ||
	fail "its defaults have faults: $(cat "$dir/t.out")"
start_daemon
grep -q 'no-ssh' "$daemon_log" && fail "a default changes something"
stop_daemon
ok "init writes a sample whose defaults are what is in force without it"

# --- faults stop the start

settings '[daemon]' 'live-percnt = 60'
daemon_fails "backstayd.conf:2: .*no key \"live-percnt\": is it live-percent"
settings '[deamon]' 'verbose = yes'
daemon_fails "backstayd.conf:1: there is no section \[deamon\]"
settings '[vm web*]'  'keep-last = 3' 'keep-last = 4'
daemon_fails "backstayd.conf:3: keep-last is there already"
settings '[daemon]' 'live-percent = 0'
daemon_fails "backstayd.conf:2: live-percent takes a number from 1 to 95"
settings '[daemon]'
daemon_fails "-live-percent takes a number from 1 to 95, not 99" \
	--live-percent 99
ok "an unknown or repeated key, section or value stops the start"

settings '[daemon]' 'live-percnt = 60' 'checkpoint = never' '[vm a b]' '[x]'
"$BIN/backstayd" -t "$repo" >"$dir/t.out" 2>"$dir/t.err"
[ $? = 1 ] || fail "-t finds nothing"
[ "$(wc -l <"$dir/t.err")" = 4 ] || fail "-t: $(cat "$dir/t.err")"
[ ! -s "$dir/t.out" ] || fail "-t is both: $(cat "$dir/t.out")"
for line in 2 3 4 5; do
	grep -q "^$conf:$line: " "$dir/t.err" ||
		fail "-t says nothing of line $line: $(cat "$dir/t.err")"
done
settings '[daemon]'
echo 'role=king ssh-ed25519 AAAA x' >>"$repo/authorized_agents"
expect_fail 1 'authorized_agents:[0-9]+' "$BIN/backstayd" -t "$repo"
sed -i '$d' "$repo/authorized_agents"
ok "-t tells all that is wrong, of the keys too, and starts nothing"

# --- what is in the file counts; options win

settings '[daemon]' 'scrub-interval = 7d' 'verbose = yes' 'index = ../idx' \
	'listen = 999.1.1.1:1'
mv "$repo/index" "$dir/idx"
start_daemon # its --listen wins
console status --json >"$dir/status.json" || fail status
said_debug() { grep -q "^debug: " "$daemon_log"; }
wait_for 10 said_debug || fail "verbose does nothing"
[ ! -e "$repo/index" ] || fail "the index is at its old place"
stop_daemon
check_store # finds the index where the settings have it
settings '[daemon]' 'index = ../idx'
start_daemon
ok "what the file says counts, and fsck knows it; the command line wins"

# --- SIGHUP, under a backup

enroll_agent kvm01
mkdisk "$dir/d0" 24 d0
settings '[daemon]' 'index = ../idx' 'bwlimit = 1M' '[vm web1]' 'keep-last = 3'
kill -HUP "$daemon_pid"
says "settings: bwlimit: 0 -> 1M"
says "settings: \[vm web1\]: nothing -> keep-last = 3"
agent_start kvm01 "$dir/slow" backup -q web1 --disk "vda=$dir/d0"
slow=$agent_pid
running() {
	console jobs --json >"$dir/jobs.json" || fail jobs
	[ "$(json "$dir/jobs.json" \
		"len([x for x in j if x['state'] == 'running' and x['sent'] > 0])")" = 1 ]
}
wait_for 20 running || fail "no backup runs"
began=$(now_ms)
# A file with faults: nothing of it, and why.
settings '[daemon]' 'index = ../idx' 'bwlimit = 0' 'verbos = yes'
kill -HUP "$daemon_pid"
says "backstayd.conf:4: .*no key \"verbos\": is it verbose"
says "the settings stay as they were"
! grep -q 'bwlimit: 1M' "$daemon_log" || fail "it was taken in part"
# What may change, and what may not.
settings '[daemon]' 'index = elsewhere' 'bwlimit = 1M' 'live-percent = 77' \
	'verbose = yes' 'keep-incomplete = 2d' 'scrub-interval = 3d' \
	'block-cache = 64M'
kill -HUP "$daemon_pid"
says "settings: live-percent: 50 -> 77"
says "settings: verbose: no -> yes"
says "settings: scrub-interval: 30d -> 3d"
says "settings: keep-incomplete: 24h -> 2d"
says "settings: index: stays ../idx; elsewhere counts from the next start on"
says "settings: block-cache: stays auto; 64M counts from the next start on"
says "settings: \[vm web1\]: keep-last = 3 -> nothing"
alive "$slow" || fail "the backup has ended: $(cat "$dir/slow.err")"
# At 1 MiB/s it would take a while yet.
sed -i s/1M/0/ "$conf"
kill -HUP "$daemon_pid"
says "settings: bwlimit: 1M -> 0"
agent_wait "$slow" || fail "the backup: $(cat "$dir/slow.err")"
took=$(($(now_ms) - began))
[ $took -lt $((9000 * slower)) ] || fail "it took $took ms without a limit"
restore kvm01 web1@latest --disk "vda=$dir/r.raw"
same_bytes "$dir/d0" "$dir/r.raw"
console status --json >"$dir/status.json" || fail status
kill -HUP "$daemon_pid"
says "settings: index: stays"
ok "SIGHUP changes under a running backup what may change, and names the rest"

# The limit holds: 12 MiB at 3 MiB/s take more than two seconds.
put_noise "$dir/d0" 0 $((12 << 20)) d1
settings '[daemon]' 'index = ../idx' 'bwlimit = 3M'
kill -HUP "$daemon_pid"
says "settings: bwlimit: 0 -> 3M"
began=$(now_ms)
backup kvm01 web2 --disk "vda=$dir/d0"
took=$(($(now_ms) - began))
[ $took -gt 2500 ] || fail "12 MiB at 3 MiB/s in $took ms"
ok "all agents together keep to the daemon's bwlimit"

stop_daemon
check_store --data
