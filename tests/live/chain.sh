# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# A chain of backups of one guest, each restored and looked at: what the tests of
# plain QEMU and of libvirt share.  Sourced behind tests/live/lib.sh.
#
#   chain_how=(--qmp SOCKET ...)   how the agent reaches the guest ${chain_vm},
#                                  whose backups are called ${chain_name}
#   chain_disks=FOLDER             of its disks a.qcow2, b.qcow2 and c.qcow2
#   LIVE=long                      20 incrementals, and not 3
: "${dir:?source tests/live/lib.sh first}"
chain_vm=web
chain_name=acme/web
chain_disks=
chain_region=64 # MiB of each disk that the guest writes
declare -a chain_how=()
declare -A chain_was=()
chain_last=
chain_full_read=
rounds=3
[ "${LIVE:-}" != long ] || rounds=20

# chain_check BACKUP FROM TO: restores it; each disk is one point in time, between
# the numbers FROM and TO, and the two agree.
chain_check() {
	rm -f "$dir"/r.vd?
	restore host "$1" --disk "vda=raw:$dir/r.vda" \
		--disk "vdb=raw:$dir/r.vdb" --disk "vdc=raw:$dir/r.vdc"
	slots $chain_region "$dir/r.vda" "$dir/r.vdb" --from "$2" --to "$3"
	still "$dir/r.vda" "$chain_disks/a.qcow2"
	still "$dir/r.vdb" "$chain_disks/b.qcow2"
}

# chain_backup [OPTION...]: one more, checked.  chain_was[NAME] is what it holds.
chain_backup() {
	local from to

	from=$(vm_number $chain_vm)
	backup host "$chain_name" "${chain_how[@]}" "$@"
	vm_advance $chain_vm 1
	to=$(vm_number $chain_vm)
	chain_last=$(json "$dir/backup.json" 'j["backup"]')
	chain_check "$chain_last" "$from" "$to"
	chain_was[$chain_last]=$(cat "$dir/slots.out")
}

# What was read of the guest: all that it holds, or what it changed.
chain_read_all() {
	[ "$(stat_of read)" -ge $((128 << 20)) ] ||
		fail "$1: read only $(stat_of read) bytes of the guest"
}

chain_read_little() {
	[ $(($(stat_of read) * 2)) -lt "$chain_full_read" ] ||
		fail "$1: read $(stat_of read) bytes, after $chain_full_read: $(
			cat "$dir/backup.json" "$dir/backup.err"
		)"
}

# chain_run: a full one and ${rounds} incrementals, while the guest writes.
chain_run() {
	local i first

	vm_mark $chain_vm
	chain_backup
	chain_read_all "the first backup"
	[ "$(json "$dir/backup.json" 'j["incremental"]')" = False ] ||
		fail "the first backup is incremental"
	chain_full_read=$(stat_of read)
	first=$chain_last
	ok "a full backup of a guest that writes is one point in time of both disks"
	for ((i = 1; i <= rounds; i++)); do
		vm_advance $chain_vm 300
		chain_backup
		chain_read_little "incremental $i"
	done
	ok "so are $rounds incrementals, of which each reads what changed"
	mv "$dir/r.vdb" "$dir/last.vdb"
	chain_check "$first" 1 "${chain_was[$first]%% *}"
	[ "$(cat "$dir/slots.out")" = "${chain_was[$first]}" ] ||
		fail "$first has changed: $(cat "$dir/slots.out")"
	must_differ $chain_region "$dir/r.vda" "$dir/last.vdb"
	vm_sound $chain_vm
	ok "the first one is still what it was, and the guest is well: its longest write took $(vm_latency $chain_vm) us"
}

# chain_control: the same check does not take a plain copy of the running disk.
chain_control() {
	vm_smear $chain_vm vda $chain_region "$dir/smear"
	must_smear $chain_region "$dir/smear"
	rm -f "$dir/smear"
	ok "a disk that is read while the guest writes is told from a point in time"
}

# What a backup leaves in QEMU: nothing but the bitmap of the last one, on each
# disk that is backed up.
chain_no_trace() {
	vm_qmp $chain_vm query-block-jobs >"$dir/jobs.json"
	vm_qmp $chain_vm query-block-exports >"$dir/exports.json"
	vm_qmp $chain_vm query-named-block-nodes '{"flat": true}' \
		>"$dir/nodes.json"
	[ "$(json "$dir/jobs.json" j) $(json "$dir/exports.json" j)" = "[] []" ] ||
		fail "left: $(cat "$dir/jobs.json" "$dir/exports.json")"
	[ "$(json "$dir/nodes.json" \
		"sum(n['drv'] in ('qcow2', 'raw') for n in j)")" = 3 ] ||
		fail "nodes are left: $(cat "$dir/nodes.json")"
	[ "$(json "$dir/nodes.json" "[len([b for b in n.get('dirty-bitmaps', [])
		if b['name'].startswith('backstay-')])
		for n in j if n['drv'] == 'qcow2']")" = '[1, 1, 1]' ] ||
		fail "not one bitmap a disk: $(cat "$dir/nodes.json")"
	ok "nothing is left in the guest but one bitmap a disk"
}

# fs_state RAW: "clean", or "journal": it is as after a power cut.
fs_state() {
	if dumpe2fs -h "$1" 2>/dev/null | has needs_recovery; then
		echo journal
	else
		e2fsck -fn "$1" >"$dir/e2fsck.out" 2>&1 ||
			fail "$1: $(cat "$dir/e2fsck.out")"
		echo clean
	fi
}

# chain_quiesce: file systems are frozen for the point in time, or are not.
chain_quiesce() {
	chain_backup --quiesce require
	[ "$(fs_state "$dir/r.vdc")" = clean ] || fail "it was not frozen"
	[ "$(json "$dir/backup.json" 'j["consistency"]')" = guest ] ||
		fail "consistency: $(cat "$dir/backup.json")"
	vm_mark $chain_vm
	vm_wait $chain_vm '^FILE' 30 # thawed: it writes on
	vm_wait $chain_vm '^FILE' 30
	chain_backup --quiesce no
	[ "$(fs_state "$dir/r.vdc")" = journal ] ||
		fail "it cannot be told whether a file system was frozen"
	[ "$(json "$dir/backup.json" 'j["consistency"]')" = crash ] ||
		fail "consistency: $(cat "$dir/backup.json")"
	ok "a file system is frozen with --quiesce require, goes on, and is as after a power cut with --quiesce no"
}

# chain_choose: some of the disks only.
chain_choose() {
	backup host "$chain_name" "${chain_how[@]}" --disk vdc
	[ "$(json "$dir/backup.json" 'j["size"] >> 20')" = 64 ] ||
		fail "--disk vdc: $(cat "$dir/backup.json")"
	backup host "$chain_name" "${chain_how[@]}" --exclude vdb --exclude vdc
	[ "$(json "$dir/backup.json" 'j["size"] >> 20')" = 256 ] ||
		fail "--exclude: $(cat "$dir/backup.json")"
	expect_fail 1 'no disk "vdx"' agent host backup "$chain_name" \
		"${chain_how[@]}" --disk vdx
	ok "disks can be chosen and left out, by names that the guest has"
}
