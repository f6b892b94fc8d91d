#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: a repository on ext4, xfs, btrfs and tmpfs: backups, deletes, packs
# rewritten, restores, fsck, and a volume that is full; and a scrub leaves in
# the page cache of packs what was in it, and nothing more.
#
#   tests/e2e/340-filesystems.sh [FS...]     (as root: it mounts loop devices)
. "$(dirname "$0")/lib.sh"
PATH=$PATH:/usr/sbin:/sbin
need mkfs.ext4 mkfs.xfs mkfs.btrfs mount fincore fallocate
# Where the packs lie is the question here.
unset PACKS

mib=$((1 << 20))
SEED=${SEED:-$(date +%s)}
echo "# seed $SEED"
put_noise "$dir/one" 0 $((32 * mib)) "$SEED.1"
cp "$dir/one" "$dir/two"
for ((i = 0; i < 32; i += 2)); do
	put_noise "$dir/two" $((i * mib)) $mib "$SEED.2.$i"
done
put_noise "$dir/big" 0 $((64 * mib)) "$SEED.3"

# room FS: a file system of 512 MiB at ${dir}/FS.
room() {
	mkdir "$dir/$1"
	if [ "$1" = tmpfs ]; then
		mount -t tmpfs -o size=512m tmpfs "$dir/$1" ||
			fail "a tmpfs cannot be mounted"
	else
		truncate -s 512M "$dir/$1.img"
		"mkfs.$1" -q "$dir/$1.img" >"$dir/mkfs.out" 2>&1 ||
			fail "mkfs.$1: $(cat "$dir/mkfs.out")"
		mount -t "$1" -o loop "$dir/$1.img" "$dir/$1" ||
			fail "$1 cannot be mounted: this kernel lacks it or" \
				"loop devices, or it needs root"
	fi
	mounts+=("$dir/$1")
}

restores() {
	rm -f "$dir/r.raw"
	restore kvm01 "$1" --disk "vda=$dir/r.raw"
	same_bytes "$2" "$dir/r.raw"
}

stored() {
	console status --json >"$dir/status.json" || fail "status"
	json "$dir/status.json" "j['stored']"
}

# cached: bytes of packs that the page cache has, one line a pack.
cached() {
	find "$repo/packs" -name '*.pack' -print0 | sort -z |
		xargs -0 fincore --bytes --noheadings --raw -o res,file
}
# Readahead goes on behind who reads.
settled() {
	cached >"$dir/cached.now"
	pause 0.05
	cached | cmp -s - "$dir/cached.now"
}

scrub_done() {
	console scrub --json >"$dir/scrub.json" 2>/dev/null
	[ "$(json "$dir/scrub.json" 'j["scrub"]["state"]')" = idle ]
}

# A scrub, and the cache before and after it.  Of every pack a part is cached.
scrub_keeps_cache() {
	local pack n

	sync
	while read -r pack; do
		dd "if=$pack" iflag=nocache count=0 status=none
		dd "if=$pack" of=/dev/null bs=64K skip=8 count=4 status=none
	done < <(find "$repo/packs" -name '*.pack')
	wait_for 20 settled || fail "the cache does not come to rest"
	cached >"$dir/cached.before"
	n=$(awk '{ n += $1 } END { print n + 0 }' "$dir/cached.before")
	[ "$n" -gt 0 ] || fail "nothing of the packs is cached"
	if [ "$1" != tmpfs ]; then
		[ "$n" -lt $((8 * mib)) ] || fail "$n bytes of packs are cached"
	fi
	console scrub start --rate 500M >"$dir/scrub.out" 2>&1 ||
		fail "scrub start: $(cat "$dir/scrub.out")"
	wait_for 60 scrub_done || fail "scrub does not end"
	wait_for 20 settled || fail "the cache does not come to rest"
	cached >"$dir/cached.after"
	cmp -s "$dir/cached.before" "$dir/cached.after" ||
		fail "the cache is another: $(diff "$dir/cached.before" \
			"$dir/cached.after")"
	echo "# $1: $((n >> 10)) KiB of packs cached before and after a scrub"
}

one_fs() {
	local fs=$1 before after free

	room "$fs"
	make_repo "$dir/$fs/repo"
	start_daemon --pack-limit 8M --scrub-interval 0
	rm -rf "$dir/agent-kvm01"
	enroll_agent kvm01
	backup kvm01 web1 --compression 0 --disk "vda=$dir/one"
	backup kvm01 web1 --compression 0 --disk "vda=$dir/two"
	before=$(stored)
	console delete web1@-1 >"$dir/out" 2>&1 || fail "$(cat "$dir/out")"
	backup kvm01 web2 --compression 0 --disk "vda=$dir/two"
	console gc --wait >"$dir/out" 2>&1 || fail "gc: $(cat "$dir/out")"
	after=$(stored)
	[ $((before - after)) -gt $((12 * mib)) ] ||
		fail "$fs: $before bytes stored, then $after: nothing rewritten"
	restores web1@latest "$dir/two"
	scrub_keeps_cache "$fs"

	free=$(df --output=avail -B1M "$dir/$fs" | tail -n 1)
	fallocate -l $((free - 48))M "$dir/$fs/filler" || fail "fallocate"
	agent kvm01 backup -q big --compression 0 --disk "vda=$dir/big" \
		>"$dir/out" 2>"$dir/err" && fail "$fs: it was to be full"
	grep -q full "$dir/err" || fail "not that it is full: $(cat "$dir/err")"
	restores web2@latest "$dir/two"
	console delete web2@latest >"$dir/out" 2>&1 ||
		fail "a delete on a full volume: $(cat "$dir/out")"
	rm "$dir/$fs/filler"
	fits() {
		agent kvm01 backup -q big --compression 0 \
			--disk "vda=$dir/big" >"$dir/out" 2>"$dir/err"
	}
	wait_for 20 fits || fail "it stays full: $(cat "$dir/err")"
	restores big@latest "$dir/big"
	stop_daemon
	check_store --data
	ok "$fs: backups, rewritten packs, a scrub, a full volume, fsck"
	umount "$dir/$fs" || fail "umount"
	mounts=()
	rm -f "$dir/$fs.img"
}

[ $# -gt 0 ] || set -- ext4 xfs btrfs tmpfs
for fs in "$@"; do
	one_fs "$fs"
done
