/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/crc32c.h"
#include "proto/base/io.h"
#include "proto/codec.h"
#include "repo/store/pack.h"

/* A repository's folder, a volume over it and a set over that. */
struct repo {
	char path[64];
	bool mounted;
	int fd;
	struct volume *v;
	struct pack_set *s;
};

/* As the ledger does it, with nobody appending in between. */
static int
mark_and_sync(struct pack_writer *w)
{
	pack_mark(w);
	return pack_sync(w);
}

static void
repo_open(struct repo *r, uint64_t data_limit, uint64_t reserve)
{
	struct pack_options o = { .chunk_size = CHUNK_SIZE_DEFAULT,
		.hash = HASH_SHA256,
		.data_limit = data_limit,
		.reserve = reserve };
	struct err e;

	memset(o.uuid, 0x77, sizeof(o.uuid));
	r->fd = open(r->path, O_RDONLY | O_DIRECTORY);
	assert_int_not_equal(r->fd, -1);
	assert_int_equal(volume_dir_init(r->fd, &e), 0);
	assert_int_equal(volume_dir_open(r->fd, &r->v, &e), 0);
	r->s = packs_new(r->v, &o);
}

static void
repo_new(struct repo *r, uint64_t data_limit)
{
	memset(r, 0, sizeof(*r));
	strcpy(r->path, "/tmp/test_pack.XXXXXX");
	assert_non_null(mkdtemp(r->path));
	repo_open(r, data_limit, 0);
	packs_number_from(r->s, 1, 1000);
}

static void
repo_close(struct repo *r)
{
	packs_free(r->s);
	volume_close(r->v);
	close(r->fd);
}

static int
remove_one(void *arg, const struct volume_name *name)
{
	struct repo *r = arg;

	return volume_remove(r->v, name->number);
}

static void
repo_end(struct repo *r)
{
	char path[128];

	volume_each(r->v, remove_one, r);
	repo_close(r);
	snprintf(path, sizeof(path), "%s/packs/0000", r->path);
	rmdir(path);
	snprintf(path, sizeof(path), "%s/packs", r->path);
	rmdir(path);
	if (r->mounted)
		assert_int_equal(umount(r->path), 0);
	assert_int_equal(rmdir(r->path), 0);
}

static int
pack_fd(struct repo *r, uint32_t number)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/packs/%04x/%08x.pack", r->path,
	    number / 1024, number);
	fd = open(path, O_RDWR);
	assert_int_not_equal(fd, -1);
	return fd;
}

static void
flip(struct repo *r, uint32_t number, uint64_t off)
{
	int fd = pack_fd(r, number);
	uint8_t b;

	assert_int_equal(pread(fd, &b, 1, (off_t)off), 1);
	b ^= 0x10;
	assert_int_equal(pwrite(fd, &b, 1, (off_t)off), 1);
	close(fd);
}

/* Record ${i}: its payload and id follow from its number. */
static void
fill(unsigned i, uint8_t *data, uint32_t len, struct record *r, uint8_t kind)
{
	memset(r, 0, sizeof(*r));
	for (uint32_t k = 0; k < len; k++)
		data[k] = (uint8_t)(i * 31 + k * 7 + (k >> 8));
	r->kind = kind;
	r->codec = CODEC_PLAIN;
	r->raw_len = r->stored_len = len;
	memset(r->id.b, (int)(i & 255), ID_LEN);
	memcpy(r->id.b, &i, sizeof(i));
}

static struct place
add(struct pack_writer *w, unsigned i, uint32_t len, uint8_t kind)
{
	uint8_t *data = xmalloc(len);
	struct record r;
	struct place p;

	fill(i, data, len, &r, kind);
	assert_int_equal(pack_append(w, &r, data, &p), 0);
	free(data);
	return p;
}

static int
read_back(struct repo *repo, const struct place *p, unsigned i, uint8_t kind)
{
	uint8_t *data = xmalloc(p->raw_len);
	struct buf out = { 0 };
	struct record r;
	int rc;

	fill(i, data, p->raw_len, &r, kind);
	rc = pack_read(repo->s, p, kind, &r.id, &out);
	if (rc == 0) {
		assert_int_equal(out.len, p->raw_len);
		assert_memory_equal(out.data, data, out.len);
	}
	buf_fini(&out);
	free(data);
	return rc;
}

struct seen {
	unsigned n, sound;
	unsigned first, last;
	uint32_t end;
};

static int
see(void *arg, const struct record *r, const struct place *p,
    const uint8_t *payload, bool sound)
{
	struct seen *s = arg;
	unsigned i;

	memcpy(&i, r->id.b, sizeof(i));
	if (sound && payload != NULL)
		assert_int_equal(
		    crc32c(0, payload, r->stored_len), r->payload_crc);
	if (s->n == 0)
		s->first = i;
	s->n++;
	s->sound += sound;
	s->last = i;
	assert_true(p->off >= s->end);
	s->end = p->off + RECORD_HEADER_LEN + r->stored_len;
	return 0;
}

static int
scan(struct repo *r, uint32_t number, uint64_t from, int flags,
    struct seen *seen, struct pack_scan *out)
{
	memset(seen, 0, sizeof(*seen));
	return pack_scan(r->s, number, from, flags, see, seen, out);
}

