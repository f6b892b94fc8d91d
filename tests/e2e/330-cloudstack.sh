#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: what CloudStack's NAS backup plugin wrote is imported by one command:
# three instances, full backups and chains of incremental ones, made with
# qemu-img as the plugin makes them.  Killed in the middle and run again, each
# point in time is a backup with its own time and restores identical; the store
# is smaller than the tree.  Points that cannot be read, and such that lead out
# of the tree, are told and passed over, and all others are in.
. "$(dirname "$0")/lib.sh"
need qemu-img qemu-io
export TZ=UTC
nas=$dir/nas-tree
want=$dir/want
mkdir "$nas" "$want"
mib=16

# What was on a disk at a point in time: want/INSTANCE/WHEN/NAME.raw.
keep() { mkdir -p "$want/$1/$2" && cp --sparse=always "$3" "$want/$1/$2/$4.raw"; }

# full INSTANCE WHEN NAME FILE RAW: as of a push backup, or of a stopped guest.
full() {
	mkdir -p "$nas/$1/$2"
	qemu-img convert -f raw -O qcow2 "$5" "$nas/$1/$2/$4" ||
		fail "qemu-img convert"
	keep "$1" "$2" "$5" "$3"
}

# incremental INSTANCE WHEN NAME FILE RAW BACKING OFFSET SEED: only what
# changed is in the image; then it is rebased, without a look at its parent.
incremental() {
	local image=$nas/$1/$2/$4 patch=$dir/patch

	mkdir -p "$nas/$1/$2"
	noise 196608 "$8" >"$patch"
	dd if="$patch" of="$5" bs=64K seek="$7" oflag=seek_bytes conv=notrunc \
		status=none
	qemu-img create -q -f qcow2 "$image" ${mib}M || fail "qemu-img create"
	qemu-io -f qcow2 -c "write -q -s $patch $7 196608" "$image" ||
		fail "qemu-io"
	qemu-img rebase -u -F qcow2 -b "$6" "$image" || fail "qemu-img rebase"
	keep "$1" "$2" "$5" "$3"
}

# facts INSTANCE WHEN: of a guest that ran.
facts() {
	echo "<domain type='kvm'><name>$1</name><!-- $2 --></domain>" \
		>"$nas/$1/$2/domain-config.xml"
	echo "Name: $1" >"$nas/$1/$2/dominfo.xml"
	echo "vda" >"$nas/$1/$2/domblklist.xml"
}

# --- three instances

root=7b0e3f5c-1111-4a3d-9a11-0123456789ab
data=9c4d2e1a-2222-4b5e-8b22-ba9876543210
a=i-2-5-VM b=i-2-6-VM c=i-2-17-VM

mkdisk "$dir/root.raw" $mib 1
mkdisk "$dir/data.raw" $mib 2
before=
n=0
for when in 2026.03.01.02.00.05 2026.03.02.02.00.04 2026.03.03.02.00.06 \
	2026.03.04.02.00.05 2026.03.05.02.00.05; do
	n=$((n + 1))
	if [ $((n % 4)) = 1 ]; then
		full $a $when root root.$root.qcow2 "$dir/root.raw"
		full $a $when datadisk.$data datadisk.$data.qcow2 "$dir/data.raw"
	else
		incremental $a $when root root.$root.qcow2 "$dir/root.raw" \
			"../$before/root.$root.qcow2" $((n * 1048576)) r$n
		incremental $a $when datadisk.$data datadisk.$data.qcow2 \
			"$dir/data.raw" "../$before/datadisk.$data.qcow2" \
			$((n * 1310720)) d$n
	fi
	facts $a $when
	before=$when
done
# It was off; later its images name the mount point of then.
mkdisk "$dir/root.raw" $mib 3
full $b 2026.03.01.03.00.00 root root.$root.qcow2 "$dir/root.raw"
incremental $b 2026.03.02.03.00.00 root root.$root.qcow2 "$dir/root.raw" \
	"/tmp/csbackup.Xy1z2/$b/2026.03.01.03.00.00/root.$root.qcow2" 2097152 b1
