/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/verify.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/json.h"
#include "proto/base/log.h"
#include "repo/reclaim/verify.h"

enum {
	VERIFIERS_MAX = 8, /* that are remembered, running or ended */
	BACKUPS_MAX = 1000,
	TOLD_MAX = 4096 /* damaged runs: bounds the answer */
};

/* One verify job.  Never moves; its slot is used again when it has ended. */
struct run {
	struct serve *srv;
	struct verifiers *all;
	pthread_t thread;
	bool used; /* guarded by mu, as are the next four */
	bool ended;
	uint64_t id;
	uint64_t nskipped, damaged_bytes, untold;
	json_t *damaged;
	struct job *job;             /* the thread's */
	struct manifest *m;          /* what to read; the thread's */
	unsigned n;                  /* set before start, as are these: */
	char (*vm)[VM_NAME_MAX + 1]; /* of which VMs, some twice */
	unsigned nvms;
	unsigned at;               /* the thread's */
	struct job_progress count; /* the thread's */
};

struct verifiers {
	pthread_mutex_t mu;
	struct run run[VERIFIERS_MAX];
};

struct verifiers *
verifiers_new(void)
{
	struct verifiers *v = xcalloc(1, sizeof(*v));

	pthread_mutex_init(&v->mu, NULL);
	return v;
}

/* mu is held; the thread has ended or is about to. */
static void
run_clear(struct run *r)
{
	pthread_join(r->thread, NULL);
	json_decref(r->damaged);
	free(r->vm);
	memset(r, 0, sizeof(*r));
}

void
verifiers_free(struct verifiers *v)
{
	if (v == NULL)
		return;
	for (unsigned i = 0; i < VERIFIERS_MAX; i++)
		if (v->run[i].used)
			run_clear(&v->run[i]);
	pthread_mutex_destroy(&v->mu);
	free(v);
}

static void
see_damage(void *arg, const struct manifest *m, unsigned volume, uint64_t slice,
    uint64_t n)
{
	struct run *r = arg;
	const struct manifest_volume *vol = &m->volume[volume];
	uint64_t from = slice * m->chunk_size, to = (slice + n) * m->chunk_size;
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];
	json_t *o;

	if (to > vol->size)
		to = vol->size;
	log_error("%s, volume %s: %" PRIu64 " bytes from %" PRIu64
		  " on are damaged",
	    manifest_name(m, name), vol->name, to - from, from);
	pthread_mutex_lock(&r->all->mu);
	r->damaged_bytes += to - from;
	if (json_array_size(r->damaged) < TOLD_MAX) {
		o = json_object();
		json_set_str(o, "backup", name);
		json_set_str(o, "volume", vol->name);
		json_set_u64(o, "from", from);
		json_set_u64(o, "len", to - from);
		json_array_append_new(r->damaged, o);
	} else {
		r->untold++;
	}
	pthread_mutex_unlock(&r->all->mu);
}

static bool
go_on(void *arg, uint64_t done, uint64_t read)
{
	struct run *r = arg;

	r->count.done += done;
	r->count.read += read;
	job_progress(r->job, &r->count);
	return job_alive(r->job, NULL) == 0;
}

/* Under a lock of its own each: a backup may be deleted until it is its turn,
 * and is then passed over. */
static int
verify_one(struct run *r, struct verify *v, struct manifest *m, struct err *e)
{
	struct job *j = r->job;
	struct lock_request l = { .vm = m->vm,
		.mode = LOCK_FOR_READ,
		.backup = m->id,
		.job = j->face.id,
		.host = j->face.host,
		.since = j->face.since };
	uint8_t id[BACKUP_ID_LEN];
	struct domain d;
	int rc;

	rc = job_enter(j, e);
	if (rc != 0)
		return rc;
	memcpy(id, m->id, sizeof(id));
	rc = lock_take(r->srv->locks, &l, 0, &j->lock[0], e);
	if (rc == 0)
		rc = catalog_find_id(r->srv->catalog, l.vm, id, m);
	if (rc == ERR_BUSY || rc == ERR_NOENT) {
		pthread_mutex_lock(&r->all->mu);
		r->nskipped++;
		pthread_mutex_unlock(&r->all->mu);
		r->count.done += manifest_size(m);
		rc = 0;
		goto out;
	}
	if (rc == 0)
		rc = domains_get(r->srv->domains, m->domain, &d, e);
	if (rc == 0)
		rc = verify_backup(v, domain_key(&d), m, e);
	explicit_bzero(&d, sizeof(d));
out:
	lock_release(j->lock[0]);
	j->lock[0] = NULL;
	job_leave(j);
	return rc;
}

