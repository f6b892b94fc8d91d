/* SPDX-License-Identifier: Apache-2.0 */
/* The thread: one look a second at whatever may have come due. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/base/cond.h"
#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "repo/serve/scheduler_impl.h"

enum { SAVE_AGAIN_MS = 10000, JUMP_S = 5, WAITING_S = 60 };

static uint64_t
wall(void)
{
	time_t t = time(NULL);

	return t > 0 ? (uint64_t)t : 1;
}

/* --- the file */

static void
save(struct scheduler *s)
{
	const struct schedule_vm **v;
	struct buf text = { 0 };
	size_t n = 0;

	atomic_store(&s->unsaved, false);
	v = xmalloc((s->n + 1) * sizeof(*v));
	pthread_mutex_lock(&s->mu);
	for (size_t i = 0; i < s->n; i++)
		if (s->vm[i]->v.rule[0] != 0 ||
		    s->vm[i]->v.outcome != OUTCOME_NONE)
			v[n++] = &s->vm[i]->v;
	schedule_file_print(v, n, &text);
	pthread_mutex_unlock(&s->mu);
	s->saved_ms = now_ms();
	/* It is tried again; meanwhile backups are made all the same. */
	s->failed = file_replace(s->dirfd, SCHEDULE_FILE, text.data, text.len,
			0600) != 0;
	if (s->failed) {
		atomic_store(&s->unsaved, true);
		log_error("%s cannot be written: if the daemon ends now, "
			  "backups may be made again",
		    SCHEDULE_FILE);
	}
	buf_fini(&text);
	free(v);
}

/* --- what has ended */

/* Called by the queue, from any thread. */
static void
job_ended(void *arg, uint64_t job, enum job_state state, const char *text)
{
	struct scheduler *s = arg;
	struct scheduler_end *x = xcalloc(1, sizeof(*x));

	x->job = job;
	x->state = state;
	snprintf(x->text, sizeof(x->text), "%s", text != NULL ? text : "");
	pthread_mutex_lock(&s->ends_mu);
	*s->ends_last = x;
	s->ends_last = &x->next;
	pthread_cond_signal(&s->changed);
	pthread_mutex_unlock(&s->ends_mu);
}

static struct scheduled *
find_job(struct scheduler *s, uint64_t job)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->vm[i]->v.runs && s->vm[i]->job == job)
			return s->vm[i];
	return NULL;
}

static void
say_ended(const struct scheduled *x, const struct plan *p, enum job_state state,
    const char *text)
{
	char again[TIME_TEXT_LEN + 1];

	if (state != JOB_FAILED)
		return; /* the job says it */
	if (x->v.due != 0)
		log_info("%s: its scheduled backup failed, try %u of %llu, and "
			 "is tried again from %s on: %s",
		    x->v.vm, x->v.tries, (unsigned long long)p->retries + 1,
		    time_print(x->v.again, again), text);
	else
		log_error("%s: its scheduled backup failed, and is not tried "
			  "again before the next one is due: %s",
		    x->v.vm, text);
}

static void
take_end(struct scheduler *s, const struct scheduler_end *end, uint64_t now)
{
	struct scheduled *x = find_job(s, end->job);
	struct plan p;

	if (x == NULL)
		return;
	/* It is taken up again at the next start. */
	if (end->state == JOB_FAILED && atomic_load(&s->srv->stopping))
		return;
	settings_plan(s->settings, x->v.vm, &p);
	if (end->state == JOB_FAILED &&
	    strncmp(end->text, QUEUE_LATE, strlen(QUEUE_LATE)) == 0) {
		schedule_unbegun(&x->v);
		log_info("%s: its scheduled backup waits for the next window",
		    x->v.vm);
	} else {
		schedule_ended(&x->v, &p, now, end->state, end->text);
		say_ended(x, &p, end->state, end->text);
	}
	x->job = 0;
	x->until = 0;
	atomic_store(&s->unsaved, true);
	if (end->state == JOB_DONE && p.prune)
		pruner_add(s->pruner, x->v.vm);
}

