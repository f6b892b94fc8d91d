/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/summary.h"

#include <stdio.h>
#include <string.h>

enum { SPEED_TEXT = 64 };

char *
summary_speed(uint64_t size, uint64_t ms, char *out)
{
	char all[16], rate[16];

	if (ms == 0)
		ms = 1;
	size_print(size, all);
	size_print((uint64_t)((double)size * 1000.0 / (double)ms), rate);
	snprintf(out, SPEED_TEXT, "%.15s in %llu.%llu s (%.15s/s)", all,
	    (unsigned long long)(ms / 1000),
	    (unsigned long long)(ms % 1000 / 100), rate);
	return out;
}

void
summary_line(const char *what, uint64_t n)
{
	char text[16];

	printf("  %-13s %s\n", what, size_print(n, text));
}

json_t *
summary_notes(const char *notes)
{
	json_t *list = json_array();

	while (*notes != 0) {
		size_t n = strcspn(notes, "\n");

		json_array_append_new(list, json_stringn(notes, n));
		notes += n + (notes[n] != 0);
	}
	return list;
}
