/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/dispatch/plan.h"

#include <stdio.h>
#include <string.h>

void
plan_init(struct plan *p)
{
	memset(p, 0, sizeof(*p));
	p->retries = PLAN_RETRIES;
	p->retry_wait = PLAN_RETRY_WAIT_S;
	p->catch_up = true;
	p->prune = true;
}

/* The next of the parts that ';' separates, without blanks around it; false:
 * there is none.  ERR_INVAL in ${rc}: it is too long. */
static bool
next_part(const char **text, char out[CALENDAR_TEXT_MAX + 1], int *rc)
{
	const char *p = *text;
	size_t len;

	if (p == NULL)
		return false;
	len = strcspn(p, ";");
	*text = p[len] == ';' ? p + len + 1 : NULL;
	while (len > 0 && (*p == ' ' || *p == '\t')) {
		p++;
		len--;
	}
	while (len > 0 && (p[len - 1] == ' ' || p[len - 1] == '\t'))
		len--;
	*rc = len > CALENDAR_TEXT_MAX ? ERR_INVAL : 0;
	snprintf(out, CALENDAR_TEXT_MAX + 1, "%.*s", (int)len, p);
	return true;
}

static int
remember(char said[PLAN_TEXT_MAX + 1], const char *part, struct err *e)
{
	size_t n = strlen(said);

	if (n + 2 + strlen(part) > PLAN_TEXT_MAX)
		return err_set(
		    e, ERR_INVAL, "over %d characters in all", PLAN_TEXT_MAX);
	snprintf(
	    said + n, PLAN_TEXT_MAX + 1 - n, "%s%s", n > 0 ? "; " : "", part);
	return 0;
}

static int
add_time(struct plan *p, const char *part, struct err *e)
{
	if (p->ntimes == PLAN_TIMES_MAX)
		return err_set(
		    e, ERR_INVAL, "more than %d times", PLAN_TIMES_MAX);
	if (calendar_parse(part, &p->time[p->ntimes], e) != 0)
		return ERR_INVAL;
	p->ntimes++;
	return remember(p->schedule, part, e);
}

static int
add_window(struct plan *p, const char *part, struct err *e)
{
	if (p->nwindows == PLAN_WINDOWS_MAX)
		return err_set(
		    e, ERR_INVAL, "more than %d windows", PLAN_WINDOWS_MAX);
	if (window_parse(part, &p->window[p->nwindows], e) != 0)
		return ERR_INVAL;
	p->nwindows++;
	return remember(p->windows, part, e);
}

static int
add_all(struct plan *p, const char *text,
    int (*add)(struct plan *p, const char *part, struct err *e), struct err *e)
{
	char part[CALENDAR_TEXT_MAX + 1];
	int rc = 0;

	while (rc == 0 && next_part(&text, part, &rc)) {
		if (rc != 0)
			return err_set(e, rc, "over %d characters for one",
			    CALENDAR_TEXT_MAX);
		/* One ';' at the end is no harm. */
		if (*part != 0 || text != NULL)
			rc = add(p, part, e);
	}
	return rc;
}

int
plan_add_times(struct plan *p, const char *text, struct err *e)
{
	if (strcmp(text, "never") == 0) {
		if (p->ntimes > 0)
			return err_set(e, ERR_INVAL,
			    "never stands alone, and there is \"%.60s\"",
			    p->schedule);
		return 0;
	}
	if (*text == 0)
		return err_set(
		    e, ERR_INVAL, "write times such as daily 02:00, or never");
	return add_all(p, text, add_time, e);
}

int
plan_add_windows(struct plan *p, const char *text, struct err *e)
{
	return add_all(p, text, add_window, e);
}

uint64_t
plan_next(const struct plan *p, uint64_t after)
{
	uint64_t first = CALENDAR_NEVER;

	for (unsigned i = 0; i < p->ntimes; i++) {
		uint64_t t = calendar_next(&p->time[i], after);

		if (t < first)
			first = t;
	}
	return first;
}

/* There may be millions in between: the greatest moment is looked for that has
 * one behind it up to ${until}. */
uint64_t
plan_last(const struct plan *p, uint64_t after, uint64_t until)
{
	uint64_t low = after, high = until;

	if (until <= after || plan_next(p, after) > until)
		return CALENDAR_NEVER;
	while (high - low > 1) {
		uint64_t middle = low + (high - low) / 2;

		if (plan_next(p, middle) <= until)
			low = middle;
		else
			high = middle;
	}
	return plan_next(p, low);
}

uint64_t
plan_opens(const struct plan *p, uint64_t t)
{
	uint64_t first = p->nwindows == 0 ? t : CALENDAR_NEVER;

	for (unsigned i = 0; i < p->nwindows; i++) {
		uint64_t at = window_next(&p->window[i], t);

		if (at < first)
			first = at;
	}
	return first;
}

uint64_t
plan_closes(const struct plan *p, uint64_t t)
{
	bool open = true;

	/* Where one ends another may begin, or go on; twice round a week is
	 * for ever. */
	for (unsigned n = 0; open && n < 2 * 7 * PLAN_WINDOWS_MAX; n++) {
		open = false;
		for (unsigned i = 0; i < p->nwindows; i++)
			if (window_is_open(&p->window[i], t)) {
				t = window_closes(&p->window[i], t);
				open = true;
			}
	}
	return open || p->nwindows == 0 ? CALENDAR_NEVER : t;
}

uint64_t
plan_wait(const struct plan *p, unsigned n)
{
	uint64_t wait = p->retry_wait;

	while (n-- > 1 && wait < PLAN_RETRY_MAX_S)
		wait *= 2;
	/* Who wants to wait longer in the first place does. */
	if (wait > PLAN_RETRY_MAX_S && wait > p->retry_wait)
		wait = p->retry_wait > PLAN_RETRY_MAX_S ? p->retry_wait
							: PLAN_RETRY_MAX_S;
	return wait;
}
