# SPDX-License-Identifier: Apache-2.0
#
# hostile_own.py OWN.tar FOLDER: what could be made of an archive that export
# wrote (raw disks, plain tar): a file each in the folder, and in its "table" a
# line each: file, and a pattern of what an import has to say of it.
import io
import json
import os
import sys
import tarfile

source, out = sys.argv[1:]
table = []
with tarfile.open(source) as a:
    members = [(t, a.extractfile(t).read()) for t in a.getmembers()]
FIRST = next(i for i, m in enumerate(members)
             if m[0].name.endswith("backstay.json"))
LAST = next(i for i, m in enumerate(members)
            if m[0].name.endswith("manifest.json"))
DISK = next(i for i, m in enumerate(members) if m[0].name.endswith(".raw"))


def put(name, why, change):
    own = [[tarfile.TarInfo(t.name), data] for t, data in members]
    own = change(own) or own
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode="w", format=tarfile.PAX_FORMAT) as a:
        for t, data in own:
            if t.type == tarfile.REGTYPE:
                t.size = len(data)
            a.addfile(t, io.BytesIO(data))
    with open(os.path.join(out, name), "wb") as f:
        f.write(b.getvalue())
    table.append((name, why))


def text(which, change):
    def f(own):
        j = json.loads(own[which][1])
        j = change(j) or j
        own[which][1] = json.dumps(j).encode()
    return f


def first(change):
    return text(FIRST, change)


def raw(which, data):
    def f(own):
        own[which][1] = data
    return f


def flip(which, at):
    def f(own):
        d = bytearray(own[which][1])
        d[at] ^= 1
        own[which][1] = bytes(d)
    return f


def named(which, name):
    def f(own):
        own[which][0].name = name
    return f


def linked(own):
    own[DISK][0].type = tarfile.SYMTYPE
    own[DISK][0].linkname = "/etc/passwd"


def member(**more):
    return first(lambda j: j["members"][0].update(more))


def volume(**more):
    return first(lambda j: j["manifest"]["volumes"][0].update(more))


put("no-json.tar", ".", raw(FIRST, b"not json"))
put("nothing.tar", ".", raw(FIRST, b""))
put("empty.tar", ".", raw(FIRST, b"{}"))
put("huge-json.tar", ".", raw(FIRST, b" " * (3 << 20)))
put("deep.tar", ".", raw(FIRST, b'{"a":' * 5000 + b"1" + b"}" * 5000))
put("twice-a-key.tar", ".", raw(FIRST, b'{"archive":1,"archive":1}'))
put("version.tar", ".", first(lambda j: j.update(archive=99)))
put("no-members.tar", ".", first(lambda j: j.update(members=[])))
put("many-members.tar", ".",
    first(lambda j: j.update(members=j["members"] * 1000)))
put("no-volumes.tar", ".", first(lambda j: j["manifest"].update(volumes=[])))
put("member-outside.tar", ".", member(name="../../etc/passwd"))
put("member-absolute.tar", ".", member(name="/etc/passwd"))
put("member-other-volume.tar", ".", member(volume="vdz"))
put("member-form.tar", ".", member(form="exe"))
put("member-size.tar", ".", member(size=1 << 62))
put("member-size-negative.tar", ".", member(size=-1))
put("volume-size.tar", ".", volume(size=1 << 60))
put("volume-size-0.tar", ".", volume(size=0))
put("volume-name.tar", ".", volume(name="../x"))
put("vm.tar", ".", first(lambda j: j["manifest"].update(vm="../../x")))
put("future.tar", ".",
    first(lambda j: j["manifest"].update(time="2999-01-01T00:00:00Z")))
put("chunk-size.tar", ".",
    first(lambda j: j["manifest"].update(chunk_size=3)))
put("disk-flipped.tar", ".", flip(DISK, 5))
put("disk-flipped-at-its-end.tar", ".", flip(DISK, -1))
put("disk-short.tar", ".", raw(DISK, members[DISK][1][:-65536]))
put("disk-long.tar", ".", raw(DISK, members[DISK][1] + bytes(65536)))
put("disk-name.tar", ".", named(DISK, "other.raw"))
put("disk-dotted.tar", ".", named(DISK, "../" + members[DISK][0].name))
put("disk-link.tar", ".", linked)
put("disk-missing.tar", ".", lambda own: own[:DISK] + own[DISK + 1:])
put("disk-twice.tar", ".", lambda own: own[:DISK + 1] + own[DISK:])
put("first-twice.tar", ".", lambda own: [own[FIRST]] + own)
for name, change in (
        ("time", lambda j: j["manifest"].update(time="2020-01-01T00:00:00Z")),
        ("host", lambda j: j["manifest"].update(host="other")),
        ("consistency", lambda j: j["manifest"].update(consistency="crash")),
        ("path", lambda j: j["manifest"]["volumes"][0].update(path="/x"))):
    put("first-" + name + ".tar", "one of them is damaged", first(change))
put("behind.tar", "comes behind manifest.json",
    lambda own: own + [[tarfile.TarInfo("x/vda.raw"), b"more"]])
put("last-twice.tar", "comes behind manifest.json",
    lambda own: own + [own[LAST]])
put("last-missing.tar", ".", lambda own: own[:LAST] + own[LAST + 1:])
put("last-nonsense.tar", ".", raw(LAST, b"[]"))

with open(os.path.join(out, "table"), "w") as f:
    for name, why in table:
        f.write("%s\t%s\n" % (name, why))
