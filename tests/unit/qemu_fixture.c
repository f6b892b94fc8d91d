/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/qemu_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"

enum { START_MS = 30000, FIXTURE_MS = 30000 };

static void
image(struct qemu *q, const char *format, const char *name, unsigned size)
{
	char command[256];

	snprintf(command, sizeof(command), "qemu-img create -q -f %s %s/%s %u",
	    format, q->dir, name, size);
	assert_int_equal(system(command), 0);
}

void
qemu_folder(struct qemu *q)
{
	q->pid = 0;
	q->test = NULL;
	q->iothread = false;
	snprintf(q->dir, sizeof(q->dir), "/tmp/backstay-qemu-XXXXXX");
	assert_non_null(mkdtemp(q->dir));
	image(q, "qcow2", "vda.qcow2", QEMU_VDA);
	image(q, "raw", "dc.raw", QEMU_DC);
	image(q, "raw", "cd.iso", 1 << 20);
	image(q, "raw", "spare.raw", 1 << 20);
	image(q, "raw", "nvram.raw", 1 << 16);
	image(q, "qcow2", "ro.qcow2", 1 << 20);
}

void
qemu_folder_remove(struct qemu *q)
{
	char command[96];

	if (q->pid != 0)
		qemu_kill(q);
	snprintf(command, sizeof(command), "rm -rf %s", q->dir);
	assert_int_equal(system(command), 0);
}

