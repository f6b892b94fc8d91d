/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/dispatch/window.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { DAY = 86400 };

/* "06:00", also "24:00"; the text ends behind it. */
static int
clock_parse(const char *text, unsigned *out)
{
	unsigned hour, minute;
	int end = 0;

	if (strspn(text, "0123456789:") != strlen(text) ||
	    sscanf(text, "%2u:%2u%n", &hour, &minute, &end) != 2 ||
	    text[end] != 0 || minute > 59 || hour > 24 ||
	    (hour == 24 && minute > 0))
		return ERR_INVAL;
	*out = hour * 3600 + minute * 60;
	return 0;
}

static int
refuse(const char *text, struct err *e)
{
	return err_set(e, ERR_INVAL,
	    "\"%.60s\" is no window: write 22:00-06:00, or Mon..Fri "
	    "20:00-24:00",
	    text);
}

int
window_parse(const char *text, struct window *out, struct err *e)
{
	char copy[CALENDAR_TEXT_MAX + 1], begin[CALENDAR_TEXT_MAX + 1];
	char *days = copy, *hours, *dash, *zone;
	size_t len = strlen(text);

	if (len > CALENDAR_TEXT_MAX)
		return err_set(e, ERR_INVAL, "over %d characters for a window",
		    CALENDAR_TEXT_MAX);
	memcpy(copy, text, len + 1);
	while (len > 0 && strchr(" \t", copy[len - 1]) != NULL)
		copy[--len] = 0;
	zone = len > 4 && strcasecmp(copy + len - 4, " UTC") == 0 ? " UTC" : "";
	if (*zone != 0)
		copy[len - 4] = 0;
	days += strspn(days, " \t");
	hours = strrchr(days, ' ');
	if (hours != NULL) {
		*hours++ = 0;
	} else {
		hours = days;
		days = NULL;
	}
	dash = strchr(hours, '-');
	if (dash == NULL)
		return refuse(text, e);
	*dash++ = 0;
	if (clock_parse(hours, &out->from) != 0 || out->from == DAY ||
	    clock_parse(dash, &out->to) != 0 || out->to == out->from ||
	    (days != NULL && strpbrk(days, "*:~0123456789") != NULL))
		return refuse(text, e);
	snprintf(begin, sizeof(begin), "%s %s%s", days != NULL ? days : "",
	    hours, zone);
	if (strlen(hours) == 0 || calendar_parse(begin, &out->begin, e) != 0)
		return refuse(text, e);
	return 0;
}

bool
window_is_open(const struct window *w, uint64_t t)
{
	unsigned today, second, yesterday;

	calendar_local(t, w->begin.utc, &today, &second);
	yesterday = (today + 6) % 7;
	if (w->from < w->to)
		return second >= w->from && second < w->to &&
		    (w->begin.weekdays >> today & 1) != 0;
	if (second >= w->from)
		return (w->begin.weekdays >> today & 1) != 0;
	return second < w->to && (w->begin.weekdays >> yesterday & 1) != 0;
}

uint64_t
window_next(const struct window *w, uint64_t t)
{
	return window_is_open(w, t) ? t : calendar_next(&w->begin, t);
}

uint64_t
window_closes(const struct window *w, uint64_t t)
{
	unsigned today, second;

	calendar_local(t, w->begin.utc, &today, &second);
	if (w->from >= w->to && second >= w->from)
		return t + (DAY - second) + w->to;
	return t + (w->to - second);
}
