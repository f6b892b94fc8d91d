/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's side of a backup: hot messages, commit.  See begin.c. */
#include <string.h>
#include <time.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "repo/serve/leaving.h"
#include "repo/serve/notice.h"
#include "repo/serve/session.h"
#include "repo/store/record.h"

/*
 * A failure of the store's that the job cannot survive ends it, so that all of
 * its lanes hear of it.
 */
static int
after_store(struct session *s, int rc, const char *what, struct err *e)
{
	if (rc == 0)
		return 0;
	session_explain(e, rc, what);
	if (rc == ERR_SYS || rc == ERR_CLOSED)
		job_end(s->job, JOB_FAILED, rc, e->text);
	return rc;
}

int
ingest_query(struct session *s, const struct frame *f, struct err *e)
{
	struct msg_have have = { .leaf = false };
	uint8_t leaf[1] = { 0 };
	struct msg_query q;
	int rc;

	rc = session_need_job(s, JOB_BACKUP, f->type, e);
	if (rc == 0)
		rc = msg_query_parse(f->payload, f->len, &q, e);
	if (rc == 0)
		rc = job_enter(s->job, e);
	if (rc != 0)
		return rc;
	if (!id_is_hole(q.leaf))
		rc = store_have(
		    s->job->session, RECORD_NODE, 0, q.leaf, 1, leaf, e);
	have.leaf = (leaf[0] & 1) != 0;
	/* The leaf is sound, what it holds may be not. */
	if (have.leaf && store_any_damaged(s->srv->store, q.id, q.n))
		have.leaf = false;
	if (rc == 0 && !have.leaf && q.n > 0)
		rc = store_have(
		    s->job->session, RECORD_CHUNK, 0, q.id, q.n, have.bits, e);
	rc = after_store(s, rc, "QUERY", e);
	job_leave(s->job);
	if (rc != 0)
		return rc;
	msg_have_print(lane_begin(s->lane, MSG_HAVE, f->request), q.n, &have);
	lane_end(s->lane, NULL);
	return 0;
}

static int
put_chunks(struct session *s, const struct frame *f, struct msg_put_done *done,
    struct err *e)
{
	uint32_t chunk_size = store_format(s->srv->store)->chunk_size;
	struct rd r = rd_over(f->payload, f->len);
	int rc;

	if (r.left == 0)
		return err_set(e, ERR_PROTO, "PUT: no chunk in it");
	while (r.left > 0) {
		struct msg_chunk c;
		struct store_put p;
		uint64_t stored = 0;

		rc = msg_put_next(&r, &c, e);
		if (rc != 0)
			return rc;
		if (c.raw_len > chunk_size)
			return err_set(e, ERR_LIMIT,
			    "PUT: a chunk of %u bytes; they have %u here",
			    (unsigned)c.raw_len, (unsigned)chunk_size);
		p = (struct store_put){ .id = c.id,
			.codec = c.codec,
			.raw_len = c.raw_len,
			.stored_len = c.stored_len,
			.data = c.data };
		rc = store_put_chunk(s->job->session, s->tools, &p, &stored, e);
		if (rc != 0)
			return after_store(s, rc, "PUT", e);
		if (stored > 0) {
			done->nstored++;
			done->stored += stored;
		}
	}
	return 0;
}

int
ingest_put(struct session *s, const struct frame *f, struct err *e)
{
	struct msg_put_done done = { 0 };
	int rc;

	rc = session_need_job(s, JOB_BACKUP, f->type, e);
	if (rc == 0)
		rc = job_enter(s->job, e);
	if (rc != 0)
		return rc;
	rc = put_chunks(s, f, &done, e);
	job_leave(s->job);
	if (rc != 0)
		return rc;
	msg_put_done_print(
	    lane_begin(s->lane, MSG_PUT_DONE, f->request), &done);
	lane_end(s->lane, NULL);
	return 0;
}

