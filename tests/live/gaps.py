#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""When does a guest stand still?

    tests/live/gaps.py CONSOLE LOG

Follows the console of a guest that ticks ("T 4711", a line every some ms; see
tests/live/guest/work.c) and notes when lines come.  The guest's own clock stands
still with it, so this looks from outside.  LOG gets "AT GAP NUMBER" at least ten
times a second, and for each gap of 100 ms or more at once: the moment, in
milliseconds of the epoch; the longest time without a line since the one before,
in microseconds; the last number.  The console may begin again: another QEMU goes
on with it.  Until it is killed.
"""
import os
import re
import sys
import time

TICK = re.compile(rb"^T (\d+)\r?$", re.M)
POLL_S, EACH_S, LONG_S = 0.001, 0.1, 0.1


class Console:
    def __init__(self, path):
        self.path, self.f, self.rest = path, None, b""

    def open(self):
        self.f, self.rest = open(self.path, "rb", buffering=0), b""

    def began_again(self):
        try:
            st = os.stat(self.path)
        except FileNotFoundError:
            return False
        return (st.st_ino != os.fstat(self.f.fileno()).st_ino or
                st.st_size < self.f.tell())

    def ticks(self):
        """Numbers of the whole lines that came."""
        if self.f is None:
            self.open()
        data = self.f.read(1 << 16)
        if not data:
            if self.began_again():
                self.open()
            return []
        lines, _, self.rest = (self.rest + data).rpartition(b"\n")
        return [int(n) for n in TICK.findall(lines)]


def main():
    console, last, worst, told = Console(sys.argv[1]), None, 0.0, 0.0
    with open(sys.argv[2], "w") as log:
        while True:
            numbers, now = console.ticks(), time.monotonic()
            if not numbers:
                time.sleep(POLL_S)
                continue
            gap = 0.0 if last is None else now - last
            worst, last = max(worst, gap), now
            if gap >= LONG_S or now - told >= EACH_S:
                print("%.1f %d %d" % (time.time() * 1000, worst * 1e6,
                                      numbers[0]), file=log, flush=True)
                worst, told = 0.0, now


main()
