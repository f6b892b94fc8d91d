#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: the packages install with apt, the daemon starts as its own user by the
# command of its unit, a host backs up and restores, root's hand leaves no file
# in the repository that the daemon could not read, and after a purge all that
# is left is the repository.  The units stand up to systemd-analyze.  Needs root.
#
#   tests/e2e/280-package.sh
#
#   ROOM=clean   in a clean Debian 12, made by debootstrap and kept in
#                build/live/package (make check-package); else in this system,
#                which sees nothing of it: all is written to a layer above
. "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || fail "run it as root"
need dpkg-deb systemd-analyze unshare
ROOM=${ROOM:-here}
deb=$dir/deb
# What make deb does, of the programs under test.
make -s -C "$top" install "B=${BIN#"$top/"}" DESTDIR="$deb/tree" PREFIX=/usr \
	>"$dir/install.log" 2>&1 || fail "$(tail "$dir/install.log")"
mkdir "$deb/out"
"$top/etc/debian/build.sh" "$deb/tree" 1.0 "$deb/out" >"$dir/deb.log" 2>&1 ||
	fail "$(cat "$dir/deb.log")"
if grep -i warning "$dir/deb.log"; then fail "dpkg has the above to say"; fi
for package in backstay backstay-agent; do
	dpkg-deb -f "$deb/out/${package}"_1.0_*.deb Depends |
		has 'libssh-4' ||
		fail "$package does not depend on its libraries"
done
dpkg-deb -c "$deb/out"/backstay_1.0_*.deb >"$dir/contents"
dpkg-deb -c "$deb/out"/backstay-agent_1.0_*.deb >>"$dir/contents"
for file in usr/sbin/backstayd usr/bin/backstay usr/bin/backstay-agent \
	usr/share/man/man1/backstay-agent.1.gz usr/share/man/man8/backstay.8.gz \
	usr/share/man/man8/backstayd.8.gz usr/share/man/man5/backstayd.conf.5.gz \
	usr/lib/systemd/system/backstayd@.service \
	usr/lib/systemd/system/backstay-agent.service \
	usr/share/bash-completion/completions/backstay; do
	grep -q " \\./$file\$" "$dir/contents" || fail "no $file"
done
! grep -vE '^(d|-)rw.* root/root ' "$dir/contents" || fail "not root's, or odd"
ok "two packages, with what belongs into them"

# --- units

mkdir "$dir/units"
for unit in backstayd@.service backstay-agent.service; do
	sed "s|/usr/s\?bin/backstay|$deb/tree&|" \
		"$deb/tree/usr/lib/systemd/system/$unit" \
		>"$dir/units/${unit/@/@srv-backstay}"
done
for unit in "$dir/units"/*; do
	SYSTEMD_LOG_LEVEL=warning systemd-analyze verify --man=no "$unit" \
		>"$dir/verify" 2>&1 || fail "$unit: $(cat "$dir/verify")"
	[ ! -s "$dir/verify" ] || fail "$unit: $(cat "$dir/verify")"
	systemd-analyze security --offline=true --no-pager "$unit" \
		>"$dir/security" 2>&1
	level=$(sed -n 's/.*exposure level.*: \([0-9.]*\) .*/\1/p' "$dir/security")
	echo "# $(basename "$unit"): $level"
	case $unit in *backstayd@*) most=2.5 ;; *) most=4.5 ;; esac
	awk -v l="$level" -v m="$most" 'BEGIN { exit !(l != "" && l < m) }' ||
		fail "$unit: $level: $(cat "$dir/security")"
done
ok "systemd verifies the units, and rates the daemon's below 2.5"

# --- the room

# A layer of its own above it: in memory, so it lies on no overlay itself.
room=$dir/room
mkdir "$dir/layer" "$room"
mount -t tmpfs -o size=2g,mode=755 tmpfs "$dir/layer" || fail "tmpfs"
mounts=("$dir/layer" "${mounts[@]}")
mkdir "$dir/layer/upper" "$dir/layer/work"
case $ROOM in
here) below=/ ;;
clean)
	below=$top/build/live/package
	"$top/tests/live/clean.sh" "$below" >"$dir/clean.log" 2>&1 ||
		fail "$(tail "$dir/clean.log")"
	;;
*) fail "ROOM=$ROOM: here or clean" ;;
esac
mount -t overlay -o "lowerdir=$below,upperdir=$dir/layer/upper,workdir=$dir/layer/work" \
	overlay "$room" || fail "overlay"
