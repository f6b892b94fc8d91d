#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: what the README promises for the first hour holds: a repository, a
# key, a backup, its listing and its restore; a backup costs what changed, and
# a clone what differs.
#
#   tests/e2e/10-first-backup.sh
. "$(dirname "$0")/lib.sh"
need qemu-img qemu-io

mib=$((1 << 20))

# at_most WHAT BYTES LIMIT
at_most() {
	[ "$2" -le "$3" ] || fail "$1: $2 bytes, more than $3"
}

make_repo "$dir/repo"
for word in "host key" "chunk size" "backstayd" "enroll"; do
	grep -q "$word" "$dir/init.out" || fail "init does not tell: $word"
done
expect_fail 1 "is not empty|there already|is a repository" \
	"$BIN/backstay" init "$repo"
start_daemon
agent kvm01 enroll "$url" >"$dir/enroll.out" 2>&1 || fail "the first enroll"
grep -q "backstay -r REPO key add" "$dir/enroll.out" ||
	fail "enroll does not tell what to run on the NAS"
# The line that it prints is the one that works.
sed -n "s/^echo '\(.*\)' | backstay -r REPO key add .*/\1/p" "$dir/enroll.out" |
	console key add kvm01 - >/dev/null || fail "key add from stdin"
agent kvm01 enroll "$url" | has 'lets this host in as "kvm01"' ||
	fail "enroll after key add"
console key list --json >"$dir/keys.json" || fail "key list"
[ "$(json "$dir/keys.json" 'j[0]["name"], sorted(j[0]["roles"])')" = \
	"('kvm01', ['backup', 'restore'])" ] || fail "key list"
ok "a repository, a daemon, and a host that is let in"

[ "$(nbackups)" = 0 ] || fail "an empty repository lists something"
mkdisk "$dir/vda" 64 one
qemu-img convert -O qcow2 "$dir/vda" "$dir/vda.qcow2"
backup kvm01 acme/web1 --disk "vda=$dir/vda.qcow2"
[ "$(json "$dir/backup.json" 'j["incremental"], j["size"]')" = \
	"(False, $((64 * mib)))" ] || fail "$(cat "$dir/backup.json")"
first=$(json "$dir/backup.json" 'j["backup"]')
stored=$(stat_of stored)
[ "$stored" -ge $((34 * mib)) ] || fail "only $stored bytes of noise stored"
at_most "the first backup" "$stored" $((37 * mib))
at_most "the first backup, sent" "$(stat_of sent)" $((38 * mib))
[ "$(stat_of holes)" -gt $((25 * mib)) ] || fail "holes: $(stat_of holes)"
[ "$(nbackups)" = 1 ] || fail "the backup is not listed"
[ "$(nbackups acme/web1)" = 1 ] || fail "the VM's backup is not listed"
[ "$(nbackups acme/web2)" = 0 ] || fail "another VM has backups"
[ "$(json "$dir/list.json" 'j')" = "[]" ] || fail "list of another VM"
agent kvm01 list --json >"$dir/alist.json" || fail "the agent's list"
[ "$(json "$dir/alist.json" '[b["vm"] for b in j["backups"]]')" = \
	"['acme/web1']" ] || fail "the agent's list"
