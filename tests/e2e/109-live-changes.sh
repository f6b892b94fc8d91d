#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: domains whose disks change otherwise between two backups: by a snapshot,
# by growth; that are paused, transient, or have a block device.
#
#   tests/e2e/109-live-changes.sh
. "$(dirname "$0")/lib.sh"
. "$top/tests/live/lib.sh"
need losetup

make_repo "$dir/repo"
start_daemon
enroll_agent host
lv_start
vm=acme/web
how=(--domain web --connect "$LV_URI" --scratch-dir "$lv_files")

# take WORD...: a backup of ${vm}, as ${last}.
take() {
	backup host "$vm" "${how[@]}" "$@"
	last=$(json "$dir/backup.json" 'j["backup"]')
}

notes() { json "$dir/backup.json" '" | ".join(j["notes"])'; }
says() { notes | has -E -- "$1" || fail "no word of \"$1\": $(notes)"; }
silent() { [ -z "$(notes)" ] || fail "says: $(notes)"; }

# as_image NAME IMAGE [FORMAT]: that disk of ${last} is as the image, now.
as_image() {
	rm -f "$dir/back"
	restore host "$last" --disk "$1=raw:$dir/back"
	same_disk "$2" "${3:-qcow2}" "$dir/back" raw
}

little() {
	[ "$(stat_of read)" -lt $((8 << 20)) ] ||
		fail "$1: read $(stat_of read) bytes; notes: $(notes)"
}
much() {
	[ "$(stat_of read)" -ge $((8 << 20)) ] ||
		fail "$1: read $(stat_of read) bytes; notes: $(notes)"
}

# live FROM: ${last} holds one point in time, of at least that number.
live() {
	rm -f "$dir/back"
	restore host "$last" --disk "vda=raw:$dir/back"
	slots 8 "$dir/back" --from "$1"
	still "$dir/back" "$lv_files/a.qcow2"
}

# --- a snapshot, a pause

vm_disk "$lv_files/a.qcow2" 64
lv_domain web disk="$lv_files/a.qcow2" work=disks,8,500,/dev/vda ga=1
vm_wait web '^AGREE .* ok' 90
take
lv_virsh snapshot-create-as web one --disk-only --atomic --no-metadata \
	--diskspec "vda,file=$lv_files/overlay.qcow2" >"$dir/lv.out" 2>&1 ||
	fail "snapshot: $(cat "$dir/lv.out")"
vm_advance web 50
was=$(vm_number web)
take
live "$was"
vm_advance web 50
was=$(vm_number web)
take
little "the second one after a snapshot"
live "$was"
lv_virsh suspend web >"$dir/lv.out" || fail "suspend"
take
as_image_live=$(lv_virsh domstate web)
[ "$as_image_live" = paused ] || fail "it does not stay paused: $as_image_live"
expect_fail 1 'paused' agent host backup $vm "${how[@]}" --quiesce require
[ "$(lv_virsh domstate web)" = paused ] || fail "it goes on"
take --ram
[ "$(lv_virsh domstate web)" = paused ] || fail "it goes on, after --ram"
was=$last
lv_halt web
rm -f "$dir/back"
restore host "$was" --disk "vda=raw:$dir/back"
same_disk "$lv_files/overlay.qcow2" qcow2 "$dir/back" raw
ok "a snapshot between two backups; a paused domain is backed up and stays so"

lv_power web
vm_wait web '^AGREE .* ok' 90
vm_wait web '^GA' 30
take
lv_virsh blockresize web vda 80M >"$dir/lv.out" 2>&1 ||
	fail "blockresize: $(cat "$dir/lv.out")"
# The guest writes to what is new.
lv_virsh qemu-agent-command web '{"execute": "guest-exec", "arguments":
	{"path": "/bin/sh", "arg": ["-c", "yes grown | head -c 65536 | dd of=/dev/vda bs=65536 seek=1120 conv=fsync,notrunc && echo GROWN >/dev/console"]}}' \
	>"$dir/lv.out" 2>&1 || fail "guest-exec: $(cat "$dir/lv.out")"
vm_wait web '^GROWN' 30
take
much "a disk that grew"
says 'vda: in the last backup it is of another size'
[ "$(json "$dir/backup.json" 'j["size"] >> 20')" = 80 ] ||
	fail "size: $(cat "$dir/backup.json")"
vm_advance web 50
take
little "once more, after it grew"
lv_virsh suspend web >"$dir/lv.out" || fail "suspend"
take
was=$last
lv_halt web
last=$was
as_image vda "$lv_files/overlay.qcow2"
cmp -s <(dd if="$dir/back" bs=64k skip=1120 count=1 status=none) \
	<(yes grown | head -c 65536) || fail "what is in the new part"
ok "a disk that grew is read whole, once"

# --- a block device, in a transient domain

vm=acme/blk
how=(--domain blk --connect "$LV_URI" --scratch-dir "$lv_files")
vm_disk "$lv_files/b.img" 64 raw
vm_disk "$lv_files/c.qcow2" 64
loop=$(losetup -f --show "$lv_files/b.img") || fail "losetup"
loops+=("$loop")
chown "$lv_user:$lv_user" "$loop"
lv_domain blk disk="$lv_files/c.qcow2" work=disks,8,500,/dev/vda,/dev/vdb \
	devices="<disk type='block' device='disk'><driver name='qemu' type='raw'/>
	<source dev='$loop'/><target dev='vdb' bus='virtio'/></disk>"
vm_wait blk '^AGREE .* ok' 90
both() {
	rm -f "$dir"/r.vd?
	restore host "$last" --disk "vda=raw:$dir/r.vda" --disk "vdb=raw:$dir/r.vdb"
	slots 8 "$dir/r.vda" "$dir/r.vdb" --from "$1"
}
was=$(vm_number blk)
take
both "$was"
vm_advance blk 50
was=$(vm_number blk)
take
both "$was"
says 'vdb is read in full'
lv_virsh undefine blk --checkpoints-metadata >"$dir/lv.out" 2>&1 ||
	lv_virsh undefine blk >"$dir/lv.out" 2>&1 || fail "$(cat "$dir/lv.out")"
lv_virsh dominfo blk >"$dir/lv.out"
grep -q 'Persistent: *no' "$dir/lv.out" ||
	fail "it is not transient: $(cat "$dir/lv.out")"
was=$(vm_number blk)
take
both "$was"
vm_advance blk 50
was=$(vm_number blk)
take
both "$was"
[ "$(stat_of read)" -lt $((72 << 20)) ] || # vdb, and a little
	fail "transient: read $(stat_of read) bytes; notes: $(notes)"
vm_sound blk
lv_halt blk
lv_virsh define "$dir/blk/domain.xml" >"$dir/lv.out" 2>&1
take
rm -f "$dir"/r.vd?
restore host "$last" --disk "vda=raw:$dir/r.vda" --disk "vdb=raw:$dir/r.vdb"
same_disk "$lv_files/c.qcow2" qcow2 "$dir/r.vda" raw
same_bytes "$lv_files/b.img" "$dir/r.vdb"
ok "a transient domain with a block device, running and off"
lv_stop
