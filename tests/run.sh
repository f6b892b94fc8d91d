#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What `make check` runs, once all is built: the unit tests side by side, then
# the model checks, then the end-to-end tests one after another (they start
# daemons, and some look at the clock), then the random test.  Two kinds of
# end-to-end tests mostly wait, for guests (1NN-*) or for what a NAS does by
# itself (2NN-*, 3NN-*): each kind one after another, too, but from the start and
# beside all else.
#
#   tests/run.sh BUILD
#
#   UNIT='test_*' E2E='[0-9]*' MODEL='*'   which ones; nothing: none of them
#   STRESS=45                              seconds of the random test; nothing:
#                                          none
#   GUESTS='100-* ...'                     which of those with running guests;
#                                          those left out are named
#   JOBS=2                                 unit tests at a time
#   LIMIT=600                              seconds that one of them may take
#   GRACE=20                               seconds in which all end behind a signal
#
# Each one's output is in BUILD/log/NAME.log, and is shown if it failed.  A case
# of cmocka counts as one, and each line "ok - ..." of a script does.  The last
# line is "N passed, N failed".
set -u -o pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top" || exit 1
build=${1:?usage: tests/run.sh BUILD}
STRESS=${STRESS-45}
# The rest of them takes twenty minutes: make check-live.
GUESTS=${GUESTS-100-* 101-* 102-live-trust 103-*}
UNIT=${UNIT-test_*} E2E=${E2E-[0-9]*} MODEL=${MODEL-*}
JOBS=${JOBS:-$(nproc)} LIMIT=${LIMIT:-600} GRACE=${GRACE:-20}
logs=$build/log
rm -rf "$logs"
mkdir -p "$logs"

# Where the programs are; BIN is what the scripts go by.
BIN=$(realpath "$build")
export BIN B=$BIN IMGCOPY=$BIN/imgcopy
export ASAN_OPTIONS=detect_leaks=1:${ASAN_OPTIONS:-}
export LSAN_OPTIONS=suppressions=$top/tests/lsan.supp:print_suppressions=0:${LSAN_OPTIONS:-}
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:${UBSAN_OPTIONS:-}
export TSAN_OPTIONS=second_deadlock_stack=1:suppressions=$top/tests/tsan.supp:${TSAN_OPTIONS:-}

# All that is started from here on carries this, whatever group, session or
# parent it is in by then: timeouts, and the daemons of tests, make their own.
mark=BACKSTAY_CHECK=$$.$(date +%s)
export "${mark?}"

# marked: processes with it, this one's own shells not among them.
marked() {
	grep -lzxF -- "$mark" /proc/[0-9]*/environ 2>/dev/null |
		sed 's|^/proc/\(.*\)/environ$|\1|'
}

