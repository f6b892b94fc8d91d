/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live_restore_args: QEMU's command line, as the files live_restore_args*.c
 * share it: places in the list lr.args, an option and behind it its value.
 */
#ifndef AGENT_LIVE_LIVE_RESTORE_ARGS_H
#define AGENT_LIVE_LIVE_RESTORE_ARGS_H

#include "agent/live/live_restore_impl.h"

/** args_word(r, i): the word at ${i}; "" past the end. */
const char *args_word(const struct lr *r, size_t i);

/** args_is(r, i, name): is that option ${name}, with one dash or two?
 * args_value(r, i, name): what follows it then, or NULL. */
bool args_is(const struct lr *r, size_t i, const char *name);
const char *args_value(const struct lr *r, size_t i, const char *name);

/** args_replace(r, i, value): uses up ${value}.  args_set(r, i, key, value): a
 * key of the word at ${i}, as words_set. */
void args_replace(struct lr *r, size_t i, char *value);
void args_set(struct lr *r, size_t i, const char *key, const char *value);

/** args_append(r, name, value): ${value} NULL: it has none. */
void args_append(struct lr *r, const char *name, const char *value);

/** args_drop(r, name, with_value): all options of that name go. */
void args_drop(struct lr *r, const char *name, bool with_value);

/* What a disk is made of: the option that says its format, and the option and
 * key that say its file.  0, NULL: none does. */
struct args_chain {
	size_t format;
	const char *format_key;
	size_t file;
	const char *file_key;
	const char *driver_key; /* of the file's protocol */
};

/** args_chain(r, at, out): of the disk that the word at ${at} defines; false:
 * it is not understood. */
bool args_chain(const struct lr *r, size_t at, struct args_chain *c);

#endif
