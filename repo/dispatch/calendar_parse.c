/* SPDX-License-Identifier: Apache-2.0 */
/* A time that comes again, as a person writes it. */
#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "repo/dispatch/calendar.h"

enum { WORDS_MAX = 4, NUMBER_MAX = 99999 };

/* One field of a date or time, and what its values may be. */
struct field {
	const char *name;
	unsigned min, max;
	bool last_days; /* counted from the end of the month, 1 is its last */
};

/* "3", "3..9", "3/2", "3..9/2" */
struct part {
	unsigned start;
	unsigned stop; /* valid if is_range */
	unsigned step; /* 0: none was said */
	bool is_range;
};

/* Values of a field: by itself, and for months with 28 to 31 days. */
struct values {
	uint64_t bits[4];
};

static void
set_bit(uint64_t *bits, unsigned n)
{
	bits[n / 64] |= (uint64_t)1 << n % 64;
}

/* A number at ${*p}, which moves behind it. */
static int
number(const char **p, const struct field *f, unsigned *out, struct err *e)
{
	unsigned n = 0;

	if (!isdigit((unsigned char)**p)) {
		if (**p == 0 || strchr(",./", **p) != NULL)
			return err_set(
			    e, ERR_INVAL, "the %s is missing", f->name);
		return err_set(e, ERR_INVAL,
		    "\"%.20s\" is no %s: write numbers, lists 1,3, ranges "
		    "1..5, repetitions 0/15, or * alone",
		    *p, f->name);
	}
	for (; isdigit((unsigned char)**p); ++*p) {
		n = 10 * n + (unsigned)(**p - '0');
		if (n > NUMBER_MAX)
			return err_set(e, ERR_INVAL,
			    "a number is too large for the %s", f->name);
	}
	*out = n;
	return 0;
}

/* Years of two digits are those from 1970 to 2069. */
static unsigned
full_year(unsigned n)
{
	if (n < 70)
		return n + 2000;
	return n < 100 ? n + 1900 : n;
}

static int
in_bounds(const struct field *f, unsigned n, struct err *e)
{
	if (n >= f->min && n <= f->max)
		return 0;
	return err_set(e, ERR_INVAL, "%s %u: from %u to %u may be said",
	    f->name, n, f->min, f->max);
}

/* The last value of a range that its step meets is what counts. */
static int
parse_stop(const char **p, const struct field *f, struct part *a, struct err *e)
{
	int rc = number(p, f, &a->stop, e);

	if (rc == 0 && f->min == CALENDAR_YEAR_MIN)
		a->stop = full_year(a->stop);
	if (rc == 0 && a->stop < a->start)
		rc = err_set(e, ERR_INVAL, "%s %u..%u: ranges go upwards",
		    f->name, a->start, a->stop);
	a->is_range = true;
	return rc;
}

static int
parse_step(const char **p, const struct field *f, struct part *a, struct err *e)
{
	int rc = number(p, f, &a->step, e);

	if (rc == 0 && a->step == 0)
		rc = err_set(e, ERR_INVAL, "%s: a step of 0", f->name);
	if (rc == 0 && a->is_range)
		a->stop -= (a->stop - a->start) % a->step;
	return rc;
}

static int
parse_part(
    const char **p, const struct field *f, struct part *out, struct err *e)
{
	int rc;

	*out = (struct part){ .start = 0 };
	rc = number(p, f, &out->start, e);
	if (rc == 0 && f->min == CALENDAR_YEAR_MIN)
		out->start = full_year(out->start);
	if (rc == 0)
		rc = in_bounds(f, out->start, e);
	if (rc == 0 && strncmp(*p, "..", 2) == 0) {
		*p += 2;
		rc = parse_stop(p, f, out, e);
	}
	if (rc == 0 && **p == '/') {
		++*p;
		rc = parse_step(p, f, out, e);
	}
	if (rc == 0 && out->is_range)
		rc = in_bounds(f, out->stop, e);
	if (rc == 0 && **p == '.')
		rc = err_set(e, ERR_INVAL,
		    "fractions are not supported: write whole seconds");
	return rc;
}

