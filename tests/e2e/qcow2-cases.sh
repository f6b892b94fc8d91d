# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# The images that QEMU makes, in all their kinds, as functions: 20-qcow2.sh
# puts them through the readers and writers alone, 21-qcow2-roundtrip.sh
# through a backup and a restore.  Who sources it stands in a folder of its own
# and has:
#
#   fail WHAT, holds WHAT   a case failed; those since the last did not
#   same IMAGE FORMAT [SPEC]   what comes out is what QEMU sees in IMAGE
#   roundtrip SPEC TO FORMAT   it succeeds, or copy.err says why not
#   refused SPEC WORDS         it cannot be read, for that reason
#   replace TARGET             write pattern.raw there, over what is there;
#                              copy.err says why not
#   virtual_size IMAGE FORMAT
#   wait_for SECONDS COMMAND...
#   has [GREP-OPTION...] PATTERN
#
# and counts in ${cases} and has the processes in ${holders} ended at its end.
# shellcheck disable=SC2034 # those two are the other's

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

# peek FILE OFFSET: eight bytes, big-endian, as a number.
peek() {
	echo $((0x$(od -An -tx8 --endian=big "-j$2" -N8 "$1" | tr -d ' ')))
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

make_pattern() {
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
}

# cases_clusters "SIZE..." "VERSION...": of each, sparse to full.
cases_clusters() {
	local size compat opt
	local -a make

	for size in $1; do
		for compat in $2; do
			opt=cluster_size=$size,compat=$compat
			make=(qemu-img convert -O qcow2 -o "$opt")
			quietly qemu-img create -q -f qcow2 -o "$opt" \
				a.qcow2 12M
			same a.qcow2 qcow2
			scatter a.qcow2 qcow2
			same a.qcow2 qcow2
			quietly "${make[@]}" pattern.raw a.qcow2
			same a.qcow2 qcow2 a.qcow2
			quietly "${make[@]}" -S 0 pattern.raw a.qcow2
			same a.qcow2 qcow2
			quietly "${make[@]}" -c pattern.raw a.qcow2
			same a.qcow2 qcow2
			quietly qemu-img create -q -f qcow2 \
				-o "$opt,preallocation=metadata" a.qcow2 12M
			same a.qcow2 qcow2
			scatter a.qcow2 qcow2
			same a.qcow2 qcow2
			rm a.qcow2
		done
	done
}

# Zero clusters of both kinds, compression, extended L2, refcounts.
cases_kinds() {
	local opt

	quietly qemu-img convert -S 0 -O qcow2 pattern.raw a.qcow2
	quietly qemu-io -c 'write -z 64k 128k' -c 'write -z -u 6m 256k' a.qcow2
	same a.qcow2 qcow2

	for opt in compression_type=zlib compression_type=zstd \
		compression_type=zstd,cluster_size=2M \
		compression_type=zstd,cluster_size=4k \
		extended_l2=on,cluster_size=16k \
		extended_l2=on,cluster_size=64k \
		extended_l2=on,cluster_size=2M,compression_type=zstd \
		lazy_refcounts=on refcount_bits=1 refcount_bits=2 \
		refcount_bits=4 refcount_bits=8 refcount_bits=32 \
		refcount_bits=64; do
		quietly qemu-img convert -O qcow2 -o $opt pattern.raw a.qcow2
		scatter a.qcow2 qcow2
		same a.qcow2 qcow2
		quietly qemu-img convert -c -O qcow2 -o $opt pattern.raw a.qcow2
		same a.qcow2 qcow2
		scatter a.qcow2 qcow2
		same a.qcow2 qcow2
	done

	holds "zero clusters, zlib and zstd, extended L2, refcounts of 1 to 64 bits"
}

# An image whose QEMU was killed: dirty, refcounts behind, data right.
cases_dirty() {
	rm -f out.raw
	quietly qemu-img create -q -f qcow2 -o lazy_refcounts=on a.qcow2 12M
	(qemu-io -c 'write -P 9 1m 1m' -c flush -c abort a.qcow2; :) \
		>/dev/null 2>&1
	qemu-img info --output=json a.qcow2 | has '"dirty-flag": true' ||
		fail "set-up: not dirty"
	cp a.qcow2 b.qcow2
	roundtrip qcow2:a.qcow2 out.raw raw || fail "dirty image"
	quietly qemu-img check -q -r all b.qcow2 2>check.err
	qemu-img compare -q -f qcow2 -F raw b.qcow2 out.raw ||
		fail "dirty differs"

	holds "an image that was not closed is read"
}

# Internal snapshots.
cases_snapshots() {
	quietly qemu-img convert -O qcow2 pattern.raw a.qcow2
	quietly qemu-img snapshot -c one a.qcow2
	scatter a.qcow2 qcow2
	quietly qemu-img snapshot -c two a.qcow2
	same a.qcow2 qcow2

	holds "internal snapshots are not in the way"
}

# Chains: qcow2 on qcow2 on raw, of several sizes, in another folder.
cases_chains() {
	local opt

	for opt in cluster_size=64k cluster_size=512 \
		extended_l2=on,cluster_size=16k; do
		mkdir -p base
		truncate -s 5M base/bottom.raw
		dd if=pattern.raw of=base/bottom.raw bs=1000 count=4001 \
			conv=notrunc status=none
		truncate -s 4001000 base/bottom.raw
		quietly qemu-img create -q -f qcow2 -o $opt -F raw -b bottom.raw \
			base/middle.qcow2 8M
		quietly qemu-io -c 'write -P 1 1m 300k' -c 'write -z 2m 64k' \
			-c 'write -P 2 7m 1m' base/middle.qcow2
		quietly qemu-img create -q -f qcow2 -o $opt -F qcow2 \
			-b base/middle.qcow2 top.qcow2 12M
		same top.qcow2 qcow2
		quietly qemu-io -c 'write -P 3 1100k 2k' \
			-c 'write -z 7200k 128k' -c 'write -P 4 11m 9k' \
			top.qcow2
		same top.qcow2 qcow2
		quietly qemu-img create -q -f qcow2 -F qcow2 -b base/middle.qcow2 \
			short.qcow2 3M
		same short.qcow2 qcow2
		same "$PWD/top.qcow2" qcow2
	done
	refused top.qcow2 "say qcow2:PATH"

	holds "chains of qcow2 on qcow2 on raw, of any sizes"
}

# External data files.
cases_data_files() {
	local opt

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
}

# Raw files of any size; qcow2 rounds up to sectors as QEMU does.
cases_sizes() {
	local size

	for size in 0 1 511 512 1000 65536 65537 1048577 8388608 8389000; do
		head -c $size pattern.raw >odd.raw
		truncate -s $size odd.raw
		cases=$((cases + 1))
		rm -f out.raw out.qcow2 back.raw
		roundtrip raw:odd.raw out.raw raw ||
			fail "raw of $size: $(cat copy.err)"
		cmp odd.raw out.raw || fail "raw of $size differs"
		roundtrip odd.raw out.qcow2 qcow2 ||
			fail "raw of $size: $(cat copy.err)"
		quietly qemu-img check -q out.qcow2
		[ "$(virtual_size out.qcow2 qcow2)" = \
			$(((size + 511) / 512 * 512)) ] ||
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
}

# A qcow2 image to spoil.
good() {
	rm -f bad.qcow2
	quietly qemu-img convert -O qcow2 pattern.raw bad.qcow2
}

# What is refused.
cases_refused() {
	local at l1 l2 entry packed format i

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
	# QEMU's table of feature names begins with type 0, bit 0, "dirty bit".
	poke bad.qcow2 72 0000000000000080
	at=$(grep -abo 'dirty bit' bad.qcow2 | head -1 | cut -d: -f1)
	poke bad.qcow2 $((at - 1)) \
		"07$(printf 'time travel' | od -An -tx1 | tr -d ' \n')"
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
	l1=$(peek bad.qcow2 40)
	poke bad.qcow2 "$l1" 8000000fffff0000
	refused bad.qcow2 "an L2 table at offset 68719411200"
	good
	l2=$(($(peek bad.qcow2 "$l1") & 0xffffffffffff))
	poke bad.qcow2 $l2 8000000fffff0000
	refused bad.qcow2 "a cluster at offset 68719411200"
	good
	truncate -s 1M bad.qcow2
	refused bad.qcow2 "beyond the end of"
	quietly qemu-img convert -c -O qcow2 pattern.raw bad.qcow2
	at=$(qemu-img map --output=json bad.qcow2 | wc -c)
	[ "$at" -gt 0 ] || fail "set-up: map"
	l1=$(peek bad.qcow2 40)
	l2=$(($(peek bad.qcow2 "$l1") & 0xffffffffffff))
	# The second half of the pattern packs: so does the cluster at 192 KiB.
	entry=$(peek bad.qcow2 $((l2 + 24)))
	packed=$((entry & 0x3fffffffffffff))
	poke bad.qcow2 $packed ffffffffffffffffffffffffffffffff
	cases=$((cases + 1))
	rm -f out.raw
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
	quietly qemu-img create -q -f qcow2 -o compat=0.10 -F raw \
		-b pattern.raw bad.qcow2
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
}

# Locks, against a QEMU that has images open.
cases_locks() {
	local victim

	cp pattern.raw used.raw
	quietly qemu-img convert -O qcow2 pattern.raw used.qcow2
	quietly qemu-img create -q -f qcow2 -F qcow2 -b used.qcow2 over.qcow2
	qemu-nbd -t -f raw -k "$PWD/raw.sock" used.raw &
	holders=($!)
	qemu-nbd -t -f qcow2 -k "$PWD/over.sock" over.qcow2 &
	holders+=($!)
	wait_for 10 test -S raw.sock || fail "set-up: qemu-nbd"
	wait_for 10 test -S over.sock || fail "set-up: qemu-nbd"
	refused raw:used.raw "open for writing"
	refused qcow2:over.qcow2 "open for writing"
	# A backing image is read by that QEMU, and may be read by us.
	same used.qcow2 qcow2
	cases=$((cases + 1))
	for victim in used.raw over.qcow2 used.qcow2; do
		replace $victim &&
			fail "$victim: replaced beneath a QEMU"
		grep -q "is in use" copy.err || fail "$victim: $(cat copy.err)"
	done
	kill "${holders[@]}"
	wait "${holders[@]}" 2>/dev/null
	holders=()
	same over.qcow2 qcow2

	holds "an image that a QEMU writes to is neither read nor replaced"
}
