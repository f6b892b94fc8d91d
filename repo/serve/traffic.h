/* SPDX-License-Identifier: Apache-2.0 */
/* traffic: what each lane of a job has moved, as people watch it.  Any thread;
 * a lane counts without a lock. */
#ifndef REPO_SERVE_TRAFFIC_H
#define REPO_SERVE_TRAFFIC_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { TRAFFIC_LANES_MAX = 64 };

/* Zero-initialise. */
struct traffic {
	struct {
		atomic_bool used;
		_Atomic uint64_t in;
		_Atomic uint64_t out;
	} lane[TRAFFIC_LANES_MAX];
};

/** traffic_join(t): a lane's number from here on, from 0; -1: all are taken,
 * and it is not counted.  traffic_leave(t, lane): it is gone, with its bytes.
 * -1 is nothing. */
int traffic_join(struct traffic *t);
void traffic_leave(struct traffic *t, int lane);

/** traffic_count(t, lane, in, out): that many bytes more.  -1 is nothing. */
void traffic_count(struct traffic *t, int lane, uint64_t in, uint64_t out);

/** traffic_to_json(t): of the lanes that there are, as PROTOCOL.md 6 has it. */
json_t *traffic_to_json(const struct traffic *t);

#endif
