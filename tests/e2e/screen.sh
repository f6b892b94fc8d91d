# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Terminals for end-to-end tests: programs run in tmux, and what they show is
# captured.  Sourced behind lib.sh.
#
#   SHOW=1    print what is captured for documents
need tmux
export TMUX_TMPDIR=${dir:?}
screen_pid=

screen_tmux() { tmux -L screen -f /dev/null "$@"; }

# screen_start COLSxROWS COMMAND...: in a terminal of that size, in place of the
# one before.  When it has ended, "ended with N" stands there.
screen_start() {
	local size=$1

	shift
	screen_stop
	printf '%q ' "$@" >"$dir/screen.cmd"
	screen_tmux new-session -d -x "${size%x*}" -y "${size#*x}" \
		"LC_ALL=${SCREEN_LOCALE:-C.UTF-8}; export LC_ALL; stty -echo; ${SCREEN_TERM:+TERM=$SCREEN_TERM; }. '$dir/screen.cmd'
		echo \"ended with \$?\"; exec sleep 600" ||
		fail "no terminal"
	screen_pid=$(screen_tmux display-message -p '#{pid}')
	pids+=("$screen_pid")
}

screen_stop() {
	[ -n "$screen_pid" ] || return 0
	screen_tmux kill-server
	wait_for 20 gone "$screen_pid" || fail "tmux does not end"
	forget "$screen_pid"
	screen_pid=
}

screen_text() { screen_tmux capture-pane -pJ | sed "s| *$||"; }
screen_keys() { screen_tmux send-keys "$@"; }
screen_size() { screen_tmux resize-window -x "${1%x*}" -y "${1#*x}"; }
screen_shows() { screen_text | has -E -- "$1"; }
screen_shows_not() { ! screen_shows "$1"; }

# see PATTERN...: each is there within some seconds.
see() {
	local pattern

	for pattern in "$@"; do
		wait_for 20 screen_shows "$pattern" ||
			fail "\"$pattern\" is not to be seen: $(screen_text)"
	done
}

see_not() {
	wait_for 20 screen_shows_not "$1" ||
		fail "\"$1\" is still to be seen: $(screen_text)"
}

# show NAME: for documents.
show() {
	[ -z "${SHOW:-}" ] || { echo "--- $1" && screen_text; }
}