int
ingest_node(struct session *s, const struct frame *f, struct err *e)
{
	struct msg_node_done done = { .taken = true };
	int rc;

	rc = session_need_job(s, JOB_BACKUP, f->type, e);
	if (rc == 0)
		rc = job_enter(s->job, e);
	if (rc != 0)
		return rc;
	rc = store_put_node(
	    s->job->session, s->tools, f->payload, f->len, done.missing, e);
	if (rc == ERR_MISSING) {
		done.taken = false;
		rc = 0;
	}
	rc = after_store(s, rc, "NODE", e);
	job_leave(s->job);
	if (rc != 0)
		return rc;
	msg_node_done_print(
	    lane_begin(s->lane, MSG_NODE_DONE, f->request), &done);
	lane_end(s->lane, NULL);
	return 0;
}

static int
take_roots(const json_t *q, struct manifest *m, struct err *e)
{
	json_t *list, *stats = NULL;
	int rc;

	rc = json_get_array(q, "roots", &list, e);
	if (rc != 0)
		return rc;
	if (json_array_size(list) != m->nvolumes)
		return err_set(e, ERR_PROTO, "%zu roots for %u volumes",
		    json_array_size(list), m->nvolumes);
	for (unsigned i = 0; i < m->nvolumes; i++) {
		const char *text = json_string_value(json_array_get(list, i));

		if (text == NULL ||
		    unhex(text, m->volume[i].root.b, ID_LEN) != 0)
			return err_set(e, ERR_PROTO, "a root that is no id");
	}
	if (json_object_get(q, "stats") == NULL)
		return 0;
	rc = json_get_object(q, "stats", &stats, e);
	if (rc == 0)
		rc = manifest_stats_from_json(stats, &m->stats, e);
	return rc;
}

/* How the job is shown from now on; its agent's last word was earlier. */
static void
final_progress(struct job *j, const struct manifest *m)
{
	struct job_progress p = { .done = manifest_size(m),
		.total = manifest_size(m),
		.read = m->stats.read,
		.holes = m->stats.holes,
		.unchanged = m->stats.unchanged,
		.deduplicated = m->stats.deduplicated,
		.sent = m->stats.sent,
		.stored = m->stats.stored };

	job_progress(j, &p);
}

int
ingest_commit(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];
	struct job *j = s->job;
	struct leaving l;
	struct manifest m;
	struct notice n;
	int rc;

	rc = job_enter(j, e);
	if (rc != 0)
		return rc;
	m = j->manifest;
	m.has_parent = j->has_parent;
	if (j->has_parent)
		memcpy(m.parent, j->parent.id, sizeof(m.parent));
	rc = take_roots(q, &m, e);
	if (rc != 0)
		goto out;
	/* The lock on the VM is held: nobody else gives it a time meanwhile. */
	if (!m.imported)
		m.time = catalog_next_time(
		    s->srv->catalog, m.vm, (uint64_t)time(NULL));
	guard_stamp(s->srv->guard, &m);
	notice_judge(s->srv, &m, &n);
	/* From here on it is done, or fails by itself. */
	rc = job_settle(j, e);
	if (rc != 0)
		goto out;
	leaving_init(&l, s->srv, m.vm);
	leaving_incomplete(&l, UINT64_MAX);
	rc = store_commit(j->session, s->tools, &m, l.drop, l.n, e);
	leaving_end(&l, rc == 0);
	if (rc != 0) {
		session_explain(e, rc, "commit");
		job_end(j, JOB_FAILED, rc, e->text);
		goto out;
	}
	catalog_add(s->srv->catalog, &m);
	notice_tell(s->srv, &m, &n);
	final_progress(j, &m);
	manifest_name(&m, name);
	job_end(j, JOB_DONE, 0, name);
	json_set_str(a, "backup", name);
	json_set_hex(a, "id", m.id, sizeof(m.id));
	json_set_u64(a, "seq", m.seq);
out:
	job_leave(j);
	if (rc == 0)
		session_no_job(s);
	return rc;
}
