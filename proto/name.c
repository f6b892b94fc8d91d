/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/name.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* The last second that fits the text: 9999-12-31T23:59:59Z. */
#define TIME_MAX 253402300799ull

/* Not isalnum(): a name does not depend on anybody's locale. */
static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_alnum(char c)
{
	return is_digit(c) || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool
is_name_char(char c)
{
	return is_alnum(c) || c == '.' || c == '_' || c == '-';
}

static bool
part_ok(const char *s, size_t len)
{
	if (len == 0 || len > NAME_PART_MAX || !is_alnum(s[0]))
		return false;
	for (size_t i = 1; i < len; i++)
		if (!is_name_char(s[i]))
			return false;
	return true;
}

bool
name_part_ok(const char *s)
{
	return part_ok(s, strlen(s));
}

bool
vm_name_ok(const char *s)
{
	const char *slash = strchr(s, '/');

	if (slash == NULL)
		return name_part_ok(s);
	return part_ok(s, (size_t)(slash - s)) && name_part_ok(slash + 1);
}

void
vm_namespace(const char *vm, char *out)
{
	const char *slash = strchr(vm, '/');
	size_t len = slash != NULL ? (size_t)(slash - vm) : 0;

	if (len > NAME_PART_MAX)
		len = NAME_PART_MAX;
	memcpy(out, vm, len);
	out[len] = 0;
}

bool
vm_pattern_ok(const char *pattern)
{
	size_t len = strlen(pattern);
	unsigned nslashes = 0;

	if (len == 0 || len > VM_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = pattern[i];

		if (c == '/' && ++nslashes == 1 && i != 0 && i != len - 1)
			continue;
		if (!is_name_char(c) && c != '*' && c != '?')
			return false;
	}
	return true;
}

/*
 * All places of ${vm} that the pattern so far can have come to are followed at
 * once, so no pattern takes longer than its length times the name's.
 */
bool
vm_pattern_match(const char *pattern, const char *vm)
{
	bool at[VM_NAME_MAX + 1] = { true };
	size_t len = strlen(vm);

	if (len > VM_NAME_MAX)
		return false;
	for (const char *p = pattern; *p != 0; p++) {
		if (*p == '*') {
			bool any = p[1] == '*';

			for (size_t i = 0; i < len; i++)
				if (at[i] && (any || vm[i] != '/'))
					at[i + 1] = true;
			p += any;
			continue;
		}
		for (size_t i = len; i > 0; i--)
			at[i] = at[i - 1] &&
			    (*p == vm[i - 1] ||
				(*p == '?' && vm[i - 1] != '/'));
		at[0] = false;
	}
	return at[len];
}

int
backup_ref_parse(const char *s, struct backup_ref *out, struct err *e)
{
	const char *at = strrchr(s, '@');
	uint64_t back;
	size_t len;

	*out = (struct backup_ref){ .back = 0 };
	if (at == NULL)
		goto err_form;
	len = (size_t)(at - s);
	if (len > VM_NAME_MAX)
		goto err_form;
	memcpy(out->vm, s, len);
	out->vm[len] = 0;
	if (!vm_name_ok(out->vm))
		goto err_form;
	at++;
	if (strcmp(at, "latest") == 0)
		return 0;
	if (at[0] == '-') {
		if (number_parse(at + 1, 1, UINT32_MAX, &back) != 0)
			goto err_form;
		out->back = (uint32_t)back;
		return 0;
	}
	if (time_parse(at, &out->time) != 0)
		goto err_form;
	out->by_time = true;
	return 0;
err_form:
	return err_set(e, ERR_INVAL,
	    "\"%.160s\" does not name a backup: write VM@latest, VM@-1 (the "
	    "one before) or VM@2026-11-21T19:30:05Z",
	    s);
}

char *
time_print(uint64_t seconds, char *out)
{
	time_t t = (time_t)(seconds < TIME_MAX ? seconds : TIME_MAX);
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(out, TIME_TEXT_LEN + 1, "%Y-%m-%dT%H:%M:%SZ", &tm);
	return out;
}

static int
digits(const char *s, int n)
{
	int v = 0;

	while (n-- > 0)
		v = v * 10 + (*s++ - '0');
	return v;
}

int
time_parse(const char *s, uint64_t *seconds)
{
	static const char form[] = "dddd-dd-ddTdd:dd:ddZ";
	char again[TIME_TEXT_LEN + 1];
	struct tm tm = { 0 };
	time_t t;

	if (strlen(s) != TIME_TEXT_LEN)
		return ERR_INVAL;
	for (int i = 0; i < TIME_TEXT_LEN; i++)
		if (form[i] == 'd' ? !is_digit(s[i]) : s[i] != form[i])
			return ERR_INVAL;
	tm.tm_year = digits(s, 4) - 1900;
	tm.tm_mon = digits(s + 5, 2) - 1;
	tm.tm_mday = digits(s + 8, 2);
	tm.tm_hour = digits(s + 11, 2);
	tm.tm_min = digits(s + 14, 2);
	tm.tm_sec = digits(s + 17, 2);
	t = timegm(&tm);
	if (t < 0)
		return ERR_INVAL;
	/* A day that no calendar has comes back as another. */
	if (strcmp(time_print((uint64_t)t, again), s) != 0)
		return ERR_INVAL;
	*seconds = (uint64_t)t;
	return 0;
}

/* Digits at ${*s}, which moves behind them: at least one, no overflow. */
static int
take_number(const char **s, uint64_t *out)
{
	uint64_t v = 0;

	if (!is_digit(**s))
		return ERR_INVAL;
	for (; is_digit(**s); (*s)++) {
		if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(**s - '0'), &v))
			return ERR_INVAL;
	}
	*out = v;
	return 0;
}

