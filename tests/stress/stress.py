#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Everything at once, at random, against an oracle.

Goal: whatever backs up, restores, deletes and reclaims at the same time, and
whoever is killed meanwhile, every backup that was committed and not deleted
restores byte for byte, every deleted one is gone, the counts are right, and
the space used is what the survivors need.

Eight hosts with a key and a VM each work at random; their images change
between backups only, so what a backup must hold is known when it begins.  The
daemon is killed, stopped, started and its reclaiming paused.  At quiet points
all is compared.  A backup whose agent or daemon died may be there or not; if
it is there it must be right.

The choices of each host come from the seed; what meets what in time does not,
so a replay takes the same steps, and may need some runs to hit a race.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zlib

import images
from export import Export
from images import MIB

BIN = os.environ.get("BIN", "build/gcc")
SLICE = 65536
SLOWER = 4 if re.search(r"-(address|ub|thread|memory)", BIN) else 1
OP_SECONDS = 120 * SLOWER
# What a request may be answered while others have the VM.
LOCKED = re.compile(
    r"is being (backed up|restored|deleted|read|written|imported|verified|"
    r"pruned)|"
    r"no such backup|no backup|was deleted|has no backups|is not there")
COMPACT_PERCENT = 90


class Difference(Exception):
    """What must not be."""


class Stop(Exception):
    """The run is over."""


class Totals:
    def __init__(self):
        self.mu = threading.Lock()
        self.n = {}

    def add(self, what, n=1):
        with self.mu:
            self.n[what] = self.n.get(what, 0) + n

    def get(self, what):
        with self.mu:
            return self.n.get(what, 0)


class Fingerprint:
    """Of a disk's content: size, digest, and a CRC of each slice, which says
    where two differ."""

    def __init__(self, path):
        digest = hashlib.sha256()
        self.crcs = []
        self.size = 0
        with open(path, "rb", buffering=0) as f:
            while True:
                data = f.read(16 * SLICE)
                if not data:
                    break
                self.size += len(data)
                digest.update(data)
                for at in range(0, len(data), SLICE):
                    self.crcs.append(zlib.crc32(data[at:at + SLICE]))
        self.digest = digest.hexdigest()

    def same(self, other):
        return self.size == other.size and self.digest == other.digest

    def where(self, other):
        bad = [i for i, (a, b) in enumerate(zip(self.crcs, other.crcs))
               if a != b]
        return ("size %d instead of %d, %d of %d slices differ, first %s" %
                (other.size, self.size, len(bad), len(self.crcs), bad[:8]))


class Backup:
    """What one must hold.  State: live, doubtful (may be gone), gone."""

    def __init__(self, vm, name, disks):
        self.vm = vm
        self.name = name
        self.disks = disks
        self.state = "live"
        self.id = None  # once it was listed at a quiet point


class Oracle:
    """What the repository must hold."""

    def __init__(self):
        self.mu = threading.Lock()
        self.backups = {}  # by name
        self.candidates = {}  # by VM: disks of backups that may be there
        self.gone_ids = set()

    def committed(self, vm, name, disks):
        with self.mu:
            old = self.backups.get(name)
            if old is not None and old.state == "live":
                raise Difference("%s was committed twice" % name)
            self.backups[name] = Backup(vm, name, disks)

    def perhaps(self, vm, disks):
        with self.mu:
            self.candidates.setdefault(vm, []).append(disks)

    def live(self, vm=None):
        with self.mu:
            return sorted((b for b in self.backups.values()
                           if b.state == "live" and vm in (None, b.vm)),
                          key=lambda b: b.name)


