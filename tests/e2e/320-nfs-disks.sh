#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: disks on an NFS export are backed up and restored without a mount: what
# is read is what is there, incremental, chains included; what is written is
# whole, sparse, and has its name only then; a server that restarts costs
# nothing, one that stays away, stalls or is full fails the job in one line, and
# nothing of it is left.
#
#   tests/e2e/320-nfs-disks.sh     (as root: the server needs it)
#   LONG=1: raw disks, too, where a server restarts
[ "$(id -u)" = 0 ] || exec unshare --user --map-root-user --mount "$0" "$@"
. "$(dirname "$0")/lib.sh"
need qemu-img qemu-io mount

SEED=${SEED:-$(date +%s)}
echo "# seed $SEED"
# Files are changed behind the server's back here.
export ATTRS=0
start_nfs
export=$dir/nfs/export
make_repo "$dir/repo"
start_daemon
enroll_agent kvm01

# begun KIND: a job of that kind moves data.
begun() {
	console jobs --json >"$dir/jobs.json" 2>/dev/null &&
		[ "$(json "$dir/jobs.json" "any(x['kind'] == '$1' and
			x['state'] == 'running' and x['sent'] > 0 for x in j)")" = True ]
}
outage() {
	kill_nfs
	start_nfs
}
no_leftovers() {
	[ -z "$(find "$export" -name '.*.restoring')" ] ||
		fail "left: $(find "$export" -name '.*.restoring')"
}
# one_error FILE PATTERN: the agent said why in one line.
one_error() {
	local n

	n=$(grep -c '^backstay-agent: ' "$1")
	[ "$n" = 1 ] || fail "$n last lines: $(cat "$1")"
	grep '^backstay-agent: ' "$1" | has -E -- "$2" ||
		fail "does not say \"$2\": $(cat "$1")"
}
mib_used() { du -m "$1" | cut -f 1; }
# speed WHAT MS: of 64 MiB.
speed() { echo "# $1: $((64 * 1000 / ($2 + 1))) MiB/s"; }

# --- backups

mkdir -p "$export/vm/web1" "$export/vm/base"
mkdisk "$export/vm/base/b.raw" 64 "$SEED.base"
(cd "$export/vm/web1" &&
	qemu-img create -q -f qcow2 -F raw -b ../base/b.raw mid.qcow2 &&
	qemu-img create -q -f qcow2 -F qcow2 -b mid.qcow2 vda.qcow2 &&
	qemu-io -c 'write -q -P 7 9M 3M' mid.qcow2 &&
	qemu-io -c 'write -q -P 8 10M 100k' -c 'write -q -z 1M 1M' vda.qcow2) \
	>/dev/null || fail "qemu-img"
mkdisk "$export/vm/web1/vdb.img" 24 "$SEED.vdb"
disks=(--disk "vda=qcow2:$(nfs_name vm/web1/vda.qcow2)"
	--disk "vdb=$(nfs_name vm/web1/vdb.img)")
backup kvm01 web1 "${disks[@]}"
[ "$(grep -c 'no lock' "$dir/backup.err")" = 1 ] ||
	fail "not once that there is no lock: $(cat "$dir/backup.err")"
restore kvm01 web1@latest --disk "vda=$dir/vda.qcow2" --disk "vdb=$dir/vdb.raw"
same_disk "$export/vm/web1/vda.qcow2" qcow2 "$dir/vda.qcow2" qcow2
same_bytes "$export/vm/web1/vdb.img" "$dir/vdb.raw"
ok "a qcow2 chain and a raw disk are backed up from NFS"

backup kvm01 web1 "${disks[@]}"
[ "$(stat_of sent)" -lt 65536 ] || fail "unchanged, and sent: $(stat_of sent)"
put_noise "$export/vm/web1/vdb.img" $((3 << 20)) $((1 << 20)) "$SEED.more"
backup kvm01 web1 "${disks[@]}"
[ "$(stat_of sent)" -lt $((2 << 20)) ] || fail "sent: $(stat_of sent)"
restore kvm01 web1@latest --disk "vdb=$dir/vdb.raw" --force
same_bytes "$export/vm/web1/vdb.img" "$dir/vdb.raw"
ok "what has not changed is not sent again"

