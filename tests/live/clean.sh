#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A Debian 12 with nothing in it but what each has, to install packages in.
#
#   tests/live/clean.sh FOLDER     makes it, unless it is there
set -eu -o pipefail

root=${1:?usage: tests/live/clean.sh FOLDER}
mkdir -p "$(dirname "$root")"
exec 9>"$root.lock"
flock 9
stamp="1 $(uname -m)" # count it up when this script makes another room
if [ "$(cat "$root.stamp" 2>/dev/null)" = "$stamp" ]; then
	exit 0
fi
# What this system's own packages come from.
# shellcheck disable=SC2016 # apt expands it
mirror=$(apt-get indextargets --format '$(SITE)' |
	grep -m 1 -E '/debian/?$') || {
	echo "clean.sh: apt's sources name no Debian mirror" >&2
	exit 1
}
rm -f "$root.stamp"
rm -rf --one-file-system "$root"
debootstrap --variant=minbase bookworm "$root" "$mirror"
cp -L /etc/resolv.conf "$root/etc/resolv.conf" || :
# How this system reaches the mirror.
for it in /etc/apt/apt.conf /etc/apt/apt.conf.d/*proxy*; do
	[ ! -f "$it" ] || cp "$it" "$root/etc/apt/apt.conf.d/"
done
unshare -m --propagation private chroot "$root" apt-get -q update
chroot "$root" apt-get clean
echo "$stamp" >"$root.stamp"
