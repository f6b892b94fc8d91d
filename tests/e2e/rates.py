# SPDX-License-Identifier: Apache-2.0
"""What running jobs move while their limits change.

    rates.py BACKSTAY REPO PORT VM TARGET RATE:SECONDS...

VM is whose job counts, or "all".  TARGET is "all", "key NAME" or "job N": whose
rate is set, one RATE after the other (MiB a second); "-": none is.  Prints one JSON object: the time, the bytes that the rates
amount to in it, and the bytes that moved: "counted" by the daemon's counters,
"wire" by those of the kernel's TCP connections of PORT, and "jobs", by job.
"""
import json
import subprocess
import sys
import time

backstay, repo, port, vm, target, *plan = sys.argv[1:]


def console(*args):
    return subprocess.run([backstay, "-r", repo, *args], check=True,
                          capture_output=True, text=True).stdout


def between(call):
    """Its answer, and when that was: half-way."""
    begin = time.monotonic()
    answer = call()
    return answer, (begin + time.monotonic()) / 2


def counted():
    jobs = json.loads(console("jobs", "--json"))
    return {f"{j['vm']} ({j['job']})": sum(t["in"] + t["out"] for t in j["traffic"])
            for j in jobs
            if j["state"] == "running" and vm in ("all", j["vm"])}


def wire():
    """Bytes that each connection of the daemon has received and sent."""
    out = subprocess.run(
        ["ss", "-tinHO", "state", "established", "sport", "=", ":" + port],
        check=True, capture_output=True, text=True).stdout
    sums = {}
    for line in out.splitlines():
        words = line.split()
        n = sum(int(w.split(":")[1]) for w in words
                if w.startswith(("bytes_received:", "bytes_sent:")))
        sums[words[3]] = n
    return sums


def grown(before, after):
    return {k: after[k] - n for k, n in before.items() if k in after}


def set_rate(mib):
    if target == "-":
        return
    where = [] if target == "all" else \
        ["--" + target.split()[0], target.split()[1]]
    console("set", "bwlimit", mib + "M", *where)


want = 0.0
set_rate(plan[0].split(":")[0])
(wire0, wire_at0), (counted0, at0) = between(wire), between(counted)
since = at0
rate = 0.0
for i, step in enumerate(plan):
    mib, seconds = step.split(":")
    if i > 0:
        _, now = between(lambda: set_rate(mib))
        want += (now - since) * rate
        since = now
    rate = float(mib) * (1 << 20)
    time.sleep(max(0.0, since + float(seconds) - time.monotonic()))
(wire1, wire_at1), (counted1, at1) = between(wire), between(counted)
want += (at1 - since) * rate
jobs = grown(counted0, counted1)
total = sum(jobs.values())
moved = sum(grown(wire0, wire1).values())
seconds = at1 - at0
json.dump({
    "seconds": round(seconds, 2),
    "want": int(want),
    "counted": total,
    "counted_off_percent": round(100 * (total / want - 1), 2),
    # Of one job nobody can tell which connections are its own.
    "wire": moved,
    "wire_off_percent": 0 if vm != "all" else round(
        100 * (moved / (want * (wire_at1 - wire_at0) / seconds) - 1), 2),
    "jobs": jobs,
}, sys.stdout, indent=1)
print()
