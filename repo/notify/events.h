/* SPDX-License-Identifier: Apache-2.0 */
/*
 * events: what others are told of: ends of jobs, damage, what is missing.
 *
 * Whoever notices something posts it and goes on: a post never waits for
 * anything.  One reader (hook.h) takes events in order.  What does not fit into
 * the queue is counted and lost.  Any thread; its lock is taken below all
 * others.
 */
#ifndef REPO_NOTIFY_EVENTS_H
#define REPO_NOTIFY_EVENTS_H

#include <jansson.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/name.h"

enum {
	EVENTS_QUEUED_MAX = 256,
	EVENT_TEXT_MAX = 64 << 10,
	EVENT_OUTCOME_MAX = 32
};

/* Each with the outcomes that it comes with. */
enum event_kind {
	EVENT_JOB_END,         /* done */
	EVENT_JOB_FAILURE,     /* failed, cancelled */
	EVENT_DAMAGE,          /* found */
	EVENT_LOW_SPACE,       /* low, recovered */
	EVENT_MISSED_SCHEDULE, /* missed */
	EVENT_UNUSUAL_CHANGE,  /* unusual */
	EVENT_AGENT_LOST,      /* lost, back */
	EVENT_TEST,            /* test */
	EVENT_KINDS
};

/** event_kind_name(kind): "job-end", "low-space", ... */
const char *event_kind_name(enum event_kind kind);

struct events;

/** events_new(repo): ${repo} is a name of the repository, for whoever is told
 * of several.  events_free(v): nobody posts or takes any more. */
struct events *events_new(const char *repo);
void events_free(struct events *v);

/**
 * event_post(v, kind, facts): ${facts} is an object, and consumed.  Its members
 * "vm" and "outcome" are strings that each event may have; "text" is a sentence
 * for people; what else there is depends on the kind (backstayd(8)).  "event",
 * "number", "time" and "repository" are added.  Returns its number, or 0: it
 * was lost.  ${v} NULL: nobody is told.
 */
uint64_t event_post(struct events *v, enum event_kind kind, json_t *facts);

/* As it is told: ${text} is one line of JSON. */
struct event {
	enum event_kind kind;
	uint64_t number;
	char vm[VM_NAME_MAX + 1];            /* or "" */
	char outcome[EVENT_OUTCOME_MAX + 1]; /* or "" */
	char *text;
};

/** events_take(v, timeout_ms, out): the next one, the caller's: event_fini.
 * ERR_TIMEOUT; ERR_CLOSED: none is left, and none will come. */
int events_take(struct events *v, int timeout_ms, struct event *out);
void event_fini(struct event *e);

/** events_close(v): what is posted from here on is lost. */
void events_close(struct events *v);

struct events_counts {
	uint64_t posted[EVENT_KINDS]; /* the lost ones, too */
	uint64_t lost;
};
void events_counts(struct events *v, struct events_counts *out);

#endif
