#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: a restore from the console onto a host replaces the right disks, whole
# and all of them, or none: another disk, a VM that runs and a second restore
# are refused, and whoever is killed half-way, the old disks are as they were,
# byte by byte; other jobs go on beside it, and it waits for its turn.
#
#   tests/e2e/240-restore-host.sh
. "$(dirname "$0")/lib.sh"
need qemu-img qemu-io qemu-system-x86_64

img=$dir/img
mkdir "$img"
make_repo "$dir/repo"
start_daemon
enroll_agent kvm1
# The NAS gives it less: a restore by it can be met half-way.
enroll_agent slow --bwlimit 5M

# conf_of NAME: the machines of that host.
conf_of() {
	printf '[agent]\nrepo = %s\njobs-per-host = 6\nscan = 1s\n' "$url"
	if [ "$1" = kvm1 ]; then
		for vm in p1 n1 n2 n3 n4 n5; do
			printf '[vm %s]\ndisk = vda=%s/%s.raw\n' $vm "$img" $vm
		done
	fi
	printf '[vm web1]\ndisk = vda=%s\ndisk = vdb=%s\n' \
		"$img/web1.raw" "$img/web1-b.qcow2"
}

# serve NAME: connected; ${serve_pid[NAME]}.
declare -A serve_pid
serve() {
	conf_of "$1" >"$dir/agent-$1/agent.conf"
	agent_start "$1" "$dir/serve-$1" serve
	serve_pid[$1]=$agent_pid
	wait_for 10 connected "$1" || fail "$1: $(cat "$dir/serve-$1.err")"
}
connected() {
	console agents --json >"$dir/agents.json" 2>/dev/null &&
		[ "$(json "$dir/agents.json" "any(g['agent'] == '$1' and
			g['connected'] for g in j)")" = True ]
}
children() { ps -o pid= --ppid "$1" 2>/dev/null | tr -d ' '; }
job_is() { # JOB STATE...
	console jobs --json >"$dir/jobs.json" || return 1
	json "$dir/jobs.json" \
		"[x['state'] for x in j if x['job'] == $1][0]" >"$dir/state"
	grep -qx -E "$2" "$dir/state"
}
text_of() {
	console jobs --json >"$dir/jobs.json"
	json "$dir/jobs.json" "[x['text'] for x in j if x['job'] == $1][0]"
}
# web1's disks as they are now, to compare with later.
remember() {
	cp "$img/web1.raw" "$dir/was.raw"
	cp "$img/web1-b.qcow2" "$dir/was.qcow2"
}
untouched() {
	same_bytes "$dir/was.raw" "$img/web1.raw"
	same_bytes "$dir/was.qcow2" "$img/web1-b.qcow2"
}
backed_up() {
	same_disk "$dir/a.raw" raw "$img/web1.raw" raw
	same_disk "$dir/b.raw" raw "$img/web1-b.qcow2" qcow2
}
change() {
	put_noise "$img/web1.raw" 0 2000000 "later$1"
	qemu-io -f qcow2 -c "write -q -P $1 0 1M" "$img/web1-b.qcow2" ||
		fail "cannot write to vdb"
}
leftovers() { find "$img" -name '.*' -type f; }
no_children() { [ -z "$(children "${serve_pid[slow]}")" ]; }
half_way() { # JOB
	console jobs --json >"$dir/jobs.json" || return 1
	[ "$(json "$dir/jobs.json" "any(x['job'] == $1 and
		x['state'] == 'running' and 0 < x['done'] < x['total']
		for x in j)")" = True ]
}

mkdisk "$dir/a.raw" 24 a
mkdisk "$dir/b.raw" 8 b
cp "$dir/a.raw" "$img/web1.raw"
qemu-img convert -f raw -O qcow2 "$dir/b.raw" "$img/web1-b.qcow2"
for vm in p1 n1 n2 n3 n4 n5; do
	mkdisk "$img/$vm.raw" 6 $vm
done
backup kvm1 web1 --disk vda="$img/web1.raw" --disk vdb="$img/web1-b.qcow2"
for i in 1 2 3; do
	put_noise "$img/p1.raw" 0 100000 "p$i"
	backup kvm1 p1 --disk vda="$img/p1.raw"
done
expect_fail 1 "kvm1 is not connected" console restore web1@latest --host kvm1
serve kvm1
serve slow
expect_fail 1 "no key named kvm9" console restore web1@latest --host kvm9
expect_fail 1 "there is no backup" console restore web9@latest --host kvm1

# --- the right disks

