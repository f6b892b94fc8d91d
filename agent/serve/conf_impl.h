/* SPDX-License-Identifier: Apache-2.0 */
/* conf_impl: what the files conf*.c, and their tests, share. */
#ifndef AGENT_SERVE_CONF_IMPL_H
#define AGENT_SERVE_CONF_IMPL_H

#include "agent/serve/conf.h"

enum conf_type {
	CONF_FLAG,     /* yes, no */
	CONF_COUNT,    /* min to max */
	CONF_SIZE,     /* bytes */
	CONF_DURATION, /* seconds; 90s, 30m, 2h */
	CONF_PERCENT,  /* 0 to 100, with a point */
	CONF_WORD,     /* one of ${words} */
	CONF_NAME,     /* a part of a name, or nothing */
	CONF_PATH,     /* whole, from /; nothing where that is the default */
	CONF_URL,      /* of a repository, or nothing */
	CONF_LEVEL,    /* of compression */
	CONF_VIRT,     /* yes, no, or an address of libvirt's */
	CONF_LINE,     /* any text */
	CONF_DISKS,    /* NAME=SOURCE, several times */
	CONF_NAMES     /* names of disks, several times */
};

struct conf_key {
	const char *section; /* "agent" or "vm" */
	const char *name;
	enum conf_type type;
	const char *initial; /* the default, as one writes it */
	bool live;           /* may change while the agent serves */
	uint64_t min, max;
	const char *const *words; /* of a CONF_WORD, NULL at their end */
	const char *takes;        /* "a number from 1 to 64" */
	const char *about;        /* sentences, for the sample */
};

extern const struct conf_key conf_keys[CONF_NKEYS];

/** conf_key_find(section, name): its number, or CONF_NKEYS: there is none. */
enum conf_key_id conf_key_find(const char *section, const char *name);

/** conf_key_near(section, name): the key that was meant, maybe; or NULL. */
const char *conf_key_near(const char *section, const char *name);

/** conf_check(k, text, n): is it what ${k} takes?  ${n} (or NULL): what number
 * that is.  0 or ERR_INVAL. */
int conf_check(const struct conf_key *k, const char *text, uint64_t *n);

/** conf_file_read(c, text, len, wrong): the file's ${text} into ${c}. */
void conf_file_read(
    struct conf *c, const char *text, size_t len, struct buf *wrong);

#endif
