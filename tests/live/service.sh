#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: the packages on a machine whose systemd is the first process: both
# services start as README says and do a backup that the NAS asks for and its
# restore, under all that their units take from them; the daemon is started anew
# after it was killed, and after it hung (the watchdog), and not after a fault in
# its settings; a reload is told; an upgrade starts anew what ran, and a purge
# leaves the repository.  Part of make check-package.  As root.
#
#   tests/live/service.sh
. "$(dirname "$0")/../e2e/lib.sh"

[ "$(id -u)" = 0 ] || fail "run it as root"
need debootstrap dpkg-deb unshare nsenter
make -s -C "$top" deb >"$dir/deb.log" 2>&1 || fail "$(tail "$dir/deb.log")"
"$top/tests/live/clean.sh" "$top/build/live/package" >"$dir/clean.log" 2>&1 ||
	fail "$(tail "$dir/clean.log")"

room=$dir/room
mkdir "$dir/layer" "$room"
mount -t tmpfs -o size=2g,mode=755 tmpfs "$dir/layer" || fail "tmpfs"
mounts=("$dir/layer" "${mounts[@]}")
mkdir "$dir/layer/upper" "$dir/layer/work"
mount -t overlay -o "lowerdir=$top/build/live/package,upperdir=$dir/layer/upper,workdir=$dir/layer/work" \
	overlay "$room" || fail "overlay"
mounts=("$room" "${mounts[@]}")
mkdir "$room/packages"
cp "$top"/build/backstay*_*.deb "$room/packages/"

