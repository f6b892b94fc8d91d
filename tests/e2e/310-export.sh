#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: a whole backup leaves as one archive that others' tools open, and comes
# back from it as the backup that it was; what changed since another one alone;
# disks for other hypervisors; a sparse disk of 1 TiB in seconds and little
# memory; and what fails midway never passes for whole.
#
#   tests/e2e/310-export.sh
. "$(dirname "$0")/lib.sh"
need qemu-img bsdtar tar unzip xmllint

mib=$((1 << 20))
archives=$dir/archives
mkdir "$archives"

# export_to FILE BACKUP OPTION...
export_to() {
	local file=$1

	shift
	console export -q --to "$archives/$file" "$@" 2>"$dir/export.err" ||
		fail "export $*: status $?: $(cat "$dir/export.err")"
}

# import_from VM FILE OPTION...
import_from() {
	console import -q --json "$1" "$archives/$2" "${@:3}" \
		>"$dir/import.json" 2>"$dir/import.err" ||
		fail "import $*: status $?: $(cat "$dir/import.err")"
}

# unpack NAME COMMAND...: in a folder of its own, ${out}, the last one.
unpack() {
	out=$dir/out.$1
	mkdir "$out" || fail "$out"
	shift
	(cd "$out" && "$@") >"$dir/unpack.out" 2>&1 ||
		fail "$*: $(cat "$dir/unpack.out")"
	list=$(echo "$out"/*/)
}

# check_sums FOLDER: as manifest.json has them.
check_sums() {
	"$PYTHON" - "$1" <<'END' || fail "checksums in $1"
import hashlib, json, os, sys
m = json.load(open(os.path.join(sys.argv[1], "manifest.json")))
assert m["archive"] == 1 and len(m["members"]) > 0
for x in m["members"]:
    path = os.path.join(sys.argv[1], "..", x["name"])
    assert os.path.getsize(path) == x["size"], x
    h = hashlib.sha256()
    with open(path, "rb") as f:
        if "sha256" in x:
            h.update(f.read())
            assert h.hexdigest() == x["sha256"], x
            continue
        n = 0
        while True:
            b = f.read(65536)
            if not b:
                break
            if b.strip(b"\0"):
                h.update(n.to_bytes(8, "little") + b)
            n += 1
    assert h.hexdigest() == x["sha256_blocks"], x
END
}

make_repo "$dir/repo"
start_daemon
enroll_agent kvm01
mkdisk "$dir/vda" 64 one
mkdisk "$dir/vdb" 4 two
truncate -s $((5 * mib + 512)) "$dir/vdc"
put_noise "$dir/vdc" $((5 * mib)) 512 tail
: >"$dir/empty"
disks=(--disk "vda=$dir/vda" --disk "vdb=$dir/vdb" --disk "vdc=$dir/vdc"
	--disk "vdd=raw:$dir/empty")
backup kvm01 acme/web1 "${disks[@]}"
first=$(json "$dir/backup.json" 'j["backup"]')
cp "$dir/vda" "$dir/vda.2"
put_noise "$dir/vda.2" $((9 * mib + 5)) "$mib" more
fallocate -p -o $((20 * mib)) -l $((3 * mib)) "$dir/vda.2"
backup kvm01 acme/web1 --disk "vda=$dir/vda.2" "${disks[@]:2}"
second=$(json "$dir/backup.json" 'j["backup"]')

# --- what others make of it

small=(--volume vdb --volume vdc --volume vdd)
for kind in tar tar.zst tar.gz tar.xz zip; do
	some=()
	[ -n "${LONG:-}" ] || [[ $kind != *[gx]z ]] || some=("${small[@]}")
	export_to "a.$kind" "$first" "${some[@]}"
	case $kind in
	zip) unpack "$kind" unzip -q "$archives/a.$kind" ;;
	tar.gz | tar.zst) unpack "$kind" tar -xf "$archives/a.$kind" ;;
	*) unpack "$kind" bsdtar -xf "$archives/a.$kind" ;;
	esac
	check_sums "$list"
	[ ${#some[@]} != 0 ] ||
		same_disk "$dir/vda" raw "$list/vda.qcow2" qcow2
	same_disk "$dir/vdb" raw "$list/vdb.qcow2" qcow2
	same_disk "$dir/vdc" raw "$list/vdc.qcow2" qcow2
	rm -rf "$out"
done
ok "bsdtar, GNU tar and unzip open it; qemu-img check finds nothing wrong"

export_to raw.tar "$first" --format raw
export_to raw.zip "$first" --format raw --volume vda --volume vdc
for tool in "bsdtar -xf" "tar -xf" "unzip -q"; do
	archive=raw.tar
	[ "$tool" != "unzip -q" ] || archive=raw.zip
	# shellcheck disable=SC2086 # the tool and its option
	unpack "raw-${tool%% *}" $tool "$archives/$archive"
	check_sums "$list"
	same_bytes "$dir/vda" "$list/vda.raw"
	same_bytes "$dir/vdc" "$list/vdc.raw"
	[ $archive = raw.zip ] ||
		[ $(($(stat -c %b "$list/vda.raw") * 512)) -lt $((40 * mib)) ] ||
		fail "$tool: the file is not sparse"
done
[ "$(stat -c %s "$archives/raw.tar")" -lt $((40 * mib)) ] ||
	fail "holes are in the archive"
ok "raw disks, whose holes are left out"

console export --to - -q "$first" | bsdtar -xf - -C "$dir" --include '*/vdb*' ||
	fail "export to the standard output"
same_disk "$dir/vdb" raw "$(echo "$dir"/acme-web1-*/vdb.qcow2)" qcow2
rm -rf "$dir"/acme-web1-*
agent kvm01 export -q --to "$dir/remote.tar.zst" "$first" ||
	fail "export by a host"
[ "$(bsdtar -xOf "$dir/remote.tar.zst" '*/vda.qcow2' | sha256sum)" = \
	"$(bsdtar -xOf "$archives/a.tar" '*/vda.qcow2' | sha256sum)" ] ||
	fail "the same image is another"
rm "$dir/remote.tar.zst"
ok "to the standard output, and by a host over the network"

export_to m.ova "$first"
unpack ova tar -xf "$archives/m.ova"
[ "$(tar -tf "$archives/m.ova" | tr '\n' ' ')" = \
	"$(basename "$out"/*.ovf) vda.vmdk vdb.vmdk vdc.vmdk vdd.vmdk $(
		basename "$out"/*.mf) " ] || fail "the order of the members"
xmllint --noout --schema "$top/tests/e2e/ovf/envelope.xsd" "$out"/*.ovf \
	>"$dir/xmllint.out" 2>&1 || fail "OVF: $(cat "$dir/xmllint.out")"
(cd "$out" && sed -n 's/^SHA256(\(.*\))= \(.*\)$/\2  \1/p' ./*.mf |
	sha256sum -c --quiet) || fail "OVF: the checksums"
basename "$out"/*.ovf | has '^web1-' || fail "a name with its namespace"
"$PYTHON" - "$out" "$archives/m.ova" <<'END' || fail "OVF: its files"
import glob, os, sys, xml.etree.ElementTree as ET
o = "{http://schemas.dmtf.org/ovf/envelope/1}"
t = ET.parse(glob.glob(sys.argv[1] + "/*.ovf")[0])
files = t.findall(f".//{o}File")
assert len(files) == 4
for f in files:
    path = os.path.join(sys.argv[1], f.get(o + "href"))
    assert os.path.getsize(path) == int(f.get(o + "size")), path
caps = [int(d.get(o + "capacity")) for d in t.findall(f".//{o}Disk")]
assert caps[0] == 64 << 20, caps
# Of an odd one it is what the VMDK has.
import json, subprocess
for f, c in zip(files, caps):
    j = json.loads(subprocess.check_output(
        ["qemu-img", "info", "--output=json",
         os.path.join(sys.argv[1], f.get(o + "href"))]))
    assert j["virtual-size"] == c, (f, c)
system = t.find(f".//{o}OperatingSystemSection")
assert system.get(o + "id") == "102", "32 bits"
with open(sys.argv[2], "rb") as f:
    assert f.read(512)[257:265] == b"ustar\x0000", "no USTAR"
END
same_disk "$dir/vda" raw "$out/vda.vmdk" vmdk
same_disk "$dir/vdb" raw "$out/vdb.vmdk" vmdk
qemu-img compare -q -f raw -F vmdk "$dir/vdc" "$out/vdc.vmdk" ||
	fail "the VMDK of an odd disk"
qemu-img convert -f vmdk -O raw "$out/vda.vmdk" "$out/vda.raw" &&
	same_bytes "$dir/vda" "$out/vda.raw"
qemu-img info --output=json "$out/vda.vmdk" | has streamOptimized ||
	fail "not streamOptimized"
ok "an OVA: its descriptor is what the schema wants, its disks are whole"

# Back again: as it was, but for the size of an odd one and of one of nothing.
import_from ova m.ova
[ "$(json "$dir/import.json" 'j["backup"].split("@")[1]')" = "${first#*@}" ] ||
	fail "the OVA's time: $(cat "$dir/import.json")"
rm -rf "$dir/back"
console restore ova@latest --format raw --to "$dir/back" >"$dir/restore.out" \
	2>&1 || fail "restore: $(cat "$dir/restore.out")"
same_bytes "$dir/vda" "$dir/back/ova-vda.raw"
same_bytes "$dir/vdb" "$dir/back/ova-vdb.raw"
cmp -n $((5 * mib + 512)) "$dir/vdc" "$dir/back/ova-vdc.raw" ||
	fail "the odd disk out of an OVA"
console show ova@latest | has "VirtualSystem" || fail "its descriptor is gone"
console import -q ova2 - <"$archives/m.ova" || fail "import of an OVA from -"
ok "and it is taken back"

# --- what changed

export_to since.tar "$second" --since "$first"
[ "$(stat -c %s "$archives/since.tar")" -lt $((3 * mib)) ] ||
	fail "what changed has $(stat -c %s "$archives/since.tar") bytes"
mkdir "$dir/chain"
tar -xf "$archives/a.tar" -C "$dir/chain"
tar -xf "$archives/since.tar" -C "$dir/chain"
overlay=$(grep -l '"since"' "$dir"/chain/*/backstay.json)
overlay=${overlay%/*}/vda.qcow2
same_disk "$dir/vda.2" raw "$overlay" qcow2
ok "what changed is an overlay, which lies beside its base as it is unpacked"

# --- and back

console delete "$first" "$second" >/dev/null || fail "delete"
n=0
for file in a.tar a.tar.zst a.tar.gz a.tar.xz a.zip raw.tar; do
	n=$((n + 1))
	import_from "acme/new$n" $file
	restore kvm01 "acme/new$n@${first#*@}" --disk "vdb=$dir/rb.raw" \
		--disk "vdc=$dir/rc.raw" --disk "vdd=$dir/rd.raw"
	if [ -n "${LONG:-}" ] || [[ $file != *[gx]z ]]; then
		restore kvm01 "acme/new$n@latest" --disk "vda=$dir/r.raw"
		same_bytes "$dir/vda" "$dir/r.raw"
	fi
	same_bytes "$dir/vdb" "$dir/rb.raw"
	same_bytes "$dir/vdc" "$dir/rc.raw"
	same_bytes "$dir/empty" "$dir/rd.raw"
	rm -f "$dir"/r.raw "$dir"/r?.raw
done
ok "exported, deleted, imported, restored: identical, at its own time"

expect_fail 1 "has no backup of the time that it builds on" \
	"$BIN/backstay" -r "$repo" import -q acme/web1 "$archives/since.tar"
console import -q acme/web1 - <"$archives/a.tar.zst" || fail "import of -"
import_from acme/web1 since.tar
[ "$(json "$dir/import.json" 'j["backup"], j["incremental"],
	j["stats"]["read"] < 2 << 20')" = "('$second', True, True)" ] ||
	fail "import of what changed: $(cat "$dir/import.json")"
restore kvm01 "$second" --disk "vda=$dir/r.raw" --disk "vdb=$dir/rb.raw"
same_bytes "$dir/vda.2" "$dir/r.raw"
same_bytes "$dir/vdb" "$dir/rb.raw"
restore kvm01 acme/web1@-1 --disk "vda=$dir/r1.raw"
same_bytes "$dir/vda" "$dir/r1.raw"
rm "$dir"/r*.raw
expect_fail 1 "is there already" \
	"$BIN/backstay" -r "$repo" import -q acme/web1 "$archives/since.tar"
# An older one among newer ones is not the latest.
import_from acme/web1 a.tar --time 2020-01-02T03:04:05Z
console show acme/web1@latest | has "^$second" || fail "latest"
[ "$(json "$dir/import.json" 'j["backup"]')" = \
	acme/web1@2020-01-02T03:04:05Z ] || fail "--time"
# What it builds on may be another than the newest.
console delete "$second" >/dev/null
backup kvm01 acme/web1 --disk "vda=$dir/vdb"
import_from acme/web1 since.tar
restore kvm01 "$second" --disk "vda=$dir/r.raw"
same_bytes "$dir/vda.2" "$dir/r.raw"
rm "$dir/r.raw"
ok "what changed is taken on top of what it is of, and refused elsewhere"

# --- a whole machine, in an archive made by its description alone

"$PYTHON" - "$archives/machine.tar.gz" "$dir/vdb" <<'END' || fail "making one"
import hashlib, io, json, sys, tarfile
disk = open(sys.argv[2], "rb").read()
ram = bytes(1 << 20) + b"page" * 16384 + bytes(5 << 20)
xml = b"<domain><os firmware='efi'><type arch='i686'/></os><vcpu>3</vcpu><memory unit='KiB'>524288</memory>" \
    b"<devices><interface type='network'/></devices></domain>\n"
when = "2026-01-02T03:04:05Z"
vol = [("vda", "disk", "raw", disk), ("ram0", "ram", "raw", ram),
       ("state", "state", "raw", b"devices" * 999),
       ("domain", "definition", "xml", xml)]
def blocks(data):
    h = hashlib.sha256()
    for i in range(0, len(data), 65536):
        b = data[i:i + 65536]
        if any(b):
            h.update((i // 65536).to_bytes(8, "little") + b)
    return h.hexdigest()
manifest = {
    "format": 1, "id": "0" * 31 + "1", "vm": "far/machine", "seq": 1,
    "time": when, "agent_time": when, "host": "elsewhere",
    "consistency": "crash", "chunk_size": 65536, "domain": 0,
    "stats": {k: 0 for k in ("read", "holes", "unchanged", "deduplicated",
                             "sent", "stored", "duration_ms")},
    "volumes": [{"name": n, "kind": k, "format": f, "cluster_size": 0,
                 "size": len(d), "root": "11" * 32,
                 **({"path": "/srv/vda", "identity": "file:1"}
                    if n == "vda" else {})} for n, k, f, d in vol]}
members = []
for n, k, f, d in vol:
    form = "raw" if k in ("disk", "ram") else "file"
    members.append({"volume": n, "name": "x/" + n, "form": form,
                    "size": len(d)})
with tarfile.open(sys.argv[1], "w:gz") as t:
    def put(name, data):
        i = tarfile.TarInfo(name)
        i.size = len(data)
        t.addfile(i, io.BytesIO(data))
    head = {"archive": 1, "manifest": manifest, "members": members}
    put("x/backstay.json", json.dumps(head).encode())
    for m, v in zip(members, vol):
        put(m["name"], v[3])
        if m["form"] == "raw":
            m["sha256_blocks"] = blocks(v[3])
        else:
            m["sha256"] = hashlib.sha256(v[3]).hexdigest()
    put("x/manifest.json", json.dumps(head).encode())
END
import_from machine machine.tar.gz
console show machine@latest --json >"$dir/show.json"
[ "$(json "$dir/show.json" 'j["time"], j["consistency"], j["agent_time"],
	j["volumes"][0]["path"], [v["kind"] for v in j["volumes"]]')" = \
	"('2026-01-02T03:04:05Z', 'crash', '2026-01-02T03:04:05Z', '/srv/vda', ['disk', 'ram', 'state', 'definition'])" ] ||
	fail "machine: $(cat "$dir/show.json")"
export_to machine.tar machine@latest
unpack machine tar -xf "$archives/machine.tar"
check_sums "$list"
mkdir "$dir/made"
tar -xf "$archives/machine.tar.gz" -C "$dir/made"
same_disk "$dir/vdb" raw "$list/vda.qcow2" qcow2
same_bytes "$dir/made/x/ram0" "$list/ram0.raw"
same_bytes "$dir/made/x/state" "$list/state.state"
same_bytes "$dir/made/x/domain" "$list/domain.xml"
export_to machine.ova machine@latest --format ova
unpack machine-ova bsdtar -xf "$archives/machine.ova"
xmllint --noout --schema "$top/tests/e2e/ovf/envelope.xsd" "$out"/*.ovf \
	>"$dir/xmllint.out" 2>&1 || fail "OVF: $(cat "$dir/xmllint.out")"
for word in '<rasd:VirtualQuantity>3<' '512 MB of memory' 'Network card 1' \
	'vmw:value="efi"' 'OperatingSystemSection ovf:id="1"'; do
	grep -q "$word" "$out"/*.ovf || fail "OVF: no $word"
done
ok "memory, state and definition, there and back"

# --- a guest's large disk

truncate -s 1T "$dir/big"
for at in 0 300 1023; do
	put_noise "$dir/big" $((at << 30)) $((2 * mib)) "big.$at"
done
backup kvm01 big --disk "vda=raw:$dir/big"
root='j["volumes"][0]["root"]'
console show big@latest --json >"$dir/big.json"
# within SECONDS COMMAND...: and 128 MiB.
within() {
	"$PYTHON" - "$@" <<'END' || fail "$*"
import resource, subprocess, sys, time
began = time.monotonic()
rc = subprocess.run(sys.argv[2:]).returncode
took = time.monotonic() - began
mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
print(f"#   {took:.1f} s, {mib} MiB: {' '.join(sys.argv[4:8])}")
sys.exit(rc != 0 or took > float(sys.argv[1]))
END
}
# limit MIB: of what ran last; sanitizers need more.
for how in "qcow2 tar" "raw tar" "qcow2 zip" "raw tar.zst"; do
	# shellcheck disable=SC2086 # format and kind
	set -- $how
	within $((10 * slower)) "$BIN/backstay" -r "$repo" export -q \
		big@latest --format "$1" --archive "$2" \
		--to "$archives/big.$1.$2" >"$dir/within.out"
	cat "$dir/within.out"
	[ -n "$sanitized" ] ||
		[ "$(sed 's/.* \([0-9]*\) MiB.*/\1/' "$dir/within.out")" -lt 128 ] ||
		fail "memory: $(cat "$dir/within.out")"
	within $((10 * slower)) "$BIN/backstay" -r "$repo" import -q \
		"big-$1-$2" "$archives/big.$1.$2" >"$dir/within.out"
	cat "$dir/within.out"
	[ -n "$sanitized" ] ||
		[ "$(sed 's/.* \([0-9]*\) MiB.*/\1/' "$dir/within.out")" -lt 128 ] ||
		fail "memory: $(cat "$dir/within.out")"
	console show "big-$1-$2@latest" --json >"$dir/show.json"
	[ "$(json "$dir/show.json" "$root")" = \
		"$(json "$dir/big.json" "$root")" ] || fail "$how: another disk"
	[ "$(stat -c %s "$archives/big.$1.$2")" -lt $((12 * mib)) ] ||
		fail "$how: too large"
done
rm "$dir/big"
ok "1 TiB in seconds, there and back, below 128 MiB"

# --- what fails

expect_fail 1 "is there already" "$BIN/backstay" -r "$repo" export -q \
	big@latest --to "$archives/a.tar"
expect_fail 1 "no volume \"vdx\"; it has vda" "$BIN/backstay" -r "$repo" \
	export -q big@latest --to "$dir/x.tar" --volume vdx
expect_fail 1 "of another VM" "$BIN/backstay" -r "$repo" export -q \
	big@latest --to "$dir/x.tar" --since acme/web1@latest
expect_fail 2 "needs --format qcow2" "$BIN/backstay" -r "$repo" export -q \
	acme/web1@latest --to "$dir/x.tar" --since acme/web1@-1 --format raw
before=$(console list | wc -l)
for size in 700 100000 $((20 * mib)) $(($(stat -c %s "$archives/a.tar") - 4096)); do
	head -c "$size" "$archives/a.tar" >"$dir/cut.tar"
	expect_fail 1 "damaged or cut off|is cut off|too early" \
		"$BIN/backstay" -r "$repo" import -q acme/cut "$dir/cut.tar"
done
cp "$archives/a.tar" "$dir/bad.tar"
printf x | dd of="$dir/bad.tar" bs=1 seek=$((30 * mib)) conv=notrunc status=none
expect_fail 1 "the checksum of .*vda.qcow2 is another" \
	"$BIN/backstay" -r "$repo" import -q acme/bad "$dir/bad.tar"
[ "$(console list | wc -l)" = "$before" ] || fail "something was left behind"
ok "what is cut off or damaged is refused, and nothing is left of it"

# A reader that goes away, a daemon that dies: no file, no end.
backup kvm01 acme/web1 "${disks[@]}"
"$BIN/backstay" -r "$repo" export -q acme/web1@latest --to - \
	2>"$dir/export.err" | head -c 100000 >/dev/null
[ "${PIPESTATUS[0]}" = 1 ] || fail "nobody reads, and export says it is done"
grep -q "nobody reads it any more" "$dir/export.err" ||
	fail "$(cat "$dir/export.err")"
"$BIN/backstay" -r "$repo" export -q acme/web1@latest --to "$dir/cut.tar" \
	--force --bwlimit 1M >/dev/null 2>"$dir/export.err" &
pid=$!
pids+=("$pid")
wait_for 10 test -s "$dir/.cut.tar.restoring" || fail "export has not begun"
kill -TERM "$pid"
wait "$pid"
[ $? = 1 ] || fail "export does not end with 1 after SIGTERM"
forget "$pid"
[ ! -e "$dir/.cut.tar.restoring" ] || fail "a part was left behind"
"$BIN/backstay" -r "$repo" export -q acme/web1@latest --to - --bwlimit 1M \
	>"$dir/cut2.tar" 2>"$dir/export.err" &
pid=$!
pids+=("$pid")
wait_for 10 test -s "$dir/cut2.tar" || fail "export has not begun"
kill_daemon
wait "$pid"
[ $? = 1 ] || fail "export does not end with 1 without a daemon"
forget "$pid"
if bsdtar -tf "$dir/cut2.tar" 2>/dev/null | has manifest.json; then
	fail "it passes for whole"
fi
start_daemon
expect_fail 1 "damaged or cut off|is cut off|too early" \
	"$BIN/backstay" -r "$repo" import -q acme/cut "$dir/cut2.tar"
# No file of ours becomes a standard stream that is closed.
for stream in '>&-' '>&- 2>&1' '>/dev/full'; do
	BACKSTAY_REPO=$repo bash -c "\"$BIN/backstay\" export -q --to - \
		acme/web1@latest $stream" 2>"$dir/export.err"
	[ $? = 1 ] || fail "export $stream says it is done"
	grep -q "the standard output: " "$dir/export.err" ||
		[[ $stream = *'2>'* ]] ||
		fail "export $stream: $(cat "$dir/export.err")"
done
! grep -q "unknown frame" "$daemon_log" || fail "an archive went to the daemon"
BACKSTAY_REPO=$repo expect_fail 1 "cannot be read: " bash -c \
	"\"$BIN/backstay\" import -q acme/cut - <&-"
# A sender that says nothing any more.
mkfifo "$dir/fifo"
exec 9<>"$dir/fifo"
"$BIN/backstay" -r "$repo" import -q acme/cut - <"$dir/fifo" \
	2>"$dir/import.err" &
pid=$!
pids+=("$pid")
head -c $((8 * mib)) "$archives/raw.tar" >&9
has_begun() { console jobs --json | has acme/cut; }
wait_for 20 has_begun || fail "the import has not begun"
kill -TERM "$pid"
wait_for 10 gone "$pid" || fail "an import waits for its sender, whatever comes"
wait "$pid"
[ $? = 1 ] || fail "import does not end with 1 after SIGTERM"
forget "$pid"
exec 9>&-
ok "nor does a closed stream or a silent sender do harm"
stop_daemon
check_store
ok "what fails midway has no name, or no end"

# A byte of the disk, in the pack that has it.
"$PYTHON" - "$dir/vda" "$repo"/packs/*/*.pack <<'END' || fail "no pack has it"
import sys
with open(sys.argv[1], "rb") as f:
    f.seek(30 << 20)
    needle = f.read(4096)
for name in sys.argv[2:]:
    with open(name, "r+b") as f:
        at = f.read().find(needle)
        if at >= 0:
            f.seek(at + 100)
            f.write(bytes([needle[100] ^ 255]))
            sys.exit()
sys.exit(1)
END
start_daemon
expect_fail 3 "volume vda|chunk" "$BIN/backstay" -r "$repo" export -q \
	acme/web1@latest --to "$dir/damaged.tar"
if [ -e "$dir/damaged.tar" ] || [ -e "$dir/.damaged.tar.restoring" ]; then
	fail "a damaged backup was exported"
fi
stop_daemon
ok "damage of the store ends it, with 3"
