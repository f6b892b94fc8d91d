#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: a real program is told of each kind of event, with its arguments and
# with JSON that is right; one that hangs, breaks or is missing is told of in
# the log and disturbs no job.
#
#   [LONG=1] tests/e2e/271-hooks.sh     LONG: also an agent that is lost (30 s)
. "$(dirname "$0")/lib.sh"

told=$dir/told
mkdir "$told"
hook=$dir/hook.sh
cat >"$hook" <<'EOF'
#!/bin/sh
# A file for each event: arguments and environment, then the JSON.
n=$(mktemp "$0.XXXXXX") || exit 9
{
	printf '%s\n' "$3" "$4" "$5" "$1 $2" "$BACKSTAY_REPO" "${SECRET-none}"
	cat
} >"$n"
number=$(sed -n '7s/.*"number":\([0-9]*\).*/\1/p' "$n")
mv "$n" "${0%/*}/told/$(printf %05d "$number")"
EOF
chmod +x "$hook"

# settings LINE...: of [daemon], and the daemon reads them.
settings() {
	printf '[daemon]\n' >"$repo/backstayd.conf"
	printf '%s\n' "$@" >>"$repo/backstayd.conf"
	! alive "${daemon_pid:-x}" || kill -HUP "$daemon_pid"
}

# last_of EVENT: the file of the last event of that kind, or nothing.
last_of() {
	local f found=

	for f in "$told"/*; do
		[ -e "$f" ] && [ "$(head -n 1 "$f")" = "$1" ] && found=$f
	done
	[ -n "$found" ] && event=$found
}

# seen EVENT VM OUTCOME [EXPRESSION]: such an event is told within ten seconds;
# EXPRESSION of python, over its JSON j.  It is ${event} and not looked at again.
matches() {
	last_of "$1" && [ "$(sed -n 2p "$event")" = "$2" ] &&
		[ "$(sed -n 3p "$event")" = "$3" ]
}
seen() {
	wait_for 10 matches "$1" "$2" "$3" ||
		fail "no event $1 $2 $3: $(head -n 3 "$told"/* 2>&1)"
	"$PYTHON" - "$event" "$repo" "${4:-True}" <<'EOF' || fail "$1: $(cat "$event")"
import json, re, sys
lines = open(sys.argv[1]).read().split("\n")
assert len(lines) == 7 and lines[3] == "fixed word", lines
assert lines[4] == sys.argv[2] and lines[5] == "none", lines
j = json.loads(lines[6])
assert j["event"] == lines[0] and j["outcome"] == lines[2], j
assert j.get("vm", "") == lines[1] and j["repository"] == sys.argv[2], j
assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", j["time"]), j
assert j["number"] > 0, j
assert eval("(" + sys.argv[3] + ")"), (sys.argv[3], j)
EOF
	mv "$event" "$dir/seen.json"
}

has_log() { grep -q -E -- "$1" "$daemon_log"; }

# --- each kind

make_repo "$dir/repo"
settings "hook = $hook fixed word"
SECRET=daemon start_daemon
enroll_agent kvm01
enroll_agent kvm02
mkdisk "$dir/d0" 16 d0
backup kvm01 db/web1 --disk "vda=$dir/d0"
seen job-end db/web1 "done" 'j["kind"] == "backup" and j["host"] == "kvm01" and
	j["text"].startswith("db/web1@") and j["sent"] > 0 and j["seconds"] < 60'
restore kvm01 db/web1@latest --disk "vda=$dir/r.raw"
seen job-end db/web1 "done" 'j["kind"] == "restore"'
backup kvm01 db/web1 --disk "vda=$dir/d0"
seen job-end db/web1 "done" 'j["kind"] == "backup"'
console delete db/web1@-1 >"$dir/delete.out" 2>&1 ||
	fail "delete: $(cat "$dir/delete.out")"
seen job-end db/web1 "done" 'j["kind"] == "delete"'
ok "ends of backups, restores and deletes are told"

mkdisk "$dir/d1" 16 d1
agent_start kvm01 "$dir/out" backup -q web2 --disk "vda=$dir/d1" --bwlimit 1M
runs() { console jobs --json 2>/dev/null | has '"running"'; }
wait_for 20 runs || fail "the backup does not begin"
kill -9 "$agent_pid"
agent_wait "$agent_pid"
seen job-failure web2 failed 'j["kind"] == "backup" and j["text"]'
ok "a job that fails is told, with why"

console notify --test >"$dir/notify.out" 2>&1 ||
	fail "notify --test: $(cat "$dir/notify.out")"
grep -q '^ended with 0 after ' "$dir/notify.out" ||
	fail "notify --test: $(cat "$dir/notify.out")"
seen test "" test
ok "a test event is told, and its outcome shown"

settings "hook = $hook fixed word" "low-space = 99 %"
seen low-space "" low '0 < j["avail"] < j["total"] and j["percent"] == 99'
settings "hook = $hook fixed word" "low-space = 0"
seen low-space "" recovered
ok "low space is told once, and its end"

spoil_slice "$dir/d0" 0
console verify -q db/web1@latest >"$dir/verify.out" 2>&1
seen damage db/web1 found 'j["damaged"] == 1 and j["new"] == 1 and
	len(j["hit"]) == 1 and j["hit"][0].startswith("db/web1@") and
	j["complete"]'
seen job-failure db/web1 failed 'j["kind"] == "verify"'
console verify -q db/web1@latest >"$dir/verify.out" 2>&1
seen job-failure db/web1 failed
last_of damage && fail "damage was told twice: $(cat "$event")"
ok "damage is told once, with the backups that it hits"

# --- a hook that hangs

cat >"$dir/hang.sh" <<'EOF'
#!/bin/sh
echo $$ >>"${0%/*}/hang.pids"
echo "it thinks" >&2
sleep 1000 &
echo $! >>"${0%/*}/hang.pids"
wait
EOF
chmod +x "$dir/hang.sh"
settings "hook = $dir/hang.sh" "hook-timeout = 2s"
wait_for 10 has_log 'settings: hook-timeout: ' || fail "SIGHUP does nothing"
for vm in web3 web4 web5; do
	backup kvm02 $vm --disk "vda=$dir/d0"
done
hangs() { [ -s "$dir/hang.pids" ]; }
wait_for 10 hangs || fail "the hook did not start"
restore kvm02 web5@latest --disk "vda=$dir/r5.raw"
wait_for 20 has_log 'hook: event [0-9]+, job-end of web3: did not end in time and was killed: it thinks' ||
	fail "a hook that hangs is not told of"
[ "$(nbackups web4)" = 1 ] || fail "web4 was not backed up meanwhile"
console notify --json >"$dir/notify.json" || fail "notify"
[ "$(json "$dir/notify.json" 'j["failures"] >= 1 and j["runs"] > 5')" = True ] ||
	fail "notify: $(cat "$dir/notify.json")"
all_gone() {
	local pid

	while read -r pid; do
		! alive "$pid" || return 1
	done <"$dir/hang.pids"
}
# The daemon ends in time, with a hook that hangs just then.
stop_daemon
wait_for 10 all_gone || fail "the hook's processes are still there"
ok "a hook that hangs is killed with its children, and jobs go on"

# --- one that is missing, or breaks

settings "hook = $dir/missing one"
expect_fail 1 "missing: No such file" bounded "$BIN/backstayd" -t "$repo"
start_daemon
has_log "hook: $dir/missing: No such file" || fail "a missing hook is not told"
backup kvm01 web6 --disk "vda=$dir/d0"
wait_for 10 has_log 'job-end of web6: .*missing: No such file' ||
	fail "a missing hook is not told of at an event"
console notify --test >"$dir/notify.out" 2>&1
[ $? = 1 ] || fail "notify --test of a missing hook: it should end with 1"
grep -q '^failed: .*No such file' "$dir/notify.out" ||
	fail "notify --test: $(cat "$dir/notify.out")"
printf '#!/bin/sh\necho "no mail today" >&2\nexit 5\n' >"$dir/missing"
chmod 600 "$dir/missing"
expect_fail 1 "chmod" bounded "$BIN/backstayd" -t "$repo"
chmod 700 "$dir/missing"
bounded "$BIN/backstayd" -t "$repo" >"$dir/t.out" 2>&1 ||
	fail "backstayd -t: $(cat "$dir/t.out")"
console notify --test >"$dir/notify.out" 2>&1
[ $? = 1 ] || fail "notify --test of a hook that fails: it should end with 1"
grep -q '^ended with 5 after .*: no mail today$' "$dir/notify.out" ||
	fail "notify --test: $(cat "$dir/notify.out")"
has_log 'test: ended with 5 after [0-9]+ ms: no mail today' ||
	fail "what the hook says is not in the log"
settings
expect_fail 1 'no hook is set' console notify --test
ok "a hook that is missing or fails is told of, and nothing else happens"

# --- a change that is unusual, and a schedule that is missed

settings "hook = $hook fixed word"
mkdisk "$dir/db" 48 db
backup kvm01 db1 --disk "vda=$dir/db"
for n in 1 2 3 4 5 6 7 8 9; do
	put_noise "$dir/db" $((n << 16)) 65536 "usual$n"
	backup kvm01 db1 --disk "vda=$dir/db"
done
put_noise "$dir/db" 0 $((36 << 20)) ransom
backup kvm01 db1 --disk "vda=$dir/db"
seen unusual-change db1 unusual 'j["unusual"] == "incompressible" and
	j["backup"].startswith("db1@") and j["new"] > j["usual"]'
ok "a change that is unusual is told"

stop_daemon
use_clock
printf '[vm db1]\nschedule = hourly\n' >>"$repo/backstayd.conf"
start_daemon
scheduled() { console schedule --json 2>/dev/null | has '"db1"'; }
wait_for 20 scheduled || fail "db1 has no schedule"
set_clock 7200 7200
seen missed-schedule db1 missed 'j["made_up"] and j["due"] < j["time"]'
ok "a schedule that is missed is told"

# --- an agent that goes away

if [ -n "${LONG:-}" ]; then
	settings "hook = $hook fixed word"
	exec {to}> >(exec "$PYTHON" "$(dirname "$0")/speaker.py" \
		"${url##*:}" "$dir/agent-kvm02/id_ed25519" >"$dir/speaker.out" 2>&1)
	echo '{"op": "serve", "version": "0.1", "host": "kvm02.example", "jobs": 1, "vms": [], "running": []}' >&"$to"
	connected() { [ "$(wc -l <"$dir/speaker.out")" -ge 2 ]; }
	wait_for 20 connected || fail "serve: $(cat "$dir/speaker.out")"
	exec {to}>&-
	wait_for 60 last_of agent-lost || fail "a lost agent is not told"
	seen agent-lost "" lost 'j["agent"] == "kvm02"'
	ok "an agent that is gone is told"
fi
stop_daemon
