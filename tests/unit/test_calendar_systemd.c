/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calendar against the original: random expressions and base times, and what
 * `systemd-analyze calendar` says of them, in zones that change their clocks
 * on both halves of the earth.
 *
 *   SEED=N ROUNDS=N test_calendar_systemd
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "repo/dispatch/calendar.h"

enum { BATCH = 25, TIMES = 4, ROUNDS = 200, TEXT = 120 };

static uint64_t state;

static unsigned
chance(unsigned n)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(state >> 33) % n;
}

/* An expression; and one that means the same, without steps that no range
 * bounds. */
struct text {
	char s[TEXT];
	size_t len;
	char bounded[TEXT];
};

/* To the end of the text. */
static void __attribute__((format(printf, 3, 4)))
put(char *s, size_t at, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(s + at, TEXT - at, fmt, ap);
	va_end(ap);
	assert_true(at + (size_t)n < TEXT);
}

static void __attribute__((format(printf, 2, 3)))
say(struct text *t, const char *fmt, ...)
{
	char more[TEXT];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(more, sizeof(more), fmt, ap);
	va_end(ap);
	put(t->s, t->len, "%s", more);
	put(t->bounded, strlen(t->bounded), "%s", more);
	t->len = strlen(t->s);
}

/* A step from ${a}, which was said just now. */
static void
step(struct text *t, unsigned a, unsigned min, unsigned max, bool last_days)
{
	unsigned by = 1 + chance(max - min);
	size_t at = strlen(t->bounded);

	put(t->s, t->len, "/%u", by);
	t->len = strlen(t->s);
	if (!last_days) {
		put(t->bounded, at, "..%u/%u", max, by);
		return;
	}
	while (isdigit((unsigned char)t->bounded[at - 1]))
		at--;
	put(t->bounded, at, "%u..%u/%u", a - (a - 1) / by * by, a, by);
}

/* Now and then beyond what may be said. */
static unsigned
value(unsigned min, unsigned max)
{
	return chance(150) == 0 ? max + 1 + chance(3)
				: min + chance(max - min + 1);
}

static void
field(struct text *t, unsigned min, unsigned max, int width, bool last_days)
{
	unsigned parts = chance(4) == 0 ? 1 + chance(3) : 1, a, b;

	if (chance(3) == 0) {
		say(t, "*");
		return;
	}
	for (unsigned i = 0; i < parts; i++) {
		if (i > 0)
			say(t, ",");
		a = value(min, max);
		b = chance(20) == 0 ? value(min, max)
				    : a + (a < max ? chance(max - a + 1) : 0);
		/* systemd has no range of one second. */
		if (a == b && max == 59)
			b++;
		say(t, "%0*u", width, a);
		switch (chance(6)) {
		case 0: say(t, "..%u", b); break;
		case 1: step(t, a, min, max, last_days); break;
		case 2: say(t, "..%u/%u", b, 1 + chance(max - min)); break;
		default: break;
		}
	}
}

static void
weekdays(struct text *t)
{
	static const char *const names[] = { "Mon", "tue", "Wednesday", "THU",
		"Fri", "saturday", "Sun" };
	unsigned n = 1 + chance(3);

	for (unsigned i = 0; i < n; i++) {
		unsigned a = chance(7);

		say(t, "%s%s", i > 0 ? "," : "", names[a]);
		if (chance(3) == 0)
			say(t, "%s%s", chance(4) == 0 ? "-" : "..",
			    names[chance(5) == 0 ? chance(7)
						 : a + chance(7 - a)]);
	}
}

static void
date(struct text *t)
{
	if (chance(2) == 0) {
		if (chance(3) == 0)
			field(t, 1970, 2199, 1, false);
		else
			say(t, "%s", chance(2) == 0 ? "*" : "2020..2045");
		say(t, "-");
	}
	field(t, 1, 12, 1 + (int)chance(2), false);
	if (chance(4) == 0) {
		say(t, "~");
		field(t, 1, 28, 1, true);
	} else {
		say(t, "-");
		field(t, 1, 31, 1 + (int)chance(2), false);
	}
}

static void
time_of_day(struct text *t)
{
	field(t, 0, 23, 1, false);
	say(t, ":");
	field(t, 0, 59, 2, false);
	if (chance(2) == 0) {
		say(t, ":");
		field(t, 0, 59, 2, false);
	}
}

