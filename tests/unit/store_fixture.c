/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/store_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/bytes.h"
#include "repo/store/fsck.h"

static void
see_backup(void *arg, const struct manifest *m)
{
	struct fixture *f = arg;

	assert_true(f->nbackups < 64);
	f->backups[f->nbackups++] = *m;
}

void
fixture_open(struct fixture *f)
{
	struct store_options o = { .batch_ms = 20, .reserve = 1 };
	struct err e = { 0 };
	int rc;

	f->nbackups = 0;
	rc = store_open(f->dir, &o, see_backup, f, &f->store, &e);
	if (rc != 0)
		print_error("open: %s\n", e.text);
	assert_int_equal(rc, 0);
	f->lane = store_lane_new(f->store, NULL);
}

void
fixture_close(struct fixture *f)
{
	store_lane_free(f->lane);
	store_close(f->store);
	f->lane = NULL;
	f->store = NULL;
}

void
fixture_make(struct fixture *f)
{
	struct err e = { 0 };

	strcpy(f->dir, "/tmp/backstay-test-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	assert_int_equal(store_init(f->dir, FIXTURE_CHUNK, false, NULL, &e), 0);
	fixture_open(f);
}

void
fixture_remove(struct fixture *f)
{
	char command[128];

	if (f->store != NULL)
		fixture_close(f);
	snprintf(command, sizeof(command), "rm -rf %s", f->dir);
	assert_int_equal(system(command), 0);
}

void
fixture_chunk(
    uint32_t n, uint32_t len, struct id *id, uint8_t data[FIXTURE_CHUNK])
{
	struct hasher *h = hasher_new(NULL);
	uint64_t x = (uint64_t)n * 0x9e3779b97f4a7c15u + 1;

	for (uint32_t i = 0; i < FIXTURE_CHUNK; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		put_le64(data + i, x);
	}
	hasher_chunk(h, data, len, id);
	hasher_free(h);
}

int
fixture_put(struct fixture *f, struct store_session *x, uint32_t n,
    uint32_t len, uint64_t *stored)
{
	static uint8_t data[FIXTURE_CHUNK];
	struct store_put p = {
		.raw_len = len, .stored_len = len, .data = data
	};
	struct err e;

	fixture_chunk(n, len, &p.id, data);
	return store_put_chunk(x, f->lane, &p, stored, &e);
}

static void
put_node(
    struct fixture *f, struct store_session *x, struct node *n, struct id *id)
{
	uint8_t body[NODE_LEN_MAX], missing[NODE_FANOUT / 8];
	struct hasher *h = hasher_new(NULL);
	struct err e = { 0 };
	size_t len;

	node_trim(n);
	len = node_print(n, body);
	hasher_node(h, body, len, id);
	hasher_free(h);
	assert_int_equal(store_put_node(x, f->lane, body, len, missing, &e), 0);
}

uint64_t
fixture_tree(struct fixture *f, struct store_session *x, uint32_t first,
    uint32_t nchunks, uint32_t tail_len, struct id *root)
{
	static uint8_t data[FIXTURE_CHUNK];
	size_t n = nchunks;
	struct id *ids = calloc(n, sizeof(*ids));
	uint64_t stored;

	for (uint32_t i = 0; i < nchunks; i++) {
		uint32_t len = i + 1 == nchunks ? tail_len : FIXTURE_CHUNK;

		assert_int_equal(fixture_put(f, x, first + i, len, &stored), 0);
		fixture_chunk(first + i, len, &ids[i], data);
	}
	for (uint8_t level = 0; level == 0 || n > 1; level++) {
		size_t above = (n + NODE_FANOUT - 1) / NODE_FANOUT;

		for (size_t i = 0; i < above; i++) {
			struct node node = { .level = level };

			for (size_t k = 0;
			     k < NODE_FANOUT && i * NODE_FANOUT + k < n; k++)
				node.child[k] = ids[i * NODE_FANOUT + k];
			node.tail = i + 1 == above && tail_len != FIXTURE_CHUNK;
			put_node(f, x, &node, &ids[i]);
		}
		n = above;
	}
	*root = ids[0];
	free(ids);
	return (uint64_t)(nchunks - 1) * FIXTURE_CHUNK + tail_len;
}

void
fixture_backup(struct fixture *f, const char *vm, uint32_t first,
    uint32_t nchunks, struct manifest *m)
{
	struct store_session *x;
	struct err e = { 0 };
	int rc;

	memset(m, 0, sizeof(*m));
	assert_int_equal(store_begin(f->store, 0, &x, &e), 0);
	strcpy(m->vm, vm);
	strcpy(m->host, "test");
	strcpy(m->consistency, "offline");
	m->nvolumes = 1;
	strcpy(m->volume[0].name, "vda");
	strcpy(m->volume[0].kind, "disk");
	strcpy(m->volume[0].format, "raw");
	m->volume[0].size =
	    fixture_tree(f, x, first, nchunks, 1000, &m->volume[0].root);
	rc = store_commit(x, f->lane, m, NULL, 0, &e);
	if (rc != 0)
		print_error("commit: %s\n", e.text);
	assert_int_equal(rc, 0);
	store_end(x);
}

struct verify {
	const struct manifest *m;
	uint32_t first;
	uint32_t seen;
};

static int
verify_slice(void *arg, uint64_t slice, uint8_t codec, uint32_t raw_len,
    const uint8_t *data, size_t len, struct err *e)
{
	static uint8_t want[FIXTURE_CHUNK];
	struct verify *v = arg;
	struct id id;

	(void)e;
	assert_int_equal(codec, 0);
	assert_int_equal(len, raw_len);
	fixture_chunk(v->first + (uint32_t)slice, raw_len, &id, want);
	assert_memory_equal(data, want, len);
	v->seen++;
	return 0;
}

void
fixture_verify(struct fixture *f, const struct manifest *m, uint32_t first)
{
	const struct manifest_volume *vol = &m->volume[0];
	uint64_t n = chunk_nslices(vol->size, FIXTURE_CHUNK);
	struct verify v = { .m = m, .first = first };
	struct err e = { 0 };

	for (uint64_t at = 0; at < n; at += 100) {
		uint32_t lot = n - at < 100 ? (uint32_t)(n - at) : 100;
		int rc = store_read_slices(f->store, f->lane, &vol->root,
		    vol->size, at, lot, verify_slice, &v, &e);

		if (rc != 0)
			print_error("read: %s\n", e.text);
		assert_int_equal(rc, 0);
	}
	assert_int_equal(v.seen, n);
}

static void
say(void *arg, const char *line)
{
	(void)arg;
	print_error("fsck: %s\n", line);
}

void
fixture_fsck(struct fixture *f, bool rebuild)
{
	struct fsck_options o = { .rebuild = rebuild, .data = true };
	struct fsck_report r;
	struct err e = { 0 };
	int rc;

	assert_null(f->store);
	rc = fsck(f->dir, &o, say, NULL, &r, &e);
	if (rc != 0)
		print_error("fsck: %s\n", e.text);
	assert_int_equal(rc, 0);
	assert_true(fsck_clean(&r));
}