# What the packages want; the machine has no network to get it from.
printf '#!/bin/sh\nexit 101\n' >"$room/usr/sbin/policy-rc.d"
chmod 755 "$room/usr/sbin/policy-rc.d"
depends=$(for it in "$room/packages"/*.deb; do dpkg-deb -f "$it" Depends; done |
	tr ',' '\n' | sed 's/[|(].*//; s/ //g' | sort -u)
# shellcheck disable=SC2086 # several words
bounded unshare -m -p -f --propagation private --mount-proc="$room/proc" \
	env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
	PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$room" \
	apt-get -q -y install --no-install-recommends systemd $depends \
	>"$dir/apt.log" 2>&1 || fail "$(tail "$dir/apt.log")"
rm "$room/usr/sbin/policy-rc.d"

"$top/tests/live/boot.sh" "$room" >"$dir/boot.log" 2>&1 &
boot=$!
pids+=("$boot")
machine() { bounded "$top/tests/live/boot.sh" --in "$boot" "$room" "$@"; }
# Its systemd has to go before what it stands on is unmounted.
power_off() {
	kill "$boot" 2>/dev/null
	wait "$boot" 2>/dev/null
}
trap 'status=$?; power_off; (exit $status); lib_cleanup' EXIT
# shellcheck disable=SC2317 # wait_for calls it
is_up() {
	local state

	state=$(machine systemctl is-system-running 2>/dev/null)
	[ "$state" = running ] || [ "$state" = degraded ]
}
wait_for 60 is_up || fail "it does not boot: $(cat "$dir/boot.log")"

unit='backstayd@srv-vm\x2dbackup.service'
on_nas() { machine backstay -r /srv/vm-backup "$@"; }
prop() { machine systemctl show -P "$2" "$1"; }
# says PATTERN COMMAND...: it is all read, or the command would see a pipe close.
says() {
	local pattern=$1 text

	shift
	text=$("$@" 2>/dev/null)
	grep -qE -- "$pattern" <<<"$text"
}
journal() { machine journalctl --no-pager -o cat -u "$@"; }
# active UNIT [NOT-PID]: it is up, as another process; asked in this order, since
# the old one may go in between.
active() {
	local pid

	pid=$(prop "$1" MainPID)
	[ "$pid" != 0 ] && [ "$pid" != "${2:-0}" ] &&
		[ "$(prop "$1" ActiveState)" = active ]
}

machine sh -c 'dpkg -i /packages/*.deb' >"$dir/apt.log" 2>&1 ||
	fail "$(tail "$dir/apt.log")"
[ "$(prop backstay-agent.service ConditionResult)" = no ] ||
	fail "the agent was not held back before it has settings"
[ "$(prop backstay-agent.service ActiveState)" = inactive ] || fail "agent"
machine systemctl -q is-enabled backstay-agent || fail "the agent is not enabled"
machine backstay init /srv/vm-backup >"$dir/init.out" || fail "init"
start=$(sed -n "s/^  systemctl enable --now '\(.*\)'$/\1/p" "$dir/init.out")
[ "$start.service" = "$unit" ] || fail "init says $start: $(cat "$dir/init.out")"
machine systemctl enable --now "$start" >"$dir/enable.log" 2>&1 ||
	fail "$(cat "$dir/enable.log"; journal "$unit")"
active "$unit" || fail "not active: $(journal "$unit")"
[ "$(prop "$unit" StatusText)" = \
	"0 jobs run, 0 wait; 0 agents; 0 backups of 0 VMs" ] ||
	fail "status: $(prop "$unit" StatusText)"
pid=$(prop "$unit" MainPID)
machine cat "/proc/$pid/status" >"$dir/status"
for it in CapEff CapPrm CapBnd; do
	grep -qE "^$it:	0+$" "$dir/status" || fail "$(grep Cap "$dir/status")"
done
grep -qE '^Seccomp:	2$' "$dir/status" || fail "no seccomp"
grep -qE '^NoNewPrivs:	1$' "$dir/status" || fail "new privileges"
grep -qE "^Uid:	$(machine id -u backstay)	" "$dir/status" || fail "user"
ok "the daemon's unit starts as init says, without any privilege"

machine backstay-agent enroll ssh://127.0.0.1 >"$dir/enroll.out" || fail "enroll"
key=$(sed -n "s/^echo '\(.*\)' | backstay -r REPO key add .*/\1/p" "$dir/enroll.out")
echo "$key" | on_nas key add host - >/dev/null || fail "key add"
machine sh -c 'head -c 20000000 /dev/urandom >/var/tmp/web1.raw
	backstay-agent serve --sample >/etc/backstay-agent/agent.conf
	sed -i "s|^#repo =.*|repo = ssh://127.0.0.1|" /etc/backstay-agent/agent.conf
	printf "[vm web1]\ndisk = vda=/var/tmp/web1.raw\n" \
		>>/etc/backstay-agent/agent.conf
	backstay-agent serve -t && systemctl start backstay-agent' \
	>"$dir/agent.log" 2>&1 || fail "$(cat "$dir/agent.log")"
is_connected() { says '^host .* connected .*web1' on_nas agents; }
wait_for 60 is_connected || fail "$(on_nas agents; journal backstay-agent)"
on_nas backup web1 >/dev/null || fail "backup"
has_backup() { says '^web1 ' on_nas list; }
wait_for 60 has_backup || fail "no backup: $(journal backstay-agent)"
on_nas restore web1@latest --to /srv/out --format raw >/dev/null || fail "restore"
machine cmp /srv/out/web1-vda.raw /var/tmp/web1.raw || fail "not the same"
said() { says "$2" prop "$1" StatusText; }
wait_for 20 said "$unit" '0 jobs run, 0 wait; [01] agents*; 1 backups of 1 VMs' ||
	fail "status: $(prop "$unit" StatusText)"
wait_for 20 said backstay-agent.service connected ||
	fail "status: $(prop backstay-agent.service StatusText)"
ok "a backup that the NAS asked for, and its restore"

machine systemctl reload "$unit" || fail "reload"
reloaded() { says 'settings: nothing has changed' journal "$unit"; }
wait_for 20 reloaded || fail "no reload: $(journal "$unit")"
machine mkdir -p "/run/systemd/system/$unit.d"
printf '[Service]\nWatchdogSec=5\nRestartSec=1\n' |
	machine tee "/run/systemd/system/$unit.d/quick.conf" >/dev/null
machine systemctl daemon-reload
machine systemctl restart "$unit" || fail "restart: $(journal "$unit")"
pid=$(prop "$unit" MainPID)
machine kill -9 "$pid"
wait_for 30 active "$unit" "$pid" || fail "killed: $(journal "$unit" | tail)"
pid=$(prop "$unit" MainPID)
machine kill -STOP "$pid"
# Had it not been fed, it would have gone the same way before.
[ "$(prop "$unit" NRestarts)" = 1 ] || fail "$(prop "$unit" NRestarts) restarts"
wait_for 30 active "$unit" "$pid" || fail "hung: $(journal "$unit" | tail)"
says 'Watchdog timeout' machine journalctl --no-pager -o cat ||
	fail "the watchdog did not see it"
has_backup || fail "the backup is gone: $(on_nas list 2>&1; journal "$unit" | tail -n 30)"
ok "started anew when it was killed, and when it hung"

machine sh -c 'echo "[daemon" >>/srv/vm-backup/backstayd.conf'
machine systemctl restart "$unit" >/dev/null 2>&1 && fail "started with a fault"
[ "$(prop "$unit" ActiveState)/$(prop "$unit" ExecMainStatus)" = failed/2 ] ||
	fail "a fault in the settings: $(prop "$unit" ActiveState)"
says 'backstayd.conf:[0-9]*: ' journal "$unit" || fail "nobody says which"
machine sed -i "\$d" /srv/vm-backup/backstayd.conf
machine systemctl restart "$unit" || fail "restart: $(journal "$unit")"
ok "a fault in the settings stays one until it is mended"

pid=$(prop "$unit" MainPID) agent=$(prop backstay-agent.service MainPID)
machine sh -c 'dpkg -i /packages/*.deb' >"$dir/apt.log" 2>&1 ||
	fail "$(tail "$dir/apt.log")"
wait_for 30 active "$unit" "$pid" || fail "upgrade: $(journal "$unit" | tail)"
wait_for 30 active backstay-agent.service "$agent" || fail "upgrade of the agent"
wait_for 60 is_connected || fail "$(on_nas agents; journal backstay-agent)"
ok "an upgrade starts anew what ran"

machine apt-get -q -y purge backstay backstay-agent >"$dir/apt.log" 2>&1 ||
	fail "$(tail "$dir/apt.log")"
machine sh -c 'ps ax 2>/dev/null || cat /proc/[0-9]*/comm' |
	grep backstay && fail "it still runs"
rest=$(machine find / -xdev -name '*backstay*' ! -path '/packages/*' \
	! -path '/srv/*' ! -path '/var/log/*' ! -path '/var/cache/*' ! -path '/proc/*')
[ -z "$rest" ] || fail "left: $rest"
machine test -e /srv/vm-backup/backstay.json || fail "the repository is gone"
ok "purged while it ran: nothing is left but the repository"
