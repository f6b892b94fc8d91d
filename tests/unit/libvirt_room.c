/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/libvirt_room.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"

enum { NOBODY = 65534, START_MS = 60000 };

static void
give_up(const char *what)
{
	virErrorPtr e = virGetLastError();

	fprintf(stderr, "libvirt_room: %s: %s; errno: %s\n", what,
	    e == NULL ? "" : e->message, strerror(errno));
	exit(1);
}

static void
ours(const char *path)
{
	if (geteuid() == 0 && chown(path, NOBODY, NOBODY) == -1)
		give_up(path);
}

static void
make_dir(const struct room *r, const char *name)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", r->dir, name);
	if (mkdir(path, 0755) == -1)
		give_up(path);
	ours(path);
}

static void
put(const struct room *r, const char *name, const char *text)
{
	char path[200];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", r->dir, name);
	f = fopen(path, "we");
	if (f == NULL || fputs(text, f) == EOF || fclose(f) != 0)
		give_up(path);
	ours(path);
}

static void
run(char *const argv[])
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		execvp(argv[0], argv);
		_exit(127);
	}
	if (pid == -1 || waitpid(pid, &status, 0) != pid || status != 0)
		give_up(argv[0]);
}

static void
variable(const char *name, const char *dir, const char *sub)
{
	char *path = xasprintf("%s/%s", dir, sub);

	setenv(name, path, 1);
	free(path);
}

void
room_daemon_start(struct room *r)
{
	uint64_t end = now_ms() + START_MS;
	int log;

	r->daemon = fork();
	if (r->daemon == -1)
		give_up("fork");
	if (r->daemon == 0) {
		if (geteuid() == 0 &&
		    (setgroups(0, NULL) == -1 ||
			setresgid(NOBODY, NOBODY, NOBODY) == -1 ||
			setresuid(NOBODY, NOBODY, NOBODY) == -1))
			_exit(126);
		variable("HOME", r->dir, "home");
		variable("XDG_RUNTIME_DIR", r->dir, "run");
		variable("XDG_CONFIG_HOME", r->dir, "config");
		variable("XDG_CACHE_HOME", r->dir, "cache");
		variable("XDG_DATA_HOME", r->dir, "home");
		log = open("/dev/null", O_RDWR);
		dup2(log, 0);
		dup2(log, 1);
		dup2(log, 2);
		execl("/usr/sbin/libvirtd", "libvirtd", (char *)NULL);
		_exit(127);
	}
	while ((r->conn = virConnectOpen(r->uri)) == NULL) {
		if (now_ms() > end || waitpid(r->daemon, NULL, WNOHANG) != 0)
			give_up("libvirtd does not start");
		poll(NULL, 0, 20);
	}
}

void
room_daemon_stop(struct room *r)
{
	if (r->dom != NULL)
		virDomainFree(r->dom);
	r->dom = NULL;
	virConnectClose(r->conn);
	r->conn = NULL;
	kill(r->daemon, SIGTERM);
	waitpid(r->daemon, NULL, 0);
}

static void
image(const struct room *r, const char *name, const char *format, unsigned size)
{
	char path[200], bytes[20];

	snprintf(path, sizeof(path), "%s/%s", r->dir, name);
	snprintf(bytes, sizeof(bytes), "%u", size);
	run((char *[]){ "qemu-img", "create", "-q", "-f", (char *)format, path,
	    bytes, NULL });
	ours(path);
}

void
room_images(struct room *r)
{
	image(r, "vda.qcow2", "qcow2", ROOM_VDA);
	image(r, "vdb.raw", "raw", ROOM_VDB);
	image(r, "seed.iso", "raw", 1 << 20);
}

void
room_define(struct room *r)
{
	char *xml = xasprintf(
	    "<domain type='qemu'><name>d</name>%s%s%s"
	    "<memory unit='MiB'>64</memory><vcpu>1</vcpu><os>"
	    "<type arch='x86_64' machine='q35'>hvm</type></os><devices>"
	    "<emulator>/usr/bin/qemu-system-x86_64</emulator>"
	    "<disk type='file' device='disk'>"
	    "<driver name='qemu' type='qcow2'/><source file='%s/vda.qcow2'/>"
	    "<target dev='vda' bus='virtio'/></disk>"
	    "<disk type='file' device='disk'>"
	    "<driver name='qemu' type='raw'/><source file='%s/vdb.raw'/>"
	    "<target dev='vdb' bus='virtio'/></disk>"
	    "<disk type='file' device='cdrom'>"
	    "<driver name='qemu' type='raw'/><source file='%s/seed.iso'/>"
	    "<target dev='sda' bus='sata'/><readonly/></disk>"
	    "<disk type='file' device='cdrom'>"
	    "<target dev='sdb' bus='sata'/><readonly/></disk>"
	    "<memballoon model='none'/>"
	    "<controller type='usb' model='none'/></devices></domain>",
	    r->uuid[0] == 0 ? "" : "<uuid>", r->uuid,
	    r->uuid[0] == 0 ? "" : "</uuid>", r->dir, r->dir, r->dir);

	r->dom = virDomainDefineXML(r->conn, xml);
	if (r->dom == NULL || virDomainGetUUIDString(r->dom, r->uuid) == -1)
		give_up("define");
	free(xml);
}

