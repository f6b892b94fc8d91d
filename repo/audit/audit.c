/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/audit/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "proto/name.h"
#include "repo/audit/audit_impl.h"

enum {
	AHEAD = 1 << 20, /* reserved, so that a full disk takes deletes, too */
	AHEAD_MIN = 256 << 10
};

int
audit_head_read(int dirfd, struct audit_head *out, struct err *e)
{
	uint8_t bytes[AUDIT_HASH_LEN / 2];
	struct buf text = { 0 };
	const char *hash;
	json_t *j = NULL;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = file_read(dirfd, AUDIT_HEAD, AUDIT_HEAD_LEN, &text);
	if (rc == ERR_SYS)
		return err_set(e, rc, AUDIT_HEAD ": cannot be read");
	if (rc == 0 && json_parse(text.data, text.len, &j, NULL) == 0 &&
	    json_get_u64(j, "n", &out->n, NULL) == 0 &&
	    json_get_u64(j, "size", &out->size, NULL) == 0 &&
	    json_get_str(j, "hash", &hash, NULL) == 0 &&
	    unhex(hash, bytes, sizeof(bytes)) == 0) {
		memcpy(out->hash, hash, sizeof(out->hash));
		out->there = true;
	}
	json_decref(j);
	buf_fini(&text);
	return 0;
}

int
audit_last(int dirfd, uint64_t *number, struct err *e)
{
	struct audit_head h;
	int rc = audit_head_read(dirfd, &h, e);

	if (rc == 0)
		*number = h.there ? h.n : 0;
	return rc;
}

static int
failed(struct err *e, const char *what)
{
	int code = errno == ENOSPC || errno == EDQUOT ? ERR_NOSPC : ERR_SYS;

	err_set(e, code, "%s: cannot be written: %s", what, strerror(errno));
	if (code == ERR_SYS)
		log_sys("%s: write", what);
	return code;
}

/* In place, and shorter than a sector: it needs no space when there is none. */
int
audit_head_write(int dirfd, const struct audit_head *h, struct err *e)
{
	char text[AUDIT_HEAD_LEN + 1];
	int fd, n, rc = 0;

	n = snprintf(text, sizeof(text),
	    "{\"hash\":\"%s\",\"n\":%" PRIu64 ",\"size\":%" PRIu64 "}", h->hash,
	    h->n, h->size);
	memset(text + n, ' ', sizeof(text) - (size_t)n);
	text[AUDIT_HEAD_LEN - 1] = '\n';
	fd = openat(dirfd, AUDIT_HEAD, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd == -1)
		return failed(e, AUDIT_HEAD);
	if (pwrite_full(fd, text, AUDIT_HEAD_LEN, 0) == -1 ||
	    fdatasync(fd) == -1)
		rc = failed(e, AUDIT_HEAD);
	close(fd);
	return rc;
}

/* The log while it is this call's alone. */
struct log {
	int dirfd;
	int fd;
	uint64_t size;
	struct audit_head head; /* what the next line follows */
	struct buf add;         /* what is to be written */
};

static void
add_line(struct log *l, const struct audit_entry *a)
{
	char when[TIME_TEXT_LEN + 1];
	json_t *j = json_object();
	struct buf text = { 0 };

	json_set_u64(j, "n", l->head.n + 1);
	json_set_str(j, "time", time_print((uint64_t)time(NULL), when));
	json_set_str(j, "who", a->who);
	if (a->from != NULL)
		json_set_str(j, "from", a->from);
	json_set_str(j, "op", a->op);
	if (a->what != NULL)
		json_object_set(j, "what", a->what);
	if (a->outcome != NULL)
		json_set_str(j, "outcome", a->outcome);
	if (a->of != 0)
		json_set_u64(j, "of", a->of);
	json_print(j, &text);
	json_decref(j);
	audit_hash(
	    l->head.hash, (const char *)text.data, text.len, l->head.hash);
	buf_add(&l->add, text.data, text.len - 1);
	buf_printf(&l->add, ",\"hash\":\"%s\"}\n", l->head.hash);
	l->head.n++;
	buf_fini(&text);
}

static void
note(struct log *l, const char *op, json_t *what)
{
	struct audit_entry a = {
		.who = "audit", .op = op, .what = what, .outcome = "noted"
	};

	add_line(l, &a);
	json_decref(what);
}

static json_t *
head_to_json(uint64_t n, const char *hash, uint64_t size)
{
	json_t *o = json_object();

	json_set_u64(o, "n", n);
	json_set_str(o, "hash", hash);
	json_set_u64(o, "size", size);
	return o;
}

