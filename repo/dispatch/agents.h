/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agents: which hosts are connected, and which VMs each of them has.
 *
 * An agent goes by the name of its key.  Nothing here locks: all of it is
 * guarded by the queue's mutex; others ask queue.h.
 */
#ifndef REPO_DISPATCH_AGENTS_H
#define REPO_DISPATCH_AGENTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/name.h"

enum {
	AGENTS_MAX = 256,  /* connected at a time */
	AGENTS_KEPT = 512, /* with those that are not connected any more */
	AGENT_JOBS_MAX = 64,
	AGENT_VMS_MAX = 512,
	AGENT_DISKS_MAX = 2048, /* of all its VMs */
	AGENT_PATH_MAX = 1023,
	AGENT_WORD_MAX = 64, /* host, version, format */
	AGENT_RUNNING_MAX = 256,
	AGENT_LIST_MAX = 512 << 10, /* that its list takes: by the above */
	TASK_LEN = 16,
	/* What a frame of its lane may have: so one agent's list is small. */
	AGENT_FRAME_MAX = 256 << 10
};

enum vm_state { VM_UNKNOWN, VM_OFF, VM_RUNNING };

struct agent_disk {
	char name[NAME_PART_MAX + 1];
	char format[16]; /* "qcow2", "raw"; "": not told */
	uint64_t size;   /* bytes; 0: not told */
	char *path;
};

struct agent_vm {
	char name[VM_NAME_MAX + 1];
	enum vm_state state;
	struct agent_disk *disk;
	unsigned ndisks;
};

/* What an agent says of itself: one `serve`. */
struct agent_says {
	char host[AGENT_WORD_MAX + 1];
	char version[AGENT_WORD_MAX + 1];
	unsigned jobs; /* at a time */
	struct agent_vm *vm;
	unsigned nvms;
	unsigned hidden; /* VMs that its key may not see: not taken */
	bool told_running;
	uint8_t (*running)[TASK_LEN]; /* tasks whose processes still are */
	unsigned nrunning;
};

/**
 * agent_says_parse(q, sees, arg, out, e): the members of a `serve`.  VMs that
 * ${sees} says no to are left out.  ERR_PROTO, ERR_INVAL, ERR_LIMIT.
 * ${out} is the caller's: agent_says_fini.
 */
int agent_says_parse(const json_t *q, bool (*sees)(void *arg, const char *vm),
    void *arg, struct agent_says *out, struct err *e);
void agent_says_fini(struct agent_says *s);

/** agent_running_parse(q, out, n, told, e): the member "running" alone. */
int agent_running_parse(const json_t *q, uint8_t (**out)[TASK_LEN], unsigned *n,
    bool *told, struct err *e);

struct queue_lane;

struct agent {
	struct agent *next;
	char name[NAME_PART_MAX + 1]; /* of its key */
	bool may_backup;
	bool may_restore;
	char from[AGENT_WORD_MAX + 1]; /* where its lane comes from */
	uint64_t since;                /* seconds: connected */
	uint64_t order;                /* of its last `serve`: later is more */
	struct queue_lane *lane;       /* NULL: not connected, */
	uint64_t lost_ms;              /* since then, by now_ms(), */
	uint64_t lost;                 /* and in seconds since 1970 */
	bool given_up;                 /* and for longer than a grace */
	struct agent_says says;
	unsigned ntasks; /* that it has in hand */
	/* Processes that nobody here knows of: it gets nothing until they are
	 * gone, or until then: they may be at any VM. */
	unsigned nstray;
	uint64_t stray_ms;
};

struct agents {
	struct agent *first;
	unsigned n; /* all, and */
	unsigned nconnected;
	uint64_t order;
	/* Which has a VM: sorted by VM, made when it is asked for. */
	struct agent_has *has;
	unsigned nhas;
	bool stale;
};

struct agent_has {
	const char *vm;
	struct agent *agent;
};

void agents_fini(struct agents *a);

/** agents_find(a, name): or NULL.  agents_get: or a new one, not connected. */
struct agent *agents_find(struct agents *a, const char *name);
struct agent *agents_get(struct agents *a, const char *name);

/** agents_says(a, g, s): its list is that now; ${s} is taken over.
 * agents_changed(a): connected ones or lists are others. */
void agents_says(struct agents *a, struct agent *g, struct agent_says *s);
void agents_changed(struct agents *a);

/** agents_drop(a, g): forget it; it has no tasks.
 * agents_trim(a): the one that is lost longest, where there are too many. */
void agents_drop(struct agents *a, struct agent *g);
void agents_trim(struct agents *a);

/** agent_vm_find(g, vm): as it reports it, or NULL. */
const struct agent_vm *agent_vm_find(const struct agent *g, const char *vm);

/**
 * agents_with(a, vm): the connected agent that takes this VM's backups: where
 * it runs; else one that reports it, with a free place if there is one; of
 * several the last to have said so.  NULL: there is none.
 */
struct agent *agents_with(struct agents *a, const char *vm);

/** agent_to_json(g): as PROTOCOL.md 6 has it, but for its tasks. */
json_t *agent_to_json(const struct agent *g);

const char *vm_state_name(enum vm_state s);

#endif
