#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What `make check-crash` runs.  B: the FAULT build; CRASH=long: more of each.
set -u -o pipefail

cd "$(dirname "$0")/../.." || exit 1
hits=4 points=20
[ "${CRASH:-}" != long ] || hits=1000 points=200
# Nothing here depends on what a disk does with a sync, but its time does.
where=/tmp
[ ! -w /dev/shm ] || where=/dev/shm
failed=0

echo "races"
"$B/crash/races" 2>&1 | grep -E '^\[|WRONG|fsck|error' || failed=1
[ "${PIPESTATUS[0]}" = 0 ] || failed=1
echo "fault points"
"$B/crash/crash" -d $where -j "${JOBS:-2}" -n $hits ${SEED:+-s "$SEED"} ||
	failed=1
if [ "$(id -u)" = 0 ]; then
	echo "fault points, packs on an NFS export"
	room=$(mktemp -d /tmp/crash-nfs.XXXXXX)
	if url=$(tests/nfs/server.sh start "$room" $((12000 + $$ % 5000 * 4))); then
		# Each start waits for half a second: many at once.
		"$B/crash/crash" -d "$room/export" -e "$url" -j 12 \
			-n $((hits > 8 ? 8 : 1)) ${SEED:+-s "$SEED"} || failed=1
	else
		failed=1
	fi
	tests/nfs/server.sh end "$room"
	rm -rf "$room"
else
	echo "fault points on NFS: NOT RUN, it needs root"
	failed=1
fi
for fs in ext4 xfs; do
	echo "power cuts on $fs"
	TMPDIR=$where tests/crash/replay.sh "$B/crash/examine" $fs $points \
		${SEED:+"$SEED"} || failed=1
done
[ $failed = 0 ] && echo "check-crash: passed" || echo "check-crash: FAILED"
exit $failed
