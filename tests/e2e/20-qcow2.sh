#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: every qcow2 and raw image that QEMU makes is read as QEMU reads it, and
# what is written is an image QEMU finds no fault with; what cannot be read
# rightly is refused with its reason; nobody writes to an image while it is
# read.
#
#   IMGCOPY=build/gcc/imgcopy tests/e2e/20-qcow2.sh
set -u

imgcopy=$(realpath "${IMGCOPY:-build/gcc/imgcopy}")
dir=$(mktemp -d "${TMPDIR:-/tmp}/qcow2.XXXXXX")
holders=()
cleanup() {
	[ ${#holders[@]} = 0 ] || kill "${holders[@]}" 2>/dev/null
	rm -rf "$dir"
}
trap cleanup EXIT
cd "$dir" || exit 1
failures=0
cases=0

fail() {
	echo "FAIL: $*" >&2
	failures=$((failures + 1))
}

# holds WHAT: one line for what was tested since the last one.
failures_before=0
holds() {
	[ "$failures" != "$failures_before" ] || echo "ok - $*"
	failures_before=$failures
}

for tool in "$imgcopy" qemu-img qemu-io qemu-nbd python3; do
	command -v "$tool" >/dev/null || { echo "no $tool" >&2; exit 1; }
done

# roundtrip SRC_SPEC DST FORMAT: the copy that is tested.
roundtrip() {
	"$imgcopy" "$1" "$2" "$3" "${CLUSTER:-65536}" "${CHUNK:-65536}" \
		>copy.out 2>copy.err
}

virtual_size() {
	qemu-img info -U --output=json -f "$2" "$1" |
		python3 -c 'import json,sys;print(json.load(sys.stdin)["virtual-size"])'
}

# same SRC SRC_FORMAT [SPEC]: both formats hold what QEMU sees in SRC.
same() {
	local src=$1 format=$2 spec=${3:-$2:$1} to

	cases=$((cases + 1))
	for to in raw qcow2; do
		rm -f "out.$to"
		if ! roundtrip "$spec" "out.$to" "$to"; then
			fail "$spec to $to: $(cat copy.err)"
			continue
		fi
		qemu-img compare -q -f "$format" -F "$to" "$src" "out.$to" ||
			fail "$spec to $to: differs"
		[ "$(virtual_size "$src" "$format")" = \
			"$(virtual_size "out.$to" "$to")" ] ||
			fail "$spec to $to: another size"
	done
	qemu-img check -q out.qcow2 || fail "$spec: qemu-img check"
	[ "$(stat -c %b out.raw)" -le \
		$(($(stat -c %b pattern.raw) + 4096)) ] ||
		fail "$spec: the copy is not sparse"
}

# refused SPEC WORDS: not opened, and the reason holds the words.
refused() {
	cases=$((cases + 1))
	if "$imgcopy" "$1" - map >out.txt 2>copy.err; then
		fail "$1: was not refused"
	elif ! grep -qF -- "$2" copy.err; then
		fail "$1: lacks \"$2\": $(cat copy.err)"
	elif [ "$(grep -c '^imgcopy: ' copy.err)" != 1 ]; then
		fail "$1: not one line: $(cat copy.err)"
	fi
}

quietly() { "$@" >/dev/null || fail "set-up: $*"; }

# poke FILE OFFSET HEX: overwrite bytes.
poke() {
	python3 - "$@" <<'EOF'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2]))
    f.write(bytes.fromhex(sys.argv[3]))
EOF
}

# scatter IMAGE FORMAT: writes, zeroes and discards at odd places (12 MiB).
scatter() {
	quietly qemu-io -f "$2" -c 'write -P 0x11 0 64k' \
		-c 'write -P 0x22 100k 1k' -c 'write -P 0x33 1000448 3k' \
		-c 'write -P 0x44 3m 700k' -c 'write -P 0x55 7340032 512' \
		-c 'write -P 0x66 12582400 512' -c 'write -z 3200k 128k' \
		-c 'write -P 0x77 5m 2m' -c 'write -z -u 5200k 64k' \
		-c 'discard 6m 128k' "$1"
}