class World:
    def __init__(self, args):
        self.args = args
        self.seed = args.seed
        self.rng = random.Random("%s chaos" % args.seed)
        self.totals = Totals()
        self.oracle = Oracle()
        self.dir = tempfile.mkdtemp(prefix="stress.")
        self.repo = os.path.join(self.dir, "repo")
        self.log = open(os.path.join(self.dir, "ops.log"), "w", buffering=1)
        self.began = time.monotonic()
        self.mu = threading.Lock()
        self.children = set()
        self.failure = None
        self.stopping = threading.Event()
        self.export = None  # the packs', if they lie on one
        # The daemon.
        self.daemon = None
        self.daemon_starts = 0
        self.up = False  # ready; false before it is disturbed
        self.disturbed = 0  # counts up with each stop and each start
        self.url = None
        # Quiet points: hosts park while it is set.
        self.quiet = threading.Event()
        self.parked = threading.Semaphore(0)
        self.go = threading.Condition()

    # --- what is written down

    def note(self, text):
        self.log.write("%9.3f %s\n" % (time.monotonic() - self.began, text))

    def fail(self, text):
        with self.mu:
            first = self.failure is None
            if first:
                self.failure = text
        if first:
            self.totals.add("differences")
            print("DIFFERENCE: %s" % text, flush=True)
        self.note("DIFFERENCE: %s" % text)
        self.stopping.set()

    # --- processes

    def popen(self, argv, **more):
        with self.mu:
            p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, **more)
            self.children.add(p)
        return p

    def reap(self, p):
        with self.mu:
            self.children.discard(p)

    def run(self, argv, env=None, kill=None, seconds=OP_SECONDS):
        """-> (status, stdout, stderr).  kill: (after seconds, signal)."""
        p = self.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       env=env, text=True, errors="replace")
        try:
            try:
                out, err = p.communicate(timeout=kill[0] if kill else seconds)
            except subprocess.TimeoutExpired:
                p.send_signal(kill[1] if kill else signal.SIGABRT)
                if not kill:
                    self.fail("does not end within %d s: %s" %
                              (seconds, " ".join(argv)))
                try:
                    out, err = p.communicate(timeout=30 * SLOWER)
                except subprocess.TimeoutExpired:
                    p.kill()
                    p.communicate()
                    raise Difference("does not end at signal %d: %s" %
                                     (kill[1] if kill else 6, " ".join(argv)))
        finally:
            self.reap(p)
        if re.search(r"Sanitizer|runtime error|Assertion|stack smashing", err):
            raise Difference("%s: %s" % (" ".join(argv), err))
        if p.returncode < 0 and not kill:
            raise Difference("%s: signal %d: %s" %
                             (" ".join(argv), -p.returncode, err))
        return p.returncode, out, err

    def console(self, *argv, seconds=OP_SECONDS):
        return self.run([BIN + "/backstay", "-r", self.repo] + list(argv),
                        seconds=seconds)

    def must(self, *argv, seconds=OP_SECONDS):
        status, out, err = self.console(*argv, seconds=seconds)
        if status != 0:
            raise Difference("backstay %s: status %d: %s%s" %
                             (" ".join(argv), status, out[-2000:], err))
        return out

    # --- the daemon

    def log_path(self):
        return os.path.join(self.dir, "daemon.%d.log" % self.daemon_starts)

    def start(self, percent=None):
        port = 0
        if self.url is not None:
            port = int(self.url.rsplit(":", 1)[1])
        self.daemon_starts += 1
        argv = [BIN + "/backstayd", self.repo,
                "--listen", "127.0.0.1:%d" % port,
                "--pack-limit", self.rng.choice(["2M", "4M", "8M"]),
                "--live-percent",
                str(percent or self.rng.choice([30, 50, 75, 90])),
                "--checkpoint", self.rng.choice(["1", "3", "60"])]
        with open(self.log_path(), "w") as log:
            self.daemon = self.popen(argv, stdout=log, stderr=log)
        until = time.monotonic() + 30 * SLOWER
        while ": ready: " not in open(self.log_path()).read():
            if self.daemon.poll() is not None or time.monotonic() > until:
                raise Difference("the daemon does not start: %s" %
                                 open(self.log_path()).read()[-2000:])
            time.sleep(0.02)
        with open(os.path.join(self.repo, "port")) as f:
            self.url = "ssh://127.0.0.1:" + f.read().strip()
        self.disturbed += 1
        self.up = True

    def end_daemon(self, sig):
        self.up = False
        self.disturbed += 1
        if self.daemon.poll() is not None:
            raise Difference("the daemon has ended by itself: %d: %s" % (
                self.daemon.returncode,
                open(self.log_path()).read()[-2000:]))
        self.daemon.send_signal(sig)
        try:
            status = self.daemon.wait(timeout=15 * SLOWER)
        except subprocess.TimeoutExpired:
            self.daemon.send_signal(signal.SIGABRT)
            raise Difference("the daemon does not end at signal %d" % sig)
        self.reap(self.daemon)
        text = open(self.log_path()).read()
        if re.search("Sanitizer|runtime error|Assertion|stack smashing", text):
            raise Difference("the daemon's log: %s" % text[-4000:])
        if sig == signal.SIGTERM and status != 0:
            raise Difference("the daemon ended with %d: %s" %
                             (status, text[-2000:]))

    # --- looking

    def listing(self):
        return {b["vm"] + "@" + b["time"]: b
                for b in json.loads(self.must("list", "--json"))}

    def status(self):
        return json.loads(self.must("status", "--json"))