# Ended by the user: so is what runs, which has some seconds to clean up.
end_all() {
	local until pids

	trap '' INT TERM HUP
	# What looks for the others is none of them.
	unset BACKSTAY_CHECK
	echo "ended by a signal: so is what runs" >&2
	until=$(($(date +%s) + GRACE))
	# Nobody starts another one.
	mapfile -t pids < <(jobs -p)
	[ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null
	# Tests wait for their commands before they end: those, too.
	mapfile -t pids < <(marked)
	[ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null
	while mapfile -t pids < <(marked) && [ ${#pids[@]} -gt 0 ]; do
		[ "$(date +%s)" -lt "$until" ] ||
			kill -KILL "${pids[@]}" 2>/dev/null
		sleep 0.1
	done
	wait
	exit 130
}
trap end_all INT TERM HUP

# find_tests FOLDER SUFFIX PATTERNS: into ${list}, by name, without the suffix.
list=()
find_tests() {
	local -a patterns args=()
	local pattern

	read -ra patterns <<<"$3"
	for pattern in "${patterns[@]}"; do
		args+=(-o -name "$pattern$2")
	done
	list=()
	[ ! -d "tests/$1" ] || mapfile -t list < <(find "tests/$1" -maxdepth 1 \
		-type f \( -false "${args[@]}" \) -printf '%f\n' |
		sed "s/\\$2\$//" | sort)
}

# run NAME COMMAND...: bounded, into its log; the outcome beside it.  In a shell of
# its own, which ends with it.
run() {
	local name=$1 start status

	trap 'kill $(jobs -p) 2>/dev/null; wait; exit 130' TERM
	shift
	start=$(date +%s%N)
	timeout -k 10 "$LIMIT" "$@" >"$logs/$name.log" 2>&1 </dev/null &
	wait $!
	status=$?
	echo "$status $((($(date +%s%N) - start) / 10000000))" \
		>"$logs/$name.end"
}

# cases PATTERN LOG: the sum of what cmocka counted.
cases() {
	sed -n "s/^\[ *$1 *\] \([0-9]*\) test(s).*/\1/p" "$2" |
		awk '{ n += $1 } END { print n + 0 }'
}

# what_failed LOG: the cases of cmocka that failed, or else all of it.
what_failed() {
	if grep -q '^\[  FAILED  \]' "$1"; then
		awk '/ test\(s\) run\.$/ { exit } /^\[ RUN / { case_of = "" } { case_of = case_of $0 "\n" }
			/^\[  FAILED  \].*[a-z]/ { printf "%s", case_of
				case_of = "" }' "$1"
	else
		cat "$1"
	fi
}

passed=0
failed=0

# tell KIND NAME: count it, and say how it went.
tell() {
	local kind=$1 name=$2 log=$logs/$2.log status time p f why=

	read -r status time <"$logs/$name.end"
	if [ "$kind" = unit ]; then
		p=$(cases PASSED "$log")
		f=$(($(cases FAILED "$log") + $(cases SKIPPED "$log")))
		[ $((p + f)) -gt 0 ] || f=1 why=', no test ran'
	else
		p=$(grep -c '^ok - ' "$log")
		f=0
		[ "$p" -gt 0 ] || [ "$status" != 0 ] || p=1
	fi
	[ "$status" = 0 ] || [ "$f" -gt 0 ] || f=1
	[ "$status" != 124 ] || why=", not done within $LIMIT s"
	passed=$((passed + p))
	failed=$((failed + f))
	time=$(printf '%d.%02d' $((time / 100)) $((time % 100)))
	if [ "$f" = 0 ]; then
		printf '  ok    %-28s %4d  %7s s\n' "$name" "$p" "$time"
		return
	fi
	printf '  FAIL  %-28s %4d  %7s s  (status %s%s; %s)\n' "$name" "$p" \
		"$time" "$status" "$why" "$log"
	what_failed "$log" | tail -n 120 | sed 's/^/        | /'
}

# in_turn NAME...: those end-to-end tests, one after another.
in_turn() {
	local name

	trap 'kill $(jobs -p) 2>/dev/null; wait; exit 130' TERM
	for name in "$@"; do
		run "$name" bash "tests/e2e/$name.sh" &
		wait $!
	done
}

find_tests e2e .sh "$E2E"
# is_chosen NAME: one of GUESTS.
is_chosen() {
	local pattern
	local -a patterns

	read -rd '' -a patterns <<<"$GUESTS"
	for pattern in "${patterns[@]}"; do
		# shellcheck disable=SC2053 # a pattern it is
		[[ $1 != $pattern ]] || return 0
	done
	return 1
}
guests=() left_out=()
for name in $(printf '%s\n' "${list[@]}" | grep '^1[0-9][0-9]-'); do
	if is_chosen "$name"; then guests+=("$name"); else left_out+=("$name"); fi
done
mapfile -t nas < <(printf '%s\n' "${list[@]}" | grep '^[23][0-9][0-9]-')
mapfile -t others < <(printf '%s\n' "${list[@]}" |
	grep -v '^[123][0-9][0-9]-' | grep .)
in_turn "${guests[@]}" &
guests_lane=$!
in_turn "${nas[@]}" &
nas_lane=$!

find_tests unit .c "$UNIT"
[ ${#list[@]} = 0 ] || echo "unit tests"
units=() running=()
# still: those of ${running} that run.
still() {
	local pid
	local -a left=()

	for pid in "${running[@]}"; do
		! kill -0 "$pid" 2>/dev/null || left+=("$pid")
	done
	running=("${left[@]}")
}
for name in "${list[@]}"; do
	while still && [ ${#running[@]} -ge "$JOBS" ]; do
		wait -n "${running[@]}"
	done
	run "$name" "$build/unit/$name" &
	running+=($!)
	units+=($!)
done
# Without a name it would wait for the lanes.
[ ${#units[@]} = 0 ] || wait "${units[@]}"
for name in "${list[@]}"; do
	tell unit "$name"
done

find_tests model .sh "$MODEL"
[ ${#list[@]} = 0 ] || echo "models"
for name in "${list[@]}"; do
	run "$name" bash "tests/model/$name.sh" &
	wait $!
	tell model "$name"
done

[ ${#others[@]} = 0 ] || echo "end to end"
for name in "${others[@]}"; do
	run "$name" bash "tests/e2e/$name.sh" &
	wait $!
	tell e2e "$name"
done

if [ -n "$STRESS" ]; then
	echo "at random"
	DURATION=$STRESS run stress bash tests/stress/run.sh "$build" &
	wait $!
	tell stress stress
fi

[ ${#nas[@]} = 0 ] || echo "the NAS by itself"
wait "$nas_lane"
for name in "${nas[@]}"; do
	tell e2e "$name"
done

[ ${#guests[@]} = 0 ] || echo "running guests"
[ ${#left_out[@]} = 0 ] || echo "  (make check-live also runs ${left_out[*]})"
wait "$guests_lane"
for name in "${guests[@]}"; do
	tell e2e "$name"
done

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
