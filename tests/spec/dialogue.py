#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A second client of the daemon, written from proto/PROTOCOL.md alone, in the
standard library.  It backs up made-up volumes of a VM of its own, restores
them, compares, and then sends what no client may send.

    dialogue.py SOCKET [VM]

SOCKET is REPO/socket of a running daemon; VM must not be there yet.
"""
import hashlib
import hmac
import json
import os
import socket
import struct
import sys
import time

(QUERY, HAVE, PUT, PUT_DONE, NODE, NODE_DONE, TREE, TREE_NODE, READ, DATA,
 READ_DONE) = range(1, 12)
CALL, RESULT, ERROR = 0x10, 0x11, 0x1f
NOENT, PROTO, LIMIT, BUSY, INVAL, UNSUP, MISSING = 2, 5, 6, 8, 12, 13, 14
PAYLOAD_MAX = (4 << 20) + (64 << 10)
FANOUT = 128
HOLE = bytes(32)
TIMEOUT_S = 60

# PROTOCOL.md 8: 64 KiB of one word, as zstd.
WORD = b'Backstay' * 8192
WORD_ZSTD = bytes.fromhex(
    '28b52ffd6000ff8500004042' '61636b7374617901' '00f5ffe9850b')


class Closed(Exception):
    """The daemon ended the connection."""


class Refused(Exception):
    """The answer was ERROR."""

    def __init__(self, code, text):
        super().__init__('error %d: %s' % (code, text))
        self.code = code


checks = 0


def check(ok, what):
    global checks
    checks += 1
    if not ok:
        raise AssertionError(what)


class Lane:
    def __init__(self, path, hello=True):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(path)
        self.request = 0
        self.key = None
        if hello:
            self.hello = self.call(op='hello', version=1, features=[],
                                   program='dialogue')

    def raw(self, data):
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as e:
            raise Closed() from e

    def send(self, type_, payload):
        self.request += 1
        self.raw(struct.pack('<IBBHI', len(payload), type_, 0, 0,
                             self.request) + payload)
        return self.request

    def exactly(self, n):
        data = b''
        while len(data) < n:
            try:
                more = self.sock.recv(n - len(data))
            except ConnectionResetError as e:
                raise Closed() from e
            if not more:
                raise Closed()
            data += more
        return data

    def recv(self, request=None):
        length, type_, flags, zero, got = struct.unpack(
            '<IBBHI', self.exactly(12))
        check(length <= PAYLOAD_MAX and flags == 0 and zero == 0,
              'a good frame header')
        payload = self.exactly(length)
        if request is not None:
            check(got == request, 'the answer repeats the request')
        if type_ == ERROR:
            code, = struct.unpack_from('<H', payload)
            text = payload[2:].decode()
            check(code != 0, 'an error has a code')
            check(len(payload) <= 2 + 399 and
                  all(ord(c) >= 32 and c != '\x7f' for c in text),
                  'an error has a text')
            raise Refused(code, text)
        return type_, payload

    def ask(self, type_, payload, answer):
        got, payload = self.recv(self.send(type_, payload))
        check(got == answer, 'type %#x is answered by %#x' % (type_, answer))
        return payload

    def call(self, **question):
        j = json.loads(self.ask(CALL, json.dumps(question).encode(), RESULT))
        check(isinstance(j, dict), 'a result is an object')
        return j

    def set_key(self, answer):
        if 'hash_key' in answer:
            self.key = bytes.fromhex(answer['hash_key'])

    def digest(self, name, data):
        if self.key is None:
            return hashlib.new(name, data).digest()
        return hmac.new(self.key, data, name).digest()

    def query(self, leaf, ids):
        p = self.ask(QUERY, leaf + b''.join(ids), HAVE)
        check(len(p) == 1 + (len(ids) + 7) // 8 and p[0] <= 1,
              'HAVE has its length')
        bits = [p[1 + i // 8] >> i % 8 & 1 for i in range(len(ids))]
        check(sum(bits) == sum(bin(b).count('1') for b in p[1:]),
              'HAVE has no bits beyond its ids')
        check(p[0] == 0 or all(bits), 'a leaf that is there has its chunks')
        return p[0], bits

    def put(self, chunks):
        """(id, codec, raw_len, data) of each."""
        nstored = stored = 0
        while chunks:
            n = 1                   # a frame has a limit: near 1 MiB a PUT
            while n < len(chunks) and sum(
                    len(c[3]) for c in chunks[:n + 1]) <= 1 << 20:
                n += 1
            p = self.ask(PUT, b''.join(put_one(*c) for c in chunks[:n]),
                         PUT_DONE)
            check(len(p) == 12, 'PUT_DONE has its length')
            nstored += struct.unpack('<IQ', p)[0]
            stored += struct.unpack('<IQ', p)[1]
            chunks = chunks[n:]
        return nstored, stored

    def node(self, body):
        p = self.ask(NODE, body, NODE_DONE)
        check(len(p) == 17 and p[0] <= 1, 'NODE_DONE has its length')
        check((p[0] == 1) == (p[1:] == bytes(16)), 'NODE_DONE makes sense')
        return None if p[0] else [
            i for i in range(FANOUT) if p[1 + i // 8] >> i % 8 & 1]

    def tree(self, volume, level, index):
        p = self.ask(TREE, struct.pack('<HBBQ', volume, level, 0, index),
                     TREE_NODE)
        if not p:
            return None
        check(p[0] == level and len(p) == 4 + 32 * p[1] and p[3] == 0 and
              p[2] <= 1 and p[-32:] != HOLE, 'a node in its one form')
        return p

    def read(self, volume, slice_, n):
        """{slice: (codec, raw_len, data)}"""
        request = self.send(READ, struct.pack(
            '<HBBIQ', volume, 0, 1, n, slice_))
        got = {}
        while True:
            type_, p = self.recv(request)
            if type_ == READ_DONE:
                check(struct.unpack('<I', p)[0] == len(got),
                      'READ_DONE counts the DATA')
                return got
            check(type_ == DATA, 'READ is answered by DATA')
            at, codec, zero, raw_len = struct.unpack_from('<QB3sI', p)
            check(zero == bytes(3) and slice_ <= at < slice_ + n and
                  at not in got, 'DATA was asked for, once')
            got[at] = codec, raw_len, p[16:]

    def close(self):
        self.sock.close()


def put_one(id_, codec, raw_len, data):
    return id_ + struct.pack('<B3xII', codec, raw_len, len(data)) + data


def body_of(level, children, tail):
    children = list(children)
    while children and children[-1] == HOLE:
        children.pop()
    return bytes([level, len(children), tail, 0]) + b''.join(children)


class Volume:
    """Made-up slices: {number: bytes}, and the tree over them."""

    def __init__(self, lane, name, size, slices):
        self.name, self.size, self.slices = name, size, slices
        chunk = lane.hello['chunk_size']
        self.nslices = -(-size // chunk)
        self.ids = {i: lane.digest('sha256', d) for i, d in slices.items()}
        self.nodes = []             # [{index: (id, body)}], by level
        below, tails = dict(self.ids), {
            i for i, d in slices.items() if len(d) != chunk}
        level = 0
        while slices:
            nodes, up, up_tails = {}, {}, set()
            for i in sorted({i // FANOUT for i in below}):
                span = range(i * FANOUT, (i + 1) * FANOUT)
                tail = 1 if tails & set(span) else 0
                body = body_of(level, [below.get(k, HOLE) for k in span], tail)
                up[i] = lane.digest('sha512_256', body)
                nodes[i] = up[i], body
                if tail:
                    up_tails.add(i)
            self.nodes.append(nodes)
            if FANOUT ** (level + 1) >= self.nslices:
                break
            below, tails, level = up, up_tails, level + 1
        self.root = self.nodes[-1][0][0] if slices else HOLE

    def coded(self, i):
        """A chunk as this client sends it."""
        data = self.slices[i]
        if data == WORD:
            return self.ids[i], 1, len(data), WORD_ZSTD
        return self.ids[i], 0, len(data), data


def patient(lane, **question):
    """A call that waits for a VM that is busy: the daemon may not have seen
    yet that the lane before is gone."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return lane.call(**question)
        except Refused as e:
            if e.code != BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def begin(lane, vm, volumes, full=False):
    answer = patient(
        lane, op='begin', vm=vm, full=full, consistency='offline',
        agent_time='2026-11-21T19:30:05Z', volumes=[
            {'name': v.name, 'kind': 'disk', 'size': v.size, 'format': 'raw',
             'cluster_size': 0, 'path': '/images/' + v.name,
             'identity': 'file:12:3.000000004'} for v in volumes])
    check(answer['lanes_max'] >= 1 and answer['token'] and
          isinstance(answer['job'], int), 'begin makes a job')
    return answer


