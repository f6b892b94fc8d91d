#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: what cannot be done is refused in one line that says what failed, on
# what, why and what to do, with exit code 1 (failed), 2 (misuse) or 3 (damage
# in the store); nothing is harmed by it.
#
#   tests/e2e/50-refusals.sh        (mounts a small file system: as root, or in
#                                    a name space of its own)
if [ "$(id -u)" != 0 ]; then
	export NO_DEVICES=1
	exec unshare --user --map-root-user --mount bash "$0" "$@"
fi
. "$(dirname "$0")/lib.sh"
need losetup mount

mib=$((1 << 20))

# as NAME COMMAND...: of the agent, without its progress.
refused() { expect_fail 1 "$1" agent "${@:2}"; }
misuse() { expect_fail 2 "$1" "${@:2}"; }

# --- what can be known before any repository is asked

daemon=$BIN/backstayd
host=$BIN/backstay-agent
nas=$BIN/backstay
misuse "there is no command \"frobnicate\"" "$host" frobnicate
misuse "no command" "$host"
misuse "there is no option --wrong" "$host" backup --wrong
misuse "--lanes needs a value" "$host" backup --lanes
misuse "--lanes 65" "$host" backup -r ssh://h --lanes 65 v --disk a=b
misuse "--bwlimit lots" "$host" backup -r ssh://h --bwlimit lots v --disk a=b
misuse "no repository" env -u BACKSTAY_AGENT_REPO "$host" backup v --disk a=b
misuse "say at least one --disk" "$host" backup -r ssh://h v
misuse "say NAME=PATH" "$host" backup -r ssh://h v --disk /dev/null
misuse "is there twice" "$host" backup -r ssh://h v --disk a=b --disk a=c
misuse "name of a disk" "$host" backup -r ssh://h v --disk ../a=b
misuse "have the same target" "$host" restore -r ssh://h v@latest \
	--disk a=/x --disk b=/x
for name in ../etc web/.. .. / web/ /web a/b/c 'we b' "$(printf 'a\nb')" ''; do
	misuse "is no name of a VM" "$host" backup -r ssh://h "$name" \
		--disk a=b
done
for name in web ../x@latest web@ web@yesterday web@2026-13-01T00:00:00Z; do
	misuse "" "$host" restore -r ssh://h "$name" --disk a=b
done
for name in http://h ssh:// ssh://h:0 ssh://h:99999 ssh://-oProxy=x /tmp; do
	misuse "repository \"$name\"" "$host" list -r "$name"
done
misuse "." "$daemon"
misuse "." "$daemon" --wrong
misuse "." "$daemon" "$dir" "$dir"
misuse "." "$nas" frobnicate
misuse "." "$nas" --wrong
misuse "." "$nas" -r "$dir" list --wrong
misuse "." env -u BACKSTAY_REPO "$nas" list
misuse "chunk size" "$nas" init "$dir/never" --chunk-size 100K
misuse "." "$nas" -r "$dir" restore web1@latest
[ ! -e "$dir/never" ] || fail "init with a bad option made a folder"
for program in "$daemon" "$nas" "$host"; do
	"$program" --help | has usage || fail "$program --help"
	"$program" --version | has '[0-9]' || fail "$program --version"
done
ok "misuse is told and ends with 2"

# --- repositories that are none

expect_fail 1 "init" "$daemon" "$dir" --no-ssh
expect_fail 1 "No such file" "$daemon" "$dir/nowhere" --no-ssh
expect_fail 1 "." "$nas" -r "$dir/nowhere" list
make_repo "$dir/repo"
expect_fail 1 "daemon is not running" console list
start_daemon
expect_fail 1 "pid|process|$daemon_pid" "$daemon" "$repo" --no-ssh
expect_fail 1 "pid|process|$daemon_pid" console fsck
alive "$daemon_pid" || fail "the daemon has ended"
console list >/dev/null || fail "the second daemon took the first one's socket"
ok "one daemon has a repository, and says so"

# --- who may what

mkdisk "$dir/disk" 16 disk
enroll_agent kvm01
backup kvm01 web1 --disk "vda=$dir/disk"
backup kvm01 db/main --disk "vda=$dir/disk"

agent new keygen >/dev/null || fail "keygen"
refused "enroll" new list
agent new enroll "$url" >/dev/null || fail "enroll"
refused "key" new list
refused "key" new backup -q web1 --disk "vda=$dir/disk"

enroll_agent reader --role restore
enroll_agent writer --role backup
refused "key reader may not prepare: it has not the role backup" reader backup -q web1 \
	--disk "vda=$dir/disk"
refused "key writer may not restore" writer restore -q web1@latest \
	--disk "vda=$dir/r.raw"
[ ! -e "$dir/r.raw" ] || fail "a restore that was refused left a file"
restore reader web1@latest --disk "vda=$dir/r.raw"
same_bytes "$dir/disk" "$dir/r.raw"
backup writer web2 --disk "vda=$dir/disk"

