#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: archives that were made to do harm, and broken ones, are refused with
# the reason in one line; nothing is left behind by them: no backup, no part of
# one, no file.
#
#   tests/e2e/331-hostile-archives.sh   (mounts a small file system: as root, or
#                                        in a name space of its own)
if [ "$(id -u)" != 0 ]; then
	exec unshare --user --map-root-user --mount bash "$0" "$@"
fi
. "$(dirname "$0")/lib.sh"
need qemu-img zstd mount
mkdir "$dir/bad" "$dir/spool" "$dir/here"
"$PYTHON" "$(dirname "$0")/hostile_archives.py" "$dir/bad" ||
	fail "the archives could not be made"
# No room for a bomb.
mount -t tmpfs -o size=48m tmpfs "$dir/spool" || fail "tmpfs"
mounts+=("$dir/spool")
make_repo "$dir/repo"
start_daemon
cd "$dir/here" || exit 1
# Names in other characters than UTF-8 are shown.
export LC_ALL=C

# import VM FILE...: on the NAS.
import() { console import -q --spool "$dir/spool" "$@"; }

none_left() {
	local left

	left=$(find "$dir/spool" "$dir/here" -mindepth 1)
	[ -z "$left" ] || fail "$1: left behind: $left"
	[ "$(nbackups)" = 0 ] || fail "$1: there is a backup"
	BACKSTAY_AGENT_REPO=unix:$repo/socket "$BIN/backstay-agent" list \
		--incomplete --json >"$dir/incomplete.json" ||
		fail "list --incomplete"
	[ "$(json "$dir/incomplete.json" "len(j['backups'])")" = 0 ] ||
		fail "$1: there is a part of a backup"
}