facts $b 2026.03.02.03.00.00
incremental $b 2026.03.03.03.00.00 root root.$root.qcow2 "$dir/root.raw" \
	"/tmp/csbackup.AAAAA/$b/2026.03.02.03.00.00/root.$root.qcow2" 4194304 b2
facts $b 2026.03.03.03.00.00
# Full backups only.
mkdisk "$dir/root.raw" $mib 4
for n in 1 2 3 4; do
	noise 131072 c$n | dd of="$dir/root.raw" bs=64K seek=$((n * 20)) \
		conv=notrunc status=none
	full $c 2026.02.0$n.23.59.59 root root.$root.qcow2 "$dir/root.raw"
done
mkdir -p "$nas/lost+found" "$nas/$c/notes"
points=12
images=17
[ "$(find "$nas" -name '*.qcow2' | wc -l)" = $images ] || fail "the tree"
ok "a tree of 3 instances, $points points, $images images"

make_repo "$dir/repo"
start_daemon

# --- one command

import() { console import --cloudstack "$nas" "$@"; }

import --dry-run >"$dir/dry.out" 2>&1 || fail "dry run: $(cat "$dir/dry.out")"
grep -q "^$points would come in, 0 there already, 0 passed over" \
	"$dir/dry.out" || fail "dry run: $(cat "$dir/dry.out")"
[ "$(nbackups)" = 0 ] || fail "a dry run brought something"
ok "a dry run tells what would come in, and sends nothing"

# Killed as a machine would be, with the fourth point on its way.
"$BIN/backstay" -r "$repo" import --cloudstack "$nas" --bwlimit 4M --lanes 1 \
	>"$dir/first.out" 2>"$dir/first.err" &
first=$!
pids+=("$first")
some_in() { [ "$(grep -c ' new' "$dir/first.out")" -ge 3 ] || gone $first; }
wait_for 60 some_in || fail "nothing comes in: $(cat "$dir/first.err")"
alive $first || fail "it was done before it was killed: $(cat "$dir/first.out")"
kill -9 $first
wait $first 2>/dev/null
forget $first
some=$(nbackups)
{ [ "$some" -ge 3 ] && [ "$some" -lt $points ]; } ||
	fail "$some backups are in"
ok "killed with $some of $points in"

import >"$dir/second.out" 2>"$dir/second.err" ||
	fail "second run: $(cat "$dir/second.err")"
grep -q "^$((points - some)) came in, $some there already, 0 passed over" \
	"$dir/second.out" || fail "second run: $(tail -n 1 "$dir/second.out")"
[ "$(nbackups)" = $points ] || fail "not $points backups"
ok "run again, it goes on where it was"

import --json >"$dir/third.json" 2>&1 || fail "third run"
[ "$(json "$dir/third.json" "sum(p['outcome'] == 'there' for p in j['points'])")" = \
	$points ] || fail "third run: $(cat "$dir/third.json")"
[ "$(nbackups)" = $points ] || fail "it came in twice"
ok "once more, nothing comes in twice"

console list --json >"$dir/list.json"
[ "$(json "$dir/list.json" "[x['time'] for x in j if x['vm'] == '$b']")" = \
	"['2026-03-01T03:00:00Z', '2026-03-02T03:00:00Z', '2026-03-03T03:00:00Z']" ] ||
	fail "times of $b"
[ "$(json "$dir/list.json" "[x['consistency'] for x in j if x['vm'] == '$b']")" = \
	"['offline', 'crash', 'crash']" ] || fail "consistency of $b"
[ "$(json "$dir/list.json" "sum(x.get('full', False) for x in j)")" = 3 ] ||
	fail "not each but the first builds on the one before"
ok "each has its own time, and builds on the one before"

# --- every point in time

