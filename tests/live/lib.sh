# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Rooms in which real guests run.  A test sources it behind tests/e2e/lib.sh:
#
#	. "$(dirname "$0")/lib.sh"
#	. "$top/tests/live/lib.sh"
#	vm_disk "$dir/a.qcow2" 256
#	vm_start web disk="$dir/a.qcow2" work=disks,64,500,/dev/vda
#	vm_wait web '^AGREE .* ok' 60
#	agent nas backup web --qmp "$dir/web/qmp.sock"
#
# Guests are emulated (TCG), boot in 3 to 9 s and take what they touch of their
# memory and some 60 MiB.  What they do and what they print on their console is
# told in guest/work.c; slots.py looks at disks, qmp.py is a second monitor.
# What is unpacked or installed for all this is kept in build/live.  As root.

: "${top:?source tests/e2e/lib.sh first}" "${dir:?}"
live=$top/tests/live
live_cache=$top/build/live
guest_kernel=$live_cache/guest/vmlinuz
guest_initrd=$live_cache/guest/initrd.img

[ "$(id -u)" = 0 ] || fail "guests run for root only: try sudo"
need qemu-system-x86_64 qemu-img nbdcopy setpriv unshare flock
mkdir -p "$live_cache"
bounded "$live/guest.sh" "$live_cache/guest" >"$dir/guest.out" 2>&1 ||
	fail "guest.sh: $(cat "$dir/guest.out")"

live_cleanup() {
	local status=$?

	lv_kill
	(exit "$status")
	lib_cleanup
}
trap live_cleanup EXIT

# --- guests, of both kinds
#
# vm_start and lv_domain take the same words; disks are vda, vdb, ...
#
#   disk=FILE[,FORMAT]   (qcow2; again for each disk)   mem=MIB   (256)
#   work=ARGUMENTS       of work, commas for spaces: work=disks,64,500,/dev/vda
#   memwork=MIB[,RATE[,SEEN]]   work mem beside it
#   tick=MS              work tick beside it
#   fs=/dev/vdb          mount it (ext4), and append to /mnt/log
#   ga=1                 the real guest agent runs
#   ram=FILE             (plain QEMU) memory is this file, shared; ram=1 (libvirt)
#   new=1                newer QEMU: see "the newer room" below
#   incoming=1           (plain QEMU) -incoming defer
#   extra=WORDS          (plain QEMU) more options
#   devices=XML top=XML os=XML  (libvirt) more in <devices>, <domain>, <os>
declare -A vm_pid=() vm_seen=()
declare -A vm_o=()
declare -a vm_disks=()
vm_append=

vm_options() {
	local word

	vm_o=([mem]=256)
	vm_disks=()
	for word in "$@"; do
		case $word in
		disk=*) vm_disks+=("${word#disk=}") ;;
		*=*) vm_o[${word%%=*}]=${word#*=} ;;
		*) fail "vm_start: $word?" ;;
		esac
	done
	vm_append="console=ttyS0 quiet panic=-1"
	[ -z "${vm_o[work]:-}" ] || vm_append+=" work=${vm_o[work]}"
	[ -z "${vm_o[memwork]:-}" ] || vm_append+=" memwork=${vm_o[memwork]}"
	[ -z "${vm_o[tick]:-}" ] || vm_append+=" tick=${vm_o[tick]}"
	[ -z "${vm_o[fs]:-}" ] || vm_append+=" fs=${vm_o[fs]}"
	[ -z "${vm_o[ga]:-}" ] || vm_append+=" ga=1"
}

# vm_disk FILE MIB [FORMAT]: the first half is empty, for `work disks`; a quarter
# is noise that never changes; FILE.was is what it holds, raw.
vm_disk() {
	local file=$1 mib=$2 format=${3:-qcow2}

	truncate -s 0 "$file.was"
	truncate -s "${mib}M" "$file.was"
	put_noise "$file.was" $((mib << 19)) $((mib << 18)) "$file"
	qemu-img convert -q -f raw -O "$format" "$file.was" "$file" ||
		fail "cannot make $file"
}

# vm_fs FILE MIB [FORMAT]: a disk with an empty ext4.
vm_fs() {
	local file=$1 mib=$2 format=${3:-qcow2}

	truncate -s 0 "$file.was"
	truncate -s "${mib}M" "$file.was"
	mke2fs -q -F -t ext4 "$file.was" || fail "mke2fs $file.was"
	qemu-img convert -q -f raw -O "$format" "$file.was" "$file" ||
		fail "cannot make $file"
}

