# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Troubles in the middle of a backup, and what the guest sees of them: what the
# tests of plain QEMU and of libvirt share.  Sourced behind tests/live/lib.sh.
#
#   kind=qmp|libvirt         for what is told
#   how=(--qmp SOCKET ...)   how the agent reaches the guest "web"
#   disk=FILE                its disk vda, of vm_disk; vdb has a file system
#   scratch=FOLDER           where scratch files go
#   LIVE=long                longer stops, more kills
#
# shellcheck disable=SC2154,SC2034 # set and used by the files around it
: "${dir:?source tests/live/lib.sh first}"

SEED=${SEED:-$(date +%s)}
RANDOM=$SEED
region=16 # MiB that the guest writes, of 128; 32 are noise
kills=6 stop_s=10 quiet_s=6 kind=
[ "${LIVE:-}" != long ] || kills=20 stop_s=60 quiet_s=60
declare -a how=() waits=()
disk='' scratch='' last=''

# --- the guest meanwhile

# Of what happens in between: what it took the guest, and the host, at most.
witness_lines=0
watch() {
	vm_mark web
	witness_lines=$(wc -l <"$dir/witness")
}
witness_latency() {
	tail -n +$((witness_lines + 1)) "$dir/witness" |
		awk '$2 > m { m = $2 } END { print m + 0 }'
}

# seen WHAT: it is told at the end.
seen() {
	vm_wait web '^LAT' 30 # what is under way ends in it
	waits+=("$(vm_latency web) $(witness_latency) $1")
	vm_sound web
}

# quiet: nothing happens, for as long as the troubles take one by one.
quiet() {
	local until=$(($(now_ms) + quiet_s * 1000))

	watch
	while [ "$(now_ms)" -lt $until ]; do
		pause 0.5
	done
	seen quiet
}

# judge: no trouble took more than 3 times the slowest write of the quiet times,
# or of the host's own while it lasted.
judge() {
	printf '%s\n' "${waits[@]}" >"$dir/waits"
	awk -v kind="$kind" '
		{ us[NR] = $1; host[NR] = $2; $1 = $2 = ""; what[NR] = $0
		  if ($0 ~ /^ *quiet/) { if (us[NR] > most) most = us[NR] } }
		END {
			printf "# %s: quiet, at most %.1f ms\n", kind, most / 1e3
			for (i = 1; i <= NR; i++) {
				limit = 3 * (host[i] > most ? host[i] : most)
				bad = us[i] > limit
				all += bad
				printf "# %s:%s: %.1f ms (the host itself %.1f)%s\n", kind,
					what[i], us[i] / 1e3, host[i] / 1e3,
					bad ? ": TOO LONG" : ""
			}
			exit all > 0
		}' "$dir/waits" || fail "writes took too long"
	waits=()
	ok "$kind: no write took more than 3 times what it takes when all is quiet"
}

# --- what is left in QEMU

ours() {
	vm_qmp web "$1" "${@:3}" >"$dir/left.json" || return 1
	json "$dir/left.json" "$2"
}
nodes0=
nnodes() {
	ours query-named-block-nodes \
		"len([n for n in j if n['drv'] in ('qcow2', 'raw', 'file')])" \
		'{"flat": true}'
}

# QEMU has one server: ours can only start where none is left.
no_server() {
	local sock=$dir/web/probe.sock

	rm -f "$sock"
	vm_qmp web nbd-server-start \
		"{\"addr\": {\"type\": \"unix\", \"data\": {\"path\": \"$sock\"}}}" \
		>"$dir/probe.out" 2>&1 &&
		vm_qmp web nbd-server-stop >"$dir/probe.out" 2>&1
}

guards() {
	grep -alE -- "--guard-of-a-guest.*$dir" /proc/[0-9]*/cmdline 2>/dev/null
}

# nothing_left: but bitmaps.  left.txt has what there is.
nothing_left() {
	{
		[ "$(ours query-block-jobs 'j')" = '[]' ] || echo jobs
		[ "$(ours query-block-exports 'j')" = '[]' ] || echo exports
		[ "$(nnodes)" = "$nodes0" ] || echo "nodes: $(nnodes)"
		[ "$(ours query-status 'j["status"]')" = running ] ||
			echo "not running"
		no_server || echo "NBD server: $(cat "$dir/probe.out")"
		find "$scratch" -name '*backstay*'
		find "/proc/${vm_pid[web]}/fd" -lname "$scratch/*deleted*"
		guards
	} >"$dir/left.txt"
	[ ! -s "$dir/left.txt" ]
}

# clean WHAT: within 20 s nothing is left, the guest writes and so does its file
# system.
clean() {
	wait_for 20 nothing_left || fail "$1: left: $(cat "$dir/left.txt")"
	watch_was=${vm_seen[web]}
	vm_mark web
	vm_wait web '^FILE' 30
	vm_wait web '^AGREE .* ok' 30
	vm_seen[web]=$watch_was
}