python3 - <<'EOF'
import random
random.seed(20)
with open("pattern.raw", "wb") as f:
    f.truncate(12 << 20)
    for at, n in ((0, 300000), (1 << 20, 65536), (5 << 20, 1500000),
                  ((8 << 20) + 512, 131072), ((12 << 20) - 4096, 4096)):
        f.seek(at)
        # Half of it packs well, so that compressed images have both kinds.
        f.write(random.randbytes(n // 2) + b"backstay" * (n // 16))
EOF

# Clusters, versions, fullness.
for size in 512 4k 64k 2M; do
	for compat in 0.10 1.1; do
		opt=cluster_size=$size,compat=$compat
		quietly qemu-img create -q -f qcow2 -o $opt a.qcow2 12M
		same a.qcow2 qcow2
		scatter a.qcow2 qcow2
		same a.qcow2 qcow2
		quietly qemu-img convert -O qcow2 -o $opt pattern.raw a.qcow2
		same a.qcow2 qcow2 a.qcow2
		quietly qemu-img convert -S 0 -O qcow2 -o $opt pattern.raw \
			a.qcow2
		same a.qcow2 qcow2
		quietly qemu-img convert -c -O qcow2 -o $opt pattern.raw a.qcow2
		same a.qcow2 qcow2
		quietly qemu-img create -q -f qcow2 \
			-o $opt,preallocation=metadata a.qcow2 12M
		same a.qcow2 qcow2
		scatter a.qcow2 qcow2
		same a.qcow2 qcow2
		rm a.qcow2
	done
done

holds "both versions, clusters of 512 bytes to 2 MiB, sparse to full"

# Written clusters of every size, chunks of every size.
quietly qemu-img convert -O qcow2 pattern.raw a.qcow2
for CLUSTER in 512 4096 131072 2097152; do
	for CHUNK in 65536 1048576 4194304; do
		same a.qcow2 qcow2
	done
done
unset CLUSTER CHUNK

holds "chunks of every size fill clusters of every size"

# Both kinds of zero clusters.
quietly qemu-img convert -S 0 -O qcow2 pattern.raw a.qcow2
quietly qemu-io -c 'write -z 64k 128k' -c 'write -z -u 6m 256k' a.qcow2
same a.qcow2 qcow2

# Compression of both kinds, extended L2, refcount widths, lazy refcounts.
for opt in compression_type=zlib compression_type=zstd \
	compression_type=zstd,cluster_size=2M \
	compression_type=zstd,cluster_size=4k \
	extended_l2=on,cluster_size=16k extended_l2=on,cluster_size=64k \
	extended_l2=on,cluster_size=2M,compression_type=zstd \
	lazy_refcounts=on refcount_bits=1 refcount_bits=2 refcount_bits=4 \
	refcount_bits=8 refcount_bits=32 refcount_bits=64; do
	quietly qemu-img convert -O qcow2 -o $opt pattern.raw a.qcow2
	scatter a.qcow2 qcow2
	same a.qcow2 qcow2
	quietly qemu-img convert -c -O qcow2 -o $opt pattern.raw a.qcow2
	same a.qcow2 qcow2
	scatter a.qcow2 qcow2
	same a.qcow2 qcow2
done

holds "zero clusters, zlib and zstd, extended L2, refcounts of 1 to 64 bits"

# An image whose QEMU was killed: dirty, refcounts behind, data right.
quietly qemu-img create -q -f qcow2 -o lazy_refcounts=on a.qcow2 12M
(qemu-io -c 'write -P 9 1m 1m' -c flush -c abort a.qcow2; :) >/dev/null 2>&1
qemu-img info --output=json a.qcow2 | grep -q '"dirty-flag": true' ||
	fail "set-up: not dirty"
cp a.qcow2 b.qcow2
"$imgcopy" qcow2:a.qcow2 out.raw raw >/dev/null || fail "dirty image"
quietly qemu-img check -q -r all b.qcow2 2>check.err
qemu-img compare -q -f qcow2 -F raw b.qcow2 out.raw || fail "dirty differs"

holds "an image that was not closed is read"

# Internal snapshots.
quietly qemu-img convert -O qcow2 pattern.raw a.qcow2
quietly qemu-img snapshot -c one a.qcow2
scatter a.qcow2 qcow2
quietly qemu-img snapshot -c two a.qcow2
same a.qcow2 qcow2

holds "internal snapshots are not in the way"

# Chains: qcow2 on qcow2 on raw, shorter and longer ones, in another folder.
for opt in cluster_size=64k cluster_size=512 extended_l2=on,cluster_size=16k
do
	mkdir -p base
	truncate -s 5M base/bottom.raw
	dd if=pattern.raw of=base/bottom.raw bs=1000 count=4001 conv=notrunc \
		status=none
	truncate -s 4001000 base/bottom.raw
	quietly qemu-img create -q -f qcow2 -o $opt -F raw -b bottom.raw \
		base/middle.qcow2 8M
	quietly qemu-io -c 'write -P 1 1m 300k' -c 'write -z 2m 64k' \
		-c 'write -P 2 7m 1m' base/middle.qcow2
	quietly qemu-img create -q -f qcow2 -o $opt -F qcow2 \
		-b base/middle.qcow2 top.qcow2 12M
	same top.qcow2 qcow2
	quietly qemu-io -c 'write -P 3 1100k 2k' -c 'write -z 7200k 128k' \
		-c 'write -P 4 11m 9k' top.qcow2
	same top.qcow2 qcow2
	quietly qemu-img create -q -f qcow2 -F qcow2 -b base/middle.qcow2 \
		short.qcow2 3M
	same short.qcow2 qcow2
	same "$PWD/top.qcow2" qcow2
done
refused top.qcow2 "say qcow2:PATH"

holds "chains of qcow2 on qcow2 on raw, of any sizes"

# External data files.
for opt in data_file_raw=off data_file_raw=on; do
	rm -f data.raw a.qcow2
	quietly qemu-img create -q -f qcow2 -o data_file=data.raw,$opt \
		a.qcow2 12M
	same a.qcow2 qcow2
	scatter a.qcow2 qcow2
	same a.qcow2 qcow2
	refused a.qcow2 "say qcow2:PATH"
done
rm data.raw
refused qcow2:a.qcow2 "there is no such file"

holds "external data files"

# Raw files of any size; qcow2 rounds up to sectors as QEMU does.
for size in 0 1 511 512 1000 65536 65537 1048577 8388608 8389000; do
	head -c $size pattern.raw >odd.raw
	truncate -s $size odd.raw
	cases=$((cases + 1))
	rm -f out.raw out.qcow2
	roundtrip raw:odd.raw out.raw raw || fail "raw of $size: $(cat copy.err)"
	cmp odd.raw out.raw || fail "raw of $size differs"
	roundtrip odd.raw out.qcow2 qcow2 ||
		fail "raw of $size: $(cat copy.err)"
	quietly qemu-img check -q out.qcow2
	[ "$(virtual_size out.qcow2 qcow2)" = $(((size + 511) / 512 * 512)) ] ||
		fail "raw of $size: size of its qcow2"
	# Reading it back gives the sectors: the file and its padding.
	roundtrip out.qcow2 back.raw raw || fail "qcow2 of $size"
	cmp -n $size odd.raw back.raw || fail "qcow2 of $size differs"
done
for size in 512 12582400 1049088; do
	quietly qemu-img create -q -f qcow2 a.qcow2 $size
	quietly qemu-io -c "write -P 7 $((size - 512)) 512" a.qcow2
	same a.qcow2 qcow2
done

holds "sizes that are no multiple of anything"

# Large and empty must be fast, whatever they hold.
for opt in preallocation=off preallocation=metadata; do
	size=2T
	[ $opt = preallocation=off ] || size=100G
	quietly qemu-img create -q -f qcow2 -o $opt a.qcow2 $size
	timeout 10 "$imgcopy" a.qcow2 - map >map.txt ||
		fail "map of an empty $size"
	grep -q data map.txt && fail "empty $size has data"
done
quietly qemu-img create -q -f qcow2 a.qcow2 2T
quietly qemu-io -c 'write -P 3 1T 64k' -c 'write -P 4 2199023190016 64k' a.qcow2
timeout 60 "$imgcopy" a.qcow2 out.qcow2 qcow2 >copy.out || fail "2 TiB"
[ "$(cat copy.out)" = "131072 of 2199023255552" ] || fail "2 TiB: $(cat copy.out)"
qemu-io -r -c 'read -P 3 1T 64k' -c 'read -P 4 2199023190016 64k' \
	out.qcow2 | grep -q 'failed' && fail "2 TiB: wrong data"
rm -f a.qcow2 out.qcow2

holds "2 TiB with two clusters of data"

# What is refused.
good() {
	rm -f bad.qcow2
	quietly qemu-img convert -O qcow2 pattern.raw bad.qcow2
}
# On a busy machine qemu-img may fail to measure how fast it is.
for _ in 1 2 3 4 5 6 7 8; do
	qemu-img create -q -f qcow2 --object secret,id=s,data=abc \
		-o encrypt.format=luks,encrypt.key-secret=s \
		-o encrypt.iter-time=10 bad.qcow2 1M 2>luks.err && break
done
refused qcow2:bad.qcow2 "encrypted (LUKS)"
good
poke bad.qcow2 32 00000001
refused bad.qcow2 "encrypted (AES)"
good
poke bad.qcow2 72 0000000000000002
refused bad.qcow2 "marked corrupt"
good
poke bad.qcow2 72 0000000000000020
refused bad.qcow2 "incompatible bit 5"
good
# The feature name table of QEMU's begins with type 0, bit 0, "dirty bit".
poke bad.qcow2 72 0000000000000080
at=$(grep -abo 'dirty bit' bad.qcow2 | head -1 | cut -d: -f1)
poke bad.qcow2 $((at - 1)) "07$(printf 'time travel' | od -An -tx1 | tr -d ' \n')"
refused bad.qcow2 'feature "time travel"'
good
poke bad.qcow2 4 00000004
refused bad.qcow2 "unknown qcow2 version 4"
good
poke bad.qcow2 40 00007fffffff0000
refused bad.qcow2 "L1 table reaches beyond the end"
good
poke bad.qcow2 36 00000000
refused bad.qcow2 "L1 table is too small"
good
l1=$((0x$(od -An -tx8 --endian=big -j40 -N8 bad.qcow2 | tr -d ' ')))
poke bad.qcow2 $l1 8000000fffff0000
refused bad.qcow2 "an L2 table at offset 68719411200"
good
l2=$((0x$(od -An -tx8 --endian=big -j$l1 -N8 bad.qcow2 | tr -d ' ') & 0xffffffffffff))
poke bad.qcow2 $l2 8000000fffff0000
refused bad.qcow2 "a cluster at offset 68719411200"
good
truncate -s 1M bad.qcow2
refused bad.qcow2 "beyond the end of"
quietly qemu-img convert -c -O qcow2 pattern.raw bad.qcow2
at=$(qemu-img map --output=json bad.qcow2 | wc -c)
[ "$at" -gt 0 ] || fail "set-up: map"
l1=$((0x$(od -An -tx8 --endian=big -j40 -N8 bad.qcow2 | tr -d ' ')))
l2=$((0x$(od -An -tx8 --endian=big -j$l1 -N8 bad.qcow2 | tr -d ' ') & 0xffffffffffff))
# The second half of the pattern packs: the cluster at 192 KiB is compressed.
entry=$((0x$(od -An -tx8 --endian=big -j$((l2 + 24)) -N8 bad.qcow2 | tr -d ' ')))
packed=$((entry & 0x3fffffffffffff))
poke bad.qcow2 $packed ffffffffffffffffffffffffffffffff
cases=$((cases + 1))
roundtrip bad.qcow2 out.raw raw && fail "damaged compression: not noticed"
grep -qF "compressed cluster" copy.err || fail "damaged: $(cat copy.err)"

quietly qemu-img create -q -f qcow2 loop1.qcow2 1M
quietly qemu-img create -q -f qcow2 -F qcow2 -b loop1.qcow2 loop2.qcow2
quietly qemu-img rebase -u -F qcow2 -b loop2.qcow2 loop1.qcow2
refused qcow2:loop1.qcow2 "in a loop"
quietly qemu-img create -q -u -f qcow2 -F qcow2 -b gone.qcow2 bad.qcow2 1M
refused qcow2:bad.qcow2 "gone.qcow2: there is no such file"
quietly qemu-img create -q -u -f qcow2 -F raw -b nbd://h/x bad.qcow2 1M
refused qcow2:bad.qcow2 'reached by nbd'
quietly qemu-img create -q -u -f qcow2 -F raw \
	-b 'json:{"driver":"null-co"}' bad.qcow2 1M
refused qcow2:bad.qcow2 'reached by json'
quietly qemu-img create -q -u -f qcow2 -F vmdk -b x.vmdk bad.qcow2 1M
refused qcow2:bad.qcow2 'format "vmdk"'
quietly qemu-img create -q -f qcow2 -o compat=0.10 -F raw -b pattern.raw bad.qcow2
at=$(grep -abo 'pattern.raw' bad.qcow2 | head -1 | cut -d: -f1)
quietly python3 - <<'EOF'
import struct
with open("bad.qcow2", "r+b") as f:
    d = bytearray(f.read(4096))
    at = d.find(struct.pack(">I", 0xE2792ACA))
    d[at:at + 4] = struct.pack(">I", 0x12345678)
    f.seek(0)
    f.write(d)
EOF
refused qcow2:bad.qcow2 "qemu-img rebase -u"
cp pattern.raw c0.qcow2
format=raw
for i in $(seq 1 65); do
	quietly qemu-img create -q -u -f qcow2 -F $format \
		-b c$((i - 1)).qcow2 "c$i.qcow2" 12M
	format=qcow2
done
refused qcow2:c65.qcow2 "more than 64 images"
same c63.qcow2 qcow2
mkfifo pipe
refused pipe "neither a regular file nor a block device"
refused gone.raw "there is no such file"
refused qcow2:pattern.raw "is not a qcow2 image"
refused nbd://x/y "no such kind of source"

holds "what cannot be read rightly is refused with its reason"

# Locks, against a QEMU that has images open.
cp pattern.raw used.raw
quietly qemu-img convert -O qcow2 pattern.raw used.qcow2
quietly qemu-img create -q -f qcow2 -F qcow2 -b used.qcow2 over.qcow2
# wait_for COMMAND...: at most ten seconds until it says yes.
wait_for() {
	for _ in $(seq 500); do
		"$@" && return
		read -r -t 0.02 <> <(:) || :
	done
	fail "set-up: in vain for: $*"
}
qemu-nbd -t -f raw -k "$PWD/raw.sock" used.raw &
holders=($!)
qemu-nbd -t -f qcow2 -k "$PWD/over.sock" over.qcow2 &
holders+=($!)
wait_for test -S raw.sock
wait_for test -S over.sock
refused raw:used.raw "open for writing"
refused qcow2:over.qcow2 "open for writing"
# A backing image is read by that QEMU, and may be read by us.
same used.qcow2 qcow2
cases=$((cases + 1))
for victim in used.raw over.qcow2 used.qcow2; do
	"$imgcopy" pattern.raw $victim raw >/dev/null 2>copy.err &&
		fail "$victim: replaced beneath a QEMU"
	grep -q "is in use" copy.err || fail "$victim: $(cat copy.err)"
done
kill "${holders[@]}"
wait "${holders[@]}" 2>/dev/null
holders=()
same over.qcow2 qcow2

holds "an image that a QEMU writes to is neither read nor replaced"

# The other way round: while we read, no QEMU may write; reading is free.
mkfifo go
"$imgcopy" qcow2:over.qcow2 - hold <go >held.txt &
holders=($!)
exec 9>go
wait_for grep -q open held.txt
cases=$((cases + 1))
for image in over.qcow2 used.qcow2; do
	qemu-io -f qcow2 -c 'write 0 512' $image >/dev/null 2>copy.err &&
		fail "$image: written while it was read"
	grep -q 'Failed to get "write" lock' copy.err ||
		fail "$image: $(cat copy.err)"
	qemu-io -r -f qcow2 -c 'read 0 512' $image >/dev/null ||
		fail "$image: not readable while it is read"
done
exec 9>&-
wait "${holders[0]}" || fail "hold"
holders=()
quietly qemu-io -f qcow2 -c 'write 0 512' over.qcow2

holds "while we read, QEMU may read and not write"

[ -z "$(find . -name '.*.restoring')" ] || fail "temporary files are left"
if [ "$failures" != 0 ]; then
	echo "20-qcow2: $failures failures in $cases cases" >&2
	exit 1
fi
echo "20-qcow2: $cases images and refusals, no failure"
