# SPDX-License-Identifier: Apache-2.0
"""A lane, call by call.

    speaker.py ssh PORT KEY | unix SOCKET

Each line on stdin is a call (JSON); its answer is a line on stdout: the object,
or {"error": CODE, "text": "..."}; "ended" where the daemon has ended the lane.
Says hello by itself.
"""
import json
import struct
import sys

from hostile import CALL, ERROR, Ended, Peer, call


def answer(peer):
    try:
        kind, _, payload = peer.frame()
    except Ended:
        return {'ended': True}
    if kind == ERROR:
        return {'error': struct.unpack('<H', payload[:2])[0],
                'text': payload[2:].decode()}
    return json.loads(payload)


def main():
    peer = Peer(sys.argv[1:])
    peer.sock.settimeout(100)
    peer.send(call(op='hello', version=1, program='speaker', features=[]))
    print(json.dumps(answer(peer)), flush=True)
    for line in sys.stdin:
        peer.send(call(**json.loads(line)))
        print(json.dumps(answer(peer)), flush=True)
    peer.close()


assert CALL == 0x10
main()
