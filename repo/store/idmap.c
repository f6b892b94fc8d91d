/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/store/idmap.h"

#include <assert.h>
#include <stdlib.h>

#include "proto/base/buf.h"
#include "proto/base/bytes.h"

enum { CAP_MIN = 64 };

static size_t
slot_len(const struct idmap *m)
{
	return ID_LEN + m->value_len;
}

static uint8_t *
slot(const struct idmap *m, size_t i)
{
	return m->slots + i * slot_len(m);
}

void
idmap_init(struct idmap *m, size_t value_len)
{
	*m = (struct idmap){ .value_len = (value_len + 7) & ~(size_t)7 };
}

void
idmap_fini(struct idmap *m)
{
	free(m->slots);
	idmap_init(m, m->value_len);
}

/* Where ${id} is, or the free slot where it would go.  Ids are digests: their
 * first bytes are as good as any hash of them. */
static uint8_t *
probe(const struct idmap *m, const struct id *id)
{
	size_t i = (size_t)get_le64(id->b) & (m->cap - 1);

	for (;; i = (i + 1) & (m->cap - 1)) {
		const struct id *at = (const struct id *)slot(m, i);

		if (id_is_hole(at) || id_equal(at, id))
			return slot(m, i);
	}
}

void *
idmap_find(const struct idmap *m, const struct id *id)
{
	uint8_t *s;

	if (m->n == 0)
		return NULL;
	s = probe(m, id);
	return id_is_hole((const struct id *)s) ? NULL : s + ID_LEN;
}

static void
grow(struct idmap *m)
{
	struct idmap old = *m;

	m->cap = old.cap != 0 ? old.cap * 2 : CAP_MIN;
	m->slots = xcalloc(m->cap, slot_len(m));
	for (size_t i = 0; i < old.cap; i++) {
		const struct id *id = (const struct id *)slot(&old, i);

		if (!id_is_hole(id))
			memcpy(probe(m, id), id, slot_len(m));
	}
	free(old.slots);
}

void *
idmap_add(struct idmap *m, const struct id *id, bool *fresh)
{
	uint8_t *s;

	assert(!id_is_hole(id));
	/* Only what is new may move the others: who goes through the map and
	 * asks for what is in it must not lose its place. */
	*fresh = false;
	s = idmap_find(m, id);
	if (s != NULL)
		return s;
	if (m->n * 4 >= m->cap * 3)
		grow(m);
	s = probe(m, id);
	*fresh = true;
	memcpy(s, id->b, ID_LEN);
	m->n++;
	return s + ID_LEN;
}

/* Whoever was pushed past the freed slot by it is pulled back into it. */
void
idmap_remove(struct idmap *m, const struct id *id)
{
	size_t mask = m->cap - 1, hole, i;
	uint8_t *s;

	if (m->n == 0)
		return;
	s = probe(m, id);
	if (id_is_hole((const struct id *)s))
		return;
	hole = (size_t)(s - m->slots) / slot_len(m);
	for (i = (hole + 1) & mask;; i = (i + 1) & mask) {
		const struct id *at = (const struct id *)slot(m, i);
		size_t home;

		if (id_is_hole(at))
			break;
		home = (size_t)get_le64(at->b) & mask;
		if (((i - home) & mask) < ((i - hole) & mask))
			continue; /* its way does not lead over the hole */
		memcpy(slot(m, hole), at, slot_len(m));
		hole = i;
	}
	memset(slot(m, hole), 0, slot_len(m));
	m->n--;
}

void *
idmap_next(const struct idmap *m, size_t *at, const struct id **id)
{
	while (*at < m->cap) {
		uint8_t *s = slot(m, (*at)++);

		if (!id_is_hole((const struct id *)s)) {
			if (id != NULL)
				*id = (const struct id *)s;
			return s + ID_LEN;
		}
	}
	return NULL;
}
