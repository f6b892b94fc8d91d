# SPDX-License-Identifier: Apache-2.0
#
# Archives that somebody made to do harm, and broken ones: one file each in the
# folder that is named, and in its "table" a line each: file, and a pattern of
# what an import has to say of it.
import gzip
import io
import lzma
import os
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib

out = sys.argv[1]
table = []
DISK = os.urandom(4096) * 24


def put(name, data, why):
    with open(os.path.join(out, name), "wb") as f:
        f.write(data)
    table.append((name, why))


def entry(name, data=b"", kind=tarfile.REGTYPE, link="", **more):
    t = tarfile.TarInfo(name)
    t.size = len(data)
    t.type = kind
    t.linkname = link
    t.mtime = 1700000000
    for k, v in more.items():
        setattr(t, k, v)
    return t, data


def tar(*entries, form=tarfile.PAX_FORMAT, **more):
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode="w", format=form, **more) as a:
        for t, data in entries:
            a.addfile(t, io.BytesIO(data))
    return b.getvalue()


def zstd(data):
    return subprocess.run(["zstd", "-q", "-c"], input=data,
                          stdout=subprocess.PIPE, check=True).stdout


def header(name, size, typeflag=b"0"):
    """A ustar header whose size is what it is told, sound otherwise."""
    field = b"%011o\0" % size if size < 8 ** 11 else \
        b"\x80" + size.to_bytes(11, "big")
    h = name.encode().ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + \
        field + b"14524000000\0" + b" " * 8 + typeflag + b"\0" * 100 + \
        b"ustar\00000" + b"\0" * 247
    h = h[:512].ljust(512, b"\0")
    total = b"%06o\0 " % sum(h)
    return h[:148] + total + h[156:]


def pad(data):
    return data + b"\0" * (-len(data) % 512)


good = entry("vda.raw", DISK)
whole = tar(good)

# --- names
put("absolute.tar", tar(entry("/etc/vda.raw", DISK)), "leads out|name")
put("dotdot.tar", tar(entry("../vda.raw", DISK)), "leads out|name")
put("dotdot-inside.tar", tar(entry("a/../../vda.raw", DISK)), "leads out|name")
put("dotdot-end.tar", tar(entry("vda.raw/..", DISK)), "leads out|name")
put("after-a-good-one.tar", tar(good, entry("../../vdb.raw", DISK)),
    "leads out|name")
put("control.tar", tar(entry("vd\x1b[31ma.raw", DISK)), "name")
put("newline.tar", tar(entry("vda\nb.raw", DISK)), "name")
put("long-name.tar", tar(entry("a" * 5000 + ".raw", DISK)), "name")
put("no-volume.tar", tar(entry(".raw.raw", DISK)), "no volume can be called")
put("blank.tar", tar(entry("v d a.raw", DISK)), "no volume can be called")
put("latin1.tar", tar(entry("vd\udcff.raw", DISK), form=tarfile.GNU_FORMAT,
                      errors="surrogateescape"), "name|called")
put("empty-name.tar", header("", len(DISK)) + pad(DISK) + b"\0" * 1024,
    "name|damaged")

# --- kinds
for kind, word in ((tarfile.SYMTYPE, "symlink"), (tarfile.LNKTYPE, "hardlink"),
                   (tarfile.CHRTYPE, "char"), (tarfile.BLKTYPE, "block"),
                   (tarfile.FIFOTYPE, "fifo")):
    put(word + ".tar", tar(entry("vda.raw", b"", kind, "/etc/passwd")),
        "no plain file")
put("link-then-file.tar", tar(entry("d", b"", tarfile.SYMTYPE, "/etc"),
                              entry("d/vda.raw", DISK)), "no plain file")
put("readme.tar", tar(good, entry("README", b"hello")), "neither a disk")
put("nested.tar", tar(entry("inner.tar", whole)), "neither a disk")
put("nested-gz.tar", tar(entry("inner.tar.gz", gzip.compress(whole))),
    "neither a disk")
put("nested-as-qcow2.tar", tar(entry("vda.qcow2", whole)), "no qcow2 image")
put("nested-as-img.tar", tar(entry("vda.img", gzip.compress(whole))),
    "compressed with gzip")
put("no-disk.tar", tar(entry("vm.xml", b"<domain/>")), "no disks")
put("two-definitions.tar", tar(good, entry("a.xml", b"<domain/>"),
                               entry("b.xml", b"<domain/>")), "second def")
put("huge-definition.tar", tar(good, entry("a.xml", b"<!-- " + b"x" *
                                           (2 << 20))), "more than")
put("twice.tar", tar(good, good), "another one")
put("twice-other-folder.tar", tar(entry("a/vda.raw", DISK),
                                  entry("b/vda.qcow2", DISK)), "another one")