/*
 * The log is not what its head says: a crash came between the two, or somebody
 * changed it.  The chain goes on from what is there, and says so.
 */
static int
recover(struct log *l, struct err *e)
{
	struct audit_scan s = {
		.file = AUDIT_FILE, .newest = true, .head = l->head
	};
	int rc;

	rc = audit_files_end(l->dirfd, &s.r.last, s.r.hash, e);
	if (rc != 0)
		return rc;
	rc = audit_scan(l->fd, l->size, &s, e);
	if (rc != 0)
		return rc;
	l->head.n = s.r.last;
	memcpy(l->head.hash, s.r.hash, sizeof(l->head.hash));
	if (s.rest > 0)
		buf_u8(&l->add, '\n');
	if (s.rest > 0 && !s.rest_sound) {
		json_t *o = json_object();

		json_set_u64(o, "bytes", s.rest);
		json_set_str(o, "sha256", s.rest_sum);
		log_info(AUDIT_FILE ": its last line was torn by a crash; "
				    "that is noted behind it");
		note(l, "torn", o);
	}
	if (s.met)
		return 0;
	log_error(AUDIT_FILE ": it is not what " AUDIT_HEAD
			     " says: `backstay audit --check` tells more");
	{
		json_t *o = json_object();

		if (s.head.there)
			json_object_set_new(o, "head",
			    head_to_json(s.head.n, s.head.hash, s.head.size));
		json_object_set_new(
		    o, "found", head_to_json(s.r.last, s.r.hash, l->size));
		note(l, "broken", o);
	}
	return 0;
}

/* Locked, and still what goes by that name: it may have become full. */
static int
open_locked(int dirfd, int flags, int how, struct stat *st)
{
	struct stat named;
	int fd;

	for (;;) {
		fd = openat(dirfd, AUDIT_FILE, flags | O_CLOEXEC, 0600);
		if (fd == -1)
			return -1;
		if (flock(fd, how) == -1 || fstat(fd, st) == -1)
			break;
		if (fstatat(dirfd, AUDIT_FILE, &named, 0) == 0) {
			if (named.st_ino == st->st_ino &&
			    named.st_dev == st->st_dev)
				return fd;
		} else if (errno != ENOENT) {
			break;
		}
		close(fd);
	}
	close(fd);
	return -1;
}

/* Opened, locked, and known where it ends. */
static int
log_open(int dirfd, struct log *l, struct err *e)
{
	struct stat st;
	int rc;

	memset(l, 0, sizeof(*l));
	l->dirfd = dirfd;
	l->fd = open_locked(dirfd, O_RDWR | O_CREAT, LOCK_EX, &st);
	if (l->fd == -1)
		return failed(e, AUDIT_FILE);
	l->size = (uint64_t)st.st_size;
	rc = audit_head_read(dirfd, &l->head, e);
	if (rc != 0)
		goto err;
	/* An empty one is new: that it is there shall last, too. */
	if (l->size == 0 && fsync(dirfd) == -1) {
		rc = failed(e, AUDIT_FILE);
		goto err;
	}
	if (!l->head.there && l->size == 0) {
		l->head.there = true;
		memcpy(l->head.hash, audit_none, sizeof(l->head.hash));
	}
	if (l->size == 0 || l->head.size != l->size) {
		rc = recover(l, e);
		if (rc != 0)
			goto err;
	}
	/* Only a promise of space: nothing depends on it. */
	if ((uint64_t)st.st_blocks * 512 < l->size + AHEAD_MIN &&
	    fallocate(l->fd, FALLOC_FL_KEEP_SIZE, (off_t)l->size, AHEAD) == -1)
		log_debug(AUDIT_FILE ": no space is reserved");
	return 0;
err:
	buf_fini(&l->add);
	close(l->fd);
	return rc;
}

/*
 * The file is full: it keeps what it has under another name.  A crash behind
 * that leaves no audit.log, or an empty one, and the head says how the full
 * file ends: that is a sound end.
 */
static int
log_next(struct log *l, struct err *e)
{
	char name[AUDIT_NAME_MAX];
	int dirfd = l->dirfd;

	if (l->size < AUDIT_FULL || l->add.len > 0)
		return 0;
	audit_files_name(l->head.n, name);
	/* Then it becomes larger: what is noted is worth more than that. */
	if (renameat(dirfd, AUDIT_FILE, dirfd, name) == -1) {
		log_sys(AUDIT_FILE ": rename to %s", name);
		return 0;
	}
	log_info(AUDIT_FILE ": the lines up to %" PRIu64 " are in %s now",
	    l->head.n, name);
	/* Only a reserve that nobody needs any more. */
	if (ftruncate(l->fd, (off_t)l->size) == -1)
		log_debug("%s: its reserve stays", name);
	close(l->fd);
	return log_open(dirfd, l, e);
}

