#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: what 100-live-qmp and 101-live-libvirt show in short, with QEMU 10 and
# libvirt 11, while agent and libraries are those of Debian 12.
#
#   tests/e2e/102-live-newer.sh      LIVE=long: 20 incrementals
. "$(dirname "$0")/lib.sh"
. "$top/tests/live/lib.sh"
. "$top/tests/live/chain.sh"

[ "${LIVE:-}" = long ] || rounds=1
make_repo "$dir/repo"
start_daemon
enroll_agent host
lv_start new=1
lv_virsh version >"$dir/version" || fail "virsh version"
grep -q 'hypervisor: QEMU 1[0-9]\.' "$dir/version" ||
	fail "that is not QEMU 10: $(cat "$dir/version")"

# run FOLDER HOW WORD...: a guest, started by HOW, and a chain of its backups.
run() {
	local how=$2

	chain_disks=$1
	vm_disk "$chain_disks/a.qcow2" 256
	vm_disk "$chain_disks/b.qcow2" 256
	vm_fs "$chain_disks/c.qcow2" 64
	"$how" $chain_vm disk="$chain_disks/a.qcow2" disk="$chain_disks/b.qcow2" \
		disk="$chain_disks/c.qcow2" fs=/dev/vdc ga=1 memwork=32 \
		work=disks,$chain_region,1000,/dev/vda,/dev/vdb "${@:3}"
	vm_wait $chain_vm '^AGREE .* ok' 90
	vm_wait $chain_vm '^GA' 30
	chain_run
	chain_no_trace
	chain_quiesce
}

chain_how=(--domain web --connect "$LV_URI" --scratch-dir "$lv_files")
run "$lv_files" lv_domain
lv_halt web
lv_stop
rm -f "$lv_files"/*.qcow2*

# And plain QEMU.
chain_vm=plain
chain_name=acme/plain
mkdir "$dir/disks"
chain_how=(--qmp "$dir/plain/qmp.sock" --ga "$dir/plain/ga.sock")
run "$dir/disks" vm_start new=1
vm_stop plain
