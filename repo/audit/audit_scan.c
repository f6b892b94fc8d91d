/* SPDX-License-Identifier: Apache-2.0 */
/* The chain from its first line to its last. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/chunk.h"
#include "repo/audit/audit_impl.h"

enum { BLOCK = 64 << 10 };

const char audit_none[AUDIT_HASH_LEN + 1] = "00000000000000000000000000000000"
					    "00000000000000000000000000000000";

/* A line ends with this, then the hash, then a quote and a brace. */
static const char tail[] = ",\"hash\":\"";
enum { TAIL_LEN = sizeof(tail) - 1 + AUDIT_HASH_LEN + 2 };

void
audit_sum(const void *data, size_t len, char out[AUDIT_HASH_LEN + 1])
{
	struct hasher *h = hasher_new(NULL);
	struct id id;

	hasher_chunk(h, data, len, &id);
	hasher_free(h);
	hex(id.b, sizeof(id.b), out);
}

void
audit_hash(const char before[AUDIT_HASH_LEN + 1], const char *text, size_t len,
    char out[AUDIT_HASH_LEN + 1])
{
	struct buf b = { 0 };

	buf_add(&b, before, AUDIT_HASH_LEN);
	buf_add(&b, text, len);
	audit_sum(b.data, b.len, out);
	buf_fini(&b);
}

__attribute__((format(printf, 3, 4))) static void
fault(struct audit_scan *s, uint64_t line, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	s->r.faults++;
	if (s->fault == NULL)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	s->fault(s->arg, s->file, line, text);
}

/* Of a line: its text as it was hashed, its hash, its JSON. */
struct line {
	struct buf text;
	char hash[AUDIT_HASH_LEN + 1];
	json_t *j;
	uint64_t n;
	const char *op;
};

static void
line_fini(struct line *l)
{
	buf_fini(&l->text);
	json_decref(l->j);
}

static int
line_parse(const uint8_t *p, size_t len, struct line *l)
{
	uint8_t bytes[AUDIT_HASH_LEN / 2];
	const uint8_t *end = p + len;

	memset(l, 0, sizeof(*l));
	if (len <= TAIL_LEN || len > AUDIT_LINE_MAX ||
	    memcmp(end - TAIL_LEN, tail, sizeof(tail) - 1) != 0 ||
	    memcmp(end - 2, "\"}", 2) != 0)
		return ERR_CORRUPT;
	memcpy(l->hash, end - 2 - AUDIT_HASH_LEN, AUDIT_HASH_LEN);
	buf_add(&l->text, p, len - TAIL_LEN);
	buf_u8(&l->text, '}');
	if (unhex(l->hash, bytes, sizeof(bytes)) == 0 &&
	    json_parse(l->text.data, l->text.len, &l->j, NULL) == 0 &&
	    json_get_u64(l->j, "n", &l->n, NULL) == 0 &&
	    json_get_str(l->j, "op", &l->op, NULL) == 0)
		return 0;
	line_fini(l);
	return ERR_CORRUPT;
}

static bool
chained(const struct audit_scan *s, const struct line *l)
{
	char hash[AUDIT_HASH_LEN + 1];

	if (l->n != s->r.last + 1)
		return false;
	audit_hash(s->r.hash, (const char *)l->text.data, l->text.len, hash);
	return strcmp(hash, l->hash) == 0;
}

/* Whether it is the note of just that end, which a crash tore. */
static bool
explains(const struct audit_scan *s, const struct line *l)
{
	const char *sum;
	uint64_t bytes;
	json_t *what;

	return strcmp(l->op, "torn") == 0 &&
	    json_get_object(l->j, "what", &what, NULL) == 0 &&
	    json_get_u64(what, "bytes", &bytes, NULL) == 0 &&
	    json_get_str(what, "sha256", &sum, NULL) == 0 &&
	    bytes == s->bad_len && strcmp(sum, s->bad_sum) == 0;
}

static void
settle_bad(struct audit_scan *s, const struct line *l, bool sound)
{
	if (s->bad_line == 0)
		return;
	if (l != NULL && sound && explains(s, l))
		s->r.torn++;
	else
		fault(s, s->bad_line,
		    "is no line of this log: it was damaged or changed");
	s->bad_line = 0;
}

static const char *
text_of(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s != NULL ? s : "?";
}

static void
judge(struct audit_scan *s, const struct line *l, bool sound)
{
	uint64_t due = s->r.last + 1;

	if (l->n > due + 1)
		fault(s, s->line,
		    "has the number %" PRIu64 ": %" PRIu64 " to %" PRIu64
		    " are missing before it",
		    l->n, due, l->n - 1);
	else if (l->n > due)
		fault(s, s->line,
		    "has the number %" PRIu64 ": %" PRIu64
		    " is missing before it",
		    l->n, due);
	else if (l->n < due)
		fault(s, s->line,
		    "has the number %" PRIu64 " and stands behind %" PRIu64
		    ": it is not at its place",
		    l->n, s->r.last);
	else if (!sound)
		fault(s, s->line,
		    "was changed: its hash is not that of its text and of the "
		    "line before");
	else if (strcmp(l->op, "broken") == 0)
		fault(s, s->line,
		    "says that on %s the log was found cut or changed, as "
		    "audit.head told",
		    text_of(l->j, "time"));
}

