/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/frame.h"

#include <assert.h>

#include "proto/base/bytes.h"

int
frame_parse(const uint8_t *header, struct frame *f, struct err *e)
{
	const struct frame_wire *w = (const struct frame_wire *)header;
	uint32_t len = get_le32(w->len);

	if (w->flags != 0)
		return err_set(
		    e, ERR_PROTO, "unknown frame flags 0x%02x", w->flags);
	if (get_le16(w->zero) != 0)
		return err_set(e, ERR_PROTO, "not a frame");
	if (len > FRAME_PAYLOAD_MAX)
		return err_set(
		    e, ERR_LIMIT, "a frame of %u bytes is too long", len);
	f->type = w->type;
	f->request = get_le32(w->request);
	f->payload = NULL;
	f->len = len;
	return 0;
}

void
frame_print(const struct frame *f, uint8_t *header)
{
	struct frame_wire *w = (struct frame_wire *)header;

	assert(f->len <= FRAME_PAYLOAD_MAX);
	put_le32(w->len, (uint32_t)f->len);
	w->type = f->type;
	w->flags = 0;
	put_le16(w->zero, 0);
	put_le32(w->request, f->request);
}
