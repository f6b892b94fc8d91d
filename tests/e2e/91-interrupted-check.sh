#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: whoever interrupts `make check` is left with nothing that it started: no
# lane goes on to its next test, no test outlives it, nor does what a test has
# put into a group or a session of its own; and tests clean up before.
#
#   tests/e2e/91-interrupted-check.sh
. "$(dirname "$0")/lib.sh"

tree=$dir/tree
mkdir -p "$tree/tests/e2e" "$tree/tests/unit" "$tree/build/unit"
cp "$top/tests/run.sh" "$tree/tests"

# One of each kind: it has a command of its own group in front of it, one of its
# own session behind it, and something to clean up.
cat >"$tree/test" <<'END'
#!/bin/bash
name=$(basename "$0" .sh)
trap 'echo cleaned >>'"$dir"'/$name.clean' EXIT
trap 'exit 130' INT TERM
setsid sleep 300 &
echo $! $$ >'"$dir"'/$name.runs
timeout 300 sleep 300
END
sed -i "s|'\"\$dir\"'|$dir|" "$tree/test"
for name in tests/e2e/10-first.sh tests/e2e/11-second.sh tests/e2e/100-guest.sh \
	tests/e2e/101-guest.sh tests/e2e/200-nas.sh tests/e2e/201-nas.sh \
	build/unit/test_one build/unit/test_two; do
	cp "$tree/test" "$tree/$name"
	chmod +x "$tree/$name"
done
touch "$tree/tests/unit/test_one.c" "$tree/tests/unit/test_two.c"
# One is deaf, and has to be killed.
cp "$tree/tests/e2e/100-guest.sh" "$dir/polite"
sed -i "s/^trap 'exit.*/trap '' INT TERM/; s/^timeout.*/while :; do sleep 1; done/" \
	"$tree/tests/e2e/100-guest.sh"

# begin NAME=VALUE...: as make does from a terminal; a group of its own, ${check}.
begin() {
	rm -f "$dir"/*.runs "$dir"/*.clean
	# What this check itself was told is not what that one is.
	env -C "$tree" --default-signal=INT,TERM,HUP -u UNIT -u E2E -u GUESTS \
		-u LIMIT MODEL= STRESS= GRACE=5 JOBS=2 "$@" setsid tests/run.sh build >"$dir/check.log" 2>&1 &
	check=$!
	pids+=("$check")
}

# begun NAME...: each of them is at it.
begun() {
	local name

	for name in "$@"; do
		[ -s "$dir/$name.runs" ] || return 1
	done
}

# nothing_left WHEN: of theirs, all of which were told of the folder.
nothing_left() {
	local it

	it=$(grep -lzF "$tree" /proc/[0-9]*/environ 2>/dev/null)
	[ -z "$it" ] || fail "$1: is left: $it: $(ps -o pid,ppid,args \
		-p "$(echo "${it//[!0-9[:space:]]/}" | paste -sd,)")"
}

# interrupt SIGNAL N: it ends by that, and N have cleaned up.
interrupt() {
	local whom=$check

	# A terminal tells the whole group of Ctrl-C, others tell one.
	[ "$1" != INT ] || whom=-$check
	kill -"$1" -- "$whom" || fail "the check has ended by itself"
	wait_for 20 gone "$check" || fail "$1: the check goes on: $(cat "$dir/check.log")"
	wait "$check"
	[ $? = 130 ] || fail "$1: not status 130: $(cat "$dir/check.log")"
	forget "$check"
	nothing_left "$1"
	[ "$(find "$dir" -name '*.clean' | wc -l)" = "$2" ] ||
		fail "$1: cleaned up: $(echo "$dir"/*.clean)"
	[ -z "$(find "$dir" -name '11-*.runs' -o -name '?01-*.runs')" ] ||
		fail "$1: went on: $(echo "$dir"/*.runs)"
}

units() {
	begin
	wait_for 20 begun test_one test_two 100-guest 200-nas ||
		fail "not begun: $(cat "$dir/check.log")"
}
scripts() {
	begin UNIT=
	wait_for 20 begun 10-first 100-guest 200-nas ||
		fail "not begun: $(cat "$dir/check.log")"
}

units
interrupt INT 3
mv "$dir/polite" "$tree/tests/e2e/100-guest.sh"
scripts
interrupt INT 3
units
interrupt TERM 4
scripts
interrupt HUP 3
ok "all that a check started ends with it"
