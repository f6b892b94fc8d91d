#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: the audit log tells of everything that destroys or changes something
# who did it, from where and how it ended; what is done to the log shows, and a
# crash costs none of it.
#
#   tests/e2e/201-audit.sh
. "$(dirname "$0")/lib.sh"
# Its copies of a repository are whole, with the packs in them.
PACKS=

# audit [OPTION...]: its lines are in audit.json.
audit() {
	console audit --json "$@" >"$dir/audit.json" 2>"$dir/audit.err" ||
		fail "audit $*: $(cat "$dir/audit.err")"
}

# noted EXPRESSION: of python, over a line x: how many lines.
noted() {
	audit
	json "$dir/audit.json" "len([x for x in j if $1])"
}

# sound: by the console, and by a reader that knows FORMAT.md alone.
sound() {
	console audit --check >"$dir/check.out" 2>&1 ||
		fail "audit --check: $(cat "$dir/check.out")"
	"$PYTHON" - "$repo" >"$dir/spec.out" 2>&1 <<'PY' || fail "second reader: $(cat "$dir/spec.out")"
import hashlib, json, sys
prev, n, torn = "0" * 64, 0, None
data = open(sys.argv[1] + "/audit.log", "rb").read()
for line in data.split(b"\n")[:-1]:
    if line[-75:-66] != b',"hash":"':
        torn = line
        continue
    text, want = line[:-75] + b"}", line[-66:-2].decode()
    got = hashlib.sha256(prev.encode() + text).hexdigest()
    j = json.loads(text)
    assert got == want and j["n"] == n + 1, line
    if torn is not None:
        assert j["op"] == "torn" and j["what"] == {"bytes": len(torn),
            "sha256": hashlib.sha256(torn).hexdigest()}, line
        torn = None
    prev, n = want, n + 1
head = json.load(open(sys.argv[1] + "/audit.head"))
assert head == {"n": n, "hash": prev, "size": len(data)}, head
print(n)
PY
}

# --- who did what

make_repo "$dir/repo"
start_daemon
enroll_agent kvm01 --role backup --role restore --role delete
enroll_agent kvm02
mkdisk "$dir/d0" 8 d0
backup kvm01 web1 --disk "vda=$dir/d0"
restore kvm02 web1@latest --disk "vda=$dir/r.raw"
expect_fail 1 "may not delete" agent kvm02 delete web1@latest
expect_fail 1 "no backup of nobody" agent kvm01 delete nobody@latest
console delete --dry-run web1@latest >"$dir/out" || fail "dry run"
agent kvm01 delete web1@latest >"$dir/out" || fail "delete"
backup kvm01 web1 --disk "vda=$dir/d0"
console delete web1@latest >"$dir/out" || fail "delete"
for _ in 1 2 3; do
	backup kvm01 web4 --disk "vda=$dir/d0"
done
console prune web4 --keep-last 1 --dry-run >"$dir/out" 2>&1 || fail "$(cat "$dir/out")"
console prune web4 --keep-last 1 --force >"$dir/out" 2>&1 || fail "$(cat "$dir/out")"
console protect web4@latest >"$dir/out" 2>&1 || fail "$(cat "$dir/out")"
console gc pause >"$dir/out" || fail pause
console gc status >"$dir/out" || fail status
console gc resume >"$dir/out" || fail resume
console scrub pause >"$dir/out" || fail "scrub pause"
console hold --for 60s >"$dir/out" || fail hold
console hold --release >"$dir/out" || fail release
console key remove kvm02 >"$dir/out" || fail "key remove"
removed() { [ "$(noted "x['op'] == 'keys' and x['what']['removed'] == ['kvm02']")" = 1 ]; }
wait_for 10 removed || fail "the daemon does not note a key that is gone"
echo '[daemon]' >"$repo/backstayd.conf"
echo 'live-percent = 60' >>"$repo/backstayd.conf"
kill -HUP "$daemon_pid"
changed() { [ "$(noted "x['op'] == 'settings' and x['what'].get('changes') == ['live-percent: 50 -> 60']")" = 1 ]; }
wait_for 10 changed || fail "the daemon does not note a setting"
echo 'bla = 60' >>"$repo/backstayd.conf"
kill -HUP "$daemon_pid"
faulty() { [ "$(noted "x['op'] == 'settings' and x['outcome'] == 'refused'")" = 1 ]; }
wait_for 10 faulty || fail "the daemon does not note bad settings"
echo '[daemon]' >"$repo/backstayd.conf"
stop_daemon

