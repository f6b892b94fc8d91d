/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Eight bytes of a time, and any text as a time that comes again: the next one
 * is later and the first: none lies between, asked from anywhere there.
 */
#include <stdlib.h>
#include <string.h>

#include "repo/dispatch/window.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
steps(const struct calendar *c, uint64_t t)
{
	for (int i = 0; i < 8; i++) {
		uint64_t next = calendar_next(c, t);

		if (next == CALENDAR_NEVER) {
			if (calendar_next(c, t + 86400) != CALENDAR_NEVER)
				abort();
			return;
		}
		if (next <= t || calendar_next(c, next - 1) != next ||
		    calendar_next(c, t + (next - t - 1) / 2) != next)
			abort();
		t = next;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[CALENDAR_TEXT_MAX + 20];
	struct err e = { 0 };
	struct calendar c;
	struct window w;
	uint64_t t;

	if (size < 8 || size - 8 >= sizeof(text))
		return -1;
	memcpy(&t, data, 8);
	memcpy(text, data + 8, size - 8);
	text[size - 8] = 0;
	setenv("TZ", t & 1 ? "Europe/Berlin" : "America/New_York", 0);
	if (calendar_parse(text, &c, &e) == 0)
		steps(&c, t % (UINT64_C(1) << (t >> 62 == 0 ? 63 : 33)));
	else if (e.text[0] == 0)
		abort();
	if (window_parse(text, &w, &e) == 0) {
		t %= UINT64_C(1) << 32;
		if (window_is_open(&w, t) != (window_next(&w, t) == t))
			abort();
	}
	return 0;
}