static void
take_ends(struct scheduler *s, uint64_t now)
{
	struct scheduler_end *all, *next;

	pthread_mutex_lock(&s->ends_mu);
	all = s->ends;
	s->ends = NULL;
	s->ends_last = &s->ends;
	pthread_mutex_unlock(&s->ends_mu);
	pthread_mutex_lock(&s->mu);
	for (; all != NULL; all = next) {
		next = all->next;
		take_end(s, all, now);
		free(all);
	}
	pthread_mutex_unlock(&s->mu);
}

void
scheduler_pruned(struct scheduler *s, const char *vm, uint64_t now,
    uint64_t removed, const char *stopped)
{
	struct scheduled *x;

	pthread_mutex_lock(&s->mu);
	x = scheduler_find(s, vm);
	if (x != NULL) {
		x->v.pruned = now;
		x->v.removed = removed;
		snprintf(x->v.stopped, sizeof(x->v.stopped), "%s", stopped);
		atomic_store(&s->unsaved, true);
	}
	pthread_mutex_unlock(&s->mu);
}

/* --- what is due */

static void
tell_missed(struct scheduler *s, struct scheduled *x)
{
	char when[TIME_TEXT_LEN + 1];
	const char *then = x->made_up ? "is made up for as soon as possible"
				      : "is left to the next time";
	json_t *facts = json_object();

	time_print(x->missed, when);
	log_error("%s: its scheduled backup of %s was missed, and %s", x->v.vm,
	    when, then);
	json_set_str(facts, "vm", x->v.vm);
	json_set_str(facts, "outcome", "missed");
	json_set_str(facts, "due", when);
	json_set_bool(facts, "made_up", x->made_up);
	json_object_set_new(facts, "text",
	    json_sprintf("%s: the scheduled backup of %s was missed, and %s",
		x->v.vm, when, then));
	event_post(s->srv->events, EVENT_MISSED_SCHEDULE, facts);
	x->missed = 0;
}

static bool
has_host(struct scheduler *s, const char *vm)
{
	const struct queue_request r = { .kind = JOB_BACKUP, .vm = vm };

	return queue_takes(s->srv->queue, &r, NULL) == 0;
}

/* A job that was queued, and whose host went away before it began, waits for
 * it; but its time is missed. */
static void
look_at_queued(struct scheduler *s, struct scheduled *x, uint64_t now)
{
	struct schedule_vm *v = &x->v;
	json_t *jobs;

	if (now < v->began + SCHEDULE_LATE_S) {
		if (v->began + SCHEDULE_LATE_S < x->until)
			x->until = v->began + SCHEDULE_LATE_S;
		return;
	}
	if (now + WAITING_S < x->until)
		x->until = now + WAITING_S;
	if ((v->told != 0 && now >= v->told &&
		now - v->told < SCHEDULE_TELL_S) ||
	    has_host(s, v->vm))
		return;
	jobs = json_array();
	queue_to_json(s->srv->queue, x->job, NULL, NULL, jobs);
	if (json_array_size(jobs) > 0) {
		x->missed = v->due;
		x->made_up = true;
		v->told = now;
		atomic_store(&s->unsaved, true);
	}
	json_decref(jobs);
}

/* True: it is to be run. */
static bool
look(struct scheduler *s, struct scheduled *x, uint64_t now)
{
	struct schedule_view view;
	struct plan p;

	settings_plan(s->settings, x->v.vm, &p);
	view =
	    schedule_look(&x->v, &p, now, p.ntimes > 0 && has_host(s, x->v.vm));
	x->state = view.state;
	x->until = view.until;
	if (view.state == SCHEDULE_RUNS)
		look_at_queued(s, x, now);
	if (view.missed != 0) {
		x->missed = view.missed;
		x->made_up = view.made_up;
	}
	if (view.changed)
		atomic_store(&s->unsaved, true);
	return view.state == SCHEDULE_RUN;
}

