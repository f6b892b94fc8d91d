#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: packs on an NFS export survive what becomes of the server: killed and
# started again in the middle of ingest, restore and compaction, also where it
# forgets what it had not on disk; gone for longer than jobs wait; stalled.
# Nothing that was committed is lost, and the daemon goes on by itself.
#
#   tests/e2e/300-nfs.sh     (as root: the server needs it)
. "$(dirname "$0")/lib.sh"

SEED=${SEED:-$(date +%s)}
echo "# seed $SEED"
PACKS=nfs
make_repo "$dir/repo"
start_daemon --nfs-timeout $((60 * slower))
enroll_agent kvm01

# begun KIND: a job of that kind moves data.
begun() {
	console jobs --json >"$dir/jobs.json" 2>/dev/null &&
		[ "$(json "$dir/jobs.json" "any(x['kind'] == '$1' and
			x['state'] == 'running' and x['sent'] > 0 for x in j)")" = True ]
}

# outage SECONDS: the server is killed and comes back.
outage() {
	kill_nfs
	pause "$1"
	start_nfs
}

# What keeps a job busy while the server goes: a limit, so that it is in the
# midst of it.
put_noise "$dir/one" 0 $((48 << 20)) "$SEED.1"
agent_start kvm01 "$dir/one.out" backup --json -q web1 --lanes 2 \
	--bwlimit 12M --disk "vda=$dir/one"
wait_for 20 begun backup || fail "no backup began"
outage 0.5
pause 0.5
outage 0.5
agent_wait "$agent_pid" || fail "backup: $(cat "$dir/one.out.err")"
restore kvm01 web1@latest --disk "vda=$dir/r.raw"
same_bytes "$dir/one" "$dir/r.raw"
ok "a server killed twice in a backup: it goes on, and is right"

rm -f "$dir/r.raw"
agent_start kvm01 "$dir/r.out" restore -q web1@latest --lanes 2 \
	--bwlimit 12M --disk "vda=$dir/r.raw"
wait_for 20 begun restore || fail "no restore began"
outage 0.5
agent_wait "$agent_pid" || fail "restore: $(cat "$dir/r.out.err")"
same_bytes "$dir/one" "$dir/r.raw"
ok "a server killed in a restore"

# Every second MiB goes, so that packs are half dead.
cp "$dir/one" "$dir/two"
for ((i = 0; i < 48; i += 2)); do
	put_noise "$dir/two" $((i << 20)) $((1 << 20)) "$SEED.2.$i"
done
backup kvm01 web1 --disk "vda=$dir/two"
console gc --rate 4M >"$dir/gc.out" || fail "gc --rate"
name=$(console list --json | "$PYTHON" -c 'import json, sys
print(min(x["vm"] + "@" + x["time"] for x in json.load(sys.stdin)))')
console delete "$name" >"$dir/delete.out" || fail "delete $name"
outage 0.5
pause 1
outage 0.5
console gc --rate 0 >"$dir/gc.out" || fail "gc --rate 0"
console gc --wait=60 >"$dir/gc.out" 2>&1 || fail "gc: $(cat "$dir/gc.out")"
rm -f "$dir/r.raw"
restore kvm01 web1@latest --disk "vda=$dir/r.raw"
same_bytes "$dir/two" "$dir/r.raw"
ok "a server killed while space is reclaimed"

stop_daemon
patience=$((4 * slower))
start_daemon --nfs-timeout $patience
# Longer than patience: a job in the midst of it fails, and says why.
put_noise "$dir/three" 0 $((160 << 20)) "$SEED.3"
agent_start kvm01 "$dir/three.out" backup --json -q web3 --lanes 2 \
	--bwlimit 16M --disk "vda=$dir/three"
wait_for 20 begun backup || fail "no backup began"
kill_nfs
agent_wait "$agent_pid" && fail "a backup without a server"
echo "# $(cat "$dir/three.out.err")"
[ "$(wc -l <"$dir/three.out.err")" = 1 ] ||
	fail "not one line: $(cat "$dir/three.out.err")"
grep -q 'the NFS server does not answer' "$daemon_log" ||
	fail "the daemon does not say why"
alive "$daemon_pid" || fail "the daemon has ended"
start_nfs
back() { agent kvm01 backup --json -q web3 --disk "vda=$dir/three" >"$dir/backup.json" 2>"$dir/backup.err"; }
wait_for 30 back || fail "not back: $(cat "$dir/backup.err")"
rm -f "$dir/r.raw"
restore kvm01 web3@latest --disk "vda=$dir/r.raw"
same_bytes "$dir/three" "$dir/r.raw"
ok "a server gone for longer than jobs wait: they fail, and it goes on by itself"

# A daemon that is killed with all that only the server's memory has.
agent_start kvm01 "$dir/four.out" backup --json -q web4 --lanes 2 \
	--bwlimit 24M --disk "vda=$dir/three"
agent_start kvm01 "$dir/four.out" backup --json -q web5 --lanes 2 \
	--disk "vda=$dir/one"
pause 1
kill_daemon
start_daemon --nfs-timeout $patience
wait_for 30 back || fail "not back: $(cat "$dir/backup.err")"
restore kvm01 web1@latest --disk "vda=$dir/r.raw" --force
same_bytes "$dir/two" "$dir/r.raw"
ok "a daemon killed: its next start takes the packs again at once"

mkdir "$dir/copy"
cp -a "$repo/backstay.json" "$repo/keys" "$repo/index" "$repo/lease" \
	"$dir/copy/"
chmod 700 "$dir/copy"
! bounded "$BIN/backstayd" "$dir/copy" --no-ssh 2>"$dir/copy.log" ||
	fail "a second daemon has started"
grep -q "^error: .*in use by a daemon on" "$dir/copy.log" ||
	fail "not who has the packs: $(cat "$dir/copy.log")"
ok "a copy of the repository is kept from its packs"

stop_daemon
check_store --data
stop_nfs
! bounded "$BIN/backstayd" "$repo" --nfs-timeout 1 --no-ssh \
	2>"$dir/copy.log" || fail "it has started without the server"
grep -q "^error: .*the server does not answer" "$dir/copy.log" ||
	fail "not why it cannot start: $(cat "$dir/copy.log")"
ok "fsck finds nothing wrong; without the server there is no start"