# shellcheck disable=SC2001 # dots by place
utc() { echo "$1" | sed 's/^\(....\).\(..\).\(..\).\(..\).\(..\).\(..\)$/\1-\2-\3T\4:\5:\6Z/'; }

for raw in "$want"/*/*/*.raw; do
	name=$(basename "$raw" .raw)
	when=$(basename "$(dirname "$raw")")
	vm=$(basename "$(dirname "$(dirname "$raw")")")
	rm -rf "$dir/out"
	console restore "$vm@$(utc "$when")" --volume "$name" --to "$dir/out" \
		>"$dir/restore.out" 2>&1 ||
		fail "restore $vm $when: $(cat "$dir/restore.out")"
	same_disk "$raw" raw "$dir/out/$vm-$name.qcow2" qcow2
done
ok "every disk of every point in time restores identical"

rm -rf "$dir/out"
console restore "$a@$(utc 2026.03.03.02.00.06)" --volume definition \
	--format raw --to "$dir/out" >"$dir/restore.out" 2>&1 ||
	fail "restore of the definition: $(cat "$dir/restore.out")"
same_bytes "$nas/$a/2026.03.03.02.00.06/domain-config.xml" \
	"$dir/out/$a-definition.raw"
ok "and so does the definition of the machine"

tree=$(du -s --block-size=1 "$nas" | cut -f1)
store=$(du -s --block-size=1 "$repo/" | cut -f1)
if [ "${PACKS:-}" = nfs ]; then
	store=$(du -sL --block-size=1 "$repo/" | cut -f1)
fi
[ "$store" -lt "$tree" ] || fail "the store has $store bytes, the tree $tree"
ok "the store has $((store >> 20)) MiB, the tree $((tree >> 20))"

# --- what cannot be read

d=$nas/$c
bad() { mkdir -p "$d/$1" && cp "$nas/$b/2026.03.01.03.00.00/root.$root.qcow2" "$d/$1/"; }
point() { echo "$d/2026.02.10.00.00.0$1"; }
bad 2026.02.10.00.00.00 && touch "$(point 0)/backup.xml"
bad 2026.02.10.00.00.01
qemu-img rebase -u -F qcow2 -b ../2026.01.01.00.00.00/root.$root.qcow2 \
	"$(point 1)/root.$root.qcow2"
bad 2026.02.10.00.00.02
qemu-img rebase -u -F raw -b /etc/passwd "$(point 2)/root.$root.qcow2"
bad 2026.02.10.00.00.03
qemu-img rebase -u -F qcow2 -b "../../$b/2026.03.01.03.00.00/root.$root.qcow2" \
	"$(point 3)/root.$root.qcow2"
bad 2026.02.10.00.00.04
ln -sf "$nas/$b/2026.03.01.03.00.00/root.$root.qcow2" \
	"$(point 4)/root.$root.qcow2"
bad 2026.02.10.00.00.05
truncate -s 100000 "$(point 5)/root.$root.qcow2"
bad 2026.02.10.00.00.06
head -c 100000 /dev/urandom >"$(point 6)/root.$root.qcow2"
mkdir -p "$(point 7)"
bad 2026.02.10.00.00.08
qemu-img rebase -u -F qcow2 \
	-b "../2026.02.10.00.00.08/../../../../etc/passwd" \
	"$(point 8)/root.$root.qcow2"
# One that is good, behind them.
full $c 2026.02.11.23.59.59 root root.$root.qcow2 "$dir/root.raw"

import --json >"$dir/bad.json" 2>"$dir/bad.err" && fail "it is content"
[ $? = 1 ] || fail "status: $(cat "$dir/bad.err")"
[ "$(json "$dir/bad.json" "sum(p['outcome'] == 'passed' for p in j['points'])")" = 9 ] ||
	fail "passed over: $(cat "$dir/bad.err")"
[ "$(json "$dir/bad.json" "[p['folder'] for p in j['points'] if p['outcome'] == 'in']")" = \
	"['2026.02.11.23.59.59']" ] || fail "$(cat "$dir/bad.json")"
