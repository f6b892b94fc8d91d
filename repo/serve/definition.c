/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/definition.h"

#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "repo/serve/leaving.h"

struct gather {
	struct codec *codec;
	uint32_t chunk_size;
	uint64_t size;
	uint8_t *text;
};

static int
add_slice(void *arg, uint64_t slice, uint8_t codec, uint32_t raw_len,
    const uint8_t *data, size_t len, struct err *e)
{
	struct gather *g = arg;
	uint64_t off = slice * g->chunk_size;

	if (off > g->size || raw_len > g->size - off)
		return err_set(
		    e, ERR_CORRUPT, "the definition is longer than it is");
	if (codec_unpack(g->codec, codec, data, len, g->text + off, raw_len) !=
	    0)
		return err_set(
		    e, ERR_CORRUPT, "the definition cannot be unpacked");
	return 0;
}

static int
gather(struct serve *srv, const struct manifest *m,
    const struct manifest_volume *v, uint8_t *text, struct err *e)
{
	struct gather g = { .codec = codec_new(1),
		.chunk_size = m->chunk_size,
		.size = v->size,
		.text = text };
	struct store_lane *tools;
	struct domain domain;
	int rc;

	rc = domains_get(srv->domains, m->domain, &domain, e);
	if (rc == 0) {
		tools = store_lane_new(srv->store, domain_key(&domain));
		rc = store_read_slices(srv->store, tools, &v->root, v->size, 0,
		    (uint32_t)chunk_nslices(v->size, m->chunk_size), add_slice,
		    &g, e);
		store_lane_free(tools);
	}
	explicit_bzero(&domain, sizeof(domain));
	codec_free(g.codec);
	return rc;
}

int
definition_to_json(
    struct serve *srv, const struct manifest *m, json_t **out, struct err *e)
{
	const struct manifest_volume *v = NULL;
	uint8_t *text;
	json_t *j;
	int rc;

	*out = NULL;
	for (unsigned i = 0; i < m->nvolumes; i++)
		if (strcmp(m->volume[i].kind, "definition") == 0)
			v = &m->volume[i];
	if (v == NULL || id_is_hole(&v->root))
		return 0;
	if (v->size > DEFINITION_MAX)
		return err_set(e, ERR_LIMIT,
		    "the definition has %llu bytes: restore it to a file",
		    (unsigned long long)v->size);
	if (catalog_hold(srv->catalog, m->vm, m->id) != 0)
		return err_set(
		    e, ERR_NOENT, "the backup was deleted meanwhile");
	text = xcalloc(1, (size_t)v->size); /* holes are zeroes */
	rc = gather(srv, m, v, text, e);
	leaving_release(srv, m->vm, m->id);
	if (rc == 0) {
		/* NULL: it is no text, or none that JSON could hold. */
		j = memchr(text, 0, (size_t)v->size) != NULL
		    ? NULL
		    : json_stringn((const char *)text, (size_t)v->size);
		if (j != NULL) {
			*out = json_object();
			json_set_str(*out, "format", v->format);
			json_object_set_new(*out, "text", j);
		}
	}
	free(text);
	return rc;
}
