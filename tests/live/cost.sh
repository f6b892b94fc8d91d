# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What an incremental backup of a large disk costs: what the test and the bench
# share.  Sourced behind tests/live/lib.sh.
#
# shellcheck disable=SC2154,SC2034 # set and used by the files around it
: "${dir:?source tests/live/lib.sh first}"

cost_gib=${GIB:-8}       # of the disk
cost_used=${USED_MIB:-1024} # of it, noise
cost_dirty=${DIRTY_MIB:-40} # changed since the last backup
cost_runs=${RUNS:-160}   # at so many places
cost_turn=0

# cost_begin [WORD...]: a guest (as of vm_start) with such a disk, a repository, and a first backup.
cost_begin() {
	"$live/cost.py" fill "$dir/raw" "$cost_gib" "$cost_used" 1 ||
		fail "cost.py fill"
	qemu-img convert -q -f raw -O qcow2 "$dir/raw" "$dir/a.qcow2" ||
		fail "qemu-img convert"
	rm "$dir/raw"
	vm_start web disk="$dir/a.qcow2" "$@"
	vm_wait web '^UP' 90
	make_repo "$dir/repo"
	start_daemon
	enroll_agent host
	cost_backup
	[ $(($(stat_of read) >> 20)) -ge "$cost_used" ] ||
		fail "the first one read $(stat_of read) bytes"
}

# cost_backup [OPTION...]: cost_ms is how long the whole command took.
cost_backup() {
	local start

	start=$(now_ms)
	backup host acme/web --qmp "$dir/web/qmp.sock" "$@"
	cost_ms=$(($(now_ms) - start))
}

# cost_change: ${cost_dirty} MiB at ${cost_runs} places.
cost_change() {
	cost_turn=$((cost_turn + 1))
	"$live/cost.py" dirty "$dir/web/mon.sock" vda/virtio-backend \
		"$cost_gib" "$cost_dirty" "$cost_runs" $cost_turn ||
		fail "cost.py dirty"
}
