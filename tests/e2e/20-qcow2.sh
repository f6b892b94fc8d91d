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

here=$(cd "$(dirname "$0")" && pwd)
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

# As in lib.sh.
has() { [ "$(grep -c "$@")" -gt 0 ]; }

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
		sed -n 's/^    "virtual-size": \([0-9]*\).*/\1/p'
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

# replace TARGET: as restores with --force do.
replace() { "$imgcopy" pattern.raw "$1" raw >/dev/null 2>copy.err; }

# wait_for SECONDS COMMAND...: until it says yes.
wait_for() {
	local tries=$(($1 * 50))

	shift
	while ! "$@"; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		read -r -t 0.02 <> <(:) || :
	done
}

# What is written goes by its cluster size, and what is read by its chunks'.
cases_written() {
	local CLUSTER CHUNK

	quietly qemu-img convert -O qcow2 pattern.raw a.qcow2
	for CLUSTER in 512 4096 131072 2097152; do
		for CHUNK in 65536 1048576 4194304; do
			same a.qcow2 qcow2
		done
	done
	holds "chunks of every size fill clusters of every size"
}

# Large and empty must be fast, whatever they hold.
cases_large() {
	local opt size

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
		out.qcow2 | has 'failed' && fail "2 TiB: wrong data"
	rm -f a.qcow2 out.qcow2

	holds "2 TiB with two clusters of data"
}

# The other way round: while we read, no QEMU may write; reading is free.
cases_held() {
	local image

	mkfifo go
	"$imgcopy" qcow2:over.qcow2 - hold <go >held.txt &
	holders=($!)
	exec 9>go
	wait_for 10 grep -q open held.txt || fail "set-up: hold"
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
}

. "$here/qcow2-cases.sh"
make_pattern
cases_clusters "512 4k 64k 2M" "0.10 1.1"
holds "both versions, clusters of 512 bytes to 2 MiB, sparse to full"
cases_written
cases_kinds
cases_dirty
cases_snapshots
cases_chains
cases_data_files
cases_sizes
cases_large
cases_refused
cases_locks
cases_held

[ -z "$(find . -name '.*.restoring')" ] || fail "temporary files are left"
if [ "$failures" != 0 ]; then
	echo "20-qcow2: $failures failures in $cases cases" >&2
	exit 1
fi
echo "20-qcow2: $cases images and refusals, no failure"
