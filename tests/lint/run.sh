#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What `make lint` runs: each check over the whole tree.  A check is silent if
# it finds nothing; what it finds is shown.  The last line is "N passed,
# N failed".  A suppression, wherever it is, gives its reason on its line.
#
#   tests/lint/run.sh [CHECK...]
set -u -o pipefail

cd "$(dirname "$0")/../.." || exit 1
unset MAKEFLAGS MAKELEVEL # ours is a make of its own
out=build/lint
mkdir -p $out
mapfile -t sources < <(find proto repo agent tests -name '*.c' | sort)
mapfile -t headers < <(find proto repo agent tests -name '*.h' | sort)
mapfile -t scripts < <(find .ci/run tests etc -name '*.sh' -o -path .ci/run \
	-o -path 'etc/completion/*' -o -path 'etc/debian/*.p*' | sort)

layout() {
	clang-format-14 --dry-run -Werror "${sources[@]}" "${headers[@]}"
}

# Only what changed since it was last looked at.
tidy() {
	make -k -j"$(nproc)" tidy 2>&1 | grep -v '^  ' || :
	make -q tidy
}

cppcheck_all() {
	cppcheck -q -j "$(nproc)" --std=c11 --library=posix \
		--enable=warning,performance,portability --inline-suppr \
		--suppressions-list=tests/lint/cppcheck.txt -I. \
		-D_GNU_SOURCE --error-exitcode=1 \
		--include="/usr/include/$(gcc -print-multiarch)/sys/queue.h" \
		"${sources[@]}"
}

shell() {
	shellcheck -x "${scripts[@]}"
}

# Each header can be included first, and alone.
alone() {
	local h failed=0

	for h in "${headers[@]}"; do
		echo "#include \"$h\"" | gcc -std=c11 -I. -D_GNU_SOURCE -Wall \
			-Wextra -Werror -isystem /usr/include/libxml2 \
			-fsyntax-only -x c - ||
			failed=1
	done
	return $failed
}

includes() { tests/lint/includes.sh; }
banned() { tests/lint/banned.sh; }

# Nobody reads a file of more lines in one sitting.
length() {
	local f n most failed=0

	for f in "${sources[@]}" "${headers[@]}"; do
		n=$(wc -l <"$f")
		most=$(awk -v f="$f" '$1 == f { print $2 }' tests/lint/long.txt)
		if [ "$n" -gt "${most:-600}" ]; then
			echo "$f: $n lines, over ${most:-600}: split it by" \
				"responsibility"
			failed=1
		fi
	done
	return $failed
}

licence() {
	! grep -L -m 1 'SPDX-License-Identifier: Apache-2.0' "${sources[@]}" \
		"${headers[@]}" "${scripts[@]}" |
		sed 's/$/: lacks its SPDX line/' | grep .
}

# Under pipefail a grep that ends at its first match fails a pipeline whose writer
# has more to say, now and then: `has` of tests/e2e/lib.sh reads all.
pipes() {
	local found

	found=$(awk '{ line = held $0; held = "" }
		/[^|]\|$/ { held = line; next }
		line ~ /[^|]\|[ \t]*([A-Z_]+=[^ ]* )*grep( -[a-zA-Z]+)* -[a-zA-Z]*q/ {
			print FILENAME ":" FNR ": " line "   <- has, not grep -q" }' \
		"${scripts[@]}")
	[ -z "$found" ] || { echo "$found"; return 1; }
}

# A bare suppression says nothing to who meets it.
reasons() {
	! grep -rnE 'NOLINT|cppcheck-suppress|shellcheck disable=|clang-format off|GCC diagnostic ignored' \
		--include='*.[ch]' --include='*.sh' proto repo agent tests |
		grep -v '^tests/lint/run.sh:' |
		grep -vE '(NOLINT[A-Z]*(\([^)]*\))?|cppcheck-suppress|disable=|off|ignored).*(: |; |# | // ).*[a-z]{3}' |
		sed 's/$/   <- no reason/' | grep .
}

passed=0
failed=0
check() {
	local name=$1 what=$2 start status=0

	start=$(date +%s%N)
	"$name" >"$out/$name.log" 2>&1 </dev/null || status=$?
	start=$((($(date +%s%N) - start) / 10000000))
	start=$((start / 100)).$(printf %02d $((start % 100)))
	if [ $status = 0 ]; then
		printf '  ok    %-40s %7s s\n' "$what" "$start"
		passed=$((passed + 1))
	else
		printf '  FAIL  %-40s %7s s\n' "$what" "$start"
		grep -v '^[0-9]* warnings\? ' "$out/$name.log" |
			sed 's/^/        | /' | head -n 200
		failed=$((failed + 1))
	fi
}

all() {
	check layout "clang-format"
	check includes "include directions"
	check banned "functions that are not used here"
	check length "length of files"
	check licence "one SPDX line a file"
	check reasons "suppressions give their reason"
	check pipes "no pipe ends before its writer"
	check shell "shellcheck"
	check alone "each header compiles alone"
	check cppcheck_all "cppcheck"
	check tidy "clang-tidy"
}

if [ $# = 0 ]; then
	all
else
	for name in "$@"; do
		check "$name" "$name"
	done
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
