/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/archive/head.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/json.h"

enum { VERSION = 1 };

static const char *const words[] = { "qcow2", "raw", "file", "vmdk" };

const char *
head_word(enum head_form f)
{
	return words[f];
}

bool
head_blocks(enum head_form f)
{
	return f == HEAD_RAW;
}

static json_t *
since_to_json(const struct head *h)
{
	json_t *j = json_object();
	char when[TIME_TEXT_LEN + 1];

	json_set_hex(j, "id", h->since_id, BACKUP_ID_LEN);
	json_set_str(j, "time", time_print(h->since_time, when));
	return j;
}

static json_t *
member_to_json(const struct head *h, const struct head_member *m)
{
	json_t *j = json_object();

	json_set_str(j, "volume", h->manifest.volume[m->volume].name);
	json_set_str(j, "name", m->name);
	json_set_str(j, "form", words[m->form]);
	json_set_u64(j, "size", m->size);
	if (m->overlay)
		json_set_hex(j, "since_root", m->since_root.b, ID_LEN);
	return j;
}

static json_t *
to_json(const struct head *h, bool sums)
{
	json_t *j = json_object(), *list = json_array(), *m;

	json_set_u64(j, "archive", VERSION);
	json_object_set_new(j, "manifest", manifest_to_json(&h->manifest));
	if (h->since)
		json_object_set_new(j, "since", since_to_json(h));
	for (unsigned i = 0; i < h->n; i++) {
		m = member_to_json(h, &h->member[i]);
		if (sums)
			json_set_str(m,
			    head_blocks(h->member[i].form) ? "sha256_blocks"
							   : "sha256",
			    h->member[i].sum);
		json_array_append_new(list, m);
	}
	json_object_set_new(j, "members", list);
	return j;
}

/* For people, too. */
static void
print(json_t *j, struct buf *out)
{
	json_print(j, out);
	json_decref(j);
	buf_add(out, "\n", 1);
}

void
head_print(const struct head *h, struct buf *out)
{
	print(to_json(h, false), out);
}

void
head_last_print(const struct head *h, struct buf *out)
{
	print(to_json(h, true), out);
}

static int
get_form(const json_t *j, enum head_form *out, struct err *e)
{
	const char *s;
	int rc = json_get_str(j, "form", &s, e);

	if (rc != 0)
		return rc;
	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(s, words[i]) == 0) {
			*out = (enum head_form)i;
			return 0;
		}
	return err_set(e, ERR_UNSUP,
	    "a member of the form \"%.20s\", which this agent does not know: "
	    "update it",
	    s);
}

static int
member_from_json(const json_t *j, struct head *h, struct err *e)
{
	struct head_member *m = &h->member[h->n];
	const char *volume, *name;
	int rc, number;

	if (!json_is_object(j))
		return err_set(e, ERR_PROTO, "a member that is no object");
	rc = json_get_str(j, "volume", &volume, e);
	if (rc == 0)
		rc = json_get_str(j, "name", &name, e);
	if (rc == 0)
		rc = get_form(j, &m->form, e);
	if (rc == 0)
		rc = json_get_u64(j, "size", &m->size, e);
	if (rc == 0 && json_object_get(j, "since_root") != NULL) {
		m->overlay = true;
		rc = json_get_hex(j, "since_root", m->since_root.b, ID_LEN, e);
	}
	if (rc != 0)
		return rc;
	number = manifest_volume_find(&h->manifest, volume);
	if (number == -1)
		return err_set(e, ERR_PROTO, "a member of no volume");
	m->volume = (unsigned)number;
	if (strlen(name) > HEAD_NAME_MAX)
		return err_set(e, ERR_PROTO, "a member's name is too long");
	memcpy(m->name, name, strlen(name) + 1);
	for (unsigned i = 0; i < h->n; i++)
		if (h->member[i].volume == m->volume ||
		    strcmp(h->member[i].name, m->name) == 0)
			return err_set(e, ERR_PROTO, "a volume is there twice");
	if (m->overlay && (!h->since || m->form != HEAD_QCOW2))
		return err_set(e, ERR_PROTO,
		    "member %.80s builds on nothing that is named", m->name);
	if ((m->form == HEAD_RAW || m->form == HEAD_FILE) &&
	    m->size != h->manifest.volume[number].size)
		return err_set(e, ERR_PROTO,
		    "member %.80s is not as long as its volume", m->name);
	h->n++;
	return 0;
}

