#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A QMP client of the tests' own, beside the one that is tested.

    tests/live/qmp.py SOCKET COMMAND [JSON-ARGUMENTS] [COMMAND ...]
    tests/live/qmp.py SOCKET events [SECONDS]

Prints one line of JSON for each command's answer.  "events" prints events as
they come, until QEMU ends or the time is over.
"""
import json
import socket
import sys
import time


class Qmp:
    def __init__(self, path, timeout=60):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(timeout)
        self.s.connect(path)
        self.buf = b''
        self.events = []
        self.read()
        self.command('qmp_capabilities')

    def read(self):
        while b'\n' not in self.buf:
            data = self.s.recv(1 << 16)
            if not data:
                raise EOFError('QEMU closed its monitor')
            self.buf += data
        line, self.buf = self.buf.split(b'\n', 1)
        return json.loads(line)

    def command(self, name, arguments=None):
        request = {'execute': name, 'arguments': arguments or {}}
        self.s.sendall(json.dumps(request).encode() + b'\n')
        while True:
            answer = self.read()
            if 'event' in answer:
                self.events.append(answer)
            elif 'error' in answer:
                raise RuntimeError(f"{name}: {answer['error']['desc']}")
            else:
                return answer['return']

    def watch(self, seconds):
        end = time.monotonic() + seconds
        while True:
            for event in self.events:
                print(json.dumps(event), flush=True)
            left = end - time.monotonic()
            if left <= 0:
                return
            self.s.settimeout(left)
            self.events = [self.read()]


def main():
    words = sys.argv[2:]
    try:
        qmp = Qmp(sys.argv[1])
        if words[0] == 'events':
            qmp.watch(float(words[1]) if len(words) > 1 else 3600)
            return 0
        while words:
            name = words.pop(0)
            arguments = {}
            if words and words[0].startswith('{'):
                arguments = json.loads(words.pop(0))
            print(json.dumps(qmp.command(name, arguments)))
    except (EOFError, TimeoutError):
        return 0 if words and words[0] == 'events' else 1
    except (OSError, RuntimeError) as e:
        print(f'qmp.py: {sys.argv[1]}: {e}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
