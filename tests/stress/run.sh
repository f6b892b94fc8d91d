#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The randomised test of everything at once; see stress.py beside this.
#
#   tests/stress/run.sh [BUILD]
#
#   DURATION=600   seconds; 45 is the short form of `make check`
#   SEED=N         of all choices (printed)
#   PACKS=nfs      packs on an NFS server, which is killed at times, too (root)
#   TMPDIR=DIR     where it works; /dev/shm where there is room for it
#   KEEP=1         leave repository and logs where they are
set -u -o pipefail

top=$(cd "$(dirname "$0")/../.." && pwd)
BIN=$(realpath "${1:-${BIN:-$top/build/gcc}}") || exit 1
export BIN
command -v qemu-img >/dev/null || {
	echo "qemu-img is missing: install it" >&2
	exit 1
}
if [ -z "${TMPDIR:-}" ] && [ "${PACKS:-}" != nfs ] &&
	[ "$(df --output=avail -B1M /dev/shm 2>/dev/null | tail -n 1)" -gt \
		8000 ] 2>/dev/null; then
	export TMPDIR=/dev/shm
fi
export ASAN_OPTIONS=detect_leaks=1:${ASAN_OPTIONS:-}
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:${UBSAN_OPTIONS:-}
export TSAN_OPTIONS=second_deadlock_stack=1:suppressions=$top/tests/tsan.supp:${TSAN_OPTIONS:-}
export PYTHONDONTWRITEBYTECODE=1
# An own process group would outlive ^C at the terminal: same one.
exec "${PYTHON:-/usr/bin/python3}" "$top/tests/stress/stress.py" \
	--duration "${DURATION:-600}" ${SEED:+--seed "$SEED"}