static void
expression(struct text *t)
{
	static const char *const words[] = { "minutely", "hourly", "daily",
		"weekly", "monthly", "quarterly", "semiannually", "yearly",
		"annually", "Daily" };
	unsigned what;

	memset(t, 0, sizeof(*t));
	if (chance(40) == 0) {
		say(t, "%s", words[chance(10)]);
	} else {
		what = 1 + chance(7);
		if (what & 1)
			weekdays(t);
		if (what & 2) {
			say(t, "%s", t->len > 0 ? " " : "");
			date(t);
		}
		if (what & 4) {
			say(t, "%s", t->len > 0 ? " " : "");
			time_of_day(t);
		}
	}
	if (chance(6) == 0)
		say(t, " UTC");
}

/* What systemd says of one of them. */
struct said {
	bool valid;
	bool gave_up; /* it took it, and then failed over it */
	unsigned n;
	uint64_t at[TIMES];
};

/* "... Sun 2026-10-25 00:30:00 UTC" */
static uint64_t
utc_time(const char *line)
{
	const char *p = strchr(strchr(line, ':') + 2, ' ');
	struct tm tm = { 0 };

	assert_non_null(p);
	assert_non_null(strptime(p + 1, "%Y-%m-%d %H:%M:%S", &tm));
	return (uint64_t)timegm(&tm);
}

static const char *
after(const char *line, const char *label)
{
	const char *p = strstr(line, label);

	return p != NULL ? p + strlen(label) : NULL;
}

/* "Failed to determine next elapse for 'X': ..." is no refusal. */
static void
gave_up(const char *line, const struct text *t, int nt, struct said *out)
{
	const char *x = after(line, "next elapse for '");

	for (int i = 0; x != NULL && i < nt; i++)
		if (strncmp(x, t[i].s, t[i].len) == 0 && x[t[i].len] == '\'')
			out[i].valid = out[i].gave_up = true;
}

/* Those it can read come in order; what it says first is the text, as it was
 * given, or as it is normalized if that is the same. */
static void
ask_systemd(uint64_t base, const struct text *t, int nt, struct said *out)
{
	char line[512], errors[] = "/tmp/test_calendar.XXXXXX";
	struct buf cmd = { 0 };
	bool original = false, any = false;
	int i = -1, fd = mkstemp(errors);
	FILE *f;

	memset(out, 0, (size_t)nt * sizeof(*out));
	buf_printf(&cmd,
	    "systemd-analyze calendar --base-time=@%llu "
	    "--iterations=%d",
	    (unsigned long long)base, TIMES);
	for (int k = 0; k < nt; k++)
		buf_printf(&cmd, " '%s'", t[k].s);
	assert_int_not_equal(fd, -1);
	close(fd);
	buf_printf(&cmd, " 2>%s; cat %s", errors, errors);
	f = popen(buf_cstr(&cmd), "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		const char *first = after(line, "Original form: ");
		const char *normal = after(line, "Normalized form: ");

		any = true;
		line[strcspn(line, "\n")] = 0;
		if (strncmp(line, "Failed to", 9) == 0) {
			gave_up(line, t, nt, out);
			continue;
		}
		if (first != NULL || (normal != NULL && !original)) {
			do
				assert_true(++i < nt);
			while (strcmp(t[i].s, first != NULL ? first : normal) !=
			    0);
			out[i].valid = true;
		}
		if (first != NULL || normal != NULL)
			original = first != NULL;
		if (strstr(line, "(in UTC): ") != NULL) {
			assert_true(out[i].n < TIMES);
			out[i].at[out[i].n++] = utc_time(line);
		}
	}
	assert_true(any); /* or the tool is missing */
	pclose(f);
	unlink(errors);
	buf_fini(&cmd);
}

static void
wall(uint64_t t, char out[32])
{
	time_t when = (time_t)t;
	struct tm tm;

	localtime_r(&when, &tm);
	strftime(out, 32, "%F %T", &tm);
}

static bool
same_wall(uint64_t a, uint64_t b)
{
	char x[32], y[32];

	wall(a, x);
	wall(b, y);
	return strcmp(x, y) == 0;
}

/* Clocks on the wall show what they show there a second time. */
static bool
is_second(uint64_t t)
{
	return same_wall(t, t - 3600);
}

struct count {
	unsigned valid, refused, times, never, twice, gave_up, passed;
};

