#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What `make fuzz` runs: each target for some seconds on its corpus.  What
# libFuzzer finds new goes to BUILD/new/NAME, what breaks a target to
# BUILD/found/NAME-*; the corpus in the tree stays as it is.
#
#   tests/fuzz/run.sh BUILD SECONDS JOBS
#
# To look at a find again: BUILD/fuzz/fuzz_NAME BUILD/found/NAME-...
set -u

cd "$(dirname "$0")/../.." || exit 1
build=${1:?usage: tests/fuzz/run.sh BUILD SECONDS JOBS}
seconds=${2:-60}
jobs=${3:-1}
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
trap 'kill $(jobs -p) 2>/dev/null; wait; exit 130' INT TERM
mkdir -p "$build/found" "$build/log"

fuzz() {
	local name=$1

	mkdir -p "$build/new/$name" "tests/fuzz/corpus/$name"
	timeout -k 10 $((seconds + 120)) "$build/fuzz/fuzz_$name" \
		-max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 \
		-print_final_stats=1 -artifact_prefix="$build/found/$name-" \
		"$build/new/$name" "tests/fuzz/corpus/$name" \
		>"$build/log/$name.log" 2>&1 </dev/null
	echo $? >"$build/log/$name.end"
}

passed=0
failed=0
names=()
for source in tests/fuzz/fuzz_*.c; do
	name=$(basename "$source" .c)
	names+=("${name#fuzz_}")
done
for name in "${names[@]}"; do
	while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
		wait -n
	done
	fuzz "$name" &
done
wait
for name in "${names[@]}"; do
	log=$build/log/$name.log
	runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
	cover=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
	if [ "$(cat "$build/log/$name.end")" = 0 ] && [ "${runs:-0}" -gt 0 ]; then
		printf '  ok    %-12s %10s runs  coverage %s\n' "$name" "$runs" \
			"${cover:-?}"
		passed=$((passed + 1))
	else
		printf '  FAIL  %-12s (%s)\n' "$name" "$log"
		sed 's/^/        | /' "$log" | tail -n 60
		failed=$((failed + 1))
	fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
