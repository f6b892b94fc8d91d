#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measures one step of one tool, for speed.sh.

  measure.py --out FILE --tool NAME --step NAME --round N --stored FOLDER
             [--warm PATH]... [--daemon PID] [--stats] --log FILE -- COMMAND...

appends one line of JSON to the file: wall seconds until all that the command
wrote is on the disk (sync_s of it is what a sync took behind the command);
CPU seconds of the command with its children, and of the daemon meanwhile; the
peak resident set of the largest process of the command (never less than this
script's own, some 12 MiB), and the daemon's beside it; the bytes that the
folder then takes; with --stats the "stats" of the JSON that the command
printed.  Before the clock runs, what is to be read is in the page cache, and
what was written before is on the disk.
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import time

LIMIT_S = 1800
TICKS = os.sysconf("SC_CLK_TCK")


def used(path):
    """Bytes that a file or the files of a folder take on the volume."""
    total = os.lstat(path).st_blocks * 512
    for where, folders, files in os.walk(path):
        for name in folders + files:
            try:
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
            except FileNotFoundError:  # a daemon is at work there
                pass
    return total


def warm_file(path):
    buf = bytearray(1 << 20)
    with open(path, "rb", buffering=0) as f:
        at, size = 0, os.fstat(f.fileno()).st_size
        while at < size:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:  # only a hole is left
                return
            end = os.lseek(f.fileno(), at, os.SEEK_HOLE)
            os.lseek(f.fileno(), at, os.SEEK_SET)
            while at < end:
                n = f.readinto(buf)
                if not n:
                    return
                at += n


def warm(path):
    if os.path.isfile(path):
        warm_file(path)
    for where, _, files in os.walk(path):
        for name in files:
            file = os.path.join(where, name)
            if os.path.isfile(file):
                warm_file(file)


def sync(path):
    subprocess.run(["sync", "-f", path], check=True)


def daemon_cpu(pid):
    if pid is None:
        return 0.0
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def daemon_peak(pid):
    if pid is None:
        return 0
    with open("/proc/%d/status" % pid) as f:
        return next(int(x.split()[1]) * 1024 for x in f
                    if x.startswith("VmHWM:"))


def run(command, log):
    """(seconds of the clock, what it used); it must succeed in time."""
    with open(log, "w+b") as out, open(log + ".err", "w+b") as err:
        start = time.monotonic()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                 stdout=out, stderr=err)
        signal.signal(signal.SIGALRM, lambda *_: child.kill())
        signal.alarm(LIMIT_S)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.monotonic() - start
        signal.alarm(0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            out.seek(0)
            err.seek(0)
            tail = (out.read() + err.read())[-1000:]
            sys.exit("measure.py: %s ended with %d: %s" % (
                " ".join(command), child.returncode,
                tail.decode(errors="replace")))
    return wall, usage


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--out", required=True)
    p.add_argument("--tool", required=True)
    p.add_argument("--step", required=True)
    p.add_argument("--round", type=int, required=True)
    p.add_argument("--stored", required=True)
    p.add_argument("--warm", action="append", default=[])
    p.add_argument("--daemon", type=int)
    p.add_argument("--stats", action="store_true")
    p.add_argument("--log", required=True)
    p.add_argument("command", nargs="+")
    o = p.parse_args()
    for path in o.warm:
        warm(path)
    sync(o.stored)
    if o.daemon is not None:
        with open("/proc/%d/clear_refs" % o.daemon, "w") as f:
            f.write("5")  # its peak begins anew
    before = daemon_cpu(o.daemon)
    wall, usage = run(o.command, o.log)
    start = time.monotonic()
    sync(o.stored)
    synced = time.monotonic() - start
    cpu = usage.ru_utime + usage.ru_stime
    theirs = daemon_cpu(o.daemon) - before
    step = {"tool": o.tool, "step": o.step, "round": o.round,
            "wall_s": wall + synced, "sync_s": synced, "cpu_s": cpu + theirs,
            "daemon_cpu_s": theirs, "rss": usage.ru_maxrss * 1024,
            "daemon_rss": daemon_peak(o.daemon), "stored": used(o.stored)}
    if o.stats:
        with open(o.log) as f:
            step["stats"] = json.load(f)["stats"]
    with open(o.out, "a") as f:
        f.write(json.dumps(step) + "\n")


main()
