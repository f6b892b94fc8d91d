#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Disks of guests for `make bench`: real files, and what a day does to them.

  dataset.py FOLDER [--disk-mib 4096] [--fill 55] [--source /usr] [--seed 1]

makes in FOLDER, raw and sparse, each an ext4 file system (no mounts, no root):

  base.raw     whole directories of the source in a random order, a "database"
               (a tenth of the fill) and logs, about FILL per cent in all
  day2.raw     base a day later: pages of 4 KiB rewritten in the database (0.5 %
               of the fill) and in random files (0.5 %), files replaced as
               package updates do (1 %), new files (1 %), files deleted (0.5 %),
               logs that grew
  clone.raw    another guest from the same template: own names, keys, settings
               and logs, other pages of the database (0.25 %), new files (0.5 %)
  sibling.raw  the same files, installed in another order

and manifest.json: the parameters, and of each disk how much is in it and how
much of that base has not, by chunks of 64 KiB.  The same files, parameters
and seed make the same bytes.  What is there already is left alone.
"""
import argparse
import base64
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import uuid

BLOCK = 4096
CHUNK = 65536
MIB = 1 << 20
FILE_MAX = 64 * MIB
PLAIN = re.compile(r"[A-Za-z0-9/._+@:%,=-]+")  # needs no quoting in debugfs
EXTENT = re.compile(r"\s*(\d+)/\s*(\d+)\s+\d+/\s*\d+\s+"
                    r"(\d+) -\s+(\d+)\s+(\d+) -\s+\d+")


def die(*words):
    sys.exit("dataset.py: " + " ".join(str(w) for w in words))


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode:
        die(*command[:2], "failed:", (done.stdout + done.stderr)[-500:])
    return done.stdout


class Debugfs:
    """One run of debugfs on a disk; whatever it complains of is an error."""

    def __init__(self, maker, name):
        self.name = name
        self.errors = open(os.path.join(maker.stage, "errors"), "w+")
        self.it = subprocess.Popen(
            ["stdbuf", "-oL", "debugfs", "-w", maker.path(name)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
            env=maker.env)
        self.said = []

    def do(self, commands):
        """The first free block, after some commands (few: pipes fill); what
        they say is in .said."""
        self.said = []
        self.it.stdin.write("\n".join(commands + ["ffb 1"]) + "\n")
        self.it.stdin.flush()
        for line in self.it.stdout:
            _, found, block = line.partition("Free blocks found:")
            if found:
                return int(block)
            self.said.append(line)
        return self.end([])

    def end(self, commands):
        for i in range(0, len(commands), 32):
            self.do(commands[i:i + 32])
        self.it.stdin.close()
        self.it.stdout.read()
        self.errors.seek(0)
        said = [x for x in self.errors.read().split("\n")
                if x and not x.startswith("debugfs 1.")]
        if self.it.wait() or said:
            die("debugfs of", self.name, "failed:", *said[:3])
        self.errors.close()


class Maker:
    def __init__(self, folder, options):
        self.folder = folder
        self.stage = os.path.join(folder, "stage")
        self.options = options
        self.fill = options.disk_mib * MIB * options.fill // 100
        self.log = self.fill // 500
        self.env = dict(os.environ, E2FSPROGS_FAKE_TIME="1700000000",
                        LC_ALL="C", SS_READLINE_PATH="none")  # it is slow

    def rng(self, label):
        return random.Random("%d:%s" % (self.options.seed, label))

    def text(self, label, n):
        """N bytes of letters: 6 bits of entropy each."""
        return base64.b64encode(self.rng(label).randbytes(n * 3 // 4 + 3))[:n]

    def path(self, name):
        return os.path.join(self.folder, name + ".raw")

    # --- what the guests are made of

    def directories(self):
        """The source's directories with their files, each file once."""
        top = os.path.abspath(self.options.source)
        device = os.stat(top).st_dev
        seen, out = set(), []
        for where, folders, names in os.walk(top):
            folders.sort()
            folders[:] = [f for f in folders if os.lstat(
                os.path.join(where, f)).st_dev == device]
            files = []
            for name in sorted(names):
                path = os.path.join(where, name)
                st = os.lstat(path)
                if (not os.path.isfile(path) or os.path.islink(path)
                        or not PLAIN.fullmatch(path) or st.st_ino in seen
                        or not 0 < st.st_size <= FILE_MAX
                        or not os.access(path, os.R_OK)):
                    continue
                seen.add(st.st_ino)
                files.append((path, st.st_size))
            if files:
                out.append(files)
        self.rng("order").shuffle(out)
        return out

    def plan(self):
        """Directories of base, and files that come later."""
        want = self.fill - self.fill // 10 - 4 * self.log
        self.base, self.rest, total = [], [], 0
        for files in self.directories():
            take = self.some(files, want - total)
            if take and total < want - MIB:
                self.base.append(take)
                total += sum(blocks(f[1]) * BLOCK for f in take)
            else:
                self.rest += files
        if total < want // 2:
            die(self.options.source, "holds only", total >> 20,
                "MiB: use a smaller disk (DISK_MIB) or another SOURCE")
        if total < want * 95 // 100:
            print("# %s holds only %d MiB of the %d wanted: the disks are "
                  "that much emptier" % (self.options.source, total >> 20,
                                         want >> 20))

    # --- file systems

    def mkfs(self, name):
        path, ident = self.path(name), str(uuid.UUID(
            bytes=self.rng("uuid " + name).randbytes(16), version=4))
        with open(path, "wb") as f:
            f.truncate(self.options.disk_mib * MIB)
        run("mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-U", ident,
            "-L", "root", "-E", "lazy_itable_init=1,lazy_journal_init=1,"
            "nodiscard,hash_seed=" + ident, path, env=self.env)

    def staged(self, name, data):
        """A file of the stage with that content, for debugfs to take in."""
        path = os.path.join(self.stage, name)
        with open(path, "wb") as f:
            f.write(data)
        return path

    @staticmethod
    def installed(commands, made, files):
        """Adds what copies these files, and makes folders they need."""
        for path, _ in files:
            folder = os.path.dirname(path)
            for i in range(1, folder.count("/") + 1):
                part = "/".join(folder.split("/")[:i + 1])
                if part not in made:
                    made.add(part)
                    commands.append("mkdir " + part)
            commands.append("cd " + folder)
            commands.append("write %s %s" % (path, os.path.basename(path)))
        commands.append("cd /")

    def identity(self, name, again):
        """What tells one guest from another: small files."""
        files = {"hostname": name.encode() + b"\n",
                 "machine-id": self.rng("id " + name).randbytes(16).hex()
                 .encode()}
        for key in ("rsa", "ecdsa", "ed25519"):
            files["key." + key] = self.text("key " + name + key, 2048)
        for i in range(40):
            files["conf.%d" % i] = self.text("conf %s %d" % (name, i), 3000)
        return self.replaced("/guest", files, again)

    def logs(self, label, nbytes, again):
        return self.replaced("/log", {
            "app.%d.log" % i: self.text("log%d %s" % (i, label), nbytes)
            for i in range(4)}, again)

    def replaced(self, folder, files, again):
        out = ["cd " + folder]
        for name, data in files.items():
            staged = self.staged("new." + name, data)
            out += ["rm " + name] * again + ["write %s %s" % (staged, name)]
        return out + ["cd /"]

    # --- what a guest writes

    def extents(self, name, paths):
        """Of each path: [(first page of the file, pages, block)]."""
        out, disk = {}, Debugfs(self, name)
        for path in paths:
            disk.do(["dump_extents -l " + path])
            found = [list(map(int, m.groups())) for m in map(
                EXTENT.match, disk.said) if m]
            # An entry of an inner node is no extent.
            out[path] = [(first, last - first + 1, block) for
                         level, depth, first, last, block in found
                         if level == depth]
        disk.end([])
        return out

    def scatter(self, name, label, files, n):
        """Rewrites N pages, anywhere in these files, where they are."""
        rng = self.rng(label)
        files = [f for f in files if f[1] >= BLOCK]
        chosen = rng.choices(files, [f[1] // BLOCK for f in files], k=n)
        where = self.extents(name, sorted({f[0] for f in chosen}))
        with open(self.path(name), "r+b") as disk:
            for path, size in chosen:
                page = rng.randrange(size // BLOCK)
                for first, count, block in where[path]:
                    if first <= page < first + count:
                        disk.seek((block + page - first) * BLOCK)
                        disk.write(base64.b64encode(
                            rng.randbytes(BLOCK * 3 // 4)))

    def updates(self, label, files, nbytes):
        """Files replaced by ones that are a little longer, and edited."""
        rng, out, done = self.rng(label), [], 0
        for i, (path, size) in enumerate(rng.sample(files, len(files))):
            if done >= nbytes:
                break
            if size > max(nbytes // 4, MIB) or size < 64:
                continue
            with open(path, "rb") as f:
                data = bytearray(f.read())
            at = rng.randrange(len(data))
            data[at:at] = b"x" * rng.randint(1, 32)
            for _ in range(len(data) // 8192 + 1):
                at = rng.randrange(len(data) - 4)
                data[at:at + 4] = rng.randbytes(4)
            staged = self.staged("update.%d" % i, data)
            out += ["write %s %s.new" % (staged, path), "rm " + path,
                    "ln %s.new %s" % (path, path), "unlink %s.new" % path]
            done += len(data)
        return out

    @staticmethod
    def some(files, nbytes):
        """The first of them that add up to so much."""
        out, total = [], 0
        for f in files:
            size = blocks(f[1]) * BLOCK
            if total + size <= nbytes:
                out.append(f)
                total += size
        return out

    # --- the disks

    def install(self, name, directories):
        """A fresh file system with these files.  A kernel lays out large files
        from round blocks on, so that copies of a file are alike by chunks too,
        wherever they are; debugfs takes the first free block, so that what is
        before a round one is filled with something to be removed again."""
        self.mkfs(name)
        disk, self.made = Debugfs(self, name), set()
        fillers = []
        for f in (f for d in directories for f in d):
            commands = []
            self.installed(commands, self.made, [f])
            *before, write, home = commands
            if f[1] < CHUNK:
                disk.do(commands)
                continue
            n = -disk.do(before) * BLOCK % CHUNK
            if n:
                filler = "/lost+found/%d" % len(fillers)
                fillers.append("rm " + filler)
                disk.do(["write %s %s" % (self.staged("filler", self.text(
                    name + filler, n)), filler)])
            disk.do([write, home])
        data = self.text("database", self.fill // 10)
        commands = ["mkdir /guest", "mkdir /log", "mkdir /db",
                     "write %s /db/data" % self.staged("db", data)]
        self.database = [("/db/data", len(data))]
        commands += self.identity(name, False) + self.logs("", self.log, False)
        disk.end(commands + fillers)

    def make_base(self):
        self.install("base", self.base)

    def make_sibling(self):
        order = list(self.base)
        self.rng("sibling").shuffle(order)
        self.install("sibling", order)

    def copy(self, name):
        run("cp", "--sparse=always", self.path("base"), self.path(name))

    def make_day2(self):
        self.copy("day2")
        files = [f for d in self.base for f in d]
        self.rng("day2 files").shuffle(files)
        gone = self.some(files[:len(files) // 4], self.fill // 200)
        left = files[len(files) // 4:]
        pages = self.fill // 200 // BLOCK
        self.scatter("day2", "day2 database", self.database, pages)
        self.scatter("day2", "day2 pages", left, pages)
        commands = self.updates("day2 updates", left, self.fill // 100)
        self.installed(commands, set(self.made),
                       self.some(self.rest, self.fill // 100))
        commands += self.logs("", self.log * 3 // 2, True)
        commands += ["rm " + f[0] for f in gone]
        Debugfs(self, "day2").end(commands)

    def make_clone(self):
        self.copy("clone")
        self.scatter("clone", "clone database", self.database,
                     self.fill // 400 // BLOCK)
        commands = self.identity("clone", True)
        commands += self.logs("clone", self.log, True)
        self.installed(commands, set(self.made),
                       self.some(self.rest[::-1], self.fill // 200))
        Debugfs(self, "clone").end(commands)

    def make(self):
        os.makedirs(self.stage)
        self.plan()
        facts, have = {}, {}
        for name in ("base", "day2", "clone", "sibling"):
            getattr(self, "make_" + name)()
            run("e2fsck", "-f", "-n", self.path(name), env=self.env)
            total, new = 0, {}
            for data in used(self.path(name)):
                total += len(data)
                ident = hashlib.sha256(data).digest()
                if ident not in have:
                    new[ident] = len(data)
            have = have or new
            facts[name] = {"size": self.options.disk_mib * MIB,
                           "used": total, "new": sum(new.values())}
            print("# %-8s %5d MiB used, %5d MiB of chunks that %s" % (
                name, total >> 20, facts[name]["new"] >> 20, "differ"
                if name == "base" else "base lacks"), flush=True)
        shutil.rmtree(self.stage)
        return facts


def blocks(nbytes):
    return (nbytes + BLOCK - 1) // BLOCK


def used(path):
    """The chunks of a file that are not zero, one after the other."""
    zero = bytes(CHUNK)
    with open(path, "rb", buffering=0) as f:
        at, size = 0, os.fstat(f.fileno()).st_size
        while at < size:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA) // CHUNK * CHUNK
            except OSError:  # only a hole is left
                return
            end = os.lseek(f.fileno(), at + CHUNK - 1, os.SEEK_HOLE)
            while at < end:
                data = os.pread(f.fileno(), CHUNK, at)
                at += CHUNK
                if data != zero[:len(data)]:
                    yield data


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("folder")
    p.add_argument("--disk-mib", type=int, default=4096)
    p.add_argument("--fill", type=int, default=55)
    p.add_argument("--source", default="/usr")
    p.add_argument("--seed", type=int, default=1)
    options = p.parse_args()
    with open(__file__, "rb") as f:
        script = hashlib.sha256(f.read()).hexdigest()
    key = {"disk_mib": options.disk_mib, "fill": options.fill, "script": script,
           "source": options.source, "seed": options.seed}
    manifest = os.path.join(options.folder, "manifest.json")
    if os.path.exists(manifest):
        with open(manifest) as f:
            if json.load(f)["parameters"] == key:
                return
    shutil.rmtree(options.folder, ignore_errors=True)
    os.makedirs(options.folder)
    facts = Maker(options.folder, options).make()
    with open(manifest + ".new", "w") as f:
        json.dump({"parameters": key, "disks": facts}, f, indent=1)
    os.rename(manifest + ".new", manifest)


main()