expect() { # N EXPRESSION
	[ "$(noted "$2")" = "$1" ] ||
		fail "not $1 of $2: $(cat "$repo/audit.log")"
}
me="uid $(id -u)"
expect 1 "x['n'] == 1 and x['op'] == 'init' and x['who'] == '$me'"
expect 2 "x['op'] == 'key add' and x['who'] == '$me'"
expect 1 "x['op'] == 'key remove' and x['what']['name'] == 'kvm02'"
expect 1 "x['op'] == 'start' and 'after' not in x['what']"
expect 1 "x['op'] == 'stop' and x['from'] == 'SIGTERM'"
expect 1 "x['op'] == 'restore' and x['outcome'] == 'begun' and x['who'] == 'kvm02' and '127.0.0.1' in x['from'] and x['what']['backup'].startswith('web1@2')"
expect 1 "x['op'] == 'restore' and x['outcome'] == 'done' and x['of'] > 0"
expect 1 "x['op'] == 'delete' and x['outcome'].startswith('refused: ') and x['who'] == 'kvm02'"
expect 1 "x['op'] == 'delete' and x['outcome'].startswith('failed: ') and x['who'] == 'kvm01'"
expect 2 "x['op'] == 'delete' and x['outcome'] == 'begun' and x['who'] == 'kvm01'"
expect 1 "x['op'] == 'delete' and x['outcome'] == 'done' and x['who'] == 'kvm01' and x['what']['backups'][0].startswith('web1@2')"
expect 1 "x['op'] == 'delete' and x['outcome'] == 'done' and x['who'] == '$me' and 'local' in x['from']"
expect 1 "x['op'] == 'prune' and x['outcome'] == 'begun'"
expect 1 "x['op'] == 'prune' and x['outcome'] == 'done' and len(x['what']['backups']) == 2 and x['what']['backups'][0].startswith('web4@2')"
expect 1 "x['op'] == 'protect' and x['outcome'] == 'done' and x['what']['backup'].startswith('web4@2')"
expect 0 "'dry_run' in str(x)"
expect 2 "x['op'] == 'gc'"
expect 1 "x['op'] == 'scrub' and x['what']['action'] == 'pause'"
expect 2 "x['op'] == 'hold'"
sound
ok "who deletes, restores, pauses, changes keys and settings is noted"

# --- imports, which become backups like others

start_daemon
enroll_agent taker --role admin
enroll_agent reader --role restore
mkdisk "$dir/d1" 8 d1
console import -q imp1 "$dir/d1" --time 2024-05-06T07:08:09Z \
	>"$dir/out" 2>&1 || fail "import: $(cat "$dir/out")"
expect_fail 1 "is there already" "$BIN/backstay" -r "$repo" import -q imp1 \
	"$dir/d1" --time 2024-05-06T07:08:09Z
agent taker import -q imp2 --disk "vda=$dir/d0" --disk "vdb=$dir/d1" \
	>"$dir/out" 2>&1 || fail "import: $(cat "$dir/out")"
expect_fail 1 "admin" agent kvm01 import -q imp3 "$dir/d1"
expect_fail 1 "may not" agent reader import -q imp3 "$dir/d1"
backup kvm01 plain --disk "vda=$dir/d0"
stop_daemon
expect 1 "x['op'] == 'import' and x['outcome'] == 'begun' and x['who'] == '$me' and 'local' in x['from'] and x['what']['vm'] == 'imp1' and x['what']['import'] == '$dir/d1' and x['what']['time'] == '2024-05-06T07:08:09Z' and x['what']['job'] > 0"
expect 1 "x['op'] == 'import' and x['outcome'] == 'done' and x['of'] > 0 and x['what']['backup'] == 'imp1@2024-05-06T07:08:09Z'"
expect 1 "x['op'] == 'import' and x['outcome'].startswith('failed: ') and 'already' in x['outcome'] and x['who'] == '$me'"
expect 1 "x['op'] == 'import' and x['outcome'] == 'begun' and x['who'] == 'taker' and '127.0.0.1' in x['from'] and x['what']['vm'] == 'imp2' and x['what']['import'] == '$dir/d0, $dir/d1'"
expect 1 "x['op'] == 'import' and x['outcome'] == 'done' and x['what']['backup'].startswith('imp2@2')"
expect 1 "x['op'] == 'import' and x['outcome'].startswith('failed: ') and x['who'] == 'kvm01' and x['what']['vm'] == 'imp3'"
expect 1 "x['op'] == 'import' and x['outcome'].startswith('refused: ') and x['who'] == 'reader'"
expect 0 "'plain' in str(x) or x['op'] in ('begin', 'prepare')"
sound
ok "who imports is noted, what, from where and how it ended; a host's backup is not"

console audit >"$dir/out" 2>&1 || fail "audit"
grep -q "kvm01 .*delete .*done .*127.0.0.1.*web1@" "$dir/out" ||
	fail "audit: $(cat "$dir/out")"
audit --since 1d
n=$(json "$dir/audit.json" 'len(j)')
audit --since 2000-01-01
[ "$(json "$dir/audit.json" 'len(j)')" = "$n" ] || fail "--since"
audit --since 2037-01-01
[ "$(json "$dir/audit.json" 'len(j)')" = 0 ] || fail "--since a day to come"
expect_fail 2 "how long ago" console audit --since yesterday
ok "it can be read, also from a day on"

# --- what is done to it shows

