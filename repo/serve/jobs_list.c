/* SPDX-License-Identifier: Apache-2.0 */
/* What people and other parts are shown of jobs. */
#include <stdlib.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "repo/serve/jobs_impl.h"

struct job *
jobs_find_running(struct jobs *a, uint64_t id)
{
	struct job *j = a->first;

	while (j != NULL && j->face.id != id)
		j = j->next;
	return j;
}

const struct job_face *
jobs_find_ended(const struct jobs *a, uint64_t id)
{
	for (uint64_t i = 0; i < a->nended && i < JOBS_ENDED_KEPT; i++)
		if (a->ended[i].id == id)
			return &a->ended[i];
	return NULL;
}

unsigned
jobs_running(struct jobs *a)
{
	unsigned n = 0;

	pthread_mutex_lock(&a->mu);
	for (const struct job *j = a->first; j != NULL; j = j->next)
		n++;
	pthread_mutex_unlock(&a->mu);
	return n;
}

void
jobs_counts(struct jobs *a, struct jobs_counts *out)
{
	pthread_mutex_lock(&a->mu);
	*out = a->counts;
	for (const struct job *j = a->first; j != NULL; j = j->next)
		out->n[j->face.kind][JOB_RUNNING]++;
	pthread_mutex_unlock(&a->mu);
}

json_t *
job_face_to_json(const struct job_face *f)
{
	char since[TIME_TEXT_LEN + 1];
	json_t *o = json_object();

	json_set_u64(o, "job", f->id);
	json_set_str(o, "kind", job_kind_name(f->kind));
	json_set_str(o, "vm", f->vm);
	if (f->other[0] != 0)
		json_set_str(o, "other", f->other);
	json_set_str(o, "host", f->host);
	json_set_str(o, "since", time_print(f->since, since));
	json_set_str(o, "state", job_state_name(f->state));
	json_set_u64(o, "lanes", f->state == JOB_RUNNING ? f->lanes : 0);
	json_set_str(o, "phase", f->state == JOB_RUNNING ? f->phase : "");
	json_set_u64(o, "took_ms",
	    f->state == JOB_RUNNING ? now_ms() - f->started_ms : f->took_ms);
	json_set_u64(o, "done", f->progress.done);
	json_set_u64(o, "total", f->progress.total);
	json_set_u64(o, "read", f->progress.read);
	json_set_u64(o, "holes", f->progress.holes);
	json_set_u64(o, "unchanged", f->progress.unchanged);
	json_set_u64(o, "deduplicated", f->progress.deduplicated);
	json_set_u64(o, "sent", f->progress.sent);
	json_set_u64(o, "stored", f->progress.stored);
	json_set_str(o, "text", f->text);
	return o;
}

/* One that runs.  The registry is locked. */
static json_t *
job_to_json(const struct job *j)
{
	json_t *o = job_face_to_json(&j->face);

	json_object_set_new(o, "traffic", traffic_to_json(&j->traffic));
	return o;
}

json_t *
jobs_with_queued(struct jobs *a, json_t *queued)
{
	json_t *list = json_array(), *o;
	uint64_t n;
	size_t i;

	pthread_mutex_lock(&a->mu);
	for (const struct job *j = a->first; j != NULL; j = j->next)
		json_array_append_new(list, job_to_json(j));
	json_array_foreach(queued, i, o)
	{
		uint64_t id =
		    (uint64_t)json_integer_value(json_object_get(o, "job"));

		if (jobs_find_running(a, id) == NULL &&
		    jobs_find_ended(a, id) == NULL)
			json_array_append(list, o);
	}
	n = a->nended < JOBS_ENDED_KEPT ? a->nended : JOBS_ENDED_KEPT;
	for (uint64_t k = 1; k <= n; k++)
		json_array_append_new(list,
		    job_face_to_json(
			&a->ended[(a->nended - k) % JOBS_ENDED_KEPT]));
	pthread_mutex_unlock(&a->mu);
	return list;
}

json_t *
jobs_to_json(struct jobs *a)
{
	return jobs_with_queued(a, NULL);
}

json_t *
jobs_one_to_json(struct jobs *a, uint64_t id)
{
	json_t *o = NULL;

	pthread_mutex_lock(&a->mu);
	for (const struct job *j = a->first; j != NULL && o == NULL;
	     j = j->next)
		if (j->face.id == id)
			o = job_to_json(j);
	for (uint64_t i = 0; o == NULL && i < a->nended && i < JOBS_ENDED_KEPT;
	     i++)
		if (a->ended[i].id == id)
			o = job_face_to_json(&a->ended[i]);
	pthread_mutex_unlock(&a->mu);
	return o != NULL ? o : json_null();
}
