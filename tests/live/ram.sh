# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2154,SC2034 # variables of e2e/lib.sh and live/lib.sh
#
# Guests whose memory is saved and comes back: what the test and the bench share.
# Sourced behind tests/live/lib.sh.
#
#   ram_room MIB          makes ${ram_fs}, a folder whose files can be cloned
#   ram_repo              makes ${repo}, and starts its daemon
#   ram_stored            the bytes that it holds
#   ram_guest KIND MEMORY MIB TOUCHED [WORD...]
#                         starts the guest "web": KIND plain or libvirt (behind
#                         lv_start), MEMORY file (in ${ram_fs}) or anonymous;
#                         WORDs as of vm_start; ${ram_how} is how the agent
#                         reaches it
#   ram_save VM [OPTION...]   backs it up; ${ram_ms} how long that took,
#                         ${ram_gap_us} how long its console was silent then
#   ram_back BACKUP       its QEMU is killed and its disks are lost; comes back
#                         by restore --start; ${ram_back_ms} until it ticks
#   ram_goes_on FROM TO   it ticks from where it was saved, between these two
#   ram_forget            ends it for good
#   ram_well              it found all its memory and its disks as they were
: "${live:?source tests/live/lib.sh first}"
ram_fs=
ram_kind=
ram_new=
ram_watch_pid=
ram_ms=
ram_gap_us=
ram_back_ms=
ram_ticks=()
declare -a ram_how=()
export ram_ms ram_gap_us ram_back_ms

# A QEMU that restore --start left is no child, and holds on to ${ram_fs}.
ram_cleanup() {
	local status=$?

	if [ -n "${vm_pid[web]:-}" ] && kill -9 "${vm_pid[web]}" 2>/dev/null; then
		wait_for 10 gone "${vm_pid[web]}"
	fi
	(exit "$status")
	live_cleanup
}
trap ram_cleanup EXIT

