#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: the documents are enough.  Programs that were written from PROTOCOL.md
# and FORMAT.md alone talk to the daemon and read what is in its packs, while
# it runs (open packs) and after it ended (sealed ones).
set -eu

top=$(cd "$(dirname "$0")/../.." && pwd)
B=${B:-$top/build/gcc}
python=${PYTHON:-/usr/bin/python3}
spec=$top/tests/spec
dir=$(mktemp -d "${TMPDIR:-/tmp}/70-spec.XXXXXX")
daemon=

fail()
{
	echo "FAILED: $*" >&2
	[ -s "$dir/log" ] && tail -n 20 "$dir/log" >&2
	exit 1
}

cleanup()
{
	[ -n "$daemon" ] && kill -9 "$daemon" 2>/dev/null
	rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# Poll a condition, for at most 20 s.
await()
{
	n=0
	until "$@"; do
		n=$((n + 1))
		[ $n -lt 200 ] || fail "waited in vain: $*"
		sleep 0.1
	done
}

gone()
{
	! kill -0 "$1" 2>/dev/null
}

for p in backstay backstayd backstay-agent; do
	[ -x "$B/$p" ] || fail "$B/$p is not built"
done
command -v "$python" >/dev/null || fail "$python is missing"

# 20 MiB and a bit, with holes, a repeated part and a short last slice.
"$python" - "$dir" <<'PY'
import random, sys
d = sys.argv[1]
r = random.Random(70)
size = 20 * 1048576 + 12345
with open(d + '/vda.1', 'wb') as f:
    f.truncate(size)
    for at in (0, 1 << 20, 9 << 20, 19 << 20, size - 777):
        f.seek(at)
        f.write(r.randbytes(min(700000, size - at)))
    f.seek(3 << 20)
    f.write(b'the same again and again. ' * 100000)
with open(d + '/vda.1', 'rb') as f, open(d + '/vda.2', 'wb') as g:
    g.write(f.read())
    for at in range(5000, size - 100, 3333333):
        g.seek(at)
        g.write(r.randbytes(100))
with open(d + '/zero', 'wb') as f:
    f.truncate(9 << 20)
PY

repo=$dir/repo
"$B/backstay" init "$repo" >/dev/null || fail "init"
"$B/backstayd" "$repo" --listen 127.0.0.1:0 >"$dir/log" 2>&1 &
daemon=$!
await test -S "$repo/socket"

for i in 1 2; do
	"$B/backstay-agent" backup --repo "unix:$repo/socket" acme/web1 \
	    --disk "vda=$dir/vda.$i" --disk "zero=$dir/zero" \
	    >"$dir/out" 2>&1 || fail "backup $i: $(cat "$dir/out")"
done

compare()
{
	"$python" "$spec/store_reader.py" "$repo" list >"$dir/list" ||
	    fail "$1: list"
	[ "$(grep -c '^acme/web1@' "$dir/list")" = 2 ] ||
	    fail "$1: list has not two backups: $(cat "$dir/list")"
	for i in 1 2; do
		which=latest
		[ $i = 1 ] && which=-1
		for v in vda zero; do
			"$python" "$spec/store_reader.py" "$repo" extract \
			    "acme/web1@$which" $v "$dir/out.raw" ||
			    fail "$1: extract $which $v"
			source=$dir/zero
			[ $v = vda ] && source=$dir/vda.$i
			cmp "$dir/out.raw" "$source" ||
			    fail "$1: $which $v is another"
		done
	done
}

compare "while the daemon runs"
"$python" "$spec/dialogue.py" "$repo/socket" spec/dialogue ||
    fail "the dialogue"
gone "$daemon" && fail "the daemon ended"
# What the dialogue put is read back from the packs, too.
"$python" "$spec/store_reader.py" "$repo" extract spec/dialogue@latest deep \
    "$dir/deep" || fail "extract what the dialogue put"

kill -TERM "$daemon"
await gone "$daemon"
wait "$daemon" || fail "the daemon ended with $?"
daemon=
compare "after the daemon ended"

# The readers can say no: 4 KiB, so that not only a record's header is hit.
pack=$(find "$repo/packs/" -name '*.pack' -size +64k | sort | head -n 1)
"$python" - "$pack" <<'PY'
import os, sys
with open(sys.argv[1], 'r+b') as f:
    f.seek(os.path.getsize(sys.argv[1]) // 3)
    b = f.read(4096)
    f.seek(-len(b), 1)
    f.write(bytes(x ^ 1 for x in b))
PY
if "$python" "$spec/store_reader.py" "$repo" extract acme/web1@-1 vda \
    "$dir/out.raw" >/dev/null 2>&1 &&
    "$python" "$spec/store_reader.py" "$repo" extract spec/dialogue@latest \
    deep "$dir/out.raw" >/dev/null 2>&1; then
	fail "flipped bits were not seen"
fi
echo "70-spec: ok"