def commit(lane, volumes):
    answer = lane.call(
        op='commit', roots=[v.root.hex() for v in volumes],
        stats=dict.fromkeys(('read', 'holes', 'unchanged', 'deduplicated',
                             'sent', 'stored', 'duration_ms'), 7))
    check(len(answer['id']) == 32, 'commit gives an id')
    return answer


def made_up(lane):
    chunk = lane.hello['chunk_size']
    word = WORD if chunk == len(WORD) else os.urandom(chunk)
    return [
        # A hole inside and a short last slice.
        Volume(lane, 'short', 3 * chunk + 100, {
            0: os.urandom(chunk), 2: word, 3: os.urandom(100)}),
        # Two levels; all of the first leaf is a hole; both nodes have a tail.
        Volume(lane, 'deep', 129 * chunk + 5, {129: b'deep!'}),
        # A hole as the last slice, which is short: no tail.
        Volume(lane, 'holes-end', 2 * chunk - 1, {0: os.urandom(chunk)}),
        Volume(lane, 'zeroes', 5 * chunk, {}),
        Volume(lane, 'empty', 0, {}),
    ]


def first_backup(path, vm):
    lane = Lane(path)
    check(lane.hello['version'] == 1 and lane.hello['hash'] == 'sha256',
          'hello tells version and hash')
    check(len(lane.hello['uuid']) == 32, 'hello tells the uuid')
    plain = made_up(lane)
    answer = begin(lane, vm, plain)
    check(answer.get('parent') is None, 'a first backup has no parent')
    lane.set_key(answer)
    volumes = [Volume(lane, v.name, v.size, v.slices) for v in plain]

    other = Lane(path)              # a second lane of the same job
    check(other.call(op='attach', token=answer['token'])['job'] ==
          answer['job'], 'attach finds the job')
    lanes = [lane, other]
    for n, v in enumerate(volumes):
        at = lanes[n % 2]
        for level, nodes in enumerate(v.nodes):
            for i, (id_, body) in nodes.items():
                if level > 0:
                    check(at.node(body) is None, 'a parent is taken')
                    continue
                ids = [v.ids.get(k, HOLE) for k in range(
                    i * FANOUT, min((i + 1) * FANOUT, v.nslices))]
                leaf, bits = at.query(id_, ids)
                check(not leaf, 'a new leaf is not there')
                want = [k for k in range(len(ids)) if ids[k] != HOLE]
                check(all(bits[k] for k in range(len(ids)) if k not in want),
                      'holes are always there')
                missing = at.node(body)
                check(missing == [k for k in want if not bits[k]],
                      'the missing children are told')
                chunks = [v.coded(i * FANOUT + k) for k in want]
                nstored, stored = at.put(chunks)
                check(nstored == len(missing) and (stored > 0) == (nstored > 0),
                      'new chunks are stored')
                nstored, stored = at.put(chunks)
                check((nstored, stored) == (0, 0), 'what is there is dropped')
                check(at.query(id_, ids)[1] == [1] * len(ids),
                      'what was put is there')
                check(at.node(body) is None, 'a leaf is taken')
                check(at.query(id_, ids)[0] == 1, 'a taken leaf is there')
    lane.call(op='progress', done=1, total=2, read=1, holes=0, unchanged=0,
              deduplicated=0, sent=0, stored=0)
    other.close()
    answer = commit(lane, volumes)
    vm_, _, when = answer['backup'].rpartition('@')
    check(vm_ == vm and len(when) == 20, 'commit names the backup')
    lane.close()
    return volumes, answer