cp -a "$repo" "$dir/clean"
tampered() { # PATTERN COMMAND...: on a copy
	local pattern=$1

	shift
	rm -rf "$dir/copy"
	cp -a "$dir/clean" "$dir/copy"
	(cd "$dir/copy" && "$@") || fail "$*"
	"$BIN/backstay" -r "$dir/copy" audit --check >"$dir/check.out" 2>&1
	[ $? = 3 ] || fail "$*: not found: $(cat "$dir/check.out")"
	grep -q -E -- "$pattern" "$dir/check.out" ||
		fail "$*: not \"$pattern\": $(cat "$dir/check.out")"
}
line=$(grep -n '"op":"delete","outcome":"done"' "$repo/audit.log" |
	head -n 1 | cut -d: -f1)
tampered "^audit.log:$line: was changed" sed -i "${line}s/kvm01/kvm09/" audit.log
tampered "^audit.log:$line: .*: $line is missing" sed -i "${line}d" audit.log
tampered "^audit.log:$((line + 1)): .* not at its place" \
	sed -i "${line}{h;d};$((line + 1))G" audit.log
tampered "audit.head knows $n" sed -i \$d audit.log
tampered "audit.head knows $n" truncate -s -1 audit.log
tampered "taken away" rm audit.log
tampered "audit.head is missing" rm audit.head
ok "a changed, removed, swapped or cut line is named"

# A whole new log, in itself sound: who kept a hash knows.
hash=$(json "$repo/audit.head" "j['hash']")
rm -rf "$dir/copy"
cp -a "$dir/clean" "$dir/copy"
rm "$dir/copy/audit.log" "$dir/copy/audit.head"
good=$repo
repo=$dir/copy
start_daemon
stop_daemon
console audit --check >"$dir/check.out" 2>&1 || fail "$(cat "$dir/check.out")"
console audit --check --witness "$hash" >"$dir/check.out" 2>&1
[ $? = 3 ] || fail "the witness is not missed"
# One that was cut is told at the start, and for ever.
rm -rf "$dir/copy"
cp -a "$dir/clean" "$dir/copy"
sed -i '$d' "$dir/copy/audit.log"
start_daemon
grep -q "audit.log: .* faults" "$daemon_log" || fail "the start does not tell"
stop_daemon
start_daemon
grep -q "audit.log: .* faults" "$daemon_log" || fail "the second does not tell"
stop_daemon
console audit --check >"$dir/check.out" 2>&1
[ $? = 3 ] || fail "it is forgotten: $(cat "$dir/check.out")"
repo=$good
start_daemon
grep -q "hash $hash" "$daemon_log" || fail "the start does not log the hash"
console audit --check --witness "$hash" >"$dir/check.out" 2>&1 ||
	fail "the witness: $(cat "$dir/check.out")"
ok "a hash that was kept elsewhere tells a log that was made anew"

# --- crashes

enroll_agent kvm03 --role backup --role restore --role delete
backup kvm03 web2 --disk "vda=$dir/d0"
backup kvm03 web3 --disk "vda=$dir/d0"
agent_start kvm03 "$dir/slow" restore -q web2@latest \
	--disk "vda=$dir/s.raw" --bwlimit 1M
nbegun() { [ "$(noted "x['op'] == 'restore' and x['outcome'] == 'begun'")" = "$1" ]; }
wait_for 10 nbegun 2 || fail "the restore is not noted before it ends"
kill_daemon
agent_wait "$agent_pid" && fail "a restore without its daemon"
# The line that was being written.
printf '{"from":"local process' >>"$repo/audit.log"
start_daemon
expect 1 "x['op'] == 'torn'"
expect 1 "x['op'] == 'start' and x['what'].get('after') == 'crash'"
sound
agent_start kvm03 "$dir/slow" restore -q web2@latest \
	--disk "vda=$dir/s.raw" --bwlimit 1M --force
wait_for 10 nbegun 3 || fail "the restore is not noted"
kill -9 "$agent_pid" || fail "the restore has ended"
agent_wait "$agent_pid"
failed() { [ "$(noted "x['op'] == 'restore' and x['outcome'].startswith('failed: ') and 'of' in x")" = 1 ]; }
wait_for 20 failed || fail "the end of a dead agent's restore is not noted"
ok "what a crash tore is noted, and who was killed is, too"

# Where nothing can be noted, nothing is deleted.
if ! { mv "$repo/audit.log" "$dir/aside" && mkdir "$repo/audit.log"; }; then
	fail "the log cannot be put aside"
fi
expect_fail 1 "nothing was done, since it cannot be noted" \
	console delete web3@latest
if ! { rmdir "$repo/audit.log" && mv "$dir/aside" "$repo/audit.log"; }; then
	fail "the log cannot be put back"
fi
[ "$(nbackups web3)" = 1 ] || fail "it was deleted"
console delete web3@latest >"$dir/out" || fail "delete"
ok "nothing is deleted that cannot be noted"

stop_daemon
sound
check_store
