#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: `backstay restore` with nothing named lets somebody at a terminal choose
# VM, backup and target, says what will happen, and does it when he says yes: on
# a screen of 80x24, and line by line with TERM=dumb; whoever leaves at any
# question has done nothing.  Without a terminal it says what to name.
#
#   tests/e2e/241-picker.sh
#   PICTURES=DIR   keep what was seen there, as text
. "$(dirname "$0")/lib.sh"
need tmux

img=$dir/img
mkdir "$img"
make_repo "$dir/repo"
start_daemon
enroll_agent kvm1
mkdisk "$dir/a.raw" 16 a
cp "$dir/a.raw" "$img/web1.raw"
mkdisk "$img/db1.raw" 8 db1
backup kvm1 db1 --disk vda="$img/db1.raw"
backup kvm1 web1 --disk vda="$img/web1.raw"
put_noise "$img/web1.raw" 0 1000000 later
backup kvm1 web1 --disk vda="$img/web1.raw"
console list web1 --json >"$dir/list.json"
first=$(json "$dir/list.json" "j[0]['time']")
{
	printf '[agent]\nrepo = %s\n' "$url"
	printf '[vm %s]\ndisk = vda=%s\n' web1 "$img/web1.raw" db1 \
		"$img/db1.raw"
} >"$dir/agent-kvm1/agent.conf"
agent_start kvm1 "$dir/serve" serve
connected() {
	console agents --json >"$dir/agents.json" 2>/dev/null &&
		grep -q '"connected": true' "$dir/agents.json"
}
wait_for 10 connected || fail "the agent: $(cat "$dir/serve.err")"

# --- a terminal to look at

# One of its own each time: the last one may not be gone yet.
terminals=0
tm() { tmux -f /dev/null -S "$dir/tmux.$terminals" "$@"; }
# open TERM: the picker runs in it; its status is seen at its end.
open() {
	terminals=$((terminals + 1))
	tm new-session -d -x 80 -y 24 "exec env TERM=$1 LC_ALL=C.UTF-8 sh -c \
		'trap : INT; \"$BIN/backstay\" -r \"$repo\" restore; echo ended \$?; cat'" ||
		fail "tmux"
	pids+=("$(tm display -p '#{pid}')")
}
close() { tm kill-server; }
screen() { tm capture-pane -p; }
sees() { screen | has -E -- "$1"; }
look() {
	wait_for 10 sees "$1" || fail "no \"$1\" to be seen: $(screen)"
}
type() { tm send-keys "$@"; }
picture() {
	[ -z "${PICTURES:-}" ] || screen >"$PICTURES/$1.txt"
}
nothing_done() {
	console jobs --json >"$dir/jobs.json"
	[ "$(json "$dir/jobs.json" "sum(x['kind'] == 'restore' for x in j)")" = \
		"$1" ] || fail "a restore was begun"
}

# --- on a screen

open screen
look "which VM"
sees "db1 .* 1 backup " || fail "$(screen)"
sees "web1 .* 2 backups" || fail "$(screen)"
picture pick-vm
type Down Enter
look "web1 as it was when"
[ "$(screen | grep -c "of kvm1")" = 2 ] || fail "$(screen)"
picture pick-point
type Down Enter
look "where to"
sees "onto kvm1" || fail "$(screen)"
picture pick-target
type BSpace
look "web1 as it was when"
type Down Enter
look "where to"
type Down Enter
look "the disks that are there now"
type Down Enter
look "what will happen"
sees "web1@$first takes the place of web1's disks on kvm1" || fail "$(screen)"
# The path may be longer than the screen is wide.
sees "vda +16.0 MiB +/" || fail "$(screen)"
picture pick-confirm
[ "$(screen | awk '{ if (length > 80) print }' | wc -l)" = 0 ] ||
	fail "wider than 80 columns"
nothing_done 0
type x
type y
look "ended 0"
sees "is restored onto web1 on kvm1, verified and synced" || fail "$(screen)"
same_bytes "$dir/a.raw" "$img/web1.raw"
[ -e "$(echo "$img"/web1.raw.old-*)" ] || fail "the old disk was not kept"
close
ok "chosen with keys on a screen of 80x24, a VM's disks are restored"

for key in q C-c; do
	open screen
	look "which VM"
	type Down Enter
	look "as it was when"
	type Enter
	look "where to"
	type Down Enter
	look "the disks that are there"
	type Enter
	look "what will happen"
	type $key
	look "ended 0"
	sees "nothing was done" || fail "$(screen)"
	close
done
open screen
look "which VM"
type BSpace
look "nothing was done"
close
nothing_done 1
ok "who leaves has done nothing"

# --- on a terminal that can do nothing

open dumb
look "number, b"
sees "2  web1 .* 2 backups" || fail "$(screen)"
type 7 Enter
look "that is none of them"
type 2 Enter
look "web1 as it was when"
type 2 Enter
look "where to"
type 1 Enter
look "which folder"
picture pick-dumb
type -l "$dir/out"
type Enter
look "Nothing that is there is replaced"
sees "web1@$first is written to files" || fail "$(screen)"
type no Enter
look "yes, b .*no"
type yes Enter
look "ended 0"
same_disk "$dir/a.raw" raw "$dir/out/web1-vda.qcow2" qcow2
close
open dumb
look "number, b"
type q Enter
look "nothing was done"
close
open dumb
look "number, b"
type C-d
look "nothing was done"
close
open dumb
look "number, b"
type C-c
wait_for 10 sees "ended (130|2)|\^C" || fail "$(screen)"
close
ok "line by line where the terminal is dumb"

# --- on none

expect_fail 2 "there is no terminal to choose at: name a backup" \
	console restore </dev/null
stop_daemon
ok "without a terminal it says what to name"