/* One whose step leads nowhere is a slip of the pen. */
static int
check_step(const struct field *f, const struct part *a, struct err *e)
{
	if (a->step == 0 || a->is_range)
		return 0;
	if (f->last_days ? a->start >= f->min + a->step
			 : a->start + a->step <= f->max)
		return 0;
	return err_set(e, ERR_INVAL,
	    "%s %u/%u: the step leads out of the range from %u to %u", f->name,
	    a->start, a->step, f->min, f->max);
}

static void
put_part(const struct field *f, const struct part *a, struct values *v)
{
	unsigned step = a->step != 0 ? a->step : 1;
	unsigned stop = a->is_range ? a->stop
	    : a->step != 0          ? f->max
				    : a->start;

	for (unsigned n = a->start; n <= stop; n += step)
		set_bit(v->bits, n - (f->max > 255 ? f->min : 0));
}

/* The same in a month of so many days; a step goes towards its end. */
static void
put_last_days(unsigned length, const struct part *a, uint64_t *bits)
{
	unsigned step = a->step != 0 ? a->step : 1, day;

	if (a->is_range) {
		for (unsigned n = a->start; n <= a->stop; n += step)
			set_bit(bits, length + 1 - n);
		return;
	}
	day = length + 1 - a->start;
	do
		set_bit(bits, day);
	while (a->step != 0 && (day += step) <= length);
}

/* A whole field: "*", or parts with ',' between. */
static int
parse_field(
    const char *text, const struct field *f, struct values *v, struct err *e)
{
	struct part a;
	int rc;

	memset(v, 0, sizeof(*v));
	if (strcmp(text, "*") == 0) {
		if (f->last_days) {
			for (unsigned i = 0; i < 4; i++)
				v->bits[i] = UINT32_MAX;
			return 0;
		}
		a = (struct part){
			.start = f->min, .stop = f->max, .is_range = true
		};
		put_part(f, &a, v);
		return 0;
	}
	if (*text == '*')
		return err_set(e, ERR_INVAL,
		    "\"%.20s\": * stands alone; for each second %s write "
		    "%u/2",
		    text, f->name, f->min);
	for (;;) {
		rc = parse_part(&text, f, &a, e);
		if (rc == 0)
			rc = check_step(f, &a, e);
		if (rc != 0)
			return rc;
		for (unsigned i = 0; f->last_days && i < 4; i++)
			put_last_days(28 + i, &a, &v->bits[i]);
		if (!f->last_days)
			put_part(f, &a, v);
		if (*text == 0)
			return 0;
		if (*text != ',')
			return err_set(e, ERR_INVAL,
			    "what is \"%.20s\" behind the %s?", text, f->name);
		text++;
	}
}

/* --- weekdays */

static int
weekday(const char **p, unsigned *out)
{
	static const char *const names[] = { "Monday", "Tuesday", "Wednesday",
		"Thursday", "Friday", "Saturday", "Sunday" };

	for (unsigned i = 0; i < 7; i++) {
		size_t len = strlen(names[i]);

		if (strncasecmp(*p, names[i], len) != 0)
			len = 3;
		if (strncasecmp(*p, names[i], len) != 0 ||
		    isalnum((unsigned char)(*p)[len]))
			continue;
		*p += len;
		*out = i;
		return 0;
	}
	return ERR_INVAL;
}

static int
parse_weekdays(const char *text, struct calendar *c, struct err *e)
{
	const char *p = text;
	unsigned first, last;
	int rc;

	c->weekdays = 0;
	do {
		rc = weekday(&p, &first);
		last = first;
		/* systemd once wrote ranges with '-', and still reads them. */
		if (rc == 0 && (*p == '-' || strncmp(p, "..", 2) == 0)) {
			p += *p == '-' ? 1 : 2;
			rc = weekday(&p, &last);
		}
		if (rc != 0 || (*p != 0 && *p != ','))
			return err_set(e, ERR_INVAL,
			    "\"%.40s\" are no days of the week: write Mon, "
			    "Mon,Thu or Mon..Fri",
			    text);
		if (last < first)
			return err_set(e, ERR_INVAL,
			    "\"%.40s\": the week begins on Monday: write "
			    "Sat,Sun,Mon for a range across its end",
			    text);
		while (first <= last)
			c->weekdays |= (uint8_t)(1U << first++);
	} while (*p++ == ',' && *p != 0);
	return 0;
}