ram_room() {
	need mkfs.xfs losetup
	ram_fs=$dir/room
	mkdir "$ram_fs"
	truncate -s "${1}M" "$dir/room.img"
	mkfs.xfs -q "$dir/room.img" || fail "mkfs.xfs"
	mount -o loop "$dir/room.img" "$ram_fs" ||
		fail "cannot mount $dir/room.img"
	mounts+=("$ram_fs")
	chmod 755 "$dir"
	mkdir "$ram_fs/memory" "$ram_fs/scratch"
	chown "$lv_user:$lv_user" "$ram_fs" "$ram_fs"/*
}

# A new and empty repository, which knows the host "host".
ram_repo() {
	[ -z "$daemon_pid" ] || stop_daemon
	rm -rf "${repo:-$dir/none}" "$dir/agent-host"
	make_repo "$dir/repo.$daemon_starts"
	start_daemon
	enroll_agent host
}

# What it holds by now, in bytes.
ram_stored() {
	console status --json >"$dir/status.json" || fail "status"
	json "$dir/status.json" 'j["stored"]'
}

# The watcher of its console.
ram_watch() {
	"$live/gaps.py" "$dir/web/serial" "$dir/web.gaps" &
	ram_watch_pid=$!
	pids+=("$ram_watch_pid")
}
ram_unwatch() {
	kill "$ram_watch_pid"
	wait "$ram_watch_pid" 2>/dev/null
	forget "$ram_watch_pid"
}

# ram_ticked MS: has it ticked since then?
ram_ticked() {
	tail -n 1 "$dir/web.gaps" | awk -v t="$1" '{ yes = $1 > t }
		END { exit !yes }'
}

# ram_silence MS: the longest time without a tick since then, in microseconds.
ram_silence() {
	wait_for 60 ram_ticked "$(now_ms)" || fail "the guest does not tick"
	awk -v t="$1" '$1 >= t && $2 > m { m = $2 } END { print m + 0 }' \
		"$dir/web.gaps"
}

# The number of its last tick.
ram_tick() { vm_console web | grep -aE '^T [0-9]+$' | tail -n 1 | cut -c 3-; }

# Where its disks are.
ram_disks() {
	if [ "$ram_kind" = libvirt ]; then
		echo "$lv_files"
	else
		echo "$dir/disks"
	fi
}

ram_guest() {
	local memory=$2 mem=$3 touched=$4 disks
	local -a words

	ram_kind=$1
	shift 4
	ram_new=
	[[ " $* " != *" new=1 "* ]] || ram_new=1
	disks=$(ram_disks)
	mkdir -p "$disks"
	vm_disk "$disks/a.qcow2" 128
	vm_disk "$disks/b.qcow2" 128
	words=("mem=$mem" "memwork=$touched,320,8000" tick=10
		disk="$disks/a.qcow2" disk="$disks/b.qcow2"
		"work=disks,32,2000,/dev/vda,/dev/vdb")
	ram_how=(--scratch-dir "$disks")
	if [ "$ram_kind" = libvirt ]; then
		ram_how+=(--domain web --connect "$LV_URI")
		[ "$memory" != file ] || words+=(ram=1)
		lv_domain web "${words[@]}" "$@"
	else
		ram_how+=(--qmp "$dir/web/qmp.sock")
		[ "$memory" != file ] || words+=("ram=$ram_fs/memory/web")
		vm_start web "${words[@]}" "$@"
	fi
	vm_wait web '^MEM' 300
	vm_wait web '^AGREE .* ok' 180
	ram_watch
}

# The guest is ended, or is thought to be.
ram_end() {
	if [ "$ram_kind" = libvirt ]; then
		lv_virsh destroy web >"$dir/lv.out" 2>&1
		vm_pid[web]=
	elif [ -n "${vm_pid[web]}" ]; then
		vm_stop web KILL
	fi
}

# And its disks are gone.
ram_lose() {
	ram_unwatch
	ram_end
	rm -rf "$(ram_disks)"/*.qcow2 "$ram_fs/memory"/*
}

# The guest is not to come back.
ram_forget() {
	ram_lose
	[ "$ram_kind" != libvirt ] ||
		lv_virsh undefine web --checkpoints-metadata \
			>"$dir/lv.out" 2>&1 || fail "undefine: $(cat "$dir/lv.out")"
}

ram_save() {
	local vm=$1 t0

	shift
	ram_ticks=("$(ram_tick)")
	t0=$(now_ms)
	backup host "$vm" "${ram_how[@]}" --ram "$@"
	ram_ms=$(($(now_ms) - t0))
	ram_gap_us=$(ram_silence "$t0")
	ram_ticks+=("$(ram_tick)")
}

# ram_back BACKUP [OPTION...]
ram_back() {
	local backup=$1 t0
	local -a how=()

	shift
	if [ "$ram_kind" = libvirt ]; then
		how+=(--connect "$LV_URI")
	elif [ -n "$ram_new" ]; then
		ram_new_qemu
		how+=(--qemu "$dir/qemu-new")
	fi
	: >"$dir/web/serial"
	vm_seen[web]=0
	ram_watch
	t0=$(now_ms)
	agent host restore "$backup" --start --json -q "${how[@]}" "$@" \
		>"$dir/back.json" 2>"$dir/back.err" ||
		fail "restore --start $backup: $(cat "$dir/back.err")"
	if [ "$ram_kind" = libvirt ]; then
		vm_pid[web]=$(cat "$dir/lv/run/libvirt/qemu/run/web.pid")
	else
		vm_pid[web]=$(json "$dir/back.json" 'j["machine"]["pid"]')
		pids+=("${vm_pid[web]}")
	fi
	wait_for 60 ram_ticked "$t0" || fail "$backup does not go on: $(
		tail -n 5 "$dir"/web/{serial,*.log} 2>&1
	)"
	ram_back_ms=$(awk -v t="$t0" '$1 > t { printf "%d", $1 - t; exit }' \
		"$dir/web.gaps")
}

# ram_goes_on FROM TO: it came back behind its tick FROM, and not behind TO.
ram_goes_on() {
	local first

	first=$(awk 'NR == 1 { print $3 }' "$dir/web.gaps")
	[ "$first" -gt "$1" ] || fail "it goes on at $first, before $1"
	[ "$first" -le $(($2 + 1)) ] ||
		fail "it goes on at $first, and not between $1 and $2"
}

# Eighths of its memory that it looked at since it is back.
ram_seen() { vm_console web | grep -acE '^SEEN .* ok$'; }
ram_saw() { [ "$(ram_seen)" -ge "$1" ]; }

ram_well() {
	local was n

	# All of it, from the end of the eighth that it is in.
	was=$(ram_seen)
	n=$((was + 9))
	wait_for 300 ram_saw "$n" || fail "it does not come round its memory"
	vm_mark web
	vm_wait web '^AGREE .* ok' 30
	vm_sound web
}

# A program that is newer QEMU, for --qemu.
ram_new_qemu() {
	[ ! -e "$dir/qemu-new" ] || return
	printf '#!/bin/bash\nexec unshare -m --propagation private %q --enter %q %q %q -- qemu-system-x86_64 "$@"\n' \
		"$live/newer.sh" "$new_root" "$dir" "$live_cache/guest" \
		>"$dir/qemu-new"
	chmod 755 "$dir/qemu-new"
}

# ram_volumes BACKUP: "NAME:KIND:SIZE" each, of all that it holds.
ram_volumes() {
	console show "$1" --json >"$dir/show.json" 2>"$dir/show.err" ||
		fail "show $1: $(cat "$dir/show.err")"
	json "$dir/show.json" "' '.join('%s:%s:%d' % (v['name'], v['kind'],
		v['size']) for v in j['volumes'])"
}
