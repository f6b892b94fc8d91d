/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/guest/mark.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"

enum {
	/* Always written whole, in one call: no reader finds half of it. */
	MARK_LEN = 64 << 10,
	MARK_PATH_MAX = 512
};

struct mark {
	int fd;
	char dir[PATH_MAX - 100];
	char path[PATH_MAX];
	/* Pids of the QEMUs to which it applies; 0: to none; -1: not known */
	int frozen, stopped, server;
	unsigned nfiles;
	char *file[MARK_FILES_MAX];
};

/* A folder that is ours alone: others must not put files there. */
static int
private_dir(const char *path)
{
	struct stat st;

	if (mkdir(path, 0700) == -1 && errno != EEXIST)
		return -1;
	if (lstat(path, &st) == -1)
		return -1;
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() ||
	    (st.st_mode & 077) != 0) {
		errno = EPERM;
		return -1;
	}
	return 0;
}

static int
choose_dir(char *out, size_t len, struct err *e)
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");

	snprintf(out, len, "/run/backstay-agent");
	if (private_dir(out) == 0)
		return 0;
	if (xdg != NULL && xdg[0] == '/' && strlen(xdg) < len - 32) {
		snprintf(out, len, "%s/backstay-agent", xdg);
		if (private_dir(out) == 0)
			return 0;
	}
	snprintf(out, len, "/tmp/backstay-agent-%u", geteuid());
	if (private_dir(out) == 0)
		return 0;
	return err_set(e, log_sys("%s: not a private folder", out),
	    "there is no private folder for the guest's lock (tried /run, "
	    "$XDG_RUNTIME_DIR and %s)",
	    out);
}

static int
store(struct mark *m)
{
	json_t *j = json_object(), *files = json_array();
	struct buf b = { 0 };
	size_t pad;
	int rc = 0;

	json_object_set_new(j, "frozen", json_integer(m->frozen));
	json_object_set_new(j, "stopped", json_integer(m->stopped));
	json_object_set_new(j, "server", json_integer(m->server));
	for (unsigned i = 0; i < m->nfiles; i++)
		json_array_append_new(files, json_string(m->file[i]));
	json_object_set_new(j, "files", files);
	json_print(j, &b);
	json_decref(j);
	if (b.len > MARK_LEN) {
		buf_fini(&b);
		return ERR_LIMIT;
	}
	pad = MARK_LEN - b.len;
	memset(buf_extend(&b, pad), ' ', pad);
	if (pwrite_full(m->fd, b.data, b.len, 0) == -1)
		rc = log_sys("%s: write of a guest's mark", m->dir);
	buf_fini(&b);
	return rc;
}

static int
pid_of(const json_t *j, const char *key)
{
	const json_t *v = json_object_get(j, key);

	return json_is_integer(v) ? (int)json_integer_value(v) : 0;
}

/* A file that is empty or not ours to understand marks nothing. */
static void
load(struct mark *m)
{
	char *text = xmalloc(MARK_LEN);
	ssize_t n = pread_full(m->fd, text, MARK_LEN, 0);
	json_t *j, *files;

	if (n > 0 && json_parse(text, (size_t)n, &j, NULL) == 0) {
		m->frozen = pid_of(j, "frozen");
		m->stopped = pid_of(j, "stopped");
		m->server = pid_of(j, "server");
		files = json_object_get(j, "files");
		for (size_t i = 0;
		     i < json_array_size(files) && m->nfiles < MARK_FILES_MAX;
		     i++) {
			const char *s =
			    json_string_value(json_array_get(files, i));

			if (s != NULL)
				m->file[m->nfiles++] = xstrdup(s);
		}
		json_decref(j);
	}
	free(text);
}

/* A lock file that nobody needs is removed by its holder: what is locked then
 * may have no name any more, and is no lock. */
static int
lock(struct mark *m, struct err *e)
{
	struct stat st;
	int rc;

	for (;;) {
		m->fd = open(
		    m->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (m->fd == -1)
			return err_set(e, log_sys("%s: open", m->path),
			    "cannot open the guest's lock %s", m->path);
		if (flock(m->fd, LOCK_EX | LOCK_NB) == -1)
			break;
		if (fstat(m->fd, &st) == 0 && st.st_nlink != 0)
			return 0;
		close(m->fd);
	}
	rc = errno != EWOULDBLOCK
	    ? err_set(
		  e, log_sys("%s: lock", m->path), "cannot lock %s", m->path)
	    : err_set(e, ERR_BUSY,
		  "another backup of this guest is running on this host, or "
		  "is being cleaned up (%s)",
		  m->path);
	close(m->fd);
	return rc;
}

int
mark_open(const char *ident, struct mark **out, struct err *e)
{
	struct mark *m = xcalloc(1, sizeof(*m));
	int rc;

	rc = choose_dir(m->dir, sizeof(m->dir), e);
	if (rc == 0) {
		snprintf(
		    m->path, sizeof(m->path), "%s/%.64s.lock", m->dir, ident);
		rc = lock(m, e);
	}
	if (rc != 0) {
		free(m);
		return rc;
	}
	load(m);
	*out = m;
	return 0;
}

void
mark_close(struct mark *m)
{
	if (m == NULL)
		return;
	if (m->frozen == 0 && m->stopped == 0 && m->server == 0 &&
	    m->nfiles == 0)
		unlink(m->path);
	close(m->fd);
	for (unsigned i = 0; i < m->nfiles; i++)
		free(m->file[i]);
	free(m);
}

const char *
mark_dir(const struct mark *m)
{
	return m->dir;
}

static int
set(struct mark *m, int *field, int pid, bool on)
{
	*field = !on ? 0 : pid > 0 ? pid : -1;
	return store(m);
}

int
mark_frozen(struct mark *m, int pid, bool frozen)
{
	return set(m, &m->frozen, pid, frozen);
}

int
mark_stopped(struct mark *m, int pid, bool stopped)
{
	return set(m, &m->stopped, pid, stopped);
}

int
mark_server(struct mark *m, int pid, bool running)
{
	return set(m, &m->server, pid, running);
}

int
mark_file(struct mark *m, const char *path)
{
	if (m->nfiles == MARK_FILES_MAX || strlen(path) > MARK_PATH_MAX)
		return ERR_LIMIT;
	m->file[m->nfiles++] = xstrdup(path);
	return store(m);
}

static bool
applies(int field, int pid)
{
	return field != 0 && (field == -1 || pid <= 0 || field == pid);
}

bool
mark_is_frozen(const struct mark *m, int pid)
{
	return applies(m->frozen, pid);
}

bool
mark_is_stopped(const struct mark *m, int pid)
{
	return applies(m->stopped, pid);
}

bool
mark_has_server(const struct mark *m, int pid)
{
	return applies(m->server, pid);
}

unsigned
mark_remove_files(struct mark *m)
{
	unsigned n = 0;

	if (m->nfiles == 0)
		return 0;
	for (unsigned i = 0; i < m->nfiles; i++) {
		if (remove(m->file[i]) == 0)
			n++;
		else if (errno != ENOENT)
			log_sys("%s: remove", m->file[i]);
		free(m->file[i]);
	}
	m->nfiles = 0;
	store(m);
	return n;
}
