/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/retain/marks.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/crc32c.h"
#include "proto/base/io.h"

enum { MARKS_VERSION = 1, HEAD_MAX = 80 };

struct marks {
	int dirfd;
	pthread_mutex_t mu;
	struct mark *mark; /* by id; guarded by mu, with all below */
	size_t n;
	uint64_t number;
	char doubt[ERR_TEXT_MAX]; /* "": there is none */
};

bool
mark_note_ok(const char *s)
{
	if (strlen(s) > MARK_NOTE_MAX)
		return false;
	for (; *s != 0; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			return false;
	return true;
}

static int
by_id(const void *a, const void *b)
{
	return memcmp(((const struct mark *)a)->id,
	    ((const struct mark *)b)->id, BACKUP_ID_LEN);
}

static struct mark *
find(struct mark *x, size_t n, const uint8_t id[BACKUP_ID_LEN])
{
	struct mark key = { .is_protected = false };

	memcpy(key.id, id, sizeof(key.id));
	return n > 0 ? bsearch(&key, x, n, sizeof(*x), by_id) : NULL;
}

/* --- the file: a line with version, number, length and CRC, then JSON lines */

static void
set_time(json_t *j, const char *key, uint64_t seconds)
{
	char text[TIME_TEXT_LEN + 1];

	json_set_str(j, key, time_print(seconds, text));
}

static int
opt_time(const json_t *j, const char *key, uint64_t *out, struct err *e)
{
	const char *text = NULL;
	int rc = json_opt_str(j, key, &text, e);

	if (rc == 0 && text != NULL && time_parse(text, out) != 0)
		rc = err_set(e, ERR_PROTO, "\"%s\" is not a time", key);
	return rc;
}

static void
print_mark(const struct mark *x, struct buf *out)
{
	json_t *j = json_object();

	json_set_hex(j, "id", x->id, sizeof(x->id));
	if (x->is_protected) {
		json_set_str(j, "by", x->by);
		json_set_str(j, "note", x->note);
		set_time(j, "at", x->at);
	}
	if (x->locked_until != 0)
		set_time(j, "locked_until", x->locked_until);
	json_print(j, out);
	buf_add(out, "\n", 1);
	json_decref(j);
}

static int
parse_mark(const char *line, size_t len, struct mark *x, struct err *e)
{
	const char *by = NULL, *note = "";
	json_t *j;
	int rc;

	memset(x, 0, sizeof(*x));
	rc = json_parse(line, len, &j, e);
	if (rc != 0)
		return rc;
	rc = json_get_hex(j, "id", x->id, sizeof(x->id), e);
	if (rc == 0)
		rc = json_opt_str(j, "by", &by, e);
	if (rc == 0)
		rc = json_opt_str(j, "note", &note, e);
	if (rc == 0)
		rc = opt_time(j, "at", &x->at, e);
	if (rc == 0)
		rc = opt_time(j, "locked_until", &x->locked_until, e);
	if (rc == 0 && by != NULL) {
		x->is_protected = true;
		if (!mark_note_ok(note) || !name_part_ok(by))
			rc = err_set(e, ERR_PROTO, "a note that is none");
		else {
			memcpy(x->note, note, strlen(note) + 1);
			memcpy(x->by, by, strlen(by) + 1);
		}
	}
	json_decref(j);
	return rc;
}

/* All lines that can be read, also behind one that cannot. */
static int
parse_marks(struct marks *m, const char *at, const char *end, struct err *e)
{
	int rc = 0;

	while (at < end) {
		const char *nl = memchr(at, '\n', (size_t)(end - at));
		size_t len = (size_t)((nl != NULL ? nl : end) - at);
		struct mark x;
		int one = parse_mark(at, len, &x, rc == 0 ? e : NULL);

		if (rc == 0)
			rc = one;
		if (one == 0 && m->n < MARKS_MAX) {
			m->mark =
			    xrealloc(m->mark, (m->n + 1) * sizeof(*m->mark));
			m->mark[m->n++] = x;
		}
		at += len + 1;
	}
	if (m->n > 1)
		qsort(m->mark, m->n, sizeof(*m->mark), by_id);
	return rc;
}

/* The first line, with a CRC of what stands before it there and of the body. */
static int
print_head(char out[HEAD_MAX], uint64_t number, const void *body, size_t len)
{
	int n = snprintf(out, HEAD_MAX, "backstay-marks %d %llu %llu ",
	    MARKS_VERSION, (unsigned long long)number, (unsigned long long)len);
	uint32_t crc = crc32c(crc32c(0, out, (size_t)n), body, len);

	return n +
	    snprintf(out + n, HEAD_MAX - (size_t)n, "%08x\n", (unsigned)crc);
}

static int
parse_file(struct marks *m, const struct buf *b, struct err *e)
{
	const char *text = (const char *)b->data;
	const char *nl = b->len > 0 ? memchr(text, '\n', b->len) : NULL;
	const char *body;
	char head[HEAD_MAX], again[HEAD_MAX];
	unsigned long long number;
	unsigned version;
	size_t rest;
	int rc, len;

	if (nl == NULL || nl - text >= HEAD_MAX - 1)
		return err_set(e, ERR_CORRUPT, "its first line is damaged");
	body = nl + 1;
	memcpy(head, text, (size_t)(body - text));
	head[body - text] = 0;
	rest = b->len - (size_t)(body - text);
	rc = parse_marks(m, body, text + b->len, e);
	if (sscanf(head, "backstay-marks %u %llu", &version, &number) != 2)
		return err_set(e, ERR_CORRUPT, "its first line is damaged");
	if (version != MARKS_VERSION)
		return err_set(e, ERR_UNSUP, "its version is %u, not %d",
		    version, MARKS_VERSION);
	len = print_head(again, number, body, rest);
	if (len != body - text || memcmp(head, again, (size_t)len) != 0)
		return err_set(e, ERR_CORRUPT, "it is damaged");
	m->number = number;
	return rc;
}

static int
write_file(struct marks *m, const struct mark *x, size_t n, uint64_t number)
{
	struct buf body = { 0 }, all = { 0 };
	char head[HEAD_MAX];
	int rc;

	for (size_t i = 0; i < n; i++)
		print_mark(&x[i], &body);
	rc = print_head(head, number, body.data, body.len);
	buf_add(&all, head, (size_t)rc);
	buf_add(&all, body.data, body.len);
	rc = file_replace(m->dirfd, MARKS_FILE, all.data, all.len, 0600);
	buf_fini(&body);
	buf_fini(&all);
	return rc;
}

struct marks *
marks_open(int dirfd, uint64_t least)
{
	struct marks *m = xcalloc(1, sizeof(*m));
	struct buf b = { 0 };
	struct err e = { 0 };
	int rc;

	m->dirfd = dirfd;
	pthread_mutex_init(&m->mu, NULL);
	rc = file_read(dirfd, MARKS_FILE, MARKS_FILE_MAX, &b);
	if (rc == 0)
		rc = parse_file(m, &b, &e);
	else if (rc != ERR_NOENT)
		err_set(&e, rc, "it cannot be read");
	else if (least == 0)
		rc = 0;
	else
		err_set(&e, rc, "it is gone");
	if (rc == 0 && m->number < least)
		rc = err_set(
		    &e, ERR_CORRUPT, "it is an older one, put in its place");
	if (rc != 0)
		memcpy(m->doubt, e.text, sizeof(m->doubt));
	if (m->number < least)
		m->number = least;
	buf_fini(&b);
	return m;
}

void
marks_close(struct marks *m)
{
	if (m == NULL)
		return;
	pthread_mutex_destroy(&m->mu);
	free(m->mark);
	free(m);
}

bool
marks_doubt(struct marks *m, char *why)
{
	bool doubt;

	pthread_mutex_lock(&m->mu);
	doubt = m->doubt[0] != 0;
	if (doubt && why != NULL)
		memcpy(why, m->doubt, sizeof(m->doubt));
	pthread_mutex_unlock(&m->mu);
	return doubt;
}

void
marks_get(struct marks *m, const uint8_t id[BACKUP_ID_LEN], struct mark *out)
{
	const struct mark *x;

	memset(out, 0, sizeof(*out));
	memcpy(out->id, id, sizeof(out->id));
	pthread_mutex_lock(&m->mu);
	x = find(m->mark, m->n, id);
	if (x != NULL)
		*out = *x;
	pthread_mutex_unlock(&m->mu);
}

static bool
says_something(const struct mark *x, uint64_t now)
{
	return x->is_protected || x->locked_until > now;
}

/* With mu held. */
static int
replace(struct marks *m, const struct mark *x, unsigned n, uint64_t now,
    struct err *e)
{
	struct mark *all = xmalloc((m->n + n) * sizeof(*all) + 1);
	struct mark *given = xmalloc(n * sizeof(*given) + 1);
	size_t nall = 0;
	int rc;

	if (n > 0)
		memcpy(given, x, n * sizeof(*given));
	if (n > 1)
		qsort(given, n, sizeof(*given), by_id);
	for (size_t i = 0; i < m->n; i++)
		if (says_something(&m->mark[i], now) &&
		    find(given, n, m->mark[i].id) == NULL)
			all[nall++] = m->mark[i];
	for (size_t i = 0; i < n; i++)
		if (says_something(&given[i], now))
			all[nall++] = given[i];
	free(given);
	if (nall > 1)
		qsort(all, nall, sizeof(*all), by_id);
	if (nall > MARKS_MAX)
		rc = err_set(e, ERR_LIMIT,
		    "more than %d backups would be protected", MARKS_MAX);
	else
		rc = write_file(m, all, nall, m->number + 1);
	if (rc != 0) {
		free(all);
		if (rc == ERR_NOSPC)
			err_set(e, rc, "%s: no space to write it", MARKS_FILE);
		else if (rc != ERR_LIMIT)
			err_set(e, rc, "%s: cannot be written", MARKS_FILE);
		return rc;
	}
	free(m->mark);
	m->mark = all;
	m->n = nall;
	m->number++;
	return 0;
}

int
marks_set(struct marks *m, const struct mark *x, unsigned n, uint64_t now,
    uint64_t *number, struct err *e)
{
	int rc;

	pthread_mutex_lock(&m->mu);
	if (m->doubt[0] != 0)
		rc = err_set(e, ERR_CORRUPT,
		    "%s: %.200s: it takes no more until `backstay protect "
		    "--mend`",
		    MARKS_FILE, m->doubt);
	else
		rc = replace(m, x, n, now, e);
	*number = m->number;
	pthread_mutex_unlock(&m->mu);
	return rc;
}

int
marks_mend(struct marks *m, const struct mark *x, unsigned n, uint64_t now,
    uint64_t *number, struct err *e)
{
	int rc = 0;

	pthread_mutex_lock(&m->mu);
	if (m->doubt[0] != 0)
		rc = replace(m, x, n, now, e);
	if (rc == 0)
		m->doubt[0] = 0;
	*number = m->number;
	pthread_mutex_unlock(&m->mu);
	return rc;
}
