/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settings: REPO/backstayd.conf and the options of the command line, together.
 *
 * settings_table.c has all keys with what they take, their defaults and what is
 * said of them; the sample, the checks and backstayd.conf(5) go by it.  Only
 * backstayd's main reads the file; the others are handed values, or ask what
 * is in force now by settings_get.
 */
#ifndef REPO_SETTINGS_SETTINGS_H
#define REPO_SETTINGS_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/name.h"
#include "repo/dispatch/plan.h"
#include "repo/retain/policy.h"
#include "repo/settings/hours.h"

#define SETTINGS_FILE "backstayd.conf"

enum {
	SETTINGS_FILE_MAX = 1 << 20,
	SETTINGS_VMS_MAX = 1024, /* [vm PATTERN] sections */
	SETTINGS_LISTEN_MAX = 16,
	SETTINGS_KEYS_MAX = 64
};

/* What [vm PATTERN] says. */
struct settings_section {
	char pattern[VM_NAME_MAX + 1];
	unsigned line;
	struct retain_policy policy; /* set: also of what is said to be 0 */
	struct plan plan;            /* likewise */
	char *said;                  /* "keep-last = 3, lock = 7d" */
};

/* One reading; never changes. */
struct settings {
	char *listen[SETTINGS_LISTEN_MAX];
	unsigned nlisten;
	bool no_ssh;
	bool verbose;
	char *hook; /* a path and words, or "" */
	uint64_t hook_timeout;
	uint64_t low_space; /* percent of the volume; 0: not told */
	char *http;         /* ADDR:PORT, or "" */
	bool metrics_vms;
	char *index;          /* a path as it can be opened */
	uint64_t block_cache; /* bytes */
	uint64_t pack_limit;  /* bytes; 0: by the volume */
	uint64_t live_percent;
	uint64_t checkpoint;         /* seconds */
	uint64_t keep_incomplete;    /* seconds */
	uint64_t scrub_interval;     /* seconds; 0: only when told */
	uint64_t clock_jump;         /* seconds */
	uint64_t nfs_timeout;        /* seconds */
	uint64_t jobs;               /* of agents, at a time */
	struct hours bwlimit;        /* of all agents together */
	struct settings_section *vm; /* as in the file */
	unsigned nvms;
	/* Of each key of [daemon], as it was written. */
	char *text[SETTINGS_KEYS_MAX];
};

/**
 * settings_vm(s, vm): what is kept of the backups of that VM.  For each key
 * the section counts that says it and fits best: one that names the VM, then
 * the longest pattern, then the first in the file.  A rule that is said to be
 * 0 there counts as not said at all: ${set} lacks it.
 */
struct retain_policy settings_vm(const struct settings *s, const char *vm);

/** settings_plan(s, vm, out): when that VM is backed up, by the same choice of
 * sections. */
void settings_plan(const struct settings *s, const char *vm, struct plan *out);

/** settings_rule(name, text, p, e): the value of a key of [vm], as a person
 * wrote it, into ${p}.  ERR_INVAL: there is no such key, or what it takes. */
int settings_rule(
    const char *name, const char *text, struct retain_policy *p, struct err *e);

/* What the command line says: it wins over the file. */
struct settings_override {
	const char *name; /* a key of [daemon] */
	const char *value;
};

/* Where settings come from, and what is wrong there. */
struct settings_source {
	const char *dir;
	const struct settings_override *over; /* as given; listen adds up */
	unsigned nover;
};

/**
 * settings_read(src, out, wrong): read and check all.  No file is an empty
 * one.  ERR_INVAL: ${wrong} has a line for each fault: file, line, what, and
 * what to say instead; else ERR_SYS.  ${out} is the caller's: settings_free.
 */
int settings_read(const struct settings_source *src, struct settings **out,
    struct buf *wrong);
void settings_free(struct settings *s);

/*
 * What is in force, for any thread: main opens it and reloads it.
 *
 * settings_open(src, out, wrong): as settings_read; ${src} is kept.
 * settings_get(n): what is in force, until settings_put.
 * settings_reload(n, changes, wrong): read again.  What may change while the
 * daemon runs is in force from here on; ${changes} has a line for each key that
 * is others now, also for one that only a restart changes, which stays.  As
 * settings_read; with a fault nothing changes.
 */
struct settings_now;
int settings_open(const struct settings_source *src, struct settings_now **out,
    struct buf *wrong);
void settings_close(struct settings_now *n);
const struct settings *settings_get(struct settings_now *n);
void settings_put(struct settings_now *n, const struct settings *s);
int settings_reload(
    struct settings_now *n, struct buf *changes, struct buf *wrong);

/** settings_sample(out): a file with all keys, each commented and at its
 * default. */
void settings_sample(struct buf *out);

#endif