def second_backup(path, vm, volumes, first):
    lane = Lane(path)
    answer = begin(lane, vm, volumes)
    lane.set_key(answer)
    parent = answer['parent']
    check(parent['time'] == first['backup'].rpartition('@')[2],
          'the parent is the backup before')
    check([(p['size'], p['root']) for p in parent['volumes']] ==
          [(v.size, v.root.hex()) for v in volumes],
          'the parent tells its volumes')
    for n, v in enumerate(volumes):
        for level, nodes in enumerate(v.nodes):
            for i, (id_, body) in nodes.items():
                check(lane.tree(n, level, i) == body,
                      'TREE reads the tree of the parent')
                if level == 0:
                    check(lane.query(id_, [])[0] == 1,
                          'leaves of the parent are there')
    second = commit(lane, volumes)
    check(second['seq'] > first['seq'], 'the sequence grows')
    lane.close()
    return second


def listed(path, vm, answers):
    lane = Lane(path)
    found, after = [], None
    while True:
        q = {'op': 'list', 'vm': vm}
        if after is not None:
            q['after'] = after
        a = lane.call(**q)
        found += a['backups']
        after = a.get('next')
        if after is None:
            break
    check(sorted(b['id'] for b in found) == sorted(a['id'] for a in answers),
          'list has what was committed')
    for a in answers:
        m = lane.call(op='show', backup=a['backup'])['manifest']
        check(m['vm'] == vm and m['format'] == 1, 'show has the manifest')
    check(lane.call(op='show', backup=vm + '@latest')['manifest']['id'] ==
          answers[-1]['id'], '@latest is the highest sequence')
    check(lane.call(op='show', backup=vm + '@-1')['manifest']['id'] ==
          answers[-2]['id'], '@-1 is the one before')
    lane.close()