class Host(threading.Thread):
    """A KVM host with one VM: an endless row of random operations."""

    def __init__(self, world, number):
        super().__init__(name="host%d" % number)
        self.w = world
        self.number = number
        self.rng = random.Random("%s host %d" % (world.seed, number))
        self.vm = "vm%d" % number
        self.agent_dir = os.path.join(world.dir, "agent%d" % number)
        self.disks = images.make(os.path.join(world.dir, "images"), self.vm,
                                 number, self.rng, world.args.max_mib)
        self.nth = 0

    def env(self):
        return dict(os.environ, BACKSTAY_AGENT_DIR=self.agent_dir,
                    BACKSTAY_AGENT_REPO=self.w.url)

    def agent(self, *argv, kill=None):
        return self.w.run([BIN + "/backstay-agent"] + list(argv),
                          env=self.env(), kill=kill)

    def enroll(self):
        status, out, err = self.agent("keygen", "--comment", self.name)
        if status != 0:
            raise Difference("keygen: %s" % err)
        pub = os.path.join(self.w.dir, self.name + ".pub")
        with open(pub, "w") as f:
            f.write(out)
        self.w.must("key", "add", self.name, pub, "--role", "backup",
                    "--role", "restore", "--role", "delete")
        status, out, err = self.agent("enroll", self.w.url)
        if status != 0:
            raise Difference("enroll: %s" % err)

    # A run of something that others may disturb: its status, and whether it
    # may have failed.
    def attempt(self, what, run):
        before = self.w.disturbed
        up = self.w.up
        status, out, err = run()
        excused = not up or self.w.disturbed != before
        if status != 0 and not excused and LOCKED.search(err):
            self.w.totals.add("refusals")
            excused = True
        self.w.note("%s %s: %d%s %s" % (self.name, what, status,
                                        " (excused)" if excused else "",
                                        err.strip()[-300:]))
        if status == 3:
            raise Difference("%s: damage: %s" % (what, err))
        return status, out, err, excused

    def maybe_kill(self, chance, most):
        if self.rng.random() >= chance:
            return None
        self.w.totals.add("agents killed")
        return (self.rng.uniform(0.02, most) * SLOWER,
                self.rng.choice([signal.SIGKILL] * 3 + [signal.SIGTERM]))

    def backup(self):
        if self.rng.random() < 0.9:
            for disk in self.disks:
                disk.mutate(self.rng, self.w.hosts_disks)
        disks = {d.name: Fingerprint(d.raw) for d in self.disks}
        argv = ["backup", "-q", "--json", self.vm,
                "--lanes", str(self.rng.randint(1, 4)),
                "--compression", self.rng.choice(["0", "1", "1", "3"])]
        if self.rng.random() < 0.1:
            argv.append("--full")
        kill = self.maybe_kill(0.2, 1.5)
        if kill or self.rng.random() < 0.1:
            argv += ["--bwlimit", self.rng.choice(["8M", "24M", "80M"])]
        for d in self.disks:
            argv += ["--disk", "%s=%s" % (d.name, d.source(self.rng,
                                                           self.w.run))]
        what = "backup %s" % self.vm
        status, out, err, excused = self.attempt(
            what, lambda: self.agent(*argv, kill=kill))
        self.w.totals.add("backups tried")
        if status == 0:
            name = json.loads(out)["backup"]
            self.w.note("%s is %s" % (what, name))
            self.w.oracle.committed(self.vm, name, disks)
            self.w.totals.add("backups")
            self.w.totals.add("bytes backed up",
                              sum(d.size for d in disks.values()))
            return
        self.w.oracle.perhaps(self.vm, disks)
        if not excused and not kill:
            raise Difference("%s failed by itself: %d: %s" %
                             (what, status, err))

    def restore(self):
        vm = self.vm
        if self.rng.random() < 0.15:
            vm = "vm%d" % self.rng.randint(1, self.w.args.hosts)
        live = self.w.oracle.live(vm)
        if not live:
            return
        b = self.rng.choice(live)
        self.w.restore_and_compare(self, b, self.rng,
                                   self.maybe_kill(0.1, 0.8))

    def delete(self, n):
        live = self.w.oracle.live(self.vm)
        if not live:
            return
        gone = self.rng.sample(live, min(n, len(live)))
        names = [b.name for b in gone]
        by_agent = self.rng.random() < 0.5
        kill = self.maybe_kill(0.1, 0.2) if by_agent else None
        with self.w.oracle.mu:
            for b in gone:
                b.state = "doubtful"
        if by_agent:
            run = lambda: self.agent("delete", *names, kill=kill)
        else:
            run = lambda: self.w.console("delete", *names)
        status, out, err, excused = self.attempt(
            "delete %s" % " ".join(names), run)
        if status == 0:
            with self.w.oracle.mu:
                for b in gone:
                    b.state = "gone"
            self.w.totals.add("deletes", len(gone))
            if len(gone) > 1:
                self.w.totals.add("prunes")
        elif not excused and not kill:
            raise Difference("delete %s failed by itself: %d: %s" %
                             (" ".join(names), status, err))

    def look(self):
        before = [b.name for b in self.w.oracle.live(self.vm)]
        status, out, err, excused = self.attempt(
            "list", lambda: self.agent("list", "--json", self.vm))
        if status != 0:
            if not excused:
                raise Difference("list failed by itself: %s" % err)
            return
        there = json.loads(out)
        if isinstance(there, dict):
            there = there["backups"]
        there = {b["vm"] + "@" + b["time"] for b in there}
        for name in before:
            # Only this host deletes them.
            if name not in there:
                raise Difference("%s is lost" % name)
        self.w.totals.add("listings")

    def step(self):
        self.nth += 1
        n = len(self.w.oracle.live(self.vm))
        what = self.rng.choices(
            ["backup", "restore", "delete", "prune", "look"],
            [10, 3, 3, 1.5, 0.5])[0]
        if n > self.w.args.keep:
            what = self.rng.choice(["delete", "prune"])
        self.w.totals.add("operations")
        if what == "backup":
            self.backup()
        elif what == "restore":
            self.restore()
        elif what == "delete":
            self.delete(1)
        elif what == "prune":
            self.delete(self.rng.randint(2, 4))
        else:
            self.look()

    def run(self):
        try:
            while not self.w.stopping.is_set():
                if self.w.quiet.is_set():
                    self.w.parked.release()
                    with self.w.go:
                        while self.w.quiet.is_set():
                            self.w.go.wait(1)
                    continue
                self.step()
        except Difference as e:
            self.w.fail("%s, operation %d: %s" % (self.name, self.nth, e))
        except Exception:
            self.w.fail("%s: %s" % (self.name, traceback.format_exc()))
        self.w.parked.release()


