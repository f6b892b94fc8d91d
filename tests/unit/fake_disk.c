/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/fake_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "proto/base/bytes.h"
#include "tests/unit/fake_daemon.h"

static unsigned seed;

void
fake_seed(void)
{
	const char *s = getenv("SEED");

	seed =
	    s != NULL ? (unsigned)strtoul(s, NULL, 10) : (unsigned)time(NULL);
	printf("SEED=%u\n", seed);
}

unsigned
fake_rnd(unsigned n)
{
	return (unsigned)rand_r(&seed) % n;
}

int
disk_read(struct source *s, void *data, size_t len, uint64_t off, struct err *e)
{
	struct disk *p = (struct disk *)s;
	uint8_t *out = data;

	(void)e;
	atomic_fetch_add(&p->nread, len);
	for (size_t done = 0, n; done < len; done += n) {
		uint64_t at = off + done, g = at / p->gran;
		uint64_t k = at % p->gran;
		uint8_t v = p->gen[g];

		n = p->gran - k < len - done ? (size_t)(p->gran - k)
					     : len - done;
		memset(out + done, v, n);
		p->seen[g] = 1;
		if (k == 0 && n >= 8 && v != 0)
			put_le64(out + done, g << 8 | v);
	}
	return 0;
}

static int
disk_map(
    struct source *s, uint64_t off, uint64_t *len, bool *hole, struct err *e)
{
	struct disk *p = (struct disk *)s;
	uint64_t g = off / p->gran, end;

	(void)e;
	*hole = p->gen[g] == 0;
	end = g + 1;
	while (end < p->n && (p->gen[end] == 0) == *hole)
		end++;
	end = end == p->n ? s->size : end * p->gran;
	*len = end - off;
	return 0;
}

static int
disk_clean(
    struct source *s, uint64_t off, uint64_t *len, bool *clean, struct err *e)
{
	struct disk *p = (struct disk *)s;
	uint64_t g = off / p->gran, end;
	const uint8_t *other;

	(void)e;
	*clean = p->dirty[g] == 0;
	other = memchr(p->dirty + g, *clean ? 1 : 0, p->n - g);
	end = other == NULL ? s->size : (uint64_t)(other - p->dirty) * p->gran;
	*len = end - off;
	if (*len > p->answer_max)
		*len = p->answer_max;
	return 0;
}

static void
disk_close(struct source *s)
{
	((struct disk *)s)->nclosed++;
}

const struct source_ops disk_ops = {
	.read = disk_read,
	.map = disk_map,
	.clean = disk_clean,
	.close = disk_close,
};

struct disk *
disk_new(uint64_t size, uint32_t gran)
{
	struct disk *p = xcalloc(1, sizeof(*p));

	p->s.ops = &disk_ops;
	p->s.size = size;
	p->s.format = "raw";
	p->gran = gran;
	p->n = size / gran + (size % gran != 0);
	p->answer_max = UINT64_MAX;
	p->gen = xcalloc(p->n + 1, 1);
	p->dirty = xcalloc(p->n + 1, 1);
	p->seen = xcalloc(p->n + 1, 1);
	return p;
}

void
disk_free(struct disk *p)
{
	free(p->gen);
	free(p->dirty);
	free(p->seen);
	free(p);
}

/* A new point in time: nothing was read or written since. */
void
disk_forget(struct disk *p)
{
	memset(p->dirty, 0, p->n);
	memset(p->seen, 0, p->n);
	atomic_store(&p->nread, 0);
}

void
disk_touch(struct disk *p, uint64_t g, bool noted)
{
	p->gen[g] = (uint8_t)(p->gen[g] % 250 + 1);
	p->dirty[g] = noted ? 1 : p->dirty[g];
}

/* Of which all granules up to ${n} hold data. */
struct disk *
disk_full(uint64_t n, uint64_t more)
{
	struct disk *p = disk_new(n * CS + more, CS);

	for (uint64_t i = 0; i < p->n; i++)
		disk_touch(p, i, false);
	return p;
}

