#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Is an image of a test guest's disk one point in time?

    tests/live/slots.py MIB IMAGE [SECOND] [--from N] [--to N] [--disk 1]

Reads the first MIB of a raw IMAGE, where tests/live/guest/work.c wrote numbers
one after the other.  If m is the largest one found, a point in time has in each
slot the largest number <= m that goes there, and nothing else does: a copy that
was read while the guest wrote has slots that are too old.  SECOND is the guest's
second disk, which gets each number after the first one did: at one moment it is
at the same number or one behind.  --from and --to bound m: what the guest said
that it had written before and after the point in time.  --disk 1: IMAGE is of
the second disk alone.

Prints "MAX [MAX2]", or what is wrong and ends with status 1.
"""
import argparse
import struct
import sys

SLOT, RUN, STEP, CELL = 4096, 16, 7919, 64
MAGIC = b'BkstyGst'
M = (1 << 64) - 1
TORN = -1


def mix(x):
    x = (x ^ (x >> 33)) * 0xff51afd7ed558ccd & M
    x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53 & M
    return x ^ (x >> 33)


def slot_of(number, disk):
    noise = [mix(number * 16 + disk * 8 + i & M) for i in range(5)]
    cell = MAGIC + struct.pack('<7Q', number, disk, *noise)
    return cell * (SLOT // CELL)


def read_numbers(path, slots, disk):
    """The number in each slot; 0: never written; TORN: neither."""
    numbers, empty = [], bytes(SLOT)
    with open(path, 'rb') as f:
        for _ in range(slots):
            data = f.read(SLOT)
            if data == empty:
                numbers.append(0)
            elif data[:8] == MAGIC and data == slot_of(
                    struct.unpack_from('<Q', data, 8)[0], disk):
                numbers.append(struct.unpack_from('<Q', data, 8)[0])
            else:
                numbers.append(TORN)
    return numbers


def wrong_slots(numbers, last):
    """Those that are not as the number ${last} left them."""
    slots = len(numbers)
    runs = slots // RUN
    wrong = []
    for number in range(last - slots + 1, last + 1):
        slot = number // RUN % runs * STEP % runs * RUN + number % RUN
        want = max(number, 0)
        if numbers[slot] != want:
            wrong.append((slot, numbers[slot], want))
    return wrong


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument('mib', type=int)
    p.add_argument('image', nargs='+')
    p.add_argument('--from', type=int, dest='least', default=1)
    p.add_argument('--to', type=int, dest='most', default=1 << 62)
    p.add_argument('--disk', type=int, default=0)
    a = p.parse_args()
    faults, found = [], []
    for disk, path in enumerate(a.image, a.disk):
        numbers = read_numbers(path, a.mib * 1048576 // SLOT, disk)
        last = max(numbers)
        wrong = wrong_slots(numbers, last)
        found.append(last)
        if wrong:
            slot, got, want = wrong[0]
            what = 'torn' if got == TORN else got
            faults.append(f'{path}: not a point in time: {len(wrong)} slots '
                          f'do not go with {last}, slot {slot} is {what} '
                          f'and not {want}')
        if not a.least <= last <= a.most:
            faults.append(f'{path}: at {last}, which is not between '
                          f'{a.least} and {a.most}')
    if len(found) == 2 and found[0] - found[1] not in (0, 1):
        faults.append(f'the disks are not of one moment: {found[0]}, '
                      f'{found[1]}')
    print(*found)
    for f in faults:
        print(f, file=sys.stderr)
    return 1 if faults else 0


if __name__ == '__main__':
    sys.exit(main())
