#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Images of a power cut, from a log of all writes to a disk.

  writelog.py count LOG                  how many entries there are
  writelog.py image LOG BASE OUT N SEED  BASE with the first N entries written

Of what no flush followed within those N, a random half is left out.  Prints
how many bytes of LOG the entries take: what was acknowledged when the log was
no longer than that must be there.  The format is that of dm-log-writes.
"""
import random
import shutil
import struct
import sys

MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD = 1, 2, 4


def entries(log):
    log.seek(0)
    magic, version, count, sector = struct.unpack("<QQQI", log.read(28))
    if magic != MAGIC or version != 1:
        sys.exit("not a log of writes")
    at = sector
    for _ in range(count):
        log.seek(at)
        where, n, flags, _ = struct.unpack("<QQQQ", log.read(32))
        at += sector
        data = at
        if not flags & DISCARD:
            at += n * sector
        yield where * sector, n * sector, flags, data, at


def image(log, base, out, count, seed):
    chosen = [e for _, e in zip(range(count), entries(log))]
    flushed = max((i for i, e in enumerate(chosen) if e[2] & FLUSH), default=-1)
    rng = random.Random(seed)
    shutil.copyfile(base, out)
    with open(out, "r+b") as disk:
        for i, (where, size, flags, data, _) in enumerate(chosen):
            if i > flushed and not flags & FUA and rng.random() < 0.5:
                continue
            disk.seek(where)
            if flags & DISCARD:
                while size > 0:
                    disk.write(bytes(min(size, 1 << 20)))
                    size -= 1 << 20
            elif size > 0:
                log.seek(data)
                disk.write(log.read(size))
    return chosen[-1][4]


def main():
    with open(sys.argv[2], "rb") as log:
        if sys.argv[1] == "count":
            print(sum(1 for _ in entries(log)))
        else:
            base, out, count, seed = sys.argv[3:7]
            print(image(log, base, out, int(count), int(seed)))


main()
