#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What speed.sh measured, for people: tables, plots, and the README's section.

  report.py --last STEPS           one line about the step measured last
  report.py --make FOLDER --steps FILE --limits FILE --manifest FILE --bin DIR
                                   results.txt, results.json, seconds.svg and
                                   stored.svg, and the text on stdout
  report.py --readme README RESULTS.json
                                   puts the table between the two marks there
"""
import json
import os
import platform
import statistics
import subprocess
import sys

STEPS = ["initial", "unchanged", "day2", "clone", "sibling", "restore",
         "delete"]
KEPT = [s for s in STEPS if s not in ("unchanged", "restore")]
NAMES = {
    "backstay": "Backstay", "backstay-0": "Backstay, no compression",
    "restic-auto": "restic", "restic-off": "restic, no compression",
    "borg-none": "borg, no compression", "borg-lz4": "borg, lz4",
    "borg-zstd": "borg, zstd 1", "borg-fixed": "borg, fixed 64 KiB chunks",
    "qemu-img": "qemu-img convert", "qemu-img-c": "qemu-img convert -c (zstd)",
}
# One hue a family.
COLOURS = {
    "backstay": "#006d2c", "backstay-0": "#74c476",
    "restic-auto": "#08519c", "restic-off": "#6baed6",
    "borg-none": "#a63603", "borg-lz4": "#e6550d", "borg-zstd": "#fd8d3c",
    "borg-fixed": "#fdbe85",
    "qemu-img": "#525252", "qemu-img-c": "#bdbdbd",
}
PEERS = ["restic-auto", "borg-fixed"]
BEGIN = "<!-- report.py --readme writes from here -->\n"
END = "<!-- to here -->\n"


def lines(path):
    with open(path) as f:
        return [json.loads(x) for x in f]


# --- numbers


def first_line(*command):
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    return (out.stdout or out.stderr).split("\n")[0]


def machine(bin_dir):
    with open("/proc/cpuinfo") as f:
        model = [x.split(":", 1)[1].strip() for x in f
                 if x.startswith("model name")]
    with open("/proc/meminfo") as f:
        memory = int(f.readline().split()[1]) * 1024
    with open("/etc/os-release") as f:
        system = [x.split("=", 1)[1].strip().strip('"') for x in f
                  if x.startswith("PRETTY_NAME")]
    return {
        "cpu": (model or [platform.machine()])[0],
        "cores": os.cpu_count(), "memory": memory,
        "system": (system or ["?"])[0], "kernel": platform.release(),
        "versions": {
            "backstay": first_line(os.path.join(bin_dir, "backstay-agent"),
                                   "--version"),
            "restic": first_line("restic", "version"),
            "borg": first_line("borg", "--version"),
            "qemu-img": first_line("qemu-img", "--version"),
            "mke2fs": first_line("mke2fs", "-V"),
            "openssl": first_line("openssl", "version"),
        },
    }


def summed(steps):
    """tool -> step -> medians over the rounds, and the rounds themselves."""
    out = {}
    for s in steps:
        out.setdefault(s["tool"], {}).setdefault(s["step"], []).append(s)
    for tool in out.values():
        for name, runs in tool.items():
            def median(key, runs=runs):
                middle = statistics.median(r[key] for r in runs)
                return middle if key.endswith("_s") else int(middle)
            tool[name] = {
                "wall_s": median("wall_s"), "sync_s": median("sync_s"),
                "cpu_s": median("cpu_s"), "daemon_cpu_s":
                median("daemon_cpu_s"), "rss": median("rss"),
                "daemon_rss": median("daemon_rss"), "stored":
                median("stored"), "stats": runs[0].get("stats"),
                "runs": [r["wall_s"] for r in runs],
                "cpu_runs": [r["cpu_s"] for r in runs],
            }
    return {t: out[t] for t in NAMES if t in out}


def limits_of(rounds):
    def median(name, key=None):
        return statistics.median(r[name][key] if key else r[name]
                                 for r in rounds)
    return {name: {"one": median(name, "one"), "all": median(name, "all")}
            if isinstance(value, dict) else median(name)
            for name, value in rounds[0].items()}


def work_of(stats, size, compressed):
    """What a backup cannot do without: (limit, bytes), each once."""
    hashed = size - stats["holes"]
    new = hashed - stats["unchanged"] - stats["deduplicated"]
    work = [("sha256", hashed),        # the agent
            ("sha256", new),           # the daemon does not trust it
            ("aes128gcm", stats["sent"]), ("aes128gcm", stats["sent"])]
    if compressed:
        work += [("compress", new), ("decompress", new)]
    return work


def efficiency(tools, limits, size, cores):
    """Of the time taken, the part that is work nobody could leave out, with
    all cores at it: by the CPU time of one thread alone ("one"), and by what
    all cores do together ("all": they slow one another down)."""
    out = {}
    for tool in ("backstay", "backstay-0"):
        for step in ("initial", "unchanged"):
            s = tools.get(tool, {}).get(step)
            if not s:
                continue
            work = work_of(s["stats"], size, tool == "backstay")
            cpu = sum(n / 1e9 / limits[what]["one"] for what, n in work)
            wall = sum(n / 1e9 / limits[what]["all"] for what, n in work)
            out.setdefault(tool, {})[step] = {
                "needed_cpu_s": cpu, "one": cpu / cores / s["wall_s"],
                "all": wall / s["wall_s"],
                "cpu": cpu / s["cpu_s"]}
    return out


# --- text


def table(title, tools, columns, cell, out):
    out.append("")
    out.append("%-28s" % title + "".join("%11s" % c for c in columns))
    for tool, steps in tools.items():
        row = "".join("%11s" % (cell(tool, c, steps[c]) if c in steps
                                else "-") for c in columns)
        out.append("  %-26s%s" % (NAMES[tool], row))


def text_of(r):
    m, size, out = r["machine"], r["size"], []
    tools = r["tools"]
    out.append("%s, %d cores, %.1f GiB; %s, Linux %s" % (
        m["cpu"], m["cores"], m["memory"] / 2**30, m["system"], m["kernel"]))
    out.append("; ".join(m["versions"].values()))
    out.append("Disks of %d MiB: " % (size >> 20) + ", ".join(
        "%s %d MiB used%s" % (n, d["used"] >> 20, "" if n == "base" else
                              " (%d MiB not in base)" % (d["new"] >> 20))
        for n, d in r["disks"].items()))
    out.append("Medians of %d round%s, tools in turns; until all is on the "
               "disk; what is read is in the page cache" % (
                   r["rounds"], "s" * (r["rounds"] != 1)))
    table("seconds", tools, STEPS,
          lambda t, n, s: "%.2f" % s["wall_s"], out)
    if r["rounds"] > 1:
        table("seconds, least to most", tools, STEPS, lambda t, n, s:
              "%.1f-%.1f" % (min(s["runs"]), max(s["runs"])), out)
    for peer in PEERS:
        if peer in tools:
            table("times as fast as " + peer, tools, STEPS, lambda t, n, s:
                  "%.2f" % (tools[peer][n]["wall_s"] / s["wall_s"]), out)
    table("CPU seconds, all processes", tools, STEPS,
          lambda t, n, s: "%.2f" % s["cpu_s"], out)
    table("peak memory, MiB (+ daemon)", tools, STEPS, lambda t, n, s:
          "%d" % (s["rss"] >> 20) + ("+%d" % (s["daemon_rss"] >> 20)
                                     if s["daemon_rss"] else ""), out)
    table("stored after it, MiB", tools, STEPS,
          lambda t, n, s: "%d" % (s["stored"] / 2**20), out)
    limits = r["limits"]
    out += ["", "%-28s%11s%11s" % ("limits here, 10^9 bytes/s", "1 thread",
                                   "%d threads" % m["cores"])]
    for name, what in (
            ("sha256", "SHA-256 of 64 KiB"),
            ("sha512_256", "SHA-512/256 of 64 KiB"),
            ("compress", "zstd %d of 64 KiB" % limits["level"]),
            ("decompress", "its decompression"),
            ("aes128gcm", "AES-128-GCM of 32 KiB"), ("memcpy", "memcpy")):
        out.append("  %-26s%11.2f%11.2f" % (
            what, limits[name]["one"], limits[name]["all"]))
    out.append("  %-26s%11.2f" % ("write and fdatasync",
                                  limits["disk_write"]))
    out += ["", "Efficiency: the work that cannot be left out (hash at the "
            "agent, hash what is new again at the",
            "daemon, compress it and decompress it to verify, encrypt and "
            "decrypt what is sent), on all cores, in",
            "per cent of the time taken; by the CPU time of one thread, "
            "and by what all cores do together:"]
    for tool, steps in r["efficiency"].items():
        for step, e in steps.items():
            s = tools[tool][step]
            out.append(
                "  %-26s%-10s %6.2f CPU s needed, %6.2f spent;"
                " %3.0f %% / %3.0f %%" % (
                    NAMES[tool], step, e["needed_cpu_s"], s["cpu_s"],
                    100 * e["one"], 100 * e["all"]))
    for tool, steps in tools.items():
        s = steps.get("unchanged")
        if s and s["stats"]:
            out.append("  %-26s%-10s reads and hashes %.2f GB/s; SHA-256 "
                       "alone, on all cores: %.2f" % (
                           NAMES[tool], "unchanged",
                           (size - s["stats"]["holes"]) / 1e9 / s["wall_s"],
                           limits["sha256"]["all"]))
    return "\n".join(out) + "\n"


def last(path):
    s = lines(path)[-1]
    print("  %-12s %-10s %7.2f s %7.2f s CPU %5d MiB peak %6d MiB stored" % (
        s["tool"], s["step"], s["wall_s"], s["cpu_s"],
        (s["rss"] + s["daemon_rss"]) >> 20, s["stored"] >> 20), flush=True)


# --- plots


def plot(folder, name, title, tools, columns, value):
    """Bars in groups, one group a step, one colour a tool."""
    data = os.path.join(folder, name + ".dat")
    with open(data, "w") as f:
        f.write("step " + " ".join('"%s"' % NAMES[t] for t in tools) + "\n")
        for c in columns:
            f.write(c + " " + " ".join(
                "%g" % value(s[c]) for s in tools.values()) + "\n")
    script = """