one_bitmap() {
	ours query-named-block-nodes "[len([b for b in n.get('dirty-bitmaps', [])
		if b['name'].startswith('backstay-')])
		for n in j if n['drv'] == 'qcow2']" '{"flat": true}'
}

# --- backups

# slow LOG [OPTION...]: one that takes some seconds, in the background.
slow() {
	agent_start host "$1" backup --json -q acme/web "${how[@]}" \
		--compression 0 --bwlimit 1M "${@:2}"
}

# sent_more_than BYTES: by the job that runs.
sent_more_than() {
	console jobs --json >"$dir/jobs.json" 2>/dev/null &&
		[ "$(json "$dir/jobs.json" "max([x['sent'] for x in j
			if x['state'] == 'running'] + [-9])")" -gt "$1" ]
}

# under_way BYTES [OPTION...]: a backup that sent so much, and has enough left
# to be troubled.
under_way() {
	slow "$dir/slow" "${@:2}"
	wait_for 30 sent_more_than "$1" || fail "no slow backup: $(
		cat "$dir/slow.err")"
}

# gives_up WHAT PATTERN: the one under way, for that reason.
gives_up() {
	agent_wait "$agent_pid" && fail "$1: the backup succeeded"
	grep -qE -- "$2" "$dir/slow.err" ||
		fail "$1: does not say \"$2\": $(cat "$dir/slow.err")"
}

# next WHAT: an incremental, and it is right.
next() {
	local from to

	from=$(vm_number web)
	wait_for 20 free_again "$1" || fail "$1: $(cat "$dir/backup.err")"
	vm_advance web 1
	to=$(vm_number web)
	last=$(json "$dir/backup.json" 'j["backup"]')
	[ $(($(stat_of read) >> 20)) -lt 30 ] ||
		fail "$1: read all: $(cat "$dir/backup.json")"
	rm -f "$dir"/r.vd?
	restore host "$last" --disk "vda=raw:$dir/r.vda" \
		--disk "vdb=raw:$dir/r.vdb"
	slots $region "$dir/r.vda" --from "$from" --to "$to"
	still "$dir/r.vda" "$disk"
	[ "$(one_bitmap)" = '[1, 1]' ] || fail "$1: bitmaps: $(one_bitmap)"
	wait_for 20 nothing_left || fail "behind $1: $(cat "$dir/left.txt")"
}

# The daemon may not have seen yet that the one before is gone.
free_again() {
	agent host backup --json -q acme/web "${how[@]}" --compression 0 \
		>"$dir/backup.json" 2>"$dir/backup.err" && return
	grep -q 'is being backed up' "$dir/backup.err" ||
		fail "$1: the next one: $(cat "$dir/backup.err")"
	return 1
}

# --- troubles

# changes: what takes a slow backup some seconds.
changes() { vm_advance web 1000; }

# The first backup.
first() {
	free_again "the first one" || fail "$(cat "$dir/backup.err")"
}

# The first backup is cut off; the noise that it sent does not go again.
resume() {
	local sent

	watch
	agent_start host "$dir/slow" backup --json -q acme/web "${how[@]}" \
		--compression 0 --bwlimit 6M
	# 10 of noise at least, which does not change.
	wait_for 60 sent_more_than $(((region + 10) << 20)) ||
		fail "the first one: $(cat "$dir/slow.err")"
	kill_daemon
	gives_up "the NAS is killed" .
	clean "the NAS is killed"
	start_daemon --checkpoint 1
	free_again "the first one" || fail "$(cat "$dir/backup.err")"
	sent=$(stat_of sent)
	if [ "$(stat_of deduplicated)" -lt $((8 << 20)) ] ||
		[ "$sent" -gt $(((region + 25) << 20)) ]; then
		fail "what was sent goes again: $(cat "$dir/backup.json")"
	fi
	seen "the NAS is killed in a first backup"
	[ "$(one_bitmap)" = '[1, 1]' ] || fail "bitmaps: $(one_bitmap)"
	clean "the first one"
	ok "$kind: the NAS is killed in the first backup; the next one sends only the rest, $((sent >> 20)) MiB"
}

nas_stops() {
	local until

	changes
	watch
	under_way 100000 --stall-timeout 60
	kill -STOP "$daemon_pid"
	until=$(($(now_ms) + 3000))
	while [ "$(now_ms)" -lt $until ]; do
		pause 0.2
	done
	kill -CONT "$daemon_pid"
	agent_wait "$agent_pid" ||
		fail "a stop of 3 s: $(cat "$dir/slow.err")"
	seen "the NAS stands still for 3 s, and the backup goes on"
	next "a stop of 3 s"
	changes
	watch
	under_way 100000 --stall-timeout $((stop_s / 2))
	kill -STOP "$daemon_pid"
	until=$(($(now_ms) + stop_s * 1000))
	gives_up "the NAS stands still" 'moved|stall|answer'
	clean "the NAS stands still"
	while [ "$(now_ms)" -lt $until ]; do
		pause 0.2
	done
	kill -CONT "$daemon_pid"
	seen "the NAS stands still for $stop_s s, the backup gives up"
	next "the NAS stood still"
	ok "$kind: the NAS stands still: shortly, and the backup goes on; longer, and it gives up and lets go of the guest"
}

