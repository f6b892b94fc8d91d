# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Records of what changed that are not to be believed: what the tests of plain
# QEMU and of libvirt share.  Sourced behind tests/live/lib.sh.
#
#   how=(--qmp SOCKET ...)   how the agent reaches the guest "web"
#   disk=FILE                its disk vda, of vm_disk
#
# shellcheck disable=SC2154,SC2034 # set and used by the files around it
: "${dir:?source tests/live/lib.sh first}"

region=24 # MiB that the guest writes, of 128; 32 are noise
host=host
vm=acme/web
declare -a how=()
disk=
last=

# restored [BACKUP]: what it holds, in r.raw.
restored() {
	rm -f "$dir/r.raw"
	restore "$host" "${1:-$last}" --disk "vda=raw:$dir/r.raw"
}

# save [OPTION...]: a backup, not looked at; from and to bound its moment.
save() {
	from=$(vm_number web)
	backup "$host" "$vm" "${how[@]}" "$@"
	vm_advance web 1
	to=$(vm_number web)
	last=$(json "$dir/backup.json" 'j["backup"]')
}

# right: the last one is one point in time, of between from and to.
right() {
	restored
	slots $region "$dir/r.raw" --from "$from" --to "$to"
	still "$dir/r.raw" "$disk"
}

# read_mib: of the guest, by the last backup.
read_mib() { echo $(($(stat_of read) >> 20)); }

says() { json "$dir/backup.json" "' '.join(j['notes'])"; }

# incremental WHEN [OPTION...]: it builds on the record, and is right.
incremental() {
	local when=$1

	shift
	vm_advance web 50
	save --verify-clean 0.5 "$@"
	[ "$(json "$dir/backup.json" '"condemned" in j')" = False ] ||
		fail "$when: condemned: $(cat "$dir/backup.json")"
	[ "$(read_mib)" -lt 28 ] ||
		fail "$when: read $(read_mib) MiB: $(cat "$dir/backup.json")"
	right
}

# condemned WHEN PERCENT: the sample shows that the record lies.
condemned() {
	save --verify-clean "$2"
	[ "$(json "$dir/backup.json" '"condemned" in j and
		j["condemned"]["disk"]')" = vda ] ||
		fail "$1: not found: $(cat "$dir/backup.json")"
	grep -q 'nothing was noted to have changed: all of it is read' \
		"$dir/backup.err" || fail "$1: $(cat "$dir/backup.err")"
	right
	incremental "behind it, $1"
	ok "$1: the sample shows it, all is read, and the next one builds on that"
}

# full WHEN PATTERN: what there is of a record is not used, and that is said.
full() {
	save --verify-clean 0
	[ "$(read_mib)" -ge 32 ] ||
		fail "$1: read $(read_mib) MiB: $(cat "$dir/backup.json")"
	says | has -E "disk vda is read in full: .*$2" ||
		fail "$1: does not say \"$2\": $(cat "$dir/backup.json")"
	right
	ok "$1: that is seen, all is read and it is said why"
}

# bitmaps PREFIX: names of those in QEMU.
bitmaps() {
	vm_qmp web query-named-block-nodes '{"flat": true}' \
		>"$dir/nodes.json" || fail "query-named-block-nodes"
	json "$dir/nodes.json" "' '.join(b['name'] for n in j
		for b in n.get('dirty-bitmaps', [])
		if n['drv'] == 'qcow2' and b['name'].startswith('backstay-$1'))"
}

# record COMMAND [JSON-MEMBERS]: to the bitmap of the last backup; there is one.
record() {
	local name

	name=$(bitmaps '')
	[[ $name = backstay-????????-???????????????? ]] ||
		fail "bitmaps: \"$name\""
	vm_qmp web "block-dirty-bitmap-$1" "{\"node\": \"$(vm_node web vda)\",
		\"name\": \"$name\"${2:+, $2}}" >"$dir/qmp.out" 2>&1 ||
		fail "$1 of $name: $(cat "$dir/qmp.out")"
	[ "$1" != remove ] || record_was=$name
}

# record_again [JSON-MEMBERS]: what was removed, empty.
record_again() {
	vm_qmp web block-dirty-bitmap-add "{\"node\": \"$(vm_node web vda)\",
		\"name\": \"$record_was\", \"persistent\": true${1:+, $1}}" \
		>"$dir/qmp.out" 2>&1 || fail "add: $(cat "$dir/qmp.out")"
}

# changes: enough for a sample of half of it not to miss them: 20 runs.
changes() { vm_advance web 350; }