set terminal svg size 1000,480 dynamic background 'white' font 'sans,13'
set output '%s.svg'
set title '%s'
set style data histograms
set style histogram clustered gap 1.5
set style fill solid 1
set boxwidth 1
set grid ytics lc rgb '#cccccc'
set yrange [0:*]
set xtics scale 0
set key below center horizontal Left reverse maxcols 4
plot %s
""" % (os.path.join(folder, name), title, ", ".join(
        "'%s' using %d:xtic(1) title columnheader(%d) lc rgb '%s'" % (
            data, i, i, COLOURS[t]) for i, t in enumerate(tools, 2)))
    subprocess.run(["gnuplot"], input=script, text=True, check=True)
    os.remove(data)


def make(folder, options):
    steps, limits = lines(options["--steps"]), lines(options["--limits"])
    with open(options["--manifest"]) as f:
        manifest = json.load(f)
    size = manifest["disks"]["base"]["size"]
    m, tools = machine(options["--bin"]), summed(steps)
    r = {"machine": m, "parameters": manifest["parameters"], "size": size,
         "disks": manifest["disks"], "rounds": len(limits), "tools": tools,
         "limits": limits_of(limits)}
    r["efficiency"] = efficiency(tools, r["limits"], size, m["cores"])
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "results.json"), "w") as f:
        json.dump(r, f, indent=1)
        f.write("\n")
    text = text_of(r)
    with open(os.path.join(folder, "results.txt"), "w") as f:
        f.write(text)
    what = "%d MiB disk, %d MiB used" % (
        size >> 20, manifest["disks"]["base"]["used"] >> 20)
    plot(folder, "seconds", "Seconds until all is on the disk (%s)" % what,
         tools, STEPS, lambda s: s["wall_s"])
    plot(folder, "stored", "GiB stored after each step (%s)" % what,
         tools, KEPT, lambda s: s["stored"] / 2**30)
    print("\n" + text)
    print("# also in %s, with plots; into the README with:" % folder)
    print("#   tests/bench/report.py --readme README.md %s" %
          os.path.relpath(os.path.join(folder, "results.json")))


def readme(path, results):
    with open(results) as f:
        r = json.load(f)
    with open(path) as f:
        text = f.read()
    m, rows = r["machine"], []
    rows.append("| seconds | " + " | ".join(STEPS) + " | GiB stored |")
    rows.append("|---|" + "---:|" * (len(STEPS) + 1))
    for tool, steps in r["tools"].items():
        rows.append("| %s | %s | %.2f |" % (
            NAMES[tool], " | ".join("%.1f" % steps[s]["wall_s"]
                                    for s in STEPS),
            steps["sibling"]["stored"] / 2**30))
    e = r["efficiency"].get("backstay", {}).get("initial")
    said = "%s, %d cores, %d GiB of memory; %d MiB of a disk of %d MiB in " \
        "use; medians of %d." % (
            m["cpu"], m["cores"], round(m["memory"] / 2**30),
            r["disks"]["base"]["used"] >> 20, r["size"] >> 20, r["rounds"])
    if e:
        said += " Of the first backup's time, %.0f %% is hashing, zstd and " \
            "AES that nothing could leave out." % (100 * e["one"])
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    with open(path, "w") as f:
        f.write(before + BEGIN + said + "\n\n" + "\n".join(rows) + "\n" +
                END + after)


def main():
    a = sys.argv[1:]
    if len(a) == 2 and a[0] == "--last":
        last(a[1])
    elif len(a) == 10 and a[0] == "--make":
        make(a[1], dict(zip(a[2::2], a[3::2])))
    elif len(a) == 3 and a[0] == "--readme":
        readme(a[1], a[2])
    else:
        sys.exit(__doc__)


main()
