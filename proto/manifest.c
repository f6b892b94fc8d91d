/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/manifest.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum {
	MANIFEST_FORMAT = 1,
	CLUSTER_SIZE_MIN = 512, /* of qcow2 */
	CLUSTER_SIZE_MAX = 2 << 20
};

/* "disk", "qcow2", "crash": lower-case words, or empty where not known. */
static bool
word_ok(const char *s)
{
	for (; *s != 0; s++)
		if (!(*s >= 'a' && *s <= 'z') && !(*s >= '0' && *s <= '9') &&
		    *s != '-')
			return false;
	return true;
}

static bool
note_ok(const char *s)
{
	for (; *s != 0; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			return false;
	return true;
}

/* A string of at most ${room} - 1 bytes that ${ok} approves of. */
static int
get_text(const json_t *j, const char *key, bool (*ok)(const char *s), char *out,
    size_t room, struct err *e)
{
	const char *s;
	int rc = json_get_str(j, key, &s, e);

	if (rc != 0)
		return rc;
	if (strlen(s) >= room || !ok(s))
		return err_set(e, ERR_PROTO,
		    "\"%s\": \"%.100s\" is too long or has characters that it "
		    "may not have",
		    key, note_ok(s) ? s : "?");
	memcpy(out, s, strlen(s) + 1);
	return 0;
}

static int
get_u32(const json_t *j, const char *key, uint32_t *out, struct err *e)
{
	uint64_t v;
	int rc = json_get_u64(j, key, &v, e);

	if (rc != 0)
		return rc;
	if (v > UINT32_MAX)
		return err_set(e, ERR_PROTO, "\"%s\" is too large", key);
	*out = (uint32_t)v;
	return 0;
}

static int
get_time(const json_t *j, const char *key, uint64_t *out, struct err *e)
{
	const char *s;
	int rc = json_get_str(j, key, &s, e);

	if (rc != 0)
		return rc;
	if (time_parse(s, out) != 0)
		return err_set(e, ERR_PROTO, "\"%s\" is not a time", key);
	return 0;
}

static int
opt_time(const json_t *j, const char *key, uint64_t *out, struct err *e)
{
	return json_object_get(j, key) != NULL ? get_time(j, key, out, e) : 0;
}

static void
set_time(json_t *j, const char *key, uint64_t seconds)
{
	char text[TIME_TEXT_LEN + 1];

	json_set_str(j, key, time_print(seconds, text));
}

int
manifest_stats_from_json(
    const json_t *j, struct manifest_stats *out, struct err *e)
{
	int rc;

	rc = json_get_u64(j, "read", &out->read, e);
	if (rc == 0)
		rc = json_get_u64(j, "holes", &out->holes, e);
	if (rc == 0)
		rc = json_get_u64(j, "unchanged", &out->unchanged, e);
	if (rc == 0)
		rc = json_get_u64(j, "deduplicated", &out->deduplicated, e);
	if (rc == 0)
		rc = json_get_u64(j, "sent", &out->sent, e);
	if (rc == 0)
		rc = json_get_u64(j, "stored", &out->stored, e);
	if (rc == 0)
		rc = json_get_u64(j, "duration_ms", &out->duration_ms, e);
	return rc;
}

json_t *
manifest_stats_to_json(const struct manifest_stats *s)
{
	json_t *j = json_object();

	json_set_u64(j, "read", s->read);
	json_set_u64(j, "holes", s->holes);
	json_set_u64(j, "unchanged", s->unchanged);
	json_set_u64(j, "deduplicated", s->deduplicated);
	json_set_u64(j, "sent", s->sent);
	json_set_u64(j, "stored", s->stored);
	json_set_u64(j, "duration_ms", s->duration_ms);
	return j;
}

static bool
cluster_size_ok(uint32_t size)
{
	return size == 0 ||
	    (size >= CLUSTER_SIZE_MIN && size <= CLUSTER_SIZE_MAX &&
		(size & (size - 1)) == 0);
}

/* Where it was: both members, or neither. */
static int
origin_from_json(const json_t *j, struct manifest *m, struct manifest_volume *v,
    struct err *e)
{
	const char *path, *identity = "";
	int rc;

	if (json_object_get(j, "path") == NULL)
		return 0;
	rc = json_get_str(j, "path", &path, e);
	if (rc == 0)
		rc = json_opt_str(j, "identity", &identity, e);
	if (rc == 0 && manifest_set_origin(m, v, path, identity, e) != 0)
		rc = err_set(e, ERR_PROTO,
		    "volume %s: its \"path\" or \"identity\" is too long or "
		    "has "
		    "characters that it may not have",
		    v->name);
	return rc;
}

static int
volume_from_json(const json_t *j, struct manifest *m, struct manifest_volume *v,
    struct err *e)
{
	int rc;

	if (!json_is_object(j))
		return err_set(e, ERR_PROTO, "a volume that is no object");
	rc = get_text(j, "name", name_part_ok, v->name, sizeof(v->name), e);
	if (rc == 0)
		rc = get_text(j, "kind", word_ok, v->kind, sizeof(v->kind), e);
	if (rc == 0)
		rc = get_text(
		    j, "format", word_ok, v->format, sizeof(v->format), e);
	if (rc == 0)
		rc = get_u32(j, "cluster_size", &v->cluster_size, e);
	if (rc == 0)
		rc = json_get_u64(j, "size", &v->size, e);
	if (rc == 0)
		rc = json_get_hex(j, "root", v->root.b, ID_LEN, e);
	if (rc == 0)
		rc = origin_from_json(j, m, v, e);
	if (rc != 0)
		return rc;
	if (!cluster_size_ok(v->cluster_size))
		return err_set(e, ERR_PROTO, "volume %s: clusters of %u bytes",
		    v->name, v->cluster_size);
	if (v->size > VOLUME_SIZE_MAX)
		return err_set(e, ERR_PROTO, "volume %s: too large", v->name);
	if (v->size == 0 && !id_is_hole(&v->root))
		return err_set(
		    e, ERR_PROTO, "volume %s: empty, with a tree", v->name);
	return 0;
}

static json_t *
volume_to_json(const struct manifest *m, const struct manifest_volume *v)
{
	json_t *j = json_object();

	json_set_str(j, "name", v->name);
	json_set_str(j, "kind", v->kind);
	json_set_str(j, "format", v->format);
	json_set_u64(j, "cluster_size", v->cluster_size);
	json_set_u64(j, "size", v->size);
	json_set_hex(j, "root", v->root.b, ID_LEN);
	if (v->origin != 0)
		json_set_str(j, "path", manifest_path(m, v));
	if (*manifest_identity(m, v) != 0)
		json_set_str(j, "identity", manifest_identity(m, v));
	return j;
}

static int
volumes_from_json(const json_t *j, struct manifest *m, struct err *e)
{
	size_t n;
	json_t *a;
	int rc;

	rc = json_get_array(j, "volumes", &a, e);
	if (rc != 0)
		return rc;
	n = json_array_size(a);
	if (n > MANIFEST_VOLUMES_MAX)
		return err_set(e, ERR_PROTO, "%zu volumes, and %d are the most",
		    n, MANIFEST_VOLUMES_MAX);
	for (size_t i = 0; i < n; i++) {
		rc =
		    volume_from_json(json_array_get(a, i), m, &m->volume[i], e);
		if (rc != 0)
			return rc;
		if (manifest_volume_find(m, m->volume[i].name) != -1)
			return err_set(e, ERR_PROTO,
			    "two volumes with the name %s", m->volume[i].name);
		m->nvolumes++;
	}
	return 0;
}

int
manifest_from_json(const json_t *j, struct manifest *m, struct err *e)
{
	uint64_t format;
	json_t *stats;
	int rc;

	*m = (struct manifest){ .nvolumes = 0 };
	rc = json_get_u64(j, "format", &format, e);
	if (rc != 0)
		return rc;
	if (format != MANIFEST_FORMAT)
		return err_set(e, ERR_UNSUP,
		    "a manifest of format %llu; this program knows %d",
		    (unsigned long long)format, MANIFEST_FORMAT);
	rc = json_get_hex(j, "id", m->id, sizeof(m->id), e);
	if (rc == 0)
		rc = get_text(j, "vm", vm_name_ok, m->vm, sizeof(m->vm), e);
	if (rc == 0)
		rc = json_get_u64(j, "seq", &m->seq, e);
	if (rc == 0)
		rc = get_time(j, "time", &m->time, e);
	if (rc == 0)
		rc = get_time(j, "agent_time", &m->agent_time, e);
	if (rc == 0)
		rc = get_text(j, "host", note_ok, m->host, sizeof(m->host), e);
	if (rc == 0)
		rc = get_text(j, "consistency", word_ok, m->consistency,
		    sizeof(m->consistency), e);
	if (rc == 0)
		rc = get_u32(j, "chunk_size", &m->chunk_size, e);
	if (rc == 0)
		rc = get_u32(j, "domain", &m->domain, e);
	if (rc == 0)
		rc = opt_time(j, "repo_time", &m->repo_time, e);
	if (rc == 0)
		rc = opt_time(j, "locked_until", &m->locked_until, e);
	if (rc == 0 && json_object_get(j, "checkpoint") != NULL)
		rc = get_text(j, "checkpoint", word_ok, m->checkpoint,
		    sizeof(m->checkpoint), e);
	if (rc == 0 && json_object_get(j, "unusual") != NULL)
		rc = get_text(
		    j, "unusual", word_ok, m->unusual, sizeof(m->unusual), e);
	if (rc == 0)
		rc = json_opt_bool(j, "incomplete", &m->incomplete, e);
	if (rc == 0)
		rc = json_opt_bool(j, "imported", &m->imported, e);
	if (rc == 0 && json_object_get(j, "parent") != NULL) {
		m->has_parent = true;
		rc = json_get_hex(j, "parent", m->parent, sizeof(m->parent), e);
	}
	if (rc == 0)
		rc = json_get_object(j, "stats", &stats, e);
	if (rc == 0)
		rc = manifest_stats_from_json(stats, &m->stats, e);
	if (rc != 0)
		return rc;
	if (!chunk_size_ok(m->chunk_size))
		return err_set(
		    e, ERR_PROTO, "chunks of %u bytes", m->chunk_size);
	return volumes_from_json(j, m, e);
}

json_t *
manifest_to_json(const struct manifest *m)
{
	json_t *j = json_object(), *volumes = json_array();

	json_set_u64(j, "format", MANIFEST_FORMAT);
	json_set_hex(j, "id", m->id, sizeof(m->id));
	json_set_str(j, "vm", m->vm);
	json_set_u64(j, "seq", m->seq);
	set_time(j, "time", m->time);
	set_time(j, "agent_time", m->agent_time);
	if (m->repo_time != 0)
		set_time(j, "repo_time", m->repo_time);
	if (m->locked_until != 0)
		set_time(j, "locked_until", m->locked_until);
	json_set_str(j, "host", m->host);
	json_set_str(j, "consistency", m->consistency);
	if (m->checkpoint[0] != 0)
		json_set_str(j, "checkpoint", m->checkpoint);
	if (m->unusual[0] != 0)
		json_set_str(j, "unusual", m->unusual);
	if (m->imported)
		json_set_bool(j, "imported", true);
	if (m->incomplete)
		json_set_bool(j, "incomplete", true);
	if (m->has_parent)
		json_set_hex(j, "parent", m->parent, sizeof(m->parent));
	json_set_u64(j, "chunk_size", m->chunk_size);
	json_set_u64(j, "domain", m->domain);
	json_object_set_new(j, "stats", manifest_stats_to_json(&m->stats));
	for (unsigned i = 0; i < m->nvolumes; i++)
		json_array_append_new(
		    volumes, volume_to_json(m, &m->volume[i]));
	json_object_set_new(j, "volumes", volumes);
	return j;
}

int
manifest_parse(
    const void *data, size_t len, struct manifest *out, struct err *e)
{
	json_t *j;
	int rc;

	rc = json_parse(data, len, &j, e);
	if (rc != 0)
		return rc;
	rc = manifest_from_json(j, out, e);
	json_decref(j);
	return rc;
}

void
manifest_print(const struct manifest *m, struct buf *out)
{
	json_t *j = manifest_to_json(m);

	json_print(j, out);
	json_decref(j);
}

int
manifest_volume_find(const struct manifest *m, const char *name)
{
	for (unsigned i = 0; i < m->nvolumes; i++)
		if (strcmp(m->volume[i].name, name) == 0)
			return (int)i;
	return -1;
}

const char *
manifest_path(const struct manifest *m, const struct manifest_volume *v)
{
	return v->origin == 0 ? "" : m->origins + v->origin - 1;
}

const char *
manifest_identity(const struct manifest *m, const struct manifest_volume *v)
{
	const char *path = manifest_path(m, v);

	return v->origin == 0 ? "" : path + strlen(path) + 1;
}

int
manifest_set_origin(struct manifest *m, struct manifest_volume *v,
    const char *path, const char *identity, struct err *e)
{
	size_t n = strlen(path) + 1, k = strlen(identity) + 1;

	assert(v->origin == 0);
	if (path[0] != '/' || n - 1 > MANIFEST_PATH_MAX || !note_ok(path) ||
	    k - 1 > MANIFEST_IDENTITY_MAX || !note_ok(identity))
		return err_set(e, ERR_INVAL,
		    "volume %s: the path or identity of its file is none",
		    v->name);
	if (n + k > sizeof(m->origins) - m->norigins)
		return err_set(e, ERR_LIMIT,
		    "volume %s: the paths of all volumes have %d bytes at most",
		    v->name, MANIFEST_ORIGINS_MAX);
	memcpy(m->origins + m->norigins, path, n);
	memcpy(m->origins + m->norigins + n, identity, k);
	v->origin = (uint16_t)(m->norigins + 1);
	m->norigins += (unsigned)(n + k);
	return 0;
}

uint64_t
manifest_age_from(const struct manifest *m)
{
	return m->repo_time != 0 ? m->repo_time : m->time;
}

char *
manifest_name(const struct manifest *m, char *out)
{
	char when[TIME_TEXT_LEN + 1];

	snprintf(out, VM_NAME_MAX + TIME_TEXT_LEN + 2, "%s@%s", m->vm,
	    time_print(m->time, when));
	return out;
}
