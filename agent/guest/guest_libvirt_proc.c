/* SPDX-License-Identifier: Apache-2.0 */
/* What libvirt does not tell of the processes that it started. */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/guest/guest_libvirt.h"
#include "proto/base/io.h"

enum { CMDLINE_MAX = 256 << 10, PROCESSES_MAX = 1 << 20 };

/* Quietly: processes come and go.  Ends with a NUL. */
static bool
read_cmdline(const char *path, struct buf *text)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	text->len = 0;
	if (fd == -1)
		return false;
	n = pread_full(fd, buf_extend(text, CMDLINE_MAX), CMDLINE_MAX, 0);
	close(fd);
	text->len = n > 0 ? (size_t)n : 0;
	buf_u8(text, 0);
	return n > 0;
}

/* ${text}: arguments, each with its NUL; after ${at}, or NULL. */
static const char *
next_arg(const struct buf *text, const char *at)
{
	const char *end = (const char *)text->data + text->len;

	at += strlen(at) + 1;
	return at < end ? at : NULL;
}

static bool
is_qemu_of(const struct buf *text, const char *uuid)
{
	const char *at = (const char *)text->data, *was = "";

	for (; at != NULL; was = at, at = next_arg(text, at))
		if (strcmp(was, "-uuid") == 0 && strcmp(at, uuid) == 0)
			return true;
	return false;
}

/*
 * The folder of the file ${name} that an argument names: ="PATH" or =PATH.
 * The caller's.
 */
static char *
folder_of(const struct buf *text, const char *name)
{
	const char *at = (const char *)text->data, *end, *begin;

	for (; at != NULL; at = next_arg(text, at)) {
		end = strstr(at, name);
		if (end == NULL)
			continue;
		for (begin = end;
		     begin > at && begin[-1] != '"' && begin[-1] != '=';)
			begin--;
		if (*begin == '/' && end > begin)
			return xasprintf("%.*s", (int)(end - begin), begin);
	}
	return NULL;
}

/*
 * The first process that ${match} accepts: its number, its arguments in
 * ${text}; or 0.
 */
static int
find_process(bool (*match)(const struct buf *, const char *), const char *arg,
    struct buf *text)
{
	DIR *d = opendir("/proc");
	struct dirent *entry;
	char path[300];
	int pid = 0;

	if (d == NULL)
		return 0;
	for (unsigned n = 0; n < PROCESSES_MAX; n++) {
		entry = readdir(d);
		if (entry == NULL)
			break;
		pid = (int)strtol(entry->d_name, NULL, 10);
		if (pid <= 0)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
		if (read_cmdline(path, text) && match(text, arg))
			break;
		pid = 0;
	}
	closedir(d);
	return pid > 0 ? pid : 0;
}

int
lv_find_qemu(struct lv *lv)
{
	struct buf text = { 0 };
	struct stat st;
	char path[40];
	int pid;

	lv->uid = geteuid();
	lv->gid = getegid();
	free(lv->run_dir);
	lv->run_dir = NULL;
	pid = find_process(is_qemu_of, lv->uuid, &text);
	if (pid != 0) {
		snprintf(path, sizeof(path), "/proc/%d", pid);
		if (stat(path, &st) == 0) {
			lv->uid = st.st_uid;
			lv->gid = st.st_gid;
		}
		/* Made for this QEMU, in its labels and profiles too. */
		lv->run_dir = folder_of(&text, "/master-key.aes");
		if (lv->run_dir != NULL &&
		    access(lv->run_dir, R_OK | W_OK | X_OK) == -1) {
			free(lv->run_dir);
			lv->run_dir = NULL;
		}
	}
	buf_fini(&text);
	return pid;
}

static bool
is_tpm_of(const struct buf *text, const char *uuid)
{
	const char *at = (const char *)text->data;
	bool tpm = false, of = false;

	for (; at != NULL; at = next_arg(text, at)) {
		tpm = tpm || strstr(at, "swtpm") != NULL;
		of = of ||
		    (strncmp(at, "dir=", 4) == 0 && strstr(at, uuid) != NULL);
	}
	return tpm && of;
}

static char *
tpm_of_process(const char *uuid)
{
	struct buf text = { 0 };
	const char *at;
	char *dir = NULL;

	if (find_process(is_tpm_of, uuid, &text) != 0)
		for (at = (const char *)text.data; at != NULL && dir == NULL;
		     at = next_arg(&text, at))
			if (strncmp(at, "dir=", 4) == 0 &&
			    strstr(at, uuid) != NULL)
				dir = xasprintf(
				    "%.*s", (int)strcspn(at + 4, ","), at + 4);
	buf_fini(&text);
	return dir;
}

char *
lv_find_tpm(const char *uuid, const char *version)
{
	const char *home = getenv("HOME"), *config = getenv("XDG_CONFIG_HOME");
	const char *kind = strcmp(version, "1.2") == 0 ? "tpm1.2" : "tpm2";
	char *dir = tpm_of_process(uuid);
	struct stat st;

	if (dir != NULL)
		return dir;
	dir = xasprintf("/var/lib/libvirt/swtpm/%s/%s", uuid, kind);
	if (stat(dir, &st) == 0)
		return dir;
	free(dir);
	if (config != NULL)
		dir = xasprintf(
		    "%s/libvirt/qemu/swtpm/%s/%s", config, uuid, kind);
	else
		dir = xasprintf("%s/.config/libvirt/qemu/swtpm/%s/%s",
		    home == NULL ? "" : home, uuid, kind);
	if (stat(dir, &st) == 0)
		return dir;
	free(dir);
	return NULL;
}