enroll_agent webs --vm 'web*'
refused "key webs may not back up VM db/main" webs backup -q db/main \
	--disk "vda=$dir/disk"
refused "no backup of db/main" webs restore -q db/main@latest \
	--disk "vda=$dir/x.raw"
refused "web9|no backup" webs restore -q web9@latest --disk "vda=$dir/x.raw"
agent webs list --json >"$dir/list.json" || fail "list"
[ "$(json "$dir/list.json" 'sorted(set(b["vm"] for b in j["backups"]))')" = \
	"['web1', 'web2']" ] || fail "a key sees what it may not"
backup webs web3 --disk "vda=$dir/disk"

# The key goes: also the backup that runs with it.
noise $((8 * mib)) slow >"$dir/slow"
agent_start webs "$dir/out" backup -q web4 --disk "vda=$dir/slow" \
	--bwlimit 100K
wait_for 10 grep -q "backup of web4 .* began" "$daemon_log" ||
	fail "the slow backup did not begin"
console key remove webs >/dev/null || fail "key remove"
agent_wait "$agent_pid"
status=$?
[ $status = 1 ] || fail "a backup of a removed key: status $status"
[ "$(wc -l <"$dir/out.err")" = 1 ] || fail "$(cat "$dir/out.err")"
refused "key" webs list
[ "$(nbackups web4)" = 0 ] || fail "a removed key made a backup"
ok "keys, roles and patterns"

# --- whom does the agent trust?

refused "ssh://127.0.0.1:1: nothing listens there" \
	kvm01 list -r ssh://127.0.0.1:1
refused "resolve|not known|cannot" kvm01 list -r ssh://no-such-host.invalid
refused "no such|not running|cannot" kvm01 list -r "unix:$dir/no-socket"
agent intruder keygen >"$dir/intruder.pub" || fail "keygen"
cp -r "$dir/agent-kvm01" "$dir/agent-fooled"
"$PYTHON" - "$dir/agent-fooled/known_hosts" "$dir/intruder.pub" <<'PY'
import sys
key = open(sys.argv[2]).read().split()[1]
lines = [l.split() for l in open(sys.argv[1])]
with open(sys.argv[1], "w") as f:
    for l in lines:
        f.write(" ".join([l[0], l[1], key]) + "\n")
PY
refused "host key" fooled list
refused "host key" fooled backup -q web1 --disk "vda=$dir/disk"
expect_fail 1 "host key|fingerprint" agent new2 enroll "$url" \
	--fingerprint SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
[ ! -s "$dir/agent-new2/known_hosts" ] || fail "a wrong host key was pinned"
refused "enroll" new2 list
ok "a NAS that is not the one that was pinned"

# --- sources and targets

refused "$dir/gone: there is no such file" kvm01 backup -q web1 \
	--disk "vda=$dir/gone"
refused "neither a regular file nor a block device" kvm01 backup -q web1 \
	--disk "vda=$dir"
refused "there is no backup|has no backup|web7" kvm01 restore -q \
	web7@latest --disk "vda=$dir/x.raw"
refused "web1" kvm01 restore -q web1@2001-01-01T00:00:00Z \
	--disk "vda=$dir/x.raw"
refused "web1" kvm01 restore -q web1@-7 --disk "vda=$dir/x.raw"
refused 'has no disk "sda"; it has vda' kvm01 restore -q web1@latest \
	--disk "sda=$dir/x.raw"
echo precious >"$dir/there.raw"
refused "there.raw: is there already.*--force" kvm01 restore -q web1@latest \
	--disk "vda=$dir/there.raw"
[ "$(cat "$dir/there.raw")" = precious ] || fail "the target was harmed"
restore kvm01 web1@latest --disk "vda=$dir/there.raw" --force
same_bytes "$dir/disk" "$dir/there.raw"
refused "/no: there is no such" kvm01 restore -q web1@latest --disk "vda=$dir/no/way.raw"
expect_fail 1 "web7" console restore web7@latest --to "$dir/to"
[ ! -e "$dir/x.raw" ] || fail "a refused restore left a file"
if [ -z "${NO_DEVICES:-}" ]; then
	truncate -s 8M "$dir/small.img"
	truncate -s 24M "$dir/large.img"
	noise $((24 * mib)) old >"$dir/large.img"
	loop=$(losetup -f --show "$dir/small.img") || fail "losetup"
	loops+=("$loop")
	before=$(sha256sum <"$dir/small.img")
	refused "$loop.*(small|has)" kvm01 restore -q web1@latest \
		--disk "vda=$loop" --force
	sync
	[ "$(sha256sum <"$dir/small.img")" = "$before" ] ||
		fail "a device that is too small was written to"
	big=$(losetup -f --show "$dir/large.img") || fail "losetup"
	loops+=("$big")
	refused "--force" kvm01 restore -q web1@latest --disk "vda=$big"
	restore kvm01 web1@latest --disk "vda=$big" --force
	cmp -n $((16 * mib)) "$big" "$dir/disk" ||
		fail "the device has not what was backed up"
