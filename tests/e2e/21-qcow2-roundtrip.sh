#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: a backup and a restore bring back each kind of image that QEMU makes,
# as raw and as qcow2; an image that cannot be read rightly gives no backup.
#
#   tests/e2e/21-qcow2-roundtrip.sh
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/qcow2-cases.sh"
need qemu-img qemu-io qemu-nbd
# shellcheck disable=SC2034 # counted by the cases
cases=0
holders=()

end_holders() {
	[ ${#holders[@]} = 0 ] || kill "${holders[@]}" 2>/dev/null
	lib_cleanup
}
trap end_holders EXIT

holds() { ok "$@"; }

# local_agent COMMAND...: by the local socket; other tests go over SSH.
local_agent() {
	bounded "$BIN/backstay-agent" "$1" -q --repo "unix:$repo/socket" \
		--lanes 2 "${@:2}" >copy.out 2>copy.err
}

# One VM for all: each image is read on top of the backup of another.
roundtrip() {
	local_agent backup images --disk "vda=$1" &&
		local_agent restore images@latest --format "$3" \
			--disk "vda=$2"
}

same() {
	local src=$1 format=$2 spec=${3:-$2:$1} to

	cases=$((cases + 1))
	rm -f out.raw out.qcow2
	local_agent backup images --disk "vda=$spec" ||
		fail "backup of $spec: $(cat copy.err)"
	for to in raw qcow2; do
		local_agent restore images@latest --format $to \
			--disk "vda=out.$to" ||
			fail "restore of $spec to $to: $(cat copy.err)"
		same_disk "$src" "$format" out.$to $to
	done
	[ "$(stat -c %b out.raw)" -le \
		$(($(stat -c %b pattern.raw) + 4096)) ] ||
		fail "$spec: the copy is not sparse"
}

refused() {
	cases=$((cases + 1))
	expect_fail 1 . "$BIN/backstay-agent" backup -q \
		--repo "unix:$repo/socket" refused --disk "vda=$1"
	grep -qF -- "$2" "$dir/expect.err" ||
		fail "$1: lacks \"$2\": $(cat "$dir/expect.err")"
}

replace() {
	local_agent restore pattern@latest --format raw --force \
		--disk "vda=$1"
}

make_repo "$dir/repo"
start_daemon
mkdir "$dir/work"
cd "$dir/work" || exit 1

make_pattern
local_agent backup pattern --disk vda=pattern.raw || fail "$(cat copy.err)"
cases_clusters "512 4k 64k 2M" "0.10 1.1"
holds "both versions, clusters of 512 bytes to 2 MiB, sparse to full"
cases_kinds
cases_dirty
cases_snapshots
cases_chains
cases_data_files
cases_sizes
before=$(nbackups images)
cases_refused
[ "$(nbackups refused)" = 0 ] || fail "what was refused is listed"
cases_locks
[ "$(nbackups refused)" = 0 ] || fail "what was refused is listed"
# One of those that were refused began, and was read up to the damage.
[ "$(nbackups images)" = $((before + 3)) ] ||
	fail "$(nbackups images) backups, not $before and three"
holds "what is refused gives no backup"
[ -z "$(find . -name '.*.restoring')" ] || fail "temporary files are left"

stop_daemon
check_store
echo "# $cases images and refusals"
holds "fsck finds nothing wrong"
