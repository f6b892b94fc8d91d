#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: three hosts, each in a network of its own, with two VMs each that are
# backed up by schedule, day by day, by a clock that the test sets.  In the end
# what is kept is exactly what the second opinion (tests/spec/retention.py)
# says; a host that is away for days is made up for once; a clock that jumps
# runs nothing twice; nor does a restart, or a record of runs that is lost.
#
#   tests/e2e/230-thirty-days.sh       six days
#   LONG=1                             thirty
. "$(dirname "$0")/lib.sh"

days=${LONG:+30}
days=${days:-6}
day=86400
nas=bs-nas-$$
hosts=(kvm1 kvm2 kvm3)
declare -A netns=() agent_of=()
need ip

netns_cleanup() {
	local status=$? it

	for it in "$nas" "${netns[@]}"; do
		ip netns del "$it" 2>/dev/null
	done
	return $status
}
trap 'netns_cleanup; lib_cleanup' EXIT

# --- the networks: the NAS has a wire to each host, and hosts have none to
# --- each other

ip netns add "$nas" || fail "no network namespaces: it needs root"
ip -n "$nas" link set lo up
n=0
for host in "${hosts[@]}"; do
	n=$((n + 1))
	netns[$host]=bs-$host-$$
	ip netns add "${netns[$host]}" || fail "no network namespace"
	ip -n "$nas" link add "wire$n" type veth peer name nas0 \
		netns "${netns[$host]}" || fail "no wire to $host"
	ip -n "$nas" addr add "10.204.$n.1/24" dev "wire$n"
	ip -n "$nas" link set "wire$n" up
	ip -n "${netns[$host]}" addr add "10.204.$n.2/24" dev nas0
	ip -n "${netns[$host]}" link set nas0 up
	ip -n "${netns[$host]}" link set lo up
done

# --- the NAS

