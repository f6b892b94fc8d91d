#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: what is asked of restore --start besides: a machine that is switched on,
# one that stands still, memory that can be read again; and that whatever fails
# or is killed leaves no process, no domain and no file but whole disks.
. "$(dirname "$0")/lib.sh"
. "$top/tests/live/lib.sh"
. "$top/tests/live/going.sh"

going_begin
vm_disk "$dir/a.qcow2" 192
vm_disk "$dir/b.qcow2" 64
vm_start web disk="$dir/a.qcow2" disk="$dir/b.qcow2" ram="$dir/memory" \
	memwork=32 work=disks,$region,1000,/dev/vda
vm_wait web '^AGREE .* ok' 90
vm_wait web '^COUNT .* ok' 60
before=$(vm_number web)
backup host web --qmp "$dir/web/qmp.sock" --scratch-dir "$dir" \
	--ram-method shared

# clone_at FOLDER: its console is read from there; empties the folder.
clone_at() {
	rm -rf "$dir/new" "$dir/twin"
	mkdir -p "$dir/new" "$dir/twin"
	ln -sf "$dir/new/serial" "$dir/twin/serial"
	vm_seen[twin]=0
}
clone=(web@latest --start --clone twin --dir "$dir/new")

# clone_ends: the one that was started last.
clone_ends() {
	kill -TERM "${vm_pid[twin]}"
	wait_for 20 gone "${vm_pid[twin]}" || fail "the clone does not end"
}
clone_begins() {
	vm_pid[twin]=$(started pid)
	pids+=("${vm_pid[twin]}")
}

# nothing_runs: no QEMU of the clone's folder; nothing is left there but disks.
nothing_runs() {
	local cmdline

	for cmdline in /proc/[0-9]*/cmdline; do
		if grep -aqs "$dir/new/qmp.sock" "$cmdline"; then
			fail "a QEMU runs: $(tr '\0' ' ' <"$cmdline")"
		fi
	done
	if find "$dir/new" -mindepth 1 ! -name '*.qcow2' ! -name serial \
		! -name '*.sock' | grep .; then
		fail "files are left"
	fi
}

clone_at
start "${clone[@]}" --no-ram
clone_begins
vm_wait twin '^FOUND' 60
vm_wait twin '^AGREE .* ok' 60
[ "$(vm_number twin)" -ge "$before" ] || fail "the disk is an old one"
ok "without its memory the machine is switched on"
clone_ends

clone_at
start "${clone[@]}" --paused
clone_begins
state() { "$live/qmp.py" "$dir/new/mon.sock" query-status; }
state | has '"paused"' || fail "it does not stand still: $(state)"
[ ! -s "$dir/new/serial" ] || fail "it said something"
"$live/qmp.py" "$dir/new/mon.sock" cont >"$dir/out"
goes_on twin "$before"
ok "a machine that stands still is let go on"
clone_ends

clone_at
start "${clone[@]}" --ram-shared
clone_begins
goes_on twin "$before"
before=$(vm_number twin)
backup host twin --qmp "$dir/new/qmp.sock" --scratch-dir "$dir" \
	--ram-method shared
clone_ends
rm -rf "$dir/new/"*
: >"$dir/new/serial"
vm_seen[twin]=0
start twin@latest --start --dir "$dir/new"
clone_begins
goes_on twin "$before"
ok "its memory, shared again, is saved past QEMU again"
clone_ends

# --- what fails

clone_at
expect_fail 1 'QEMU ended' agent host restore -q "${clone[@]}" --qemu /bin/true
nothing_runs
clone_at
expect_fail 1 'cannot be started.*--qemu' agent host restore -q \
	"${clone[@]}" --qemu "$dir/none"
nothing_runs
ok "a QEMU that does not start leaves nothing"

# Another machine than the one whose state was saved.
cat >"$dir/other" <<'END'
#!/bin/bash
exec qemu-system-x86_64 "$@" -device virtio-rng-pci -device virtio-balloon-pci
END
sed -i 's/-device virtio-rng-pci/-smp 2 &/' "$dir/other"
chmod +x "$dir/other"
clone_at
expect_fail 1 'does not start: ' agent host restore -q "${clone[@]}" \
	--qemu "$dir/other"
nothing_runs
ok "a QEMU that cannot load the state leaves nothing"