static void
see_info(void *arg, const struct pack_info *info)
{
	struct pack_info *all = arg;

	assert_true(info->number < 64);
	all[info->number] = *info;
}

static void
what_is_appended_can_be_read_before_and_after_sync(void **state)
{
	struct pack_info infos[64] = { 0 }, info;
	struct pack_writer *w;
	struct place p[20];
	struct seen seen;
	struct pack_scan out;
	struct repo r;

	(void)state;
	repo_new(&r, 4 << 20);
	w = pack_writer_new(r.s, PACK_DATA, 0);
	for (unsigned i = 0; i < 20; i++)
		p[i] = add(w, i, 1000 + i, RECORD_CHUNK);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(read_back(&r, &p[i], i, RECORD_CHUNK), 0);
	assert_true(pack_unsynced(w) > 20000);
	assert_int_equal(mark_and_sync(w), 0);
	assert_true(pack_unsynced(w) == 0);
	pack_synced(w, see_info, infos);
	assert_int_equal(infos[1].state, PACK_OPEN);
	assert_int_equal(infos[1].known, p[19].off + 64 + p[19].stored_len);
	assert_int_equal(packs_get(r.s, 1, &info), 0);
	assert_int_equal(packs_get(r.s, 2, &info), ERR_NOENT);
	/* A second call has nothing to tell. */
	memset(infos, 0, sizeof(infos));
	assert_int_equal(mark_and_sync(w), 0);
	pack_synced(w, see_info, infos);
	assert_int_equal(infos[1].number, 0);

	pack_finish(w);
	assert_int_equal(mark_and_sync(w), 0);
	pack_synced(w, see_info, infos);
	assert_int_equal(infos[1].state, PACK_SEALED);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(read_back(&r, &p[i], i, RECORD_CHUNK), 0);
	assert_int_equal(scan(&r, 1, 0, 0, &seen, &out), 0);
	assert_true(out.sealed);
	assert_int_equal(seen.n, 20);
	assert_int_equal(out.end, p[19].off + 64 + p[19].stored_len);
	/* Sealed: all of the file, and nothing reserved behind. */
	struct stat st;
	int fd = pack_fd(&r, 1);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, infos[1].known);
	assert_true((uint64_t)st.st_blocks * 512 < infos[1].known + 65536);
	close(fd);
	assert_int_equal(scan(&r, 1, 0, PACK_SCAN_NO_FOOTER | PACK_SCAN_PAYLOAD,
			     &seen, &out),
	    0);
	assert_int_equal(seen.sound, 20);
	assert_int_equal(out.gaps, 0);
	assert_int_equal(scan(&r, 1, p[10].off, 0, &seen, &out), 0);
	assert_int_equal(seen.n, 10);
	assert_int_equal(seen.first, 10);
	pack_writer_free(w);
	repo_end(&r);
}

static void
a_read_checks_all_that_the_place_says(void **state)
{
	struct pack_writer *w;
	struct buf out = { 0 };
	struct place p, q;
	struct record rec;
	uint8_t data[500], raw[564];
	struct repo r;

	(void)state;
	repo_new(&r, 4 << 20);
	w = pack_writer_new(r.s, PACK_DATA, 0);
	p = add(w, 5, 500, RECORD_CHUNK);
	fill(5, data, 500, &rec, RECORD_CHUNK);
	assert_int_equal(pack_read(r.s, &p, RECORD_CHUNK, &rec.id, &out), 0);
	assert_int_equal(
	    pack_read(r.s, &p, RECORD_NODE, &rec.id, &out), ERR_CORRUPT);
	q = p;
	q.off++;
	assert_int_equal(
	    pack_read(r.s, &q, RECORD_CHUNK, &rec.id, &out), ERR_CORRUPT);
	q = p;
	q.raw_len--;
	assert_int_equal(
	    pack_read(r.s, &q, RECORD_CHUNK, &rec.id, &out), ERR_CORRUPT);
	q = p;
	q.stored_len = UINT32_MAX;
	assert_int_equal(
	    pack_read(r.s, &q, RECORD_CHUNK, &rec.id, &out), ERR_CORRUPT);
	q = p;
	q.pack = 99;
	assert_int_equal(
	    pack_read(r.s, &q, RECORD_CHUNK, &rec.id, &out), ERR_NOENT);
	assert_int_equal(
	    pack_read_range(r.s, 1, p.off, (struct iovec[]){ { raw, 564 } }, 1),
	    0);
	assert_int_equal(pack_check(r.s, &p, RECORD_CHUNK, &rec.id, raw), 0);
	raw[300] ^= 1;
	assert_int_equal(
	    pack_check(r.s, &p, RECORD_CHUNK, &rec.id, raw), ERR_CORRUPT);
	assert_int_equal(
	    pack_read_range(r.s, 1, p.off, (struct iovec[]){ { raw, 565 } }, 1),
	    ERR_CORRUPT);
	rec.id.b[9] ^= 1;
	assert_int_equal(
	    pack_read(r.s, &p, RECORD_CHUNK, &rec.id, &out), ERR_CORRUPT);
	flip(&r, 1, p.off + 64 + 77);
	assert_int_equal(read_back(&r, &p, 5, RECORD_CHUNK), ERR_CORRUPT);
	buf_fini(&out);
	pack_writer_free(w);
	repo_end(&r);
}

