#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What `make deb` runs: from a tree made by `make install` two packages, in
# build/.  Their dependencies are those of the libraries that are linked.
#
#   etc/debian/build.sh TREE VERSION OUT
set -eu -o pipefail

top=$(cd "$(dirname "$0")/../.." && pwd)
tree=$(realpath "$1") version=$2 out=$(realpath "$3")
work=$tree.packages
rm -rf "$work"
mkdir -p "$work/debian"
# dpkg-shlibdeps and dpkg-gencontrol want it there.
cp "$top/etc/debian/control" "$work/debian/control"
# The time of the last change, so that the same tree makes the same package.
SOURCE_DATE_EPOCH=$(git -C "$top" log -1 --format=%ct 2>/dev/null || date +%s)
export SOURCE_DATE_EPOCH
cat >"$work/debian/changelog" <<END
backstay ($version) unstable; urgency=medium

  * See README.md, "Changes".

 -- Backstay <backstay@localhost>  $(date -R -u -d "@$SOURCE_DATE_EPOCH")
END

# take PACKAGE FILE...: from the tree.
take() {
	local package=$1 file

	shift
	for file in "$@"; do
		install -d "$work/$package/$(dirname "$file")"
		cp -a "$tree/$file" "$work/$package/$file"
	done
}

# pack PACKAGE PROGRAM...
pack() {
	local package=$1 root=$work/$1 file
	local doc=$root/usr/share/doc/$1

	shift
	install -d -m 755 "$root/DEBIAN" "$doc"
	find "$root/usr/share/man" -type f -exec gzip -9n {} +
	install -m 644 "$top/etc/debian/copyright" "$doc/copyright"
	gzip -9nc "$work/debian/changelog" >"$doc/changelog.gz"
	strip --strip-unneeded -R .comment -R .note "$@"
	for file in postinst prerm postrm; do
		install -m 755 "$top/etc/debian/$package.$file" \
			"$root/DEBIAN/$file"
	done
	cd "$work"
	rm -f debian/substvars debian/files
	dpkg-shlibdeps "$@"
	# Who calls deb-systemd-helper is sure to have it.
	echo "misc:Depends=init-system-helpers" >>debian/substvars
	dpkg-gencontrol -p"$package" -P"$root" -v"$version"
	cd "$root"
	find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums
	chmod 644 DEBIAN/md5sums
	find . -type d -exec chmod 755 {} +
	find . -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	cd "$top"
	dpkg-deb --root-owner-group -Zxz --build "$root" "$out"
}

take backstay usr/sbin/backstayd usr/bin/backstay \
	usr/share/man/man5/backstayd.conf.5 usr/share/man/man8/backstay.8 \
	usr/share/man/man8/backstayd.8 'usr/lib/systemd/system/backstayd@.service' \
	usr/lib/sysusers.d/backstay.conf \
	usr/share/bash-completion/completions/backstay
take backstay-agent usr/bin/backstay-agent usr/share/man/man1/backstay-agent.1 \
	usr/share/man/man5/agent.conf.5 \
	usr/lib/systemd/system/backstay-agent.service
# The console's completion knows the agent's commands, but lies in its package.
install -D -m 644 "$tree/usr/share/bash-completion/completions/backstay" \
	"$work/backstay-agent/usr/share/bash-completion/completions/backstay-agent"
# Samples, where there are any.
for file in "$tree"/usr/share/doc/backstay-agent/examples/*; do
	[ ! -f "$file" ] || take backstay-agent "${file#"$tree"/}"
done

# All that is installed is in one of them.
missed=$(cd "$tree" && find usr -type f | while read -r file; do
	[ -e "$work/backstay/$file" ] || [ -e "$work/backstay-agent/$file" ] ||
		echo "$file"
done)
missed=$(grep -v '/completions/backstay-agent$' <<<"$missed" || :)
[ -z "$missed" ] || {
	echo "build.sh: in no package: $missed" >&2
	exit 1
}
rm -f "$out"/backstay_*.deb "$out"/backstay-agent_*.deb
pack backstay "$work/backstay/usr/sbin/backstayd" "$work/backstay/usr/bin/backstay"
pack backstay-agent "$work/backstay-agent/usr/bin/backstay-agent"
