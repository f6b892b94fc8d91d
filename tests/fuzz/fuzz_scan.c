/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pack of any content is scanned to its end.  What is told lies within it,
 * in order, and is what lies there; a second scan from any record told tells
 * the rest of them.
 *
 * The first byte holds the flags of the scan.  A pack's header that is not
 * one is replaced by a good one with its tag, and the checksums of headers are
 * made right where the magic stands, so that all states are reached.
 */
#include <stdlib.h>
#include <string.h>

#include "proto/base/bytes.h"
#include "proto/base/crc32c.h"
#include "repo/store/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TAG = 0x42, SIZE_MAX_IN = 1 << 16 };

static uint8_t content[SIZE_MAX_IN];
static size_t content_len;

static int
mem_read(
    struct volume_file *f, struct iovec *iov, int n, uint64_t off, size_t *got)
{
	(void)f;
	*got = 0;
	for (int i = 0; i < n && off + *got < content_len; i++) {
		size_t left = content_len - off - *got;
		size_t len = left < iov[i].iov_len ? left : iov[i].iov_len;

		memcpy(iov[i].iov_base, content + off + *got, len);
		*got += len;
	}
	return 0;
}

static int
mem_size(struct volume_file *f, uint64_t *size)
{
	(void)f;
	*size = content_len;
	return 0;
}

static void
mem_close(struct volume_file *f)
{
	(void)f;
}

static const struct volume_file_ops mem_file_ops = {
	.read = mem_read, .size = mem_size, .close = mem_close
};
static struct volume_file mem_file = { .ops = &mem_file_ops };

static int
mem_open(
    struct volume *v, uint32_t number, bool writing, struct volume_file **out)
{
	(void)v;
	(void)number;
	(void)writing;
	*out = &mem_file;
	return 0;
}

static const struct volume_ops mem_ops = { .open = mem_open };
static struct volume mem = { .ops = &mem_ops };

struct seen {
	unsigned n;
	uint64_t end, middle;
	unsigned sound;
};

static int
see(void *arg, const struct record *r, const struct place *p,
    const uint8_t *payload, bool sound)
{
	struct seen *s = arg;
	struct record there;

	if (p->off < s->end || p->pack != 1)
		abort();
	s->end = (uint64_t)p->off + RECORD_HEADER_LEN + r->stored_len;
	if (sound && payload != NULL) {
		/* It is sound, so all of it is there. */
		if (s->end > content_len ||
		    record_parse(content + p->off, TAG, &there) != 0 ||
		    !id_equal(&there.id, &r->id) ||
		    crc32c(0, payload, r->stored_len) != there.payload_crc)
			abort();
	}
	s->n++;
	s->sound += sound;
	if (s->n == 2)
		s->middle = p->off;
	return 0;
}

static void
make_plausible(void)
{
	struct pack_header h = { .type = content[16] == PACK_META ? PACK_META
								  : PACK_DATA,
		.number = 1,
		.mirror = content[16] == PACK_META ? 2 : 0,
		.chunk_size = CHUNK_SIZE_DEFAULT,
		.hash = HASH_SHA256,
		.tag = TAG };

	pack_header_print(&h, content);
	for (size_t i = PACK_HEADER_LEN; i + RECORD_HEADER_LEN <= content_len;
	     i++) {
		uint8_t *at = content + i;
		size_t len;

		if (memcmp(at, "BSR\xd7", 4) != 0)
			continue;
		len = get_le32(at + 20);
		if (at[4] == RECORD_FOOTER &&
		    len <= content_len - i - RECORD_HEADER_LEN)
			put_le32(
			    at + 56, crc32c(0, at + RECORD_HEADER_LEN, len));
		put_le32(at + 60, crc32c(0, at, 60));
	}
	if (content_len >= PACK_HEADER_LEN + PACK_TRAILER_LEN) {
		uint8_t *t = content + content_len - PACK_TRAILER_LEN;

		put_le32(t + 28, crc32c(0, t, 28));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pack_options o = { .chunk_size = CHUNK_SIZE_DEFAULT,
		.hash = HASH_SHA256,
		.data_limit = PACK_DATA_LIMIT };
	struct seen seen = { 0 }, again = { 0 };
	struct pack_scan out;
	struct pack_set *s;
	int flags;

	if (size < 1 + PACK_HEADER_LEN || size - 1 > SIZE_MAX_IN)
		return 0;
	flags = data[0] & (PACK_SCAN_PAYLOAD | PACK_SCAN_NO_FOOTER);
	content_len = size - 1;
	memcpy(content, data + 1, content_len);
	make_plausible();
	s = packs_new(&mem, &o);
	if (pack_scan(s, 1, 0, flags, see, &seen, &out) != 0)
		abort();
	if (out.end > content_len ||
	    (!out.sealed && seen.sound > 0 && out.end <= PACK_HEADER_LEN))
		abort();
	if (seen.n >= 2) {
		if (pack_scan(s, 1, seen.middle, flags, see, &again, &out) != 0)
			abort();
		if (again.n != seen.n - 1)
			abort();
	}
	packs_free(s);
	return 0;
}
