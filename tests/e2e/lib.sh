# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What the end-to-end tests share.  A test sources it, works in the folder
# ${dir}, which goes away at its end with all processes that were started
# through here, and says `ok WHAT` for each thing that was seen to hold.
#
#   BIN=DIR   the programs under test, absolute (default: build/gcc)
#   SEED=N    of all that is random (default: by the clock where a test is
#             random; it is printed)
#   KEEP=1    leave the folder where it is
#   LONG=1    the longer form of tests that have one
#   PACKS=nfs the packs of repositories on an NFS server of the test's own
set -u -o pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BIN=${BIN:-$top/build/gcc}
PYTHON=${PYTHON:-/usr/bin/python3}
test_name=$(basename "$0" .sh)
dir=$(mktemp -d "${TMPDIR:-/tmp}/$test_name.XXXXXX") || exit 1
declare -a pids=() mounts=() loops=()
repo=
url=
daemon_pid=
daemon_program=$BIN/backstayd
daemon_log=
daemon_starts=0

# Sanitizers cost time and memory; limits on those are for the plain build.
case $(basename "$BIN") in
*-address* | *-ub | *-thread* | *-memory*) sanitized=1 ;;
*) sanitized= ;;
esac
slower=${sanitized:+4}
slower=${slower:-1}

lib_cleanup() {
	local status=$? it

	# Once, and to its end.
	trap '' INT TERM
	trap - EXIT
	for it in "${pids[@]}"; do
		kill -9 "$it" 2>/dev/null
	done
	for it in "${pids[@]}"; do
		wait "$it" 2>/dev/null
	done
	[ -z "$nfs_url" ] || "$top/tests/nfs/server.sh" end "$dir/nfs"
	for it in "${mounts[@]}"; do
		umount "$it"
	done
	for it in "${loops[@]}"; do
		losetup -d "$it"
	done
	if [ -n "${KEEP:-}" ]; then
		echo "kept: $dir" >&2
	else
		rm -rf "$dir"
	fi
	exit "$status"
}
trap lib_cleanup EXIT
trap 'trap "" INT TERM; exit 130' INT TERM

fail() {
	echo "FAILED: $test_name: $*" >&2
	if [ -n "$daemon_log" ] && [ -s "$daemon_log" ]; then
		echo "--- the daemon's log, its end:" >&2
		tail -n 20 "$daemon_log" >&2
	fi
	exit 1
}

ok() { echo "ok - $*"; }

need() {
	local tool

	for tool in "$@"; do
		command -v "$tool" >/dev/null ||
			fail "$tool is missing: install it"
	done
}
need openssl "$PYTHON" "$BIN/backstayd" "$BIN/backstay" "$BIN/backstay-agent"

now_ms() { echo $(($(date +%s%N) / 1000000)); }

# pause SECONDS: between two looks at a condition, and to reach a moment.  Of one
# pipe, opened once: a process for each pause wears out the numbers of processes,
# and a shell that meets one again may wait for a child that it has not.
exec {pause_fd}<> <(:)
pause() { read -r -t "$1" -u "$pause_fd" || :; }

# wait_for SECONDS COMMAND...: until it says yes; 1 after the time is over.
wait_for() {
	local until

	until=$(($(now_ms) + $1 * 1000 * slower))
	shift
	until "$@"; do
		[ "$(now_ms)" -lt "$until" ] || return 1
		pause 0.02
	done
}

alive() { kill -0 "$1" 2>/dev/null; }
gone() { ! alive "$1"; }

# has [GREP-OPTION...] PATTERN: stdin has it, and is read to its end.  Behind a
# pipe, grep -q would be gone at the first match: who still writes then fails,
# and with it, now and then, the pipeline.
has() { [ "$(grep -c "$@")" -gt 0 ]; }

# bounded COMMAND...: five minutes are too long for anything here.
bounded() { timeout -k 5 $((300 * slower)) "$@"; }

# --- the repository and its daemon

console() { bounded "$BIN/backstay" -r "$repo" "$@"; }

