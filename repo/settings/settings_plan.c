/* SPDX-License-Identifier: Apache-2.0 */
/* When a VM is backed up. */
#include <string.h>

#include "repo/settings/settings_impl.h"

int
settings_plan_take(const struct settings_key *k, const char *text,
    struct plan *p, struct err *e)
{
	if (k->type == SETTING_TIMES)
		return plan_add_times(p, text, e);
	if (k->type == SETTING_WINDOWS)
		return plan_add_windows(p, text, e);
	if (settings_take(k, "", text, p) == 0)
		return 0;
	return err_set(
	    e, ERR_INVAL, "takes %s, not \"%.140s\"", k->takes, text);
}

static void
copy(const struct settings_key *k, const struct plan *from, struct plan *to)
{
	switch (k->set) {
	case PLAN_SCHEDULE:
		to->ntimes = from->ntimes;
		memcpy(to->time, from->time, sizeof(to->time));
		memcpy(to->schedule, from->schedule, sizeof(to->schedule));
		break;
	case PLAN_WINDOW:
		to->nwindows = from->nwindows;
		memcpy(to->window, from->window, sizeof(to->window));
		memcpy(to->windows, from->windows, sizeof(to->windows));
		break;
	case PLAN_RETRIES_SET: to->retries = from->retries; break;
	case PLAN_RETRY_WAIT: to->retry_wait = from->retry_wait; break;
	case PLAN_CATCH_UP: to->catch_up = from->catch_up; break;
	case PLAN_PRUNE: to->prune = from->prune; break;
	default: break;
	}
	to->set |= k->set;
}

void
settings_plan(const struct settings *s, const char *vm, struct plan *out)
{
	plan_init(out);
	for (unsigned i = 0; i < settings_nkeys; i++) {
		const struct settings_key *k = &settings_keys[i];
		const struct settings_section *best = NULL;
		size_t most = 0;

		for (unsigned v = 0; k->plan && v < s->nvms; v++) {
			size_t n = settings_fit(&s->vm[v], vm);

			if (n > most && (s->vm[v].plan.set & k->set) != 0) {
				most = n;
				best = &s->vm[v];
			}
		}
		if (best != NULL)
			copy(k, &best->plan, out);
	}
}