# The guest's console, without the carriage returns of a serial line.
vm_console() { tr -d '\r' <"$dir/$1/serial"; }

# vm_mark NAME: what is on its console by now is not looked at any more.
vm_mark() { vm_seen[$1]=$(vm_console "$1" | wc -l); }

# vm_lines NAME: what is new since vm_mark; all, if there was none.
vm_lines() { vm_console "$1" | tail -n +$((${vm_seen[$1]:-0} + 1)); }

vm_said() { vm_lines "$1" | has -aE -- "$2"; }
vm_said_or_gone() { vm_said "$1" "$2" || gone "${vm_pid[$1]}"; }

# vm_wait NAME PATTERN SECONDS: until a line since vm_mark matches.
vm_wait() {
	wait_for "$3" vm_said_or_gone "$1" "$2"
	vm_said "$1" "$2" || {
		tail -n 5 "$dir/$1"/{serial,qemu.log} >&2
		fail "guest $1 does not say \"$2\" within $3 s"
	}
}

# vm_number NAME: the number that it wrote last, as it said, at least.
vm_number() {
	vm_console "$1" | awk '/^LAT/ { n = $6 } END { print n + 0 }'
}
vm_reached() { [ "$(vm_number "$1")" -ge "$2" ]; }

# vm_advance NAME COUNT: until it wrote that many more; COUNT 1: what
# vm_number says afterwards was not yet written now.
vm_advance() {
	local to=$(($(vm_number "$1") + $2))

	wait_for 120 vm_reached "$1" "$to" ||
		fail "guest $1 does not get to $to: is at $(vm_number "$1")"
}

# vm_latency NAME: the longest of its writes since vm_mark, in microseconds.
vm_latency() {
	vm_lines "$1" | awk '/^LAT/ && $2 > m { m = $2 } END { print m + 0 }'
}

# vm_sound NAME: it never found its memory or its disks to be other than it left
# them.
vm_sound() {
	if vm_console "$1" | grep -aE 'BAD|ERROR|INSMOD-FAILED' >&2; then
		fail "guest $1 is not well"
	fi
}

# slots MIB IMAGE [SECOND] [OPTION...]: one point in time, or the test fails.
slots() {
	"$live/slots.py" "$@" >"$dir/slots.out" 2>"$dir/slots.err" ||
		fail "slots $*: $(cat "$dir/slots.err")"
}

# still RAW DISK: the part of it that the guest never writes is as vm_disk made
# it.
still() {
	local half=$(($(stat -c %s "$2.was") / 2))

	cmp -s -i "$half" "$1" "$2.was" ||
		fail "$1: what was never written is not as it was"
}

# vm_qmp NAME COMMAND [JSON-ARGUMENTS]: a line of JSON, by a monitor of the test's
# own.
vm_qmp() {
	if [ -S "$dir/$1/mon.sock" ]; then
		bounded "$live/qmp.py" "$dir/$1/mon.sock" "${@:2}"
	else
		lv_virsh qemu-monitor-command "$1" --return-value \
			"{\"execute\": \"$2\", \"arguments\": ${3:-{\}}}"
	fi
}

# vm_node NAME DISK: what QEMU calls the node of that disk (vda).
vm_node() {
	[ ! -S "$dir/$1/mon.sock" ] || {
		echo "$2"
		return
	}
	vm_qmp "$1" query-named-block-nodes '{"flat": true}' >"$dir/nodes.json"
	json "$dir/nodes.json" "[n['node-name'] for n in reversed(j)
		if n['node-name'].endswith('-format')][ord('${2#vd}') - 97]"
}

