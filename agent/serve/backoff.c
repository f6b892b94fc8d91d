/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/serve/backoff.h"

unsigned
backoff_ms(struct backoff *b, uint32_t chance)
{
	unsigned ms = b->next_ms == 0 ? BACKOFF_MIN_MS : b->next_ms;

	b->next_ms = ms * 2 < BACKOFF_MAX_MS ? ms * 2 : BACKOFF_MAX_MS;
	return ms - chance % (ms / 2 + 1);
}

void
backoff_reset(struct backoff *b)
{
	b->next_ms = 0;
}
