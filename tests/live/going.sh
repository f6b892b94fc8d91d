# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Machines that were backed up with their memory, restored and started: what the
# tests of that share.  Sourced behind tests/live/lib.sh.
#
#   going_words=(WORD...)   of vm_start and lv_domain, for each guest
#   going_qemu=(...)        options of restore for a plain QEMU
: "${dir:?}" "${live:?source tests/live/lib.sh first}" "${lv_user:?}"
: "${lv_files=}"
declare -A vm_pid vm_seen # lib.sh's
: "${vm_pid[*]-}" "${vm_seen[*]-}"
region=64 # MiB of a disk that the guest writes
declare -a going_words=() going_qemu=()

going_begin() {
	make_repo "$dir/repo"
	start_daemon
	enroll_agent host
	mkdir "$dir/new"
}

# start BACKUP ARGUMENT...: restore --start; outcome in start.json.
start() {
	local begun

	begun=$(now_ms)
	agent host restore --json -q "$@" >"$dir/start.json" \
		2>"$dir/start.err" ||
		fail "restore $*: status $?: $(cat "$dir/start.err")"
	start_ms=$(($(now_ms) - begun))
}
started() { json "$dir/start.json" "j['machine']['$1']"; }

# goes_on NAME NUMBER: disks and memory agree, and memory is sound; it wrote
# NUMBER before, and never begins anew.
goes_on() {
	local name=$1 number=$2

	vm_wait "$name" '^AGREE .* ok' 90
	vm_wait "$name" '^COUNT .* ok' 90
	vm_advance "$name" 20
	vm_sound "$name"
	if vm_console "$name" | has -a FOUND; then
		fail "$name was booted anew"
	fi
	[ "$(vm_number "$name")" -ge "$number" ] ||
		fail "$name is at $(vm_number "$name"), and was at $number"
}

# no_trace: what belongs to a restore alone is gone.
no_trace() {
	if find "$dir/new" "$dir" -maxdepth 2 -name '*restoring*' | grep .; then
		fail "files of a restore are left"
	fi
}

# plain METHOD WORD...: of a QEMU without libvirt, saved by that method.
plain() {
	local method=$1 before vm=acme/web-$1 name=p$1 serial

	shift
	vm_disk "$dir/$name.qcow2" 192
	vm_start "$name" disk="$dir/$name.qcow2" memwork=32 \
		work="disks,$region,1000,/dev/vda" "${going_words[@]}" "$@"
	serial=$dir/$name/serial
	vm_wait "$name" '^AGREE .* ok' 90
	vm_wait "$name" '^COUNT .* ok' 60
	before=$(vm_number "$name")
	backup host "$vm" --qmp "$dir/$name/qmp.sock" --scratch-dir "$dir" \
		--ram-method "$method"
	[ "$(json "$dir/backup.json" "j['ram']")" = "$method" ] ||
		fail "memory was saved by another method"

	expect_fail 1 'runs; end it, or say --clone' \
		agent host restore -q "$vm@latest" --start

	mkdir -p "$dir/new/$name"
	start "$vm@latest" --start --clone "c$name" --dir "$dir/new/$name" \
		"${going_qemu[@]}"
	vm_pid[c$name]=$(started pid)
	pids+=("$(started pid)")
	mkdir -p "$dir/c$name"
	ln -sf "$dir/new/$name/serial" "$dir/c$name/serial"
	vm_seen[c$name]=0
	goes_on "c$name" "$before"
	ok "$method: a clone goes on, $start_ms ms after the command"
	vm_mark "$name"
	vm_wait "$name" '^AGREE .* ok' 60
	vm_sound "$name"
	ok "$method: the original runs beside it"
	no_trace
	"$live/qmp.py" "$dir/new/$name/mon.sock" query-name >"$dir/name.json" ||
		fail "no monitor of the clone"
	grep -q "c$name" "$dir/name.json" || fail "it has not the clone's name"
	kill -TERM "${vm_pid[c$name]}"
	wait_for 20 gone "${vm_pid[c$name]}" || fail "the clone does not end"

	vm_stop "$name"
	expect_fail 1 'is there already.*--force' \
		agent host restore -q "$vm@latest" --start
	: >"$serial"
	start "$vm@latest" --start --force "${going_qemu[@]}"
	vm_pid[$name]=$(started pid)
	pids+=("$(started pid)")
	vm_seen[$name]=0
	goes_on "$name" "$before"
	ok "$method: restored in its old place, it goes on after $start_ms ms"
	kill -TERM "${vm_pid[$name]}"
	wait_for 20 gone "${vm_pid[$name]}" || fail "it does not end"
}

# domain METHOD WORD...: the same of a domain of libvirt.
domain() {
	local method=$1 before vm=dom-$1 name=d$1

	shift
	vm_disk "$lv_files/$name.qcow2" 192
	lv_domain "$name" disk="$lv_files/$name.qcow2" memwork=32 \
		work="disks,$region,1000,/dev/vda" "${going_words[@]}" "$@"
	vm_wait "$name" '^AGREE .* ok' 90
	vm_wait "$name" '^COUNT .* ok' 60
	before=$(vm_number "$name")
	backup host "$vm" --domain "$name" --connect "$LV_URI" \
		--scratch-dir "$lv_files" --ram-method "$method"
	expect_fail 1 'runs: switch it off, or say --clone' agent host \
		restore -q "$vm@latest" --start --connect "$LV_URI"

	mkdir -p "$lv_files/c$name" "$dir/c$name"
	chown "$lv_user:$lv_user" "$lv_files/c$name"
	ln -sf "$lv_files/c$name/serial" "$dir/c$name/serial"
	vm_seen[c$name]=0
	start "$vm@latest" --start --clone "c$name" --connect "$LV_URI" \
		--dir "$lv_files/c$name"
	vm_pid[c$name]=$(started pid)
	goes_on "c$name" "$before"
	ok "libvirt, $method: a clone goes on, $start_ms ms after the command"
	vm_mark "$name"
	vm_wait "$name" '^AGREE .* ok' 60
	vm_sound "$name"
	ok "libvirt, $method: the original runs beside it"
	no_trace
	lv_virsh dumpxml --inactive "c$name" >"$dir/c.xml" || fail "dumpxml"
	if grep -q 'defer' "$dir/c.xml"; then
		fail "the clone's definition has QEMU's arguments"
	fi
	[ "$(lv_virsh domuuid "$name")" != "$(lv_virsh domuuid "c$name")" ] ||
		fail "the clone has the original's identity"
	lv_halt "c$name"
	lv_virsh undefine "c$name" >"$dir/lv.out" || fail "undefine"

	lv_halt "$name"
	expect_fail 1 'is there already.*--force' agent host restore -q \
		"$vm@latest" --start --connect "$LV_URI"
	: >"$dir/$name/serial"
	start "$vm@latest" --start --force --connect "$LV_URI"
	vm_pid[$name]=$(started pid)
	vm_seen[$name]=0
	goes_on "$name" "$before"
	ok "libvirt, $method: in its old place it goes on after $start_ms ms"
	backup host "$vm" --domain "$name" --connect "$LV_URI" \
		--scratch-dir "$lv_files"
	ok "libvirt, $method: it can be backed up again"
	lv_halt "$name"
	# It boots from its definition alone.
	lv_power "$name"
	vm_wait "$name" '^AGREE .* ok' 90
	vm_sound "$name"
	ok "libvirt, $method: its definition starts it"
	lv_halt "$name"
}