void
room_undefine(struct room *r)
{
	if (virDomainUndefineFlags(
		r->dom, VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA) == -1)
		give_up("undefine");
	virDomainFree(r->dom);
	r->dom = NULL;
}

/* That it does not answer yet is no news. */
static void
silent(void *arg, virErrorPtr error)
{
	(void)arg;
	(void)error;
}

struct room *
room_open(void)
{
	struct room *r = xcalloc(1, sizeof(*r));

	virSetErrorFunc(NULL, silent);
	snprintf(r->dir, sizeof(r->dir), "/tmp/backstay-lv.XXXXXX");
	if (mkdtemp(r->dir) == NULL || chmod(r->dir, 0755) == -1)
		give_up(r->dir);
	ours(r->dir);
	make_dir(r, "home");
	make_dir(r, "run");
	make_dir(r, "config");
	make_dir(r, "config/libvirt");
	make_dir(r, "cache");
	snprintf(r->scratch, sizeof(r->scratch), "%s/scratch", r->dir);
	/* Root's own, as on a host. */
	if (mkdir(r->scratch, 0755) == -1)
		give_up(r->scratch);
	put(r, "config/libvirt/qemu.conf",
	    "stdio_handler = \"file\"\nsecurity_driver = \"none\"\n");
	put(r, "config/libvirt/libvirtd.conf", "log_level = 4\n");
	room_images(r);
	snprintf(r->uri, sizeof(r->uri),
	    "qemu+unix:///session?socket=%s/run/libvirt/libvirt-sock", r->dir);
	setenv("LIBVIRT_AUTOSTART", "0", 1);
	room_daemon_start(r);
	room_define(r);
	return r;
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

void
room_close(struct room *r)
{
	if (virDomainIsActive(r->dom) == 1)
		room_power_off(r);
	room_daemon_stop(r);
	nftw(r->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(r);
}

void
room_start(struct room *r)
{
	if (virDomainCreate(r->dom) == -1)
		give_up("start");
}

void
room_power_off(struct room *r)
{
	if (virDomainDestroyFlags(r->dom, VIR_DOMAIN_DESTROY_GRACEFUL) == -1)
		give_up("power off");
}

pid_t
room_qemu(const struct room *r)
{
	char path[200], text[20] = "";
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/run/libvirt/qemu/run/d.pid", r->dir);
	fd = open(path, O_RDONLY);
	n = fd == -1 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		give_up(path);
	close(fd);
	return (pid_t)strtol(text, NULL, 10);
}

void
room_kill(struct room *r)
{
	uint64_t end = now_ms() + START_MS;

	kill(room_qemu(r), SIGKILL);
	while (virDomainIsActive(r->dom) == 1) {
		if (now_ms() > end)
			give_up("a killed QEMU is still there");
		poll(NULL, 0, 10);
	}
}

char *
room_monitor(struct room *r, const char *text)
{
	char *result = NULL;

	if (virDomainQemuMonitorCommand(r->dom, text, &result, 0) == -1)
		give_up(text);
	return result;
}

void
room_write(
    struct room *r, const char *disk, int byte, unsigned off, unsigned len)
{
	const char *device =
	    strcmp(disk, "vda") == 0 ? "virtio-disk0" : "virtio-disk1";
	char *text =
	    xasprintf("{\"execute\":\"human-monitor-command\",\"arguments\":"
		      "{\"command-line\":\"qemu-io -d /machine/peripheral/%s/"
		      "virtio-backend \\\"write -P %d %u %u\\\"\"}}",
		device, byte, off, len);
	char *result = room_monitor(r, text);

	if (strstr(result, "{\"return\":\"\"") == NULL)
		give_up(result);
	free(result);
	free(text);
}

char *
room_checkpoints(struct room *r, char *out, size_t len)
{
	virDomainCheckpointPtr *list;
	int n = virDomainListAllCheckpoints(
	    r->dom, &list, VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL);
	size_t at = 0;

	if (n == -1)
		give_up("checkpoints");
	out[0] = 0;
	for (int i = 0; i < n; i++) {
		at += (size_t)snprintf(out + at, len - at, "%s%s",
		    i == 0 ? "" : " ", virDomainCheckpointGetName(list[i]));
		virDomainCheckpointFree(list[i]);
	}
	free(list);
	return out;
}

bool
room_job(struct room *r)
{
	char *xml = virDomainBackupGetXMLDesc(r->dom, 0);

	free(xml);
	return xml != NULL;
}

unsigned
room_files(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *entry;
	unsigned n = 0;

	if (d == NULL)
		return 0;
	while ((entry = readdir(d)) != NULL)
		if (entry->d_name[0] != '.')
			n++;
	closedir(d);
	return n;
}
