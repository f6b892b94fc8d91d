/* SPDX-License-Identifier: Apache-2.0 */
/* frame: the unit of everything that crosses a lane.  PROTOCOL.md 2. */
#ifndef PROTO_FRAME_H
#define PROTO_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"

enum {
	FRAME_HEADER_LEN = 12,
	/* One chunk of the largest size, stored plain, with its headers. */
	FRAME_PAYLOAD_MAX = (4 << 20) + (64 << 10)
};

struct frame_wire {     /* PROTOCOL.md 2 */
	uint8_t len[4]; /* of the payload */
	uint8_t type;
	uint8_t flags; /* none is known yet: 0 */
	uint8_t zero[2];
	uint8_t request[4]; /* the answer repeats the question's */
};
_Static_assert(sizeof(struct frame_wire) == FRAME_HEADER_LEN, "PROTOCOL.md 2");

struct frame {
	uint8_t type; /* MSG_* of msg.h */
	uint32_t request;
	const uint8_t *payload; /* the lane's, until its next receive */
	size_t len;
};

/**
 * frame_parse(header, f, e): decode and check FRAME_HEADER_LEN bytes; sets
 * all of ${f} but the payload.  The type is not checked: an unknown one is
 * refused by name by who serves it.  0; ERR_PROTO; ERR_LIMIT.
 */
int frame_parse(const uint8_t *header, struct frame *f, struct err *e);

/** frame_print(f, header): the reverse; f->len <= FRAME_PAYLOAD_MAX. */
void frame_print(const struct frame *f, uint8_t *header);

#endif
