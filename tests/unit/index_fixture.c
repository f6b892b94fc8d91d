/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/index_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/bytes.h"
#include "proto/base/io.h"

/* Random numbers that a seed repeats. */
static uint64_t rnd_state;

uint64_t
rnd(void)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return rnd_state;
}

void
rnd_seed(void)
{
	const char *s = getenv("SEED");

	rnd_state = s != NULL ? strtoull(s, NULL, 0) : now_ms() | 1;
	print_message("SEED=%llu\n", (unsigned long long)rnd_state);
}

struct index_entry
rnd_op(void)
{
	struct index_entry e = { 0 };

	if (rnd() % 2 != 0) {
		e.place.pack = 1 + (uint32_t)rnd() % 5;
		e.place.off = (uint32_t)rnd() & 0x7fffffff;
		e.place.stored_len = (uint32_t)rnd();
		e.place.raw_len = (uint32_t)rnd();
		e.place.codec = (uint8_t)(rnd() & 1);
	}
	e.kind = (uint8_t)(rnd() % 3);
	e.level = (uint8_t)(rnd() % 7);
	e.refs = (int64_t)(rnd() % 7) - 3;
	e.stamp = rnd() % 20;
	e.flags = (uint8_t)(rnd() & 3);
	e.clear = (uint8_t)(rnd() & 3);
	return e;
}

void
assert_same(const struct index_entry *a, const struct index_entry *b)
{
	uint8_t pa[INDEX_ENTRY_LEN], pb[INDEX_ENTRY_LEN];

	size_t len = index_entry_print(a, pa);

	assert_int_equal(len, index_entry_print(b, pb));
	assert_memory_equal(pa, pb, len);
}

/* The whole form, of which all entries were once. */
void
print_whole(const struct index_entry *e, uint8_t *out)
{
	memset(out, 0, INDEX_ENTRY_LEN);
	put_le32(out, e->place.pack);
	put_le32(out + 4, e->place.off);
	put_le32(out + 8, e->place.stored_len);
	put_le32(out + 12, e->place.raw_len);
	put_le64(out + 16, (uint64_t)e->refs);
	put_le64(out + 24, e->stamp);
	out[32] = e->place.codec;
	out[33] = e->kind;
	out[34] = e->level;
	out[35] = e->flags;
	out[36] = e->clear;
}