static void
full_packs_rotate_and_are_sealed_by_the_next_sync(void **state)
{
	struct pack_info infos[64] = { 0 };
	struct pack_writer *w;
	struct place p[100];
	struct pack_scan out;
	struct seen seen;
	struct repo r;
	unsigned total = 0;

	(void)state;
	repo_new(&r, 100000);
	w = pack_writer_new(r.s, PACK_DATA, 0);
	for (unsigned i = 0; i < 100; i++)
		p[i] = add(w, i, 5000, RECORD_CHUNK);
	assert_true(p[99].pack > 4);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(read_back(&r, &p[i], i, RECORD_CHUNK), 0);
	assert_int_equal(scan(&r, 1, 0, 0, &seen, &out), 0);
	assert_false(out.sealed);
	assert_int_equal(mark_and_sync(w), 0);
	pack_synced(w, see_info, infos);
	for (uint32_t n = 1; n < p[99].pack; n++) {
		assert_int_equal(infos[n].state, PACK_SEALED);
		assert_true(infos[n].known <= 100000);
		assert_int_equal(scan(&r, n, 0, 0, &seen, &out), 0);
		assert_true(out.sealed);
		total += seen.n;
	}
	assert_int_equal(infos[p[99].pack].state, PACK_OPEN);
	assert_int_equal(scan(&r, p[99].pack, 0, 0, &seen, &out), 0);
	assert_int_equal(total + seen.n, 100);
	pack_finish(w);
	assert_int_equal(mark_and_sync(w), 0);
	pack_writer_free(w);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(read_back(&r, &p[i], i, RECORD_CHUNK), 0);
	repo_end(&r);
}

static void
numbers_run_out_without_harm(void **state)
{
	struct pack_writer *w;
	struct record rec;
	uint8_t data[100];
	struct place p;
	struct repo r;

	(void)state;
	memset(&r, 0, sizeof(r));
	strcpy(r.path, "/tmp/test_pack.XXXXXX");
	assert_non_null(mkdtemp(r.path));
	repo_open(&r, 1 << 20, 0);
	w = pack_writer_new(r.s, PACK_META, 0);
	fill(1, data, 100, &rec, RECORD_NODE);
	packs_number_from(r.s, 5, 6);
	assert_int_equal(pack_append(w, &rec, data, &p), ERR_LIMIT);
	packs_number_from(r.s, 6, 8);
	assert_int_equal(packs_numbers_left(r.s), 2);
	assert_int_equal(pack_append(w, &rec, data, &p), 0);
	assert_int_equal(p.pack, 6);
	assert_int_equal(packs_numbers_left(r.s), 0);
	pack_finish(w);
	assert_int_equal(pack_append(w, &rec, data, &p), ERR_CLOSED);
	pack_writer_free(w);
	repo_end(&r);
}

static void
meta_records_are_read_from_the_mirror(void **state)
{
	struct pack_writer *w;
	struct place p[10];
	struct pack_info info;
	struct pack_scan out, out2;
	struct seen seen;
	struct repo r;

	(void)state;
	repo_new(&r, 1 << 20);
	w = pack_writer_new(r.s, PACK_META, 0);
	for (unsigned i = 0; i < 10; i++)
		p[i] = add(w, i, 300, RECORD_NODE);
	pack_finish(w);
	assert_int_equal(mark_and_sync(w), 0);
	pack_writer_free(w);
	assert_int_equal(p[0].pack, 1);
	assert_int_equal(packs_get(r.s, 1, &info), 0);
	assert_int_equal(info.mirror, 2);
	assert_int_equal(scan(&r, 1, 0, 0, &seen, &out), 0);
	assert_int_equal(seen.n, 10);
	assert_int_equal(scan(&r, 2, 0, 0, &seen, &out2), 0);
	assert_int_equal(seen.n, 10);
	assert_true(out.header.tag != out2.header.tag);
	assert_int_equal(out2.header.mirror, 1);
	flip(&r, 1, p[3].off + 64 + 5); /* payload of one copy */
	flip(&r, 1, p[4].off + 20);     /* header of one copy */
	flip(&r, 1, p[5].off + 70);
	flip(&r, 2, p[5].off + 70); /* both copies */
	assert_int_equal(read_back(&r, &p[3], 3, RECORD_NODE), 0);
	assert_int_equal(read_back(&r, &p[4], 4, RECORD_NODE), 0);
	assert_int_equal(read_back(&r, &p[5], 5, RECORD_NODE), ERR_CORRUPT);
	assert_int_equal(packs_get(r.s, 1, &info), 0);
	/* The first file is gone, the table still has it. */
	assert_int_equal(packs_remove(r.s, 1), 0);
	assert_int_equal(read_back(&r, &p[6], 6, RECORD_NODE), ERR_NOENT);
	packs_add(r.s, &info);
	assert_int_equal(read_back(&r, &p[6], 6, RECORD_NODE), 0);
	repo_end(&r);
}

