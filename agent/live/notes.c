/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/live/notes.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void
notes_add(char *notes, const char *fmt, ...)
{
	size_t at = strlen(notes);
	va_list ap;

	if (at + 2 >= NOTES_MAX)
		return;
	if (at > 0)
		notes[at++] = '\n';
	va_start(ap, fmt);
	vsnprintf(notes + at, NOTES_MAX - at, fmt, ap);
	va_end(ap);
}