[ "$(wc -l <"$dir/bad.err")" = 9 ] || fail "not a line each: $(cat "$dir/bad.err")"
[ "$(nbackups)" = $((points + 1)) ] || fail "something bad came in"
for why in "not finished" "is not there any more" \
	"backing file is raw" "none of this instance's" "is a link" "no disk"; do
	grep -q "$why" "$dir/bad.err" || fail "not told: $why: $(cat "$dir/bad.err")"
done
ok "9 points that cannot be read, or lead elsewhere, are passed over with a reason"

# Nothing that looks like a backup is left out without a word.
odd=$dir/odd-tree
mkdir -p "$odd/i-1-VM" "$odd/a b" "$odd"/$'new\nline' "$odd/plain" "$odd/lost+found"
for name in "a b" $'new\nline' i-1-VM; do
	mkdir -p "$odd/$name/2026.03.01.02.00.05"
	cp "$nas/$b/2026.03.01.03.00.00/root.$root.qcow2" \
		"$odd/$name/2026.03.01.02.00.05/"
done
mkdir "$odd/i-1-VM/2026.02.30.02.00.05" "$odd/i-1-VM/notes"
ln -s "$odd/i-1-VM" "$odd/i-2-VM"
ln -s 2026.03.01.02.00.05 "$odd/i-1-VM/2026.03.09.02.00.05"
console import --cloudstack "$odd" --namespace odd --json >"$dir/odd.json" \
	2>"$dir/odd.err" && fail "it is content with a part"
[ "$(json "$dir/odd.json" "sorted((p['instance'], p['folder']) for p in j['points'] if p['outcome'] == 'passed'), j['complete']")" = \
	"([('a b', ''), ('i-1-VM', '2026.02.30.02.00.05'), ('i-1-VM', '2026.03.09.02.00.05'), ('i-2-VM', ''), ('new\\nline', '')], False)" ] ||
	fail "left out: $(cat "$dir/odd.json")"
[ "$(wc -l <"$dir/odd.err")" = 5 ] || fail "not told: $(cat "$dir/odd.err")"
[ "$(nbackups odd/i-1-VM)" = 1 ] || fail "the good one is not in"
console import odd/ab "$odd/a b" >"$dir/folder.out" 2>&1 ||
	fail "by another name: $(cat "$dir/folder.out")"
[ "$(nbackups odd/ab)" = 1 ] || fail "not in by another name"
ok "nor is what cannot be a backup by its name left out silently"

# --- one instance, one point

console import moved "$nas/$b" >"$dir/folder.out" 2>&1 ||
	fail "of an instance: $(cat "$dir/folder.out")"
[ "$(nbackups moved)" = 3 ] || fail "not all points of the instance"
console import other/one "$nas/$b/2026.03.03.03.00.00/" \
	>"$dir/folder.out" 2>&1 || fail "of a point: $(cat "$dir/folder.out")"
[ "$(nbackups other/one)" = 1 ] || fail "not that point"
rm -rf "$dir/out"
console restore "other/one@$(utc 2026.03.03.03.00.00)" --volume root \
	--format raw --to "$dir/out" >"$dir/restore.out" 2>&1 ||
	fail "restore: $(cat "$dir/restore.out")"
same_bytes "$want/$b/2026.03.03.03.00.00/root.raw" "$dir/out/other-one-root.raw"
expect_fail 1 "as CloudStack's NAS backups have" console import moved "$nas"
ok "an instance, or one point in time, into a VM of another name"

expect_fail 1 "there is no INSTANCE" console import --cloudstack "$want/.."
expect_fail 1 "has no instance i-9" console import --cloudstack "$nas" \
	--instance i-9
# Only who administers may say which time a backup is of.
enroll_agent kvm03
expect_fail 1 "may not say which time" agent kvm03 import -q \
	--namespace other --cloudstack "$nas" --instance $b
stop_daemon
check_store
ok "and refusals say why"
