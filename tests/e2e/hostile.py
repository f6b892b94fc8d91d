# SPDX-License-Identifier: Apache-2.0
"""Peers that mean no good, for 51-hostile.sh.

    hostile.py raw PORT                 connections that are no SSH
    hostile.py flood PORT N             N connections that say nothing, made
                                        anew as they end, until stdin ends
    hostile.py frames unix SOCKET       frames that no client sends
    hostile.py frames ssh PORT KEY      the same behind SSH
    hostile.py stall unix|ssh ... N     N lanes that stop in the middle of a
                                        frame, or never read, until stdin ends

Each prints what it saw; status 1 where the daemon did not do as it should.
"""
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time

QUERY, PUT, NODE, TREE, READ, CALL, RESULT, ERROR = (
    1, 3, 5, 7, 9, 0x10, 0x11, 0x1f)
PAYLOAD_MAX = (4 << 20) + (64 << 10)
# A lane that is silent before hello ends after ten seconds.
DEADLINE_S = 20 * int(os.environ.get('SLOWER', '1'))

random.seed(51)


class Ended(Exception):
    pass


class Peer:
    """Bytes to the daemon and from it, with a deadline."""

    def __init__(self, how):
        self.process = None
        if how[0] == 'unix':
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.connect(how[1])
        elif how[0] == 'tcp':
            self.sock = socket.create_connection(('127.0.0.1', int(how[1])))
        else:
            self.sock, other = socket.socketpair()
            self.process = subprocess.Popen(
                ['ssh', '-F', 'none', '-o', 'StrictHostKeyChecking=no',
                 '-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR',
                 '-o', 'IdentitiesOnly=yes', '-o', 'BatchMode=yes',
                 '-i', how[2], '-p', how[1], '-s', 'agent@127.0.0.1',
                 'backstay'],
                stdin=other, stdout=other, stderr=subprocess.DEVNULL)
            other.close()
        self.sock.settimeout(DEADLINE_S)

    def send(self, data):
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may have hung up in the middle: recv tells

    def exactly(self, n):
        data = b''
        while len(data) < n:
            try:
                more = self.sock.recv(n - len(data))
            except ConnectionResetError:
                more = b''
            if not more:
                raise Ended
            data += more
        return data

    def frame(self):
        head = struct.unpack('<IBBHI', self.exactly(12))
        if head[0] > PAYLOAD_MAX:
            raise AssertionError('a frame of %d bytes' % head[0])
        return head[1], head[4], self.exactly(head[0])

    def drain(self):
        """Until the daemon ends it."""
        try:
            while True:
                self.exactly(1)
        except Ended:
            pass

    def close(self):
        self.sock.close()
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def frame(type_, payload=b'', request=7, flags=0, zero=0, length=None):
    return struct.pack('<IBBHI', len(payload) if length is None else length,
                       type_, flags, zero, request) + payload


def call(**question):
    return frame(CALL, json.dumps(question).encode())


HELLO = call(op='hello', version=1, program='hostile', features=[])
BEGIN = call(op='begin', vm='hostile', full=False, consistency='offline',
             agent_time='2026-11-21T19:30:04Z',
             volumes=[{'name': 'vda', 'kind': 'disk', 'size': 1 << 40,
                       'format': 'raw', 'cluster_size': 0}])


def put(id_, codec, raw_len, data, stored_len=None, zero=0):
    return frame(PUT, id_ + bytes([codec, zero & 255, 0, 0]) + struct.pack(
        '<II', raw_len, len(data) if stored_len is None else stored_len)
        + data)


# A frame of zstd that says it holds 2^62 bytes, and one of zeroes without end.
BOMB = bytes.fromhex('28b52ffde0') + struct.pack('<Q', 1 << 62) + b'\x02' * 64
ID = bytes(range(32))


