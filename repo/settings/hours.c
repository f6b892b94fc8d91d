/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/settings/hours.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "proto/name.h"

enum { ALL_DAYS = 0x7f, DAY = 24 * 60, TEXT_MAX = 1024 };

static const char *const day_names[] = { "Mon", "Tue", "Wed", "Thu", "Fri",
	"Sat", "Sun" };

static int
day_of(const char *s, size_t len)
{
	for (int i = 0; i < 7; i++)
		if (len == 3 && strncasecmp(s, day_names[i], 3) == 0)
			return i;
	return -1;
}

/* "Mon", "Mon-Fri", "Sat..Mon" */
static int
days_parse(const char *s, uint8_t *out)
{
	size_t len = strcspn(s, "-.");
	const char *last = s + len;
	int a = day_of(s, len), b = a;

	if (*last != 0) {
		last += *last == '-' ? 1 : strncmp(last, "..", 2) == 0 ? 2 : 0;
		b = day_of(last, strlen(last));
	}
	if (a == -1 || b == -1)
		return ERR_INVAL;
	*out = 0;
	for (;; a = (a + 1) % 7) {
		*out |= (uint8_t)(1 << a);
		if (a == b)
			return 0;
	}
}

/* "08:00" */
static int
minute_parse(const char *s, uint16_t *out)
{
	unsigned v[4];

	if (strlen(s) != 5 || s[2] != ':')
		return ERR_INVAL;
	for (int i = 0; i < 4; i++) {
		char c = s[i < 2 ? i : i + 1];

		if (c < '0' || c > '9')
			return ERR_INVAL;
		v[i] = (unsigned)(c - '0');
	}
	*out = (uint16_t)((v[0] * 10 + v[1]) * 60 + v[2] * 10 + v[3]);
	return v[2] > 5 || *out > DAY ? ERR_INVAL : 0;
}

static int
span_parse(char *s, struct hours_part *p)
{
	char *to = strchr(s, '-');

	if (to == NULL)
		return ERR_INVAL;
	*to++ = 0;
	if (minute_parse(s, &p->from) != 0 || minute_parse(to, &p->to) != 0 ||
	    p->from == p->to || p->from == DAY)
		return ERR_INVAL;
	/* All of the day, said at length. */
	if (p->from == 0 && p->to == DAY)
		p->to = 0;
	return 0;
}

static int
rate_parse(const char *s, uint64_t *out)
{
	if (size_parse(s, out) != 0 || *out > HOURS_RATE_MAX ||
	    (*out != 0 && *out < HOURS_RATE_MIN))
		return ERR_INVAL;
	return 0;
}

static int
part_parse(char *text, struct hours_part *p)
{
	char *word[3], *one;
	unsigned n = 0, at = 0;

	while ((one = strsep(&text, " \t")) != NULL) {
		if (*one == 0)
			continue;
		if (n == 3)
			return ERR_INVAL;
		word[n++] = one;
	}
	*p = (struct hours_part){ .days = ALL_DAYS };
	if (n == 0 || rate_parse(word[n - 1], &p->rate) != 0)
		return ERR_INVAL;
	if (at < n - 1 && days_parse(word[at], &p->days) == 0)
		at++;
	if (at < n - 1 && span_parse(word[at], p) == 0)
		at++;
	return at == n - 1 ? 0 : ERR_INVAL;
}

int
hours_parse(const char *text, struct hours *out)
{
	char copy[TEXT_MAX], *rest = copy, *one;
	struct hours h = { .n = 0 };
	size_t len = strlen(text);

	if (len >= sizeof(copy))
		return ERR_INVAL;
	memcpy(copy, text, len + 1);
	while ((one = strsep(&rest, ",")) != NULL) {
		if (h.n == HOURS_PARTS_MAX ||
		    part_parse(one, &h.part[h.n]) != 0)
			return ERR_INVAL;
		h.n++;
	}
	*out = h;
	return 0;
}

static void
days_print(uint8_t days, struct buf *out)
{
	unsigned first = 0, last;

	/* A run's first day is one whose day before is none of it. */
	while ((days >> first & 1) == 0 || (days >> (first + 6) % 7 & 1) != 0)
		first++;
	last = first;
	while ((days >> (last + 1) % 7 & 1) != 0)
		last = (last + 1) % 7;
	buf_printf(out, "%s", day_names[first]);
	if (last != first)
		buf_printf(out, "-%s", day_names[last]);
	buf_printf(out, " ");
}

static void
rate_print(uint64_t rate, struct buf *out)
{
	static const char units[] = "\0KMGT";
	unsigned u = 0;

	while (rate != 0 && rate % 1024 == 0 && u < 4) {
		rate /= 1024;
		u++;
	}
	buf_printf(out, "%" PRIu64, rate);
	if (u > 0)
		buf_printf(out, "%c", units[u]);
}

void
hours_print(const struct hours *h, struct buf *out)
{
	if (h->n == 0)
		buf_printf(out, "0");
	for (unsigned i = 0; i < h->n; i++) {
		const struct hours_part *p = &h->part[i];

		if (i > 0)
			buf_printf(out, ", ");
		if (p->days != ALL_DAYS)
			days_print(p->days, out);
		if (p->from != 0 || p->to != 0)
			buf_printf(out, "%02u:%02u-%02u:%02u ", p->from / 60u,
			    p->from % 60u, p->to / 60u, p->to % 60u);
		rate_print(p->rate, out);
	}
}

static bool
fits(const struct hours_part *p, unsigned day, unsigned minute)
{
	bool today = (p->days >> day & 1) != 0;
	bool yesterday = (p->days >> (day + 6) % 7 & 1) != 0;

	if (p->from == 0 && p->to == 0)
		return today;
	if (p->from < p->to)
		return today && minute >= p->from && minute < p->to;
	return (today && minute >= p->from) || (yesterday && minute < p->to);
}

uint64_t
hours_at(const struct hours *h, unsigned day, unsigned minute)
{
	for (unsigned i = h->n; i > 0; i--)
		if (fits(&h->part[i - 1], day, minute))
			return h->part[i - 1].rate;
	return 0;
}

uint64_t
hours_now(const struct hours *h)
{
	time_t now = time(NULL);
	struct tm tm;

	if (h->n == 0 || localtime_r(&now, &tm) == NULL)
		return 0;
	return hours_at(h, (unsigned)(tm.tm_wday + 6) % 7,
	    (unsigned)(tm.tm_hour * 60 + tm.tm_min));
}

bool
hours_equal(const struct hours *a, const struct hours *b)
{
	if (a->n != b->n)
		return false;
	for (unsigned i = 0; i < a->n; i++) {
		const struct hours_part *p = &a->part[i], *q = &b->part[i];

		if (p->rate != q->rate || p->days != q->days ||
		    p->from != q->from || p->to != q->to)
			return false;
	}
	return true;
}