# lies: of records, as any monitor can tell them.
lies() {
	changes
	record clear
	condemned "a bitmap that was cleared" 50
	changes
	record remove
	record_again '"granularity": 65536'
	condemned "a bitmap that was removed and made again" 50
	changes
	record disable
	full "a bitmap that was switched off" "${1:-switched off}"
	changes
	record remove
	full "a bitmap that was removed" "${2:-no record}"
}

# teeth: a lie that nobody looks for makes a wrong backup; the check sees that,
# and so does the next one's sample.
teeth() {
	changes
	record clear
	save --verify-clean 0
	restored
	must_smear $region "$dir/r.raw"
	changes
	condemned "a parent that is wrong" 50
}

# daemon_of NAME: of that repository, which is ${repo} and ${url} from here on.
declare -A repo_daemon=()
daemon_of() {
	repo=$dir/$1
	daemon_pid=${repo_daemon[$1]:-}
	url=
	[ -z "$daemon_pid" ] || url=ssh://127.0.0.1:$(cat "$repo/port")
}

# two: a second repository, and a second name in the first one; each has its own
# record, which the others let be.
two() {
	local turn

	daemon_of other
	make_repo "$repo"
	start_daemon
	repo_daemon[other]=$daemon_pid
	enroll_agent there
	host=there save
	right_of there
	daemon_of repo
	vm=acme/same save
	right
	[ "$(bitmaps '' | wc -w)" = 3 ] || fail "bitmaps: $(bitmaps '')"
	for turn in 1 2; do
		daemon_of other
		host=there incremental "the second repository, turn $turn"
		daemon_of repo
		vm=acme/same incremental "the second name, turn $turn"
		incremental "the first repository, turn $turn"
	done
	[ "$(bitmaps '' | wc -w)" = 3 ] || fail "bitmaps: $(bitmaps '')"
	ok "two repositories and two names in one back up the same guest in turn, and each is incremental"
}
right_of() { host=$1 right; }

delete_backup() {
	console delete "$1" >"$dir/delete.out" 2>&1 ||
		fail "delete $1: $(cat "$dir/delete.out")"
}

# parents: the last backup is deleted; before and while the next one is made.
parents() {
	local before

	delete_backup "$last"
	full "a parent that was deleted" 'no record|does not know'
	before=$last
	changes
	from=$(vm_number web)
	agent_start "$host" "$dir/backup.json" backup --json -q "$vm" "${how[@]}" \
		--compression 0 --bwlimit 512K
	wait_for 20 runs_job || fail "no backup runs"
	console delete "$before" --wait=1 >"$dir/delete.out" 2>&1
	deleted=$?
	agent_wait "$agent_pid" || fail "the parent is deleted meanwhile: $(
		cat "$dir/backup.json.err")"
	vm_advance web 1
	to=$(vm_number web)
	last=$(json "$dir/backup.json" 'j["backup"]')
	right
	incremental "behind one whose parent was to be deleted meanwhile"
	ok "nor does it harm one that runs meanwhile (delete ended with $deleted)"
}

runs_job() {
	console jobs --json >"$dir/jobs.json" || fail jobs
	[ "$(json "$dir/jobs.json" \
		"len([x for x in j if x['state'] == 'running'])")" = 1 ]
}

# back_in_time: the repository is an older copy of itself.
back_in_time() {
	stop_daemon
	cp -a "$repo" "$repo.old"
	[ ! -L "$repo/packs" ] || cp -aL "$repo/packs" "$dir/packs.old"
	start_daemon
	incremental "before it goes back"
	stop_daemon
	rm -r "$repo"
	mv "$repo.old" "$repo"
	if [ -L "$repo/packs" ]; then
		# The server would not know that its files are others now.
		stop_nfs
		rm -r "$(readlink "$repo/packs")"
		mv "$dir/packs.old" "$(readlink "$repo/packs")"
		start_nfs
	fi
	start_daemon
	repo_daemon[repo]=$daemon_pid
	full "a repository that was restored from a copy" \
		'no record|does not know'
}

begin() {
	daemon_of repo
	if [ -z "$daemon_pid" ]; then
		make_repo "$repo"
		start_daemon
		repo_daemon[repo]=$daemon_pid
		enroll_agent host
	fi
	vm_wait web '^AGREE .* ok' 90
	save
	right
	incremental "the first one"
	changes
	vm_reached web $((region << 8)) && fail "the guest was once round"
	record clear
	condemned "a bitmap that was cleared, of what was a hole" 50
	wait_for 60 vm_reached web $((region << 8)) ||
		fail "the guest does not get once round"
	save
	right
}
