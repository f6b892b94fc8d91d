#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: a peer that means no good costs the daemon a lane at most: it refuses
# or ends what is wrong, and goes on serving the others meanwhile.
#
#   tests/e2e/51-hostile.sh
. "$(dirname "$0")/lib.sh"
need ssh

export SLOWER=$slower
hostile=("$PYTHON" "$top/tests/e2e/hostile.py")

# attack NAME ARGUMENT...: in the background, until end_attack NAME.
declare -A attackers=()
attack() {
	local name=$1

	shift
	mkfifo "$dir/$name.in"
	"${hostile[@]}" "$@" <"$dir/$name.in" >"$dir/$name.out" \
		2>"$dir/$name.err" &
	attackers[$name]=$!
	pids+=("$!")
	eval "exec {hold_$name}>\"\$dir/\$name.in\""
}

end_attack() {
	local pid=${attackers[$1]}

	eval "exec {hold_$1}>&-"
	wait_for 60 gone "$pid" || fail "$1 does not end"
	wait "$pid" || fail "$1: $(cat "$dir/$1.err")"
	forget "$pid"
	sed 's/^/# /' "$dir/$1.out"
}

# honest WHAT [MS]: a backup and a restore, as ever, while that goes on; within
# that time.
round=0
honest() {
	local begun most=${2:-5000}

	round=$((round + 1))
	put_noise "$dir/disk" $((round << 20)) 3000000 "round.$round"
	begun=$(now_ms)
	backup kvm01 web1 --disk "vda=$dir/disk"
	restore kvm01 web1@latest --disk "vda=$dir/r.raw" --force
	same_bytes "$dir/disk" "$dir/r.raw"
	echo "# $1: served in $(($(now_ms) - begun)) ms"
	[ $(($(now_ms) - begun)) -lt $((most * slower)) ] ||
		fail "$1: an honest agent had to wait"
}

memory() { sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$daemon_pid/status"; }

make_repo "$dir/repo"
start_daemon
port=${url##*:}
enroll_agent kvm01
enroll_agent intruder --lanes 6 --role backup --vm 'hostile'
mkdisk "$dir/disk" 24 disk
backup kvm01 web1 --disk "vda=$dir/disk"
before=$(memory)

attack raw raw "$port"
honest "connections that speak no SSH"
end_attack raw

attack flood flood "$port" 40
wait_for 30 grep -q ready "$dir/flood.out" || fail "flood: not ready"
honest "forty half-open connections"
end_attack flood
# More than there are places: they are hurried, and nobody is turned away.
attack crowd flood "$port" 100
wait_for 30 grep -q ready "$dir/crowd.out" || fail "crowd: not ready"
honest "a hundred half-open connections" 25000
end_attack crowd
ok "connections that do not say who they are"

# What a stranger, and a friend, may not ask of an SSH server.
ssh_with() {
	timeout 20 ssh -F none -o StrictHostKeyChecking=no -o BatchMode=yes \
		-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
		-o IdentitiesOnly=yes -i "$dir/agent-$1/id_ed25519" \
		-p "$port" "${@:2}" </dev/null >"$dir/ssh.out" 2>&1
}
agent nobody keygen >/dev/null || fail "keygen"
ssh_with nobody -s root@127.0.0.1 backstay &&
	fail "a stranger is let in"
ssh_with kvm01 root@127.0.0.1 id && fail "a command is run"
ssh_with kvm01 -s root@127.0.0.1 sftp && fail "there is an sftp subsystem"
ssh_with kvm01 -tt root@127.0.0.1 && fail "there is a shell"
ssh_with kvm01 -W 127.0.0.1:"$port" root@127.0.0.1 &&
	fail "connections are forwarded"
grep -q "^SSH-2.0" "$dir/ssh.out" && fail "connections are forwarded"
honest "an SSH client like any"
ok "no shell, no command, no forwarding"

"${hostile[@]}" frames unix "$repo/socket" >"$dir/frames.out" 2>&1 ||
	fail "$(cat "$dir/frames.out")"
"${hostile[@]}" frames ssh "$port" "$dir/agent-intruder/id_ed25519" \
	>>"$dir/frames.out" 2>&1 || fail "$(cat "$dir/frames.out")"
sed 's/^/# /' "$dir/frames.out"
[ "$(nbackups hostile)" = 0 ] || fail "something hostile was committed"
honest "after all those messages"
ok "messages that no client sends are refused, and the lane goes on or ends"

# Twelve that stall by SSH, of which the key's limit lets six in; and twenty
# by the socket.
attack ssh stall ssh "$port" "$dir/agent-intruder/id_ed25519" 12
attack unix stall unix "$repo/socket" 20
wait_for 60 grep -q ready "$dir/ssh.out" || fail "ssh: not ready"
wait_for 60 grep -q ready "$dir/unix.out" || fail "unix: not ready"
honest "lanes that stall"
# The later one has inherited what holds the earlier one.
end_attack unix
end_attack ssh
grep -q "12 lanes that stall, 6 were refused" "$dir/ssh.out" ||
	fail "the limit of a key's lanes: $(cat "$dir/ssh.out")"
honest "afterwards"
ok "lanes that stall, or ask and never read"

alive "$daemon_pid" || fail "the daemon has ended"
echo "# most memory: $before kB before, $(memory) kB now"
if [ -z "$sanitized" ]; then
	[ "$(memory)" -lt $((256 << 10)) ] || fail "too much memory was used"
fi
stop_daemon
check_store
ok "fsck finds nothing wrong"
