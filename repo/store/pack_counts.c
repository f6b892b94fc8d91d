/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/store/pack_counts.h"

#include "proto/base/bytes.h"

void
pack_counts_init(struct pack_counts *c)
{
	idmap_init(&c->map, sizeof(int64_t));
}

void
pack_counts_fini(struct pack_counts *c)
{
	idmap_fini(&c->map);
}

int64_t *
pack_counts_at(struct pack_counts *c, uint32_t pack)
{
	struct id key = { { 0 } };
	bool fresh;

	put_le32(key.b, pack);
	/* The map places ids by their first eight bytes: spread them. */
	put_le32(key.b + 4, pack * 2654435761u);
	key.b[ID_LEN - 1] = 1; /* never the hole */
	return idmap_add(&c->map, &key, &fresh);
}

void
pack_counts_add(struct pack_counts *c, const struct place *p, int sign)
{
	*pack_counts_at(c, p->pack) +=
	    sign * (int64_t)(RECORD_HEADER_LEN + (uint64_t)p->stored_len);
}

int64_t *
pack_counts_next(const struct pack_counts *c, size_t *at, uint32_t *pack)
{
	const struct id *key;
	int64_t *n = idmap_next(&c->map, at, &key);

	if (n != NULL)
		*pack = get_le32(key->b);
	return n;
}
