#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A disk with data on it, and a guest that changes a known part of it at once.

    tests/live/cost.py fill IMAGE GIB MIB SEED     MIB of noise, all over a raw
                                                   sparse file of GIB
    tests/live/cost.py dirty QMP DEVICE GIB MIB RUNS SEED
        MIB at RUNS places of a running QEMU's disk, by its monitor and through
        that device of the guest, as if it wrote: bitmaps and jobs see it
"""
import os
import random
import subprocess
import sys

sys.path.insert(0, os.path.dirname(__file__))
from qmp import Qmp  # noqa: E402

MIB = 1 << 20


def fill(path, gib, mib, seed):
    key = f'{seed:032x}'
    noise = subprocess.run(
        ['openssl', 'enc', '-aes-128-ctr', '-nosalt', '-K', key, '-iv', key],
        input=bytes(mib * MIB), stdout=subprocess.PIPE, check=True).stdout
    parts = 64  # of 16 MiB or so, evenly apart
    size = len(noise) // parts
    with open(path, 'wb') as f:
        f.truncate(gib << 30)
        for i in range(parts):
            f.seek((gib << 30) // parts * i)
            f.write(noise[i * size:(i + 1) * size])


def dirty(sock, device, gib, mib, runs, seed):
    r = random.Random(seed)
    qmp = Qmp(sock)
    size = mib * MIB // runs
    step = (gib << 30) // runs
    for i in range(runs):
        at = i * step + r.randrange(0, step - size) // 65536 * 65536
        answer = qmp.command('human-monitor-command', {
            'command-line': f'qemu-io -d {device} "write -q -P '
                            f'{r.randrange(1, 255)} {at} {size}"'})
        if answer.strip():
            raise RuntimeError(answer)


def main():
    words = sys.argv[1:]
    numbers = [int(w) for w in words[3:]] if words[0] == 'dirty' else \
        [int(w) for w in words[2:]]
    if words[0] == 'fill':
        fill(words[1], *numbers)
    else:
        dirty(words[1], words[2], *numbers)


main()
