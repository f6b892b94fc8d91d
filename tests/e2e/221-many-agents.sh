#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: 64 connected agents with 8 jobs each in the queue: the daemon's memory
# and threads stay within what it says at its start, a list is answered at once,
# and all jobs are done in the end, so many at a time.
#
#   tests/e2e/221-many-agents.sh      LONG=1: all jobs run to their end
. "$(dirname "$0")/lib.sh"

AGENTS=64 JOBS=8
make_repo "$dir/repo"
printf '[daemon]\njobs = 1\n' >"$repo/backstayd.conf"
start_daemon
mkdisk "$dir/disk.img" 1 disk

# --- 64 hosts, each with a key and 8 VMs

enroll_agent first
one_agent() {
	local name=kvm$1 folder=$dir/agent-kvm$1 i

	agent "$name" keygen >"$dir/$name.pub" || return 1
	cp "$dir/agent-first/known_hosts" "$folder/"
	{
		printf '[agent]\nrepo = %s\nscan = 1d\njobs-per-host = 1\n' \
			"$url"
		printf 'lanes = 1\n'
		for ((i = 1; i <= JOBS; i++)); do
			printf '[vm %s-vm%d]\ndisk = vda=%s\n' "$name" "$i" \
				"$dir/disk.img"
		done
	} >"$folder/agent.conf"
	console key add "$name" "$dir/$name.pub" >/dev/null
}
for ((a = 1; a <= AGENTS; a++)); do
	one_agent "$a" || fail "kvm$a"
done
status() { awk -v k="$1:" '$1 == k { print $2 }' "/proc/$daemon_pid/status"; }
rss0=$(status VmRSS) threads0=$(status Threads)

for ((a = 1; a <= AGENTS; a++)); do
	agent_start "kvm$a" "$dir/kvm$a.log" serve
done
nconnected() {
	console agents --json >"$dir/agents.json" 2>/dev/null &&
		json "$dir/agents.json" "sum(g['connected'] for g in j)"
}
all_connected() { [ "$(nconnected)" = $AGENTS ]; }
wait_for 60 all_connected || fail "$(nconnected) agents are connected"
rss1=$(status VmRSS) threads1=$(status Threads)
echo "# $AGENTS agents: $((rss1 - rss0)) kB more, $((threads1 - threads0))" \
	"threads more"
[ $((threads1 - threads0)) = $AGENTS ] ||
	fail "$((threads1 - threads0)) threads for $AGENTS agents"
if [ -z "$sanitized" ]; then
	# "each a thread and up to 1.3 MiB"
	[ $((rss1 - rss0)) -lt $((AGENTS * 1300)) ] || fail "too much memory"
fi
ok "64 agents are connected, each a thread and little memory"

# --- 8 jobs each, and a list meanwhile

"$PYTHON" - "$top/tests/e2e" "$repo/socket" $AGENTS $JOBS "$dir/done" \
	>"$dir/times" 2>&1 <<'PY' &
import json
import os
import sys
import time

sys.path.insert(0, sys.argv[1])
from hostile import Peer, call

peer = Peer(['unix', sys.argv[2]])
peer.sock.settimeout(100)


def ask(**question):
    began = time.monotonic()
    peer.send(call(**question))
    kind, _, payload = peer.frame()
    return json.loads(payload), (time.monotonic() - began) * 1000


ask(op='hello', version=1, program='test', features=[])
agents, jobs = int(sys.argv[3]), int(sys.argv[4])
for i in range(1, jobs + 1):
    for a in range(1, agents + 1):
        answer, _ = ask(op='backup', vm='kvm%d-vm%d' % (a, i))
        assert 'job' in answer, answer
# All of them wait but one: and then many run.
quiet = sorted(ask(op='list')[1] for _ in range(50))
print(json.dumps({'quiet': {'median': round(quiet[25], 1),
                            'most': round(quiet[-1], 1)}}), flush=True)
waiting, times, running = 0, {'list': [], 'jobs': [], 'agents': []}, 0
while not os.path.exists(sys.argv[5]):
    for op in times:
        answer, ms = ask(op=op)
        times[op].append(ms)
        if op == 'jobs':
            waiting = max(waiting, answer.get('untold', 0) + sum(
                j['state'] == 'queued' for j in answer['jobs']))
            running = max(running, sum(
                j['state'] == 'running' for j in answer['jobs']))
    time.sleep(0.02)
print(json.dumps({'waiting': waiting, 'running': running, 'ms': {
    op: {'n': len(t), 'median': round(sorted(t)[len(t) // 2], 1),
         'most': round(max(t), 1)} for op, t in times.items()}}))
PY
asker=$!
pids+=("$asker")
queued() { grep -q quiet "$dir/times"; }
wait_for 60 queued || fail "512 jobs are not queued: $(cat "$dir/times")"
head -n 1 "$dir/times" >"$dir/quiet"
echo "# a list, in ms: $(cat "$dir/quiet")"
if [ -z "$sanitized" ]; then
	[ "$(json "$dir/quiet" "j['quiet']['median'] < 100")" = True ] ||
		fail "a list takes too long"
fi
printf '[daemon]\njobs = 16\n' >"$repo/backstayd.conf"
kill -HUP "$daemon_pid"
want=$AGENTS
[ -z "${LONG:-}" ] || want=$((AGENTS * JOBS))
so_many() {
	n=$(nbackups)
	rss=$(status VmRSS) threads=$(status Threads)
	[ "$rss" -le "${rss2:-0}" ] || rss2=$rss
	[ "$threads" -le "${threads2:-0}" ] || threads2=$threads
	[ "$n" -ge $want ]
}
began=$(now_ms)
wait_for 280 so_many || fail "$n backups of $want"
echo "# $n backups in $(($(now_ms) - began)) ms"
touch "$dir/done"
wait "$asker" || fail "$(cat "$dir/times")"
forget "$asker"
tail -n 1 "$dir/times" >"$dir/busy" && mv "$dir/busy" "$dir/times"
echo "# $(cat "$dir/times")"
echo "# most: $((rss2 - rss0)) kB more than without agents," \
	"$((threads2 - threads0)) threads more"
[ "$(json "$dir/times" "j['waiting'] >= ${AGENTS} * (${JOBS} - 1)")" = True ] ||
	fail "so many did not wait"
[ "$(json "$dir/times" "j['running'] <= 16")" = True ] ||
	fail "more than 16 run at once"
# Control lanes, two lanes a job, and what the store does now and then.
[ $((threads2 - threads0)) -le $((AGENTS + 2 * 16 + 32)) ] ||
	fail "too many threads"
if [ -z "$sanitized" ]; then
	[ $((rss2 - rss0)) -lt $((AGENTS * 1300 + 16 * 2 * 20 * 1024)) ] ||
		fail "too much memory"
	# The hosts take the same processors here.
	[ "$(json "$dir/times" "j['ms']['list']['median'] < 1000")" = True ] ||
		fail "a list takes too long while they work"
fi
ok "with 8 jobs each in the queue: memory, threads, and a list at once"

if [ -n "${LONG:-}" ]; then
	console jobs --json >"$dir/jobs.json"
	[ "$(json "$dir/jobs.json" "[x for x in j if x['state'] != 'done']")" \
		= "[]" ] || fail "not all were done: $(console jobs)"
	ok "all of them were done"
fi
stop_daemon
check_store
ok "the store is sound"