# vm_smear NAME DISK MIB OUT: reads the running disk as if it stood still; some
# 500 numbers are written in between, so that slots.py must find OUT wanting.
vm_smear() {
	local name=$1 node half=$(($3 / 2)) out=$4 sock=$dir/$1/smear.sock uri

	uri="nbd+unix:///smear?socket=$sock"
	node=$(vm_node "$name" "$2")
	{
		vm_qmp "$name" nbd-server-start \
			"{\"addr\": {\"type\": \"unix\", \"data\": {\"path\": \"$sock\"}}}" &&
			vm_qmp "$name" block-export-add \
				"{\"type\": \"nbd\", \"id\": \"smear\", \"node-name\": \"$node\", \"name\": \"smear\"}"
	} >"$dir/smear.out" 2>&1 ||
		fail "cannot export $2 of $name: $(cat "$dir/smear.out")"
	qemu-img dd -f raw -O raw bs=1M count=$half if="$uri" of="$out.a" ||
		fail "cannot read $2 of $name"
	vm_advance "$name" 500
	qemu-img dd -f raw -O raw bs=1M skip=$half count="$3" if="$uri" \
		of="$out" || fail "cannot read $2 of $name"
	cat "$out" >>"$out.a"
	mv "$out.a" "$out"
	vm_qmp "$name" nbd-server-stop >"$dir/smear.out" ||
		fail "cannot stop the export of $2 of $name"
}

# must_smear MIB RAW: slots.py says that it is not a point in time.
must_smear() {
	if "$live/slots.py" "$1" "$2" >"$dir/slots.out" 2>"$dir/slots.err"; then
		fail "slots.py takes a smear for a point in time: $2"
	fi
	grep -q 'not a point in time' "$dir/slots.err" ||
		fail "slots.py: $(cat "$dir/slots.err")"
}

# must_differ MIB RAW SECOND: slots.py says that they are of two moments.
must_differ() {
	if "$live/slots.py" "$@" >"$dir/slots.out" 2>"$dir/slots.err"; then
		fail "slots.py takes two moments for one: $(cat "$dir/slots.out")"
	fi
	grep -q 'not of one moment' "$dir/slots.err" ||
		fail "slots.py: $(cat "$dir/slots.err")"
}

# --- plain QEMU
#
# ${dir}/NAME has qmp.sock (for the agent under test), mon.sock (the test's own),
# ga.sock and serial; node names and device names are those of the disks: vda.