static void *
run_main(void *arg)
{
	struct run *r = arg;
	struct verify_options o = {
		.damaged = see_damage, .go_on = go_on, .arg = r
	};
	struct verify *v = verify_new(r->srv->store, &o);
	struct err e = { 0 };
	char text[120];
	uint64_t bytes;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < r->n; i++)
		rc = verify_one(r, v, &r->m[i], &e);
	verify_free(v);
	/* So that who hears of the end finds the flags set. */
	store_damage_settle(r->srv->store);
	pthread_mutex_lock(&r->all->mu);
	bytes = r->damaged_bytes;
	pthread_mutex_unlock(&r->all->mu);
	if (rc != 0) {
		session_explain(&e, rc, "verify");
		job_end(r->job, JOB_FAILED, rc, e.text);
	} else {
		snprintf(text, sizeof(text), "%u backups: %s", r->n,
		    bytes > 0 ? "damage was found" : "no damage");
		job_end(r->job, bytes > 0 ? JOB_FAILED : JOB_DONE,
		    bytes > 0 ? ERR_CORRUPT : 0, text);
	}
	job_detach(r->job);
	free(r->m);
	pthread_mutex_lock(&r->all->mu);
	r->ended = true;
	pthread_mutex_unlock(&r->all->mu);
	return NULL;
}

static int
add_backup(struct manifest **m, unsigned *n, const struct manifest *one)
{
	if ((*n & (*n - 1)) == 0)
		*m = xrealloc(*m, (*n != 0 ? 2 * *n : 1) * sizeof(**m));
	(*m)[(*n)++] = *one;
	return 0;
}

static int
resolve(
    struct session *s, const char *name, struct manifest *out, struct err *e)
{
	struct backup_ref ref;
	int rc = backup_ref_parse(name, &ref, e);

	if (rc != 0)
		return rc;
	if (!auth_sees(s->key, ref.vm))
		return err_set(
		    e, ERR_NOENT, "there is no backup of %s", ref.vm);
	return catalog_find(s->srv->catalog, &ref, out, e);
}

/* Those that are named, or all that the key sees. */
static int
choose(struct session *s, const json_t *q, struct manifest **m, unsigned *n,
    struct err *e)
{
	struct catalog_cursor cur = { .seq = 0 };
	json_t *names = json_object_get(q, "backups");
	struct manifest *one = xmalloc(sizeof(*one));
	const json_t *name;
	size_t i;
	int rc = 0;

	if (json_array_size(names) > BACKUPS_MAX)
		rc = err_set(
		    e, ERR_LIMIT, "at most %d backups, or all", BACKUPS_MAX);
	if (names == NULL)
		while (catalog_next(s->srv->catalog, &cur, one) == 0)
			if (auth_sees(s->key, one->vm))
				add_backup(m, n, one);
	json_array_foreach(names, i, name)
	{
		if (rc != 0)
			break;
		rc = json_is_string(name)
		    ? resolve(s, json_string_value(name), one, e)
		    : err_set(e, ERR_PROTO, "\"backups\": names, as strings");
		if (rc == 0)
			add_backup(m, n, one);
	}
	free(one);
	return rc;
}

/* A slot that was never used, or the one that ended longest ago.  mu held. */
static struct run *
free_run(struct verifiers *all)
{
	struct run *found = NULL;

	for (unsigned i = 0; i < VERIFIERS_MAX; i++) {
		struct run *r = &all->run[i];

		if (!r->used)
			return r;
		if (r->ended && (found == NULL || r->id < found->id))
			found = r;
	}
	if (found != NULL)
		run_clear(found);
	return found;
}

