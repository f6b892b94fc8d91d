# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What benches share: the library of the end-to-end tests, and this.
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/lib.sh"

# mke2fs and debugfs are in sbin, which not everybody's PATH has.
PATH=$PATH:/usr/sbin:/sbin

# need_peers COMMAND=PACKAGE...: installs those packages whose command is
# missing, as `make deps` does.
need_peers() {
	local it
	local -a missing=()

	for it in "$@"; do
		command -v "${it%%=*}" >/dev/null || missing+=("${it#*=}")
	done
	[ ${#missing[@]} = 0 ] ||
		env -u MAKEFLAGS -u MAKELEVEL make -s -C "$top" deps \
			DEBS="${missing[*]}" || fail "cannot install ${missing[*]}"
}

# Restic and borg read nothing of the user's, and ask nothing.
export XDG_CACHE_HOME=$dir/cache RESTIC_PASSWORD=none \
	BORG_BASE_DIR=$dir/borg-base BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes

median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / (b ? b : 1) }'; }
