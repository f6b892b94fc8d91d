/* SPDX-License-Identifier: Apache-2.0 */
/* Which VMs there are. */
#include <stdlib.h>
#include <string.h>

#include "proto/base/io.h"
#include "repo/serve/scheduler_impl.h"

/* Where it is, or would be. */
static size_t
place(const struct scheduler *s, const char *vm)
{
	size_t from = 0, to = s->n;

	while (from < to) {
		size_t mid = from + (to - from) / 2;

		if (strcmp(s->vm[mid]->v.vm, vm) < 0)
			from = mid + 1;
		else
			to = mid;
	}
	return from;
}

struct scheduled *
scheduler_find(struct scheduler *s, const char *vm)
{
	size_t i = place(s, vm);

	return i < s->n && strcmp(s->vm[i]->v.vm, vm) == 0 ? s->vm[i] : NULL;
}

static void
see(struct scheduler *s, const char *vm)
{
	size_t i = place(s, vm);
	struct scheduled *x;

	if (i < s->n && strcmp(s->vm[i]->v.vm, vm) == 0) {
		s->vm[i]->seen_ms = now_ms();
		return;
	}
	if (s->n == SCHEDULE_VMS_MAX)
		return;
	x = xcalloc(1, sizeof(*x));
	snprintf(x->v.vm, sizeof(x->v.vm), "%s", vm);
	x->seen_ms = now_ms();
	pthread_mutex_lock(&s->mu);
	if (s->n == s->cap) {
		s->cap *= 2;
		s->vm = xrealloc(s->vm, s->cap * sizeof(struct scheduled *));
	}
	memmove(
	    &s->vm[i + 1], &s->vm[i], (s->n - i) * sizeof(struct scheduled *));
	s->vm[i] = x;
	s->n++;
	pthread_mutex_unlock(&s->mu);
}

static void
see_catalog(struct scheduler *s)
{
	struct catalog_cursor cur = { .seq = 0 };
	struct manifest m;

	while (catalog_next(s->srv->catalog, &cur, &m) == 0) {
		cur.seq = UINT64_MAX;
		see(s, m.vm);
	}
}

/* [vm web1] is about one that there should be. */
static void
see_settings(struct scheduler *s)
{
	for (unsigned i = 0; i < s->settings->nvms; i++) {
		const struct settings_section *v = &s->settings->vm[i];

		if (vm_name_ok(v->pattern) && v->plan.ntimes > 0)
			see(s, v->pattern);
	}
}

static void
see_agents(struct scheduler *s)
{
	char(*names)[VM_NAME_MAX + 1];
	size_t n;

	names = queue_vms(s->srv->queue, &n);
	for (size_t i = 0; i < n; i++)
		see(s, names[i]);
	free(names);
}

/* Those that are nowhere any more: not in the settings, without backups, and
 * no agent has reported them for a day. */
static void
forget(struct scheduler *s)
{
	uint64_t now = now_ms();
	size_t kept = 0;

	pthread_mutex_lock(&s->mu);
	for (size_t i = 0; i < s->n; i++) {
		struct scheduled *x = s->vm[i];

		if (!x->v.runs && now - x->seen_ms > SCHEDULER_FORGET_MS)
			free(x);
		else
			s->vm[kept++] = x;
	}
	s->n = kept;
	pthread_mutex_unlock(&s->mu);
}

void
scheduler_refresh(struct scheduler *s)
{
	uint64_t ms = now_ms();

	if (s->catalog_ms == 0 || ms - s->catalog_ms >= SCHEDULER_CATALOG_MS) {
		see_settings(s);
		see_catalog(s);
		forget(s);
		s->catalog_ms = ms;
	}
	if (s->refreshed_ms != 0 && ms - s->refreshed_ms < SCHEDULER_REFRESH_MS)
		return;
	see_agents(s);
	s->refreshed_ms = ms;
}
