#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A second opinion on what a policy keeps, written from repo/DESIGN.md alone.

usage: retention.py [FILE]

Reads cases, one JSON object a line: {"now": SECONDS, "policy": {"last": N, ...,
"within": SECONDS, "min-age": SECONDS}, "backups": [{"time": SECONDS, "seq": N,
"locked": SECONDS, "protected": BOOL, "incomplete": BOOL}, ...]}, and prints for
each a line with the rule that keeps each backup, or "-", with spaces between.
"""
import datetime
import json
import sys


def utc(backup):
    return datetime.datetime.fromtimestamp(backup["time"],
                                           datetime.timezone.utc)


# What two backups have in common that are of one period.
PERIODS = [
    ("last", lambda b: (b["time"], b["seq"])),
    ("hourly", lambda b: utc(b).strftime("%Y-%m-%d %H")),
    ("daily", lambda b: utc(b).date()),
    ("weekly", lambda b: tuple(utc(b).isocalendar())[:2]),
    ("monthly", lambda b: utc(b).strftime("%Y-%m")),
    ("yearly", lambda b: utc(b).year),
]


def decide(case):
    now, policy, backups = case["now"], case["policy"], case["backups"]
    young = policy.get("min-age", 0)
    counts = any(policy.get(rule, 0) > 0
                 for rule in [name for name, _ in PERIODS] + ["within"])
    said = {}
    part = []
    for i, b in enumerate(backups):
        if b.get("incomplete"):
            said[i] = "incomplete"
        elif b.get("protected"):
            said[i] = "protected"
        elif young > 0 and b["time"] > now - young:
            said[i] = "min-age"
        elif not counts:
            said[i] = "all"
        else:
            part.append(i)
    part.sort(key=lambda i: (backups[i]["time"], backups[i]["seq"]),
              reverse=True)
    kept, dismissed = {}, set()
    for rule, name_of in PERIODS:
        covered = {name_of(backups[i]) for i in kept}
        mine = []
        for i in part:
            if i in kept or i in dismissed:
                continue
            name = name_of(backups[i])
            if name in covered:
                continue
            if name in mine:
                dismissed.add(i)
                continue
            if len(mine) == policy.get(rule, 0):
                break
            mine.append(name)
            kept[i] = rule
    if part:
        newest = backups[part[0]]["time"]
        for i in part:
            if i not in kept and \
                    backups[i]["time"] > newest - policy.get("within", 0):
                kept[i] = "within"
    for i in part:
        if i not in kept and backups[i].get("locked", 0) > now:
            kept[i] = "locked"
    said.update(kept)
    return [said.get(i, "-") for i in range(len(backups))]


def main():
    source = open(sys.argv[1]) if len(sys.argv) > 1 else sys.stdin
    with source:
        for line in source:
            print(" ".join(decide(json.loads(line))))


main()