mounts=("$room" "${mounts[@]}")
mkdir -p "$room/packages"
cp "$deb/out"/*.deb "$room/packages/"
printf '#!/bin/sh\nexit 101\n' >"$room/usr/sbin/policy-rc.d"
chmod 755 "$room/usr/sbin/policy-rc.d"

# in_room COMMAND...: with processes of its own, which end with it.
in_room() {
	# shellcheck disable=SC2016 # that shell expands it
	bounded unshare -m -p -f --propagation private --mount-proc="$room/proc" \
		env -u NOTIFY_SOCKET DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
		PATH=/usr/sbin:/usr/bin:/sbin:/bin \
		sh -c 'mount --rbind /dev "$1/dev" && exec chroot "$@"' sh \
		"$room" "$@"
}
if in_room dpkg -s backstay backstay-agent >/dev/null 2>&1; then
	in_room apt-get -q -y purge backstay backstay-agent >"$dir/purge.log" 2>&1
fi
in_room userdel backstay >/dev/null 2>&1

# What the room has that what lies below has not, and what it lacks, but for what
# any package changes: dpkg's own, logs, caches, and lists of users as they were.
files() {
	local it

	(cd "$dir/layer/upper" && find . -mindepth 1 \( -path ./var/lib/dpkg \
		-o -path ./var/log -o -path ./var/cache -o -path ./var/lib/apt \
		-o -path ./var/lib/systemd -o -path ./tmp -o -path ./packages \
		-o -path ./srv/backstay -o -path './etc/*shadow-' \
		-o -path ./etc/passwd- -o -path ./etc/group- \) -prune -o -print) |
		sort | while read -r it; do
		if [ -c "$dir/layer/upper/$it" ]; then
			echo "lost $it"
		elif [ ! -e "$below/$it" ] && [ ! -L "$below/$it" ]; then
			echo "new $it"
		fi
	done
}
# Libraries are what stays of any package; they come first.
depends=$(for it in "$deb/out"/*.deb; do dpkg-deb -f "$it" Depends; done |
	tr ',' '\n' | sed 's/[|(].*//; s/ //g; /^systemd$/d' | sort -u)
# shellcheck disable=SC2086 # several words
[ "$ROOM" = here ] || in_room apt-get -q -y install --no-install-recommends \
	systemd-standalone-sysusers $depends >"$dir/apt.log" 2>&1 ||
	fail "$(tail "$dir/apt.log")"
files >"$dir/before"

in_room sh -c 'apt-get -q -y install --no-install-recommends /packages/*.deb' \
	>"$dir/apt.log" 2>&1 || fail "$(tail -n 40 "$dir/apt.log")"
in_room dpkg -s backstay backstay-agent |
	grep -c '^Status: install ok installed' | has -x 2 || fail "not installed"
! grep -iE 'warning|error|fail' "$dir/apt.log" |
	grep -v 'unsandboxed\|Download is performed' || fail "apt has that to say"
in_room getent passwd backstay | has ':/usr/sbin/nologin$' || fail "no user"
ok "installed by apt: $ROOM"

# --- as README has it, but that the unit's commands are given by hand

cat >"$room/packages/first.sh" <<'END'
set -eu -o pipefail
say() { echo "FIRST: $*" >&2; exit 1; }
has() { [ "$(grep -c "$@")" -gt 0 ]; }
ip link set lo up 2>/dev/null || :
backstay init /srv/backstay >/tmp/init.out
grep -q 'belongs to *backstay$' /tmp/init.out || say "$(cat /tmp/init.out)"
grep -qx '  systemctl enable --now backstayd@srv-backstay' /tmp/init.out ||
	say "$(cat /tmp/init.out)"