class Run(World):
    def fetch(self, host, b, rng, kill=None):
        """-> (status, err, excused, {disk: Fingerprint})"""
        fmt = rng.choice(["raw", "raw", "qcow2"])
        out = tempfile.mkdtemp(prefix="r.", dir=self.dir)
        try:
            argv = ["restore", "-q", b.name, "--lanes",
                    str(rng.randint(1, 4))]
            for d in b.disks:
                argv += ["--disk", "%s=%s:%s/%s" % (d, fmt, out, d)]
            status, _, err, excused = host.attempt(
                "restore %s" % b.name, lambda: host.agent(*argv, kill=kill))
            got = {}
            if status == 0:
                for d in b.disks:
                    path = os.path.join(out, d)
                    if fmt == "qcow2":
                        images.to_raw(self.run, path)
                    got[d] = Fingerprint(path)
            return status, err, excused, got
        finally:
            shutil.rmtree(out)

    def restore_and_compare(self, host, b, rng, kill=None):
        status, err, excused, got = self.fetch(host, b, rng, kill)
        if status != 0:
            if not excused and not kill and b.state == "live":
                raise Difference("restore %s failed by itself: %d: %s" %
                                 (b.name, status, err))
            return False
        for d, was in b.disks.items():
            if not was.same(got[d]):
                raise Difference("%s is not what %s was: %s" % (
                    b.name, d, was.where(got[d])))
            self.totals.add("bytes restored", was.size)
        self.totals.add("restores")
        return True

    # --- disturbing

    def disturb(self):
        what = self.rng.choices(["kill", "term", "pause", "resume", "wait",
                                 "server"],
                                [4, 2, 2, 3, 1, 4 if self.export else 0])[0]
        self.note("chaos: %s" % what)
        if what in ("kill", "term"):
            self.end_daemon(signal.SIGKILL if what == "kill"
                            else signal.SIGTERM)
            self.totals.add("daemon killed" if what == "kill"
                            else "daemon stopped")
            time.sleep(self.rng.choice([0, 0, 0.3]))
            self.start()
        elif what == "server":
            # Everybody waits for it, and nothing fails.
            self.export.kill()
            time.sleep(self.rng.choice([0, 0.3, 1]))
            self.export.start()
            self.totals.add("server killed")
        elif what in ("pause", "resume"):
            self.must("gc", what)
            self.totals.add("pauses" if what == "pause" else "resumes")
        else:
            # Beside all the others it may take longer than that.
            self.must("gc", "resume")
            status, _, err = self.console("gc", "--wait=5")
            if status != 0 and "not ended" not in err:
                raise Difference("gc --wait: %s" % err)
            self.totals.add("waits")

    def quiet_in(self, seconds):
        """Disturbs until then, then until all hosts are parked."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.stopping.is_set():
            self.stopping.wait(min(self.rng.uniform(0.5, 8),
                                   max(0, until - time.monotonic())))
            if not self.stopping.is_set() and time.monotonic() < until:
                self.disturb()
        self.quiet.set()
        for _ in self.hosts:
            if not self.parked.acquire(timeout=4 * OP_SECONDS):
                raise Difference("a host does not come to rest")
        if self.stopping.is_set():
            raise Stop()

    # --- comparing

    def wait_for_jobs(self):
        until = time.monotonic() + 60 * SLOWER
        while True:
            jobs = [j for j in json.loads(self.must("jobs", "--json"))
                    if j["state"] == "running"]
            if not jobs:
                return
            if time.monotonic() > until:
                raise Difference("jobs of the dead do not end: %s" % jobs)
            time.sleep(0.1)

    def settle_doubts(self):
        """What is listed must be known, and what is known be listed."""
        there = self.listing()
        with self.oracle.mu:
            known = dict(self.oracle.backups)
        for name, b in known.items():
            if b.state == "live" and name not in there:
                raise Difference("%s is lost" % name)
            if b.state == "doubtful" and name in there:
                # It, or a new one that has its name.
                self.oracle.perhaps(b.vm, b.disks)
            elif b.state != "live" and b.id is not None:
                self.oracle.gone_ids.add(b.id)
            if b.state != "live":
                b.state = "gone"
        for name in sorted(there):
            b = known.get(name)
            if there[name]["id"] in self.oracle.gone_ids:
                raise Difference("%s is back" % name)
            # The name of a deleted backup may be given again.
            if b is None or b.state == "gone":
                self.adopt(name, there[name]["vm"])
            self.oracle.backups[name].id = there[name]["id"]
        with self.oracle.mu:
            self.oracle.candidates = {}
            self.oracle.backups = {
                name: b for name, b in self.oracle.backups.items()
                if b.state == "live"}

    def adopt(self, name, vm):
        """Nobody was told of it: it must be one of those that were cut
        short after their commit."""
        host = self.hosts[int(vm[2:]) - 1]
        candidates = self.oracle.candidates.get(vm, [])
        if not candidates:
            raise Difference("%s came from nowhere, or is back" % name)
        probe = Backup(vm, name, candidates[0])
        status, err, _, got = self.fetch(host, probe, self.rng)
        if status != 0:
            raise Difference("%s, never reported: %s" % (name, err))
        for disks in candidates:
            if all(disks[d].same(got[d]) for d in disks):
                candidates.remove(disks)
                self.oracle.committed(vm, name, disks)
                self.totals.add("settled")
                return
        raise Difference("%s, never reported, is nothing that was begun: %s" %
                         (name, candidates[-1]["vda"].where(got["vda"])))

    def check_all(self):
        """Every survivor restores."""
        live = self.oracle.live()
        seeds = [self.rng.random() for _ in live]

        def one(i):
            host = self.hosts[i % len(self.hosts)]
            if not self.restore_and_compare(host, live[i],
                                            random.Random(seeds[i])):
                raise Difference("%s does not restore" % live[i].name)
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            list(pool.map(one, range(len(live))))
        return len(live)

    def packs_bytes(self):
        total = 0
        for root, _, files in os.walk(os.path.join(self.repo, "packs")):
            for f in files:
                total += os.stat(os.path.join(root, f)).st_blocks * 512
        return total

    def check_space(self):
        """All packs are sealed but what the reclaimer wrote since."""
        self.must("gc", "--wait")
        st = self.status()
        live, stored = st["live"], st["stored"]
        bound = live * 100 // COMPACT_PERCENT + 8 * MIB + 4 * MIB
        self.note("space: live %d stored %d du %d bound %d" %
                  (live, stored, self.packs_bytes(), bound))
        if stored > bound:
            raise Difference("%d bytes stored for %d that live" %
                             (stored, live))
        # Reserved ahead of the ends of open packs.
        if self.packs_bytes() > bound + 24 * MIB:
            raise Difference("packs take %d bytes for %d that live" %
                             (self.packs_bytes(), live))
        return live, stored

    def quiet_point(self):
        self.note("quiet point")
        self.must("gc", "resume")
        self.wait_for_jobs()
        self.must("gc", "--wait")
        self.settle_doubts()
        n = self.check_all()
        before = self.listing()
        self.end_daemon(signal.SIGTERM)
        self.must("fsck", "--data")
        if self.rng.random() < 0.34:
            shutil.rmtree(os.path.join(self.repo, "index"))
            self.must("fsck", "--rebuild-index")
            self.must("fsck")
            self.totals.add("rebuilds")
        self.start(percent=COMPACT_PERCENT)
        if sorted(self.listing()) != sorted(before):
            raise Difference("after a restart the list is another")
        live, stored = self.check_space()
        self.totals.add("quiet points")
        print("# %4d s: quiet: %d backups restored, live %.1f MiB, stored "
              "%.1f MiB; %d operations, %d kills" % (
                  time.monotonic() - self.began, n, live / MIB, stored / MIB,
                  self.totals.get("operations"),
                  self.totals.get("agents killed") +
                  self.totals.get("daemon killed")), flush=True)

    def resume(self):
        with self.go:
            self.quiet.clear()
            self.go.notify_all()

    # --- from beginning to end

    def main(self):
        os.makedirs(os.path.join(self.dir, "images"))
        init = [BIN + "/backstay", "init", self.repo]
        if os.environ.get("PACKS") == "nfs":
            self.export = Export(os.path.join(self.dir, "nfs"))
            self.export.start()
            url, where = self.export.packs()
            init += ["--packs", url]
        status, out, err = self.run(init)
        if status != 0:
            raise Difference("init: %s" % err)
        if self.export:
            os.symlink(where, os.path.join(self.repo, "packs"))
        self.start()
        self.hosts = [Host(self, i + 1) for i in range(self.args.hosts)]
        self.hosts_disks = [d for h in self.hosts for d in h.disks]
        for h in self.hosts:
            h.enroll()
        for h in self.hosts:
            h.start()
        end = self.began + self.args.duration
        every = min(60, max(10, self.args.duration / 4))
        while not self.stopping.is_set():
            self.quiet_in(min(every, max(1, end - time.monotonic())))
            self.quiet_point()
            if time.monotonic() >= end:
                break
            self.resume()

    def cleanup(self):
        self.stopping.set()
        self.resume()
        with self.mu:
            children = list(self.children)
        for p in children:
            if p.poll() is None:
                p.kill()
            p.wait()
        for h in getattr(self, "hosts", []):
            if h.is_alive():
                h.join(30)
        if self.export:
            self.export.end()

    def report(self):
        for what in ("operations", "backups tried", "backups", "settled",
                     "restores", "deletes", "prunes", "listings", "refusals",
                     "agents killed", "daemon killed", "daemon stopped",
                     "server killed", "pauses", "rebuilds", "quiet points", "bytes backed up",
                     "bytes restored", "differences"):
            print("%-16s %d" % (what, self.totals.get(what)))


def interrupted(sig, frame):
    raise KeyboardInterrupt()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--duration", type=int, default=600, help="seconds")
    p.add_argument("--seed", default=str(random.SystemRandom().getrandbits(32)))
    p.add_argument("--hosts", type=int, default=8)
    p.add_argument("--max-mib", type=int, default=None,
                   help="largest image (96; 32 for runs below two minutes)")
    p.add_argument("--keep", type=int, default=None,
                   help="backups a VM (6; 3 for runs below two minutes)")
    args = p.parse_args()
    short = args.duration < 120
    args.max_mib = args.max_mib or (32 if short else 96)
    args.keep = args.keep or (3 if short else 6)
    signal.signal(signal.SIGTERM, interrupted)
    print("# seed %s, %d s" % (args.seed, args.duration), flush=True)
    w = Run(args)
    try:
        w.main()
    except Stop:
        pass
    except Difference as e:
        w.fail(str(e))
    except KeyboardInterrupt:
        w.cleanup()
        shutil.rmtree(w.dir)
        return 130
    except Exception:
        w.fail(traceback.format_exc())
    w.cleanup()
    w.report()
    if w.failure is None:
        if os.environ.get("KEEP"):
            print("kept: %s" % w.dir)
        else:
            shutil.rmtree(w.dir)
        print("ok - %d operations, %d quiet points, 0 differences" % (
            w.totals.get("operations"), w.totals.get("quiet points")))
        return 0
    print("kept: %s (ops.log says what was done, daemon.*.log what the daemon "
          "said)" % w.dir)
    print("replay: make stress SEED=%s DURATION=%d" %
          (args.seed, args.duration))
    return 1


if __name__ == "__main__":
    sys.exit(main())
