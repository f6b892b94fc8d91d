#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The tables of ram.sh.

    tests/bench/ram.py ROWS OUT.json KEY=VALUE...

ROWS has a line of JSON for each thing that was measured; prints medians, the
worst beside them where that matters, and what was promised.  Status 1: some of
that was missed.
"""
import json
import statistics
import sys

METHODS = {
    "reflink": "shared, files cloned", "copy": "shared, files copied",
    "snapshot": "snapshot", "mapped": "mapped", "stream": "stream",
}
PAUSE_MS, SECOND, BACK_S = 100, 0.25, 5.0
missed = []


def where(row):
    name = "QEMU " + row["qemu"]
    return name if row["manager"] == "none" else \
        "%s, %s" % (name, row["manager"])


def groups(rows, *keys):
    out = {}
    for r in rows:
        out.setdefault(tuple(r[k] for k in keys), []).append(r)
    return out


def median(rows, key):
    return statistics.median(r[key] for r in rows)


def target(ok, what):
    print(("ok: " if ok else "MISSED: ") + what)
    if not ok:
        missed.append(what)


def saves(rows, option):
    found, result = [r for r in rows if r["what"] == "save"], []
    well = {(where(r), r["method"]) for r in rows if r["what"] == "well"}
    back = groups([r for r in rows if r["what"] == "back"], "qemu",
                  "manager", "method")
    print("\nA. Saves of a running guest: memory in a file (shared) of %s MiB,"
          " %s touched; anonymous of %s, %s touched;" % (
              option["mib"], option["touched"], option["small"],
              option["small_touched"]))
    print("a quarter of the touched pages are zeros.  It goes on: from its "
          "tick, all its pages and both its disks as they were\n")
    print("%-22s %-21s %15s %15s %9s %9s %9s %8s  %s" % (
        "", "", "pause ms", "silent ms", "state", "first s", "later s",
        "later", "goes"))
    print("%-22s %-21s %15s %15s %9s %9s %9s %8s  %s" % (
        "", "method", "median, most", "median, most", "KiB", "", "", "MiB",
        "on"))
    for key, g in groups(found, "qemu", "manager", "method").items():
        later = [r for r in g if r["run"] > 0] or g
        pause = [r["pause_us"] / 1000 for r in g]
        silent = [r["silent_us"] / 1000 for r in g]
        on = (where(g[0]), key[2]) in well
        r = {"where": where(g[0]), "method": key[2],
             "memory": g[0]["memory"],
             "pause_ms": statistics.median(pause), "pause_most_ms":
             max(pause), "silent_ms": statistics.median(silent),
             "silent_most_ms": max(silent), "state": g[0]["state"] or None,
             "first_s": g[0]["ms"] / 1000,
             "later_s": median(later, "ms") / 1000,
             "later_stored": median(later, "stored"), "goes_on": on,
             "back_s": median(back[key], "ms") / 1000 if key in back
             else None}
        result.append(r)
        print("%-22s %-21s %7.0f %7.0f %7.0f %7.0f %9s %9.1f %9.1f %8.1f  %s"
              % (r["where"], METHODS[r["method"]], r["pause_ms"],
                 r["pause_most_ms"], r["silent_ms"], r["silent_most_ms"],
                 "%d" % (r["state"] / 1024) if r["state"] else "-",
                 r["first_s"], r["later_s"], r["later_stored"] / 2**20,
                 "yes" if on else "NO"))
    for r in rows:
        if r["what"] == "refused":
            print("%-22s %-21s cannot: %s" % (where(r), METHODS[r["method"]],
                                              r["why"]))
    idle = [r["silent_us"] / 1000 for r in rows if r["what"] == "idle"]
    print("%-22s %-21s %15s %7.0f %7.0f" % (
        "no save", "", "-", statistics.median(idle), max(idle)))
    print()
    for r in result:
        if r["method"] == "reflink":
            target(r["pause_ms"] <= PAUSE_MS,
                   "%s: %s MiB by files that are cloned: paused for %.0f ms "
                   "(at most %d)" % (r["where"], option["mib"],
                                     r["pause_ms"], PAUSE_MS))
    target(all(r["goes_on"] for r in result),
           "each saved guest goes on, and finds nothing to be other than it "
           "was")
    return result


def beside(rows, option):
    found, result = [r for r in rows if r["what"] == "beside"], []
    if not found:
        return result
    print("\nB. The same guest (%s MiB, %s touched), saved, and again %s s "
          "later; it works all the while, and runs on.  virsh save ends it:"
          % (option["mib"], option["touched"], option["minute"]))
    print("silent from there until virsh restore has it back.  Backstay "
          "stores the disks, too, in its repository; the others none\n")
    print("%-22s %-32s %8s %8s %9s %9s %10s %10s" % (
        "", "", "first s", "second s", "silent ms", "most", "first MiB",
        "second MiB"))
    for key, g in groups(found, "qemu", "manager").items():
        tools = {}
        for (tool,), t in groups(g, "tool").items():
            turn = {name: [r for r in t if r["turn"] == name]
                    for name in ("first", "second")}
            r = {"where": where(t[0]), "tool": tool,
                 "silent_ms": median(t, "silent_us") / 1000,
                 "silent_most_ms": max(r["silent_us"] for r in t) / 1000}
            for name, some in turn.items():
                r[name + "_s"] = median(some, "ms") / 1000
                r[name + "_stored"] = median(some, "stored")
            tools[tool] = r
            result.append(r)
            print("%-22s %-32s %8.1f %8.1f %9.0f %9.0f %10.1f %10.1f" % (
                r["where"], tool, r["first_s"], r["second_s"],
                r["silent_ms"], r["silent_most_ms"],
                r["first_stored"] / 2**20, r["second_stored"] / 2**20))
        ours = tools["Backstay"]
        share = ours["second_stored"] / ours["first_stored"]
        target(share <= SECOND, "%s: the second save stores %.1f %% of what "
               "the first does (at most %d)" % (
                   ours["where"], 100 * share, 100 * SECOND))
        target(all(ours["silent_ms"] < r["silent_ms"]
                   for r in tools.values() if r is not ours),
               "%s: no other holds the guest for a shorter time" %
               ours["where"])
    return result


def back(rows, option):
    found, result = [r for r in rows if r["what"] == "back" and
                     r["method"] == "reflink"], []
    print("\nC. QEMU is killed, its disks and its memory are lost: from "
          "restore --start to the first tick (%s MiB, %s touched)\n" % (
              option["mib"], option["touched"]))
    for key, g in groups(found, "qemu", "manager").items():
        r = {"where": where(g[0]), "s": median(g, "ms") / 1000,
             "most_s": max(r["ms"] for r in g) / 1000}
        result.append(r)
        print("%-22s %6.2f s, at most %.2f" % (r["where"], r["s"],
                                               r["most_s"]))
    print()
    for r in result:
        target(r["s"] < BACK_S, "%s: runs again after %.2f s (less than %.0f)"
               % (r["where"], r["s"], BACK_S))
    return result


def main():
    with open(sys.argv[1]) as f:
        rows = [json.loads(line) for line in f]
    option = dict(a.split("=", 1) for a in sys.argv[3:])
    with open("/proc/cpuinfo") as f:
        cpus = [x.split(":", 1)[1].strip() for x in f
                if x.startswith("model name")]
    load = sorted(r["load"] for r in rows)
    print("%s, %d processors; emulated guests (TCG); medians of %s; load %s "
          "to %s, median %s" % (
              cpus[0] if cpus else "?", len(cpus), option["runs"], load[0],
              load[-1], load[len(load) // 2]))
    result = {"options": option, "saves": saves(rows, option),
              "beside": beside(rows, option), "back": back(rows, option),
              "missed": missed, "rows": rows}
    with open(sys.argv[2], "w") as f:
        json.dump(result, f, indent=1)
        f.write("\n")
    return 1 if missed else 0


sys.exit(main())