static void
compare(const char *zone, uint64_t base, const struct text *t,
    const struct said *s, struct count *n)
{
	struct err e = { 0 };
	struct calendar c;
	bool valid = calendar_parse(t->s, &c, &e) == 0;

	/* Of a list of days before a month's end it lets the third be up to
	 * 25 only, the fourth up to 22. */
	if (valid && !s->valid && strchr(t->s, '~') != NULL &&
	    strchr(strchr(t->s, '~'), ',') != NULL) {
		n->gave_up++;
		return;
	}
	if (valid != s->valid)
		fail_msg("%s: systemd %s it, we %s", t->s,
		    s->valid ? "takes" : "refuses", valid ? "take it" : e.text);
	n->valid += valid;
	n->refused += !valid;
	for (unsigned i = 0; valid && i < TIMES; i++) {
		uint64_t mine = calendar_next(&c, base);
		uint64_t its = i < s->n ? s->at[i] : CALENDAR_NEVER;

		if (its == CALENDAR_NEVER && s->gave_up) {
			n->gave_up++;
			return;
		}
		assert_true(mine > base);
		/* Of an hour that comes twice systemd takes now the first, now
		 * the second; it may even go back in it. */
		if (mine != its && !c.utc && its != CALENDAR_NEVER &&
		    ((its > base && is_second(its) && mine == its - 3600) ||
			is_second(base))) {
			n->twice++;
			return;
		}
		/* Where a step leads over the ends of two fields it passes
		 * over times, but not if the step is bounded. */
		if (mine < its) {
			struct text bounded = *t;
			struct said other;

			put(bounded.s, 0, "%s", t->bounded);
			bounded.len = strlen(bounded.s);
			ask_systemd(base, &bounded, 1, &other);
			if (other.n > 0 && other.at[0] == mine) {
				n->passed++;
				return;
			}
		}
		if (mine != its)
			fail_msg("TZ=%s systemd-analyze calendar "
				 "--base-time=@%llu '%s': %llu, we: %llu",
			    zone, (unsigned long long)base, t->s,
			    (unsigned long long)its, (unsigned long long)mine);
		if (its == CALENDAR_NEVER) {
			n->never++;
			return;
		}
		n->times++;
		base = its;
	}
}

/* Half of them within a day and a half of a change of clocks. */
static uint64_t
base_time(void)
{
	uint64_t t =
	    1577836800 + (uint64_t)chance(20 * 366) * 86400 + chance(86400);
	struct tm a, b;

	if (chance(2) == 0)
		return t;
	for (unsigned i = 0; i < 366; i++) {
		time_t now = (time_t)t + i * 86400, later = now + 86400;

		localtime_r(&now, &a);
		localtime_r(&later, &b);
		if (a.tm_gmtoff != b.tm_gmtoff)
			return (uint64_t)now + chance(86400);
	}
	return t;
}

static void
of_zone(void **state_of_test, const char *zone)
{
	const char *rounds = getenv("ROUNDS");
	unsigned most = rounds != NULL ? (unsigned)atoi(rounds) : ROUNDS / 4;
	struct count n = { 0 };
	struct text t[BATCH];
	struct said s[BATCH];

	(void)state_of_test;
	setenv("TZ", zone, 1);
	tzset();
	for (unsigned i = 0; i < most; i++) {
		uint64_t base = base_time();

		for (int k = 0; k < BATCH; k++)
			expression(&t[k]);
		ask_systemd(base, t, BATCH, s);
		for (int k = 0; k < BATCH; k++)
			compare(zone, base, &t[k], &s[k], &n);
	}
	print_message("%s: %u taken, %u refused, %u times, %u without a next, "
		      "%u in an hour that comes twice; at %u systemd fails, %u "
		      "it passes over\n",
	    zone, n.valid, n.refused, n.times, n.never, n.twice, n.gave_up,
	    n.passed);
	assert_true(n.valid > most * BATCH / 3 && n.refused > most / 4);
	assert_true(n.gave_up + n.passed < n.valid / 20);
	assert_true(n.times > most * BATCH / 2);
}

#define ZONE(name, zone)                                                       \
	static void name(void **st)                                            \
	{                                                                      \
		of_zone(st, zone);                                             \
	}
ZONE(agrees_in_berlin, "Europe/Berlin")
ZONE(agrees_in_new_york, "America/New_York")
ZONE(agrees_in_sydney, "Australia/Sydney")
ZONE(agrees_in_kolkata, "Asia/Kolkata")

int
main(void)
{
	const char *seed = getenv("SEED");
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_in_berlin),
		cmocka_unit_test(agrees_in_new_york),
		cmocka_unit_test(agrees_in_sydney),
		cmocka_unit_test(agrees_in_kolkata),
	};

	state = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
	print_message("SEED=%llu\n", (unsigned long long)state);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
