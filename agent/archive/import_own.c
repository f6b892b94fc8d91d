/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "agent/archive/import.h"
#include "agent/archive/own_source.h"
#include "proto/base/buf.h"

static int
check_end(void *arg, struct err *e)
{
	return own_end(arg, e);
}

static int
take_head(struct arcin *a, struct head *h, struct err *e)
{
	struct buf text = { 0 };
	int rc = arcin_text(a, HEAD_LEN_MAX, &text, e), code;

	if (rc == 0) {
		code = head_parse(text.data, text.len, h, e);
		if (code != 0)
			rc = arcin_fail(a,
			    code == ERR_UNSUP ? ERR_UNSUP : ERR_INVAL, e, "%s",
			    e->text);
	}
	for (unsigned i = 0; rc == 0 && i < h->n; i++)
		if (h->member[i].form == HEAD_VMDK)
			rc = arcin_fail(a, ERR_UNSUP, e,
			    "%.120s is a VMDK, which is only taken in an OVA",
			    h->member[i].name);
	buf_fini(&text);
	return rc;
}

int
import_own(const struct import_options *o, struct arcin *a,
    struct backup_result *out, struct err *e)
{
	struct head *h = xcalloc(1, sizeof(*h));
	struct backup_input in[MANIFEST_VOLUMES_MAX];
	struct backup_options b = o->backup;
	struct backup *job;
	struct own *own;
	int rc;

	rc = take_head(a, h, e);
	if (rc != 0)
		goto err_free;
	own = own_new(a, h);
	b.time = o->time != 0 ? o->time : h->manifest.time;
	b.agent_time = h->manifest.agent_time;
	b.base = h->since ? h->since_time : 0;
	b.forward = true;
	b.job.lanes = 1;
	b.verify_clean = 0;
	b.last = check_end;
	b.last_arg = own;
	rc = backup_open(&b, &job, e);
	if (rc != 0)
		goto err_own;
	memset(in, 0, sizeof(in));
	for (unsigned i = 0; i < h->n; i++) {
		const struct head_member *m = &h->member[i];
		const struct manifest_volume *v =
		    &h->manifest.volume[m->volume];

		in[i].name = v->name;
		in[i].kind = v->kind;
		in[i].source = own_source(own, i);
		if (manifest_path(&h->manifest, v)[0] != 0) {
			in[i].path = manifest_path(&h->manifest, v);
			in[i].identity = manifest_identity(&h->manifest, v);
		}
		if (m->overlay)
			in[i].base_root = &m->since_root;
	}
	rc = backup_send(
	    job, in, h->n, h->manifest.consistency, NULL, NULL, out, e);
	backup_close(job);
err_own:
	own_free(own);
err_free:
	free(h);
	return rc;
}
