#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What the index costs as it grows: index_scale.c says what is measured and how.
#
#   tests/bench/index.sh [BUILD [JSON]]       make bench-index
#
#   SIZES="1000000 100000000"   entries
#   CACHE_MIB=32                RocksDB's cache of blocks
#   WORK=DIR                    where it works; about 8 GB for 100 million
BIN=$(realpath "${1:-build/gcc}") || exit 1
out=$(realpath -m "${2:-build/bench/index.json}")
set -u -o pipefail

SIZES=${SIZES:-1000000 100000000}
mkdir -p "$(dirname "$out")" "${WORK:=build/bench}" || exit 1
dir=$(mktemp -d "$WORK/index.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
# shellcheck disable=SC2086 # numbers
"$BIN/bench/index_scale" -c "${CACHE_MIB:-32}" "$dir" "$out" $SIZES
