# SPDX-License-Identifier: Apache-2.0
"""What a service manager is to a service: a socket to which it tells how it is.

    manager.py SOCKET LOG

LOG gets a line for each message: milliseconds of the monotonic clock, then its
fields, separated by a space.
"""
import os
import socket
import sys
import time

path, log = sys.argv[1:]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(path)
with open(log, "w", buffering=1, encoding="utf-8") as out:
    out.write("%d begun\n" % (time.monotonic() * 1000))
    while os.getppid() != 1:
        text = s.recv(65536).decode("utf-8")
        out.write("%d %s\n" % (time.monotonic() * 1000,
                               text.replace("\n", " ")))