def restore(path, name, volumes):
    lane = Lane(path)
    answer = lane.call(op='restore', backup=name)
    lane.set_key(answer)
    chunk = lane.hello['chunk_size']
    m = answer['manifest']
    check([(v['name'], v['size'], v['root']) for v in m['volumes']] ==
          [(v.name, v.size, v.root.hex()) for v in volumes],
          'the manifest has the volumes')
    check([(v['path'], v['identity']) for v in m['volumes']] ==
          [('/images/' + v.name, 'file:12:3.000000004') for v in volumes],
          'the manifest says where they were')
    for n, v in enumerate(volumes):
        for level, nodes in enumerate(v.nodes):
            for i, (_, body) in nodes.items():
                check(lane.tree(n, level, i) == body, 'TREE has the nodes')
        if v.nslices > FANOUT:
            check(lane.tree(n, 0, 0) is None, 'a hole is an empty TREE_NODE')
        got = {}
        at = 0
        while at < v.nslices:
            count = min(v.nslices - at, (16 << 20) // chunk)
            got.update(lane.read(n, at, count))
            at += count
        check(set(got) == set(v.slices), 'all slices but holes are sent')
        for i, (codec, raw_len, data) in got.items():
            check(raw_len == len(v.slices[i]), 'a slice has its length')
            if codec == 1:
                check(data == WORD_ZSTD, 'the zstd frame comes as it was put')
                data = WORD
            check(data == v.slices[i], 'a slice comes as it was put')
    lane.call(op='finish', ok=True, text='compared')
    lane.close()


def refused(what, lane, codes, act):
    """An ERROR of one of the codes, or, where that is None, a closed lane."""
    try:
        act(lane)
        lane.recv()
        check(False, '%s was answered as if it were right' % what)
    except Refused as e:
        check(e.code in codes, '%s: %s' % (what, e))
    except Closed:
        check(None in codes, '%s closed the lane' % what)


def frame(type_, payload, flags=0, zero=0, length=None):
    return struct.pack('<IBBHI', len(payload) if length is None else length,
                       type_, flags, zero, 99) + payload


def bad_frames(path):
    hello = b'{"op":"hello","version":1,"features":[],"program":"x"}'
    ended = (PROTO, LIMIT, None)
    answered = (PROTO,)
    for what, data, codes in (
            ('flags', frame(CALL, hello, flags=1), ended),
            ('zero bytes', frame(CALL, hello, zero=7), ended),
            ('a length over the limit', frame(CALL, b'', length=PAYLOAD_MAX + 1),
             ended),
            ('the longest length', frame(CALL, b'', length=0xffffffff), ended),
            ('garbage', os.urandom(4096), ended + (UNSUP,)),
            ('no hello', frame(CALL, b'{"op":"list"}'), answered + (None,)),
            ('QUERY before hello', frame(QUERY, HOLE), answered + (None,))):
        lane = Lane(path, hello=False)
        refused(what, lane, codes, lambda l, d=data: l.raw(d))
        lane.close()
    for what, data, codes in (
            ('an unknown type', frame(0x77, b'x'), (UNSUP, PROTO)),
            ('an answer as a question', frame(HAVE, b'\0'), (UNSUP, PROTO)),
            ('QUERY without a job', frame(QUERY, HOLE), answered),
            ('READ without a job', frame(READ, bytes(16)), answered),
            ('no JSON', frame(CALL, b'{"op":'), answered),
            ('no object', frame(CALL, b'[]'), answered),
            ('a key twice', frame(CALL, b'{"op":"list","op":"list"}'),
             answered),
            ('17 levels', frame(
                CALL, b'{"op":"list","a":' + b'[' * 16 + b']' * 16 + b'}'),
             answered),
            ('too long a call', frame(CALL, b' ' * (1 << 20) + b'{}'),
             (PROTO, LIMIT)),
            ('no op', frame(CALL, b'{}'), (PROTO, INVAL)),
            ('an unknown op', frame(CALL, b'{"op":"dance"}'), (UNSUP,)),
            ('an unknown VM', frame(
                CALL, b'{"op":"show","backup":"no-such-vm@latest"}'),
             (NOENT,)),
            ('a bad name', frame(
                CALL, b'{"op":"show","backup":"../etc@latest"}'),
             (PROTO, NOENT, INVAL)),
            ('a token of nobody', frame(
                CALL, b'{"op":"attach","token":"' + b'0' * 32 + b'"}'),
             (NOENT, INVAL))):
        lane = Lane(path)
        refused(what, lane, codes, lambda l, d=data: l.raw(d))
        # The lane goes on.
        check('backups' in lane.call(op='list'), 'list after ' + what)
        lane.close()
    for cut in (1, 11, 12, 20):     # and gone in the middle of a frame
        lane = Lane(path, hello=False)
        lane.raw(frame(CALL, hello)[:cut])
        lane.close()


def last_word(lane, code, request):
    """An ERROR of that code and request is the last that comes."""
    try:
        lane.recv(request)
        check(False, 'it was answered as if it were right')
    except Refused as e:
        check(e.code == code, 'the last word: %s' % e)
    lane.sock.shutdown(socket.SHUT_WR)
    try:
        lane.exactly(1)
        check(False, 'there is more behind the last word')
    except Closed:
        pass


def ends(path):
    """PROTOCOL.md 1.3 and 1.4."""
    hello = b'{"op":"hello","version":1,"features":["dance"],"program":"x"}'
    for data, code, request in (
            (frame(CALL, hello.replace(b'1', b'2')), UNSUP, 99),
            (frame(CALL, b'{"op":"list"}'), PROTO, 99),
            # Before it is known what the lane is for, and after.
            (frame(CALL, b'', length=(1 << 20) + 1), LIMIT, 0),
            (frame(CALL, hello, zero=7), PROTO, 0)):
        lane = Lane(path, hello=False)
        lane.raw(data)
        last_word(lane, code, request)
        lane.close()
    lane = Lane(path)
    lane.raw(frame(CALL, b'', length=PAYLOAD_MAX + 1))
    last_word(lane, LIMIT, 0)
    lane.close()
    # Whoever has said all reads all answers, and no more.
    lane = Lane(path, hello=False)
    lane.raw(frame(CALL, hello) + 3 * frame(CALL, b'{"op":"list"}') +
             frame(CALL, hello)[:20])
    lane.sock.shutdown(socket.SHUT_WR)
    answers = []
    try:
        while True:
            answers.append(lane.recv(99))
    except Closed:
        pass
    check([t for t, _ in answers] == 4 * [RESULT],
          'what came before the end is answered')
    check(json.loads(answers[0][1])['features'] == [],
          'an unknown feature is ignored')
    lane.close()


def bad_puts(path, vm):
    lane = Lane(path)
    chunk = lane.hello['chunk_size']
    v = Volume(lane, 'vda', 2 * chunk, {0: os.urandom(chunk)})
    lane.set_key(begin(lane, vm, [v], full=True))
    v = Volume(lane, 'vda', v.size, v.slices)
    data = v.slices[0]
    id_, leaf = v.ids[0], v.nodes[0][0][1]
    zeroes = bytes(chunk)
    bad = (PROTO,)
    limit = (PROTO, LIMIT)
    for what, type_, payload, codes in (
            ('a chunk that is another', PUT,
             put_one(id_, 0, chunk, data[:-1] + b'x'), bad),
            ('a chunk of zeroes', PUT,
             put_one(lane.digest('sha256', zeroes), 0, chunk, zeroes), bad),
            ('the id of a hole', PUT, put_one(HOLE, 0, chunk, data), bad),
            ('zstd that is none', PUT, put_one(id_, 1, chunk, data), bad),
            ('an unknown codec', PUT, put_one(id_, 9, chunk, data),
             (PROTO, UNSUP)),
            ('a length of 4 GiB', PUT, put_one(id_, 1, 0xffffffff, data),
             limit),
            ('a bomb', PUT, put_one(id_, 1, 100, WORD_ZSTD), bad),
            ('half a chunk', PUT, put_one(id_, 0, chunk, data)[:-1], bad),
            ('half a header', PUT, bytes(43), bad),
            ('half an id', QUERY, bytes(33), bad),
            ('129 ids', QUERY, bytes(32 * 130), limit),
            ('an empty node', NODE, bytes(4), bad),
            ('a node ending in a hole', NODE,
             bytes([0, 2, 0, 0]) + id_ + HOLE, bad),
            ('a node of level 7', NODE, bytes([7]) + leaf[1:], bad),
            ('a node with flags', NODE, leaf[:2] + b'\x02' + leaf[3:], bad),
            ('TREE without a parent', TREE, bytes(12), (NOENT,)),
            ('TREE of level 7', TREE, struct.pack('<HBBQ', 0, 7, 0, 0),
             limit),
            ('TREE beyond', TREE, struct.pack('<HBBQ', 0, 0, 0, 1 << 63),
             limit),
            ('READ in a backup', READ, struct.pack('<HBBIQ', 0, 0, 1, 1, 0),
             bad)):
        refused(what, lane, codes,
                lambda l, t=type_, p=payload: l.raw(frame(t, p)))
    check(lane.node(leaf) == [0], 'none of that was stored')
    lane.put([v.coded(0)])
    refused('a leaf with a tail that it has not', lane, bad,
            lambda l: l.raw(frame(NODE, leaf[:2] + b'\x01' + leaf[3:])))
    check(lane.node(leaf) is None, 'the right leaf is taken')
    lane.close()                    # without a commit
    check(Lane(path).call(op='list', vm=vm).get('backups') == [],
          'nothing was committed')


def bad_commit(path, vm):
    for what, size, roots, codes in (
            ('a root that is not there', 1 << 20, [b'\x11' * 32], (MISSING,)),
            ('too few roots', 1 << 20, [], (PROTO,)),
            ('a root of an empty volume', 0, [b'\x11' * 32], (PROTO,))):
        lane = Lane(path)
        v = Volume(lane, 'vda', size, {})
        begin(lane, vm, [v], full=True)
        refused(what, lane, codes, lambda l, r=roots: l.call(
            op='commit', roots=[x.hex() for x in r], stats=dict.fromkeys(
                ('read', 'holes', 'unchanged', 'deduplicated', 'sent',
                 'stored', 'duration_ms'), 0)))
        lane.close()


def bad_reads(path, name):
    lane = Lane(path)
    lane.call(op='restore', backup=name)
    for what, type_, payload, codes in (
            ('READ of no slices', READ, struct.pack('<HBBIQ', 0, 0, 1, 0, 0),
             (PROTO,)),
            ('READ of too many', READ, struct.pack('<HBBIQ', 0, 0, 1, 65537, 0),
             (LIMIT,)),
            ('READ of a part that there is not', READ,
             struct.pack('<HBBIQ', 0, 4, 4, 1, 0), (PROTO,)),
            ('READ of none of no parts', READ,
             struct.pack('<HBBIQ', 0, 0, 0, 1, 0), (PROTO,)),
            ('READ beyond the end', READ, struct.pack('<HBBIQ', 0, 0, 1, 5, 0),
             (INVAL,)),
            ('READ far beyond', READ,
             struct.pack('<HBBIQ', 0, 0, 1, 1, (1 << 64) - 1), (LIMIT,)),
            ('READ of no volume', READ, struct.pack('<HBBIQ', 99, 0, 1, 1, 0),
             (INVAL,)),
            ('TREE of no volume', TREE, struct.pack('<HBBQ', 99, 0, 0, 0),
             (INVAL,)),
            ('TREE above the root', TREE, struct.pack('<HBBQ', 0, 3, 0, 0),
             (INVAL,)),
            ('QUERY in a restore', QUERY, HOLE, (PROTO,)),
            ('PUT in a restore', PUT, b'', (PROTO,)),
            ('commit of a restore', CALL,
             b'{"op":"commit","roots":[]}', (INVAL,))):
        refused(what, lane, codes,
                lambda l, t=type_, p=payload: l.raw(frame(t, p)))
    check(len(lane.read(0, 0, 4)) == 3, 'READ after all that')
    lane.close()


def of_a_guest(path, vm):
    """prepare, a checkpoint, and a definition that `show` tells."""
    text = '<domain>\n  <name>é</name>\n</domain>\n'
    tag = '0123456789abcdef'
    zeroes = dict.fromkeys(('read', 'holes', 'unchanged', 'deduplicated',
                            'sent', 'stored', 'duration_ms'), 0)
    for turn in range(2):
        lane = Lane(path)
        answer = patient(lane, op='prepare', vm=vm)
        check('token' not in answer and isinstance(answer['job'], int),
              'prepare makes a job that nobody can join')
        if turn == 0:
            check(answer.get('parent') is None, 'there is no parent')
        else:
            check(answer['parent']['checkpoint'] == tag and
                  len(answer['parent']['time']) == 20,
                  'prepare tells the checkpoint of the parent')
        other = Lane(path)
        refused('a begin while another lane has prepared', other, (BUSY,),
                lambda l: begin_of(l, vm, []))
        other.close()
        refused('a second prepare', lane, (INVAL,),
                lambda l: l.call(op='prepare', vm=vm))
        refused('a commit before begin', lane, (INVAL,),
                lambda l: l.call(op='commit', roots=[], stats=zeroes))
        lane.call(op='progress')
        refused('a begin of another VM', lane, (INVAL,),
                lambda l: begin_of(l, vm + '2', []))
        v = Volume(lane, 'definition', len(text.encode()), {0: text.encode()})
        answer = begin_of(lane, vm, [v])
        lane.set_key(answer)
        v = Volume(lane, v.name, v.size, v.slices)
        if turn == 1:
            check(answer['parent']['checkpoint'] == tag and
                  answer['parent']['volumes'][0]['root'] == v.root.hex(),
                  'begin tells the checkpoint of the parent')
        lane.put([v.coded(0)])
        check(lane.node(v.nodes[0][0][1]) is None, 'the leaf is taken')
        name = commit(lane, [v])['backup']
        shown = lane.call(op='show', backup=name, definition=True)
        check(shown['manifest']['checkpoint'] == tag, 'show has it, too')
        check(shown['definition'] == {'format': 'libvirt-xml', 'text': text},
              'show tells the definition')
        lane.close()
    lane = Lane(path)               # goes, and lets go of the VM
    patient(lane, op='prepare', vm=vm)
    lane.close()
    lane = Lane(path)
    patient(lane, op='prepare', vm=vm, full=True)
    lane.close()


def begin_of(lane, vm, volumes):
    return lane.call(
        op='begin', vm=vm, consistency='crash', checkpoint='0123456789abcdef',
        volumes=[{'name': v.name, 'kind': 'definition', 'size': v.size,
                  'format': 'libvirt-xml', 'cluster_size': 0}
                 for v in volumes])


def main(argv):
    if len(argv) not in (2, 3):
        print(__doc__, file=sys.stderr)
        return 2
    path = argv[1]
    vm = argv[2] if len(argv) == 3 else 'spec-%d' % os.getpid()
    volumes, first = first_backup(path, vm)
    restore(path, first['backup'], volumes)
    second = second_backup(path, vm, volumes, first)
    listed(path, vm, [first, second])
    restore(path, vm + '@latest', volumes)
    bad_frames(path)
    ends(path)
    bad_reads(path, first['backup'])
    bad_puts(path, vm + '-bad')
    bad_commit(path, vm + '-bad')
    of_a_guest(path, vm + '-guest')
    restore(path, vm + '@-1', volumes)
    print('%d checks passed; %s' % (checks, second['backup']))
    return 0


if __name__ == '__main__':
    try:
        sys.exit(main(sys.argv))
    except (AssertionError, Refused, Closed) as e:
        print('failed after %d checks: %s' % (checks, repr(e)),
              file=sys.stderr)
        sys.exit(1)