/* --- dates and times */

static void
every_day(struct calendar *c)
{
	memset(c->years, 0xff, sizeof(c->years));
	c->months = 0x1ffe;
	memset(c->days, 0xff, sizeof(c->days));
	c->weekdays = 0x7f;
}

/* "2026-01-31", "*-01~1", "01-31"; ${text} is cut in pieces. */
static int
parse_date(char *text, struct calendar *c, struct err *e)
{
	static const struct field year = { "year", CALENDAR_YEAR_MIN,
		CALENDAR_YEAR_MAX, false },
				  month = { "month", 1, 12, false };
	struct field day = { "day", 1, 31, false };
	char *piece[3] = { text, NULL, NULL };
	struct values v;
	unsigned n = 1;
	int rc;

	for (char *p = text; *p != 0; p++) {
		if (*p != '-' && *p != '~')
			continue;
		if (n == 3 || day.last_days)
			return err_set(e, ERR_INVAL,
			    "a date is YEAR-MONTH-DAY or MONTH-DAY; with ~ in "
			    "place of the last - days count from the month's "
			    "end");
		day.last_days = *p == '~';
		*p = 0;
		piece[n++] = p + 1;
	}
	assert(n > 1); /* or the caller had not taken it for a date */
	if (day.last_days)
		day.max = 28;
	if (n == 3) {
		rc = parse_field(piece[0], &year, &v, e);
		if (rc != 0)
			return rc;
		memcpy(c->years, v.bits, sizeof(c->years));
	}
	rc = parse_field(piece[n - 2], &month, &v, e);
	if (rc != 0)
		return rc;
	c->months = (uint16_t)v.bits[0];
	rc = parse_field(piece[n - 1], &day, &v, e);
	for (unsigned i = 0; i < 4; i++)
		c->days[i] = (uint32_t)v.bits[day.last_days ? i : 0];
	return rc;
}

/* "02:30", "02:30:15", "*:0/15" */
static int
parse_time(char *text, struct calendar *c, struct err *e)
{
	static const struct field field[3] = { { "hour", 0, 23, false },
		{ "minute", 0, 59, false }, { "second", 0, 59, false } };
	uint64_t *const out[3] = { NULL, &c->minutes, &c->seconds };
	struct values v;
	char *piece;
	unsigned n;
	int rc;

	c->seconds = 1;
	for (n = 0; (piece = strsep(&text, ":")) != NULL; n++) {
		if (n == 3)
			return err_set(e, ERR_INVAL,
			    "a time is HOUR:MINUTE or HOUR:MINUTE:SECOND");
		rc = parse_field(piece, &field[n], &v, e);
		if (rc != 0)
			return rc;
		if (n == 0)
			c->hours = (uint32_t)v.bits[0];
		else
			*out[n] = v.bits[0];
	}
	return 0;
}

static const struct shorthand {
	const char *word;
	const char *weekdays; /* or NULL */
	const char *date;     /* or NULL */
	const char *time;
	bool fixed; /* no other time may be said */
} shorthands[] = {
	{ "minutely", NULL, NULL, "*:*", true },
	{ "hourly", NULL, NULL, "*:00", true },
	{ "daily", NULL, NULL, "00:00", false },
	{ "weekly", "Mon", NULL, "00:00", false },
	{ "monthly", NULL, "*-01", "00:00", false },
	{ "quarterly", NULL, "01,04,07,10-01", "00:00", false },
	{ "semiannually", NULL, "01,07-01", "00:00", false },
	{ "semi-annually", NULL, "01,07-01", "00:00", false },
	{ "biannually", NULL, "01,07-01", "00:00", false },
	{ "bi-annually", NULL, "01,07-01", "00:00", false },
	{ "yearly", NULL, "01-01", "00:00", false },
	{ "annually", NULL, "01-01", "00:00", false },
	{ "anually", NULL, "01-01", "00:00", false },
};

