#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: what belongs to a machine beside its disks is in its backups: its
# definition, the NVRAM of its firmware, the state of its TPM, the medium that it
# was set up from.  They come back byte for byte.
#
#   tests/e2e/106-live-belongings.sh
. "$(dirname "$0")/lib.sh"
. "$top/tests/live/lib.sh"
need swtpm swtpm_setup genisoimage
firmware=/usr/share/OVMF/OVMF_CODE_4M.fd
template=/usr/share/OVMF/OVMF_VARS_4M.fd
[ -e "$firmware" ] || fail "$firmware is missing: install ovmf"

make_repo "$dir/repo"
start_daemon
enroll_agent host

# kinds: of the volumes of the last backup, "name:kind" in a line, in order.
kinds() {
	console show "$last" --json >"$dir/show.json" 2>"$dir/show.err" ||
		fail "show $last: $(cat "$dir/show.err")"
	json "$dir/show.json" "' '.join(sorted('%s:%s' % (v['name'], v['kind'])
		for v in j['volumes']))"
}

# take WORD...: a backup of ${vm}, as ${last}.
take() {
	backup host "$vm" "$@"
	last=$(json "$dir/backup.json" 'j["backup"]')
}

notes() { json "$dir/backup.json" '" | ".join(j["notes"])'; }

# seed FILE
seed() {
	mkdir -p "$dir/seed"
	printf 'instance-id: one\nlocal-hostname: web\n' >"$dir/seed/meta-data"
	printf '#cloud-config\npassword: none\n' >"$dir/seed/user-data"
	genisoimage -quiet -V cidata -J -r -o "$1" "$dir/seed" 2>"$dir/iso.err" ||
		fail "genisoimage: $(cat "$dir/iso.err")"
}

# back NAME FILE: that volume of ${last} is that file.
back() {
	rm -f "$dir/back"
	restore host "$last" --disk "$1=raw:$dir/back"
	same_bytes "$2" "$dir/back"
}

# --- a domain of libvirt

