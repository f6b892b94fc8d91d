/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pace: the rates of the daemon, of keys and of jobs, kept by all lanes.
 *
 * Each rate has what the settings say (of a key: its line in the file; of a
 * job: none) and may be set while the daemon runs, which lasts as long as the
 * daemon or the job.  Rates may depend on the hour.  pace_core has how turns
 * are given.  Any thread.
 */
#ifndef REPO_SERVE_PACE_H
#define REPO_SERVE_PACE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "repo/settings/hours.h"

struct pace;
struct pace_lanes; /* of one job */

struct pace *pace_new(void);
void pace_free(struct pace *p);

/** pace_settings(p, h): what the settings say of all agents together. */
void pace_settings(struct pace *p, const struct hours *h);

/**
 * pace_set_all(p, h), pace_set_key(p, key, h), pace_set_job(p, job, h): from
 * now on, whatever the settings say; NULL: what they say counts again.
 * pace_set_job: false: there is no such job.
 */
void pace_set_all(struct pace *p, const struct hours *h);
void pace_set_key(struct pace *p, const char *key, const struct hours *h);
bool pace_set_job(struct pace *p, uint64_t job, const struct hours *h);

/** pace_tick(p): another minute may have begun. */
void pace_tick(struct pace *p);

/**
 * pace_join(p, job, key): a job; ${key} NULL: of the console, which is held to
 * its own rate only.  pace_leave(l): none of its lanes pays any more.
 * pace_key(l, h): what the file says of its key.
 * pace_lane(l, n): so many more lanes, or fewer.
 * Here and below ${l} may be NULL: it is held to nothing.
 */
struct pace_lanes *pace_join(struct pace *p, uint64_t job, const char *key);
void pace_leave(struct pace_lanes *l);
void pace_key(struct pace_lanes *l, const struct hours *h);
void pace_lane(struct pace_lanes *l, int n);

/** pace_pay(l, len, timeout_ms): wait for the turn of some of ${len} bytes,
 * which is not 0: how many; 0: it has not come. */
size_t pace_pay(struct pace_lanes *l, size_t len, int timeout_ms);

/** pace_window(l, most): how much a peer should be let send ahead. */
size_t pace_window(struct pace_lanes *l, size_t most);

/** pace_to_json(p): what is in force, PROTOCOL.md 6 "set"; of
 * keys, what was set and those that have a job. */
json_t *pace_to_json(struct pace *p);

#endif
