/* SPDX-License-Identifier: Apache-2.0 */
/* What belongs to a QEMU beside its disks, as its process tells. */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/guest/guest_qmp.h"
#include "proto/base/io.h"

enum { CMDLINE_MAX = 1 << 20, PROCESSES_MAX = 1 << 16 };

/* As a list of zero-ended words; closed by one more zero. */
static int
cmdline(int pid, struct buf *out)
{
	char name[64];
	int rc;

	snprintf(name, sizeof(name), "/proc/%d/cmdline", pid);
	rc = file_read(AT_FDCWD, name, CMDLINE_MAX, out);
	if (rc == 0)
		buf_add(out, "\0", 2);
	return rc;
}

static json_t *
words(const struct buf *b)
{
	const char *s = (const char *)b->data;
	json_t *j = json_array();
	size_t at = 0;

	while (at + 2 < b->len) {
		/* NULL if it is not UTF-8: then it cannot be told in JSON. */
		if (json_array_append_new(j, json_string(s + at)) == -1) {
			json_decref(j);
			return NULL;
		}
		at += strlen(s + at) + 1;
	}
	return j;
}

static const char *
word(const json_t *args, size_t i)
{
	const char *s = json_string_value(json_array_get(args, i));

	return s == NULL ? "" : s;
}

/* Who made the monitor's socket may have been another than QEMU. */
static bool
is_qemu(const json_t *args)
{
	for (size_t i = 1; i < json_array_size(args); i++)
		if (strncmp(word(args, i), "-qmp", 4) == 0 ||
		    strncmp(word(args, i), "--qmp", 5) == 0 ||
		    strcmp(word(args, i), "-mon") == 0)
			return true;
	return false;
}

/* "key=value" of "a,key=value,b" into ${out}. */
static bool
option(const char *s, const char *key, char *out, size_t len)
{
	size_t n = strlen(key);

	for (; s != NULL; s = strchr(s, ',')) {
		s += *s == ',';
		if (strncmp(s, key, n) == 0 && s[n] == '=') {
			s += n + 1;
			snprintf(out, len, "%.*s", (int)strcspn(s, ","), s);
			return true;
		}
	}
	return false;
}

/* The socket of the emulator of a TPM: -tpmdev emulator,chardev=X with
 * -chardev socket,id=X,path=PATH. */
static bool
tpm_socket(const json_t *args, char *out, size_t len)
{
	char chardev[128], id[128];

	for (size_t i = 0; i + 1 < json_array_size(args); i++) {
		if (strcmp(word(args, i), "-tpmdev") != 0 ||
		    !option(
			word(args, i + 1), "chardev", chardev, sizeof(chardev)))
			continue;
		for (size_t k = 0; k + 1 < json_array_size(args); k++)
			if (strcmp(word(args, k), "-chardev") == 0 &&
			    option(word(args, k + 1), "id", id, sizeof(id)) &&
			    strcmp(id, chardev) == 0 &&
			    option(word(args, k + 1), "path", out, len))
				return true;
	}
	return false;
}

/* swtpm socket --ctrl type=unixio,path=SOCKET --tpmstate dir=DIR */
static bool
state_of_tpm(int pid, const char *sock, char *out, size_t len)
{
	struct buf b = { 0 };
	bool ours = false, found = false;
	char value[512];
	json_t *args = NULL;

	if (cmdline(pid, &b) == 0 && b.len > 2 &&
	    strstr((const char *)b.data, "swtpm") != NULL)
		args = words(&b);
	for (size_t i = 1; args != NULL && i < json_array_size(args); i++) {
		const char *s =
		    strchr(word(args, i), '=') == NULL ? "" : word(args, i);

		if (option(s, "path", value, sizeof(value)) &&
		    strcmp(value, sock) == 0)
			ours = true;
		if (option(s, "dir", out, len) && out[0] == '/')
			found = true;
	}
	json_decref(args);
	buf_fini(&b);
	return ours && found;
}

static void
find_tpm(struct guest *g, const json_t *args)
{
	char sock[512], dir[512];
	struct dirent *d;
	bool found = false;
	DIR *proc;

	if (!tpm_socket(args, sock, sizeof(sock)))
		return;
	proc = opendir("/proc");
	if (proc == NULL)
		return;
	for (unsigned n = 0; n < PROCESSES_MAX && (d = readdir(proc)) != NULL;
	     n++) {
		int pid = (int)strtol(d->d_name, NULL, 10);

		if (pid <= 0 || !state_of_tpm(pid, sock, dir, sizeof(dir)))
			continue;
		guest_add_tpm(g, dir, "tpm");
		found = true;
		break;
	}
	closedir(proc);
	if (!found)
		guest_add_note(g,
		    "its TPM's state is not in the backup: no swtpm process "
		    "tells where it is");
}

void
guest_qmp_files(struct guest *g)
{
	struct qmp_guest *p = g->impl;
	static const char not_told[] =
	    "QEMU's command line cannot be told, so there is no definition in "
	    "the backup, and no state of a TPM";
	struct buf b = { 0 };
	json_t *args = NULL;

	if (qmp_pid(p->q) > 0 && cmdline(qmp_pid(p->q), &b) == 0)
		args = words(&b);
	buf_fini(&b);
	if (args == NULL) {
		guest_add_note(g, "%s", not_told);
		return;
	}
	if (is_qemu(args)) {
		g->pid = qmp_pid(p->q);
		g->definition = json_dumps(args, JSON_COMPACT);
		g->definition_format = "qemu-args";
		find_tpm(g, args);
	} else {
		guest_add_note(g, "%s", not_told);
	}
	json_decref(args);
}
