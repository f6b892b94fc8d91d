#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: day by day for a month, prune keeps exactly what the second opinion
# (tests/spec/retention.py) says, and frees what it said it would.
#
#   tests/e2e/210-retention.sh
. "$(dirname "$0")/lib.sh"

day=86400

# What the second opinion says of each backup of the listing
# in a file, one a line: TIME RULE.
cat >"$dir/rules.py" <<'END'
import calendar, json, subprocess, sys, time
def seconds(text):
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))
reference, listing, policy, now = sys.argv[1:]
backups = json.load(open(listing))
case = {"now": seconds(now), "policy": json.loads(policy), "backups": [
    {"time": seconds(b["time"]), "seq": b["seq"],
     "protected": "protected" in b} for b in backups]}
said = subprocess.run([sys.executable, reference], input=json.dumps(case),
                      capture_output=True, text=True, check=True).stdout.split()
assert len(said) == len(backups)
for b, rule in zip(backups, said):
    print(b["time"], rule)
END

listed() { # VM FILE
	console list "$1" --json >"$2" || fail "list $1"
}
repo_time() {
	console status --json >"$dir/status.json" || fail status
	json "$dir/status.json" "j['retention']['time']"
}
status() {
	console status --json >"$dir/status.json" || fail status
	json "$dir/status.json" "j$1"
}
prune() {
	console prune "$@" --json >"$dir/prune.json" 2>"$dir/prune.err" ||
		fail "prune $*: $(cat "$dir/prune.err")"
}
# freed VM: as prune said.
freed() {
	json "$dir/prune.json" "[v['freed'] for v in j if v['vm'] == '$1'][0]"
}

use_clock
make_repo "$dir/repo"
cat >"$repo/backstayd.conf" <<END
[vm web*]
keep-last = 2
keep-daily = 5
keep-weekly = 2
keep-monthly = 2
min-age = 30h

[vm db1]
keep-last = 3
keep-daily = 0
END
start_daemon --live-percent 95
enroll_agent kvm01
enroll_agent kvm02 --role delete --vm 'web*'
mkdisk "$dir/d" 1 d
policy='{"last": 2, "daily": 5, "weekly": 2, "monthly": 2, "min-age": 108000}'
ndeleted=0

# Two backups a day; no age is near min-age when prune looks, a second later
# than the second opinion.
for i in $(seq 1 60); do
	put_noise "$dir/d" $((i * 4096)) 8192 "d$i"
	backup kvm01 web1 --disk "vda=$dir/d"
	[ $((i % 20)) != 7 ] || backup kvm01 web2 --disk "vda=$dir/d"
	if [ "$i" = 12 ]; then
		console protect web1@latest --note "before the upgrade" \
			>"$dir/out" || fail protect
	fi
	pass $((day / 2))
	[ $((i % 2)) = 0 ] || continue
	listed web1 "$dir/before.json"
	"$PYTHON" "$dir/rules.py" "$top/tests/spec/retention.py" \
		"$dir/before.json" "$policy" "$(repo_time)" >"$dir/rules" ||
		fail "the second opinion"
	grep -v ' -$' "$dir/rules" | cut -d ' ' -f 1 >"$dir/want"
	prune web1
	listed web1 "$dir/after.json"
	json "$dir/after.json" "'\n'.join(b['time'] for b in j)" >"$dir/have"
	cmp -s "$dir/want" "$dir/have" || fail "day $((i / 2)): wanted $(
		cat "$dir/rules"), have $(cat "$dir/have")"
	ndeleted=$((ndeleted + $(grep -c ' -$' "$dir/rules")))
done
[ $ndeleted -gt 40 ] || fail "only $ndeleted backups went in a month"
ok "day by day for a month it keeps what the second opinion says"
for rule in last daily weekly protected; do
	console prune web1 --dry-run | has " $rule" ||
		fail "nothing is kept by $rule"
done
console list web1 | has 'protected$' || fail "list tells nothing"
console show "$(json "$dir/after.json" \
	"[b['vm'] + '@' + b['time'] for b in j if 'protected' in b][0]")" |
	has "^protected .*: before the upgrade$" || fail "show tells nothing"
ok "the table names the rules; list and show tell what is protected"

# --- a dry run says what goes, and what that frees

for i in 1 2 3 4 5; do
	put_noise "$dir/d" $((i * 65536)) 65536 "e$i"
	backup kvm01 web3 --disk "vda=$dir/d"
done
pass $((2 * day))
console gc --wait=60 >"$dir/gc.out" || fail gc
live=$(status "['live']")
prune web3 --keep-last 3 --dry-run
said=$(freed web3)
[ "$(nbackups web3)" = 5 ] || fail "a dry run deletes"
listed web3 "$dir/web3.json"
console delete --dry-run --json "web3@$(json "$dir/web3.json" "j[0]['time']")" \
	"web3@$(json "$dir/web3.json" "j[1]['time']")" >"$dir/delete.json" ||
	fail "delete --dry-run"
[ "$(json "$dir/delete.json" "j['freed']")" = "$said" ] ||
	fail "prune says $said, delete $(cat "$dir/delete.json")"
one=$(json "$dir/prune.json" "j[0]['backups'][0]['freed']")
if ! { [ "$one" -gt 0 ] && [ "$one" -le "$said" ]; }; then
	fail "one frees $one, both $said"
fi
prune web3 --keep-last 3
[ "$(freed web3)" = "$said" ] || fail "said $said, then $(freed web3)"
console gc --wait=60 >"$dir/gc.out" || fail gc
[ $((live - $(status "['live']"))) = "$said" ] ||
	fail "said $said; live was $live and is $(status "['live']")"
[ "$(nbackups web3)" = 3 ] || fail "not three left"
ok "a dry run says exactly what a prune frees"

# --- what it does not do

expect_fail 1 "2 of 3 backups would go, more than half" \
	console prune web3 --keep-last 1
[ "$(nbackups web3)" = 3 ] || fail "it went on"
prune web3 --keep-last 1 --force
[ "$(nbackups web3)" = 1 ] || fail "not with --force"
# What has no rule keeps all; a VM of another key is as if it were not there.
backup kvm01 nobody --disk "vda=$dir/d"
backup kvm01 nobody --disk "vda=$dir/d"
prune nobody
[ "$(nbackups nobody)" = 2 ] || fail "a prune without rules"
expect_fail 1 "no backup of none" console prune none
expect_fail 2 "keep-last takes a number" console prune web1 --keep-last x
expect_fail 2 "keep-within takes a time" console prune web1 --keep-within 7
before=$(nbackups)
# Nothing young goes, whatever the rule.
for i in 1 2 3 4; do backup kvm01 web3 --disk "vda=$dir/d"; done
prune 'web3' --keep-last 1 --force
[ "$(nbackups web3)" = 5 ] || fail "young ones went"
[ "$(nbackups)" = $((before + 4)) ] || fail "others went"
# Without min-age, a flood is stopped by the half.
for i in $(seq 1 8); do backup kvm01 db1 --disk "vda=$dir/d"; done
expect_fail 1 "5 of 8 backups would go" console prune
[ "$(nbackups db1)" = 8 ] || fail "db1 went"
prune '*' --force
[ "$(nbackups db1)" = 3 ] || fail "db1 is not what its section says"
prune 'web*' --keep-within 10d --dry-run
[ "$(json "$dir/prune.json" "sorted(v['vm'] for v in j)")" = \
	"['web1', 'web2', 'web3']" ] || fail "$(cat "$dir/prune.json")"
ok "it stops before half of a VM's backups go, and nothing young does"

stop_daemon
check_store --data
ok "fsck finds nothing wrong"
