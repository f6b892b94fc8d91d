#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How long does this host take for one small synchronous write just now?

    tests/live/witness.py FILE

Writes 4 KiB, synchronously, some 200 times a second, until it is killed.  Once a
second:  LAT MAX_US  (as tests/live/guest/work.c says of a guest).  What the host
keeps waiting by itself is not to be blamed on a backup.
"""
import os
import sys
import time


def main():
    fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_DSYNC, 0o600)
    block = bytes(4096)
    second, most = time.monotonic(), 0
    while True:
        # The nap belongs to it: a host without a free processor is late there.
        start = time.monotonic()
        time.sleep(0.005)
        os.pwrite(fd, block, 0)
        now = time.monotonic()
        most = max(most, now - start)
        if now - second >= 1:
            print('LAT', int(most * 1e6), flush=True)
            second, most = now, 0


main()