unit=/usr/lib/systemd/system/backstayd@.service
start=$(sed -n 's/^ExecStart=//p' $unit)
daemon() {
	# No privilege, like under the unit.
	setpriv --reuid backstay --regid backstay --init-groups --no-new-privs \
		--bounding-set=-all --inh-caps=-all \
		${start/\%f//srv/backstay} --listen 127.0.0.1:0 2>/tmp/daemon.log &
	pid=$!
	for i in $(seq 600); do
		if grep -q ': ready: ' /tmp/daemon.log; then return; fi
		kill -0 $pid || say "$(cat /tmp/daemon.log)"
		read -r -t 0.05 <> <(:) || :
	done
	say "not ready: $(cat /tmp/daemon.log)"
}
as_backstay() {
	grep -qx "Uid:$(printf '\t%s' "$me" "$me" "$me" "$me")" /proc/$pid/status ||
		say "$(grep Uid: /proc/$pid/status)"
}
me=$(id -u backstay)
daemon
as_backstay
url=ssh://127.0.0.1:$(cat /srv/backstay/port)
# Root's files stay readable to the daemon.
backstay-agent keygen >/root/host.pub
chmod 600 /root/host.pub
backstay -r /srv/backstay key add host /root/host.pub
backstay-agent enroll "$url" | has 'lets this host in as "host"' || say enroll
head -c 3000000 /dev/urandom >/root/disk
truncate -s 8M /root/disk
backstay-agent backup -q --repo "$url" web1 --disk vda=/root/disk
backstay-agent restore -q --repo "$url" web1@latest --disk vda=/root/back.raw
cmp /root/disk /root/back.raw
backstay -r /srv/backstay restore web1@latest --to /root/out --format raw \
	>/dev/null 2>&1
cmp /root/disk /root/out/web1-vda.raw
# Nobody else.
if setpriv --reuid nobody --regid nogroup --clear-groups backstay \
	-r /srv/backstay list >/dev/null 2>/tmp/nobody; then say "anybody may"; fi
grep -q 'run this as root' /tmp/nobody || say "$(cat /tmp/nobody)"
kill $pid
wait $pid || say "the daemon ended with $?: $(cat /tmp/daemon.log)"
if backstay -r /srv/backstay list 2>/tmp/none; then say "who answers?"; fi
grep -q 'systemctl start backstayd@srv-backstay' /tmp/none || say "$(cat /tmp/none)"
backstay -r /srv/backstay fsck --rebuild-index >/dev/null
backstay -r /srv/backstay audit | has 'uid 0 .*key add' ||
	say "the log does not say that it was root"
others=$(find /srv/backstay ! -user backstay)
[ -z "$others" ] || say "not the daemon's: $others"
daemon
backstay -r /srv/backstay list | has web1 || say "the backup is gone"
kill $pid
wait $pid
# Started by hand, root becomes who the repository belongs to.
setpriv() { shift 8; exec "$@"; }
daemon
as_backstay
kill $pid
wait $pid
backstay init /root/there >/dev/null 2>/tmp/init.err &&
	say "a repository where its user cannot go"
grep -q 'cannot reach it' /tmp/init.err || say "$(cat /tmp/init.err)"
[ ! -e /root/there ] || say "/root/there was left"
# A dash in the name is escaped as systemd does it.
backstay init /srv/vm-backup/ >/tmp/init.out
if command -v systemd-escape >/dev/null; then
	grep -qF "'$(systemd-escape -p --template=backstayd@.service \
		/srv/vm-backup | sed 's/\.service$//')'" /tmp/init.out ||
		say "$(cat /tmp/init.out)"
fi
backstay init --user root /srv/roots >/tmp/init.out
[ "$(stat -c %U /srv/roots)" = root ] || say "--user root"
rm -rf /srv/vm-backup /srv/roots /root/out /root/back.raw /root/disk /root/host.pub
END
in_room bash /packages/first.sh >"$dir/first.log" 2>&1 ||
	fail "$(tail -n 20 "$dir/first.log")"
ok "init, start, key, backup, restore, rebuild: as a new user does them"

# --- and away

in_room apt-get -q -y install --reinstall --no-install-recommends \
	/packages/backstay_1.0_amd64.deb >"$dir/apt.log" 2>&1 ||
	in_room sh -c 'dpkg -i /packages/*.deb' >"$dir/apt.log" 2>&1 ||
	fail "$(tail -n 20 "$dir/apt.log")"
in_room apt-get -q -y remove backstay backstay-agent >"$dir/apt.log" 2>&1 ||
	fail "$(tail -n 20 "$dir/apt.log")"
[ -e "$room/srv/backstay/backstay.json" ] || fail "the repository went"
[ -e "$room/etc/backstay-agent/id_ed25519" ] || fail "the host's key went"
in_room apt-get -q -y purge backstay backstay-agent >"$dir/apt.log" 2>&1 ||
	fail "$(tail -n 20 "$dir/apt.log")"
[ -e "$room/srv/backstay/backstay.json" ] || fail "the repository went"
files >"$dir/after"
diff "$dir/before" "$dir/after" >"$dir/left" ||
	fail "left or lost: $(cat "$dir/left")"
ok "purged: nothing is left but the repository"