static int
since_from_json(const json_t *j, struct head *h, struct err *e)
{
	const char *when;
	json_t *since;
	int rc;

	if (json_object_get(j, "since") == NULL)
		return 0;
	h->since = true;
	rc = json_get_object(j, "since", &since, e);
	if (rc == 0)
		rc = json_get_hex(since, "id", h->since_id, BACKUP_ID_LEN, e);
	if (rc == 0)
		rc = json_get_str(since, "time", &when, e);
	if (rc == 0 && time_parse(when, &h->since_time) != 0)
		rc = err_set(e, ERR_PROTO, "\"since\" has no time");
	return rc;
}

int
head_parse(const void *data, size_t len, struct head *out, struct err *e)
{
	json_t *j, *m, *list;
	uint64_t version;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = json_parse(data, len, &j, e);
	if (rc != 0)
		return rc;
	rc = json_get_u64(j, "archive", &version, e);
	if (rc == 0 && version != VERSION)
		rc = err_set(e, ERR_UNSUP,
		    "an archive of version %llu; this agent knows %d: update "
		    "it",
		    (unsigned long long)version, VERSION);
	if (rc == 0)
		rc = json_get_object(j, "manifest", &m, e);
	if (rc == 0)
		rc = manifest_from_json(m, &out->manifest, e);
	if (rc == 0)
		rc = since_from_json(j, out, e);
	if (rc == 0)
		rc = json_get_array(j, "members", &list, e);
	if (rc == 0 &&
	    (json_array_size(list) == 0 ||
		json_array_size(list) > MANIFEST_VOLUMES_MAX))
		rc =
		    err_set(e, ERR_PROTO, "%zu members", json_array_size(list));
	for (size_t i = 0; rc == 0 && i < json_array_size(list); i++)
		rc = member_from_json(json_array_get(list, i), out, e);
	json_decref(j);
	return rc;
}

/* All that the first text said is said again: it has no checksum. */
static int
check_same(const struct head *h, const void *data, size_t len, struct err *e)
{
	struct head *last = xcalloc(1, sizeof(*last));
	struct buf was = { 0 }, is = { 0 };
	int rc = head_parse(data, len, last, e);

	if (rc == 0) {
		head_print(h, &was);
		head_print(last, &is);
		if (was.len != is.len || memcmp(was.data, is.data, is.len) != 0)
			rc = err_set(e, ERR_CORRUPT,
			    HEAD_FIRST " says another thing than " HEAD_LAST
				       ": one of them is damaged");
	}
	buf_fini(&was);
	buf_fini(&is);
	free(last);
	return rc;
}

int
head_last_check(
    const struct head *h, const void *data, size_t len, struct err *e)
{
	json_t *j, *list;
	int rc;

	rc = check_same(h, data, len, e);
	if (rc == 0)
		rc = json_parse(data, len, &j, e);
	if (rc != 0)
		return rc;
	rc = json_get_array(j, "members", &list, e);
	if (rc == 0 && json_array_size(list) != h->n)
		rc = err_set(e, ERR_PROTO, "it tells of other members");
	for (unsigned i = 0; rc == 0 && i < h->n; i++) {
		const struct head_member *m = &h->member[i];
		const char *name = "", *sum = "";
		json_t *x = json_array_get(list, i);

		rc = json_get_str(x, "name", &name, e);
		if (rc == 0)
			rc = json_get_str(x,
			    head_blocks(m->form) ? "sha256_blocks" : "sha256",
			    &sum, e);
		if (rc == 0 && strcmp(name, m->name) != 0)
			rc = err_set(e, ERR_PROTO, "it tells of other members");
		if (rc == 0 && strcmp(sum, m->sum) != 0)
			rc = err_set(e, ERR_CORRUPT,
			    "the checksum of %.120s is another: it is damaged",
			    m->name);
	}
	json_decref(j);
	return rc;
}