use_clock
cat >"$dir/nas" <<END
#!/bin/sh
exec ip netns exec $nas $daemon_program "\$@"
END
chmod +x "$dir/nas"
daemon_program=$dir/nas
# A port mapper of its own has its socket in /run.
# shellcheck disable=SC2016 # expanded there
nas_within=(ip netns exec "$nas" sh -c 'mount -t tmpfs tmpfs /run &&
	exec "$@"' -)
make_repo "$dir/repo"
cat >"$repo/backstayd.conf" <<END
[vm **]
schedule = daily 02:00 UTC
retry-wait = 1s
keep-last = 2
keep-daily = 4
keep-weekly = 2
keep-monthly = 1

[vm db*]
schedule = 02:00 UTC;
schedule = *-*-1 02:00 UTC
keep-daily = 0
keep-last = 3
END
start_nas() {
	start_daemon --listen 0.0.0.0:7722
	# It stays where it is: only the first of its ports was chosen.
	head -n 1 "$repo/port" >"$dir/port.${repo//\//_}"
}
start_nas

# on HOST COMMAND...: there.
on() {
	local host=$1

	shift
	bounded ip netns exec "${netns[$host]}" env \
		"BACKSTAY_AGENT_DIR=$dir/agent-$host" \
		"BACKSTAY_AGENT_REPO=ssh://10.204.${host#kvm}.1:7722" "$@"
}
start_agent() {
	local host=$1

	ip netns exec "${netns[$host]}" env \
		"BACKSTAY_AGENT_DIR=$dir/agent-$host" \
		"$BIN/backstay-agent" serve >>"$dir/$host.log" 2>&1 &
	agent_of[$host]=$!
	pids+=("$!")
}
connected() {
	console agents --json >"$dir/agents.json" || fail agents
	[ "$(json "$dir/agents.json" "sum(a['connected'] for a in j)")" = "$1" ]
}

declare -A vms=([kvm1]="web1 web2" [kvm2]="db1 db2" [kvm3]="app1 app2")
all=(app1 app2 db1 db2 web1 web2)
for host in "${hosts[@]}"; do
	on "$host" "$BIN/backstay-agent" keygen --comment "test@$host" \
		>"$dir/$host.pub" || fail "keygen of $host"
	console key add "$host" "$dir/$host.pub" >"$dir/key.out" 2>&1 ||
		fail "key add $host: $(cat "$dir/key.out")"
	on "$host" "$BIN/backstay-agent" enroll \
		"ssh://10.204.${host#kvm}.1:7722" >"$dir/enroll.out" 2>&1 ||
		fail "enroll $host: $(cat "$dir/enroll.out")"
	{
		printf '[agent]\nrepo = ssh://10.204.%s.1:7722\n' "${host#kvm}"
		for vm in ${vms[$host]}; do
			mkdisk "$dir/$vm.img" 1 "$vm"
			printf '[vm %s]\ndisk = vda=%s\n' "$vm" "$dir/$vm.img"
		done
	} >"$dir/agent-$host/agent.conf"
	start_agent "$host"
done
wait_for 20 connected 3 || fail "not connected: $(cat "$dir"/kvm*.log)"
ok "three hosts in networks of their own are connected"

# --- day by day

console schedule --check 'daily 02:00 UTC; *-*~1' --json >"$dir/check.json" ||
	fail "schedule --check"
[ "$(json "$dir/check.json" "len(j), j == sorted(j)")" = "(5, True)" ] ||
	fail "$(cat "$dir/check.json")"
expect_fail 2 'hour 25: from 0 to 23' console schedule --check 25:00
expect_fail 1 'has a VM nobody' console schedule nobody

# wall: what the daemon's clock shows, in seconds.
wall() { echo $(($(date +%s) + clock_wall)); }
# to_hour H: forward to that hour of a day, UTC, a second after it.
to_hour() {
	local now

	now=$(wall)
	pass $((((now / day) * day + $1 * 3600 + 1 - now + day - 1) % day + 1))
}
schedule() {
	console schedule --json >"$dir/schedule.json" 2>"$dir/schedule.err" ||
		fail "schedule: $(cat "$dir/schedule.err")"
}
utc() { date -u -d "@$1" +%Y-%m-%dT%H:%M:%SZ; }
# have_run DUE VM...: the run of that time is done, and its prune.
have_run() {
	local due=$1

	shift
	schedule
	[ "$(json "$dir/schedule.json" "all(
v['state'] == 'waits' and v.get('last', {}).get('due') == '$due' and
v['last']['outcome'] == 'done' and
v.get('pruned', {}).get('at', '') >= v['last']['ended']
for v in j if v['vm'] in '$*'.split())")" = True ]
}
# runs_done DUE VM...: wait for that.
runs_done() {
	wait_for 30 have_run "$@" ||
		fail "no run of $1: $(cat "$dir/schedule.json" "$dir"/kvm*.log)"
}
# What the second opinion says of all backups that there ever were, day by day.
cat >"$dir/history.py" <<'END'
import calendar, json, subprocess, sys, time
def seconds(text):
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))
reference, listing, state, now = sys.argv[1:]
policies = {
    "db": {"last": 3, "daily": 0, "weekly": 2, "monthly": 1},
    "": {"last": 2, "daily": 4, "weekly": 2, "monthly": 1},
}
try:
    was = json.load(open(state))
except FileNotFoundError:
    was = {}
have = {}
for b in json.load(open(listing)):
    have.setdefault(b["vm"], []).append(b)
made = gone = 0
for vm, backups in sorted(have.items()):
    old = was.get(vm, [])
    known = {b["seq"] for b in old}
    new = [b for b in backups if b["seq"] not in known and
           (not known or b["seq"] > max(known))]
    made += len(new)
    for b in new:
        old = old + [{"time": seconds(b["time"]), "seq": b["seq"]}]
        policy = policies["db" if vm.startswith("db") else ""]
        case = {"now": seconds(now), "policy": policy, "backups": old}
        said = subprocess.run([sys.executable, reference],
                              input=json.dumps(case), capture_output=True,
                              text=True, check=True).stdout.split()
        going = [b for b, rule in zip(old, said) if rule == "-"]
        if 2 * len(going) <= len(old):
            gone += len(going)
            old = [b for b in old if b not in going]
    want = [b["seq"] for b in old]
    if want != [b["seq"] for b in backups]:
        sys.exit("%s: has %s, the second opinion keeps %s" % (
            vm, [b["time"] for b in backups],
            [time.strftime("%F %T", time.gmtime(b["time"])) for b in old]))
    was[vm] = old