# vm_start NAME WORD...: see above; vm_pid[NAME] is its process.
vm_start() {
	local name=$1 home=$dir/$1 letter=97 disk n machine=q35,accel=tcg
	local -a args=() run=(qemu-system-x86_64)

	shift
	vm_options "$@"
	mkdir -p "$home"
	rm -f "$home"/*.sock
	: >"$home/serial"
	vm_seen[$name]=0
	for disk in "${vm_disks[@]}"; do
		[[ $disk = *,* ]] || disk+=,qcow2
		n=vd$(printf '%b' "\\x$(printf %x $letter)")
		letter=$((letter + 1))
		args+=(-blockdev "driver=file,node-name=$n-file,filename=${disk%,*},discard=unmap"
			-blockdev "driver=${disk##*,},node-name=$n,file=$n-file,discard=unmap"
			-device "virtio-blk-pci,drive=$n,id=$n")
	done
	if [ -n "${vm_o[ram]:-}" ]; then
		args+=(-object "memory-backend-file,id=ram0,size=${vm_o[mem]}M,mem-path=${vm_o[ram]},share=on")
		machine+=,memory-backend=ram0
	fi
	if [ -n "${vm_o[ga]:-}" ]; then
		args+=(-device virtio-serial-pci
			-chardev "socket,id=ga,path=$home/ga.sock,server=on,wait=off"
			-device "virtserialport,chardev=ga,name=org.qemu.guest_agent.0")
	fi
	[ -z "${vm_o[incoming]:-}" ] || args+=(-incoming defer)
	if [ -n "${vm_o[new]:-}" ]; then
		new_room
		run=(in_new_room qemu-system-x86_64)
	fi
	# shellcheck disable=SC2206 # extra is several words
	args+=(${vm_o[extra]:-})
	"${run[@]}" -nodefaults -no-user-config -name "$name" \
		-machine "$machine" -cpu qemu64 -m "${vm_o[mem]}" -smp 1 \
		-display none -no-reboot -serial "file:$home/serial" \
		-qmp "unix:$home/qmp.sock,server=on,wait=off" \
		-qmp "unix:$home/mon.sock,server=on,wait=off" "${args[@]}" \
		-kernel "$guest_kernel" -initrd "$guest_initrd" \
		-append "$vm_append" >"$home/qemu.log" 2>&1 &
	vm_pid[$name]=$!
	pids+=("$!")
	wait_for 30 vm_monitored "$name"
	alive "${vm_pid[$name]}" ||
		fail "QEMU of $name: $(cat "$home/qemu.log")"
}

vm_monitored() { [ -S "$dir/$1/mon.sock" ] || gone "${vm_pid[$1]}"; }

# vm_stop NAME [SIGNAL]
vm_stop() {
	local pid=${vm_pid[$1]}

	kill "-${2:-TERM}" "$pid" 2>/dev/null
	wait_for 20 gone "$pid" 2>/dev/null || fail "QEMU of $1 does not end"
	wait "$pid" 2>/dev/null
	forget "$pid"
	vm_pid[$1]=
}

# --- libvirt
#
# A daemon of its own for each test: a session libvirtd of user 65534 (nobody),
# whose folders are all in ${dir}/lv, so that nothing of the system's is used or
# changed.  Its QEMUs run as that user: files that they use, scratch files too,
# are to be in ${lv_files}, which belongs to it.
#
#   lv_start [new=1] [ram=DIR]   ${LV_URI} is how to connect, for root too:
#                                qemu+unix:///session?socket=PATH; files of
#                                memory (ram=1 of lv_domain) are below DIR
#   lv_domain NAME WORD...       defines and starts it; words as for vm_start;
#                                vm_wait, vm_mark, vm_number ... go by its NAME
#   lv_virsh WORD...             a virsh that is connected to it
#   lv_halt NAME, lv_power NAME  switch the domain off, and on again
#   lv_stop                      ends the daemon and its guests
LV_URI=
lv_files=
lv_user=65534
lv_pid=

lv_answers() {
	lv_virsh version >"$dir/lv.out" 2>&1 || gone "$lv_pid"
}

lv_start() {
	local home=$dir/lv word ram=
	local -a run=(setpriv "--reuid=$lv_user" "--regid=$lv_user"
		--clear-groups)

	need libvirtd virsh
	chmod 755 "$dir"
	for word in "$@"; do
		case $word in
		new=1)
			new_room
			run=(in_new_room "--userspec=$lv_user:$lv_user")
			;;
		ram=*) ram=${word#ram=} ;;
		*) fail "lv_start: $word?" ;;
		esac
	done
	mkdir -p "$home"/{home,run,config/libvirt,cache,data,files}
	lv_files=$home/files
	LV_URI="qemu+unix:///session?socket=$home/run/libvirt/libvirt-sock"
	export LIBVIRT_AUTOSTART=0 # a client never starts another daemon
	printf '%s\n' 'log_level = 3' \
		"log_outputs = \"3:file:$home/libvirtd.log\"" \
		>"$home/config/libvirt/libvirtd.conf"
	# Else it wants a virtlogd, and whatever of SELinux or AppArmor there is.
	printf '%s\n' 'stdio_handler = "file"' 'security_driver = "none"' \
		>"$home/config/libvirt/qemu.conf"
	[ -z "$ram" ] || echo "memory_backing_dir = \"$ram\"" \
		>>"$home/config/libvirt/qemu.conf"
	cp "$guest_kernel" "$guest_initrd" "$lv_files"
	chown -R "$lv_user:$lv_user" "$home"
	"${run[@]}" env -i HOME="$home/home" XDG_RUNTIME_DIR="$home/run" \
		XDG_CONFIG_HOME="$home/config" XDG_CACHE_HOME="$home/cache" \
		XDG_DATA_HOME="$home/data" LANG=C.UTF-8 TMPDIR=/tmp \
		PATH=/usr/sbin:/usr/bin:/sbin:/bin LIBVIRT_AUTOSTART=0 \
		libvirtd >"$home/libvirtd.out" 2>&1 &
	lv_pid=$!
	pids+=("$lv_pid")
	wait_for 60 lv_answers
	alive "$lv_pid" || fail "libvirtd: $(cat "$home"/libvirtd.{out,log})"
}

lv_virsh() { bounded virsh -q -c "$LV_URI" "$@"; }

lv_domain() {
	local name=$1 home=$dir/$1 letter=97 disk n memory=

	shift
	vm_options "$@"
	mkdir -p "$home"
	: >"$home/serial"
	chown -R "$lv_user:$lv_user" "$home"
	[ -z "${vm_o[ram]:-}" ] ||
		memory="<memoryBacking><source type='file'/><access mode='shared'/></memoryBacking>"
	{
		cat <<-XML
			<domain type='qemu'>
			<name>$name</name><memory unit='MiB'>${vm_o[mem]}</memory>
			<vcpu>1</vcpu>$memory
			<os><type arch='x86_64' machine='q35'>hvm</type>
			<kernel>$lv_files/vmlinuz</kernel>
			<initrd>$lv_files/initrd.img</initrd>
			<cmdline>$vm_append</cmdline>${vm_o[os]:-}</os>
			<features><acpi/></features>
			<cpu mode='custom' match='exact'>
			<model fallback='allow'>qemu64</model></cpu>
			<on_reboot>destroy</on_reboot>${vm_o[top]:-}
			<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
			<serial type='file'><source path='$home/serial'/>
			<target port='0'/></serial>
			<channel type='unix'>
			<target type='virtio' name='org.qemu.guest_agent.0'/>
			</channel><memballoon model='none'/>
			<controller type='usb' model='none'/>${vm_o[devices]:-}
		XML
		for disk in "${vm_disks[@]}"; do
			[[ $disk = *,* ]] || disk+=,qcow2
			n=vd$(printf '%b' "\\x$(printf %x $letter)")
			letter=$((letter + 1))
			chown "$lv_user:$lv_user" "${disk%,*}"
			cat <<-XML
				<disk type='file' device='disk'>
				<driver name='qemu' type='${disk##*,}' discard='unmap'/>
				<source file='${disk%,*}'/>
				<target dev='$n' bus='virtio'/></disk>
			XML
		done
		echo "</devices></domain>"
	} >"$home/domain.xml"
	lv_virsh define "$home/domain.xml" >"$dir/lv.out" 2>&1 ||
		fail "domain $name: $(cat "$dir/lv.out")"
	lv_power "$name"
}

# lv_power NAME: switches it on again.
lv_power() {
	: >"$dir/$1/serial"
	vm_seen[$1]=0
	lv_virsh start "$1" >"$dir/lv.out" 2>&1 ||
		fail "domain $1: $(cat "$dir/lv.out")"
	vm_pid[$1]=$(cat "$dir/lv/run/libvirt/qemu/run/$1.pid")
}

lv_halt() {
	lv_virsh destroy "$1" >"$dir/lv.out" 2>&1 ||
		fail "cannot switch off $1: $(cat "$dir/lv.out")"
	vm_pid[$1]=
}

lv_stop() {
	lv_kill
	kill "$lv_pid" 2>/dev/null
	wait_for 20 gone "$lv_pid" || fail "libvirtd does not end"
	wait "$lv_pid" 2>/dev/null
	forget "$lv_pid"
	lv_pid=
}

# Its guests are no children of the test's, and outlive their daemon.
lv_kill() {
	local file pid

	for file in "$dir"/lv/run/libvirt/qemu/run/*.pid; do
		[ -e "$file" ] || continue
		[ "$(basename "$file")" != driver.pid ] || continue # the daemon
		pid=$(cat "$file")
		grep -aqsF "$dir/lv/" "/proc/$pid/cmdline" || continue # reused
		kill -9 "$pid"
		wait_for 10 gone "$pid"
	done
}

# --- the newer room
#
# QEMU 10 and libvirt 11 of bookworm-backports, in a folder of their own that is
# made once (a minute, 770 MiB).  What is mounted there is mounted in a mount
# namespace of the process that enters it, and goes when that ends: so the folder
# may be removed at any time.  It sees ${dir} under the same path.
new_root=$live_cache/chroot

new_room() {
	need debootstrap chroot
	timeout -k 10 900 "$live/newer.sh" "$new_root" >"$dir/newer.out" 2>&1 ||
		fail "newer.sh: $(tail -n 20 "$dir/newer.out")"
}

# in_new_room [--userspec=U:G] COMMAND...: that command is the process which was
# started, so that its id is the one to be ended by.
in_new_room() {
	local -a user=()

	case $1 in
	--userspec=*)
		user=("$1")
		shift
		;;
	esac
	exec unshare -m --propagation private "$live/newer.sh" --enter \
		"$new_root" "$dir" "$live_cache/guest" -- "${user[@]}" "$@"
}