static void
a_torn_tail_ends_at_the_last_whole_record(void **state)
{
	struct pack_writer *w;
	struct pack_scan out;
	struct place p[10];
	struct seen seen;
	struct repo r;
	int fd;

	(void)state;
	repo_new(&r, 4 << 20);
	w = pack_writer_new(r.s, PACK_DATA, 0);
	for (unsigned i = 0; i < 10; i++)
		p[i] = add(w, i, 2000, RECORD_CHUNK);
	pack_writer_free(w);
	fd = pack_fd(&r, 1);
	/* Cut within the last payload, then within the last header. */
	assert_int_equal(ftruncate(fd, p[9].off + 1000), 0);
	assert_int_equal(scan(&r, 1, 0, PACK_SCAN_PAYLOAD, &seen, &out), 0);
	assert_false(out.sealed);
	assert_int_equal(seen.sound, 9);
	assert_int_equal(out.end, p[9].off);
	assert_int_equal(ftruncate(fd, p[9].off + 30), 0);
	assert_int_equal(scan(&r, 1, 0, 0, &seen, &out), 0);
	assert_int_equal(seen.sound, 9);
	assert_int_equal(out.end, p[9].off);
	assert_int_equal(out.gaps, 0);
	/* A hole where the tail was. */
	assert_int_equal(ftruncate(fd, p[9].off + 100000), 0);
	assert_int_equal(scan(&r, 1, 0, 0, &seen, &out), 0);
	assert_int_equal(out.end, p[9].off);
	assert_int_equal(out.gaps, 0);
	/* The last payload did not reach the disk. */
	flip(&r, 1, p[8].off + 64 + 1999);
	assert_int_equal(scan(&r, 1, 0, 0, &seen, &out), 0);
	assert_int_equal(seen.n, 9);
	assert_int_equal(seen.sound, 8);
	assert_int_equal(out.end, p[8].off);
	assert_int_equal(out.damaged, 0);
	/* A hole in the middle: the later ones are told. */
	flip(&r, 1, p[2].off + 3);
	flip(&r, 1, p[4].off + 64);
	assert_int_equal(scan(&r, 1, 0, 0, &seen, &out), 0);
	assert_int_equal(seen.sound, 6);
	assert_int_equal(out.end, p[8].off);
	assert_int_equal(out.gaps, 1);
	assert_int_equal(out.damaged, 1);
	close(fd);
	/* Sealing cuts it there and lists what is sound. */
	assert_int_equal(pack_seal_tail(r.s, 1, out.end), 0);
	assert_int_equal(scan(&r, 1, 0, PACK_SCAN_PAYLOAD, &seen, &out), 0);
	assert_true(out.sealed);
	assert_int_equal(seen.n, 6);
	assert_int_equal(seen.sound, 6);
	assert_int_equal(out.end, p[8].off);
	assert_int_equal(pack_seal_tail(r.s, 1, out.end), 0);
	assert_int_equal(read_back(&r, &p[7], 7, RECORD_CHUNK), 0);
	repo_end(&r);
}

static void
every_cut_of_an_open_pack_leaves_a_prefix(void **state)
{
	struct pack_writer *w;
	struct pack_scan out;
	struct place p[4];
	struct seen seen;
	struct repo r;
	uint32_t len;
	int fd;

	(void)state;
	repo_new(&r, 4 << 20);
	w = pack_writer_new(r.s, PACK_DATA, 0);
	for (unsigned i = 0; i < 4; i++)
		p[i] = add(w, i, 100, RECORD_CHUNK);
	pack_finish(w);
	assert_int_equal(mark_and_sync(w), 0);
	pack_writer_free(w);
	fd = pack_fd(&r, 1);
	len = (uint32_t)lseek(fd, 0, SEEK_END);
	while (--len > 0) {
		unsigned whole = 0;

		assert_int_equal(ftruncate(fd, len), 0);
		for (unsigned i = 0; i < 4; i++)
			whole += p[i].off + 64 + 100 <= len;
		if (len < PACK_HEADER_LEN) {
			assert_int_equal(
			    scan(&r, 1, 0, 0, &seen, &out), ERR_CORRUPT);
			continue;
		}
		assert_int_equal(scan(&r, 1, 0, 0, &seen, &out), 0);
		assert_false(out.sealed);
		assert_int_equal(seen.n, whole);
		assert_int_equal(
		    out.end, whole > 0 ? p[whole - 1].off + 164 : 128);
		assert_int_equal(out.gaps, 0);
	}
	close(fd);
	repo_end(&r);
}