json.dump(was, open(state, "w"))
print(made, gone)
END
made=0 gone=0
# compare: what there is with what there should be; counts.
compare() {
	local m g

	console list --json >"$dir/list.json" || fail list
	read -r m g < <("$PYTHON" "$dir/history.py" \
		"$top/tests/spec/retention.py" "$dir/list.json" \
		"$dir/history.json" "$(utc "$(wall)")" 2>"$dir/history.err") ||
		fail "$(cat "$dir/history.err")"
	made=$((made + m)) gone=$((gone + g))
}
away_from=$((days / 3)) away_to=$((days / 3 + 2))

# The schedule was first seen just now: nothing is made up for.
all_known() {
	schedule
	[ "$(json "$dir/schedule.json" "' '.join(v['vm'] for v in j if
v['state'] == 'waits')")" = "${all[*]}" ]
}
wait_for 10 all_known || fail "$(cat "$dir/schedule.json")"
for i in $(seq 1 "$days"); do
	there=("${all[@]}")
	to_hour 2
	due=$(utc $(($(wall) / day * day + 7200)))
	if [ "$i" -ge $away_from ] && [ "$i" -lt $away_to ]; then
		there=(db1 db2 web1 web2)
	fi
	for vm in "${there[@]}"; do
		put_noise "$dir/$vm.img" $((i % 60 * 4096)) 4096 "$vm.$i"
	done
	runs_done "$due" "${there[@]}"
	compare
	[ "$i" != $((away_from - 1)) ] || {
		kill -TERM "${agent_of[kvm3]}"
		agent_wait "${agent_of[kvm3]}"
		wait_for 10 connected 2 || fail "kvm3 is still there"
	}
	[ "$i" != $((away_to - 1)) ] || {
		# It is told, and made up for, once.
		pass 1200
		missed_two() {
			console status >"$dir/status" &&
				grep -q '^schedule    6 VMs; 2 missed: see' \
					"$dir/status"
		}
		wait_for 10 missed_two || fail "$(cat "$dir/status")"
		console schedule >"$dir/out" || fail schedule
		grep -q '^app1: .* waits for: no connected agent' "$dir/out" ||
			fail "$(cat "$dir/out")"
		start_agent kvm3
		runs_done "$due" app1 app2
		before=$made
		compare
		[ $((made - before)) = 2 ] ||
			fail "$((made - before)) made up for, not 2"
	}
	[ "$i" != $((away_to)) ] || {
		stop_daemon
		start_nas
		wait_for 30 connected 3 || fail "they do not come back"
	}
	[ "$i" != $((away_to + 1)) ] || {
		stop_daemon
		# As if half of it had been written.
		truncate -s -7 "$repo/schedule.json"
		start_nas
		grep -q 'schedule.json: it is damaged' "$daemon_log" ||
			fail "nothing is said of it"
		wait_for 30 connected 3 || fail "they do not come back"
	}
done
[ "$made" = $((6 * days - 2)) ] || fail "$made backups in $days days"
[ "$gone" -gt $((days / 2)) ] || fail "only $gone let go of"
ok "in $days days $made backups were made and $gone let go of, as the second opinion says"
grep -q 'scheduled backup of .* was missed' "$dir"/daemon.*.log ||
	fail "nothing is logged of what was missed"
ok "a host that was away is told of, and made up for once; so is a restart"

# --- what goes wrong

# state VM: and what it was last.
state() { json "$dir/schedule.json" "[(v['state'], v['last']['outcome'])
for v in j if v['vm'] == '$1'][0]"; }
is_retried() {
	schedule
	[ "$(state web1)" = "('retry', 'failed')" ]
}
mv "$dir/web1.img" "$dir/web1.away"
to_hour 2
due=$(utc $(($(wall) / day * day + 7200)))
runs_done "$due" app1 app2 db1 db2 web2
wait_for 10 is_retried || fail "$(cat "$dir/schedule.json")"
mv "$dir/web1.away" "$dir/web1.img"
pass 5
runs_done "$due" web1
compare
ok "a run that failed is tried again"

