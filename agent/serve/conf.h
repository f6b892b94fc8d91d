/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conf: agent.conf: what this host offers to the NAS, and how it works for it.
 *
 * conf_table.c has all keys with what they take, their defaults and what is
 * said of them; the sample, the checks and agent.conf(5) go by it.  Values are
 * kept as they were written, since most are options of the commands that do the
 * work.  One reading never changes.
 */
#ifndef AGENT_SERVE_CONF_H
#define AGENT_SERVE_CONF_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/manifest.h"
#include "proto/name.h"

#define CONF_FILE "agent.conf"

enum {
	CONF_FILE_MAX = 1 << 20,
	CONF_VMS_MAX = 1024, /* [vm NAME] sections */
	CONF_LIST_MAX = MANIFEST_VOLUMES_MAX,
	CONF_JOBS_MAX = 64
};

/* The keys of both sections, as in conf_table.c. */
enum conf_key_id {
	CONF_REPO,
	CONF_JOBS,
	CONF_LIBVIRT,
	CONF_NAMESPACE,
	CONF_SCAN,
	CONF_RESTORES,
	CONF_LANES,
	CONF_BWLIMIT,
	CONF_COMPRESSION,
	CONF_STALL,
	CONF_NFS_TIMEOUT,
	CONF_WAIT,
	CONF_SCRATCH_DIR,
	CONF_SCRATCH_MAX,
	CONF_VERIFY_CLEAN,
	CONF_VERBOSE,
	CONF_NAGENT, /* those above are [agent]'s */

	CONF_DISK = CONF_NAGENT,
	CONF_DOMAIN,
	CONF_CONNECT,
	CONF_QMP,
	CONF_GA,
	CONF_RAM,
	CONF_RAM_METHOD,
	CONF_QUIESCE,
	CONF_EXCLUDE,
	CONF_IGNORE,
	CONF_NKEYS
};

/* What [vm NAME] says. */
struct conf_vm {
	char name[VM_NAME_MAX + 1]; /* as on the NAS, with its namespace */
	char bare[VM_NAME_MAX + 1]; /* as in the file */
	unsigned line;
	char *text[CONF_NKEYS - CONF_NAGENT]; /* never NULL but of lists */
	unsigned ndisks;
	char *disk[CONF_LIST_MAX]; /* "NAME=SOURCE" */
	unsigned nexcluded;
	char *excluded[CONF_LIST_MAX];
	char *said; /* "disk = ..., ram = yes", to compare */
};

struct conf {
	char *path; /* of the file */
	char *text[CONF_NAGENT];
	struct conf_vm *vm; /* as in the file */
	unsigned nvms;
	unsigned refs; /* conf_now.c's */
};

/** conf_read(path, must, out, wrong): read and check all.  No file is an empty
 * one unless it ${must} be there.  ERR_INVAL: ${wrong} has a line for each
 * fault: file, line, what, and what to say instead; ERR_NOENT, ERR_SYS: one
 * line, too.  ${out} is the caller's: conf_free. */
int conf_read(
    const char *path, bool must, struct conf **out, struct buf *wrong);
void conf_free(struct conf *c);

/** conf_text(c, key): of [agent], as it was written; its default. */
static inline const char *
conf_text(const struct conf *c, enum conf_key_id key)
{
	return c->text[key];
}

/** conf_vm_text(v, key): of [vm], but for the lists. */
static inline const char *
conf_vm_text(const struct conf_vm *v, enum conf_key_id key)
{
	return v->text[key - CONF_NAGENT];
}

/** conf_is(text): "yes" and what else means it. */
bool conf_is(const char *text);

/** conf_number(c, key): of a number, a size (bytes) or a time (seconds). */
uint64_t conf_number(const struct conf *c, enum conf_key_id key);

/** conf_vm_find(c, name): by its name on the NAS; NULL: there is none. */
const struct conf_vm *conf_vm_find(const struct conf *c, const char *name);

/** conf_name(c, bare, out): the name on the NAS of what is called ${bare} here,
 * VM_NAME_MAX + 1 bytes; false: that would be no name of a VM. */
bool conf_name(const struct conf *c, const char *bare, char *out);

/**
 * conf_compare(old, c, changes): a line in ${changes} for each key that is
 * others now.  What only a restart changes is named there, and stays in ${c} as
 * it was.
 */
void conf_compare(const struct conf *old, struct conf *c, struct buf *changes);

/** conf_sample(out): a file with all keys, each commented and at its
 * default. */
void conf_sample(struct buf *out);

/*
 * What is in force, for any thread.
 * conf_now_new(c): ${c} is its own from here on.  conf_get: what is in force,
 * until conf_put.  conf_set: from here on ${c} is; its own, too.
 */
struct conf_now;
struct conf_now *conf_now_new(struct conf *c);
void conf_now_free(struct conf_now *n);
const struct conf *conf_get(struct conf_now *n);
void conf_put(struct conf_now *n, const struct conf *c);
void conf_set(struct conf_now *n, struct conf *c);

#endif