# --- restores

to=(--disk "vda=$(nfs_name vm/r.qcow2)" --disk "vdb=$(nfs_name vm/r.img)")
restore kvm01 web1@latest "${to[@]}"
same_disk "$export/vm/web1/vda.qcow2" qcow2 "$export/vm/r.qcow2" qcow2
same_disk "$export/vm/web1/vdb.img" raw "$export/vm/r.img" raw
[ "$(mib_used "$export/vm/r.img")" -lt 17 ] || fail "r.img is not sparse"
[ "$(mib_used "$export/vm/r.qcow2")" -lt 48 ] || fail "r.qcow2 is not sparse"
no_leftovers
ok "restores to NFS: qcow2 and raw, identical and sparse"

refuse() { expect_fail 1 "$@"; }
restoring() { agent kvm01 restore -q web1@latest "$@"; }
chown 1234:5678 "$export/vm/r.img" && chmod 640 "$export/vm/r.img"
refuse 'r.qcow2.*is there already.*--force' restoring "${to[@]}"
touch "$export/vm/.new.qcow2.restoring"
refuse 'another restore writes to it.*--force' restoring \
	--disk "vda=$(nfs_name vm/new.qcow2)"
restoring --force --disk "vda=$(nfs_name vm/new.qcow2)" --disk \
	"vdb=$(nfs_name vm/r.img)" 2>"$dir/err" || fail "--force: $(cat "$dir/err")"
[ "$(stat -c '%u:%g %a' "$export/vm/r.img")" = '1234:5678 640' ] ||
	fail "r.img has another owner: $(stat -c '%u:%g %a' "$export/vm/r.img")"
refuse 'no such folder' restoring --disk "vda=$(nfs_name none/r.qcow2)"
refuse 'nfs://127.0.0.1/nowhere' restoring \
	--disk "vda=nfs://127.0.0.1/nowhere/r.qcow2?${nfs_url#*\?}"
refuse 'version 3' restoring --disk "vda=$(nfs_name vm/x.qcow2)&version=4"
refuse 'not swapped' agent kvm01 restore -q web1@latest --swap \
	--disk "vda=$(nfs_name vm/r.qcow2)" --disk "vdb=$(nfs_name vm/r.img)"
refuse 'no such file' agent kvm01 backup -q web2 \
	--disk "vda=$(nfs_name vm/none)"
(cd "$export/vm" && qemu-img create -q -f qcow2 -F raw -b "$PWD/base/b.raw" \
	abs.qcow2)
refuse 'qemu-img rebase' agent kvm01 backup -q web2 \
	--disk "vda=qcow2:$(nfs_name vm/abs.qcow2)"
no_leftovers
ok "what cannot be is refused, and says why"

console restore web1@latest --to "$(nfs_name made/here)" >"$dir/out" 2>&1 ||
	fail "restore --to: $(cat "$dir/out")"
same_disk "$export/vm/web1/vda.qcow2" qcow2 "$export/made/here/web1-vda.qcow2" qcow2
same_disk "$export/vm/web1/vdb.img" raw "$export/made/here/web1-vdb.qcow2" qcow2
refuse 'web1-vda.qcow2 already.*--force' console restore web1@latest \
	--to "$(nfs_name made/here)"
console restore web1@latest --to "$(nfs_name made/here)" --format raw \
	--volume vdb >"$dir/out" 2>&1 || fail "restore --to: $(cat "$dir/out")"
same_bytes "$export/vm/web1/vdb.img" "$export/made/here/web1-vdb.raw"
ok "backstay restore --to nfs://"

# --- a server that restarts