# An ordinary one comes in, so a refusal is one of what is wrong with it.
n=0
while IFS=$'\t' read -r file why; do
	n=$((n + 1))
	case $file in
	*/*) fail "$file" ;;
	esac
	expect_fail 1 "^backstay-agent: import of vm failed: .*($why)" \
		import vm "$dir/bad/$file"
done <"$dir/bad/table"
none_left "the table"
ok "$n hostile or broken archives are refused, and say why"

# The same from a pipe, where nothing can be read twice; all of them with LONG.
n=0
while IFS=$'\t' read -r file why; do
	case $file in
	*.tar* | *.zip) ;;
	*) continue ;;
	esac
	n=$((n + 1))
	[ -n "${LONG:-}" ] || [ $((n % 5)) = 0 ] || continue
	expect_fail 1 "^backstay-agent: import of vm failed: " \
		import vm - <"$dir/bad/$file"
done <"$dir/bad/table"
none_left "a pipe"
ok "and from the standard input"

expect_fail 1 "there is no YYYY" import vm "$dir/bad"
expect_fail 1 "no such file" import vm "$dir/bad/not-there"
# A pipe by its name is waited for.
mkfifo "$dir/fifo"
noise 100000 2 >"$dir/fifo" 2>/dev/null &
expect_fail 1 "no archive|damaged" \
	timeout 20 "$BIN/backstay" -r "$repo" import -q vm "$dir/fifo"
wait $!
expect_fail 1 "no archive" import vm - </dev/null
expect_fail 1 "no archive|damaged" import vm - < <(noise 100000 1)
none_left "other things"
ok "nor is anything taken that is no archive"

# --- what is in order comes in

mkdisk "$dir/vda.raw" 8 1
mkdisk "$dir/vdb.raw" 4 2
qemu-img convert -f raw -O qcow2 "$dir/vdb.raw" "$dir/vdb.qcow2"
echo "<domain><name>vm</name></domain>" >"$dir/vm.xml"
touch -d 2026-02-03T04:05:06Z "$dir/vda.raw" "$dir/vdb.qcow2"
made=0
# came_in VM: with both disks, and the time of their last change.
came_in() {
	made=$((made + 1))
	[ "$(nbackups)" = $made ] || fail "$1 is not there"
	rm -rf "$dir/out"
	console restore "$1@2026-02-03T04:05:06Z" --format raw --to "$dir/out" \
		>"$dir/restore.out" 2>&1 ||
		fail "restore $1: $(cat "$dir/restore.out")"
	same_bytes "$dir/vda.raw" "$dir/out/$1-vda.raw"
	same_disk "$dir/vdb.raw" raw "$dir/out/$1-vdb.raw" raw
}
take() { import "$@" >"$dir/in.out" 2>&1 || fail "import $*: $(cat "$dir/in.out")"; }
cd "$dir" || exit 1
for form in gnu pax; do
	tar -c --format=$form -f $form.tar vda.raw vdb.qcow2 vm.xml
	take $form $form.tar
	came_in $form
	tar -cS --format=$form -f $form-sparse.tar vda.raw vdb.qcow2
	take $form-sparse - <$form-sparse.tar
	came_in $form-sparse
done
for pack in zstd gzip xz; do
	$pack -q -c gnu.tar >gnu.tar.$pack
	take $pack gnu.tar.$pack
	came_in $pack
done
"$PYTHON" -c 'import sys, zipfile
with zipfile.ZipFile("it.zip", "w", zipfile.ZIP_DEFLATED) as z:
    for n in "vda.raw", "vdb.qcow2":
        z.write(n)'
TZ=UTC take zip it.zip
made=$((made + 1))
[ "$(nbackups)" = $made ] || fail "of the zip archive nothing came"
ok "tar archives with and without holes, compressed or not, and zip come in"

# OVAs of others: disks made by qemu-img, checksums of three kinds or none, the
# manifest second or last, names that no volume can have.
stream() {
	qemu-img convert -f raw -O vmdk -o subformat=streamOptimized "$1" "$2" ||
		fail "qemu-img convert"
	touch -d 2026-02-03T04:05:06Z "$2"
}
mkdir ova
stream vda.raw ova/vda.vmdk
stream vdb.raw "ova/My machine (2).vmdk"
cat >ova/m.ovf <<'END'
<?xml version="1.0"?>
<ovf:Envelope xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <ovf:References>
    <ovf:File ovf:id="f1" ovf:href="vda.vmdk"/>
    <ovf:File ovf:id="f2" ovf:href="My machine (2).vmdk" ovf:compression="identity"/>
    <ovf:File ovf:id="f3" ovf:href="m.nvram"/>
  </ovf:References>
</ovf:Envelope>
END
echo nvram >ova/m.nvram
touch -d 2026-02-03T04:05:06Z ova/*
cd ova || exit 1
for sum in 1 256 512; do
	for file in m.ovf vda.vmdk "My machine (2).vmdk" m.nvram; do
		printf 'SHA%s(%s)= %s\r\n' $sum "$file" \
			"$("sha${sum}sum" <"$file" | cut -d" " -f1)"
	done >m.mf
	touch -d 2026-02-03T04:05:06Z m.mf
	tar -c --format=ustar -f ../$sum.ova m.ovf m.mf ./*.vmdk m.nvram
done
tar -c --format=gnu -f ../last.ova m.ovf ./*.vmdk m.nvram m.mf
tar -c -f ../none.ova m.ovf ./*.vmdk m.nvram
sed 's/^SHA512(vda.vmdk)= ./&0/' m.mf >bad.mf
tar -c -f ../wrong-sum.ova m.ovf bad.mf ./*.vmdk m.nvram
grep -v machine m.mf >bad.mf
tar -c -f ../no-sum.ova m.ovf bad.mf ./*.vmdk m.nvram
echo "SHA256(other.vmdk)= 00" >>bad.mf
tar -c -f ../no-file.ova m.ovf bad.mf ./*.vmdk m.nvram
echo "MD5(vda.vmdk)= 00" >bad.mf
tar -c -f ../md5.ova m.ovf bad.mf ./*.vmdk m.nvram
echo "whatever" >bad.mf
tar -c -f ../nonsense.ova m.ovf bad.mf ./*.vmdk m.nvram
tar -c -f ../missing.ova m.ovf vda.vmdk m.nvram
tar -c -f ../no-ovf.ova m.mf ./*.vmdk m.nvram
echo "<Envelope" >bad.ovf
tar -c -f ../bad-ovf.ova bad.ovf ./*.vmdk
sed 's/identity/gzip/' m.ovf >bad.ovf
tar -c -f ../gzip.ova bad.ovf ./*.vmdk m.nvram
cat >bad.ovf <<'END'
<!DOCTYPE e [<!ENTITY x SYSTEM "file:///etc/passwd"><!ENTITY a "aaaaaaaaaa">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">
<!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;"><!ENTITY e "&d;&d;&d;&d;&d;&d;&d;&d;">
<!ENTITY f "&e;&e;&e;&e;&e;&e;&e;&e;&e;"><!ENTITY g "&f;&f;&f;&f;&f;&f;&f;&f;">]>
<Envelope><References>&x;&g;<File href="&x;&g;"/></References></Envelope>
END
tar -c -f ../entities.ova bad.ovf ./*.vmdk
tar -c -f ../two.ova m.ovf bad.ovf ./*.vmdk
qemu-img convert -f raw -O vmdk ../vda.raw flat.vmdk
tar -c -f ../flat.ova flat.vmdk
head -c 100000 vda.vmdk >cut.vmdk
tar -c -f ../cut.ova cut.vmdk
cp vda.vmdk turned.vmdk
"$PYTHON" - turned.vmdk <<'END'
import sys
with open(sys.argv[1], "r+b") as f:
    d = f.read()
    f.seek(len(d) // 2)
    f.write(bytes(x ^ 255 for x in d[len(d) // 2:len(d) // 2 + 4096]))
END
tar -c -f ../turned.ova turned.vmdk
cd .. || exit 1
for kind in 1 256 512 last none; do
	take sum$kind $kind.ova
	made=$((made + 1))
	[ "$(nbackups)" = $made ] || fail "$kind.ova is not there"
	rm -rf out
	console restore "sum$kind@2026-02-03T04:05:06Z" --format raw --to out \
		>restore.out 2>&1 || fail "restore: $(cat restore.out)"
	same_bytes vda.raw "out/sum$kind-vda.raw"
	same_bytes vdb.raw "$(echo out/sum$kind-disk*.raw)"
done
while IFS=: read -r name why; do
	expect_fail 1 "import of vm failed: .*($why)" import vm "$name.ova"
done <<'END'
wrong-sum:the checksum of vda.vmdk is another
no-sum:has no checksum of .*My machine
no-file:names other.vmdk, which is not
md5:of the kind MD5
nonsense:is no checksum
missing:names My machine .2..vmdk, which is not
no-ovf:there is no descriptor
bad-ovf:no OVF descriptor
gzip:is packed or in pieces
entities:no OVF descriptor|not in the archive
two:second one
flat:not streamOptimized
cut:beyond its end|cut off|damaged
turned:turned.vmdk at byte [0-9]*: damaged VMDK
END
[ "$(nbackups)" = $made ] || fail "a bad OVA came in"
take vmdk ova/vda.vmdk
made=$((made + 1))
[ "$(nbackups)" = $made ] || fail "a VMDK did not come in"
ok "OVAs of others come in if all in them is right, and are refused else"

# A large disk with little in it needs room for that alone.
truncate -s 3G sda.raw
put_noise sda.raw $((2 << 30)) 1000000 sparse
for form in gnu posix; do
	tar -cS --format=$form -f big.tar sda.raw
	take big-$form big.tar
	made=$((made + 1))
	[ "$(nbackups)" = $made ] || fail "a sparse disk is not there"
done
rm sda.raw big.tar
# A packer that knows no time is not believed.
touch -d 1980-01-01 vdb.raw
tar -c --mtime=@1 -f old.tar vdb.raw
for old in old.tar vdb.raw; do
	take old-${old%.*} $old
	made=$((made + 1))
	[ "$(console list old-${old%.*} --json | grep -c '"time":"19')" = 0 ] ||
		fail "$old: a backup of the last century"
done
ok "sparse disks need room for their data; times of nobody's are not taken"

echo "<domain><name>files</name></domain>" >machine.xml
truncate -s 512 machine.xml # as long as a disk could be
take files vda.raw machine.xml vdb.qcow2
console show files@latest --json >show.json
[ "$(json show.json "sorted((v['name'], v['kind']) for v in j['volumes'])")" = \
	"[('definition', 'definition'), ('vda', 'disk'), ('vdb', 'disk')]" ] ||
	fail "a definition beside disks: $(cat show.json)"
expect_fail 1 "is no disk by its name" import vm machine.xml
expect_fail 2 "second definition" import vm vda.raw machine.xml ova/m.ovf
expect_fail 2 "no disk by its name" import vm vda.raw ova/m.mf
came_in files
take named --disk vda=raw:vda.raw --disk vdb=qcow2:vdb.qcow2 \
	--time 2026-02-03T04:05:06Z
came_in named
expect_fail 1 "files@2026-02-03T04:05:06Z is there already" \
	import files vda.raw vdb.qcow2
cp vda.raw files-sda.raw
take one files-sda.raw
made=$((made + 1))
take raw "raw:$dir/bad/disk.raw.xz"
made=$((made + 1))
[ "$(nbackups)" = $made ] || fail "a disk did not come in"
ok "images come in as they are, once, with the time of their last change"

# --- what could be made of our own

mkdir "$dir/own"
console export -q one@latest --format raw --to "$dir/own.tar" >"$dir/out.txt" \
	2>&1 || fail "export: $(cat "$dir/out.txt")"
"$PYTHON" "$top/tests/e2e/hostile_own.py" "$dir/own.tar" "$dir/own" ||
	fail "archives could not be made of our own"
n=0
while IFS=$'\t' read -r file why; do
	n=$((n + 1))
	expect_fail 1 "^backstay-agent: import of bad failed: .*($why)" \
		import bad "$dir/own/$file"
done <"$dir/own/table"
[ "$(nbackups)" = $made ] || fail "something of our own was believed"
BACKSTAY_AGENT_REPO=unix:$repo/socket "$BIN/backstay-agent" list --incomplete \
	--json >"$dir/incomplete.json" || fail "list --incomplete"
[ "$(json "$dir/incomplete.json" "len(j['backups'])")" = 0 ] ||
	fail "a part of a backup is left: $(cat "$dir/incomplete.json")"
ok "$n changed archives of our own are refused, and nothing is left of them"
take bad "$dir/own.tar"
made=$((made + 1))
[ "$(nbackups)" = $made ] || fail "the sound one did not come in"

expect_fail 2 "say --disk NAME=FILE" import vm "a b.raw" vda.raw
expect_fail 2 "two disks" import vm vda.raw raw:vda.raw
expect_fail 2 "only an archive" import vm - vda.raw
left=$(find "$dir/spool" -mindepth 1)
[ -z "$left" ] || fail "left behind: $left"
stop_daemon
check_store
ok "and nothing is left behind"
