#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: what rots is found by reading, said by name, and healed by the next
# backup that has the data: of the same VM, though it reads the disk as
# unchanged, or of another one.
#
#   tests/e2e/85-damage.sh
. "$(dirname "$0")/lib.sh"

mib=$((1 << 20))

# verify_is CODE ARGUMENT...: its answer is in verify.json.
verify_is() {
	local code=$1 status

	shift
	console verify -q --json "$@" >"$dir/verify.json" 2>"$dir/verify.err"
	status=$?
	[ $status = "$code" ] ||
		fail "verify $*: $status: $(cat "$dir/verify.err")"
}

# known_is CODE: what is known of damage, in damage.json.
known_is() {
	local status

	console verify --damage --json >"$dir/damage.json" 2>"$dir/damage.err"
	status=$?
	[ $status = "$1" ] ||
		fail "verify --damage: $status: $(cat "$dir/damage.err")"
	console scrub status --json >"$dir/scrub.json" 2>"$dir/scrub.err"
	status=$?
	[ $status = "$1" ] ||
		fail "scrub status: $status: $(cat "$dir/scrub.err")"
}

all_is_well() {
	verify_is 0
	known_is 0
	[ "$(json "$dir/damage.json" 'j["damaged"], j["hit"]')" = "(0, [])" ] ||
		fail "damage: $(cat "$dir/damage.json")"
}

scrub_done() {
	console scrub --json >"$dir/scrub.json" 2>/dev/null
	[ "$(json "$dir/scrub.json" 'j["scrub"]["state"]')" = idle ]
}

run_scrub() {
	console scrub start --rate 500M >"$dir/scrub.out" 2>&1 ||
		fail "scrub start: $(cat "$dir/scrub.out")"
	wait_for 60 scrub_done || fail "scrub does not end"
}

make_repo "$dir/repo"
start_daemon
enroll_agent kvm01
enroll_agent kvm02
mkdisk "$dir/vda" 64 one
backup kvm01 web1 --disk "vda=raw:$dir/vda"
first=$(json "$dir/backup.json" 'j["backup"]')
# Another VM that shares the first half of it.
cp "$dir/vda" "$dir/other"
put_noise "$dir/other" $((16 * mib)) $((16 * mib)) two
backup kvm02 web2 --disk "sda=raw:$dir/other"
all_is_well
[ "$(json "$dir/verify.json" 'j["backups"]')" = 2 ] || fail "verify: how many"
console verify "$first" 2>/dev/null | has "1 backups verified" ||
	fail "verify of one as text"
console status | has "^damage *none" || fail "status without damage"
expect_fail 1 "no backup" console verify nothing@latest
ok "verify of what is sound"

spoil_slice "$dir/vda" 20
verify_is 3
[ "$(json "$dir/verify.json" 'j["damaged"]')" = \
	"[{'backup': '$first', 'from': $((20 * mib)), 'len': 65536, 'volume': 'vda'}]" ] ||
	fail "verify: $(cat "$dir/verify.json")"