static void
run(struct scheduler *s, struct scheduled *x, uint64_t now)
{
	struct queue_request r = { .kind = JOB_BACKUP,
		.vm = x->v.vm,
		.why = "schedule",
		.ended = job_ended,
		.arg = s };
	struct err e = { 0 };
	uint64_t closes, job;
	struct plan p;
	int rc;

	settings_plan(s->settings, x->v.vm, &p);
	closes = plan_closes(&p, now);
	if (closes != CALENDAR_NEVER)
		r.until_ms = now_ms() + (closes - now) * 1000;
	rc = queue_add(s->srv->queue, &r, &job, &e);
	pthread_mutex_lock(&s->mu);
	if (rc == 0) {
		x->job = job;
		x->state = SCHEDULE_RUNS;
	} else if (rc == ERR_LIMIT) {
		/* Full: it is no try, and its turn comes. */
		schedule_unbegun(&x->v);
		x->until = now + WAITING_S;
		atomic_store(&s->unsaved, true);
	} else if (rc != ERR_CLOSED) {
		schedule_ended(&x->v, &p, now, JOB_FAILED, e.text);
		say_ended(x, &p, JOB_FAILED, e.text);
		x->until = 0;
		atomic_store(&s->unsaved, true);
	}
	pthread_mutex_unlock(&s->mu);
}

/* What is run is in the file before, so that nothing is run twice. */
static void
run_all(struct scheduler *s, struct scheduled **due, size_t n, uint64_t now)
{
	if (n == 0)
		return;
	pthread_mutex_lock(&s->mu);
	for (size_t i = 0; i < n; i++)
		schedule_began(&due[i]->v, now);
	pthread_mutex_unlock(&s->mu);
	save(s);
	for (size_t i = 0; i < n; i++)
		run(s, due[i], now);
}

/* Settings that are others, or a clock that does not go on as it should: all
 * are looked at anew. */
static void
look_around(struct scheduler *s, uint64_t now)
{
	const struct settings *now_in_force = settings_get(s->srv->settings);
	uint64_t ms = now_ms(), should;
	bool anew = false;

	if (now_in_force != s->settings) {
		if (s->settings != NULL)
			settings_put(s->srv->settings, s->settings);
		s->settings = now_in_force;
		s->refreshed_ms = s->catalog_ms = 0;
		tzset();
		anew = true;
	} else {
		settings_put(s->srv->settings, now_in_force);
	}
	should = s->last_wall + (ms - s->last_ms) / 1000;
	if (now + JUMP_S < should || now > should + JUMP_S)
		anew = true;
	s->last_wall = now;
	s->last_ms = ms;
	for (size_t i = 0; anew && i < s->n; i++)
		s->vm[i]->until = 0;
}

static void
tick(struct scheduler *s)
{
	uint64_t now = wall();
	struct scheduled **due;
	size_t ndue = 0;

	look_around(s, now);
	take_ends(s, now);
	scheduler_refresh(s);
	due = xmalloc((s->n + 1) * sizeof(struct scheduled *));
	pthread_mutex_lock(&s->mu);
	for (size_t i = 0; i < s->n; i++)
		if (now >= s->vm[i]->until && look(s, s->vm[i], now))
			due[ndue++] = s->vm[i];
	pthread_mutex_unlock(&s->mu);
	for (size_t i = 0; i < s->n; i++)
		if (s->vm[i]->missed != 0)
			tell_missed(s, s->vm[i]);
	run_all(s, due, ndue, now);
	free(due);
	atomic_store(&s->looked, now);
	if (atomic_load(&s->unsaved) &&
	    (!s->failed || now_ms() - s->saved_ms >= SAVE_AGAIN_MS))
		save(s);
}

/* True: it goes on. */
static bool
rest(struct scheduler *s)
{
	uint64_t until = now_ms() + SCHEDULER_TICK_MS;
	bool go;

	pthread_mutex_lock(&s->ends_mu);
	while (!s->stopping && s->ends == NULL && now_ms() < until)
		cond_wait_until(&s->changed, &s->ends_mu, until);
	go = !s->stopping;
	pthread_mutex_unlock(&s->ends_mu);
	return go;
}

static void *
scheduler_main(void *arg)
{
	struct scheduler *s = arg;

	do
		tick(s);
	while (rest(s));
	return NULL;
}

/* --- start and end */