static void
become_qemu(struct qemu *q, bool running)
{
	const char *const args[] = { "qemu-system-x86_64", "-machine",
		"pc,accel=tcg", "-m", "32", "-display", "none", "-nodefaults",
		"-qmp", "unix:qmp.sock,server=on,wait=off", "-qmp",
		"unix:test.sock,server=on,wait=off", "-blockdev",
		"driver=file,filename=vda.qcow2,node-name=vda-file",
		"-blockdev", "driver=qcow2,file=vda-file,node-name=disk",
		"-object", "iothread,id=io0", "-device",
		q->iothread ? "virtio-blk-pci,drive=disk,id=vda,iothread=io0"
			    : "virtio-blk-pci,drive=disk,id=vda",
		"-drive", "file=dc.raw,format=raw,if=none,id=dc", "-device",
		"virtio-blk-pci,drive=dc", "-drive",
		"file=ro.qcow2,format=qcow2,if=none,id=ro-image,readonly=on",
		"-device", "virtio-blk-pci,drive=ro-image,id=ro", "-drive",
		"file=cd.iso,format=raw,if=ide,index=2,media=cdrom",
		"-blockdev", "driver=file,filename=spare.raw,node-name=spare",
		"-drive",
		"if=pflash,unit=0,format=raw,readonly=on,"
		"file=/usr/share/seabios/bios-256k.bin",
		"-drive", "if=pflash,unit=1,format=raw,file=nvram.raw",
		running ? NULL : "-S", NULL };
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (chdir(q->dir) == -1)
		_exit(127);
	fd = open("output", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	execvp(args[0], (char *const *)args);
	_exit(127);
}

void
qemu_start(struct qemu *q, bool running)
{
	uint64_t end = now_ms() + START_MS;
	char path[96], command[128];
	int rc;

	snprintf(q->qmp, sizeof(q->qmp), "%s/qmp.sock", q->dir);
	snprintf(path, sizeof(path), "%s/test.sock", q->dir);
	unlink(path);
	unlink(q->qmp);
	q->pid = fork();
	assert_int_not_equal(q->pid, -1);
	if (q->pid == 0)
		become_qemu(q, running);
	while ((rc = qmp_open(path, START_MS, &q->test, NULL)) != 0) {
		if (now_ms() > end || waitpid(q->pid, NULL, WNOHANG) != 0) {
			snprintf(command, sizeof(command), "cat %s/output >&2",
			    q->dir);
			fail_msg("QEMU does not start (%d, %d)", rc,
			    system(command));
		}
		poll(NULL, 0, 20);
	}
}

void
qemu_kill(struct qemu *q)
{
	qmp_close(q->test);
	q->test = NULL;
	kill(q->pid, SIGKILL);
	waitpid(q->pid, NULL, 0);
	q->pid = 0;
}

void
qemu_end(struct qemu *q)
{
	json_decref(qemu_ask(q, "quit", NULL));
	qmp_close(q->test);
	q->test = NULL;
	waitpid(q->pid, NULL, 0);
	q->pid = 0;
}

json_t *
qemu_ask(struct qemu *q, const char *command, json_t *args)
{
	struct err e = { 0 };
	json_t *j = NULL;
	int rc;

	rc = qmp_command(q->test, command, args, -1, FIXTURE_MS, &j, &e);
	if (rc != 0)
		fail_msg("%s: %s", command, e.text);
	return j;
}

void
qemu_write(
    struct qemu *q, const char *disk, int byte, unsigned off, unsigned len)
{
	struct buf out = { 0 };
	char line[200], path[96];
	json_t *j;

	/* What such a write says goes to QEMU's output. */
	snprintf(path, sizeof(path), "%s/output", q->dir);
	assert_int_equal(truncate(path, 0), 0);
	snprintf(line, sizeof(line), "qemu-io -d %s \"write -P %d %u %u\"",
	    disk, byte, off, len);
	j = qemu_ask(q, "human-monitor-command",
	    json_pack("{s:s}", "command-line", line));
	assert_string_equal(json_string_value(j), "");
	json_decref(j);
	assert_int_equal(file_read(AT_FDCWD, path, 1 << 16, &out), 0);
	snprintf(line, sizeof(line), "wrote %u/%u bytes", len, len);
	if (strstr(buf_cstr(&out), line) == NULL)
		fail_msg("the guest's write failed: %s", buf_cstr(&out));
	buf_fini(&out);
}

const char *
qemu_status(struct qemu *q, char *out, size_t len)
{
	json_t *j = qemu_ask(q, "query-status", NULL);

	snprintf(
	    out, len, "%s", json_string_value(json_object_get(j, "status")));
	json_decref(j);
	return out;
}

static const char *
text_of(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s == NULL ? "" : s;
}

static int
compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char *
qemu_bitmaps(struct qemu *q, const char *node, char *out, size_t len)
{
	const char *names[32];
	json_t *nodes = qemu_ask(
	    q, "query-named-block-nodes", json_pack("{s:b}", "flat", 1));
	const json_t *n, *b;
	size_t i, k, count = 0;
	struct buf text = { 0 };

	json_array_foreach(nodes, i, n)
	{
		if (strcmp(text_of(n, "node-name"), node) != 0)
			continue;
		json_array_foreach(json_object_get(n, "dirty-bitmaps"), k, b)
		{
			/* Jobs have some without a name. */
			if (text_of(b, "name")[0] == 0)
				continue;
			assert_in_range(count, 0, 31);
			names[count++] = text_of(b, "name");
		}
	}
	qsort(names, count, sizeof(names[0]), compare);
	for (i = 0; i < count; i++)
		buf_printf(&text, "%s%s", i == 0 ? "" : " ", names[i]);
	snprintf(out, len, "%s", buf_cstr(&text));
	buf_fini(&text);
	json_decref(nodes);
	return out;
}

static bool
has(struct qemu *q, const char *query, const char *key)
{
	json_t *list = qemu_ask(q, query,
	    strcmp(query, "query-named-block-nodes") == 0
		? json_pack("{s:b}", "flat", 1)
		: NULL);
	bool found = false;
	const json_t *j;
	size_t i;

	json_array_foreach(list, i, j)
	{
		if (strncmp(text_of(j, key), "backstay-", 9) == 0)
			found = true;
	}
	json_decref(list);
	return found;
}

bool
qemu_is_clean(struct qemu *q)
{
	char names[512];
	json_t *addr;

	if (has(q, "query-block-exports", "id") ||
	    has(q, "query-block-jobs", "device") ||
	    has(q, "query-named-block-nodes", "node-name"))
		return false;
	qemu_bitmaps(q, "disk", names, sizeof(names));
	if (strstr(names, "backstay-view") != NULL)
		return false;
	/* It can be started: so it did not run. */
	addr = json_pack("{s:{s:s,s:{s:s}}}", "addr", "type", "unix", "data",
	    "path", "other.sock");
	if (qmp_command(q->test, "nbd-server-start", addr, -1, FIXTURE_MS, NULL,
		NULL) != 0)
		return false;
	json_decref(qemu_ask(q, "nbd-server-stop", NULL));
	return true;
}
