#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: what tests/bench/ram.sh measures, in short: a running guest is saved with
# its memory, under plain QEMU and libvirt, and in each way that memory can be
# saved.  The second save stores at most a quarter of the first, the guest works
# on, and from the last one it goes on where it was: each of its pages is as it
# left it, and its disks are as it remembers them.
. "$(dirname "$0")/lib.sh"
. "$top/tests/live/lib.sh"
. "$top/tests/live/ram.sh"

ram_room 2048

# must_hold METHOD BACKUP: the volumes that there are to be, and disks of one
# point in time.
must_hold() {
	local want='definition:definition ram-facts:state ram0:ram state:state vda:disk vdb:disk '

	[ "$1" != mapped ] || want=${want/state:state /}
	[ "$(ram_volumes "$2" | tr ' ' '\n' | sed 's/:[0-9]*$//' | LC_ALL=C sort |
		tr '\n' ' ')" = "$want" ] || fail "$2 has $(ram_volumes "$2")"
	[ "$(ram_volumes "$2" | tr ' ' '\n' |
		sed -n 's/^ram0:ram://p')" -ge $((160 << 20)) ] ||
		fail "$2 has too little memory"
	rm -f "$dir"/r.vd?
	restore host "$2" --disk "vda=raw:$dir/r.vda" --disk "vdb=raw:$dir/r.vdb"
	slots 32 "$dir/r.vda" "$dir/r.vdb"
}

# one WHAT METHOD KIND MEMORY [WORD...]: a guest, saved twice, and back.
one() {
	local what=$1 method=$2 was first second last scratch=$dir/copy
	local -a to=()

	shift 2
	mkdir -p "$scratch"
	if [ "$2" = file ]; then
		scratch=$ram_fs/scratch
		to=(--ram-dir "$ram_fs/memory")
	fi
	ram_repo
	ram_guest "$1" "$2" 160 64 "${@:3}"
	was=$(ram_stored)
	ram_save "$method-$1" --ram-method "$method" --scratch-dir "$scratch"
	first=$(($(ram_stored) - was))
	vm_advance web 100
	was=$(ram_stored)
	ram_save "$method-$1" --ram-method "$method" --scratch-dir "$scratch"
	second=$(($(ram_stored) - was))
	[ "$(json "$dir/backup.json" 'j["ram"]')" = "$method" ] ||
		fail "not by $method: $(cat "$dir/backup.json")"
	[ "$(json "$dir/backup.json" 'j["incremental"]')" = True ] ||
		fail "not on top of the first: $(cat "$dir/backup.json")"
	[ $first -ge $((40 << 20)) ] ||
		fail "the first save stored only $first bytes"
	[ $((second * 4)) -le $first ] ||
		fail "the second save stored $second bytes, the first $first"
	vm_advance web 100
	vm_sound web
	last=$(json "$dir/backup.json" 'j["backup"]')
	ok "$what, $method: paused for $(json "$dir/backup.json" \
		'j["pause_us"] // 1000') ms, silent for $((ram_gap_us / 1000)); stored $((first >> 20)) MiB, then $((second * 10 / 1048576)) tenths"
	must_hold "$method" "$last"
	ram_lose
	ram_back "$last" "${to[@]}"
	ram_goes_on "${ram_ticks[@]}"
	ram_well
	ok "$what, $method: it goes on after $ram_back_ms ms, and finds nothing to be other than it was"
	ram_forget
}

one "QEMU 7" shared plain file
one "QEMU 7" snapshot plain anonymous
one "QEMU 10" mapped plain anonymous new=1
lv_start "ram=$ram_fs/memory"
one libvirt shared libvirt file
lv_stop