else
	echo "# not root: restores to block devices are not tested"
fi
ok "sources that cannot be read, targets that cannot be written"

# --- a file of keys with a fault, a repository of another age

stop_daemon
cp "$repo/authorized_agents" "$dir/keys.good"
echo 'role=emperor ssh-ed25519 AAAA x' >>"$repo/authorized_agents"
expect_fail 1 "authorized_agents:[0-9]+: " "$daemon" "$repo" --no-ssh
cp "$dir/keys.good" "$repo/authorized_agents"
cp "$repo/backstay.json" "$dir/format.good"
"$PYTHON" - "$repo/backstay.json" <<'PY'
import json, sys
j = json.load(open(sys.argv[1]))
key = "version" if "version" in j else "format"
j[key] = 2
json.dump(j, open(sys.argv[1], "w"))
PY
expect_fail 1 "2.*1|1.*2" "$daemon" "$repo" --no-ssh
expect_fail 1 "2.*1|1.*2" console fsck
cp "$dir/format.good" "$repo/backstay.json"
check_store
ok "keys with a fault, and a repository of a newer format"

# --- damage: a bit of a chunk flips

start_daemon
pack=$(find "$repo/packs/" -name '*.pack' -size +1024k | sort | head -n 1)
[ -n "$pack" ] || fail "no pack of data"
"$PYTHON" - "$pack" <<'PY'
import os, sys
with open(sys.argv[1], "r+b") as f:
    at = os.path.getsize(sys.argv[1]) // 3
    f.seek(at)
    b = f.read(1)
    f.seek(at)
    f.write(bytes([b[0] ^ 4]))
PY
expect_fail 3 "damage|corrupt|not what was stored" agent kvm01 restore -q \
	web1@latest --disk "vda=$dir/x.raw"
[ ! -e "$dir/x.raw" ] || fail "a damaged restore left a file"
alive "$daemon_pid" || fail "damage ended the daemon"
stop_daemon
console fsck --data >"$dir/fsck.out" 2>&1
status=$?
[ $status = 3 ] || fail "fsck --data of damage: status $status"
ok "damage is seen, told with 3, and never handed out"

# --- a full disk

# Packs and index on one; of a full export, 90-brim.sh.
mkdir "$dir/nas"
mount -t tmpfs -o size=320m none "$dir/nas" || fail "mount"
mounts+=("$dir/nas")
PACKS='' make_repo "$dir/nas/repo"
start_daemon
enroll_agent kvm11
mkdisk "$dir/keep" 24 keep
noise $((96 * mib)) huge >"$dir/huge"
backup kvm11 keep --disk "vda=$dir/keep"
fallocate -l $((200 * mib)) "$dir/nas/ballast" || fail "fallocate"
refused "full|space|room" kvm11 backup -q huge --disk "vda=$dir/huge"
sed 's/^/# /' "$dir/expect.err"
[ "$(nbackups huge)" = 0 ] || fail "a backup was made of half a disk"
restore kvm11 keep@latest --disk "vda=$dir/k.raw"
same_bytes "$dir/keep" "$dir/k.raw"
# What it keeps back is enough to start over with.
kill_daemon
start_daemon
restore kvm11 keep@latest --disk "vda=$dir/k.raw" --force
same_bytes "$dir/keep" "$dir/k.raw"
# To the last byte: what the daemon keeps back for itself is gone as well.
head -c 400M /dev/zero >"$dir/nas/ballast2" 2>/dev/null
refused "full|space|room" kvm11 backup -q huge --disk "vda=$dir/huge"
sed 's/^/# /' "$dir/expect.err"
restore kvm11 keep@latest --disk "vda=$dir/k.raw" --force
same_bytes "$dir/keep" "$dir/k.raw"
kill_daemon
expect_fail 1 "No space left" "$daemon" "$repo" --no-ssh
rm "$dir/nas/ballast2" "$dir/nas/ballast"
start_daemon
put_noise "$dir/keep" 0 $mib small
backup kvm11 keep --disk "vda=$dir/keep"
backup kvm11 huge --disk "vda=$dir/huge"
restore kvm11 huge@latest --disk "vda=$dir/h.raw"
same_bytes "$dir/huge" "$dir/h.raw"
restore kvm11 keep@latest --disk "vda=$dir/k.raw" --force
same_bytes "$dir/keep" "$dir/k.raw"
stop_daemon
check_store
ok "a full disk fails the backup that fills it, and nothing else"

# The same on the host: a restore that finds no room.
start_daemon
mkdir "$dir/host"
mount -t tmpfs -o size=32m none "$dir/host" || fail "mount"
mounts+=("$dir/host")
refused "space|full" kvm11 restore -q huge@latest \
	--disk "vda=$dir/host/h.raw"
[ -z "$(ls -A "$dir/host")" ] || fail "left: $(ls -A "$dir/host")"
restore kvm11 keep@-1 --disk "vda=$dir/host/k.raw"
stop_daemon
ok "a restore without room for it leaves nothing"
