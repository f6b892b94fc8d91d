#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: an agent in the guest that is there and does not answer: a backup goes on
# without it and says so, or fails if it is required, and nothing stays frozen.
# A disk with an iothread of a QEMU that may crash by it is refused.
#
#   tests/e2e/108-live-mute.sh      LIVE=long: also one that hangs while it
#                                   freezes, and the newer libvirt
. "$(dirname "$0")/lib.sh"
. "$top/tests/live/lib.sh"

make_repo "$dir/repo"
start_daemon
enroll_agent host
lv_start

# nothing VM: is left in it.
nothing() {
	vm_qmp "$1" query-block-jobs >"$dir/jobs.json"
	vm_qmp "$1" query-named-block-nodes '{"flat": true}' >"$dir/nodes.json"
	[ "$(json "$dir/jobs.json" j)" = "[]" ] || fail "a job is left"
	[ "$(json "$dir/nodes.json" "[b['name'] for n in j
		for b in n.get('dirty-bitmaps', [])]" | grep -c backstay)" = "$2" ] ||
		fail "bitmaps: $(cat "$dir/nodes.json")"
	[ "$(json "$dir/nodes.json" \
		"sum(n['drv'] in ('qcow2', 'raw') for n in j)")" = 1 ] ||
		fail "nodes are left: $(cat "$dir/nodes.json")"
}

notes() { json "$dir/backup.json" '" | ".join(j["notes"])'; }

# passed VM HOW...: with auto it goes on, with require it does not.
passed() {
	local vm=$1

	shift
	backup host "acme/$vm" "$@"
	notes | has 'not frozen' || fail "notes: $(notes)"
	[ "$(json "$dir/backup.json" 'j["consistency"]')" = crash ] ||
		fail "consistency: $(cat "$dir/backup.json")"
	nothing "$vm" 1
	expect_fail 1 'cannot be frozen' agent host backup "acme/$vm" "$@" \
		--quiesce require
	nothing "$vm" 1
	vm_advance "$vm" 1
	vm_sound "$vm"
}

# --- a plain QEMU

agent_up() {
	rm -f "$dir/ga.sock"
	"$live/agent.py" "$dir/ga.sock" "$dir/ga.log" "$1" 2>"$dir/ga.err" &
	ga_pid=$!
	pids+=("$ga_pid")
	wait_for 20 test -S "$dir/ga.sock" || fail "$(cat "$dir/ga.err")"
}
agent_down() {
	kill -9 "$ga_pid"
	wait "$ga_pid" 2>/dev/null
	forget "$ga_pid"
}

mkdir "$dir/disks"
vm_disk "$dir/disks/a.qcow2" 16
vm_start plain disk="$dir/disks/a.qcow2" work=disks,8,500,/dev/vda
vm_wait plain '^AGREE .* ok' 90
how=(--qmp "$dir/plain/qmp.sock" --ga "$dir/ga.sock")
passed plain "${how[@]}" # there is nobody yet
agent_up mute
passed plain "${how[@]}"
! grep freeze "$dir/ga.log" || fail "a mute agent was asked to freeze"
agent_down
ok "an agent that is not there or does not answer is done without, or is required"

if [ "${LIVE:-}" = long ]; then
	agent_up hang
	expect_fail 1 'may still be frozen' agent host backup acme/plain \
		"${how[@]}"
	nothing plain 1
	agent_down
	: >"$dir/ga.log"
	agent_up good
	wait_for 60 grep -q fsfreeze-thaw "$dir/ga.log" ||
		backup host acme/plain "${how[@]}"
	grep -q fsfreeze-thaw "$dir/ga.log" || fail "it stays frozen"
	agent_down
	ok "where it may be frozen a backup fails, and it is thawed as soon as that can be"
fi
vm_stop plain

# --- libvirt

vm_disk "$lv_files/a.qcow2" 16
lv_domain web disk="$lv_files/a.qcow2" work=disks,8,500,/dev/vda ga=1
vm_wait web '^AGREE .* ok' 90
vm_wait web '^GA' 30
how=(--domain web --connect "$LV_URI" --scratch-dir "$lv_files")
backup host acme/web "${how[@]}" --quiesce require
lv_virsh qemu-agent-command web '{"execute": "guest-exec", "arguments":
	{"path": "/bin/killall", "arg": ["-STOP", "qemu-ga"]}}' \
	>"$dir/lv.out" 2>&1 || fail "guest-exec: $(cat "$dir/lv.out")"
mute() { ! lv_virsh qemu-agent-command web --timeout 5 \
	'{"execute": "guest-ping"}' >"$dir/lv.out" 2>&1; }
wait_for 60 mute || fail "its agent answers"
passed web "${how[@]}"
ok "so it is with a domain's"
lv_halt web

# --- iothreads

define() {
	lv_virsh define "$1" >"$dir/lv.out" 2>&1 ||
		fail "define: $(cat "$dir/lv.out")"
}

thread() {
	vm_disk "$lv_files/t.qcow2" 16
	lv_domain "$1" disk="$lv_files/t.qcow2" work=disks,8,500,/dev/vda \
		top="<iothreads>1</iothreads>"
	lv_halt "$1"
	lv_virsh dumpxml "$1" --inactive >"$dir/plain.xml" || fail "dumpxml"
	sed "s/<driver name='qemu' type='qcow2'/& iothread='1'/" \
		"$dir/plain.xml" >"$dir/thread.xml"
	define "$dir/thread.xml"
	lv_power "$1"
	vm_wait "$1" '^AGREE .* ok' 90
	how=(--domain "$1" --connect "$LV_URI" --scratch-dir "$lv_files")
}
thread thread
# What is defined for its next start says nothing of how it runs.
sed '/iothreads/d' "$dir/plain.xml" >"$dir/none.xml"
define "$dir/none.xml"
lv_virsh dumpxml thread --inactive >"$dir/inactive.xml"
! grep iothread "$dir/inactive.xml" || fail "it still has one"
expect_fail 1 'has an iothread' agent host backup acme/thread "${how[@]}"
nothing thread 0
[ -z "$(find "$lv_files" -name 'backstay-*')" ] || fail "files are left"
vm_advance thread 1
lv_halt thread
backup host acme/thread "${how[@]}"
ok "a disk with an iothread is refused while it runs, and read while it is off"
lv_stop

if [ "${LIVE:-}" = long ]; then
	rm -rf "$dir/lv"
	lv_start new=1
	thread newer
	was=$(vm_number newer)
	for _ in 1 2; do
		backup host acme/newer "${how[@]}"
		rm -f "$dir/back"
		restore host "$(json "$dir/backup.json" 'j["backup"]')" \
			--disk "vda=raw:$dir/back"
		slots 8 "$dir/back" --from "$was"
		vm_advance newer 50
		was=$(vm_number newer)
	done
	vm_sound newer
	lv_stop
	ok "with QEMU 10 it is backed up"
fi