static void
a_sealed_pack_with_flipped_bits_still_tells_the_rest(void **state)
{
	struct pack_info infos[64] = { 0 };
	struct pack_writer *w;
	struct pack_scan out;
	struct place p[10];
	struct seen seen;
	struct repo r;

	(void)state;
	repo_new(&r, 4 << 20);
	w = pack_writer_new(r.s, PACK_DATA, 0);
	for (unsigned i = 0; i < 10; i++)
		p[i] = add(w, i, 2000, RECORD_CHUNK);
	pack_finish(w);
	assert_int_equal(mark_and_sync(w), 0);
	pack_synced(w, see_info, infos);
	pack_writer_free(w);
	flip(&r, 1, p[3].off + 64);
	flip(&r, 1, p[6].off + 30);
	assert_int_equal(scan(&r, 1, 0, 0, &seen, &out), 0);
	assert_int_equal(seen.sound, 10); /* the footer's word */
	assert_int_equal(scan(&r, 1, 0, PACK_SCAN_PAYLOAD, &seen, &out), 0);
	assert_int_equal(seen.n, 10);
	assert_int_equal(seen.sound, 8);
	assert_int_equal(out.damaged, 2);
	assert_int_equal(scan(&r, 1, 0, PACK_SCAN_NO_FOOTER, &seen, &out), 0);
	assert_int_equal(seen.n, 9);
	assert_int_equal(out.gaps, 1);
	/* Without the footer too. */
	flip(&r, 1, infos[1].known - 3);
	assert_int_equal(scan(&r, 1, 0, PACK_SCAN_PAYLOAD, &seen, &out), 0);
	assert_false(out.sealed);
	assert_int_equal(seen.n, 9);
	assert_int_equal(seen.sound, 8);
	assert_int_equal(out.gaps, 1);
	assert_int_equal(out.end, p[9].off + 64 + 2000);
	/* Footer's list flipped, trailer good. */
	flip(&r, 1, infos[1].known - 3);
	flip(&r, 1, infos[1].known - 100);
	assert_int_equal(scan(&r, 1, 0, 0, &seen, &out), 0);
	assert_false(out.sealed);
	flip(&r, 1, 20); /* the pack's header */
	assert_int_equal(scan(&r, 1, 0, 0, &seen, &out), ERR_CORRUPT);
	repo_end(&r);
}

static void
guest_data_that_imitates_records_is_only_data(void **state)
{
	uint8_t inner[1000], data[64 * 40];
	struct pack_writer *w;
	struct pack_scan out, victim;
	struct record rec, fake;
	struct place p, last, m;
	struct seen seen;
	struct repo r;
	int fd;

	(void)state;
	repo_new(&r, 4 << 20);
	/* The guest knows another pack's tag, even a real one's. */
	w = pack_writer_new(r.s, PACK_DATA, 0);
	add(w, 1, 100, RECORD_CHUNK);
	pack_writer_free(w);
	assert_int_equal(scan(&r, 1, 0, 0, &seen, &victim), 0);
	memset(inner, 0, sizeof(inner));
	fill(77, inner, sizeof(inner), &fake, RECORD_CHUNK);
	fake.payload_crc = crc32c(0, inner, 0);
	fake.raw_len = fake.stored_len = 0;
	for (unsigned i = 0; i < sizeof(data) / 64; i++) {
		fake.kind = i % 2 ? RECORD_CHUNK : RECORD_MANIFEST;
		record_print(&fake, victim.header.tag, data + 64 * i);
	}
	w = pack_writer_new(r.s, PACK_DATA, 0);
	memset(&rec, 0, sizeof(rec));
	rec.kind = RECORD_CHUNK;
	rec.raw_len = rec.stored_len = sizeof(data);
	assert_int_equal(pack_append(w, &rec, data, &p), 0);
	last = add(w, 2, 100, RECORD_CHUNK);
	pack_writer_free(w);
	assert_int_equal(scan(&r, 2, 0, PACK_SCAN_PAYLOAD, &seen, &out), 0);
	assert_int_equal(seen.n, 2);
	/* Also when its header is lost and its payload is searched. */
	flip(&r, 2, p.off + 9);
	assert_int_equal(scan(&r, 2, 0, PACK_SCAN_PAYLOAD, &seen, &out), 0);
	assert_int_equal(seen.n, 1);
	assert_int_equal(seen.last, 2);
	assert_int_equal(out.gaps, 1);
	assert_int_equal(out.end, last.off + 164);
	/* With this pack's own tag, a manifest in a data pack is not told. */
	fd = pack_fd(&r, 2);
	fake.kind = RECORD_MANIFEST;
	record_print(&fake, out.header.tag, data);
	assert_int_equal(pwrite(fd, data, 64, (off_t)out.end), 64);
	close(fd);
	assert_int_equal(scan(&r, 2, 0, 0, &seen, &out), 0);
	assert_int_equal(seen.n, 1);
	/* And a meta pack does not tell chunks. */
	w = pack_writer_new(r.s, PACK_META, 0);
	m = add(w, 3, 50, RECORD_NODE);
	pack_writer_free(w);
	assert_int_equal(scan(&r, m.pack, 0, 0, &seen, &out), 0);
	assert_int_equal(seen.n, 1);
	fd = pack_fd(&r, m.pack);
	fake.kind = RECORD_CHUNK;
	record_print(&fake, out.header.tag, data);
	assert_int_equal(pwrite(fd, data, 64, (off_t)out.end), 64);
	close(fd);
	assert_int_equal(scan(&r, m.pack, 0, 0, &seen, &out), 0);
	assert_int_equal(seen.n, 1);
	repo_end(&r);
}