/* The tree as one who reads all of it makes it. */
struct id
disk_root(struct disk *p)
{
	uint64_t nslices = chunk_nslices(p->s.size, d.cs), n = nslices;
	struct id *ids = xcalloc(n + 1, sizeof(*ids)), root = { { 0 } };
	struct hasher *h = hasher_new(NULL);
	uint8_t *data = xmalloc(d.cs), body[NODE_LEN_MAX];
	uint64_t had = atomic_load(&p->nread);
	uint8_t *seen = p->seen;
	bool tail;

	p->seen = xcalloc(p->n + 1, 1);

	for (uint64_t i = 0; i < n; i++) {
		uint32_t len = chunk_len(p->s.size, d.cs, i);
		uint64_t from = i * d.cs / p->gran;
		uint64_t to = (i * d.cs + len - 1) / p->gran;

		while (from <= to && p->gen[from] == 0)
			from++;
		if (from > to)
			continue;
		disk_read(&p->s, data, len, i * d.cs, NULL);
		hasher_chunk(h, data, len, &ids[i]);
	}
	tail = n > 0 && p->s.size % d.cs != 0 && !id_is_hole(&ids[n - 1]);
	for (unsigned level = 0; n > 0; level++) {
		uint64_t up = n / NODE_FANOUT + (n % NODE_FANOUT != 0);

		for (uint64_t i = 0; i < up; i++) {
			struct node node = { .level = (uint8_t)level };
			uint64_t left = n - i * NODE_FANOUT;

			memcpy(node.child, ids + i * NODE_FANOUT,
			    (left < NODE_FANOUT ? left : NODE_FANOUT) *
				sizeof(*ids));
			node_trim(&node);
			node.tail = tail && i == up - 1;
			memset(&ids[i], 0, sizeof(*ids));
			if (node.n > 0)
				hasher_node(
				    h, body, node_print(&node, body), &ids[i]);
		}
		if (level == node_root_level(nslices))
			break;
		n = up;
	}
	root = ids[0];
	free(ids);
	free(data);
	hasher_free(h);
	atomic_store(&p->nread, had);
	free(p->seen);
	p->seen = seen;
	return root;
}

void
fake_must(int rc, const struct err *e)
{
	if (rc != 0)
		fail_msg("%s", e->text);
}

struct backup_options fake_options;
static struct repo_url url;

void
fake_set(double verify_clean)
{
	memset(&fake_options, 0, sizeof(fake_options));
	strcpy(url.path, d.socket);
	fake_options.job.url = &url;
	fake_options.job.lanes = 1 + fake_rnd(4);
	fake_options.vm = "vm";
	fake_options.compression = 1;
	fake_options.quiet = true;
	fake_options.verify_clean = verify_clean;
}

/* As one who goes on from the checkpoint before. */
int
fake_send(struct disk *p, const char *tag, const char *since,
    struct backup_result *r, struct err *e)
{
	struct backup_input in = {
		.name = "vda", .kind = "disk", .source = &p->s
	};
	unsigned nclosed = p->nclosed;
	struct backup *b;
	int rc;

	fake_must(backup_open(&fake_options, &b, e), e);
	rc = backup_send(b, &in, 1, "crash", tag, since, r, e);
	assert_int_equal(p->nclosed, nclosed + 1);
	backup_close(b);
	return rc;
}

void
fake_check(struct disk *p)
{
	struct id root = disk_root(p);

	assert_memory_equal(&d.backup.volume[0].root, &root, ID_LEN);
}

void
fake_first(struct disk *p)
{
	struct backup_result r;
	struct err e;

	fake_set(0);
	fake_must(fake_send(p, "a", NULL, &r, &e), &e);
	assert_false(r.trusted);
	fake_check(p);
	disk_forget(p);
	d.ntrees = 0;
	d.nputs = 0;
	d.nnode_frames = 0;
}

/* Slices that are not clean whole. */
uint64_t
disk_dirty(const struct disk *p)
{
	uint64_t n = 0, nslices = chunk_nslices(p->s.size, d.cs);

	for (uint64_t i = 0; i < nslices; i++) {
		uint32_t len = chunk_len(p->s.size, d.cs, i);
		uint64_t from = i * d.cs / p->gran;
		uint64_t to = (i * d.cs + len - 1) / p->gran;

		while (from <= to && p->dirty[from] == 0)
			from++;
		n += from <= to ? len : 0;
	}
	return n;
}
