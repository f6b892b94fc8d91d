#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The memory of running guests: how long a guest stands still while it is saved,
# by each method, how long until it runs again elsewhere, and what the first and
# the second save take, beside virsh save and a migration to a file.
#
#   tests/bench/ram.sh [BUILD [JSON]]         make bench-ram (as root)
#
#   MIB=1536 TOUCHED=1024      of guests whose memory lies in a file; a quarter of
#                              the touched pages are zeros
#   SMALL=768 SMALL_TOUCHED=512   of guests with anonymous memory
#   MINUTE=60                  seconds from the first to the second save
#   RUNS=3                     of each measure, in turns; medians count
#   PARTS="7.2 10 7.2,libvirt 10,libvirt"   which QEMUs
#   QUICK=1                    small guests, one round, some 6 minutes
#   RECORD=1                   the table goes to tests/bench/results/ram.txt too
#   TMPDIR=DIR                 where it works (some 20 times MIB)
#
# "Silent" is the longest time for which the guest's console said nothing of the
# ticks that it says each 10 ms: what somebody outside sees of it, with all that
# else holds it up.  Also without a save, as a measure of the machine.
BIN=$(realpath "${1:-build/gcc}") || exit 1
export BIN
out=$(realpath -m "${2:-build/bench/ram.json}")
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
. "$top/tests/live/lib.sh"
. "$top/tests/live/ram.sh"

if [ -n "${QUICK:-}" ]; then
	MIB=${MIB:-256} TOUCHED=${TOUCHED:-128} SMALL=${SMALL:-256}
	SMALL_TOUCHED=${SMALL_TOUCHED:-128} MINUTE=${MINUTE:-5} RUNS=${RUNS:-1}
fi
MIB=${MIB:-1536} TOUCHED=${TOUCHED:-1024} SMALL=${SMALL:-768}
SMALL_TOUCHED=${SMALL_TOUCHED:-512} MINUTE=${MINUTE:-60} RUNS=${RUNS:-3}
PARTS=${PARTS:-7.2 10 7.2,libvirt 10,libvirt}
rows=$dir/rows
: >"$rows"
mkdir "$dir/copy"
mkdir -p "$(dirname "$out")"

load() { cut -d ' ' -f 1 /proc/loadavg; }

# row KEY=VALUE...: a line of JSON about what was measured last.
row() {
	"$PYTHON" -c 'import json, sys
def value(s):
    try:
        return float(s) if "." in s else int(s)
    except ValueError:
        return s
print(json.dumps({k: v if k == "qemu" else value(v) for k, v in
    (a.split("=", 1) for a in sys.argv[1:])}))' \
		"qemu=$qemu" "manager=$manager" "load=$(load)" "$@" |
		tee -a "$rows"
}

# --- a part: one QEMU, with or without libvirt

# part_begin PART: its libvirt, if it has one.
part_begin() {
	qemu=${1%,*} manager=none
	new=()
	[ "$qemu" = 7.2 ] || new=(new=1)
	kind=plain
	if [[ $1 = *,libvirt ]]; then
		kind=libvirt
		lv_start "${new[@]}" "ram=$ram_fs/memory"
		lv_virsh version --daemon >"$dir/version" || fail "version"
		manager="libvirt $(sed -n 's/^Running against daemon: //p' \
			"$dir/version")"
	fi
	ram_repo
}
part_guest() {
	local -a more=()

	# A monitor beside libvirt's, for migrate.py.
	[ "$kind" != libvirt ] ||
		more=("top=<commandline xmlns='http://libvirt.org/schemas/domain/qemu/1.0'><arg value='-qmp'/><arg value='unix:$dir/web/mon.sock,server=on,wait=off'/></commandline>")
	ram_guest "$kind" "$@" "${new[@]}" "${more[@]}"
	# A first look at the machine itself.
	vm_mark web
	local t0
	t0=$(now_ms)
	vm_advance web 1000
	row what=idle memory="$1" mib="$2" silent_us="$(ram_silence "$t0")"
}
part_end() {
	[ "$kind" != libvirt ] || lv_stop
}

# --- B: beside others

# other NAME RUN TURN FILE COMMAND...: a row of it.
other() {
	local name=$1 round=$2 turn=$3 into=$4 t0 ms

	shift 4
	rm -f "$into"
	t0=$(now_ms)
	"$@"
	ms=$(($(now_ms) - t0))
	row what=beside tool="$name" run="$round" turn="$turn" ms="$ms" \
		silent_us="$(ram_silence "$t0")" \
		stored="$(($(stat -c '%b * %B' "$into")))"
	rm -f "$into"
}
# As new as its libvirt, for its options.
own_virsh() {
	if [ "$qemu" = 7.2 ]; then
		lv_virsh "$@"
	else
		(in_new_room timeout -k 5 300 virsh -q -c "$LV_URI" "$@")
	fi
}
virsh_save() {
	own_virsh save web "$@" >"$dir/virsh.out" 2>&1 ||
		fail "virsh save $*: $(cat "$dir/virsh.out")"
	own_virsh restore "$1" >"$dir/virsh.out" 2>&1 ||
		fail "virsh restore $*: $(cat "$dir/virsh.out")"
	vm_pid[web]=$(cat "$dir/lv/run/libvirt/qemu/run/web.pid")
}
migrate() {
	bounded "$here/migrate.py" "$dir/web/mon.sock" "$@" \
		2>"$dir/migrate.err" || fail "$(cat "$dir/migrate.err")"
}