lv_start
vm=acme/web
how=(--domain web --connect "$LV_URI" --scratch-dir "$lv_files")
nvram="$lv_files/it's vars, ü & \"more\".fd"
nvram_xml=${nvram//&/&amp;}
seed "$lv_files/seed.iso"
cp "$lv_files/seed.iso" "$dir/seed.was"
vm_disk "$lv_files/a.qcow2" 16
cp "$template" "$nvram" # before it is started it has none, else
chown "$lv_user:$lv_user" "$nvram" "$lv_files/seed.iso"
lv_domain web disk="$lv_files/a.qcow2" work=disks,8,500,/dev/vda \
	os="<loader readonly='yes' type='pflash'>$firmware</loader><nvram>$nvram_xml</nvram>" \
	devices="<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>
	<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>
	<source file='$lv_files/seed.iso'/><target dev='sda' bus='sata'/>
	<readonly/></disk>"
vm_wait web '^AGREE .* ok' 150
uuid=$(lv_virsh domuuid web)
tpm=$dir/lv/config/libvirt/qemu/swtpm/$uuid/tpm2
[ -s "$tpm/tpm2-00.permall" ] || fail "no state of the TPM: $(ls -R "$dir/lv/config")"
cmp -s "$template" "$nvram" && fail "the firmware has not written its NVRAM"

# whole: the last backup has it all, as it lies there.
whole() {
	[ "$(kinds | tr ' ' '\n' | grep -vE ':(ram|state)$' | tr '\n' ' ')" = \
		"definition:definition nvram:nvram sda:seed tpm2-00.permall:tpm vda:disk " ] ||
		fail "volumes: $(kinds); notes: $(notes)"
	back nvram "$nvram"
	back tpm2-00.permall "$tpm/tpm2-00.permall"
	back sda "$dir/seed.was"
	rm -f "$dir/xml"
	restore host "$last" --disk "definition=raw:$dir/xml"
	grep -q "<uuid>$uuid</uuid>" "$dir/xml" || fail "definition: $(cat "$dir/xml")"
	console show "$last" >"$dir/show" || fail "show $last"
	grep -q "<uuid>$uuid</uuid>" "$dir/show" ||
		fail "show has no definition: $(cat "$dir/show")"
	json "$dir/show.json" 'j["definition"]["text"]' >"$dir/xml2"
	grep -q "<uuid>$uuid</uuid>" "$dir/xml2" || fail "show --json: $(cat "$dir/xml2")"
	[ "$(json "$dir/show.json" 'j["definition"]["format"]')" = libvirt-xml ] ||
		fail "show --json: $(cat "$dir/show.json")"
}

take "${how[@]}"
whole
ok "a running domain's definition, NVRAM, TPM and seed medium come back as they are"

take "${how[@]}" --ram
json "$dir/backup.json" 'j["consistency"]' | has -x ram || fail "not with RAM"
whole
vm_sound web
ok "so they do with its memory"

# What cannot be read is not left out in silence.
mv "$nvram" "$nvram.away"
expect_fail 1 "nvram: .*vars" agent host backup $vm "${how[@]}"
mkdir "$nvram"
expect_fail 1 "nvram: .*vars.*no regular file" agent host backup $vm "${how[@]}"
rmdir "$nvram"
mv "$nvram.away" "$nvram"
vm_qmp web query-block-jobs >"$dir/jobs.json"
[ "$(json "$dir/jobs.json" j)" = "[]" ] || fail "a job is left"
ok "a file that cannot be read is an error that names it, and nothing is left"

lv_halt web
# Where a session's libvirt has it; a running one's emulator tells.
export XDG_CONFIG_HOME=$dir/lv/config
take "${how[@]}"
[ -z "$(notes)" ] || fail "notes: $(notes)"
whole
mv "$nvram" "$nvram.away"
take "${how[@]}"
notes | has 'nvram is not in the backup' || fail "notes: $(notes)"
mv "$nvram.away" "$nvram"
ok "and of one that is off, where it may be that it has no NVRAM yet"
lv_stop

# --- a plain QEMU

vm=acme/plain
nvram="$dir/disks/vars,1:x.fd"
mkdir "$dir/disks" "$dir/tpm"
cp "$template" "$nvram"
vm_disk "$dir/disks/a.qcow2" 16
swtpm_setup --tpm2 --tpmstate "$dir/tpm" --overwrite >"$dir/swtpm.out" 2>&1 ||
	fail "swtpm_setup: $(cat "$dir/swtpm.out")"
swtpm socket --tpm2 --tpmstate "dir=$dir/tpm" --ctrl \
	"type=unixio,path=$dir/tpm.sock" >"$dir/swtpm.out" 2>&1 &
pids+=("$!")
wait_for 20 test -S "$dir/tpm.sock" || fail "swtpm: $(cat "$dir/swtpm.out")"
vm_start plain disk="$dir/disks/a.qcow2" work=disks,8,500,/dev/vda \
	extra="-drive if=pflash,format=raw,readonly=on,file=$firmware
	-drive if=pflash,format=raw,file=${nvram/,/,,}
	-chardev socket,id=chrtpm,path=$dir/tpm.sock
	-tpmdev emulator,id=tpm0,chardev=chrtpm -device tpm-crb,tpmdev=tpm0
	-blockdev driver=file,node-name=seed,filename=$dir/seed.was,read-only=on
	-device virtio-scsi-pci -device scsi-cd,drive=seed,id=tpm"
vm_wait plain '^AGREE .* ok' 150
printf more >"$dir/tpm/tpm2-00.of more & more"
tpm=$dir/tpm
how=(--qmp "$dir/plain/qmp.sock")
# A disk that is called as a file of the machine is: both are there.
for ram in "" --ram; do
	# shellcheck disable=SC2086 # nothing, or a word
	take "${how[@]}" $ram
	kinds >"$dir/kinds"
	tr ' ' '\n' <"$dir/kinds" | grep -vE ':(ram|state)$' >"$dir/kinds2"
	[ "$(tr '\n' ' ' <"$dir/kinds2")" = "definition:definition nvram:nvram tpm-2:seed tpm2-00.of-more---more:tpm tpm:tpm vda:disk " ] ||
		fail "volumes: $(cat "$dir/kinds"); notes: $(notes)"
	back nvram "$nvram"
	back tpm "$tpm/tpm2-00.permall"
	back tpm2-00.of-more---more "$tpm/tpm2-00.of more & more"
	back tpm-2 "$dir/seed.was"
	console show "$last" >"$dir/show" || fail "show $last"
	grep -q "definition (qemu-args)" "$dir/show" || fail "$(cat "$dir/show")"
	grep -qF "$dir/tpm.sock" "$dir/show" || fail "$(cat "$dir/show")"
done
vm_sound plain
vm_stop plain
ok "a plain QEMU's firmware, TPM and media too, with memory and without"