# A host that goes away with jobs that it did not take yet.
kill -STOP "${agent_of[kvm3]}"
to_hour 2
due=$(utc $(($(wall) / day * day + 7200)))
runs_done "$due" db1 db2 web1 web2
# queued N TEXT: of so many of its VMs at least the job says that.
queued() {
	schedule
	[ "$(json "$dir/schedule.json" "sum(v['state'] == 'runs' and
'$2' in v['text'] for v in j if v['vm'][:3] == 'app')")" -ge "$1" ]
}
wait_for 10 queued 2 job || fail "$(cat "$dir/schedule.json")"
kill -KILL "${agent_of[kvm3]}"
agent_wait "${agent_of[kvm3]}"
# Its last call was answered maybe; that one it may come back with.
wait_for 20 queued 1 'no connected agent' || fail "$(cat "$dir/schedule.json")"
pass 1200
told() {
	grep -q "app[12]: its scheduled backup of $due was missed" "$daemon_log"
}
wait_for 10 told || fail "nothing is said of what waits for a host"
start_agent kvm3
runs_done "$due" app1 app2
compare
ok "jobs whose host goes away wait for it, are told of, and run when it is back"

cat >>"$repo/backstayd.conf" <<END
[vm web1]
window = 03:00-04:00 UTC
END
kill -HUP "$daemon_pid"
waits_for_window() {
	schedule
	[ "$(json "$dir/schedule.json" "[v['window'] + v['state'] for v in j
if v['vm'] == 'web1'][0]")" = "03:00-04:00 UTCwindow" ]
}
to_hour 2
due=$(utc $(($(wall) / day * day + 7200)))
runs_done "$due" app1 app2 db1 db2 web2
wait_for 10 waits_for_window || fail "$(cat "$dir/schedule.json")"
to_hour 3
runs_done "$due" web1
compare
[ "$(json "$dir/schedule.json" "[v['last']['began'][11:13] for v in j
if v['vm'] == 'web1'][0]")" = 03 ] || fail "not in its window"
ok "a run that is due outside its window waits for it"

# --- clocks

# quiet FROM TO: the scheduler has looked between these, and has nothing to do.
quiet() {
	schedule
	[ "$(json "$dir/schedule.json" "all(v['state'] == 'waits' and
'$1' <= v['looked'] <= '$2' for v in j)")" = True ]
}
# stays N: it is quiet by the clock of now, and there are N backups.
stays() {
	wait_for 20 quiet "$(utc "$(wall)")" "$(utc $(($(wall) + 60)))" ||
		fail "$(cat "$dir/schedule.json")"
	[ "$(nbackups)" = "$1" ] || fail "$(nbackups) backups, not $1"
}
n=$(nbackups)
stays "$n"
# Back to before the last run, and over it once more.
set_clock $((clock_wall - 7200)) "$clock_steady"
stays "$n"
set_clock $((clock_wall + 7200)) "$clock_steady"
stays "$n"
ok "a clock that goes back runs nothing twice"
# A hundred days ahead: once; and nothing goes by such a clock.
all_ran() { [ "$(nbackups)" = $((n + 6)) ]; }
# In one step, or what is due between is run, too; into the window of web1.
of_day=$(($(wall) % day))
set_clock $((clock_wall + 101 * day - of_day + 3 * 3600 + 1)) "$clock_steady"
wait_for 30 all_ran || fail "$(cat "$dir/list.json")"
stays $((n + 6))
console status >"$dir/status" || fail status
grep -q '^schedule .* keep what their rules would not: see' "$dir/status" ||
	fail "$(cat "$dir/status" "$dir/schedule.json")"
# And back.
set_clock 0 "$clock_steady"
stays $((n + 6))
ok "one that jumps ahead runs once and lets nothing go, and back it runs nothing"
console audit >"$dir/audit" || fail audit
grep -q 'schedule.*prune' "$dir/audit" || fail "$(tail "$dir/audit")"
ok "what the schedule let go of is in the audit log"

for host in "${hosts[@]}"; do
	kill -TERM "${agent_of[$host]}"
	agent_wait "${agent_of[$host]}"
done
stop_daemon
check_store --data
ok "fsck finds nothing wrong"
