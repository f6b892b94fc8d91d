/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/console/words.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/name.h"

char *
words_time(uint64_t s, char *out)
{
	uint64_t m = s / 60, h = m / 60, d = h / 24;

	if (d > 9999)
		snprintf(out, WORDS_LEN, "years");
	else if (d > 0)
		snprintf(
		    out, WORDS_LEN, "%" PRIu64 "d %02" PRIu64 "h", d, h % 24);
	else if (h > 0)
		snprintf(out, WORDS_LEN, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64,
		    h, m % 60, s % 60);
	else
		snprintf(out, WORDS_LEN, "%" PRIu64 ":%02" PRIu64, m, s % 60);
	return out;
}

char *
words_eta(uint64_t s, char *out)
{
	if (s / 86400 > 9999)
		return memcpy(out, "-", 2);
	return words_time(s, out);
}

char *
words_rate(uint64_t n, char *out)
{
	char size[16];

	if (n == 0)
		return memcpy(out, "-", 2);
	snprintf(out, WORDS_LEN, "%s/s", size_print(n, size));
	return out;
}

char *
words_percent(uint64_t part, uint64_t whole, char *out)
{
	unsigned n = 100;

	if (whole == 0)
		return memcpy(out, "-", 2);
	if (part < whole)
		n = (unsigned)((double)part / (double)whole * 100.0);
	snprintf(out, WORDS_LEN, "%u %%", n < 100 || part >= whole ? n : 99);
	return out;
}

char *
words_clock(const char *time, char *out)
{
	/* 2026-11-21T07:12:05Z */
	if (strlen(time) == TIME_TEXT_LEN)
		snprintf(out, WORDS_LEN, "%.8s", time + 11);
	else
		out[0] = 0;
	return out;
}