/* The manifests go with the thread; who may look is asked behind its end, too.
 */
static void
note_vms(struct run *r)
{
	r->vm = xmalloc((r->n + 1) * sizeof(*r->vm));
	for (unsigned i = 0; i < r->n; i++)
		if (i == 0 || strcmp(r->m[i].vm, r->m[i - 1].vm) != 0)
			memcpy(r->vm[r->nvms++], r->m[i].vm, sizeof(r->vm[0]));
}

/* mu is held. */
static bool
is_seen(const struct run *r, const struct auth_key *key)
{
	for (unsigned i = 0; i < r->nvms; i++)
		if (!auth_sees(key, r->vm[i]))
			return false;
	return true;
}

bool
verifiers_see(struct verifiers *v, uint64_t id, const struct auth_key *key)
{
	bool yes = false;

	pthread_mutex_lock(&v->mu);
	for (unsigned i = 0; i < VERIFIERS_MAX; i++)
		if (v->run[i].used && v->run[i].id == id)
			yes = is_seen(&v->run[i], key);
	pthread_mutex_unlock(&v->mu);
	return yes;
}

int
verify_call(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	struct verifiers *all = s->srv->verifiers;
	struct manifest *m = NULL;
	unsigned n = 0;
	struct run *r;
	struct job *j;
	int rc;

	rc = choose(s, q, &m, &n, e);
	if (rc != 0) {
		free(m);
		return rc;
	}
	j = job_new(s->srv->jobs, JOB_VERIFY, n == 1 ? m[0].vm : "(several)",
	    s->key->name);
	pthread_mutex_lock(&all->mu);
	r = free_run(all);
	if (r == NULL) {
		pthread_mutex_unlock(&all->mu);
		job_drop(j);
		free(m);
		return err_set(e, ERR_LIMIT,
		    "%d of them run already; see `backstay jobs`",
		    VERIFIERS_MAX);
	}
	*r = (struct run){ .srv = s->srv,
		.all = all,
		.used = true,
		.id = j->face.id,
		.damaged = json_array(),
		.job = j,
		.m = m,
		.n = n };
	note_vms(r);
	for (unsigned i = 0; i < n; i++)
		r->count.total += manifest_size(&m[i]);
	job_progress(j, &r->count);
	json_set_u64(a, "job", j->face.id);
	json_set_u64(a, "backups", n);
	job_start(j);
	errno = pthread_create(&r->thread, NULL, run_main, r);
	if (errno != 0) {
		rc = log_sys("verify: start a thread");
		session_explain(e, rc, "verify");
		r->used = false;
		json_decref(r->damaged);
		free(r->vm);
		free(m);
	}
	pthread_mutex_unlock(&all->mu);
	if (rc != 0) {
		job_end(j, JOB_FAILED, rc, e->text);
		job_detach(j);
	}
	return rc;
}

int
verified_call(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	struct verifiers *all = s->srv->verifiers;
	uint64_t id;
	int rc;

	rc = json_get_u64(q, "job", &id, e);
	if (rc != 0)
		return rc;
	rc = err_set(e, ERR_NOENT, "there is no verify job %" PRIu64, id);
	pthread_mutex_lock(&all->mu);
	for (unsigned i = 0; i < VERIFIERS_MAX; i++) {
		const struct run *r = &all->run[i];

		if (!r->used || r->id != id || !is_seen(r, s->key))
			continue;
		e->code = rc = 0;
		e->text[0] = 0;
		json_set_bool(a, "ended", r->ended);
		json_set_u64(a, "backups", r->n);
		json_set_u64(a, "skipped", r->nskipped);
		json_set_u64(a, "damaged_bytes", r->damaged_bytes);
		json_set_u64(a, "untold", r->untold);
		json_object_set_new(a, "damaged", json_deep_copy(r->damaged));
	}
	pthread_mutex_unlock(&all->mu);
	/* How far it is, and how it ended: as any job's. */
	if (rc == 0)
		json_object_set_new(
		    a, "state", jobs_one_to_json(s->srv->jobs, id));
	return rc;
}