def attacks():
    """Name, bytes after hello (or before: early), whether the lane must end."""
    yield 'noise', random.randbytes(100000), True, True
    yield 'query before hello', frame(QUERY, bytes(32)), True, True
    yield 'begin before hello', BEGIN, True, True
    yield 'hello of version 9', call(op='hello', version=9), True, True
    yield 'hello that is a list', frame(CALL, b'[1]'), True, True
    yield 'noise', random.randbytes(100000), False, True
    yield 'giant', frame(QUERY, length=0xffffffff), False, True
    yield 'just too long', frame(PUT, length=PAYLOAD_MAX + 1), False, True
    yield 'flags', frame(QUERY, bytes(32), flags=1), False, True
    yield 'zero', frame(QUERY, bytes(32), zero=1), False, True
    yield 'unknown type', frame(0x77, b'x'), False, False
    yield 'an answer', frame(RESULT, b'{}'), False, False
    yield 'an error', frame(ERROR, b'\x01\0oops'), False, False
    yield 'hello again', HELLO, False, False
    for text in (b'', b'{', b'[' * 100000, b'{"op":' * 5000, b'null',
                 b'{"op":1}', b'{"op":"begin"}', b'{"op":"list","op":"list"}',
                 b'{"op":"list","vm":"../../etc/passwd"}',
                 b'{"op":"show","backup":"%s@latest"}' % (b'x' * 9999),
                 b'{"op":"\\u0000"}', b'\xff\xfe{}', b'{"op":"attach"}',
                 b'{"op":"attach","token":"%s"}' % (b'0' * 32),
                 b'{"op":"progress"}', b'{"op":"commit","roots":[]}',
                 b'{"op":"finish","ok":true}',
                 b'{"op":"begin","vm":"v","volumes":[{"name":"a","size":-1}]}',
                 b'{"op":"begin","vm":"v","volumes":[{"name":"a","size":1e300'
                 b'}]}', b' ' * (1 << 20), b'{"op":"%s"}' % (b'\x1b[2J' * 9)):
        yield 'call %r' % text[:40], frame(CALL, text), False, False
    for type_ in (QUERY, PUT, NODE, TREE, READ):
        yield 'type %d without a job' % type_, frame(type_, bytes(64)), \
            False, False
    # What follows is said within a job of its own.
    for name, data in (
            ('an empty query', frame(QUERY)),
            ('a query of odd length', frame(QUERY, bytes(33))),
            ('a query of too many', frame(QUERY, bytes(32 * 1000))),
            ('an empty put', frame(PUT)),
            ('half a put', frame(PUT, bytes(20))),
            ('a put of a hole', put(bytes(32), 0, 65536, bytes(65536))),
            ('a put of zeroes', put(ID, 0, 65536, bytes(65536))),
            ('a put of other bytes', put(ID, 0, 65536, b'x' * 65536)),
            ('a put of no bytes', put(ID, 0, 0, b'')),
            ('a put with a length too long',
             put(ID, 0, 65536, b'x' * 100, stored_len=65536)),
            ('a put of 4 GiB', put(ID, 1, 0xffffffff, b'x')),
            ('a put with reserved bytes', put(ID, 1, 65536, b'x', zero=1)),
            ('an unknown codec', put(ID, 9, 65536, b'x' * 10)),
            ('noise for zstd', put(ID, 1, 65536, random.randbytes(500))),
            ('a bomb', put(ID, 1, 65536, BOMB)),
            ('an empty node', frame(NODE)),
            ('a node of level 200', frame(NODE, b'\xc8\x01\0\0' + ID)),
            ('a node of 0', frame(NODE, b'\0\0\0\0')),
            ('a node of 255', frame(NODE, b'\0\xff\0\0' + ID * 255)),
            ('a node of holes', frame(NODE, b'\0\x02\0\0' + bytes(64))),
            ('a node with flags', frame(NODE, b'\0\x01\xfe\0' + ID)),
            ('a node too short', frame(NODE, b'\0\x80\0\0' + ID)),
            ('a tree without a parent', frame(TREE, struct.pack(
                '<HBBQ', 0, 0, 0, 0))),
            ('a tree far away', frame(TREE, struct.pack(
                '<HBBQ', 65535, 255, 0, 2 ** 64 - 1))),
            ('a read in a backup', frame(READ, struct.pack(
                '<HBBIQ', 0, 0, 1, 1, 0))),
            ('a read of everything', frame(READ, struct.pack(
                '<HBBIQ', 0, 0, 1, 0xffffffff, 0))),
            ('a commit of nothing', call(op='commit', roots=[])),
            ('a commit of what is not there', call(
                op='commit', stats={}, roots=['11' * 32])),
            ('a commit of a root that is no id', call(
                op='commit', stats={}, roots=['zz']))):
        yield name, BEGIN + data, False, False