agent kvm01 list | has "^$first" || fail "the agent's list as text"
console list | has "^acme/web1" || fail "list as text"
for name in "$first" acme/web1@latest; do
	console show "$name" --json >"$dir/show.json" || fail "show $name"
	[ "$(json "$dir/show.json" \
		'j["vm"], j["host"], j["volumes"][0]["name"],
		j["volumes"][0]["format"], j["volumes"][0]["size"]')" = \
		"('acme/web1', 'kvm01', 'vda', 'qcow2', $((64 * mib)))" ] ||
		fail "show $name: $(cat "$dir/show.json")"
	console show "$name" | has "^$first" || fail "show as text"
done
console status --json >"$dir/status.json" || fail "status"
[ "$(json "$dir/status.json" 'j["backups"], j["vms"], j["logical"]')" = \
	"(1, 1, $((64 * mib)))" ] || fail "status: $(cat "$dir/status.json")"
at_most "what is live" "$(json "$dir/status.json" 'j["live"]')" $((37 * mib))
console status | has "holds  *1 backups of 1 VMs" || fail "status as text"
console jobs --json >"$dir/jobs.json" || fail "jobs"
[ "$(json "$dir/jobs.json" '[(b["kind"], b["vm"], b["state"]) for b in j]')" \
	= "[('backup', 'acme/web1', 'done')]" ] ||
	fail "jobs: $(cat "$dir/jobs.json")"
console jobs | has "acme/web1" || fail "jobs as text"
ok "a first backup, and what list, show, status and jobs tell of it"

restore kvm01 acme/web1@latest --disk "vda=$dir/r.qcow2"
same_disk "$dir/vda" raw "$dir/r.qcow2" qcow2
restore kvm01 "$first" --disk "vda=$dir/r.raw"
same_bytes "$dir/vda" "$dir/r.raw"
[ $(($(stat -c %b "$dir/r.raw") * 512)) -le $((37 * mib)) ] ||
	fail "the restored raw file is not sparse"
restore kvm01 "$first" --disk "vda=raw:$dir/r2.any"
same_bytes "$dir/vda" "$dir/r2.any"
restore kvm01 "$first" --format raw --disk "vda=$dir/r3.any" --json
same_bytes "$dir/vda" "$dir/r3.any"
[ "$(json "$dir/restore.out" 'j["backup"]')" = "$first" ] ||
	fail "restore --json: $(cat "$dir/restore.out")"
console restore acme/web1@latest --to "$dir/to" >"$dir/to.out" 2>&1 ||
	fail "restore --to: $(cat "$dir/to.out")"
same_disk "$dir/vda" raw "$dir/to/acme-web1-vda.qcow2" qcow2
console restore "$first" --to "$dir/to" --format raw --volume vda \
	>"$dir/to.out" 2>&1 || fail "restore --to: $(cat "$dir/to.out")"
same_bytes "$dir/vda" "$dir/to/acme-web1-vda.raw"
[ "$(find "$dir/to" -type f | wc -l)" = 2 ] || fail "more files than disks"
rm -rf "$dir"/r.* "$dir"/r[0-9].* "$dir/to"
ok "restores to qcow2 and raw, from the host and on the NAS"

backup kvm01 acme/web1 --disk "vda=$dir/vda.qcow2"
[ "$(json "$dir/backup.json" 'j["incremental"]')" = True ] ||
	fail "the second backup has no parent"
[ "$(stat_of stored)" = 0 ] || fail "unchanged: stored $(stat_of stored)"
at_most "unchanged, sent" "$(stat_of sent)" $((mib / 4))
[ "$(stat_of unchanged)" -ge $((34 * mib)) ] ||
	fail "unchanged: $(stat_of unchanged)"
backup kvm01 acme/web1 --full --disk "vda=raw:$dir/vda"
[ "$(json "$dir/backup.json" 'j["incremental"]')" = False ] ||
	fail "--full has a parent"
[ "$(stat_of stored)" = 0 ] || fail "--full stored $(stat_of stored)"
at_most "--full of what is there, sent" "$(stat_of sent)" $((mib / 2))
ok "an unchanged disk sends no data"

# 1 MiB in one piece and ten scattered sectors: 16 + 1 + 10 chunks at most.
cp "$dir/vda" "$dir/vda.2"
put_noise "$dir/vda.2" $((9 * mib + 5)) "$mib" two
for at in 0 1 2 3 4 5 6 7 8 9; do
	put_noise "$dir/vda.2" $((at * 3 * mib + 12345)) 512 "two.$at"
done
backup kvm01 acme/web1 --disk "vda=$dir/vda.2"
[ "$(stat_of stored)" -ge $((mib + 10 * 512)) ] ||
	fail "changed: stored only $(stat_of stored)"
at_most "what changed" "$(stat_of stored)" $((27 * 65536 + mib / 2))
at_most "what changed, sent" "$(stat_of sent)" $((27 * 65536 + mib / 2))
second=$(json "$dir/backup.json" 'j["backup"]')
restore kvm01 "$second" --disk "vda=$dir/r.raw"
same_bytes "$dir/vda.2" "$dir/r.raw"
restore kvm01 acme/web1@-1 --disk "vda=$dir/r1.raw"
same_bytes "$dir/vda" "$dir/r1.raw"
restore kvm01 "$first" --disk "vda=$dir/r0.raw"
same_bytes "$dir/vda" "$dir/r0.raw"
ok "a changed disk sends what changed; the backups before stay as they were"

# A clone by another name, another host and in another format; a few changes.
enroll_agent kvm02
qemu-img convert -O qcow2 -o cluster_size=4k "$dir/vda.2" "$dir/clone.qcow2"
qemu-io -c "write -P 7 20M 100k" "$dir/clone.qcow2" >/dev/null
backup kvm02 acme/web2 --disk "sda=$dir/clone.qcow2"
[ "$(json "$dir/backup.json" 'j["incremental"]')" = False ] ||
	fail "the clone has a parent"
at_most "a clone" "$(stat_of stored)" $((mib / 2))
at_most "a clone, sent" "$(stat_of sent)" $((mib))
[ "$(stat_of deduplicated)" -ge $((33 * mib)) ] ||
	fail "a clone: deduplicated $(stat_of deduplicated)"
restore kvm02 acme/web2@latest --disk "sda=$dir/r2.qcow2"
same_disk "$dir/clone.qcow2" qcow2 "$dir/r2.qcow2" qcow2
ok "a clone stores what differs"

# A disk that grew, one that came and one that went.
truncate -s 71303168 "$dir/vda.2"
put_noise "$dir/vda.2" $((66 * mib + 1)) 1000 grown
mkdisk "$dir/vdb" 8 other
backup kvm01 acme/web1 --disk "vda=$dir/vda.2" --disk "vdb=$dir/vdb"
at_most "a disk more" "$(stat_of stored)" $((5 * mib + mib / 2))
restore kvm01 acme/web1@latest --disk "vdb=$dir/b.raw" \
	--disk "vda=$dir/a.raw"
same_bytes "$dir/vda.2" "$dir/a.raw"
same_bytes "$dir/vdb" "$dir/b.raw"
backup kvm01 acme/web1 --disk "vdb=$dir/vdb"
[ "$(stat_of stored)" = 0 ] || fail "a disk less: stored $(stat_of stored)"
rm "$dir"/a.raw "$dir"/b.raw
ok "disks that grow, come and go"

list_before=$(console list)
stop_daemon
check_store
start_daemon
[ "$(console list)" = "$list_before" ] || fail "another list after a restart"
restore kvm02 "$second" --disk "vda=$dir/a.raw"
truncate -s $((64 * mib)) "$dir/vda.2"
same_bytes "$dir/vda.2" "$dir/a.raw"
stop_daemon
ok "all of it is there after a restart, and fsck finds nothing wrong"
