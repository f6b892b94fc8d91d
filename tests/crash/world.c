/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/crash/world.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/bytes.h"
#include "proto/base/fault.h"
#include "proto/base/io.h"
#include "proto/codec.h"
#include "repo/store/fsck.h"
#include "repo/store/record.h"
#include "tests/crash/journal.h"

enum { CHUNK = CHUNK_SIZE_MIN, UNIQUE = 1024, TAIL = 1000, GC_MS = 30000 };

void
world_wrong(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("WRONG: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	_exit(WORLD_FAILED);
}

void
world_begin(struct world *w, const char *dir, const char *journal)
{
	memset(w, 0, sizeof(*w));
	w->dir = dir;
	w->told = xcalloc(WORLD_TOLD_MAX, sizeof(*w->told));
	w->acks = open(journal, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (w->acks == -1)
		world_wrong("%s: cannot open", journal);
}

static void
see_backup(void *arg, const struct manifest *m)
{
	struct world *w = arg;

	if (w->ntold == WORLD_TOLD_MAX)
		world_wrong("more backups than were ever made");
	w->told[w->ntold++] = *m;
}

int
world_open(struct world *w)
{
	struct store_options o = { .batch_ms = 20,
		.reserve = 1,
		.data_limit = WORLD_PACK_LIMIT,
		.wrap = w->wrap,
		.wrap_arg = w->wrap_arg };
	struct reclaim_options ro = { 0 };
	struct err e = { 0 };
	int rc;

	w->ntold = 0;
	rc = store_open(w->dir, &o, see_backup, w, &w->store, &e);
	if (rc != 0) {
		fprintf(stderr, "open: %s\n", e.text);
		w->store = NULL;
		return rc;
	}
	w->lane = store_lane_new(w->store, NULL);
	return reclaimer_start(w->store, &ro, &w->reclaimer);
}

void
world_close(struct world *w)
{
	if (w->store == NULL)
		return;
	reclaimer_stop(w->reclaimer);
	store_lane_free(w->lane);
	store_close(w->store);
	w->reclaimer = NULL;
	w->lane = NULL;
	w->store = NULL;
}

static void
chunk(uint32_t n, uint32_t len, uint8_t data[CHUNK], struct id *id)
{
	struct hasher *h = hasher_new(NULL);
	uint64_t x = (uint64_t)n * 0x9e3779b97f4a7c15u + 1;

	memset(data, 0, CHUNK);
	for (uint32_t i = 0; i + 8 <= UNIQUE; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		put_le64(data + i, x);
	}
	hasher_chunk(h, data, len, id);
	hasher_free(h);
}

int
world_put(struct world *w, struct store_session *x, uint32_t n, uint32_t len)
{
	struct codec *c = codec_new(1);
	uint8_t *data = xmalloc(CHUNK), *packed = xmalloc(CHUNK);
	struct store_put p = {
		.raw_len = len, .stored_len = len, .data = data
	};
	uint64_t stored;
	struct err e;
	size_t plen;
	int rc;

	chunk(n, len, data, &p.id);
	p.codec = codec_pack(c, data, len, packed, &plen);
	if (p.codec != CODEC_PLAIN) {
		p.data = packed;
		p.stored_len = (uint32_t)plen;
	}
	rc = store_put_chunk(x, w->lane, &p, &stored, &e);
	codec_free(c);
	free(packed);
	free(data);
	return rc;
}

int
world_ask(struct world *w, struct store_session *x, uint32_t first, unsigned n)
{
	uint8_t *data = xmalloc(CHUNK), bits[NODE_FANOUT / 8];
	struct id ids[NODE_FANOUT];
	struct err e;

	(void)w;
	for (uint32_t i = 0; i < n; i++)
		chunk(first + i, CHUNK, data, &ids[i]);
	free(data);
	return store_have(x, RECORD_CHUNK, 0, ids, n, bits, &e);
}

static int
put_node(
    struct world *w, struct store_session *x, struct node *n, struct id *id)
{
	uint8_t body[NODE_LEN_MAX], missing[NODE_FANOUT / 8];
	struct hasher *h = hasher_new(NULL);
	struct err e;
	size_t len;

	node_trim(n);
	len = node_print(n, body);
	hasher_node(h, body, len, id);
	hasher_free(h);
	return store_put_node(x, w->lane, body, len, missing, &e);
}

int
world_tree(struct world *w, struct store_session *x, uint32_t first,
    uint32_t nchunks, struct id *root, uint64_t *size)
{
	struct id *ids = xcalloc(nchunks, sizeof(*ids));
	uint8_t *data = xmalloc(CHUNK);
	size_t n = nchunks;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < nchunks; i++) {
		uint32_t len = i + 1 == nchunks ? TAIL : CHUNK;

		rc = world_put(w, x, first + i, len);
		chunk(first + i, len, data, &ids[i]);
	}
	for (uint8_t level = 0; rc == 0 && (level == 0 || n > 1); level++) {
		size_t above = (n + NODE_FANOUT - 1) / NODE_FANOUT;

		for (size_t i = 0; rc == 0 && i < above; i++) {
			struct node node = { .level = level,
				.tail = i + 1 == above };

			for (size_t k = 0;
			     k < NODE_FANOUT && i * NODE_FANOUT + k < n; k++)
				node.child[k] = ids[i * NODE_FANOUT + k];
			rc = put_node(w, x, &node, &ids[i]);
		}
		n = above;
	}
	*root = ids[0];
	*size = (uint64_t)(nchunks - 1) * CHUNK + TAIL;
	free(data);
	free(ids);
	return rc;
}

static unsigned
drop_of(const struct manifest *m, struct store_drop *d)
{
	*d = (struct store_drop){ .held = false };
	if (m == NULL)
		return 0;
	memcpy(d->id, m->id, sizeof(d->id));
	return 1;
}

int
world_commit(struct world *w, struct store_session *x, const char *vm,
    uint32_t first, uint32_t nchunks, const struct manifest *drop,
    struct manifest *out)
{
	struct manifest *m = xcalloc(1, sizeof(*m));
	struct store_drop d;
	unsigned n = drop_of(drop, &d);
	struct err e;
	int rc;

	snprintf(m->vm, sizeof(m->vm), "%s", vm);
	strcpy(m->host, "test");
	strcpy(m->consistency, "offline");
	m->nvolumes = 1;
	snprintf(m->volume[0].name, sizeof(m->volume[0].name), "s%u", first);
	strcpy(m->volume[0].kind, "disk");
	strcpy(m->volume[0].format, "raw");
	rc = world_tree(
	    w, x, first, nchunks, &m->volume[0].root, &m->volume[0].size);
	if (rc != 0)
		goto out;
	journal_note(w->acks, JOURNAL_COMMIT, NULL);
	if (drop != NULL)
		journal_note(w->acks, JOURNAL_DROP, drop->id);
	rc = store_commit(x, w->lane, m, &d, n, &e);
	journal_note(
	    w->acks, rc == 0 ? JOURNAL_COMMITTED : JOURNAL_REFUSED, m->id);
	if (drop != NULL)
		journal_note(w->acks, rc == 0 ? JOURNAL_DROPPED : JOURNAL_KEPT,
		    drop->id);
	if (rc == 0 && out != NULL)
		*out = *m;
out:
	free(m);
	return rc;
}

int
world_backup(struct world *w, const char *vm, uint32_t first, uint32_t nchunks,
    const struct manifest *drop, struct manifest *out)
{
	struct store_session *x;
	struct err e;
	int rc;

	rc = store_begin(w->store, 0, &x, &e);
	if (rc != 0)
		return rc;
	rc = world_commit(w, x, vm, first, nchunks, drop, out);
	store_end(x);
	return rc;
}

int
world_checkpoint(struct world *w, struct store_session *x,
    const struct manifest *drop, struct manifest *out)
{
	struct manifest *m = xcalloc(1, sizeof(*m));
	struct store_drop d;
	unsigned n = drop_of(drop, &d);
	struct err e;
	int rc;

	strcpy(m->vm, "long");
	strcpy(m->host, "test");
	journal_note(w->acks, JOURNAL_COMMIT, NULL);
	if (drop != NULL)
		journal_note(w->acks, JOURNAL_DROP, drop->id);
	rc = store_checkpoint(x, w->lane, m, &d, n, &e);
	journal_note(
	    w->acks, rc == 0 ? JOURNAL_COMMITTED : JOURNAL_REFUSED, m->id);
	if (drop != NULL)
		journal_note(w->acks, rc == 0 ? JOURNAL_DROPPED : JOURNAL_KEPT,
		    drop->id);
	if (rc == 0)
		*out = *m;
	free(m);
	return rc;
}

static int
drop(struct world *w, const struct manifest *m, bool held, bool hidden)
{
	struct store_drop d;
	struct err e;
	int rc;

	drop_of(m, &d);
	d.held = held;
	d.hidden = hidden;
	/* Once it is hidden it is deleted for everybody but the store. */
	if (!hidden)
		journal_note(w->acks, JOURNAL_DROP, m->id);
	rc = store_drop(w->store, &d, 1, &e);
	if (!hidden)
		journal_note(
		    w->acks, rc == 0 ? JOURNAL_DROPPED : JOURNAL_KEPT, m->id);
	reclaimer_wake(w->reclaimer);
	return rc;
}

int
world_delete(struct world *w, const struct manifest *m)
{
	return drop(w, m, false, false);
}

int
world_hide(struct world *w, const struct manifest *m)
{
	return drop(w, m, true, false);
}

int
world_delete_hidden(struct world *w, const struct manifest *m)
{
	return drop(w, m, false, true);
}

int
world_gc(struct world *w)
{
	struct err e;

	return reclaimer_wait(w->reclaimer, GC_MS, &e);
}

static void
say(void *arg, const char *line)
{
	(void)arg;
	fprintf(stderr, "fsck: %s\n", line);
}

int
world_rebuild(struct world *w)
{
	struct fsck_options o = { .rebuild = true };
	struct fsck_report r;
	struct err e = { 0 };
	int rc;

	journal_note(w->acks, JOURNAL_REBUILD, NULL);
	rc = fsck(w->dir, &o, say, NULL, &r, &e);
	if (rc != 0) {
		fprintf(stderr, "rebuild: %s\n", e.text);
		return rc;
	}
	if (r.missing != 0 || r.hit_backups != 0 || r.damaged != 0) {
		/* What cannot be read is lost; it can be done again. */
		if (!fault_fired())
			world_wrong("a rebuild lost something");
		return ERR_CORRUPT;
	}
	journal_note(w->acks, JOURNAL_REBUILT, NULL);
	return 0;
}

struct reading {
	uint32_t first;
	uint64_t seen;
	struct codec *codec;
	uint8_t *raw;
	uint8_t *want;
};

static int
see_slice(void *arg, uint64_t slice, uint8_t codec, uint32_t raw_len,
    const uint8_t *data, size_t len, struct err *e)
{
	struct reading *r = arg;
	struct id id;

	if (codec_unpack(r->codec, codec, data, len, r->raw, raw_len) != 0)
		return err_set(e, ERR_CORRUPT, "slice %llu does not decode",
		    (unsigned long long)slice);
	chunk(r->first + (uint32_t)slice, raw_len, r->want, &id);
	if (memcmp(r->raw, r->want, raw_len) != 0)
		return err_set(e, ERR_CORRUPT, "slice %llu is another's",
		    (unsigned long long)slice);
	r->seen++;
	return 0;
}

int
world_read(struct world *w, const struct manifest *m, struct err *e)
{
	const struct manifest_volume *v = &m->volume[0];
	uint64_t n = chunk_nslices(v->size, CHUNK);
	struct reading r = { .codec = codec_new(0) };
	int rc;

	if (m->incomplete || m->nvolumes != 1 || v->name[0] != 's') {
		codec_free(r.codec);
		return 0;
	}
	r.first = (uint32_t)strtoul(v->name + 1, NULL, 10);
	r.raw = xmalloc(CHUNK);
	r.want = xmalloc(CHUNK);
	rc = store_read_slices(w->store, w->lane, &v->root, v->size, 0,
	    (uint32_t)n, see_slice, &r, e);
	if (rc == 0 && r.seen != n)
		rc = err_set(e, ERR_CORRUPT, "slices are holes");
	free(r.want);
	free(r.raw);
	codec_free(r.codec);
	return rc;
}
