/* SPDX-License-Identifier: Apache-2.0 */
/* settings_impl: what the files of repo/settings, and its tests, share. */
#ifndef REPO_SETTINGS_SETTINGS_IMPL_H
#define REPO_SETTINGS_SETTINGS_IMPL_H

#include <stddef.h>

#include "repo/settings/settings.h"

enum settings_type {
	SETTING_FLAG,     /* bool: yes, no */
	SETTING_NUMBER,   /* uint64_t */
	SETTING_COUNT,    /* unsigned */
	SETTING_SIZE,     /* uint64_t: bytes; 0 only where min is 0 */
	SETTING_AUTO,     /* the same, or "auto", which is 0 */
	SETTING_DURATION, /* uint64_t: seconds; "auto" and unit as below */
	SETTING_PATH,     /* char *: relative to the repository */
	SETTING_PERCENT,  /* uint64_t: with or without % */
	SETTING_COMMAND,  /* char *: a whole path and words, or nothing */
	SETTING_ADDRESS,  /* char *: ADDR:PORT, or nothing */
	SETTING_TIMES,    /* of struct plan: lines of it add up */
	SETTING_WINDOWS,  /* likewise */
	SETTING_LISTEN,   /* listen, nlisten */
	SETTING_HOURS     /* struct hours */
};

struct settings_key {
	const char *section; /* "daemon" or "vm" */
	const char *name;
	enum settings_type type;
	const char *initial; /* the default, as one writes it */
	bool live;           /* may change while the daemon runs */
	bool plan;           /* of [vm]: in struct plan */
	/* In struct settings, in struct retain_policy, or in struct plan. */
	size_t off;
	uint64_t min, max;
	unsigned unit; /* seconds that a bare number means; 0: none may be */
	unsigned set;  /* of enum retain_set, or of enum plan_set */
	const char *takes; /* "a size from 1M to 2G, or auto" */
	const char *about; /* sentences, for the sample */
};

extern const struct settings_key settings_keys[];
extern const unsigned settings_nkeys;

/** settings_key_find(section, name): NULL: there is none. */
const struct settings_key *settings_key_find(
    const char *section, const char *name);

/** settings_key_near(section, name): the key that was meant, maybe; or NULL. */
const char *settings_key_near(const char *section, const char *name);

/** settings_take(k, dir, text, base): check ${text} and put its value into
 * ${base}, of the struct that has the key.  ERR_INVAL; ${base} is as it was. */
int settings_take(const struct settings_key *k, const char *dir,
    const char *text, void *base);

/** settings_set(s, k, dir, text): that, and remember the text. */
int settings_set(struct settings *s, const struct settings_key *k,
    const char *dir, const char *text);

/** settings_plan_take(k, text, p, e): the value of a key of struct plan.
 * ERR_INVAL says what is wrong with it. */
int settings_plan_take(const struct settings_key *k, const char *text,
    struct plan *p, struct err *e);

/** settings_fit(v, vm): how well that section fits; 0: not at all. */
size_t settings_fit(const struct settings_section *v, const char *vm);

/**
 * settings_file_read(s, dir, text, len, wrong): the file's ${text} into ${s}.
 * ${wrong} gets a line a fault.
 */
void settings_file_read(struct settings *s, const char *dir, const char *text,
    size_t len, struct buf *wrong);

#endif