static void
take_line(struct audit_scan *s, const uint8_t *p, size_t len, uint64_t end)
{
	struct line l;
	bool sound;

	s->line++;
	if (line_parse(p, len, &l) != 0) {
		settle_bad(s, NULL, false);
		s->bad_line = s->line;
		s->bad_len = len;
		audit_sum(p, len, s->bad_sum);
		return;
	}
	sound = chained(s, &l);
	settle_bad(s, &l, sound);
	judge(s, &l, sound);
	if (sound)
		s->r.lines++;
	if (s->visit != NULL) {
		json_set_str(l.j, "hash", l.hash);
		s->visit(s->arg, l.j);
	}
	s->r.last = l.n;
	memcpy(s->r.hash, l.hash, sizeof(s->r.hash));
	if (s->witness != NULL && strcmp(l.hash, s->witness) == 0)
		s->witness = NULL;
	if (s->newest && s->head.there && end == s->head.size &&
	    (!s->met || l.n == s->head.n))
		s->met = l.n == s->head.n && strcmp(l.hash, s->head.hash) == 0;
	line_fini(&l);
}

/* What stands behind the last newline. */
static void
take_rest(struct audit_scan *s, const uint8_t *p, size_t len)
{
	struct line l;

	s->rest = len;
	if (len == 0)
		return;
	audit_sum(p, len, s->rest_sum);
	if (line_parse(p, len, &l) != 0)
		return;
	s->rest_sound = s->newest && chained(s, &l);
	if (s->rest_sound) {
		s->r.last = l.n;
		memcpy(s->r.hash, l.hash, sizeof(s->r.hash));
	}
	line_fini(&l);
}

static void
compare_head(struct audit_scan *s)
{
	if (!s->head.there && s->line > 0)
		fault(s, s->line,
		    "is the last one, and audit.head is missing: whether "
		    "there were more cannot be told");
	else if (s->head.there && !s->met && s->line == 0)
		fault(s, 0,
		    "there is no line, and audit.head knows %" PRIu64
		    ": the log was taken away",
		    s->head.n);
	else if (s->head.there && !s->met)
		fault(s, s->line,
		    "is the last one, with the number %" PRIu64
		    "; audit.head knows %" PRIu64
		    " and another end: the log was cut or exchanged",
		    s->r.last, s->head.n);
}

int
audit_scan(int fd, uint64_t size, struct audit_scan *s, struct err *e)
{
	struct buf b = { 0 };
	uint64_t at = 0, done = 0; /* read; taken, of the file */
	int rc = 0;

	s->line = 0;
	s->bad_line = 0;
	/* The file is new, or nothing was noted after it was begun. */
	s->met = s->newest && s->head.there && s->head.n == s->r.last &&
	    strcmp(s->head.hash, s->r.hash) == 0;
	while (at < size) {
		size_t want = size - at < BLOCK ? (size_t)(size - at) : BLOCK;
		uint8_t *p, *nl;
		size_t taken = 0;
		ssize_t n = pread_full(fd, buf_extend(&b, want), want, at);

		if (n != (ssize_t)want) {
			rc = err_set(e, ERR_SYS, "%s: cannot be read", s->file);
			goto out;
		}
		at += want;
		p = b.data;
		while ((nl = memchr(p + taken, '\n', b.len - taken)) != NULL) {
			size_t len = (size_t)(nl - p) - taken;

			done += len + 1;
			take_line(s, p + taken, len, done);
			taken += len + 1;
		}
		memmove(b.data, b.data + taken, b.len - taken);
		b.len -= taken;
		if (b.len > AUDIT_LINE_MAX) {
			rc = err_set(e, ERR_LIMIT,
			    "%s:%" PRIu64 ": a line of more than %d bytes: "
			    "this is no audit log",
			    s->file, s->line + 1, AUDIT_LINE_MAX);
			goto out;
		}
	}
	take_rest(s, b.data, b.len);
	/* A note may still follow to a torn end that only lacks its newline. */
	settle_bad(s, NULL, false);
	if (s->newest)
		compare_head(s);
	else if (s->rest > 0)
		fault(s, s->line + 1,
		    "is no whole line: the file was cut or changed");
	if (s->newest && s->witness != NULL)
		fault(s, s->line,
		    "is the last one, and none has the hash %.64s: the log is "
		    "not the one that had it",
		    s->witness);
out:
	buf_fini(&b);
	return rc;
}