put("thousands.tar", tar(*[entry("d%d.raw" % i, b"\1" * 512)
                           for i in range(5000)]), "one too many")
put("folders-only.tar", tar(*[entry("d%d" % i, b"", tarfile.DIRTYPE)
                              for i in range(3000)]),
    "no disks")
put("empty-disk.tar", tar(entry("vda.raw", b"")), "is empty")

# --- sizes
for size in (8 << 30, 1 << 50, 1 << 61, (1 << 63) - 1, 1 << 63, (1 << 88) - 1):
    put("huge-%d.tar" % size.bit_length(), header("vda.raw", size) + DISK,
        "room for|no disk has|damaged|size")
put("cut-off.tar", whole[:40000], "damaged|too early|cut off")
put("cut-in-header.tar", whole[:300], "no disk by its")
two = tar(good, entry("vdb.raw", DISK))
put("cut-in-second.tar", two[:len(DISK) + 512 + 30000],
    "damaged|too early|cut off")
put("lies-long.tar", header("vda.raw", len(DISK) + 100000) + pad(DISK),
    "damaged|too early|cut off")
put("lies-short.tar", header("vda.raw", 512) + pad(DISK) + b"\0" * 1024,
    "damaged|cut off|unrecog")
put("pax-size.tar", tar(entry("vda.raw", DISK, pax_headers={
    "size": str(1 << 62)})), "room for|no disk has|damaged|cut off")
put("pax-negative.tar", tar(entry("vda.raw", DISK, pax_headers={
    "size": "-5"})), ".")
put("pax-nonsense.tar", header("x", 1 << 34, b"x") + b"99999999999 path=a\n",
    "damaged|cut off|large")
put("long-link.tar", header("././@LongLink", 1 << 34, b"L") + b"a" * 10000,
    "damaged|cut off|large")
# Maps of holes: beyond the end, overlapping, backwards, a million of them.
for name, m in (("beyond", "0,512,1099511627776,512"),
                ("overlap", "0,2048,512,2048"),
                ("backwards", "4096,512,0,512"),
                ("wraps", "18446744073709551104,1024,512,9223372036854775807"),
                ("million", ",".join("%d,0" % (i * 512)
                                     for i in range(100000)))):
    put("sparse-%s.tar" % name, tar(entry("vda.raw", DISK[:4096], pax_headers={
        "GNU.sparse.major": "0", "GNU.sparse.minor": "1",
        "GNU.sparse.map": m, "GNU.sparse.size": "8192",
        "GNU.sparse.numblocks": "2", "GNU.sparse.name": "vda.raw"})),
        "." if name == "million" else
        "damaged|overlap|too early|longer|cut off|room for|no disk")
put("sparse-huge.tar", tar(entry("vda.raw", DISK[:512], pax_headers={
    "GNU.sparse.major": "0", "GNU.sparse.minor": "1",
    "GNU.sparse.map": "0,512", "GNU.sparse.size": str(1 << 55),
    "GNU.sparse.numblocks": "1", "GNU.sparse.name": "vda.raw"})),
    "room for|no disk has|damaged")

# --- bombs: much out of little.  There is not that much room.
bomb = header("vda.raw", 2 << 30) + bytes(64 << 20)
put("bomb.tar.gz", gzip.compress(bomb, 1), "room for")
put("bomb.tar.zst", zstd(bomb), "room for")
put("bomb.tar.xz", lzma.compress(bomb, preset=0), "room for")
# Within what it says, but more than there is.
put("zeroes.gz", gzip.compress(bytes(64 << 20), 1), "compressed with|no archive")
put("zeroes.zst", zstd(bytes(64 << 20)), "compressed with|no archive")
layers = whole
for i in range(40):
    layers = gzip.compress(layers, 1)
put("layers.gz", layers, "compressed with|damaged|no archive|filter")

