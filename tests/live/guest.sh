#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes what a test guest boots: the kernel of Debian's cloud image package,
# unpacked and never installed, and an initramfs of busybox, the virtio modules,
# the real guest agent and tests/live/guest/work.c.  Some 6 s, once: it is made
# again only if what it is made from has changed.
#
#   tests/live/guest.sh FOLDER     FOLDER/vmlinuz and FOLDER/initrd.img
set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: tests/live/guest.sh FOLDER}
mkdir -p "$out"
cd "$out"
exec 9>lock
flock 9

stamp=$(cat "$here/guest.sh" "$here/guest/work.c" "$here/guest/init" |
	sha256sum)
if [ "$(cat stamp 2>/dev/null)" = "$stamp" ]; then
	exit 0
fi
rm -f stamp

# unpack FOLDER PACKAGE: below FOLDER.
unpack() {
	[ ! -d "$1" ] || return 0
	rm -rf "$1.new"
	mkdir -p "$1.new/deb"
	chmod 777 "$1.new/deb" # apt's own user writes there
	(cd "$1.new/deb" && apt-get -q download "$2") >"$1.log" 2>&1 || {
		cat "$1.log" >&2
		echo "guest.sh: cannot download $2" >&2
		return 1
	}
	dpkg-deb -x "$1.new"/deb/*.deb "$1.new" && mv "$1.new" "$1"
}

# fetch: what has to be unpacked, as far as apt's lists are not too old for it.
fetch() {
	local kernel

	kernel=$(apt-cache depends linux-image-cloud-amd64 |
		sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
	[ -n "$kernel" ] || return
	unpack kernel "$kernel" && unpack ga qemu-guest-agent
}
fetch 2>/dev/null || { apt-get -q update >&2 && fetch; }
cp kernel/boot/vmlinuz-* vmlinuz

rm -rf root
mkdir -p root/{bin,proc,sys,dev,mnt,run,tmp,lib/modules,etc,var/log}
ln -s ../run root/var/run
cp /bin/busybox root/bin/
ln -s busybox root/bin/sh
cp "$here/guest/init" root/init
chmod 755 root/init
gcc -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -static \
	-o root/bin/work "$here/guest/work.c"
# The package has no list of what depends on what: this is the order.
n=10
for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev \
	virtio_pci virtio_blk virtio_console scsi_common scsi_mod virtio_scsi; do
	file=$(find kernel/lib/modules -name "$module.ko" | head -n 1)
	[ -n "$file" ] || continue # part of the kernel itself
	cp "$file" "root/lib/modules/$n-$module.ko"
	n=$((n + 1))
done
cp ga/usr/sbin/qemu-ga root/bin/
ldd ga/usr/sbin/qemu-ga | grep -o '/[^ ]*' | while read -r lib; do
	mkdir -p "root$(dirname "$lib")"
	cp -L "$lib" "root$lib"
done
(cd root && find . | cpio -o -H newc --quiet) | gzip -1 >initrd.img
rm -rf root
chmod 644 vmlinuz initrd.img
echo "$stamp" >stamp