static void
a_pack_of_another_name_is_refused(void **state)
{
	char from[128], to[128];
	struct pack_writer *w;
	struct pack_scan out;
	struct seen seen;
	struct repo r;

	(void)state;
	repo_new(&r, 4 << 20);
	w = pack_writer_new(r.s, PACK_DATA, 0);
	add(w, 1, 100, RECORD_CHUNK);
	pack_writer_free(w);
	snprintf(from, sizeof(from), "%s/packs/0000/00000001.pack", r.path);
	snprintf(to, sizeof(to), "%s/packs/0000/00000002.pack", r.path);
	assert_int_equal(rename(from, to), 0);
	assert_int_equal(scan(&r, 1, 0, 0, &seen, &out), ERR_NOENT);
	assert_int_equal(scan(&r, 2, 0, 0, &seen, &out), ERR_CORRUPT);
	repo_end(&r);
}

static void
a_full_disk_fails_appends_and_nothing_else(void **state)
{
	enum { RESERVE = 2 << 20, LEN = 60000 };
	struct pack_info infos[64] = { 0 };
	struct pack_writer *w, *m;
	struct place p[200], q;
	uint64_t avail, total;
	struct record rec;
	struct repo r;
	unsigned n = 0;
	uint8_t *data = xmalloc(LEN);
	int rc;

	(void)state;
	memset(&r, 0, sizeof(r));
	strcpy(r.path, "/tmp/test_pack.XXXXXX");
	assert_non_null(mkdtemp(r.path));
	if (mount("tmpfs", r.path, "tmpfs", 0, "size=8m") == -1)
		fail_msg("needs to mount a tmpfs (run as root): %s",
		    strerror(errno));
	r.mounted = true;
	repo_open(&r, 64 << 20, RESERVE);
	packs_number_from(r.s, 1, 50);
	w = pack_writer_new(r.s, PACK_DATA, 0);
	m = pack_writer_new(r.s, PACK_META, 0);
	q = add(m, 1000, 100, RECORD_NODE);
	for (;; n++) {
		assert_true(n < 200);
		fill(n, data, LEN, &rec, RECORD_CHUNK);
		rc = pack_append(w, &rec, data, &p[n]);
		if (rc != 0)
			break;
	}
	assert_int_equal(rc, ERR_NOSPC);
	assert_true(n > 40); /* the steps shrank to what was left */
	assert_int_equal(volume_space(r.v, &avail, &total), 0);
	assert_true(avail >= RESERVE && avail < RESERVE + 2 * LEN);
	assert_int_equal(pack_append(w, &rec, data, &p[n]), ERR_NOSPC);
	/* What ingest leaves free is there for those who may take it. */
	while (pack_append_reserved(w, &rec, data, &p[n]) == 0) {
		n++;
		assert_true(n < 200);
		fill(n, data, LEN, &rec, RECORD_CHUNK);
	}
	assert_int_equal(volume_space(r.v, &avail, &total), 0);
	assert_true(avail < 2 * LEN);
	/* The writer is still good, and can be sealed with no space left. */
	int fill_fd = openat(r.fd, "fill", O_WRONLY | O_CREAT, 0600);
	while (write(fill_fd, data, LEN) > 0)
		;
	pack_finish(w);
	assert_int_equal(mark_and_sync(w), 0);
	pack_synced(w, see_info, infos);
	assert_int_equal(infos[p[0].pack].state, PACK_SEALED);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(read_back(&r, &p[i], i, RECORD_CHUNK), 0);
	/* Space came back: another writer goes on. */
	close(fill_fd);
	assert_int_equal(unlinkat(r.fd, "fill", 0), 0);
	for (unsigned i = 0; i < n; i++)
		if (i == 0 || p[i].pack != p[i - 1].pack)
			assert_int_equal(packs_remove(r.s, p[i].pack), 0);
	add(m, 1001, 100, RECORD_NODE);
	assert_int_equal(read_back(&r, &q, 1000, RECORD_NODE), 0);
	pack_writer_free(w);
	w = pack_writer_new(r.s, PACK_DATA, 0);
	add(w, 5, LEN, RECORD_CHUNK);
	pack_writer_free(w);
	pack_writer_free(m);
	free(data);
	repo_end(&r);
}

