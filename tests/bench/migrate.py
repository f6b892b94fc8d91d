#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A guest's memory by QEMU alone: a migration to a file, and on.

    tests/bench/migrate.py SOCKET FILE live|stopped

QEMU gets FILE as a descriptor.  "live": the guest runs until QEMU stops it for
the rest; "stopped": it stands still for all of it.
"""
import array
import json
import os
import socket
import sys
import time

POLL_S, LIMIT_S = 0.002, 600


class Qmp:
    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(60)
        self.s.connect(path)
        self.lines = self.s.makefile("rb")
        self.lines.readline()
        self.command("qmp_capabilities")

    def command(self, name, fd=None, **arguments):
        request = json.dumps({"execute": name, "arguments": arguments})
        rights = [] if fd is None else [
            (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        self.s.sendmsg([request.encode() + b"\n"], rights)
        while True:
            answer = json.loads(self.lines.readline())
            if "error" in answer:
                sys.exit("migrate.py: %s: %s" % (
                    name, answer["error"]["desc"]))
            if "return" in answer:
                return answer["return"]


def main():
    q, stopped = Qmp(sys.argv[1]), sys.argv[3] == "stopped"
    fd = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    # What libvirt left on when it loaded an image.
    q.command("migrate-set-capabilities", capabilities=[
        {"capability": c["capability"], "state": False}
        for c in q.command("query-migrate-capabilities")
        if c["state"] and c["capability"] in ("mapped-ram", "multifd")])
    # No limit: it goes to a file of this machine.
    q.command("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
    if stopped:
        q.command("stop")
    q.command("getfd", fd=fd, fdname="bench")
    q.command("migrate", uri="fd:bench")
    end = time.monotonic() + LIMIT_S
    while True:
        status = q.command("query-migrate").get("status")
        if status == "completed":
            break
        if status in ("failed", "cancelled") or time.monotonic() > end:
            sys.exit("migrate.py: the migration: %s" % status)
        time.sleep(POLL_S)
    q.command("cont")


main()