# start_nfs: an NFS server that exports ${dir}/nfs/export as ${nfs_url}; its
# ports are this process's, below those that the system gives to whoever asks
# for any.
nfs_url=
# A network of the NAS: in front of what reaches that server.
nas_within=()
start_nfs() {
	need ganesha.nfsd rpcbind
	if [ -z "${nfs_port:-}" ]; then
		nfs_port=$((12000 + $$ % 5000 * 4))
		# Two servers may well listen at one, and answer in turns.
		while (exec 3<>"/dev/tcp/127.0.0.1/$nfs_port") 2>/dev/null; do
			nfs_port=$((nfs_port + 4))
		done
	fi
	nfs_url=$("${nas_within[@]}" "$top/tests/nfs/server.sh" start \
		"$dir/nfs" "$nfs_port") || fail "the NFS server has not started"
}
# stop_nfs, kill_nfs: in peace; as a crash.
stop_nfs() { "$top/tests/nfs/server.sh" stop "$dir/nfs"; }
kill_nfs() { SIG=KILL "$top/tests/nfs/server.sh" stop "$dir/nfs"; }

# nfs_name PATH: its URL.
nfs_name() { echo "${nfs_url%%\?*}/$1?${nfs_url#*\?}"; }

# make_repo FOLDER [INIT-OPTION...]: it is ${repo} from here on.
make_repo() {
	local folder

	repo=$1
	shift
	if [ "${PACKS:-}" = nfs ]; then
		[ -n "$nfs_url" ] || start_nfs
		folder=packs-${repo//\//_}
		set -- --packs "$(nfs_name "$folder")" "$@"
	fi
	bounded "${nas_within[@]}" "$BIN/backstay" init "$repo" "$@" \
		>"$dir/init.out" 2>&1 ||
		fail "init: $(cat "$dir/init.out")"
	# For tests that look at packs, or harm them.
	[ "${PACKS:-}" != nfs ] || ln -s "$dir/nfs/export/$folder" "$repo/packs"
}

ready_or_gone() {
	grep -q ': ready: ' "$daemon_log" || gone "$daemon_pid"
}

# start_daemon [OPTION...]: of ${repo}; ${url} is its address.  The port stays
# the same from one start to the next: agents know the host key by it.
start_daemon() {
	local port=0 port_file=$dir/port.${repo//\//_}

	[ ! -e "$port_file" ] || port=$(cat "$port_file")
	daemon_starts=$((daemon_starts + 1))
	daemon_log=$dir/daemon.$daemon_starts.log
	: >"$daemon_log"
	"$daemon_program" "$repo" --listen "127.0.0.1:$port" "$@" \
		>"$daemon_log" 2>&1 &
	daemon_pid=$!
	pids+=("$daemon_pid")
	wait_for 20 ready_or_gone || fail "the daemon is not ready in time"
	grep -q ': ready: ' "$daemon_log" || fail "the daemon did not start"
	cp "$repo/port" "$port_file"
	url=ssh://127.0.0.1:$(cat "$port_file")
}

# forget PID: it has ended and was waited for.
forget() {
	local -a left=()
	local it

	for it in "${pids[@]}"; do
		[ "$it" = "$1" ] || left+=("$it")
	done
	pids=("${left[@]}")
}

# stop_daemon: in peace, within ten seconds, with status 0.
stop_daemon() {
	local status

	alive "$daemon_pid" || fail "the daemon has ended by itself"
	kill -TERM "$daemon_pid"
	wait_for 10 gone "$daemon_pid" ||
		fail "the daemon did not end within 10 s of SIGTERM"
	wait "$daemon_pid"
	status=$?
	forget "$daemon_pid"
	[ $status = 0 ] || fail "the daemon ended with $status"
	check_log
}

kill_daemon() {
	kill -9 "$daemon_pid" || fail "the daemon has ended by itself"
	wait "$daemon_pid" 2>/dev/null
	forget "$daemon_pid"
}

# check_log: no sanitizer and no assertion had anything to say.
check_log() {
	if grep -E -A 30 'Sanitizer|runtime error|Assertion|stack smashing' \
		"$daemon_log" >&2; then
		fail "the daemon's log has the above"
	fi
}

# check_store [OPTION...]: fsck finds nothing wrong; the daemon is stopped.
check_store() {
	bounded "${nas_within[@]}" "$BIN/backstay" -r "$repo" fsck "$@" \
		>"$dir/fsck.out" 2>&1 ||
		fail "fsck $* ended with $?: $(cat "$dir/fsck.out")"
}

# --- agents

agent_env() {
	echo "BACKSTAY_AGENT_DIR=$dir/agent-$1" "BACKSTAY_AGENT_REPO=$url"
}

# agent NAME COMMAND...: backstay-agent of that host.
agent() {
	local name=$1

	shift
	bounded env "BACKSTAY_AGENT_DIR=$dir/agent-$name" \
		"BACKSTAY_AGENT_REPO=$url" "$BIN/backstay-agent" "$@"
}

# agent_start NAME LOG COMMAND...: in the background, as ${agent_pid}.
agent_start() {
	local name=$1 log=$2

	shift 2
	env "BACKSTAY_AGENT_DIR=$dir/agent-$name" \
		"BACKSTAY_AGENT_REPO=$url" "$BIN/backstay-agent" "$@" \
		>"$log" 2>"$log.err" &
	agent_pid=$!
	pids+=("$agent_pid")
}

# agent_wait PID: its status; at most five minutes.
agent_wait() {
	local status

	wait_for 300 gone "$1" || fail "an agent does not end"
	wait "$1" 2>/dev/null
	status=$?
	forget "$1"
	return $status
}

# enroll_agent NAME [KEY-ADD-OPTION...]: with a key of its own.
enroll_agent() {
	local name=$1

	shift
	agent "$name" keygen --comment "test@$name" >"$dir/$name.pub" ||
		fail "keygen of $name"
	console key add "$name" "$dir/$name.pub" "$@" >"$dir/key.out" 2>&1 ||
		fail "key add $name: $(cat "$dir/key.out")"
	agent "$name" enroll "$url" >"$dir/enroll.out" 2>&1 ||
		fail "enroll $name: $(cat "$dir/enroll.out")"
	grep -q "lets this host in as \"$name\"" "$dir/enroll.out" ||
		fail "enroll $name: $(cat "$dir/enroll.out")"
}

# backup NAME VM ARGUMENT...: must succeed; its outcome is in backup.json.
backup() {
	local name=$1

	shift
	agent "$name" backup --json -q "$@" >"$dir/backup.json" \
		2>"$dir/backup.err" ||
		fail "backup $*: status $?: $(cat "$dir/backup.err")"
}

# restore NAME BACKUP ARGUMENT...: must succeed.
restore() {
	local name=$1

	shift
	agent "$name" restore -q "$@" >"$dir/restore.out" \
		2>"$dir/restore.err" ||
		fail "restore $*: status $?: $(cat "$dir/restore.err")"
}

# --- what comes out

# json FILE EXPRESSION: of python, over j.
json() {
	"$PYTHON" -c 'import json, sys
j = json.load(open(sys.argv[1]))
print(eval("(" + sys.argv[2] + ")"))' "$1" "$2" || fail "$1 is not the JSON it should be"
}

# stat_of NAME: of the last backup.
stat_of() { json "$dir/backup.json" "j['stats'].get('$1', 0)"; }

# nbackups [VM]: how many the daemon lists.
nbackups() {
	console list "$@" --json >"$dir/list.json" 2>"$dir/list.err" ||
		fail "list: $(cat "$dir/list.err")"
	json "$dir/list.json" 'len(j)'
}

# expect_fail CODE PATTERN COMMAND...: it ends with that code, and says why in
# one line on stderr that matches; behind the line of a misuse (2) a usage may
# follow.
expect_fail() {
	local code=$1 pattern=$2 status

	shift 2
	"$@" >"$dir/expect.out" 2>"$dir/expect.err"
	status=$?
	[ $status = "$code" ] ||
		fail "$*: status $status, not $code: $(cat "$dir/expect.err")"
	head -n 1 "$dir/expect.err" | has -E -- "$pattern" ||
		fail "$*: does not say \"$pattern\": $(cat "$dir/expect.err")"
	if LC_ALL=C grep -q '[^[:print:]]' \
		<(head -n 1 "$dir/expect.err" | tr -d '\200-\377'); then
		fail "$*: control characters: $(cat -v "$dir/expect.err")"
	fi
	if [ "$code" != 2 ] && [ "$(wc -l <"$dir/expect.err")" != 1 ]; then
		fail "$*: not one line: $(cat "$dir/expect.err")"
	fi
}

# --- disks

# noise SIZE SEED: on stdout; the same each time, and nothing packs it.
noise() {
	head -c "$1" /dev/zero | openssl enc -aes-128-ctr -nosalt -pbkdf2 \
		-iter 1 -pass "pass:$2"
}

# put_noise FILE OFFSET SIZE SEED
put_noise() {
	noise "$3" "$4" | dd of="$1" bs=1M seek="$2" oflag=seek_bytes \
		iflag=fullblock conv=notrunc status=none ||
		fail "cannot write to $1"
}

# mkdisk FILE MIB SEED: raw and sparse: a dense first half, then islands.
mkdisk() {
	local file=$1 size=$(($2 << 20)) seed=$3 at

	truncate -s 0 "$file"
	truncate -s "$size" "$file"
	put_noise "$file" 0 $((size / 2)) "$seed"
	for at in 5 6 7; do
		put_noise "$file" $((at * (size / 8 + 4096))) \
			$((size / 64)) "$seed.$at"
	done
}

# virtual_size FILE FORMAT
virtual_size() {
	qemu-img info -U --output=json -f "$2" "$1" |
		sed -n 's/^    "virtual-size": \([0-9]*\).*/\1/p'
}

# same_disk FILE FORMAT FILE FORMAT: content and size as QEMU sees them; a
# qcow2 image is without fault.
same_disk() {
	qemu-img compare -q -f "$2" -F "$4" "$1" "$3" || fail "$3 is not $1"
	[ -n "$(virtual_size "$1" "$2")" ] || fail "no size of $1"
	[ "$(virtual_size "$1" "$2")" = "$(virtual_size "$3" "$4")" ] ||
		fail "$3 is of another size than $1"
	if [ "$4" = qcow2 ]; then
		qemu-img check -q "$3" || fail "$3: qemu-img check"
	fi
}

same_bytes() { cmp -s "$1" "$2" || fail "$2 is not $1"; }

# spoil FILE OFFSET: flips the bits of a byte.
spoil() {
	"$PYTHON" - "$1" "$2" <<'EOF' || fail "cannot spoil $1"
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2]))
    b = f.read(1)
    f.seek(-1, 1)
    f.write(bytes([b[0] ^ 0xff]))
