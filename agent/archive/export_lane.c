/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/archive/export_lane.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/archive/ovf.h"
#include "proto/base/io.h"

enum { BASE_TELL_MS = 5000 };
/* No hypervisor takes more, and its tables stay small. */
#define VMDK_MAX ((uint64_t)62 << 40)

/* The daemon ends a job of which it hears nothing. */
static int
keep_base(struct export *x, struct err *e)
{
	if (x->base == NULL || now_ms() - x->base_told_ms < BASE_TELL_MS)
		return 0;
	x->base_told_ms = now_ms();
	return remote_call(
	    &x->base->control, remote_op("progress"), REMOTE_CALL_MS, NULL, e);
}

static int
while_waiting(void *arg, struct err *e)
{
	struct export *x = arg;

	if (job_stopped(&x->job))
		return err_set(e, ERR_CLOSED, "stopped");
	return keep_base(x, e);
}

/* "acme-web1-20261122T081500Z": so that archives lie side by side. */
static void
folder_name(const struct manifest *m, uint64_t time, char *out, size_t len)
{
	char text[TIME_TEXT_LEN + 1], *to = text;

	time_print(time, text);
	for (const char *p = text; *p != 0; p++)
		if (*p != '-' && *p != ':')
			*to++ = *p;
	*to = 0;
	snprintf(out, len, "%s-%s", m->vm, text);
	for (char *p = out; *p != 0; p++)
		if (*p == '/')
			*p = '-';
}

/* Of an OVA the files: its tar has room for 100 characters. */
static void
ova_name(const struct export *x, const char *end, char *out, size_t len)
{
	char own[VM_NAME_MAX + 64];
	const char *part;

	folder_name(&x->head.manifest, x->head.manifest.time, own, sizeof(own));
	part = strchr(x->head.manifest.vm, '/');
	snprintf(out, len, "%s.%s",
	    own + (part != NULL ? part + 1 - x->head.manifest.vm : 0), end);
}

/* What lies in the same folder as the others: "" in an OVA, which has none. */
static void
member_name(const struct export *x, uint64_t time, const char *name, char *out)
{
	char in[HEAD_NAME_MAX - NAME_PART_MAX - 20];

	folder_name(&x->head.manifest, time, in, sizeof(in));
	if (x->options->format == EXPORT_OVA)
		snprintf(out, HEAD_NAME_MAX + 1, "%s", name);
	else
		snprintf(out, HEAD_NAME_MAX + 1, "%s/%s", in, name);
}

static enum head_form
choose_form(const struct export *x, const struct manifest_volume *v)
{
	if (strcmp(v->kind, "ram") == 0)
		return HEAD_RAW;
	if (strcmp(v->kind, "disk") != 0)
		return HEAD_FILE;
	switch (x->options->format) {
	case EXPORT_RAW: return HEAD_RAW;
	case EXPORT_OVA: return HEAD_VMDK;
	case EXPORT_QCOW2: break;
	}
	return HEAD_QCOW2;
}

/* The same volume in what it is compared with, if it can be an overlay of it.
 */
static const struct manifest_volume *
find_base(const struct export *x, const struct manifest_volume *v)
{
	const struct manifest *b = &x->base_manifest;
	int n = x->base != NULL ? manifest_volume_find(b, v->name) : -1;

	if (n == -1 || b->volume[n].size != v->size ||
	    strcmp(b->volume[n].kind, v->kind) != 0)
		return NULL;
	return &b->volume[n];
}

static struct form *
new_form(struct export *x, struct head_member *m, struct walk *w,
    const struct manifest_volume *v, const struct manifest_volume *base)
{
	char name[NAME_PART_MAX + 24], backing[HEAD_NAME_MAX + 4] = "../";

	snprintf(name, sizeof(name), "%s.%s", v->name,
	    m->form != HEAD_FILE                     ? head_word(m->form)
		: strcmp(v->kind, "definition") == 0 ? v->format
						     : v->kind);
	member_name(x, x->head.manifest.time, name, m->name);
	switch (m->form) {
	case HEAD_QCOW2: break;
	case HEAD_RAW: return form_raw_new(w, arcout_sparse(x->options->kind));
	case HEAD_FILE: return form_file_new(w);
	case HEAD_VMDK: return form_vmdk_new(w, name);
	}
	if (base == NULL)
		return form_qcow2_new(w, NULL);
	m->overlay = true;
	m->since_root = base->root;
	walk_since(w, &x->base_lane, (uint16_t)(base - x->base_manifest.volume),
	    &base->root);
	member_name(x, x->base_manifest.time, name, backing + 3);
	return form_qcow2_new(w, backing);
}

static int
plan(struct export *x, unsigned i, struct err *e)
{
	struct head_member *m = &x->head.member[i];
	const struct manifest_volume *v = &x->head.manifest.volume[m->volume];
	int rc;

	m->form = choose_form(x, v);
	if (m->form == HEAD_VMDK && v->size > VMDK_MAX)
		return err_set(e, ERR_LIMIT,
		    "volume %s: a VMDK has at most 62 TiB", v->name);
	x->walk[i] =
	    walk_new(v->name, v->size, &x->lane, (uint16_t)m->volume, &v->root);
	x->form[i] = new_form(x, m, x->walk[i], v, find_base(x, v));
	rc = form_plan(x->form[i], &m->size, e);
	return rc != 0 ? rc : keep_base(x, e);
}

