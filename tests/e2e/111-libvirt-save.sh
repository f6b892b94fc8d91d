#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: of a backup with memory an image is made that virsh restore takes, with
# this libvirt and with the newer one; and images of virsh save come back from
# the repository as they were.
#
#   tests/e2e/111-libvirt-save.sh
. "$(dirname "$0")/lib.sh"
. "$top/tests/live/lib.sh"

region=64
make_repo "$dir/repo"
start_daemon
enroll_agent host

# boot NAME WORD...: a domain that runs, and has written for a while.
boot() {
	local name=$1

	shift
	vm_disk "$lv_files/$name.qcow2" 192
	lv_domain "$name" disk="$lv_files/$name.qcow2" memwork=32 \
		work="disks,$region,1000,/dev/vda" "$@"
	vm_wait "$name" '^AGREE .* ok' 90
	vm_wait "$name" '^COUNT .* ok' 60
}

# goes_on NAME NUMBER: it was not booted anew.
goes_on() {
	vm_wait "$1" '^AGREE .* ok' 90
	vm_wait "$1" '^COUNT .* ok' 90
	vm_advance "$1" 20
	vm_sound "$1"
	if vm_console "$1" | has -a FOUND; then
		fail "$1 was booted anew"
	fi
	[ "$(vm_number "$1")" -ge "$2" ] ||
		fail "$1 is at $(vm_number "$1"), and was at $2"
}

# as_save NAME METHOD FORM
as_save() {
	local name=$1 method=$2 form=$3 file=$lv_files/$1.save before

	before=$(vm_number "$name")
	backup host "$name" --domain "$name" --connect "$LV_URI" \
		--scratch-dir "$lv_files" --ram-method "$method"
	lv_halt "$name"
	agent host restore --json -q "$name@latest" --as-libvirt-save "$file" \
		--connect "$LV_URI" --force >"$dir/save.json" \
		2>"$dir/save.err" ||
		fail "as-libvirt-save: $(cat "$dir/save.err")"
	[ "$(json "$dir/save.json" "j['machine']['ram']")" = "$form" ] ||
		fail "memory has another form: $(cat "$dir/save.json")"
	[ "$(od -A n -t u4 -j 28 -N 4 "$file" | tr -d ' ')" = "$4" ] ||
		fail "the image has another format"
	: >"$dir/$name/serial"
	vm_seen[$name]=0
	lv_virsh restore "$file" >"$dir/lv.out" 2>&1 ||
		fail "virsh restore: $(cat "$dir/lv.out" "$dir/lv/libvirtd.log" \
			"$dir"/lv/cache/libvirt/qemu/log/"$name".log | tail -n 20)"
	vm_pid[$name]=$(cat "$dir/lv/run/libvirt/qemu/run/$name.pid")
	goes_on "$name" "$before"
	rm -f "$file"
	ok "memory of form $form: virsh restore takes it, and the guest goes on"
}

# The virsh of the newer room knows more.
room=

# keeps NAME SAVE-OPTION...: what virsh save writes comes back.
keeps() {
	local name=$1 file=$lv_files/$1.save before

	shift
	before=$(vm_number "$name")
	(${room:-bounded} virsh -q -c "$LV_URI" save "$name" "$file" "$@") \
		>"$dir/lv.out" 2>&1 || fail "virsh save: $(cat "$dir/lv.out")"
	backup host "$name-save" --disk "vda=qcow2:$lv_files/$name.qcow2" \
		--disk "mem=raw:$file"
	mv "$file" "$file.was"
	restore host "$name-save@latest" --disk "mem=raw:$file"
	same_bytes "$file.was" "$file"
	chown "$lv_user:$lv_user" "$file"
	: >"$dir/$name/serial"
	vm_seen[$name]=0
	lv_virsh restore "$file" >"$dir/lv.out" 2>&1 ||
		fail "virsh restore: $(cat "$dir/lv.out")"
	vm_pid[$name]=$(cat "$dir/lv/run/libvirt/qemu/run/$name.pid")
	goes_on "$name" "$before"
	rm -f "$file" "$file.was"
	ok "an image of virsh save${*:+ }$* comes back as it was"
}

lv_start
boot web ram=1
keeps web
as_save web stream placed 0
as_save web shared shared 0
lv_halt web
lv_stop

rm -rf "$dir/lv"
lv_start new=1
room=in_new_room
boot web ram=1
keeps web --image-format sparse
keeps web
as_save web mapped mapped 6
as_save web stream placed 0
as_save web shared shared 0
lv_halt web
lv_stop
