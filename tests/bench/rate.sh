#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# How exactly rates hold while they change, and how alike two jobs share them:
# by the daemon's counters, and by the kernel's of its TCP connections.
#
#   tests/bench/rate.sh [BUILD [JSON]]        make bench-rate
#
#   RATES="20 40 10 30"    MiB a second, one after the other
#   STEP=5                 seconds of each
#   LANES="1 6"            connections of the two jobs
#   TMPDIR=DIR             where it works (some GiB)
BIN=$(realpath "${1:-build/gcc}") || exit 1
export BIN
out=$(realpath -m "${2:-build/bench/rate.json}")
. "$(dirname "$0")/../e2e/lib.sh"
need ss

read -r -a rates <<<"${RATES:-20 40 10 30}"
read -r -a lanes <<<"${LANES:-1 6}"
STEP=${STEP:-5}
plan=() size=64 most=0
for it in "${rates[@]}"; do
	plan+=("$it:$STEP")
	# Half of it as one of two jobs, then all of it.
	size=$((size + it * STEP * 3 / 2))
	[ "$it" -le "$most" ] || most=$it
done

# measure WHAT VM TARGET: its figures, and a line in the table.
measure() {
	"$PYTHON" "$top/tests/e2e/rates.py" "$BIN/backstay" "$repo" \
		"$(cat "$repo/port")" "$2" "$3" "${plan[@]}" \
		>"$dir/$1.json" || fail "$1: rates.py"
	"$PYTHON" - "$1" "$dir/$1.json" <<'PY' || fail "$1: no job ran to the end"
import json, sys
j = json.load(open(sys.argv[2]))
n = sorted(j["jobs"].values())
assert n
print(f"{sys.argv[1]:24}{j['seconds']:6.1f} s {j['want'] / 2**20:8.1f} MiB "
      f"{j['counted_off_percent']:+7.2f} % {j['wire_off_percent']:+7.2f} % "
      + (f"{n[-1] / n[0]:6.3f}" if len(n) > 1 else "     -"))
PY
}

# moves N: so many jobs have moved something.
moves() {
	console jobs --json >"$dir/jobs.json" || fail jobs
	json "$dir/jobs.json" "sum(1 for i in j if i['state'] == 'running' and
		sum(t['in'] + t['out'] for t in i['traffic']) > 4 << 20) >= $1" |
		has True
}

end_agents() {
	local it

	for it in "$@"; do
		kill -TERM "$it" 2>/dev/null
		agent_wait "$it"
	done
}

make_repo "$dir/repo"
start_daemon --bwlimit "${rates[0]}M"
enroll_agent one
enroll_agent two
for it in a b; do
	: >"$dir/$it"
	put_noise "$dir/$it" 0 $((size << 20)) "$it"
done
printf '%-24s%8s %12s %9s %9s %6s\n' "" "" "may move" counted wire ratio
agent_start one "$dir/one" backup web1 --disk "vda=$dir/a" \
	--lanes "${lanes[0]}" --compression 0 -q
jobs=("$agent_pid")
agent_start two "$dir/two" backup web2 --disk "vda=$dir/b" \
	--lanes "${lanes[1]}" --compression 0 -q
jobs+=("$agent_pid")
wait_for 60 moves 2 || fail "no two backups move"
measure backups all all
console set bwlimit 5M --key two >"$dir/out" || fail set
console set bwlimit $((2 * most + 10))M >"$dir/out" || fail set
console set bwlimit "${rates[0]}M" --key one >"$dir/out" || fail set
measure key web1 "key one"
end_agents "${jobs[@]}"

console set bwlimit 0 --key one >"$dir/out" || fail set
console set bwlimit 0 --key two >"$dir/out" || fail set
console set bwlimit 0 >"$dir/out" || fail set
backup one web3 --disk "vda=$dir/a" --compression 0
rm "$dir/a" "$dir/b"
console set bwlimit "${rates[0]}M" >"$dir/out" || fail set
agent_start one "$dir/three" restore web3@latest --disk "vda=$dir/r1.raw" \
	--lanes "${lanes[0]}" -q
jobs=("$agent_pid")
agent_start two "$dir/four" restore web3@latest --disk "vda=$dir/r2.raw" \
	--lanes "${lanes[1]}" -q
jobs+=("$agent_pid")
wait_for 60 moves 2 || fail "no two restores move"
measure restores all all
end_agents "${jobs[@]}"
mkdir -p "$(dirname "$out")"
"$PYTHON" - "$dir" >"$out" <<'PY' || fail "cannot write $out"
import json, sys
print(json.dumps({k: json.load(open(f"{sys.argv[1]}/{k}.json"))
                  for k in ("backups", "key", "restores")}, indent=1))
PY
echo "written to $out"
