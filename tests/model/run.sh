#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Searches the models for a violation of what they claim: there must be none as
# they stand, and one with each rule taken out.
#
#   tests/model/run.sh [short|complete]
#
# short is part of `make check`; complete is `make model`: larger bounds of the
# same models, some minutes and up to 2 GB.  JOBS=2 are run at a time.
set -u -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
form=${1:-short}
JOBS=${JOBS:-$(nproc)}
tmp=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf "$tmp"' EXIT

for tool in spin gcc; do
	command -v "$tool" >/dev/null || {
		echo "$tool is missing: make deps" >&2
		exit 1
	}
done

# search WANT OPTIMIZE MODEL FLAGS...: WANT is "holds" or "broken".
search() {
	local want=$1 level=$2 model=$3 dir states got name

	shift 3
	name="$model${*:+ $*}"
	dir=$(mktemp -d "$tmp/XXXXXX")
	if ! (cd "$dir" && spin -a "$@" "$here/$model.pml" &&
		gcc "-$level" -w -DSAFETY -DCOLLAPSE -DNOREDUCE -DMEMLIM=4000 \
			-o pan pan.c && timeout 900 ./pan -E -m200000) \
		>"$dir/out" 2>&1; then
		echo "not ok - $name: could not be run"
		tail -n 20 "$dir/out"
		return 1
	fi
	states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$dir/out" |
		head -n 1)
	case $(grep -o 'errors: [0-9]*' "$dir/out") in
	'errors: 0') got=holds ;;
	'errors: 1') got=broken ;;
	*) got=unknown ;;
	esac
	# Only an assertion counts, and only a whole search.
	if [ $got = broken ] && ! grep -q 'assertion violated' "$dir/out"; then
		got=unknown
	fi
	if [ $got = holds ] && grep -Eq 'Search not completed|max search depth|out of memory' "$dir/out"; then
		got=incomplete
	fi
	if [ $got = "$want" ]; then
		echo "ok - $name: $got, $states states"
	else
		echo "not ok - $name: $got, not $want, $states states"
		grep -m 3 'assertion violated\|pan:' "$dir/out"
		return 1
	fi
	rm -rf "$dir"
}

failures=0

# start ...: search, JOBS of them side by side.
start() {
	while [ "$(jobs -rp | wc -l)" -ge "$JOBS" ]; do
		wait -n || failures=$((failures + 1))
	done
	search "$@" &
}

holds() { start holds O2 "$@"; }
# broken FLAGS MODEL SWITCHES...: each of them alone.
broken() {
	local flags=$1 model=$2 switch

	shift 2
	for switch; do
		# shellcheck disable=SC2086 # several flags
		start broken O1 "$model" $flags "-DBUG_$switch"
	done
}

case $form in
short)
	holds ledger -DONE -DMAXPUB=4
	holds ledger -DONE -DNOCRASH -DKILL -DMAXPUB=6
	holds ledger -DONE -DNOCRASH -DKILL -DFLAT -DMAXPUB=6
	holds advance -DMAXPUB=3
	holds commit -DFAIL -DREBUILD -DCRASHES=2
	holds damage
	holds checkpoint -DWRITES=2 -DBACKUPS=3
	holds queue -DTASKS=3
	holds queue -DTASKS=2 -DRESTART
	;;
complete)
	holds ledger -DNOCRASH -DMAXPUB=3
	holds ledger -DONE -DKILL -DMAXPUB=6
	holds ledger -DONE -DKILL -DFLAT -DMAXPUB=6
	holds ledger -DONE -DCARELESS -DMAXPUB=6
	holds advance
	holds advance -DCRASH -DMAXPUB=6
	holds commit -DNP=4 -DFAIL -DREBUILD -DCRASHES=3
	holds damage
	holds checkpoint
	holds queue
	holds queue -DTASKS=3 -DRESTART
	;;
*)
	echo "usage: tests/model/run.sh [short|complete]" >&2
	exit 2
	;;
esac

broken '-DONE -DMAXPUB=4' ledger NOSTAMP RECOUNT OPENSTART DROPBYTES STALE \
	BEFORE KNOWN
broken '-DONE -DMAXPUB=4 -DCARELESS' ledger HAVE
broken '-DONE -DNOCRASH -DKILL -DMAXPUB=5' ledger LATE LIST
broken '-DONE -DNOCRASH -DKILL -DFLAT -DMAXPUB=5' ledger INF
broken '-DNOCRASH -DMAXPUB=2' ledger PUTRESET
broken '-DMAXPUB=6' advance EARLY LATETURN OLDANSWERS NOFRONTIER ANSWERED OLDFIRST HELD
broken '-DFAIL -DREBUILD -DCRASHES=2' commit EARLYM EARLYINDEX NOBURY \
	TOMBLATE UNLINK TOMBDROP TOMBNOW ROLLTOMB ROLLSYNC MOVEDROP \
	MOVEPOISONED DROPTWICE OTHERMETA
broken '-DNP=4 -DFAIL -DREBUILD -DCRASHES=2' commit CARRYPOISONED
broken '' checkpoint LATE CLEAR ANYNEW INUSE LOOKLATE
broken '-DTASKS=3' queue EARLY UNCHECKED STRAY ANSWER TWICE
broken '' damage NOHEAL HEALCOUNTS MOVE FLAG NORELOOK BLINDCOPY UNLINK HAD

while [ "$(jobs -p | wc -l)" -gt 0 ]; do
	wait -n
	case $? in
	0) ;;
	127) break ;;
	*) failures=$((failures + 1)) ;;
	esac
done
[ $failures = 0 ]
