#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: domains that are off: what changed since the last backup is read, of a
# chain of images too, and what was done to an image meanwhile is in the backup.
#
#   tests/e2e/107-live-off.sh
. "$(dirname "$0")/lib.sh"
. "$top/tests/live/lib.sh"
need qemu-io

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

# io IMAGE COMMAND...: as a program that knows of bitmaps.
io() {
	local image=$1

	shift
	qemu-io -f qcow2 "${@/#/-c}" "$image" >"$dir/io.out" 2>&1 ||
		fail "qemu-io $image: $(cat "$dir/io.out")"
	! grep -iE 'error|fail' "$dir/io.out" || fail "qemu-io $image"
	chown "$lv_user:$lv_user" "$image"
}

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
	cmp -s -i $((32 << 20)) -n $((16 << 20)) "$dir/back" "$base.was" ||
		fail "$last: what nobody wrote is not as it was"
}

# --- a chain of images

base=$lv_files/base.qcow2
top_image=$lv_files/a.qcow2
vm_disk "$base" 64
qemu-img create -q -f qcow2 -b "$base" -F qcow2 "$top_image"
chown "$lv_user:$lv_user" "$base"
vm_disk "$lv_files/raw.img" 16 raw
lv_domain web disk="$top_image" disk="$lv_files/raw.img,raw" \
	work=disks,8,500,/dev/vda ga=1
vm_wait web '^AGREE .* ok' 90
lv_halt web
take
as_image vda "$top_image"
as_image vdb "$lv_files/raw.img" raw
[ "$(json "$dir/backup.json" 'j["consistency"]')" = offline ] ||
	fail "consistency: $(cat "$dir/backup.json")"
lv_power web
vm_wait web '^AGREE .* ok' 90
take --exclude vdb
live 1
lv_halt web
take --exclude vdb
little "off, after a live backup"
as_image vda "$top_image"
ok "of a domain that is off what changed since the last backup is read"

lv_power web
vm_wait web '^AGREE .* ok' 90
was=$(vm_number web)
take --exclude vdb
little "live, after one that was off"
live "$was"
vm_advance web 100
was=$(vm_number web)
take --exclude vdb
little "live again"
live "$was"
ok "a live backup builds on one of the domain while it was off"

# --- images that others write to

lv_halt web
io "$top_image" "write -P 17 40M 1M" "discard 41M 512k" "write -z 33M 64k"
take --exclude vdb
little "after qemu-io"
as_image vda "$top_image"
lv_power web
vm_wait web '^AGREE .* ok' 90
take --exclude vdb
little "live, after qemu-io"
rm -f "$dir/back"
restore host "$last" --disk "vda=raw:$dir/back"
slots 8 "$dir/back"
cmp -s <(dd if="$dir/back" bs=1M skip=40 count=1 status=none) \
	<(head -c 1M /dev/zero | tr '\0' '\021') || fail "what qemu-io wrote"
ok "what a program that keeps bitmaps wrote meanwhile is read"

# The 8 bytes of features that are cleared by who does not know them: as old
# programs do.
lv_halt web
io "$top_image" "write -P 18 44M 64k"
autoclear() { od -An -tu1 -j95 -N1 "$top_image" | tr -d ' '; }
[ "$(autoclear)" = 1 ] || fail "no bitmaps: $(autoclear)"
printf '\0' | dd of="$top_image" bs=1 seek=95 conv=notrunc status=none
take --exclude vdb
much "after a program that knows of no bitmaps"
says 'vda is read in full'
as_image vda "$top_image" 2> >(grep -vE 'bitmap|leaked' >&2)
lv_power web
vm_wait web '^AGREE .* ok' 90
take --exclude vdb
much "live, after that"
rm -f "$dir/back"
restore host "$last" --disk "vda=raw:$dir/back"
slots 8 "$dir/back"
vm_advance web 50
take --exclude vdb
little "the second one after that"
ok "after a program that knows of no bitmaps, all is read, once"

# Another image in its place, whose bitmap is nobody's.
lv_halt web
mv "$top_image" "$lv_files/old.qcow2"
qemu-img convert -q -O qcow2 "$lv_files/old.qcow2" "$top_image" ||
	fail "qemu-img convert"
io "$top_image" "write -P 19 46M 64k"
take --exclude vdb
much "after another image came in its place"
says 'vda is read in full'
as_image vda "$top_image"
# An overlay, made while it is off: the bitmap stays below.
rm "$top_image"
qemu-img create -q -f qcow2 -b "$lv_files/old.qcow2" -F qcow2 "$top_image"
io "$top_image" "write -P 20 47M 64k"
take --exclude vdb
much "with an overlay"
as_image vda "$top_image"
ok "an image or an overlay that came in its place is read whole"

# --- where there is no disk to read

mv "$lv_files/raw.img" "$lv_files/raw.away"
expect_fail 1 'disk vdb: .*raw.img' agent host backup $vm "${how[@]}"
take --exclude vdb
as_image vda "$top_image"
mv "$lv_files/raw.away" "$lv_files/raw.img"
ok "a disk that is not there is named, and can be left out"
lv_stop
