/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A manifest that parses prints to bytes that parse to the same; and so does
 * any JSON object.  JSON has many spellings, so the second printing is
 * compared with the first.
 */
#include <stdlib.h>
#include <string.h>

#include "proto/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
same(const struct buf *a, const struct buf *b)
{
	if (a->len != b->len || memcmp(a->data, b->data, a->len) != 0)
		abort();
}

static void
json_again(const uint8_t *data, size_t size)
{
	struct buf first = { 0 }, second = { 0 };
	json_t *j, *k;
	struct err e;

	if (json_parse(data, size, &j, &e) != 0)
		return;
	json_print(j, &first);
	/* Escapes can make the text longer than what is taken. */
	if (first.len <= JSON_LEN_MAX) {
		if (json_parse(first.data, first.len, &k, &e) != 0)
			abort();
		json_print(k, &second);
		same(&first, &second);
		json_decref(k);
	}
	json_decref(j);
	buf_fini(&first);
	buf_fini(&second);
}

static void
manifest_again(const uint8_t *data, size_t size)
{
	struct buf first = { 0 }, second = { 0 };
	struct manifest m, n;
	struct err e;

	if (manifest_parse(data, size, &m, &e) != 0)
		return;
	manifest_print(&m, &first);
	if (manifest_parse(first.data, first.len, &n, &e) != 0)
		abort();
	manifest_print(&n, &second);
	same(&first, &second);
	if (!vm_name_ok(n.vm) || n.nvolumes > MANIFEST_VOLUMES_MAX)
		abort();
	for (unsigned i = 0; i < n.nvolumes; i++)
		if (!name_part_ok(n.volume[i].name) ||
		    manifest_volume_find(&n, n.volume[i].name) != (int)i)
			abort();
	buf_fini(&first);
	buf_fini(&second);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_again(data, size);
	manifest_again(data, size);
	return 0;
}