EOF
}

# find_bytes FILE...: "FILE OFFSET" of the needle, which is on stdin.
find_bytes() {
	"$PYTHON" -c 'import sys
needle = sys.stdin.buffer.read()
for name in sys.argv[1:]:
    at = open(name, "rb").read().find(needle)
    if at >= 0:
        print(name, at)' "$@"
}

# spoil_slice DISK MIB: the pack's record that holds that place of the disk.
spoil_slice() {
	local file at

	read -r file at < <(dd if="$1" bs=1M skip="$2" count=1 status=none |
		head -c 4096 | find_bytes "$repo"/packs/*/*.pack)
	[ -n "$file" ] || fail "no pack holds $1 at $2 MiB"
	spoil "$file" $((at + 100))
}

# --- time

# use_clock: daemons go by clocks that the test sets, from here on.
use_clock() {
	daemon_program=$BIN/backstayd-clock
	need "$daemon_program"
	export BACKSTAY_TEST_CLOCK=$dir/clock
	clock_wall=0 clock_steady=0
	set_clock 0 0
}

# set_clock WALL STEADY: seconds by which they are ahead.
set_clock() {
	clock_wall=$1 clock_steady=$2
	echo "$1 $2" >"$dir/clock.new" && mv "$dir/clock.new" "$dir/clock"
}

# pass SECONDS: both go on.
pass() { set_clock $((clock_wall + $1)) $((clock_steady + $1)); }