nas_dies() {
	changes
	watch
	under_way 100000
	kill_daemon
	gives_up "the NAS is killed" .
	clean "the NAS is killed"
	start_daemon --checkpoint 1
	seen "the NAS is killed"
	next "the NAS was killed"
	ok "$kind: the NAS is killed"
}

# guard_of PID: the process that stands by.
guard_of() { ps --ppid "$1" -o pid= | tr -d ' '; }

agent_dies() {
	local i ms killed=0

	watch
	for ((i = 1; i <= $1; i++)); do
		vm_advance web 400
		slow "$dir/slow"
		ms=$((RANDOM % 3000))
		pause "$((ms / 1000)).$(printf %03d $((ms % 1000)))"
		if kill -9 "$agent_pid" 2>/dev/null; then
			killed=$((killed + 1))
		fi
		agent_wait "$agent_pid"
		clean "the agent is killed after $ms ms"
		[ $((i % 3)) != 0 ] || next "the agent was killed after $ms ms"
	done
	seen "the agent is killed $killed times"
	next "the agent was killed"
	[ $killed -ge $(($1 / 2)) ] || fail "only $killed were killed"
	ok "$kind: the agent is killed $killed times at any moment: its guard lets go of the guest"
}

guard_dies() {
	local guard

	changes
	watch
	under_way 100000
	guard=$(guard_of "$agent_pid")
	[ -n "$guard" ] || fail "there is no guard"
	# shellcheck disable=SC2086 # there may be several
	kill -9 $guard "$agent_pid"
	agent_wait "$agent_pid"
	nothing_left && fail "nothing is left of a run whose guard died, too"
	vm_advance web 500
	next "agent and guard were killed"
	grep -q 'released what an earlier run left' "$dir/backup.json" ||
		fail "it does not say what it released: $(cat "$dir/backup.json")"
	seen "agent and guard are killed, the next run releases the guest"
	ok "$kind: agent and guard are killed: $(json "$dir/backup.json" \
		"[n for n in j['notes'] if 'released' in n][0]")"
}

# full_up FOLDER: not a byte is free there any more.
full_up() { dd if=/dev/zero of="$1/ballast" bs=256k status=none 2>/dev/null; }

# small_fs FOLDER MIB TYPE: mounted there.
small_fs() {
	local image=$dir/image.$3

	mkdir -p "$1"
	case $3 in
	tmpfs) mount -t tmpfs -o "size=$2M" tmpfs "$1" ;;
	*)
		truncate -s "$2M" "$image"
		"mkfs.$3" -q -F -m 0 "$image"
		mount -o loop "$image" "$1"
		;;
	esac || fail "cannot mount $3"
	mounts+=("$1")
	[ "$kind" != libvirt ] || chown "$lv_user:$lv_user" "$1"
}

scratch_is_full() {
	local fs was=$scratch

	changes
	watch
	slow "$dir/slow" --scratch-max 8M --bwlimit 64K
	gives_up "scratch files at their limit" 'reached their limit of 8 MiB'
	clean "scratch files at their limit"
	seen "the scratch files reach their limit"
	next "the scratch files reached their limit"
	for fs in "$@"; do
		scratch=$was/$fs
		small_fs "$scratch" 170 "$fs"
		changes
		watch
		under_way -1 --scratch-dir "$scratch" --scratch-max 60M \
			--bwlimit 64K
		full_up "$scratch"
		gives_up "the file system is full ($fs)" 'nearly full'
		rm "$scratch/ballast"
		clean "the file system is full ($fs)"
		seen "the file system of the scratch files is full ($fs)"
		umount "$scratch" || fail "$scratch is still in use"
		mounts=()
		scratch=$was
		next "the file system was full ($fs)"
	done
	ok "$kind: scratch files at their limit, or on a full file system: the backup ends, and the guest runs on"
}

# --- both kinds of guest

begin() {
	"$live/witness.py" "$scratch/witness" >"$dir/witness" &
	witness=$!
	pids+=("$witness")
	vm_wait web '^AGREE .* ok' 90
	vm_wait web '^FILE' 90
	vm_wait web '^GA' 30
	nodes0=$(nnodes)
	echo "# seed $SEED"
	make_repo "$dir/repo"
	start_daemon --checkpoint 1
	enroll_agent host
	quiet
}

end() {
	quiet
	judge
	stop_daemon
	check_store
	kill "$witness"
	wait "$witness" 2>/dev/null
	forget "$witness"
	vm_sound web
}
