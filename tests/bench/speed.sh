#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# How fast backups and restores are, what they cost, and what they store, beside
# restic, borg and qemu-img on the same disks; and how near they come to what
# this machine can do.
#
#   tests/bench/speed.sh [BUILD]              make bench
#
#   RUNS=5                 rounds over all tools, in turns; medians count
#   TOOLS="backstay ..."   of the list below
#   DISK_MIB=4096 FILL=55  the disks, and per cent of them that are files
#   SOURCE=/usr            where those files are from
#   BENCH_DIR=build/bench  where all data go (the disks stay for the next time)
#   RESULTS=DIR            where results go (default: tests/bench/results)
#   QUICK=1                one round of some tools with 1024 MiB, results into
#                          BENCH_DIR: under three minutes
#
# Steps: the first backup of a disk (initial); again without a change
# (unchanged); after a day (day2); another VM from the same template (clone);
# a VM with the same files in another order (sibling); day2 restored in full;
# the three backups of the first VM deleted and their space reclaimed.  Each
# counts until what it wrote is on the disk.  What is read is in the page cache.
# Restores are compared with the source.
BIN=$(realpath "${1:-build/gcc}") || exit 1
export BIN
here=$(realpath "$(dirname "$0")")
BENCH_DIR=$(realpath -m "${BENCH_DIR:-build/bench}")
mkdir -p "$BENCH_DIR" || exit 1
export TMPDIR=$BENCH_DIR
. "$here/lib.sh"

all_tools="backstay backstay-0 restic-auto restic-off"
all_tools+=" borg-none borg-lz4 borg-zstd borg-fixed qemu-img qemu-img-c"
if [ -n "${QUICK:-}" ]; then
	RUNS=${RUNS:-1}
	TOOLS=${TOOLS:-backstay backstay-0 restic-auto borg-fixed qemu-img}
	DISK_MIB=${DISK_MIB:-1024} RESULTS=${RESULTS:-$BENCH_DIR/results}
fi
RUNS=${RUNS:-5} DISK_MIB=${DISK_MIB:-4096} FILL=${FILL:-55}
SOURCE=${SOURCE:-/usr} RESULTS=${RESULTS:-$here/results}
read -r -a tools <<<"${TOOLS:-$all_tools}"

need_peers restic=restic borg=borgbackup gnuplot=gnuplot-nox
need qemu-img mke2fs debugfs e2fsck

limits=$BIN/bench/limits
[ -x "$limits" ] || fail "$limits is missing: make bench builds it"
data=$BENCH_DIR/disks-$DISK_MIB-$FILL
echo "# disks of $DISK_MIB MiB from $SOURCE, in $data"
"$PYTHON" "$here/dataset.py" "$data" --disk-mib "$DISK_MIB" --fill "$FILL" \
	--source "$SOURCE" || fail "no disks"

# Most of it for qemu-img, which keeps five whole copies; each tool's repository
# goes before the next tool's turn.
need_kib=$((DISK_MIB * 1024 * 6))
free_kib=$(df -k --output=avail "$dir" | tail -n 1)
[ "$free_kib" -ge $need_kib ] ||
	fail "$BENCH_DIR has $((free_kib >> 10)) MiB free, $((need_kib >> 10))" \
		"are needed: use another BENCH_DIR"

work=$dir/work       # of the tool at hand
store=$work/store    # its repository
disk=$work/disk.raw  # what is backed up, at the same place each time
steps=$BENCH_DIR/steps.jsonl  # of this run; stays, should the report fail
rates=$BENCH_DIR/limits.jsonl
tool=
round=

# step NAME [OPTION...] -- COMMAND...: measured.
step() {
	local name=$1

	shift
	"$PYTHON" "$here/measure.py" --out "$steps" --tool "$tool" --step "$name" \
		--round "$round" --stored "$store" --log "$work.log" "$@" ||
		fail "$tool: $name"
	"$PYTHON" "$here/report.py" --last "$steps"
}

# source_of STEP: that disk is at ${disk}, and its name in ${vm}.
source_of() {
	vm=$1
	case $1 in initial | unchanged) vm=base ;; esac
	ln -f "$data/$vm.raw" "$disk" || fail "cannot link $vm.raw"
	case $1 in day2) vm=base ;; esac
}

# same_as_day2 FILE FORMAT: and it goes.
same_as_day2() {
	case $2 in
	raw) same_bytes "$data/day2.raw" "$1" ;;
	*) same_disk "$data/day2.raw" raw "$1" "$2" ;;
	esac
	rm -rf "$work/out"
}

# --- the tools

backups="initial unchanged day2 clone sibling"

