/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pipeline/hot.h"

#include <assert.h>
#include <string.h>

#include "proto/msg.h"

void
hot_init(struct hot *h, struct lane *l)
{
	memset(h, 0, sizeof(*h));
	h->lane = l;
}

unsigned
hot_room(const struct hot *h)
{
	return HOT_MAX - h->n;
}

struct hot_ask *
hot_ask(struct hot *h, uint8_t want)
{
	struct hot_ask *a;
	unsigned i = 0;

	assert(h->n < HOT_MAX);
	while (h->ask[i].want != 0)
		i++;
	a = &h->ask[i];
	memset(a, 0, sizeof(*a));
	a->want = want;
	/* The place is in the number, so an answer finds its question. */
	a->request = ++h->serial * HOT_MAX + i;
	h->n++;
	return a;
}

int
hot_error(struct hot *h, const struct frame *f, struct err *e)
{
	int rc = msg_error_parse(f->payload, f->len, e);

	if (rc != 0)
		return rc;
	return err_prefix(e, "%s", lane_peer(h->lane));
}

int
hot_recv(struct hot *h, struct hot_ask *ask, struct frame *f, struct err *e)
{
	struct hot_ask *a;
	int rc;

	assert(h->n > 0);
	rc = lane_recv(h->lane, LANE_STALL_MS, f, e);
	if (rc != 0)
		return rc;
	a = &h->ask[f->request % HOT_MAX];
	if (a->want == 0 || a->request != f->request) {
		/* Before it hangs up a daemon may say why. */
		if (f->type == MSG_ERROR)
			return hot_error(h, f, e);
		return err_set(e, ERR_PROTO, "%s: %s where none was asked for",
		    lane_peer(h->lane), msg_name(f->type));
	}
	*ask = *a;
	if (f->type == MSG_DATA && a->want == MSG_READ_DONE)
		return 0;
	if (f->type != a->want && f->type != MSG_ERROR)
		return err_set(e, ERR_PROTO, "%s: %s in place of %s",
		    lane_peer(h->lane), msg_name(f->type), msg_name(a->want));
	a->want = 0;
	h->n--;
	return 0;
}
