/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of the settings, applied after scheduled backups. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/base/json.h"
#include "proto/base/log.h"
#include "repo/serve/audited.h"
#include "repo/serve/retain.h"
#include "repo/serve/scheduler_impl.h"

enum { WAIT_MS = 10000 /* for a lock; the next backup tries again */ };

struct wish {
	struct wish *next;
	char vm[VM_NAME_MAX + 1];
};

struct pruner {
	struct scheduler *s;
	pthread_t thread;
	pthread_mutex_t mu;
	pthread_cond_t changed;
	struct wish *first, **last; /* guarded by mu */
	bool stopping;              /* likewise */
};

/* Who lets go of backups by schedule; no key of a file is called so twice. */
static const struct auth_key schedule_key = {
	.name = "schedule", .type = "local", .roles = ROLE_ADMIN
};

static void
prune(struct pruner *p, const char *vm)
{
	struct serve *srv = p->s->srv;
	struct session s = { .srv = srv, .key = &schedule_key };
	json_t *q, *a;
	struct err e = { 0 };
	const json_t *one;
	const char *why;
	int rc;

	/* Nothing goes: nothing to note. */
	if (prune_due(&s, vm) == 0) {
		scheduler_pruned(p->s, vm, (uint64_t)time(NULL), 0, "");
		return;
	}
	q = json_object();
	a = json_object();
	json_set_str(q, "op", "prune");
	json_set_str(q, "vm", vm);
	json_set_u64(q, "wait", WAIT_MS);
	rc = audited_run(&s, "prune", prune_call, q, a, &e);
	one = json_array_get(json_object_get(a, "vms"), 0);
	why = json_string_value(json_object_get(one, "stopped"));
	if (rc != 0)
		why = e.text[0] != 0 ? e.text : err_name(rc);
	if (why != NULL && !atomic_load(&srv->stopping))
		log_error("%s: what its rules do not keep stays: %s", vm, why);
	scheduler_pruned(p->s, vm, (uint64_t)time(NULL),
	    (uint64_t)json_integer_value(json_object_get(one, "removed")),
	    why != NULL ? why : "");
	json_decref(q);
	json_decref(a);
}

static struct wish *
take(struct pruner *p)
{
	struct wish *w;

	pthread_mutex_lock(&p->mu);
	while (!p->stopping && p->first == NULL)
		pthread_cond_wait(&p->changed, &p->mu);
	w = p->stopping ? NULL : p->first;
	if (w != NULL) {
		p->first = w->next;
		if (p->first == NULL)
			p->last = &p->first;
	}
	pthread_mutex_unlock(&p->mu);
	return w;
}

static void *
pruner_main(void *arg)
{
	struct pruner *p = arg;
	struct wish *w;

	while ((w = take(p)) != NULL) {
		prune(p, w->vm);
		free(w);
	}
	return NULL;
}

static void
pruner_free(struct pruner *p)
{
	struct wish *next;

	for (; p->first != NULL; p->first = next) {
		next = p->first->next;
		free(p->first);
	}
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->mu);
	free(p);
}

int
pruner_start(struct scheduler *s, struct pruner **out)
{
	struct pruner *p = xcalloc(1, sizeof(*p));

	p->s = s;
	p->last = &p->first;
	pthread_mutex_init(&p->mu, NULL);
	pthread_cond_init(&p->changed, NULL);
	errno = pthread_create(&p->thread, NULL, pruner_main, p);
	if (errno != 0) {
		pruner_free(p);
		return log_sys("scheduler: start the thread that prunes");
	}
	*out = p;
	return 0;
}

void
pruner_add(struct pruner *p, const char *vm)
{
	struct wish *w;

	pthread_mutex_lock(&p->mu);
	for (w = p->first; w != NULL && strcmp(w->vm, vm) != 0; w = w->next)
		;
	if (w == NULL) {
		w = xcalloc(1, sizeof(*w));
		snprintf(w->vm, sizeof(w->vm), "%s", vm);
		*p->last = w;
		p->last = &w->next;
		pthread_cond_signal(&p->changed);
	}
	pthread_mutex_unlock(&p->mu);
}

void
pruner_stop(struct pruner *p)
{
	pthread_mutex_lock(&p->mu);
	p->stopping = true;
	pthread_cond_signal(&p->changed);
	pthread_mutex_unlock(&p->mu);
	pthread_join(p->thread, NULL);
	pruner_free(p);
}