static void
load(struct scheduler *s)
{
	struct schedule_vm *v = NULL;
	struct buf text = { 0 };
	struct catalog_totals t;
	struct err e = { 0 };
	size_t n = 0;
	int rc;

	rc = file_read(s->dirfd, SCHEDULE_FILE, SCHEDULE_FILE_MAX, &text);
	if (rc == 0)
		rc = schedule_file_parse(text.data, text.len, &v, &n, &e);
	else
		err_set(&e, rc, "it %s",
		    rc == ERR_NOENT ? "is not there" : "cannot be read");
	catalog_totals(s->srv->catalog, &t);
	if (rc != 0 && (rc != ERR_NOENT || t.nbackups > 0))
		log_error("%s: %s; when VMs were backed up last is taken from "
			  "their newest backups",
		    SCHEDULE_FILE, e.text);
	s->derive = rc != 0;
	atomic_store(&s->unsaved, rc != 0);
	s->vm = xcalloc(n + 1, sizeof(struct scheduled *));
	s->cap = n + 1;
	for (size_t i = 0; i < n; i++) {
		/* Sorted, as they were written, and each once. */
		if (s->n > 0 && strcmp(v[i].vm, s->vm[s->n - 1]->v.vm) <= 0)
			continue;
		s->vm[s->n] = xcalloc(1, sizeof(struct scheduled));
		s->vm[s->n]->v = v[i];
		s->vm[s->n]->seen_ms = now_ms();
		s->n++;
	}
	free(v);
	buf_fini(&text);
}

/* Those that a file told of, and, without one, all that there are. */
static void
resume(struct scheduler *s)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];
	uint64_t now = wall();
	struct manifest m;
	struct plan p;

	look_around(s, now);
	if (s->derive)
		scheduler_refresh(s);
	for (size_t i = 0; i < s->n; i++) {
		struct schedule_vm *v = &s->vm[i]->v;
		bool has = catalog_newest(s->srv->catalog, v->vm, &m) == 0;

		settings_plan(s->settings, v->vm, &p);
		if (s->derive && p.ntimes > 0 && has && m.time < now) {
			memcpy(v->rule, p.schedule, sizeof(v->rule));
			v->handled = m.time;
		}
		schedule_resume(v, &p, now, has ? m.time : 0,
		    has ? manifest_name(&m, name) : "");
	}
	s->derive = false;
}

int
scheduler_start(struct serve *srv, struct scheduler **out)
{
	struct scheduler *s = xcalloc(1, sizeof(*s));
	int rc;

	s->srv = srv;
	s->dirfd = *srv->audit;
	s->ends_last = &s->ends;
	pthread_mutex_init(&s->mu, NULL);
	pthread_mutex_init(&s->ends_mu, NULL);
	cond_init(&s->changed);
	load(s);
	resume(s);
	rc = pruner_start(s, &s->pruner);
	if (rc != 0)
		goto err_free;
	errno = pthread_create(&s->thread, NULL, scheduler_main, s);
	if (errno != 0) {
		rc = log_sys("scheduler: start its thread");
		goto err_pruner;
	}
	*out = s;
	return 0;
err_pruner:
	pruner_stop(s->pruner);
err_free:
	settings_put(srv->settings, s->settings);
	s->settings = NULL;
	scheduler_free(s);
	return rc;
}

void
scheduler_stop(struct scheduler *s)
{
	if (s == NULL || s->pruner == NULL)
		return;
	pthread_mutex_lock(&s->ends_mu);
	s->stopping = true;
	pthread_cond_signal(&s->changed);
	pthread_mutex_unlock(&s->ends_mu);
	pthread_join(s->thread, NULL);
	take_ends(s, wall());
	pruner_stop(s->pruner);
	s->pruner = NULL;
	save(s);
	settings_put(s->srv->settings, s->settings);
	s->settings = NULL;
}

void
scheduler_free(struct scheduler *s)
{
	struct scheduler_end *next;

	if (s == NULL)
		return;
	for (; s->ends != NULL; s->ends = next) {
		next = s->ends->next;
		free(s->ends);
	}
	for (size_t i = 0; i < s->n; i++)
		free(s->vm[i]);
	free(s->vm);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->ends_mu);
	pthread_mutex_destroy(&s->mu);
	free(s);
}
