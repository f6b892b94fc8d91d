/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log: one line a message on stderr.  Never keys, never guest data.
 *
 * A line begins with its level's word.  Where stderr is the journal of systemd
 * (it is what $JOURNAL_STREAM names when the first line is written), it begins
 * with the level's priority instead, which the journal takes off and keeps.
 */
#ifndef PROTO_BASE_LOG_H
#define PROTO_BASE_LOG_H

enum log_level {
	LOG_LEVEL_ERROR, /* someone must act */
	LOG_LEVEL_INFO,  /* a few lines a backup */
	LOG_LEVEL_DEBUG  /* a line a chunk */
};

/** log_set_level(level): any thread; the default is info. */
void log_set_level(enum log_level level);

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/**
 * log_sys(fmt, ...): log an error with what errno says at its end, and return
 * ERR_SYS, so that one can `return log_sys("pack %s: open", name)`.
 */
int log_sys(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