static const char units[] = "KMGTP";

int
size_parse(const char *s, uint64_t *out)
{
	uint64_t whole, part = 0, scale = 1, unit = 1;
	const char *u;

	if (take_number(&s, &whole) != 0)
		return ERR_INVAL;
	if (*s == '.') {
		const char *from = ++s;

		/* Three places: part * unit then fits 64 bits. */
		if (take_number(&s, &part) != 0 || s - from > 3)
			return ERR_INVAL;
		for (; from < s; from++)
			scale *= 10;
	}
	u = *s != 0 ? strchr(units, *s >= 'a' ? *s - 'a' + 'A' : *s) : NULL;
	if (u != NULL) {
		unit = (uint64_t)1 << 10 * (u - units + 1);
		s++;
		if (s[0] == 'i' && s[1] == 'B')
			s++;
	} else if (scale != 1) {
		return ERR_INVAL; /* half a byte */
	}
	if (*s == 'B')
		s++;
	if (*s != 0 || __builtin_mul_overflow(whole, unit, &whole) ||
	    __builtin_add_overflow(whole, part * unit / scale, &whole))
		return ERR_INVAL;
	*out = whole;
	return 0;
}

int
seconds_parse(const char *s, unsigned unit, uint64_t *out)
{
	static const struct {
		char letter;
		unsigned seconds;
	} known[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 },
		{ 'w', 7 * 86400 }, { 'y', 365 * 86400 } };
	size_t len = strlen(s);
	char digits[24];
	uint64_t n;

	if (len == 0 || len >= sizeof(digits))
		return ERR_INVAL;
	memcpy(digits, s, len + 1);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (s[len - 1] == known[i].letter) {
			unit = known[i].seconds;
			digits[len - 1] = 0;
		}
	if (number_parse(digits, 0, unit != 0 ? UINT64_MAX / unit : 0, &n) != 0)
		return ERR_INVAL;
	*out = n * unit;
	return 0;
}

char *
size_print(uint64_t n, char *out)
{
	static const char all[] = "KMGTPE";
	uint64_t whole, tenths;
	unsigned i = 0;

	if (n < 1024) {
		snprintf(out, 16, "%u B", (unsigned)n);
		return out;
	}
	while (i < sizeof(all) - 2 && n >> 10 * (i + 2) != 0)
		i++;
	whole = n >> 10 * (i + 1);
	tenths = n & (((uint64_t)1 << 10 * (i + 1)) - 1);
	tenths =
	    (tenths * 10 + ((uint64_t)1 << (10 * (i + 1) - 1))) >> 10 * (i + 1);
	if (tenths == 10) {
		whole++;
		tenths = 0;
	}
	snprintf(
	    out, 16, "%u.%u %ciB", (unsigned)whole, (unsigned)tenths, all[i]);
	return out;
}

int
number_parse(const char *s, uint64_t min, uint64_t max, uint64_t *out)
{
	uint64_t v;

	if (take_number(&s, &v) != 0 || *s != 0 || v < min || v > max)
		return ERR_INVAL;
	*out = v;
	return 0;
}