static void
a_tail_is_sealed_when_there_is_space_again(void **state)
{
	uint8_t *data = xcalloc(1, 1 << 16);
	struct pack_writer *w;
	struct pack_scan out;
	struct place p[3];
	struct seen seen;
	struct repo r;
	int fd;

	(void)state;
	memset(&r, 0, sizeof(r));
	strcpy(r.path, "/tmp/test_pack.XXXXXX");
	assert_non_null(mkdtemp(r.path));
	if (mount("tmpfs", r.path, "tmpfs", 0, "size=1m") == -1)
		fail_msg("needs to mount a tmpfs (run as root): %s",
		    strerror(errno));
	r.mounted = true;
	repo_open(&r, 512 << 10, 0);
	packs_number_from(r.s, 1, 50);
	w = pack_writer_new(r.s, PACK_DATA, 0);
	/* The last record ends where a page does: a footer needs another. */
	p[0] = add(w, 0, 100, RECORD_CHUNK);
	p[1] = add(w, 1, 4096 * 4 - 128 - 164 - 64, RECORD_CHUNK);
	assert_int_equal((p[1].off + 64 + p[1].stored_len) % 4096, 0);
	p[2] = add(w, 2, 100, RECORD_CHUNK);
	pack_writer_free(w);
	fd = pack_fd(&r, 1);
	assert_int_equal(ftruncate(fd, p[2].off), 0);
	close(fd);
	fd = openat(r.fd, "fill", O_WRONLY | O_CREAT, 0600);
	while (write(fd, data, 1 << 16) > 0)
		;
	while (write(fd, data, 1) > 0)
		;
	assert_int_equal(scan(&r, 1, 0, 0, &seen, &out), 0);
	assert_int_equal(out.end, p[2].off);
	assert_int_equal(pack_seal_tail(r.s, 1, out.end), ERR_NOSPC);
	assert_int_equal(scan(&r, 1, 0, 0, &seen, &out), 0);
	assert_false(out.sealed);
	assert_int_equal(seen.sound, 2);
	close(fd);
	assert_int_equal(unlinkat(r.fd, "fill", 0), 0);
	assert_int_equal(pack_seal_tail(r.s, 1, out.end + 1), ERR_CORRUPT);
	assert_int_equal(pack_seal_tail(r.s, 1, out.end), 0);
	assert_int_equal(scan(&r, 1, 0, 0, &seen, &out), 0);
	assert_true(out.sealed);
	assert_int_equal(seen.n, 2);
	assert_int_equal(read_back(&r, &p[1], 1, RECORD_CHUNK), 0);
	free(data);
	repo_end(&r);
}

static void
more_packs_than_handles_are_read(void **state)
{
	enum { N = 300 };
	struct place p[N];
	struct pack_writer *w;
	struct repo r;

	(void)state;
	repo_new(&r, 500);
	w = pack_writer_new(r.s, PACK_DATA, 0);
	for (unsigned i = 0; i < N; i++)
		p[i] = add(w, i, 100, RECORD_CHUNK);
	assert_int_equal(p[N - 1].pack, N);
	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < N; i++)
			assert_int_equal(
			    read_back(&r, &p[i], i, RECORD_CHUNK), 0);
	pack_writer_free(w);
	repo_end(&r);
}

/* A volume whose syncs or writes fail when told to; all else is the real one.
 */
static struct volume_file_ops failing_file;
static const struct volume_file_ops *real_file;
static int (*real_create)(
    struct volume *v, uint32_t number, struct volume_file **out);
static atomic_bool sync_fails;
static int writes_left = -1; /* then one tears; -1: none does */

static int
sync_or_fail(struct volume_file *f)
{
	return atomic_load(&sync_fails) ? ERR_SYS : real_file->sync(f);
}

static int
write_or_tear(struct volume_file *f, struct iovec *iov, int n, uint64_t off)
{
	if (writes_left == 0) {
		writes_left = -1;
		iov[n - 1].iov_len /= 2;
		assert_int_equal(real_file->write(f, iov, n, off), 0);
		return ERR_SYS;
	}
	if (writes_left > 0)
		writes_left--;
	return real_file->write(f, iov, n, off);
}

static int
create_failing(struct volume *v, uint32_t number, struct volume_file **out)
{
	int rc = real_create(v, number, out);

	if (rc == 0) {
		real_file = (*out)->ops;
		failing_file = *real_file;
		failing_file.sync = sync_or_fail;
		failing_file.write = write_or_tear;
		(*out)->ops = &failing_file;
	}
	return rc;
}

static int
count_poisoned(void *arg, const struct volume_name *name)
{
	*(unsigned *)arg += name->poisoned;
	return 0;
}

static void
a_failed_sync_poisons_what_was_not_synced(void **state)
{
	struct pack_info infos[64] = { 0 }, info;
	struct volume_ops ops;
	struct pack_writer *w;
	struct place p[3];
	struct pack_scan out;
	struct seen seen;
	unsigned poisoned = 0;
	struct record rec;
	uint8_t data[100];
	struct repo r;

	(void)state;
	repo_new(&r, 4 << 20);
	ops = *r.v->ops;
	real_create = ops.create;
	ops.create = create_failing;
	r.v->ops = &ops;
	w = pack_writer_new(r.s, PACK_META, 0);
	p[0] = add(w, 0, 100, RECORD_NODE);
	assert_int_equal(mark_and_sync(w), 0);
	p[1] = add(w, 1, 100, RECORD_NODE);
	atomic_store(&sync_fails, true);
	assert_int_equal(mark_and_sync(w), ERR_SYS);
	atomic_store(&sync_fails, false);
	fill(2, data, 100, &rec, RECORD_NODE);
	assert_int_equal(pack_append(w, &rec, data, &p[2]), ERR_SYS);
	assert_int_equal(pack_poison(w), 0);
	pack_synced(w, see_info, infos);
	assert_int_equal(infos[1].state, PACK_POISONED);
	assert_int_equal(infos[2].state, PACK_POISONED);
	assert_int_equal(infos[1].known, p[1].off);
	assert_int_equal(infos[1].durable, p[1].off);
	pack_writer_free(w);
	assert_int_equal(volume_each(r.v, count_poisoned, &poisoned), 0);
	assert_int_equal(poisoned, 2);
	assert_int_equal(packs_get(r.s, 1, &info), 0);
	assert_int_equal(info.state, PACK_POISONED);
	/* Readable up to what was synced, no further. */
	assert_int_equal(read_back(&r, &p[0], 0, RECORD_NODE), 0);
	assert_int_equal(read_back(&r, &p[1], 1, RECORD_NODE), ERR_CORRUPT);
	assert_int_equal(scan(&r, 1, 0, 0, &seen, &out), 0);
	assert_int_equal(seen.n, 1);
	repo_end(&r);
}

