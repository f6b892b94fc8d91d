/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/err.h"

static _Atomic enum log_level level = LOG_LEVEL_INFO;

void
log_set_level(enum log_level l)
{
	level = l;
}

/* How the lines of a level begin. */
static const struct {
	const char *word;     /* for people */
	const char *priority; /* for the journal, sd-daemon(3) */
} marks[] = {
	[LOG_LEVEL_ERROR] = { "error: ", "<3>" },
	[LOG_LEVEL_INFO] = { "info: ", "<6>" },
	[LOG_LEVEL_DEBUG] = { "debug: ", "<7>" },
};

static bool to_journal; /* set once */

/*
 * The variable alone says little: it is inherited, too, where stderr has been
 * sent elsewhere since.
 */
static void
find_journal(void)
{
	const char *said = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	if (said == NULL || sscanf(said, "%llu:%llu", &dev, &ino) != 2 ||
	    fstat(STDERR_FILENO, &st) == -1)
		return;
	to_journal = st.st_dev == dev && st.st_ino == ino;
}

/* One write(2) a line, so that lines of threads do not mix. */
__attribute__((format(printf, 2, 0))) static void
emit(enum log_level at, const char *fmt, va_list ap, int err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	char line[1024];
	size_t n;

	pthread_once(&once, find_journal);
	n = (size_t)snprintf(line, sizeof(line), "%s",
	    to_journal ? marks[at].priority : marks[at].word);
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
	emit(LOG_LEVEL_ERROR, fmt, ap, 0);
	va_end(ap);
}

void
log_info(const char *fmt, ...)
{
	va_list ap;

	if (level < LOG_LEVEL_INFO)
		return;
	va_start(ap, fmt);
	emit(LOG_LEVEL_INFO, fmt, ap, 0);
	va_end(ap);
}

void
log_debug(const char *fmt, ...)
{
	va_list ap;

	if (level < LOG_LEVEL_DEBUG)
		return;
	va_start(ap, fmt);
	emit(LOG_LEVEL_DEBUG, fmt, ap, 0);
	va_end(ap);
}

int
log_sys(const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	va_start(ap, fmt);
	emit(LOG_LEVEL_ERROR, fmt, ap, err);
	va_end(ap);
	errno = err;
	return ERR_SYS;
}
