#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A second reader of repositories, written from repo/FORMAT.md and
proto/PROTOCOL.md alone.  It reads packs and nothing else: no index.

    store_reader.py REPO list
    store_reader.py REPO extract VM@TIME|VM@latest|VM@-N VOLUME OUT

Every chunk and node that it uses is checked against its id.
Needs zstd: the Python module "zstandard" or the program "zstd".
"""
import hashlib
import hmac
import json
import os
import re
import struct
import subprocess
import sys

try:
    import zstandard
except ImportError:
    zstandard = None

CHUNK, NODE, MANIFEST, TOMBSTONE, SETTINGS, FOOTER = 1, 2, 3, 4, 5, 15
DATA_PACK, META_PACK = 1, 2
PLAIN, ZSTD = 0, 1
PACK_HEADER_LEN, RECORD_LEN, TRAILER_LEN, ENTRY_LEN = 128, 64, 32, 48
RECORD_MAGIC = b'BSR\xd7'
STORED_MAX = (4 << 20) + 4096
MANIFEST_MAX = 1 << 20
FANOUT = 128
HOLE = bytes(32)


class Bad(Exception):
    """Bytes that are not what the documents say."""


def crc32c_table():
    table = []
    for i in range(256):
        for _ in range(8):
            i = i >> 1 ^ (0x82f63b78 if i & 1 else 0)
        table.append(i)
    return table


CRC_TABLE = crc32c_table()


def crc32c(data):
    c = 0xffffffff
    for b in data:
        c = c >> 8 ^ CRC_TABLE[(c ^ b) & 255]
    return c ^ 0xffffffff


assert crc32c(b'123456789') == 0xe3069283
assert hashlib.new('sha512_256', b'abc').hexdigest().startswith('53048e26')


def unzstd(data, raw_len):
    if zstandard is not None:
        try:
            return zstandard.ZstdDecompressor().decompress(
                data, max_output_size=raw_len)
        except zstandard.ZstdError as e:
            raise Bad('zstd: %s' % e)
    p = subprocess.run(['zstd', '-dcq'], input=data, capture_output=True,
                       check=False)
    if p.returncode != 0:
        raise Bad('zstd: %s' % p.stderr.decode().strip())
    return p.stdout


class Place:
    """Where the payload of a record lies."""

    def __init__(self, path, off, codec, raw_len, stored_len):
        self.path, self.off, self.codec = path, off, codec
        self.raw_len, self.stored_len = raw_len, stored_len

    def read(self):
        with open(self.path, 'rb') as f:
            f.seek(self.off)
            data = f.read(self.stored_len)
        if len(data) != self.stored_len:
            raise Bad('%s: cut at %d' % (self.path, self.off))
        if self.codec == ZSTD:
            data = unzstd(data, self.raw_len)
        elif self.codec != PLAIN:
            raise Bad('%s: unknown codec %d' % (self.path, self.codec))
        if len(data) != self.raw_len:
            raise Bad('%s: %d bytes instead of %d at %d' % (
                self.path, len(data), self.raw_len, self.off))
        return data


class Pack:
    """One pack file: FORMAT.md 3."""

    def __init__(self, path, uuid):
        self.path = path
        self.size = os.path.getsize(path)
        with open(path, 'rb') as f:
            h = f.read(PACK_HEADER_LEN)
        if len(h) < PACK_HEADER_LEN or h[:8] != b'BSPACK\r\n':
            raise Bad('%s: no pack' % path)
        if crc32c(h[:124]) != struct.unpack_from('<I', h, 124)[0]:
            raise Bad('%s: the header is damaged' % path)
        (version, length, features, self.type, hash_, zero, self.number,
         self.mirror, self.chunk_size, self.domain, zero1, self.tag
         ) = struct.unpack_from('<HHIBBHIIIIIQ', h, 8)
        if (version, length, features, hash_) != (1, 128, 0, 1):
            raise Bad('%s: unknown version or features' % path)
        if zero != 0 or zero1 != 0 or h[64:124] != bytes(60):
            raise Bad('%s: bytes that must be zero are not' % path)
        if h[48:64] != uuid:
            raise Bad('%s: of another repository' % path)
        if self.type not in (DATA_PACK, META_PACK):
            raise Bad('%s: unknown type %d' % (path, self.type))
        if os.path.basename(path).split('.')[0] != '%08x' % self.number:
            raise Bad('%s: of another number' % path)
        self.sealed = False

    def record(self, h):
        """(kind, codec, raw_len, stored_len, id, payload CRC), or None."""
        if len(h) < RECORD_LEN or h[:4] != RECORD_MAGIC:
            return None
        (kind, codec, flags, tag, raw_len, stored_len, id_, payload_crc,
         header_crc) = struct.unpack('<BBHQII32sII', h[4:RECORD_LEN])
        if tag != self.tag or crc32c(h[:60]) != header_crc or flags != 0:
            return None
        return kind, codec, raw_len, stored_len, id_, payload_crc

    def footer(self):
        """The entries of a sealed pack, or None."""
        if self.size < PACK_HEADER_LEN + RECORD_LEN + TRAILER_LEN:
            return None
        with open(self.path, 'rb') as f:
            f.seek(self.size - TRAILER_LEN)
            t = f.read(TRAILER_LEN)
            magic, version, zero, off, count, tag, crc = struct.unpack(
                '<4sHHQIQI', t)
            if magic != b'BSE\xd7' or version != 1 or zero != 0 or \
                    tag != self.tag or crc != crc32c(t[:28]) or \
                    off + RECORD_LEN + count * ENTRY_LEN + TRAILER_LEN != \
                    self.size:
                return None
            f.seek(off)
            r = self.record(f.read(RECORD_LEN))
            body = f.read(count * ENTRY_LEN)
        if r is None or r[0] != FOOTER or r[3] != len(body) or \
                crc32c(body) != r[5]:
            return None
        return [struct.unpack_from('<32sIIIBBH', body, i)
                for i in range(0, len(body), ENTRY_LEN)]

    def records(self):
        """(kind, id, place) of every record; footers are not told."""
        entries = self.footer()
        if entries is not None:
            self.sealed = True
            for id_, off, raw_len, stored_len, kind, codec, _ in entries:
                yield kind, id_, Place(self.path, off + RECORD_LEN, codec,
                                       raw_len, stored_len)
            return
        off = PACK_HEADER_LEN
        with open(self.path, 'rb') as f:
            while off + RECORD_LEN <= self.size:
                f.seek(off)
                r = self.record(f.read(RECORD_LEN))
                if r is None or off + RECORD_LEN + r[3] > self.size:
                    off = self.search(f, off + 1)
                    continue
                kind, codec, raw_len, stored_len, id_, _ = r
                if kind != FOOTER:
                    yield kind, id_, Place(self.path, off + RECORD_LEN,
                                           codec, raw_len, stored_len)
                off += RECORD_LEN + stored_len

    def search(self, f, off):
        """The next place that may be a record of this pack."""
        step = 1 << 20
        while off < self.size:
            f.seek(off)
            data = f.read(step + 16)
            at = data.find(RECORD_MAGIC)
            while at != -1:
                if data[at + 8:at + 16] == struct.pack('<Q', self.tag):
                    return off + at
                at = data.find(RECORD_MAGIC, at + 1)
            off += step
        return self.size


class Repository:
    def __init__(self, path):
        with open(os.path.join(path, 'backstay.json'), 'rb') as f:
            self.format = json.load(f)
        if self.format['version'] != 1 or \
                set(self.format['features']) - {'packs'}:
            raise Bad('unknown version or features of the repository')
        # Packs elsewhere: whoever reads has put a link, or mounted them here.
        if not os.path.isdir(os.path.join(path, 'packs')):
            raise Bad('%s/packs: no folder; the packs are at %s' % (
                path, self.format.get('packs', '')))
        if self.format['hash'] != 'sha256':
            raise Bad('unknown hash')
        self.path = path
        self.chunk_size = self.format['chunk_size']
        self.keys = {0: None}
        self.chunks, self.nodes = {}, {}
        self.manifests, self.tombstones = {}, set()
        self.nincomplete = 0
        self.npacks = self.nsealed = 0
        self.tail = False           # of the node that was walked last
        self.read_keys()
        self.read_packs()

    def read_keys(self):
        """Keys of keyed ids; a repository with one owner has none."""
        name = os.path.join(self.path, 'keys', 'domains.json')
        if not os.path.exists(name):
            return
        with open(name, 'rb') as f:
            for d in json.load(f).get('domains', []):
                self.keys[d['domain']] = bytes.fromhex(d['key'])

    def read_packs(self):
        uuid = bytes.fromhex(self.format['uuid'])
        top = os.path.join(self.path, 'packs')
        for folder, _, names in sorted(os.walk(top)):
            for name in sorted(names):
                if not re.fullmatch(r'[0-9a-f]{8}\.(pack|poisoned)', name):
                    continue
                p = os.path.join(folder, name)
                if os.path.getsize(p) == 0:
                    continue        # made and never written: a crash
                try:
                    self.add(Pack(p, uuid))
                except Bad as e:
                    print('warning: %s' % e, file=sys.stderr)

    def add(self, pack):
        self.npacks += 1
        for kind, id_, place in pack.records():
            if kind == TOMBSTONE and (place.raw_len, place.stored_len) != \
                    (8, 8):
                raise Bad('%s: a tombstone of %d bytes' % (
                    pack.path, place.stored_len))
            if kind == CHUNK and pack.type == DATA_PACK:
                self.chunks.setdefault(id_, []).append(place)
            elif pack.type != META_PACK:
                continue            # guests' bytes make no manifests
            elif kind == NODE:
                self.nodes.setdefault(id_, []).append(place)
            elif kind == TOMBSTONE:
                self.tombstones.add(id_)
            elif kind == MANIFEST:
                self.manifests.setdefault(id_, []).append(place)
        self.nsealed += pack.sealed

    def digest(self, domain, name, data):
        if domain not in self.keys:
            raise Bad('no key for domain %d' % domain)
        key = self.keys[domain]
        if key is None:
            return hashlib.new(name, data).digest()
        return hmac.new(key, data, name).digest()

    def fetch(self, table, domain, id_, digest):
        why = Bad('%s is in no pack' % id_.hex())
        for place in table.get(id_, []):
            try:
                data = place.read()
            except Bad as e:
                why = e
                continue
            if self.digest(domain, digest, data) == id_:
                return data
            why = Bad('%s at %d: another id than %s' % (
                place.path, place.off, id_.hex()))
        raise why

    def backups(self):
        """Manifests that no tombstone ends, in their order."""
        found = []
        for id_, places in self.manifests.items():
            if id_ in self.tombstones:
                continue
            for place in places:
                try:
                    m = json.loads(place.read())
                    break
                except (Bad, ValueError) as e:
                    print('warning: a manifest: %s' % e, file=sys.stderr)
            else:
                continue
            if m['format'] != 1:
                raise Bad('a manifest of format %r' % m['format'])
            if bytes.fromhex(m['id']) + bytes(16) != id_:
                raise Bad('a manifest under another id than its own')
            if m['chunk_size'] != self.chunk_size:
                raise Bad('a manifest of another chunk size')
            origins = [(v.get('path', '/'), v.get('identity', ''))
                       for v in m['volumes'] if 'path' in v]
            if any(p[0] != '/' or len(p.encode()) > 1023 or
                   len(i.encode()) > 127 for p, i in origins) or \
                    sum(len(p.encode()) + len(i.encode()) + 2
                        for p, i in origins) > 8192:
                raise Bad('a manifest with places that cannot be')
            if m.get('incomplete'):
                if any(v['kind'] != 'part' or v['name'] != 'part-%d' % i
                       for i, v in enumerate(m['volumes'])):
                    raise Bad('an incomplete manifest with other volumes')
                self.nincomplete += 1
                continue            # holds data, is no backup
            found.append(m)
        return sorted(found, key=lambda m: (m['vm'], m['seq']))

    def find(self, name):
        vm, _, which = name.rpartition('@')
        of_vm = [m for m in self.backups() if m['vm'] == vm]
        if which == 'latest':
            of_vm = of_vm[-1:]
        elif re.fullmatch(r'-[1-9][0-9]*', which):
            back = int(which[1:])
            of_vm = of_vm[-back - 1:-back]
        else:
            of_vm = [m for m in of_vm if m['time'] == which]
        if len(of_vm) != 1:
            raise Bad('%s: %d such backups' % (name, len(of_vm)))
        return of_vm[0]

    def node(self, domain, id_, level):
        """(children, tail) of a node: PROTOCOL.md 4."""
        body = self.fetch(self.nodes, domain, id_, 'sha512_256')
        if len(body) < 4:
            raise Bad('a node of %d bytes' % len(body))
        got, n, flags, zero = body[:4]
        if got != level or not 1 <= n <= FANOUT or flags & ~1 or zero or \
                len(body) != 4 + 32 * n or body[-32:] == HOLE:
            raise Bad('node %s is not in its one form' % id_.hex())
        return [body[4 + 32 * i:36 + 32 * i] for i in range(n)], flags & 1

    def walk(self, m, v):
        """(slice, bytes) of every slice that is no hole."""
        root = bytes.fromhex(v['root'])
        nslices = -(-v['size'] // self.chunk_size)
        level = 0
        while FANOUT ** (level + 1) < nslices:
            level += 1
        if root == HOLE:
            return
        if nslices == 0:
            raise Bad('an empty volume with a tree')
        yield from self.below(m['domain'], v['size'], root, level, 0)

    def below(self, domain, size, id_, level, first):
        children, tail = self.node(domain, id_, level)
        span = FANOUT ** level
        short = False
        for i, child in enumerate(children):
            if child == HOLE:
                continue
            at = first + i * span
            if at * self.chunk_size >= size:
                raise Bad('a tree that is larger than its volume')
            if level > 0:
                yield from self.below(domain, size, child, level - 1, at)
                continue
            data = self.fetch(self.chunks, domain, child, 'sha256')
            want = min(self.chunk_size, size - at * self.chunk_size)
            if len(data) != want:
                raise Bad('slice %d has %d bytes' % (at, len(data)))
            if data.count(0) == len(data):
                raise Bad('slice %d is a stored hole' % at)
            short = want != self.chunk_size
            yield at, data
        if level > 0:
            short = self.tail       # of the last child that is no hole
        if short != bool(tail):
            raise Bad('a node that is wrong about its last slice')
        self.tail = short

    def extract(self, name, volume, out):
        m = self.find(name)
        for v in m['volumes']:
            if v['name'] == volume:
                break
        else:
            raise Bad('%s has no volume %s' % (name, volume))
        n = 0
        with open(out, 'wb') as f:
            f.truncate(v['size'])
            for i, data in self.walk(m, v):
                f.seek(i * self.chunk_size)
                f.write(data)
                n += 1
        print('%s@%s %s: %d bytes, %d chunks' % (
            m['vm'], m['time'], volume, v['size'], n))


def main(argv):
    if len(argv) == 3 and argv[2] == 'list':
        r = Repository(argv[1])
        for m in r.backups():
            print('%s@%s seq %d: %s' % (
                m['vm'], m['time'], m['seq'], ', '.join(
                    '%s %s %d' % (v['name'], v['kind'], v['size'])
                    for v in m['volumes'])))
        print('%d packs, %d sealed, %d chunks, %d nodes, %d deleted, '
              '%d incomplete' % (
                  r.npacks, r.nsealed, len(r.chunks), len(r.nodes),
                  len(r.tombstones), r.nincomplete), file=sys.stderr)
        return 0
    if len(argv) == 6 and argv[2] == 'extract':
        Repository(argv[1]).extract(*argv[3:])
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == '__main__':
    try:
        sys.exit(main(sys.argv))
    except Bad as e:
        print('error: %s' % e, file=sys.stderr)
        sys.exit(1)