clone_at
agent_start host "$dir/agent" restore -q "${clone[@]}" --bwlimit 4M
in_the_midst() { compgen -G "$dir/new/.twin.ram-restoring/.*.restoring"; }
wait_for 30 in_the_midst >"$dir/out" || fail "it does not begin"
kill -TERM "$agent_pid"
agent_wait "$agent_pid" && fail "it was not interrupted"
nothing_runs
[ ! -e "$dir/new/twin-vda.qcow2" ] || fail "a disk is there"
ok "an interrupted restore leaves nothing"

clone_at
agent_start host "$dir/agent" restore -q "${clone[@]}" --bwlimit 4M
wait_for 30 in_the_midst >"$dir/out" || fail "it does not begin"
expect_fail 1 'another restore' agent host restore -q "${clone[@]}"
kill -9 "$agent_pid"
agent_wait "$agent_pid" && fail "it was not killed"
start "${clone[@]}" --wait=30
clone_begins
goes_on twin "$(vm_number twin)"
if find "$dir/new" -name '*restoring*' | grep .; then
	fail "what the killed one left is still there"
fi
clone_ends
ok "what a killed restore left is taken over by the next"

backup host part --qmp "$dir/web/qmp.sock" --scratch-dir "$dir" --exclude vdb
clone_at
expect_fail 1 'does not have disk vdb' agent host restore -q part@latest \
	--start --clone twin --dir "$dir/new"
expect_fail 1 'a place of its own' agent host restore -q web@latest --start \
	--clone twin
expect_fail 1 'no disk "vdx"' agent host restore -q "${clone[@]}" \
	--disk vdx=/x
expect_fail 1 'without libvirt' agent host restore -q web@latest \
	--as-libvirt-save "$dir/save"
expect_fail 2 'need --start' agent host restore -q web@latest --clone twin \
	--disk "vda=$dir/x"
cp "$dir/b.qcow2.was" "$dir/alone.raw"
backup host alone --disk "vda=raw:$dir/alone.raw"
expect_fail 1 'of disks alone' agent host restore -q alone@latest --start
ok "what cannot be a machine is refused, and why"
vm_sound web
vm_stop web

# --- libvirt

lv_start
vm_disk "$lv_files/a.qcow2" 192
lv_domain dom disk="$lv_files/a.qcow2" ram=1 memwork=32 \
	work=disks,$region,1000,/dev/vda
vm_wait dom '^AGREE .* ok' 90
backup host dom --domain dom --connect "$LV_URI" --scratch-dir "$lv_files"
lv_halt dom
mkdir "$lv_files/new"
chown "$lv_user:$lv_user" "$lv_files/new"
lv_virsh dumpxml --inactive dom >"$dir/dom.xml"
lv_virsh undefine dom --checkpoints-metadata >"$dir/lv.out" 2>&1 ||
	fail "undefine: $(cat "$dir/lv.out")"
sed '/<uuid>/d; s|/a.qcow2|/b.qcow2|' "$dir/dom.xml" >"$dir/other.xml"
lv_virsh define "$dir/other.xml" >"$dir/lv.out" || fail "define"
expect_fail 1 'another domain with that name' agent host restore -q \
	dom@latest --start --connect "$LV_URI" --force
ok "libvirt: another domain of that name stays"
lv_virsh undefine dom >"$dir/lv.out" || fail "undefine"

lv_virsh define "$dir/dom.xml" >"$dir/lv.out" || fail "define"
lv_power dom
vm_wait dom '^AGREE .* ok' 90
# Where its clone's console shall be there is a folder.
backup host dom --domain dom --connect "$LV_URI" --scratch-dir "$lv_files" \
	--ram
mkdir "$lv_files/new/serial"
expect_fail 1 'cannot be started: libvirt says' agent host restore -q \
	dom@latest --start --clone twin --dir "$lv_files/new" \
	--connect "$LV_URI"
if lv_virsh domuuid twin >"$dir/lv.out" 2>&1; then
	fail "a domain is left"
fi
if find "$lv_files/new" -name '*restoring*' | grep .; then
	fail "files of a restore are left"
fi
ok "libvirt: a domain that does not start leaves nothing"
vm_mark dom
vm_wait dom '^AGREE .* ok' 60
vm_sound dom
lv_stop