# use_backstay OPTION...: of its `backup`.
use_backstay() {
	local name host=kvm-$tool-$round
	local -a ids=() as

	make_repo "$store"
	start_daemon
	enroll_agent "$host"
	as=(env "BACKSTAY_AGENT_DIR=$dir/agent-$host"
		"BACKSTAY_AGENT_REPO=$url" "$BIN/backstay-agent")
	for name in $backups; do
		source_of "$name"
		step "$name" --warm "$disk" --daemon "$daemon_pid" --stats \
			-- "${as[@]}" backup --json -q "$@" "$vm" \
			--disk "vda=raw:$disk"
		[ "$vm" != base ] || ids+=("$(json "$work.log" "j['backup']")")
	done
	mkdir "$work/out"
	step restore --warm "$store" --daemon "$daemon_pid" \
		-- "${as[@]}" restore -q "${ids[2]}" \
		--disk "vda=qcow2:$work/out/disk.qcow2"
	same_as_day2 "$work/out/disk.qcow2" qcow2
	# shellcheck disable=SC2016 # the inner shell's
	step delete --daemon "$daemon_pid" -- bash -c \
		'"$1" -r "$2" delete "${@:3}" && "$1" -r "$2" gc --wait' \
		- "$BIN/backstay" "$store" "${ids[@]}"
	stop_daemon
	check_store
}

# use_restic COMPRESSION
use_restic() {
	local name
	local -a ids=() it=(restic -q -r "$store" --compression "$1")

	"${it[@]}" init >"$work.log" 2>&1 || fail "$tool: $(cat "$work.log")"
	for name in $backups; do
		source_of "$name"
		step "$name" --warm "$disk" -- "${it[@]}" backup --force \
			--host "$vm" --tag "$name" "$disk"
	done
	for name in initial unchanged day2; do
		"${it[@]}" snapshots --json --tag "$name" >"$work.json" ||
			fail "$tool: no snapshot $name"
		ids+=("$(json "$work.json" "j[0]['id']")")
	done
	step restore --warm "$store" -- "${it[@]}" restore "${ids[2]}" \
		--target "$work/out"
	same_as_day2 "$work/out$disk" raw
	step delete -- "${it[@]}" forget "${ids[@]}" --prune
}

# use_borg OPTION...: of its `create`.
use_borg() {
	local name

	borg init -e none "$store" >"$work.log" 2>&1 ||
		fail "$tool: $(cat "$work.log")"
	for name in $backups; do
		source_of "$name"
		step "$name" --warm "$disk" -- borg create \
			--files-cache=disabled "$@" "$store::$name" "$disk"
	done
	mkdir "$work/out"
	# shellcheck disable=SC2016 # the inner shell's
	step restore --warm "$store" -- bash -c \
		'cd "$1" && borg extract --sparse "$2"' \
		- "$work/out" "$store::day2"
	same_as_day2 "$work/out$disk" raw
	# shellcheck disable=SC2016 # the inner shell's
	step delete -- bash -c 'borg delete "$1" initial unchanged day2 &&
		borg compact "$1"' - "$store"
}

# use_qemu_img OPTION...: a whole image each time.
use_qemu_img() {
	local name

	mkdir "$store"
	for name in $backups; do
		source_of "$name"
		step "$name" --warm "$disk" -- qemu-img convert -f raw -O qcow2 \
			"$@" "$disk" "$store/$name.qcow2"
	done
	mkdir "$work/out"
	step restore --warm "$store/day2.qcow2" -- qemu-img convert -f qcow2 \
		-O qcow2 "$store/day2.qcow2" "$work/out/disk.qcow2"
	same_as_day2 "$work/out/disk.qcow2" qcow2
	step delete -- rm "$store/initial.qcow2" "$store/unchanged.qcow2" \
		"$store/day2.qcow2"
}

use() {
	case $1 in
	backstay) use_backstay ;;
	backstay-0) use_backstay --compression 0 ;;
	restic-auto | restic-off) use_restic "${1#restic-}" ;;
	borg-none | borg-lz4) use_borg -C "${1#borg-}" ;;
	borg-zstd) use_borg -C zstd,1 ;;
	borg-fixed) use_borg -C none --chunker-params fixed,65536 ;;
	qemu-img) use_qemu_img ;;
	qemu-img-c) use_qemu_img -c -o compression_type=zstd ;;
	*) fail "no such tool: $1; there are: $all_tools" ;;
	esac
}

# --- the rounds

: >"$steps"
: >"$rates"
for ((round = 1; round <= RUNS; round++)); do
	echo "# round $round of $RUNS, $(date +%T)"
	"$limits" "$data/base.raw" "$dir/scratch" >>"$rates" ||
		fail "limits"
	for ((i = 0; i < ${#tools[@]}; i++)); do
		tool=${tools[(i + round - 1) % ${#tools[@]}]}
		rm -rf "$work" "$XDG_CACHE_HOME" "$BORG_BASE_DIR"
		mkdir "$work"
		use "$tool"
	done
done
rm -rf "$work"
"$PYTHON" "$here/report.py" --make "$RESULTS" --steps "$steps" \
	--limits "$rates" --manifest "$data/manifest.json" \
	--bin "$BIN" || fail "report"
ok "all restores are what was backed up"
