# SPDX-License-Identifier: Apache-2.0
"""An NFS export for the packs, by tests/nfs/server.sh (as root)."""

import os
import subprocess

SERVER = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                      "../nfs/server.sh")


class Export:
    def __init__(self, folder):
        self.folder = folder
        self.port = str(12000 + os.getpid() % 5000 * 4)
        self.url = None

    def _call(self, *argv, **env):
        # Not through pipes: the server would hold them open.
        with open(self.folder + ".out", "w+") as out:
            subprocess.run([SERVER, *argv], env=dict(os.environ, **env),
                           stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                           check=True, timeout=60)
            out.seek(0)
            return (out.read().strip().splitlines() or [""])[-1]

    def start(self):
        os.makedirs(self.folder, exist_ok=True)
        self.url = self._call("start", self.folder, self.port)

    def packs(self):
        """The URL of the folder, and where it lies."""
        base, options = self.url.split("?")
        return (base + "/packs?" + options,
                os.path.join(self.folder, "export/packs"))

    def kill(self):
        self._call("stop", self.folder, SIG="KILL")

    def end(self):
        self._call("end", self.folder)
