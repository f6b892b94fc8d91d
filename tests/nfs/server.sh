#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A real NFSv3 server (nfs-ganesha) on the loopback, as an ordinary process.
#
#   tests/nfs/server.sh start DIR PORT    exports DIR/export as /export
#   tests/nfs/server.sh stop DIR          SIG=KILL: as a crash
#
# It remembers what it knows of files for ATTRS seconds (60); where others
# change them behind its back, say 0.
#
# As root.  mountd is at PORT + 1.  BIND=ADDR, CLIENTS=ADDR: in a network
# namespace.  What start prints is the URL of the export.  The port mapper that
# the server needs to start is started if there is none, and left running for
# other servers; it ends with `server.sh mapper stop`.
set -euo pipefail

cmd=${1:?usage: server.sh start DIR PORT, or stop DIR}
dir=${2:?usage: server.sh start DIR PORT, or stop DIR}
bind=${BIND:-127.0.0.1}

# The server wants to register with a port mapper, though clients here never
# ask it.  Debian 12's aborts when told of 127.0.0.1, which it adds by itself.
mapper() {
	local i

	[ -n "$(rpcinfo -p 127.0.0.1 2>/dev/null)" ] && return
	mkdir -p /run/rpcbind
	setsid rpcbind -f -h 127.0.0.2 >/dev/null 2>&1 </dev/null &
	echo $! >"$dir/rpcbind.pid"
	for ((i = 0; i < 250; i++)); do
		rpcinfo -p 127.0.0.1 >/dev/null 2>&1 && return
		sleep 0.02
	done
	echo "rpcbind has not started; apt-get install rpcbind" >&2
	return 1
}

# serve PORT: it answers there; 1: it has ended.
serve() {
	local i pid

	: >"$dir/ganesha.log"
	setsid ganesha.nfsd -F -f "$dir/ganesha.conf" -L "$dir/ganesha.log" \
		-p "$dir/ganesha.own" >"$dir/ganesha.out" 2>&1 </dev/null &
	pid=$!
	echo $pid >"$dir/ganesha.pid"
	for ((i = 0; i < 400; i++)); do
		kill -0 $pid 2>/dev/null || return 1
		# It listens before it registers, and may end by that.
		grep -q 'NFS SERVER INITIALIZED' "$dir/ganesha.log" &&
			(exec 3<>"/dev/tcp/$bind/$1") 2>/dev/null && return
		sleep 0.05
	done
	kill -KILL $pid 2>/dev/null
	return 1
}

start() {
	local port=$1 try

	mkdir -p "$dir/export" "$dir/recovery"
	dir=$(cd "$dir" && pwd)
	cat >"$dir/ganesha.conf" <<-END
		NFS_CORE_PARAM {
			Bind_addr = $bind; NFS_Port = $port; MNT_Port = $((port + 1));
			NLM_Port = $((port + 2)); Rquota_Port = $((port + 3));
			Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false;
			Protocols = 3; fsid_device = true; mount_path_pseudo = true;
		}
		NFSv4 { RecoveryBackend = fs; RecoveryRoot = "$dir/recovery"; Graceless = true; }
		EXPORT_DEFAULTS { Access_Type = RW; Squash = ${SQUASH:-No_Root_Squash};
			SecType = sys; Transports = TCP; Protocols = 3; }
		EXPORT {
			Export_Id = 1; Path = "$dir/export"; Pseudo = /export; Tag = export;
			MaxRead = 1048576; MaxWrite = 1048576;
			PrefRead = 1048576; PrefWrite = 1048576;
			CLIENT { Clients = ${CLIENTS:-$bind}; PrivilegedPort = false; }
			Attr_Expiration_Time = ${ATTRS:-60};
			FSAL { Name = VFS; }
		}
		LOG { Default_Log_Level = EVENT; }
	END
	# The port mapper may be another server's, and end with it meanwhile.
	for try in 1 2 3; do
		mapper || return 1
		serve "$port" && break
		tail -q -n 5 "$dir/ganesha.log" "$dir/ganesha.out" >&2
		echo "nfs-ganesha has not started, try $try" >&2
		[ $try != 3 ] || return 1
	done
	echo "nfs://$bind/export?nfsport=$port&mountport=$((port + 1))"
}

# Waits for its end.
stop_pid() {
	local pid i

	[ -s "$1" ] || return 0
	pid=$(cat "$1")
	rm -f "$1"
	kill -"${SIG:-TERM}" "$pid" 2>/dev/null || return 0
	for ((i = 0; i < 200; i++)); do
		kill -0 "$pid" 2>/dev/null || return 0
		sleep 0.05
	done
	kill -KILL "$pid" 2>/dev/null || :
}

case $cmd in
start) start "${3:?start needs a port}" ;;
stop) stop_pid "$dir/ganesha.pid" ;;
end)
	stop_pid "$dir/ganesha.pid"
	stop_pid "$dir/rpcbind.pid"
	;;
*)
	echo "server.sh: start, stop or end" >&2
	exit 2
	;;
esac
