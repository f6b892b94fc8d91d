/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ram/facts.h"

#include <stdio.h>
#include <string.h>

enum { FACTS_FORMAT = 1 };

static const char *const forms[] = {
	[RAM_FORM_SHARED] = "shared",
	[RAM_FORM_PLACED] = "placed",
	[RAM_FORM_MAPPED] = "mapped",
	[RAM_FORM_RAW] = "raw",
};

enum { NFORMS = sizeof(forms) / sizeof(forms[0]) };

static json_t *
print_layout(const struct ramstream_layout *l)
{
	json_t *j = json_object(), *list = json_array();

	json_set_u64(j, "head", l->head);
	json_set_u64(j, "section", l->section);
	json_set_bool(j, "footer", l->footer);
	json_set_bool(j, "switchover", l->switchover);
	json_set_u64(j, "size", l->size);
	for (unsigned i = 0; i < l->nblocks; i++) {
		json_t *b = json_object();

		json_set_str(b, "name", l->block[i].name);
		json_set_u64(b, "size", l->block[i].size);
		json_set_u64(b, "offset", l->block[i].offset);
		json_array_append_new(list, b);
	}
	json_object_set_new(j, "blocks", list);
	return j;
}

void
ram_facts_print(const struct ram_facts *f, struct buf *out)
{
	json_t *j = json_object(), *list = json_array();

	json_set_u64(j, "format", FACTS_FORMAT);
	json_set_str(j, "form", forms[f->form]);
	json_set_str(j, "qemu", f->qemu);
	json_set_str(j, "machine", f->machine);
	json_set_bool(j, "ignore-shared", f->ignore_shared);
	for (unsigned i = 0; i < f->nbackends; i++) {
		json_t *b = json_object();

		json_set_str(b, "id", f->backend[i].id);
		json_set_u64(b, "size", f->backend[i].size);
		json_set_str(b, "volume", f->backend[i].volume);
		json_array_append_new(list, b);
	}
	json_object_set_new(j, "backends", list);
	if (f->form == RAM_FORM_PLACED)
		json_object_set_new(j, "layout", print_layout(&f->layout));
	json_print(j, out);
	json_decref(j);
}

static int
get_text(const json_t *j, const char *key, char *out, size_t len, struct err *e)
{
	const char *s;
	int rc;

	rc = json_get_str(j, key, &s, e);
	if (rc != 0)
		return rc;
	if (strlen(s) >= len)
		return err_set(e, ERR_PROTO, "\"%s\" is too long", key);
	memcpy(out, s, strlen(s) + 1);
	return 0;
}

static int
parse_backends(const json_t *j, struct ram_facts *f, struct err *e)
{
	json_t *list, *one;
	size_t i;
	int rc;

	rc = json_get_array(j, "backends", &list, e);
	if (rc != 0)
		return rc;
	json_array_foreach(list, i, one)
	{
		struct ram_fact_backend *b = &f->backend[f->nbackends];

		if (f->nbackends == RAM_BACKENDS_MAX)
			return err_set(e, ERR_PROTO, "too many backends");
		rc = get_text(one, "id", b->id, sizeof(b->id), e);
		if (rc == 0)
			rc = json_get_u64(one, "size", &b->size, e);
		if (rc == 0)
			rc = get_text(
			    one, "volume", b->volume, sizeof(b->volume), e);
		if (rc != 0)
			return rc;
		/* It becomes a file's name. */
		if (!name_part_ok(b->volume) || b->size > RAM_SIZE_MAX)
			return err_set(e, ERR_PROTO, "a backend is not right");
		f->nbackends++;
	}
	return 0;
}

static int
parse_layout(const json_t *j, struct ramstream_layout *l, struct err *e)
{
	json_t *lj, *list, *one;
	uint64_t section;
	size_t i;
	int rc;

	rc = json_get_object(j, "layout", &lj, e);
	if (rc == 0)
		rc = json_get_u64(lj, "head", &l->head, e);
	if (rc == 0)
		rc = json_get_u64(lj, "section", &section, e);
	if (rc == 0)
		rc = json_get_bool(lj, "footer", &l->footer, e);
	if (rc == 0)
		rc = json_get_bool(lj, "switchover", &l->switchover, e);
	if (rc == 0)
		rc = json_get_u64(lj, "size", &l->size, e);
	if (rc == 0)
		rc = json_get_array(lj, "blocks", &list, e);
	if (rc != 0)
		return rc;
	l->section = (uint32_t)section;
	json_array_foreach(list, i, one)
	{
		struct ram_block *b = &l->block[l->nblocks];

		if (l->nblocks == RAM_BLOCKS_MAX)
			return err_set(e, ERR_PROTO, "too many blocks");
		rc = get_text(one, "name", b->name, sizeof(b->name), e);
		if (rc == 0)
			rc = json_get_u64(one, "size", &b->size, e);
		if (rc == 0)
			rc = json_get_u64(one, "offset", &b->offset, e);
		if (rc != 0)
			return rc;
		l->nblocks++;
	}
	if (section > UINT32_MAX || !ramstream_layout_ok(l))
		return err_set(
		    e, ERR_PROTO, "the memory's layout is not right");
	return 0;
}

static int
parse(const json_t *j, struct ram_facts *f, struct err *e)
{
	uint64_t format;
	char form[RAM_TEXT_MAX];
	unsigned i;
	int rc;

	rc = json_get_u64(j, "format", &format, e);
	if (rc != 0)
		return rc;
	if (format != FACTS_FORMAT)
		return err_set(e, ERR_UNSUP,
		    "facts of saved memory in format %llu: a newer backstay is "
		    "needed",
		    (unsigned long long)format);
	rc = get_text(j, "form", form, sizeof(form), e);
	if (rc == 0)
		rc = get_text(j, "qemu", f->qemu, sizeof(f->qemu), e);
	if (rc == 0)
		rc = get_text(j, "machine", f->machine, sizeof(f->machine), e);
	if (rc == 0)
		rc = json_get_bool(j, "ignore-shared", &f->ignore_shared, e);
	if (rc == 0)
		rc = parse_backends(j, f, e);
	if (rc != 0)
		return rc;
	for (i = 0; i < NFORMS; i++)
		if (strcmp(form, forms[i]) == 0)
			break;
	if (i == NFORMS)
		return err_set(
		    e, ERR_UNSUP, "saved memory of form \"%s\"", form);
	f->form = (enum ram_form)i;
	return f->form == RAM_FORM_PLACED ? parse_layout(j, &f->layout, e) : 0;
}

int
ram_facts_parse(
    const void *data, size_t len, struct ram_facts *out, struct err *e)
{
	json_t *j;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = json_parse(data, len, &j, e);
	if (rc == 0) {
		rc = parse(j, out, e);
		json_decref(j);
	}
	if (rc != 0)
		err_prefix(e, "facts of saved memory");
	return rc;
}
