# SPDX-License-Identifier: Apache-2.0
"""Disks of VMs, and what guests do to them."""

import ctypes
import os

MIB = 1 << 20
SLICE = 65536
PUNCH_HOLE_KEEP_SIZE = 3

libc = ctypes.CDLL(None, use_errno=True)


def punch(fd, at, n):
    """A discard; where the file system cannot, zeros."""
    if libc.fallocate(fd, PUNCH_HOLE_KEEP_SIZE, ctypes.c_long(at),
                      ctypes.c_long(n)) != 0:
        os.pwrite(fd, bytes(n), at)


def sparse_copy(source, target):
    """What is zero becomes a hole."""
    with open(source, "rb", buffering=0) as s, open(target, "wb") as t:
        while True:
            data = s.read(SLICE)
            if not data:
                break
            if data.count(0) == len(data):
                t.seek(len(data), 1)
            else:
                t.write(data)
        t.truncate(t.tell())


def to_raw(run, path):
    """A qcow2 image becomes a raw one."""
    for argv in (["qemu-img", "check", "-q", "-f", "qcow2", path],
                 ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", path,
                  path + ".raw"]):
        status, _, err = run(argv)
        if status != 0:
            raise RuntimeError("%s: %s" % (" ".join(argv), err))
    os.rename(path + ".raw", path)


class Disk:
    """A raw file is the truth; a qcow2 image is made of it to be backed up."""

    def __init__(self, path, name, qcow2, size, most):
        self.name = name
        self.raw = path + ".raw"
        self.old = path + ".old"
        self.image = path + ".qcow2" if qcow2 else None
        self.most = most
        self.twin = None  # the disk that this one is a clone of
        with open(self.raw, "wb") as f:
            f.truncate(size)

    def size(self):
        return os.path.getsize(self.raw)

    # --- what a guest does

    def data(self, rng, n):
        kind = rng.random()
        if kind < 0.5:
            return rng.randbytes(n)
        if kind < 0.8:  # packs well
            line = rng.randbytes(48) + bytes(80)
            return (line * (n // len(line) + 1))[:n]
        return bytes([rng.randrange(256)]) * n

    def place(self, rng, n):
        """Where n bytes fit: at a slice, at a page, or anywhere."""
        room = self.size() - n
        if room <= 0:
            return 0
        return rng.randrange(room + 1) // (a := rng.choice(
            [SLICE, SLICE, 4096, 4096, 512, 1])) * a

    def write(self, fd, rng):
        for _ in range(rng.randint(1, 40)):
            n = min(self.size(), rng.choice([512, 4096, 4096, 65536, 262144]))
            os.pwrite(fd, self.data(rng, n), self.place(rng, n))

    def write_much(self, fd, rng):
        n = min(self.size(), rng.randint(1, 8) * MIB)
        os.pwrite(fd, self.data(rng, n), self.place(rng, n))

    def discard(self, fd, rng):
        for _ in range(rng.randint(1, 6)):
            n = min(self.size(), rng.choice([4096, SLICE, MIB, 4 * MIB]))
            at = self.place(rng, n)
            if rng.random() < 0.5:
                punch(fd, at, n)
            else:
                os.pwrite(fd, bytes(n), at)

    def move(self, fd, rng):
        n = min(self.size(), rng.choice([SLICE, MIB, 4 * MIB]))
        data = os.pread(fd, n, self.place(rng, n))
        os.pwrite(fd, data, self.place(rng, len(data)))

    def borrow(self, fd, rng, disks):
        """Of another VM, which may be writing it: what is read counts."""
        other = rng.choice(disks)
        n = min(self.size(), rng.choice([SLICE, MIB, 8 * MIB]))
        with open(other.raw, "rb", buffering=0) as f:
            data = os.pread(f.fileno(), n, other.place(rng, n))
        if data:
            os.pwrite(fd, data, self.place(rng, len(data)))

    def grow(self, fd, rng):
        size = min(self.most, self.size() + rng.choice(
            [512, 4096, SLICE, MIB, 8 * MIB]))
        os.ftruncate(fd, max(size, self.size()))

    def shrink(self, fd, rng):
        os.ftruncate(fd, max(MIB, self.size() - rng.choice(
            [4096, SLICE, 4 * MIB])))

    def mutate(self, rng, disks):
        # Back to what it was: all of it may be dying, or gone.
        kind = rng.random()
        if kind < 0.08 and os.path.exists(self.old):
            sparse_copy(self.old, self.raw)
            return
        if kind < 0.16:
            sparse_copy(self.raw, self.old)
        if kind > 0.95 and self.twin is not None:
            sparse_copy(self.twin.raw, self.raw)
            return
        fd = os.open(self.raw, os.O_RDWR)
        try:
            for _ in range(rng.randint(1, 4)):
                what = rng.choices(
                    ["write", "much", "discard", "move", "borrow", "grow",
                     "shrink"], [8, 2, 3, 2, 3, 1, 0.5])[0]
                if what == "write":
                    self.write(fd, rng)
                elif what == "much":
                    self.write_much(fd, rng)
                elif what == "discard":
                    self.discard(fd, rng)
                elif what == "move":
                    self.move(fd, rng)
                elif what == "borrow":
                    self.borrow(fd, rng, disks)
                elif what == "grow":
                    self.grow(fd, rng)
                else:
                    self.shrink(fd, rng)
        finally:
            os.close(fd)

    # --- for the agent

    def source(self, rng, run):
        if self.image is None:
            return "raw:" + self.raw
        argv = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2"]
        compressed = rng.random() < 0.2
        if compressed:
            argv.append("-c")
        if not compressed or rng.random() < 0.5:
            argv += ["-o", "cluster_size=%d" % rng.choice(
                [4096, 16384, 65536, 65536, 1 << 20])]
        status, _, err = run(argv + [self.raw, self.image])
        if status != 0:
            raise RuntimeError("%s: %s" % (" ".join(argv), err))
        return "qcow2:" + self.image


# By path, of all VMs: the second is a clone of the first.
made = {}


def make(folder, vm, number, rng, most_mib):
    """The disks of a VM: some qcow2, some two."""
    disks = []
    names = ["vda", "vdb"] if number % 3 == 0 else ["vda"]
    for i, name in enumerate(names):
        most = most_mib * MIB // len(names)
        size = rng.randint(most // 4 // SLICE, most * 3 // 4 // SLICE) * SLICE
        d = Disk(os.path.join(folder, "%s-%s" % (vm, name)), name,
                 (number + i) % 2 == 0, max(size, 4 * MIB), most)
        fd = os.open(d.raw, os.O_RDWR)
        for _ in range(max(2, d.size() // (8 * MIB))):
            d.write_much(fd, rng)
        os.close(fd)
        disks.append(d)
    made[vm] = disks
    if number == 2 and "vm1" in made:
        disks[0].twin = made["vm1"][0]
        disks[0].most = made["vm1"][0].most
        sparse_copy(disks[0].twin.raw, disks[0].raw)
    return disks