static void
a_torn_append_ends_the_writer_and_nothing_else(void **state)
{
	struct pack_writer *w;
	struct pack_scan out;
	struct volume_ops ops;
	struct place p[5];
	struct record rec;
	struct seen seen;
	uint8_t data[1000];
	struct repo r;

	(void)state;
	repo_new(&r, 4 << 20);
	ops = *r.v->ops;
	real_create = ops.create;
	ops.create = create_failing;
	r.v->ops = &ops;
	w = pack_writer_new(r.s, PACK_META, 0);
	for (unsigned i = 0; i < 4; i++)
		p[i] = add(w, i, 1000, RECORD_NODE);
	fill(4, data, 1000, &rec, RECORD_NODE);
	writes_left = 1; /* the second copy */
	assert_int_equal(pack_append(w, &rec, data, &p[4]), ERR_SYS);
	assert_int_equal(pack_append(w, &rec, data, &p[4]), ERR_SYS);
	pack_finish(w);
	assert_int_equal(mark_and_sync(w), 0);
	pack_writer_free(w);
	for (uint32_t n = 1; n <= 2; n++) {
		assert_int_equal(
		    scan(&r, n, 0, PACK_SCAN_PAYLOAD, &seen, &out), 0);
		assert_true(out.sealed);
		assert_int_equal(seen.sound, 4);
		assert_int_equal(out.end, p[3].off + 1064);
	}
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(read_back(&r, &p[i], i, RECORD_NODE), 0);
	repo_end(&r);
}

struct appender {
	struct repo *r;
	struct pack_writer *w;
	unsigned first, n;
	struct place *p;
};

static void *
append_many(void *arg)
{
	struct appender *a = arg;

	for (unsigned i = a->first; i < a->first + a->n; i++) {
		a->p[i] = add(a->w, i, 3000, RECORD_CHUNK);
		if (i % 8 == 0 &&
		    read_back(a->r, &a->p[i], i, RECORD_CHUNK) != 0)
			abort();
	}
	return NULL;
}

static void
threads_append_read_and_sync_at_once(void **state)
{
	enum { THREADS = 4, EACH = 500 };
	struct place *p = xcalloc(THREADS * EACH, sizeof(*p));
	struct pack_info infos[64] = { 0 };
	struct appender a[THREADS];
	pthread_t t[THREADS];
	struct pack_writer *w;
	struct repo r;

	(void)state;
	repo_new(&r, 200000);
	w = pack_writer_new(r.s, PACK_DATA, 0);
	for (unsigned i = 0; i < THREADS; i++) {
		a[i] = (struct appender){
			.r = &r, .w = w, .first = i * EACH, .n = EACH, .p = p
		};
		assert_int_equal(
		    pthread_create(&t[i], NULL, append_many, &a[i]), 0);
	}
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(mark_and_sync(w), 0);
		pack_synced(w, see_info, infos);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	pack_finish(w);
	assert_int_equal(mark_and_sync(w), 0);
	pack_synced(w, see_info, infos);
	pack_writer_free(w);
	for (unsigned i = 0; i < THREADS * EACH; i++) {
		assert_int_equal(infos[p[i].pack].state, PACK_SEALED);
		assert_int_equal(read_back(&r, &p[i], i, RECORD_CHUNK), 0);
	}
	free(p);
	repo_end(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    what_is_appended_can_be_read_before_and_after_sync),
		cmocka_unit_test(a_read_checks_all_that_the_place_says),
		cmocka_unit_test(
		    full_packs_rotate_and_are_sealed_by_the_next_sync),
		cmocka_unit_test(numbers_run_out_without_harm),
		cmocka_unit_test(meta_records_are_read_from_the_mirror),
		cmocka_unit_test(a_torn_tail_ends_at_the_last_whole_record),
		cmocka_unit_test(every_cut_of_an_open_pack_leaves_a_prefix),
		cmocka_unit_test(
		    a_sealed_pack_with_flipped_bits_still_tells_the_rest),
		cmocka_unit_test(guest_data_that_imitates_records_is_only_data),
		cmocka_unit_test(a_pack_of_another_name_is_refused),
		cmocka_unit_test(a_full_disk_fails_appends_and_nothing_else),
		cmocka_unit_test(a_failed_sync_poisons_what_was_not_synced),
		cmocka_unit_test(a_tail_is_sealed_when_there_is_space_again),
		cmocka_unit_test(more_packs_than_handles_are_read),
		cmocka_unit_test(
		    a_torn_append_ends_the_writer_and_nothing_else),
		cmocka_unit_test(threads_append_read_and_sync_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
