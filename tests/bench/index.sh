#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What the index costs as it grows: index_scale.c says what is measured and how.
#
#   tests/bench/index.sh [BUILD [JSON]]       make bench-index
#
#   SIZES="1000000 100000000"   entries
#   CACHE_MIB=N                 RocksDB's cache of blocks (what backstayd takes
#                               here: a sixteenth of the memory, 32 to 1024)
#   WORK=DIR                    where it works; about 8 GB for 100 million
BIN=$(realpath "${1:-build/gcc}") || exit 1
out=$(realpath -m "${2:-build/bench/index.json}")
set -u -o pipefail

SIZES=${SIZES:-1000000 100000000}
sixteenth=$(($(getconf _PHYS_PAGES) * $(getconf PAGE_SIZE) >> 24))
[ $sixteenth -ge 32 ] || sixteenth=32
[ $sixteenth -le 1024 ] || sixteenth=1024
mkdir -p "$(dirname "$out")" "${WORK:=build/bench}" || exit 1
dir=$(mktemp -d "$WORK/index.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
# shellcheck disable=SC2086 # numbers
"$BIN/bench/index_scale" -c "${CACHE_MIB:-$sixteenth}" "$dir" "$out" $SIZES