def attack(how, name, data, early, ends):
    peer = Peer(how)
    try:
        if not early:
            peer.send(HELLO)
            if peer.frame()[0] != RESULT:
                raise AssertionError('hello was refused')
        peer.send(data)
        answers = []
        try:
            if data.startswith(BEGIN) and not early:
                type_, _, text = peer.frame()
                if type_ != RESULT:
                    # The job before may not have ended yet.
                    if b'being backed up' in text:
                        return 'again'
                    raise AssertionError('begin: %r' % text)
            type_, request, text = peer.frame()
            answers.append(type_)
            if type_ == ERROR:
                code = struct.unpack_from('<H', text)[0]
                said = text[2:].decode()
                if not 1 <= code <= 14 or not said:
                    raise AssertionError('error %d, %r' % (code, said))
                if any(ord(c) < 32 or ord(c) == 127 for c in said):
                    raise AssertionError('control characters: %r' % said)
            elif not early and type_ not in (2, 4, 6):
                # Of none is no mistake; a node may lack children.
                raise AssertionError('was answered with type %d' % type_)
            if ends:
                peer.drain()
            else:
                peer.send(call(op='list'))
                if peer.frame()[0] != RESULT:
                    raise AssertionError('the lane does not go on')
        except Ended:
            if not ends:
                raise AssertionError('ended the lane')
        return 'done'
    except AssertionError as e:
        raise AssertionError('%s: %s' % (name, e))
    except socket.timeout:
        raise AssertionError('%s: nothing happened in time' % name)
    finally:
        peer.close()


def frames(how):
    n = 0
    for it in attacks():
        until = time.monotonic() + DEADLINE_S
        while attack(how, *it) == 'again':
            if time.monotonic() > until:
                raise AssertionError('%s: a job does not end' % it[0])
            time.sleep(0.01)
        n += 1
    print('%d bad messages by %s' % (n, how[0]))


def raw(port):
    banner = b'SSH-2.0-hostile\r\n'
    packet = struct.pack('>I', 0x7fffffff) + b'\x04\x14' + random.randbytes(99)
    talks = [
        b'GET / HTTP/1.1\r\nHost: nas\r\n\r\n', random.randbytes(100000),
        b'\0' * 100000, b'SSH-1.0-old\r\n', b'SSH-2.0-' + b'x' * 100000,
        banner + packet, banner + random.randbytes(50000),
        banner + struct.pack('>I', 12) + b'\x0a\x14',
        HELLO, b'\r\n' * 50000]
    peers = []
    for talk in talks:
        peer = Peer(('tcp', port))
        peer.send(talk)
        peers.append(peer)
    # All at the same time: those that wait are ended after ten seconds.
    for talk, peer in zip(talks, peers):
        try:
            peer.drain()
        except socket.timeout:
            raise AssertionError('%r is still welcome' % talk[:30])
        peer.close()
    print('%d that speak no SSH' % len(talks))


def flood(port, n):
    made = 0
    socks = {}
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    while True:
        while len(socks) < n:
            s = socket.create_connection(('127.0.0.1', int(port)))
            s.setblocking(False)
            socks[s.fileno()] = s
            poll.register(s, select.POLLIN)
            made += 1
            if made == n:
                print('ready', flush=True)
        for fd, _ in poll.poll(1000):
            if fd == 0:
                print('%d half-open connections' % made)
                return
            try:
                if socks[fd].recv(4096):
                    continue
            except OSError:
                pass
            poll.unregister(fd)
            socks.pop(fd).close()
        # As fast as a patient attacker: not a test of the loopback.
        time.sleep(0.01)


def stall(how, n):
    peers = []
    refused = 0
    for i in range(n):
        peer = Peer(how)
        peer.send(HELLO)
        try:
            if peer.frame()[0] != RESULT:
                refused += 1
        except Ended:
            refused += 1
        peers.append(peer)
    for i, peer in enumerate(peers):
        peer.sock.setblocking(False)
        try:
            if i % 2 == 0:
                peer.sock.send(frame(PUT, length=PAYLOAD_MAX) + bytes(1000))
            else:
                # Asks on and on, and never reads.
                while True:
                    peer.sock.send(call(op='list') * 50)
        except OSError:
            pass
    print('ready', flush=True)
    sys.stdin.read()
    for peer in peers:
        peer.close()
    print('%d lanes that stall, %d were refused' % (n, refused))


def main():
    args = sys.argv[1:]
    try:
        if args[0] == 'raw':
            raw(args[1])
        elif args[0] == 'flood':
            flood(args[1], int(args[2]))
        elif args[0] == 'frames':
            frames(args[1:])
        elif args[0] == 'stall':
            stall(args[1:-1], int(args[-1]))
        else:
            sys.exit(__doc__)
    except AssertionError as e:
        print('hostile.py: %s' % e, file=sys.stderr)
        sys.exit(1)


if __name__ == '__main__':
    main()