known_is 3
[ "$(json "$dir/damage.json" 'j["damaged"], len(j["hit"]),
	j["hit"][0]["backup"], j["hit"][0]["volumes"][0]["bytes"]')" = \
	"(1, 1, '$first', 65536)" ] || fail "damage: $(cat "$dir/damage.json")"
verify_is 0 web2@latest
console verify "$first" >"$dir/verify.out" 2>&1 && fail "verify ends with 0"
grep -q "$first, volume vda: 65536 bytes from $((20 * mib)) on are damaged" \
	"$dir/verify.out" || fail "verify: $(cat "$dir/verify.out")"
console status >"$dir/status.out" || fail "status of what is damaged"
grep -q "^damage *1 chunks and nodes; backups hit: 1" "$dir/status.out" ||
	fail "status: $(cat "$dir/status.out")"
grep -q "$first, volume vda: 65536 bytes: 65536 from $((20 * mib))" \
	"$dir/status.out" || fail "status: $(cat "$dir/status.out")"
expect_fail 3 "damaged" agent kvm01 restore -q "$first" \
	--disk "vda=raw:$dir/r.raw"
console jobs --json >"$dir/jobs.json" || fail "jobs"
[ "$(json "$dir/jobs.json" \
	'[b["state"] for b in j if b["kind"] == "verify"][0]')" = failed ] ||
	fail "jobs: $(cat "$dir/jobs.json")"
ok "a damaged chunk is found and named, by verify, status and restore"

stop_daemon
start_daemon
known_is 3
backup kvm01 web1 --disk "vda=raw:$dir/vda"
[ "$(json "$dir/backup.json" 'j["incremental"]')" = True ] ||
	fail "the backup that heals has no parent"
[ "$(stat_of stored)" -ge 65536 ] || fail "nothing was stored"
[ "$(stat_of stored)" -le $((2 * 65536)) ] ||
	fail "healing one chunk stored $(stat_of stored)"
all_is_well
restore kvm01 "$first" --disk "vda=raw:$dir/r.raw"
same_bytes "$dir/vda" "$dir/r.raw"
ok "the VM's next backup heals it, though its disk is unchanged"

spoil_slice "$dir/other" 3
spoil_slice "$dir/other" 9
verify_is 3 web2@latest
[ "$(json "$dir/verify.json" 'sorted(d["from"] for d in j["damaged"])')" = \
	"[$((3 * mib)), $((9 * mib))]" ] || fail "$(cat "$dir/verify.json")"
known_is 3
[ "$(json "$dir/damage.json" 'len(j["hit"])')" = 3 ] ||
	fail "what two VMs share is damaged: $(cat "$dir/damage.json")"
backup kvm02 web3 --disk "vda=raw:$dir/vda"
[ "$(json "$dir/backup.json" 'j["incremental"]')" = False ] ||
	fail "the first backup of a VM has a parent"
all_is_well
rm "$dir/r.raw"
restore kvm02 web2@latest --disk "sda=raw:$dir/r.raw"
same_bytes "$dir/other" "$dir/r.raw"
ok "another VM's backup of the same data heals it, too"

# Meta packs, all of them: one twin's worth, then both.
stop_daemon
# The first two nodes of each pack that holds so many: FORMAT.md 3.2.
"$PYTHON" - "$repo"/packs/*/*.pack >"$dir/metas" <<'EOF' || fail "no pack"
import struct, sys
for name in sys.argv[1:]:
    data, at, nodes = open(name, "rb").read(), 128, []
    while at + 64 < len(data) and data[at + 4] != 15:
        if data[at + 4] == 2:
            nodes.append(at + 64 + 50)
        at += 64 + struct.unpack_from("<I", data, at + 20)[0]
    if len(nodes) > 1:
        print(name, *nodes[:2])
EOF
[ -s "$dir/metas" ] || fail "no pack holds nodes"
start_daemon
read -r pack at _ <"$dir/metas"
spoil "$pack" "$at"
all_is_well
run_scrub
[ "$(json "$dir/scrub.json" \
	'j["scrub"]["found"], j["scrub"]["healed"], j["damage"]["damaged"]')" = \
	"(1, 1, 0)" ] || fail "scrub: $(cat "$dir/scrub.json")"
all_is_well
run_scrub
[ "$(json "$dir/scrub.json" 'j["scrub"]["found"]')" = 0 ] ||
	fail "scrub finds it again: $(cat "$dir/scrub.json")"
ok "of two copies of a node one is enough, and scrub makes two of it"

while read -r pack _ at; do
	spoil "$pack" "$at"
done <"$dir/metas"
run_scrub
[ "$(json "$dir/scrub.json" 'j["damage"]["damaged"]')" -gt 0 ] ||
	fail "scrub: $(cat "$dir/scrub.json")"
known_is 3
for vm in web1:vda:vda web2:sda:other web3:vda:vda; do
	IFS=: read -r vm disk file <<<"$vm"
	backup kvm01 "$vm" --disk "$disk=raw:$dir/$file"
done
all_is_well
run_scrub
known_is 0
ok "backups heal nodes that scrub found damaged"

console scrub pause >/dev/null || fail "scrub pause"
stop_daemon
start_daemon
console scrub --json >"$dir/scrub.json"
[ "$(json "$dir/scrub.json" 'j["scrub"]["state"]')" = paused ] ||
	fail "a pause does not survive a restart"
console scrub resume >/dev/null || fail "scrub resume"
expect_fail 2 "none of these" console scrub away
stop_daemon
check_store
check_store --data
ok "fsck finds nothing wrong in the end"

# Where ids are keyed: verify and scrub hash with the namespace's key.
make_repo "$dir/keyed" --dedup namespace
start_daemon
enroll_agent kvm03
backup kvm03 acme/web1 --disk "vda=raw:$dir/vda"
backup kvm03 umbra/web1 --disk "vda=raw:$dir/other"
all_is_well
run_scrub
[ "$(json "$dir/scrub.json" 'j["scrub"]["found"]')" = 0 ] ||
	fail "scrub: $(cat "$dir/scrub.json")"
spoil_slice "$dir/other" 20
run_scrub
known_is 3
[ "$(json "$dir/scrub.json" '[h["backup"][:10] for h in j["damage"]["hit"]]')" \
	= "['umbra/web1']" ] || fail "scrub: $(cat "$dir/scrub.json")"
verify_is 0 acme/web1@latest
verify_is 3
backup kvm03 umbra/web1 --disk "vda=raw:$dir/other"
all_is_well
stop_daemon
check_store
ok "a repository of namespaces"
