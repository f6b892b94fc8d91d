#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What `make bench-reads` makes of what it saw.

  reads.py day DISK USED_MIB DAY       one day's scattered writes into DISK
  reads.py table PLACES TRACE... JSON  read calls on packs by strace -ff -y, and
                                       how other joins of reads would do
"""
import collections
import json
import os
import random
import re
import sys

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
TARGET = 40


def day(path, used_mib, number):
    """About 2 % of the used part: half of it always in the same tenth (a
    database), half anywhere; pages of 4 to 64 KiB; and a log that grows."""
    r = random.Random(number)
    used = int(used_mib) * MIB
    with open(path, "r+b") as f:
        left = used // 50
        while left > 0:
            size = r.choice((4, 8, 16, 64)) * KIB
            most = used // 10 if r.random() < 0.5 else used
            f.seek(r.randrange(most // 4096 - 16) * 4096)
            f.write(r.randbytes(size))
            left -= max(size, 64 * KIB)  # what it costs a backup
        f.seek(used + number * 2 * MIB)
        f.write(r.randbytes(2 * MIB))


def calls(paths):
    """The read calls on packs, thread by thread: (pack, offset, end)."""
    call = re.compile(r'^p?readv?(?:64|2)?\(\d+<([^>]*)>.*?(?:, (\d+))?\) = (\d+)$')
    for path in paths:
        with open(path) as f:
            for line in f:
                m = call.match(line)
                if m and m[1].endswith(".pack"):
                    name = os.path.basename(m[1]).split(".")[0]
                    off = int(m[2] or 0)
                    yield int(name, 16), off, off + int(m[3])


def seeks(reads):
    """Those that do not begin at most 1 MiB behind the end of the last."""
    n, last = 0, (-1, 0, 0)
    for read in reads:
        if read[0] != last[0] or not 0 <= read[1] - last[2] <= MIB:
            n += 1
        last = read
    return n


def places(path):
    chunks, nodes = [], []
    with open(path) as f:
        for line in f:
            kind, volume, number, pack, off, size = line.split()
            where = int(volume), int(number), int(pack), int(off), int(size)
            (chunks if kind == "chunk" else nodes).append(where)
    return chunks, nodes


def joined(chunks, window, most, gap):
    """Reads of each WINDOW of the disk, in its order; within one, by place.
    A read has up to MOST that is needed, and passes over gaps up to GAP."""
    reads = []
    groups = collections.OrderedDict()
    for volume, number, pack, off, size in chunks:
        group = (volume, number * 64 * KIB // window)
        groups.setdefault(group, []).append((pack, off, off + size))
    for group in groups.values():
        last = None
        for pack, off, end in sorted(group):
            kept = end - off
            if last and last[0] == pack and off <= last[2] + gap and \
                    last[3] + kept <= most:
                last[2] = max(end, last[2])
                last[3] += kept
            else:
                last = [pack, off, end, kept]
                reads.append(last)
    return reads


def spread(title, values, unit):
    values = sorted(values)
    if not values:
        return {}
    out = {p: values[min(len(values) - 1, len(values) * p // 100)]
           for p in (10, 50, 90)}
    print(f"{title:<44} {len(values):8} " + " ".join(
        f"{out[p] / unit:9.1f}" for p in out) + f" {values[-1] / unit:9.1f}")
    return {"n": len(values), "p10": out[10], "p50": out[50],
            "p90": out[90], "max": values[-1]}


def table(places_path, *rest):
    *traces, out = rest
    chunks, nodes = places(places_path)
    guest = len(chunks) * 64 * KIB
    stored = sum(c[4] for c in chunks)
    data = {c[2] for c in chunks}
    seen = list(calls(traces))
    on_data = [c for c in seen if c[0] in data]
    on_meta = [c for c in seen if c[0] not in data]
    per = lambda n: n * GIB / guest
    j = {"guest_bytes": guest, "stored_bytes": stored, "packs": len(data),
         "chunks": len(chunks), "nodes": len(nodes),
         "calls": len(seen), "calls_per_gib": round(per(len(seen)), 1),
         "data_calls_per_gib": round(per(len(on_data)), 1),
         "meta_calls_per_gib": round(per(len(on_meta)), 1),
         "seeks_per_gib": round(per(seeks(seen)), 1),
         "bytes_read": sum(c[2] - c[1] for c in seen), "target": TARGET}

    print(f"\n{guest / MIB:.0f} MiB of the disk restored, {stored / MIB:.0f} MiB "
          f"of records in {len(data)} packs")
    print(f"{'read calls on packs, a GiB of the disk':<44} {per(len(seen)):8.1f}")
    print(f"{'  of data':<44} {per(len(on_data)):8.1f}   "
          f"{sum(c[2] - c[1] for c in on_data) / stored:.2f} times what is "
          "needed")
    print(f"{'  of nodes':<44} {per(len(on_meta)):8.1f}   "
          f"of {len(nodes)} nodes")
    print(f"{'of all: not where the last one ended':<44} {per(seeks(seen)):8.1f}")

    print(f"\n{'':<44} {'number':>8} {'p10':>9} {'p50':>9} {'p90':>9} {'max':>9}")
    j["call_bytes"] = spread("data read with one call, KiB",
                             [c[2] - c[1] for c in on_data], KIB)
    runs, gaps = [], []
    ordered = sorted((c[2], c[3], c[3] + c[4]) for c in chunks)
    start = ordered[0]
    for a, b in zip(ordered, ordered[1:] + [(0, 0, 0)]):
        if a[0] == b[0] and b[1] == a[2]:
            continue
        runs.append(a[2] - start[1])
        if a[0] == b[0]:
            gaps.append(b[1] - a[2])
        start = b
    j["runs"] = spread("in the packs: runs without a gap, KiB", runs, KIB)
    j["gaps"] = spread("in the packs: gaps between them, KiB", gaps, KIB)
    inner = []
    for _, off, end, _ in joined(chunks, 8 * MIB, 1 << 40, 0):
        inner.append(end - off)
    j["window_runs"] = spread("of 8 MiB of the disk: runs, KiB", inner, KIB)

    print(f"\n{'reads joined otherwise: of data, a GiB':<30} {'keeps':>8} "
          f"{'gap':>8} {'calls':>8} {'seeks':>8} {'read/needed':>12}")
    j["joins"] = []
    for window in (8, 64, 256, 1 << 20):
        for most, gap in ((4, 1), (32, 1), (32, 4), (32, 8), (64, 8)):
            if most > window:
                continue
            r = joined(chunks, window * MIB, most * MIB, gap * MIB)
            wide = sum(x[2] - x[1] for x in r) / stored
            name = f"{window} MiB" if window < 1 << 20 else "all of it"
            print(f"{'  window ' + name:<30} {most:4} MiB {gap:4} MiB "
                  f"{per(len(r)):8.1f} {per(seeks(r)):8.1f} {wide:12.2f}")
            j["joins"].append({"window_mib": window, "range_mib": most,
                               "gap_mib": gap, "read_to_needed": round(wide, 3),
                               "calls_per_gib": round(per(len(r)), 1),
                               "seeks_per_gib": round(per(seeks(r)), 1)})
    with open(out, "w") as f:
        json.dump(j, f)
        f.write("\n")
    print(f"# also in {out}")
    if not seen:
        sys.exit("FAILED: no read call was seen")
    if j["calls_per_gib"] > TARGET:
        sys.exit(f"MISSED: {j['calls_per_gib']} read calls a GiB (at most {TARGET})")
    print(f"ok - {j['calls_per_gib']} read calls a GiB (at most {TARGET})")


if sys.argv[1:2] == ["day"]:
    day(sys.argv[2], sys.argv[3], int(sys.argv[4]))
else:
    table(*sys.argv[2:])
