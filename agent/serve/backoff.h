/* SPDX-License-Identifier: Apache-2.0 */
/* backoff: how long to wait before the next try.  Pure but for chance. */
#ifndef AGENT_SERVE_BACKOFF_H
#define AGENT_SERVE_BACKOFF_H

#include <stdint.h>

enum { BACKOFF_MIN_MS = 1000, BACKOFF_MAX_MS = 60000 };

struct backoff {
	unsigned next_ms; /* 0: as at the beginning */
};

/** backoff_ms(b, chance): how long this time: BACKOFF_MIN_MS, twice as much
 * each time, BACKOFF_MAX_MS at most; less up to half of it, by ${chance}, so
 * that hosts that lost one daemon do not come back all at once. */
unsigned backoff_ms(struct backoff *b, uint32_t chance);

/** backoff_reset(b): it went well. */
void backoff_reset(struct backoff *b);

#endif