static int
log_write(struct log *l, struct err *e)
{
	if (pwrite_full(l->fd, l->add.data, l->add.len, l->size) == -1) {
		int rc = failed(e, AUDIT_FILE);

		/* What is left of it is a torn end, and noted as one. */
		if (ftruncate(l->fd, (off_t)l->size) == -1)
			log_sys(AUDIT_FILE ": truncate");
		return rc;
	}
	if (fdatasync(l->fd) == -1)
		return failed(e, AUDIT_FILE);
	l->head.size = l->size + l->add.len;
	return audit_head_write(l->dirfd, &l->head, e);
}

int
audit_append(
    int dirfd, const struct audit_entry *a, uint64_t *number, struct err *e)
{
	struct log l;
	size_t before;
	int rc;

	rc = log_open(dirfd, &l, e);
	if (rc == 0)
		rc = log_next(&l, e);
	if (rc != 0)
		return rc;
	before = l.add.len;
	add_line(&l, a);
	if (l.add.len - before > AUDIT_LINE_MAX)
		rc = err_set(e, ERR_LIMIT, AUDIT_FILE ": too long a line");
	else
		rc = log_write(&l, e);
	if (rc == 0 && number != NULL)
		*number = l.head.n;
	buf_fini(&l.add);
	close(l.fd);
	return rc;
}

static int
scan_full(int dirfd, uint64_t last, struct audit_scan *s, struct err *e)
{
	char name[AUDIT_NAME_MAX];
	struct stat st;
	int fd, rc;

	audit_files_name(last, name);
	fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	if (fd == -1 || fstat(fd, &st) == -1) {
		rc = err_set(e, ERR_SYS, "%s: cannot be read: %s", name,
		    strerror(errno));
	} else {
		s->file = name;
		rc = audit_scan(fd, (uint64_t)st.st_size, s, e);
	}
	if (fd != -1)
		close(fd);
	return rc;
}

/* Files and head as one of those that append left them. */
static int
look(int dirfd, int *fd, uint64_t *size, struct audit_files *f,
    struct audit_head *h, struct err *e)
{
	struct stat st = { .st_size = 0 };
	int rc;

	*fd = open_locked(dirfd, O_RDONLY, LOCK_SH, &st);
	if (*fd == -1 && errno != ENOENT)
		return err_set(e, ERR_SYS, AUDIT_FILE ": cannot be read: %s",
		    strerror(errno));
	*size = (uint64_t)st.st_size;
	rc = audit_head_read(dirfd, h, e);
	if (rc == 0)
		rc = audit_files_list(dirfd, f, e);
	if (*fd != -1)
		flock(*fd, LOCK_UN);
	return rc;
}

static int
read_files(int dirfd, struct audit_scan *s, bool all, struct err *e)
{
	struct audit_files f = { .n = 0 };
	uint64_t size = 0;
	int fd, rc;

	rc = look(dirfd, &fd, &size, &f, &s->head, e);
	memcpy(s->r.hash, audit_none, sizeof(s->r.hash));
	for (size_t i = 0; rc == 0 && all && i < f.n; i++)
		rc = scan_full(dirfd, f.last[i], s, e);
	if (rc == 0 && !all)
		rc = audit_files_end(dirfd, &s->r.last, s->r.hash, e);
	s->file = AUDIT_FILE;
	s->newest = true;
	if (rc == 0)
		rc = audit_scan(fd, size, s, e);
	if (rc == 0 && s->rest > 0)
		s->r.torn++;
	audit_files_fini(&f);
	if (fd != -1)
		close(fd);
	return rc;
}

int
audit_read(int dirfd, audit_visit *visit, audit_fault *fault, void *arg,
    const char *witness, struct audit_report *out, struct err *e)
{
	struct audit_scan s = {
		.visit = visit, .fault = fault, .arg = arg, .witness = witness
	};
	int rc = read_files(dirfd, &s, true, e);

	*out = s.r;
	return rc;
}

int
audit_read_newest(int dirfd, audit_visit *visit, audit_fault *fault, void *arg,
    struct audit_report *out, struct err *e)
{
	struct audit_scan s = { .visit = visit, .fault = fault, .arg = arg };
	int rc = read_files(dirfd, &s, false, e);

	*out = s.r;
	return rc;
}
