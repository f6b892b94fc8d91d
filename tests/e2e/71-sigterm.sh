#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: a daemon that is told to stop in the middle of its work stops within
# ten seconds with status 0; its agents say clearly why they failed, and all
# goes on after the next start.
#
#   tests/e2e/71-sigterm.sh
. "$(dirname "$0")/lib.sh"

make_repo "$dir/repo"
start_daemon
enroll_agent kvm01
mkdisk "$dir/disk" 64 disk
backup kvm01 quiet --disk "vda=$dir/disk"

busy() {
	[ "$(grep -c -E '(backup|restore) of web[0-9]* .* began|began' \
		"$daemon_log")" -ge "$1" ]
}

# while_busy N SIGNAL: stop it with two slow backups and a restore under way.
while_busy() {
	local begun status it
	local -a agents=()

	begun=$(grep -c ' began' "$daemon_log")
	for it in 1 2; do
		put_noise "$dir/disk" 0 $((40 << 20)) "$1.$it"
		cp "$dir/disk" "$dir/web$it"
		agent_start kvm01 "$dir/out$it" backup -q web$it \
			--disk "vda=$dir/web$it" --bwlimit 1M
		agents+=("$agent_pid")
	done
	agent_start kvm01 "$dir/out3" restore -q quiet@latest \
		--disk "vda=$dir/r.raw" --bwlimit 1M
	agents+=("$agent_pid")
	wait_for 20 busy $((begun + 3)) || fail "they did not all begin"
	pause 0.5
	for it in "${agents[@]}"; do
		alive "$it" || fail "an agent was done too soon"
	done
	kill "-$2" "$daemon_pid"
	begun=$(now_ms)
	wait_for 10 gone "$daemon_pid" || fail "$2: not gone within 10 s"
	wait "$daemon_pid"
	status=$?
	forget "$daemon_pid"
	[ $status = 0 ] || fail "$2: the daemon ended with $status"
	echo "# $2: gone after $(($(now_ms) - begun)) ms"
	check_log
	for it in 1 2 3; do
		agent_wait "${agents[$((it - 1))]}"
		status=$?
		[ $status = 1 ] || fail "agent $it: status $status"
		[ "$(wc -l <"$dir/out$it.err")" = 1 ] ||
			fail "agent $it: not one line: $(cat "$dir/out$it.err")"
		grep -q -E "stopping|closed|hung up|went away" \
			"$dir/out$it.err" ||
			fail "agent $it: $(cat "$dir/out$it.err")"
	done
	grep -h stopping "$dir"/out?.err | head -n 1 | sed 's/^/# /'
	[ ! -e "$dir/r.raw" ] || fail "half a restore by the full name"
	[ ! -e "$repo/socket" ] || fail "the socket is left"
	[ ! -e "$repo/port" ] || fail "the file with the port is left"
	check_store
	start_daemon
	[ "$(nbackups web1)" = 0 ] || fail "a backup was made of half a disk"
	for it in 1 2; do
		backup kvm01 "again$it" --disk "vda=$dir/web$it"
		restore kvm01 "again$it@latest" --disk "vda=$dir/a.raw" --force
		same_bytes "$dir/web$it" "$dir/a.raw"
	done
}

while_busy 1 TERM
ok "SIGTERM in the middle of backups and a restore"
while_busy 2 INT
ok "SIGINT likewise"

# --- a restore whose host has all of it, and only has to say so

speakers=0
# settled PHASE MEMBERS: one, as far as that phase, on a lane of kvm01.
settled() {
	local pipe=$dir/speaker.$((++speakers))

	mkfifo "$pipe.in" "$pipe.out"
	"$PYTHON" "$top/tests/e2e/speaker.py" ssh "${url##*:}" \
		"$dir/agent-kvm01/id_ed25519" <"$pipe.in" >"$pipe.out" &
	speaker=$!
	pids+=("$speaker")
	exec {to}>"$pipe.in" {from}<"$pipe.out"
	read -r -t 30 answer <&"$from" || fail "no hello"
	say "{\"op\":\"restore\",\"backup\":\"quiet@latest\"$2}"
	job=$(json <(echo "$answer") "j['job']")
	say "{\"op\":\"progress\",\"phase\":\"$1\"}"
	[ "$answer" = "{}" ] || fail "progress: $answer"
}
say() {
	echo "$1" >&"$to"
	read -r -t 30 answer <&"$from" || fail "no answer to $1"
}
stopping() { grep -q 'SIGTERM: stopping' "$daemon_log"; }
# ended: the daemon, in time and in peace.
ended() {
	wait_for 10 gone "$daemon_pid" || fail "not gone within 10 s"
	wait "$daemon_pid" || fail "the daemon ended with $?"
	forget "$daemon_pid"
	check_log
	exec {to}>&- {from}<&-
	kill "$speaker" 2>/dev/null
	wait "$speaker" 2>/dev/null
	forget "$speaker"
}
outcome() { # PATTERN: of the job, in the log and in the audit log
	grep -q -E "job $job: restore of quiet \(kvm01\) $1" "$daemon_log" ||
		fail "job $job: $(grep "job $job:" "$daemon_log")"
	console audit --json >"$dir/audit.json" || fail "audit"
	json "$dir/audit.json" "[x['outcome'] for x in j \
		if x['op'] == 'restore'][-1]" | has -E "^$1" ||
		fail "audit: $(tail -n 3 "$repo/audit.log")"
}
for how in 'swapping ,"onto":"quiet"' 'syncing '; do
	settled "${how%% *}" "${how#* }"
	expect_fail 1 "cannot be cancelled" console cancel "$job"
	kill -TERM "$daemon_pid"
	wait_for 10 stopping || fail "it does not stop"
	# Longer than a lane takes to look around.
	pause 1
	alive "$daemon_pid" || fail "it has not waited"
	say '{"op":"finish","ok":true,"text":"vda replaced"}'
	[ "$answer" = "{}" ] || fail "finish: $answer"
	ended
	outcome "done"
	start_daemon
done
ok "a restore that is in place is done, though the daemon stops just then"

settled swapping ',"onto":"quiet"'
kill -TERM "$daemon_pid"
ended
outcome "failed: .*did not say how that ended"
start_daemon
settled swapping ',"onto":"quiet"'
exec {to}>&-
lost() { grep -q "job $job: .*did not say how that ended" "$daemon_log"; }
wait_for 20 lost || fail "$(grep "job $job" "$daemon_log")"
kill -TERM "$daemon_pid"
ended
outcome "failed: .*did not say how that ended"
start_daemon
settled writing ',"onto":"quiet"'
kill -TERM "$daemon_pid"
ended
outcome "failed: the daemon is stopping"
start_daemon
ok "where its host does not say how it ended, the job says just that"

# While nothing runs it is at once, also with idle lanes.
stop_daemon
check_store
ok "fsck finds nothing wrong"
