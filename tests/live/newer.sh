#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A Debian 12 beside this one, with QEMU and libvirt of bookworm-backports.
#
#   tests/live/newer.sh FOLDER     makes it, unless it is there
#   unshare -m --propagation private tests/live/newer.sh --enter FOLDER \
#       PATH... -- [--userspec=U:G] COMMAND...
#       runs a command in it; it sees each PATH where it is outside
#
# Nothing is mounted but in a mount namespace that ends with its processes: a run
# that was killed leaves no mount of /dev or /proc below FOLDER.
set -eu -o pipefail

mounts() {
	local root=$1 it

	shift
	for it in /proc /sys /dev /dev/pts; do
		mount --bind "$it" "$root$it"
	done
	for it in "$@"; do # with what is mounted below
		mkdir -p "$root$it"
		mount --rbind "$it" "$root$it"
	done
}

if [ "${1:-}" = --enter ]; then
	root=$2
	shift 2
	paths=()
	while [ "$1" != -- ]; do
		paths+=("$1")
		shift
	done
	shift
	mounts "$root" "${paths[@]}"
	user=()
	case $1 in --userspec=*)
		user=("$1")
		shift
		;;
	esac
	exec chroot "${user[@]}" "$root" "$@"
fi

packages="qemu-system-x86 qemu-utils libvirt-daemon-system libvirt-clients \
	libvirt-daemon-driver-qemu"
root=${1:?usage: tests/live/newer.sh FOLDER}
mkdir -p "$(dirname "$root")"
exec 9>"$root.lock"
flock 9
stamp="1 $(uname -m)" # count it up when this script makes another room
if [ "$(cat "$root.stamp" 2>/dev/null)" = "$stamp" ]; then
	exit 0
fi
if [ -z "${NEWER_NAMESPACE:-}" ]; then
	export NEWER_NAMESPACE=1
	exec 9>&- # the one that follows takes it
	exec unshare -m --propagation private "$0" "$root"
fi

# What this system's own packages come from.
# shellcheck disable=SC2016 # apt expands it
mirror=$(apt-get indextargets --format '$(SITE)' |
	grep -m 1 -E '/debian/?$') || {
	echo "newer.sh: apt's sources name no Debian mirror" >&2
	exit 1
}
rm -f "$root.stamp"
# No mount of another namespace is below it, and none of this one yet.
rm -rf --one-file-system "$root"
debootstrap --variant=minbase bookworm "$root" "$mirror"
echo "deb $mirror bookworm-backports main" \
	>"$root/etc/apt/sources.list.d/backports.list"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # starts nothing
chmod 755 "$root/usr/sbin/policy-rc.d"
cp -L /etc/resolv.conf "$root/etc/resolv.conf" || :
# How this system reaches the mirror.
for it in /etc/apt/apt.conf /etc/apt/apt.conf.d/*proxy*; do
	[ ! -f "$it" ] || cp "$it" "$root/etc/apt/apt.conf.d/"
done
mounts "$root"
chroot "$root" apt-get -q update
# shellcheck disable=SC2086 # several words
chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get -q -y install \
	--no-install-recommends -t bookworm-backports $packages
chroot "$root" apt-get clean
rm -rf "$root"/var/lib/apt/lists/*
echo "$stamp" >"$root.stamp"
