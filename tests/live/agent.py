#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A guest agent that fails: agent.py SOCKET LOG HOW

It serves one at a time, and notes in LOG what it was asked.  HOW:
  mute   takes what it is sent, and never answers
  hang   answers until it is to freeze: from then on it does not
  good   answers to all, and was frozen before it was started
"""
import json
import os
import socket
import sys

path, log, how = sys.argv[1:]
frozen = how == 'good'
hangs = how == 'mute'
listener = socket.socket(socket.AF_UNIX)
if os.path.exists(path):
    os.unlink(path)
listener.bind(path)
listener.listen(4)
while True:
    connection, _ = listener.accept()
    for line in connection.makefile('rb'):
        ask = json.loads(line.lstrip(b'\xff'))
        name = ask['execute']
        with open(log, 'a', encoding='ascii') as f:
            f.write(name + '\n')
        answer = {}
        if name == 'guest-sync-delimited':
            answer = ask['arguments']['id']
        elif name == 'guest-fsfreeze-status':
            answer = 'frozen' if frozen else 'thawed'
        elif name == 'guest-fsfreeze-freeze':
            frozen = True
            hangs = hangs or how == 'hang'
        elif name == 'guest-fsfreeze-thaw':
            frozen = False
        if hangs:
            continue
        try:
            if name == 'guest-sync-delimited':
                connection.sendall(b'\xff')
            connection.sendall(json.dumps({'return': answer}).encode() + b'\n')
        except OSError:
            break