beside_once() {
	local round=$1 turn=$2 into=$lv_files/saved was

	other "virsh save" "$round" "$turn" "$into" virsh_save "$into"
	[ "$qemu" = 7.2 ] ||
		other "virsh save, sparse, 2 channels" "$round" "$turn" "$into" \
			virsh_save "$into" --image-format sparse \
			--parallel-channels 2
	other "migration to a file" "$round" "$turn" "$into" migrate "$into" live
	was=$(ram_stored)
	ram_save first --scratch-dir "$ram_fs/scratch"
	row what=beside tool=Backstay run="$round" turn="$turn" ms="$ram_ms" \
		silent_us="$ram_gap_us" stored=$(($(ram_stored) - was)) \
		pause_us="$(json "$dir/backup.json" 'j["pause_us"]')"
}

# Of the guest that is there.
beside() {
	local round t0

	for ((round = 0; round < RUNS; round++)); do
		ram_repo
		t0=$(now_ms)
		beside_once "$round" first
		minute_over() { [ "$(now_ms)" -ge $((t0 + MINUTE * 1000)) ]; }
		wait_for $((MINUTE + 5)) minute_over
		beside_once "$round" second
	done
	vm_sound web
	ram_repo
}

# --- A and C: each method, and the way back

declare -A last=() ticks=()
method_save() {
	local name=$1 memory=$2 round=$3 was sizes

	shift 3
	was=$(ram_stored)
	ram_save "$name" "$@"
	last[$name]=$(json "$dir/backup.json" 'j["backup"]')
	ticks[$name]="${ram_ticks[*]}"
	sizes=$(ram_volumes "${last[$name]}")
	row what=save method="$name" memory="$memory" run="$round" \
		pause_us="$(json "$dir/backup.json" 'j["pause_us"]')" \
		silent_us="$ram_gap_us" ms="$ram_ms" \
		state="$(tr ' ' '\n' <<<"$sizes" |
			sed -n 's/^state:state://p')" \
		stored=$(($(ram_stored) - was))
}

# method_back NAME TIMES: it goes on from its last save.
method_back() {
	local name=$1 times=$2 i

	for ((i = 0; i < times; i++)); do
		ram_lose
		ram_back "${last[$name]}" "${back_how[@]}"
		# shellcheck disable=SC2086 # two numbers
		ram_goes_on ${ticks[$name]}
		row what=back method="$name" run="$i" ms="$ram_back_ms" \
			mib="$mib"
	done
	ram_well
	row what=well method="$name"
}

# may METHOD: does this QEMU do it, for the user that it runs as?
may() {
	agent host backup "$1" "${ram_how[@]}" --ram-method "$1" --json -q \
		--scratch-dir "$dir/copy" >"$dir/may.out" 2>"$dir/may.err" &&
		return
	grep -qE 'needs QEMU|not supported by host kernel' "$dir/may.err" ||
		fail "$1: $(cat "$dir/may.err")"
	refused[$1]=1
	row what=refused method="$1" why="$(sed 's/.*: //' "$dir/may.err")"
}

methods() {
	local round
	local -A refused=()
	local -a reflink=(--ram-method shared --scratch-dir "$ram_fs/scratch")
	local -a copy=(--ram-method shared --scratch-dir "$dir/copy")

	mib=$MIB
	back_how=(--ram-dir "$ram_fs/memory")
	part_guest file "$MIB" "$TOUCHED"
	[ "$kind" != libvirt ] || beside
	for ((round = 0; round < RUNS; round++)); do
		method_save reflink file "$round" "${reflink[@]}"
		method_save copy file "$round" "${copy[@]}"
	done
	method_back reflink "$RUNS"
	method_back copy 1
	ram_forget
	mib=$SMALL
	back_how=()
	part_guest anonymous "$SMALL" "$SMALL_TOUCHED"
	for it in snapshot mapped; do
		may "$it"
	done
	ram_repo
	for ((round = 0; round < RUNS; round++)); do
		for it in snapshot mapped stream; do
			[ -z "${refused[$it]:-}" ] || continue
			method_save "$it" anonymous "$round" --ram-method "$it" \
				--scratch-dir "$dir/copy"
		done
	done
	for it in snapshot mapped stream; do
		[ -z "${last[$it]:-}" ] || method_back "$it" 1
	done
	ram_forget
	last=()
}

before=$(load)
ram_room $((MIB * 8 + 1024))
for part in $PARTS; do
	echo "# $part"
	part_begin "$part"
	methods
	part_end
done
stop_daemon
"$PYTHON" "$here/ram.py" "$rows" "$out" "mib=$MIB" "touched=$TOUCHED" \
	"small=$SMALL" "small_touched=$SMALL_TOUCHED" "minute=$MINUTE" \
	"runs=$RUNS" "load_before=$before" "load_after=$(load)" \
	>"${out%.json}.txt"
missed=$?
cat "${out%.json}.txt"
echo "# also in $out"
[ -z "${RECORD:-}" ] || cp "${out%.json}.txt" "$here/results/ram.txt"
[ $missed = 0 ]
