/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/err.h"

static _Atomic enum log_level level = LOG_LEVEL_INFO;

void
log_set_level(enum log_level l)
{
	level = l;
}

/* One write(2) a line, so that lines of threads do not mix. */
__attribute__((format(printf, 2, 0))) static void
emit(const char *word, const char *fmt, va_list ap, int err)
{
	char line[1024];
	size_t n;

	n = (size_t)snprintf(line, sizeof(line), "%s: ", word);
	vsnprintf(line + n, sizeof(line) - n, fmt, ap);
	n = strlen(line);
	if (err != 0) {
		char why[128];

		snprintf(line + n, sizeof(line) - n, ": %s",
		    strerror_r(err, why, sizeof(why)));
		n = strlen(line);
	}
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)line[i] < ' ')
			line[i] = '?';
	if (n == sizeof(line) - 1)
		n--;
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, n) == -1)
		return; /* nowhere left to say it */
}

void
log_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	emit("error", fmt, ap, 0);
	va_end(ap);
}

void
log_info(const char *fmt, ...)
{
	va_list ap;

	if (level < LOG_LEVEL_INFO)
		return;
	va_start(ap, fmt);
	emit("info", fmt, ap, 0);
	va_end(ap);
}

void
log_debug(const char *fmt, ...)
{
	va_list ap;

	if (level < LOG_LEVEL_DEBUG)
		return;
	va_start(ap, fmt);
	emit("debug", fmt, ap, 0);
	va_end(ap);
}

int
log_sys(const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	va_start(ap, fmt);
	emit("error", fmt, ap, err);
	va_end(ap);
	errno = err;
	return ERR_SYS;
}