static int
put_text(
    struct export *x, const char *name, const struct buf *text, struct err *e)
{
	int rc = arcout_begin(
	    x->archive, name, text->len, x->head.manifest.time, NULL, 0, e);

	if (rc == 0)
		rc = arcout_data(x->archive, text->data, text->len, e);
	return rc != 0 ? rc : arcout_end(x->archive, e);
}

static int
put_first(struct export *x, char *ovf_sum, struct err *e)
{
	char name[HEAD_NAME_MAX + 1];
	struct buf text = { 0 };
	struct digest *d;
	int rc;

	if (x->options->format == EXPORT_OVA) {
		ovf_print(&x->head, x->definition, &text);
		ova_name(x, "ovf", name, sizeof(name));
		d = digest_new();
		digest_add(d, text.data, text.len);
		digest_text(d, ovf_sum);
		digest_free(d);
	} else {
		head_print(&x->head, &text);
		member_name(x, x->head.manifest.time, HEAD_FIRST, name);
	}
	rc = put_text(x, name, &text, e);
	buf_fini(&text);
	return rc;
}

static int
put_last(struct export *x, const char *ovf_sum, struct err *e)
{
	char name[HEAD_NAME_MAX + 1];
	struct buf text = { 0 };
	int rc;

	if (x->options->format == EXPORT_OVA) {
		ova_name(x, "ovf", name, sizeof(name));
		buf_printf(&text, "SHA256(%s)= %s\n", name, ovf_sum);
		for (unsigned i = 0; i < x->head.n; i++)
			buf_printf(&text, "SHA256(%s)= %s\n",
			    x->head.member[i].name, x->head.member[i].sum);
		ova_name(x, "mf", name, sizeof(name));
	} else {
		head_last_print(&x->head, &text);
		member_name(x, x->head.manifest.time, HEAD_LAST, name);
	}
	rc = put_text(x, name, &text, e);
	buf_fini(&text);
	return rc;
}

struct teller {
	struct export *x;
	struct err err; /* of the base's job */
};

static void
tell(void *arg, uint64_t bytes, bool read)
{
	struct teller *t = arg;
	struct counters *c = &t->x->job.count;

	counters_add(&c->done, bytes);
	counters_add(read ? &c->read : &c->holes, bytes);
	if (t->err.code == 0)
		keep_base(t->x, &t->err);
}

static int
write_member(struct export *x, unsigned i, struct err *e)
{
	struct head_member *hm = &x->head.member[i];
	struct form *f = x->form[i];
	struct teller t = { .x = x };
	struct member m = { .out = x->archive,
		.digest = digest_new(),
		.blocks = head_blocks(hm->form) };
	int rc;

	rc = arcout_begin(x->archive, hm->name, hm->size, x->head.manifest.time,
	    f->extent, f->nextents, e);
	if (rc == 0)
		rc = form_write(f, &m, tell, &t, e);
	if (rc == 0)
		rc = arcout_end(x->archive, e);
	if (rc == 0 && t.err.code != 0) {
		*e = t.err;
		rc = e->code;
	}
	if (rc == 0)
		digest_text(m.digest, hm->sum);
	digest_free(m.digest);
	return rc;
}

/* VirtualBox and vSphere take no OVA with pax headers. */
static enum arcout_kind
kind(const struct export *x)
{
	if (x->options->format != EXPORT_OVA)
		return x->options->kind;
	for (unsigned i = 0; i < x->head.n; i++)
		if (x->head.member[i].size > ARCOUT_USTAR_MAX)
			return ARCOUT_GNUTAR;
	return ARCOUT_USTAR;
}

static int
write_archive(struct export *x, struct err *e)
{
	char ovf_sum[DIGEST_TEXT] = "";
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < x->head.n; i++)
		rc = plan(x, i, e);
	if (rc == 0)
		rc = arcout_open(
		    kind(x), export_out_write, &x->out, &x->archive, e);
	if (rc == 0)
		rc = put_first(x, ovf_sum, e);
	for (unsigned i = 0; rc == 0 && i < x->head.n; i++)
		rc = write_member(x, i, e);
	if (rc == 0)
		rc = put_last(x, ovf_sum, e);
	if (rc == 0)
		rc = arcout_finish(x->archive, e);
	arcout_free(x->archive);
	return rc;
}

int
export_lane(struct job_lane *l, void *arg, struct err *e)
{
	struct export *x = arg;
	int rc;

	walk_lane_init(&x->lane, l->remote.lane, l->job);
	if (x->base != NULL)
		walk_lane_init(&x->base_lane, x->base->control.lane, x->base);
	x->base_told_ms = now_ms();
	x->out.wait = while_waiting;
	x->out.arg = x;
	rc = write_archive(x, e);
	for (unsigned i = 0; i < x->head.n; i++) {
		form_free(x->form[i]);
		walk_free(x->walk[i]);
	}
	if (x->base != NULL)
		walk_lane_fini(&x->base_lane);
	walk_lane_fini(&x->lane);
	return rc;
}