static const struct shorthand *
find_shorthand(const char *word)
{
	for (size_t i = 0; i < sizeof(shorthands) / sizeof(shorthands[0]); i++)
		if (strcasecmp(word, shorthands[i].word) == 0)
			return &shorthands[i];
	return NULL;
}

static int
take_shorthand(const struct shorthand *s, char *words[], unsigned n,
    struct calendar *c, struct err *e)
{
	char date[32], time[32];
	int rc = 0;

	if (n > 1 && (s->fixed || n > 2 || strchr(words[1], ':') == NULL))
		return err_set(e, ERR_INVAL, "what is \"%.40s\" behind %s?",
		    words[1], s->word);
	if (s->weekdays != NULL)
		rc = parse_weekdays(s->weekdays, c, e);
	if (rc == 0 && s->date != NULL) {
		snprintf(date, sizeof(date), "%s", s->date);
		rc = parse_date(date, c, e);
	}
	snprintf(time, sizeof(time), "%s", s->time);
	return rc != 0 ? rc : parse_time(n > 1 ? words[1] : time, c, e);
}

static int
what_is(const char *word, struct err *e)
{
	if (word[0] == '@')
		return err_set(e, ERR_INVAL,
		    "\"%.40s\": write a date and a time, such as 2026-11-21 "
		    "19:30:05 UTC",
		    word);
	if (isalpha((unsigned char)word[0]))
		return err_set(e, ERR_INVAL,
		    "what is \"%.40s\"?  Of time zones there is UTC; without "
		    "it the clocks of the daemon's machine count",
		    word);
	return err_set(e, ERR_INVAL,
	    "what is \"%.40s\"?  Write it like daily, Mon..Fri 02:30, *-*-01 "
	    "00:00 or *:0/15",
	    word);
}

/* [WEEKDAYS] [DATE] [TIME], in this order. */
static int
take_words(char *words[], unsigned n, struct calendar *c, struct err *e)
{
	char midnight[] = "00:00";
	unsigned i = 0;
	int rc = 0;

	if (i < n && isalpha((unsigned char)words[i][0]))
		rc = parse_weekdays(words[i++], c, e);
	if (rc == 0 && i < n && strpbrk(words[i], "-~") != NULL &&
	    !isalpha((unsigned char)words[i][0]) &&
	    strchr(words[i], ':') == NULL)
		rc = parse_date(words[i++], c, e);
	if (rc != 0)
		return rc;
	if (i == n)
		return parse_time(midnight, c, e);
	if (strchr(words[i], ':') == NULL ||
	    isalpha((unsigned char)words[i][0]))
		return what_is(words[i], e);
	rc = parse_time(words[i++], c, e);
	return rc == 0 && i < n ? what_is(words[i], e) : rc;
}

int
calendar_parse(const char *text, struct calendar *out, struct err *e)
{
	char copy[CALENDAR_TEXT_MAX + 1], *rest = copy, *word;
	char *words[WORDS_MAX];
	const struct shorthand *s;
	unsigned n = 0;
	int rc;

	memset(out, 0, sizeof(*out));
	every_day(out);
	if (strlen(text) > CALENDAR_TEXT_MAX)
		return err_set(e, ERR_INVAL, "over %d characters for one time",
		    CALENDAR_TEXT_MAX);
	memcpy(copy, text, strlen(text) + 1);
	while ((word = strsep(&rest, " \t")) != NULL) {
		if (*word == 0)
			continue;
		if (n == WORDS_MAX)
			return what_is(word, e);
		words[n++] = word;
	}
	if (n > 1 && strcasecmp(words[n - 1], "UTC") == 0) {
		out->utc = true;
		n--;
	}
	if (n == 0)
		return err_set(e, ERR_INVAL,
		    "no time is said: write it like daily, Mon..Fri 02:30 or "
		    "*:0/15");
	s = find_shorthand(words[0]);
	rc = s != NULL ? take_shorthand(s, words, n, out, e)
		       : take_words(words, n, out, e);
	return rc;
}
