#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: what bash completes is what the programs know: their commands, options,
# and the names of what is in the repository, though bash cuts words at "@" and
# ":".
#
#   tests/e2e/282-completion.sh
. "$(dirname "$0")/lib.sh"

# shellcheck source=etc/completion/backstay
. "$top/etc/completion/backstay"
PATH=$BIN:$PATH

# completes LINE WORD...: exactly those, in any order.
completes() {
	local line=$1 want got

	shift
	COMP_LINE=$line COMP_POINT=${#line}
	COMPREPLY=()
	_backstay
	want=$(printf '%s\n' "$@" | sort)
	got=$(printf '%s\n' "${COMPREPLY[@]}" | sort)
	[ "$want" = "$got" ] || fail "\"$line\": not $*, but ${COMPREPLY[*]}"
}
# offers LINE WORD...: at least those.
offers() {
	local line=$1 word

	shift
	COMP_LINE=$line COMP_POINT=${#line}
	COMPREPLY=()
	_backstay
	for word in "$@"; do
		printf '%s\n' "${COMPREPLY[@]}" | has -xF -- "$word" ||
			fail "\"$line\": not $word: ${COMPREPLY[*]}"
	done
}

offers 'backstay ' init key list show status jobs restore delete gc --help
completes 'backstay in' init
completes 'backstay -r /x/y ini' init
offers 'backstay-agent ' keygen enroll backup restore list delete
completes 'backstay-agent en' enroll
ok "commands"

offers 'backstay prune --keep-' --keep-last --keep-daily --keep-within
completes 'backstay init --ch' --chunk-size
completes 'backstay-agent backup --qu' --quiet --quiesce
completes 'backstay key add x y --role a' admin
completes 'backstay restore x --format q' qcow2
ok "options, and what may stand behind them"

completes 'backstay key a' add
completes 'backstay gc p' pause
offers 'backstay scrub ' start pause resume status
ok "words of commands"

completes 'backstay restore w'
completes 'backstay restore --to '
ok "nothing where nothing is known"

make_repo "$dir/repo"
start_daemon
enroll_agent kvm01
mkdisk "$dir/disk" 2 disk
backup kvm01 web1 --disk "vda=$dir/disk"
backup kvm01 mail/db7 --disk "vda=$dir/disk"
time=$(console list web1 --json | sed -n 's/.*"time": "\(.*\)".*/\1/p')
completes "backstay -r $repo list w" web1 web1@latest "web1@$time"
# readline puts back what stands before the last of @ : =.
completes "backstay -r $repo restore web1@l" latest
completes "backstay -r $repo restore web1@2" "$time"
completes "backstay -r $repo restore web1@${time%:*}:" "${time##*:}"
completes "backstay -r $repo show mai" mail/db7 mail/db7@latest \
	"$(console list mail/db7 --json |
		sed -n 's/.*"time": "\(.*\)".*/mail\/db7@\1/p')"
BACKSTAY_REPO=$repo completes "backstay show web1@l" latest
ok "backups, by name and time"

export BACKSTAY_AGENT_DIR=$dir/agent-kvm01
completes "backstay-agent restore --repo $url web1@l" latest
BACKSTAY_AGENT_REPO=$url completes "backstay-agent restore web1@2" "$time"
ok "backups that a host sees"

stop_daemon
completes "backstay -r $repo restore w"
ok "nobody waits for a daemon that does not run"