backup_of() {
	put_noise "$export/vm/noise" 0 $((48 << 20)) "$SEED.$1"
	agent_start kvm01 "$dir/job.out" backup --json -q "$@" --lanes 1 \
		--bwlimit 16M --disk "vda=$(nfs_name vm/noise)"
	wait_for 20 begun backup || fail "no backup began: $(cat "$dir/job.out.err")"
}
restore_of() {
	agent_start kvm01 "$dir/job.out" restore -q web3@latest --lanes 2 \
		--bwlimit 24M "$@"
	wait_for 20 begun restore || fail "no restore began: $(cat "$dir/job.out.err")"
}
backup_of web3
outage
agent_wait "$agent_pid" || fail "backup: $(cat "$dir/job.out.err")"
for format in ${LONG:+raw} qcow2; do
	restore_of --format "$format" --disk "vda=$(nfs_name vm/r3."$format")"
	outage
	agent_wait "$agent_pid" || fail "restore: $(cat "$dir/job.out.err")"
	same_disk "$export/vm/noise" raw "$export/vm/r3.$format" "$format"
done
no_leftovers
ok "a server killed in the midst of a backup and of restores: they go on"

# --- one that does not come back, or stalls

backup_of web4 --nfs-timeout 2
kill_nfs
! agent_wait "$agent_pid" || fail "a backup without a server"
one_error "$dir/job.out.err" 'nfs://127.0.0.1/export/vm/noise: .*not answered for 2 s'
start_nfs
restore_of --nfs-timeout 2 --disk "vda=$(nfs_name vm/r4.qcow2)"
kill -STOP "$(cat "$dir/nfs/ganesha.pid")"
! agent_wait "$agent_pid" || fail "a restore to a server that stalls"
kill -CONT "$(cat "$dir/nfs/ganesha.pid")"
one_error "$dir/job.out.err" 'nfs://127.0.0.1/export/vm/r4.qcow2: .*not answered for 2 s'
[ ! -e "$export/vm/r4.qcow2" ] || fail "half a disk has its name"
grep -q 'r4.qcow2.restoring is left' "$dir/job.out.err" ||
	fail "not what is left: $(cat "$dir/job.out.err")"
restore kvm01 web3@latest --force --disk "vda=$(nfs_name vm/r4.qcow2)"
same_disk "$export/vm/r3.qcow2" qcow2 "$export/vm/r4.qcow2" qcow2
no_leftovers
ok "a server that stays away, or stalls: failures that name it"

# --- written to meanwhile; full

backup_of web5
printf x | dd of="$export/vm/noise" bs=1 seek=77 conv=notrunc status=none
! agent_wait "$agent_pid" || fail "a disk that was written to is backed up"
one_error "$dir/job.out.err" 'was written to while it was read'
[ "$(nbackups web5)" = 0 ] || fail "there is a backup of it"
ok "a disk that somebody writes to is not taken for one point in time"

mkdir "$export/small"
stop_nfs
mount -t tmpfs -o size=16m none "$export" || fail "mount"
mounts+=("$export")
start_nfs
echo old >"$export/r5.img"
! restoring --force --disk "vda=$(nfs_name r5.img)" 2>"$dir/job.out.err" ||
	fail "32 MiB fit into 16"
one_error "$dir/job.out.err" 'r5.img: .*is full'
[ "$(cat "$export/r5.img")" = old ] || fail "the old file was touched"
no_leftovers
stop_nfs
umount "$export" && mounts=()
start_nfs
ok "an export that is full: the old file stays, and nothing is left"

# --- how fast, beside files of this host

put_noise "$export/vm/fast" 0 $((64 << 20)) "$SEED.fast"
put_noise "$dir/fast" 0 $((64 << 20)) "$SEED.fast2"
t=$(now_ms); backup kvm01 fast1 --disk "vda=$(nfs_name vm/fast)"
speed "backup from NFS" $(($(now_ms) - t))
t=$(now_ms); backup kvm01 fast2 --disk "vda=$dir/fast"
speed "backup from a local file" $(($(now_ms) - t))
t=$(now_ms); restore kvm01 fast1@latest --disk "vda=$(nfs_name vm/fast.raw)"
speed "restore to NFS" $(($(now_ms) - t))
same_bytes "$export/vm/fast" "$export/vm/fast.raw"
t=$(now_ms); restore kvm01 fast2@latest --disk "vda=$dir/fast.raw"
speed "restore to a local file" $(($(now_ms) - t))
stop_daemon