change 1
remember
console restore web1@latest --host kvm1 --keep-old >"$dir/out" 2>&1 ||
	fail "restore: $(cat "$dir/out")"
grep -q "verified and synced: vda replaced .*kept: " "$dir/out" ||
	fail "restore says $(cat "$dir/out")"
backed_up
same_bytes "$dir/was.raw" "$(echo "$img"/web1.raw.old-*)"
same_bytes "$dir/was.qcow2" "$(echo "$img"/web1-b.qcow2.old-*)"
[ -z "$(leftovers)" ] || fail "left behind: $(leftovers)"
rm "$img"/*.old-*
# It is the same disk as before, also to older backups.
change 2
console restore web1@latest --host kvm1 -q >"$dir/out" 2>&1 ||
	fail "the second restore: $(cat "$dir/out")"
backed_up
console audit --json >"$dir/audit.json" 2>/dev/null
grep -q restore_on "$dir/audit.json" || fail "the audit log has no restore_on"
ok "right disks are replaced, the old ones kept where that is asked for"

# --- wrong ones

refused() { expect_fail 1 "$1" console restore web1@latest --host kvm1 -q "${@:2}"; }
cp "$img/web1.raw" "$img/other" && mv "$img/other" "$img/web1.raw"
change 3
remember
refused "another has its name now"
untouched
truncate -s 25M "$img/web1.raw"
remember
refused "it has 26214400 bytes, and had 25165824"
untouched
refused "has no disk \"vdz\"" --disk vdz=/x
refused "a place of its own" --as web2
refused "say the path from the root" --disk vda=web.raw
console restore web1@latest --host kvm1 -q --disk vda="$img/web1.raw" \
	>"$dir/out" 2>&1 || fail "a named disk: $(cat "$dir/out")"
backed_up
console restore web1@latest --host kvm1 -q --as web2 \
	--disk vda="$img/web2.raw" --disk vdb=raw:"$img/web2-b.raw" \
	>"$dir/out" 2>&1 || fail "a new VM: $(cat "$dir/out")"
same_disk "$dir/a.raw" raw "$img/web2.raw" raw
same_disk "$dir/b.raw" raw "$img/web2-b.raw" raw
refused "is there already" --as web2 --disk vda="$img/web2.raw" \
	--disk vdb="$img/web2-c.qcow2"
[ -z "$(leftovers)" ] || fail "left behind: $(leftovers)"
ok "other disks are refused, and taken when they are named"

# --- the VM runs

change 4
remember
qemu-system-x86_64 -S -machine none -nodefaults -display none \
	-qmp unix:"$dir/web1.qmp",server=on,wait=off \
	-blockdev driver=qcow2,node-name=b,file.driver=file,file.filename="$img/web1-b.qcow2" \
	>"$dir/qemu.log" 2>&1 &
qemu=$!
pids+=("$qemu")
wait_for 20 test -S "$dir/web1.qmp" || fail "QEMU: $(cat "$dir/qemu.log")"
refused "web1-b.qcow2: is in use by QEMU"
expect_fail 1 "a QEMU listens at $dir/web1.qmp: the VM runs" \
	agent kvm1 restore -q web1@latest --swap --qmp "$dir/web1.qmp"
kill "$qemu"
wait "$qemu" 2>/dev/null
forget "$qemu"
untouched
[ -z "$(leftovers)" ] || fail "left behind: $(leftovers)"
ok "a VM that runs keeps its disks"

# --- who is killed half-way

begin_slow() {
	job=$(console restore web1@latest --host slow --no-wait) ||
		fail "cannot restore by the slow one"
	wait_for 15 half_way "$job" ||
		fail "it does not begin: $(text_of "$job")"
}
begin_slow
expect_fail 1 "web1 is being restored already: job $job on slow.*runs" \
	console restore web1@latest --host kvm1
expect_fail 1 "restore" agent kvm1 restore -q web1@latest --swap
child=$(children "${serve_pid[slow]}")
kill -9 "${serve_pid[slow]}" "$child"
wait "${serve_pid[slow]}" 2>/dev/null
forget "${serve_pid[slow]}"
wait_for 15 job_is "$job" failed || fail "the job does not end"
untouched
serve slow
begin_slow
kill_daemon
wait_for 20 no_children || fail "the restore goes on without a daemon"
untouched
[ -z "$(leftovers)" ] || fail "left behind: $(leftovers)"
start_daemon
wait_for 40 connected slow || fail "slow does not come back"
wait_for 40 connected kvm1 || fail "kvm1 does not come back"
begin_slow
console cancel "$job" >/dev/null || fail "cannot cancel"
wait_for 20 no_children || fail "a cancelled restore goes on"
untouched
ok "killed or cancelled half-way, agent or daemon: the old disks are as they were"

# --- the power goes between two renames

kill "${serve_pid[slow]}"
wait "${serve_pid[slow]}" 2>/dev/null
forget "${serve_pid[slow]}"
cp "$img/web1-b.qcow2" "$dir/was.qcow2"
cp "$dir/a.raw" "$img/.web1.raw.restoring"
qemu-img convert -f raw -O qcow2 "$dir/b.raw" "$img/.web1-b.qcow2.restoring"
inode() { stat -c %i "$img/$1"; }
journal=$(printf '{"format":1,"id":"%032d","disks":[' 7
	printf '{"dir":"%s","name":"web1.raw","new":%s,"old":%s},' "$img" \
		"$(inode .web1.raw.restoring)" "$(inode web1.raw)"
	printf '{"dir":"%s","name":"web1-b.qcow2","new":%s,"old":%s}]}' "$img" \
		"$(inode .web1-b.qcow2.restoring)" "$(inode web1-b.qcow2)")
echo "$journal" >"$img/.web1.raw.swap"
echo "$journal" >"$img/.web1-b.qcow2.swap"
ln "$img/web1.raw" "$img/.web1.raw.replaced"
mv "$img/.web1.raw.restoring" "$img/web1.raw"
expect_fail 1 "an interrupted restore has not ended yet" \
	agent kvm1 backup -q web1 --disk vdb="$img/web1-b.qcow2"
same_bytes "$dir/was.qcow2" "$img/web1-b.qcow2"
serve slow
tidy() { [ -z "$(leftovers)" ]; }
wait_for 10 tidy || fail "left: $(leftovers): $(cat "$dir/serve-slow.err")"
backed_up
grep -q "finished: an interrupted restore; 2 disks" "$dir/serve-slow.err" ||
	fail "the agent does not say so: $(cat "$dir/serve-slow.err")"
# Ours were no restore's: what is named is that disk again.
console restore web1@latest --host kvm1 -q --disk vda="$img/web1.raw" \
	--disk vdb="$img/web1-b.qcow2" >"$dir/out" 2>&1 ||
	fail "named disks: $(cat "$dir/out")"
ok "a swap that the power cut is finished when the agent is back"

# --- beside others, and behind them

back=
for vm in n1 n2 n3 n4 n5; do
	put_noise "$img/$vm.raw" 0 3000000 "again $vm"
	console backup $vm --host kvm1 --wait -q >"$dir/$vm.out" 2>&1 &
	pids+=($!)
	back="$back $!"
done
console restore web1@latest --host kvm1 -q >"$dir/restore.out" 2>&1 &
restore_pid=$!
pids+=("$restore_pid")
console prune p1 --keep-last 1 --force >"$dir/prune.out" 2>&1 ||
	fail "prune: $(cat "$dir/prune.out")"
for pid in $restore_pid $back; do
	wait "$pid" || fail "one of them failed: $(cat "$dir"/n?.out \
		"$dir/restore.out")"
	forget "$pid"
done
backed_up
[ "$(nbackups p1)" = 1 ] || fail "prune left $(nbackups p1)"
for vm in n1 n2 n3 n4 n5; do
	[ "$(nbackups $vm)" = 1 ] || fail "no backup of $vm"
done
ok "a restore while five others back up and two backups are pruned"

printf '[daemon]\njobs = 1\n' >>"$repo/backstayd.conf"
stop_daemon
start_daemon
wait_for 40 connected slow || fail "slow does not come back"
wait_for 40 connected kvm1 || fail "kvm1 does not come back"
change 5
first=$(console restore web1@latest --host slow --no-wait) || fail "restore"
wait_for 15 half_way "$first" || fail "it does not begin"
console backup n1 --host kvm1 >"$dir/n1.out" || fail "backup of n1"
second=$(console restore p1@latest --host kvm1 --no-wait \
	--disk vda="$img/p1.raw") || fail "restore of p1"
job_is "$second" queued || fail "it does not wait"
text_of "$second" | has "waits for a place: 1 of 1" ||
	fail "it waits for $(text_of "$second")"
expect_fail 1 "p1 is being restored already: job $second on kvm1.*is queued" \
	console restore p1@latest --host kvm1
console cancel "$first" >/dev/null || fail "cannot cancel"
wait_for 20 job_is "$second" "done" ||
	fail "job $second: $(cat "$dir/state"): $(text_of "$second")"
ok "where the NAS is full a restore waits for its turn, before backups"
stop_daemon
check_store
ok "the store is without fault"