# --- checksums, and ends of compressed files
packed = gzip.compress(whole)
put("cut.tar.gz", packed[:len(packed) // 2], "damaged|compressed with")
put("crc.tar.gz", packed[:-8] + b"\1\2\3\4" + packed[-4:],
    "damaged|compressed with")
long = gzip.compress(header("vda.raw", 24 << 20) + os.urandom(24 << 20) +
                     bytes(1024), 1)
put("crc-at-the-end.tar.gz", long[:-8] + b"\1\2\3\4" + long[-4:],
    "damaged.*incorrect data check")
packed = lzma.compress(whole)
put("cut.tar.xz", packed[:len(packed) // 2], "damaged|compressed with")
put("crc.tar.xz", packed[:-40] + b"\xff" * 8 + packed[-32:],
    "damaged|cut off|Lzma|corrupt")
packed = zstd(whole)
put("cut.tar.zst", packed[:len(packed) // 2], "damaged|compressed with")
put("crc.tar.zst", packed[:2000] + b"\xff" * 64 + packed[2064:],
    "damaged|compressed with")
second = bytearray(two)
at = len(DISK) + 1024 - len(DISK) % 512
for i in range(0, len(second), 512):
    if second[i:i + 7] == b"vdb.raw":
        second[i + 150] ^= 1
put("sum.tar", bytes(second), "damaged|checksum")


# --- zip
def zipped(names, method=zipfile.ZIP_DEFLATED, unseekable=False):
    b = io.BytesIO()

    class Pipe(io.RawIOBase):
        def writable(self):
            return True

        def write(self, data):
            return b.write(data)

    with zipfile.ZipFile(Pipe() if unseekable else b, "w", method) as z:
        for n, data in names:
            if isinstance(n, str):
                n = zipfile.ZipInfo(n)
                n.compress_type = method
            z.writestr(n, data)
    return bytearray(b.getvalue())


put("absolute.zip", zipped([("/etc/vda.raw", DISK)]), "leads out|name")
put("dotdot.zip", zipped([("../vda.raw", DISK)]), "leads out|name")
put("backslash.zip", zipped([("..\\vda.raw", DISK)]), "called|name")
put("descriptor.zip", zipped([("vda.raw", DISK)], unseekable=True),
    "does not say its size")
link = zipfile.ZipInfo("vda.raw")
link.create_system = 3
link.external_attr = 0o120777 << 16
put("symlink.zip", zipped([(link, "/etc/passwd")]), "no disk has 11|no plain")
z = zipped([("vda.raw", DISK)])
z[14:18] = b"\1\2\3\4"
put("crc.zip", z, "damaged|CRC")
z = zipped([("vda.raw", DISK)], zipfile.ZIP_STORED)
z[200] ^= 0xff
put("flipped.zip", z, "damaged|CRC")
z = zipped([("vda.raw", DISK)])
z[22:26] = struct.pack("<I", 1000)
put("lies-short.zip", z, "damaged|longer|size")
z = zipped([("vda.raw", DISK)])
z[22:26] = struct.pack("<I", 0xfffffff0)
put("lies-long.zip", z, "room for|damaged|size")
put("cut.zip", zipped([("vda.raw", DISK)])[:3000], "damaged|cut off|truncated")
z = zipped([("vda.raw", bytes(256 << 20))])
put("bomb.zip", z, "room for")
z[22:26] = struct.pack("<I", 1 << 20)
put("bomb-lies.zip", z, "damaged|longer|size")
z = zipped([("vda.raw", DISK)])
z[6] |= 1
put("encrypted.zip", z, "damaged|ncrypt|passphrase|size")
put("twice.zip", zipped([("a/vda.raw", DISK), ("b/vda.raw", DISK)]),
    "another one")


# --- images in them
def qcow2(*args):
    path = os.path.join(out, "image")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-u", path,
                    "1M", *args], check=True)
    with open(path, "rb") as f:
        data = f.read()
    os.unlink(path)
    return data


q = qcow2()
put("backing.tar", tar(entry("vda.qcow2", qcow2(
    "-b", "/etc/passwd", "-F", "raw"))), "names another file")
put("qcow2-cut.tar", tar(entry("vda.qcow2", q[:90])), ".")
put("qcow2-l1.tar", tar(entry("vda.qcow2", q[:36] + b"\xff\xff\xff\xff" +
                              q[40:])), ".")
put("qcow2-encrypted.tar", tar(entry("vda.qcow2", q[:32] + b"\0\0\0\1" +
                                     q[36:])), ".")
put("qcow2-size.tar", tar(entry("vda.qcow2", q[:24] + b"\xff" * 8 + q[32:])),
    ".")

# --- no archives at all
put("nothing", b"", "empty")
put("disk.qcow2.gz", gzip.compress(q), "compressed with gzip")
put("disk.raw.xz", lzma.compress(DISK), "compressed with xz")
put("disk.raw.zst", zstd(DISK), "compressed with zstd")
put("disk.vmdk", b"KDMV" + bytes(4092), "VMDK")
put("disk.7z", b"7z\xbc\xaf\x27\x1c" + bytes(4090), "7z")
put("disk.rar", b"Rar!\x1a\x07\x01\0" + bytes(4088), "rar")
put("deb", b"!<arch>\n" + bytes(4088), "an ar archive")

with open(os.path.join(out, "table"), "w") as f:
    for name, why in table:
        f.write("%s\t%s\n" % (name, why))
