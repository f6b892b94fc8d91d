/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/node.h"

enum { FLAG_TAIL = 1 };

int
node_parse(const uint8_t *body, size_t len, struct node *out, struct err *e)
{
	uint8_t n;

	if (len < NODE_HEADER_LEN)
		return err_set(e, ERR_PROTO, "a node of %zu bytes", len);
	n = body[1];
	if (body[0] > NODE_LEVEL_MAX)
		return err_set(e, ERR_PROTO, "a node of level %u", body[0]);
	if ((body[2] & ~FLAG_TAIL) != 0 || body[3] != 0)
		return err_set(e, ERR_PROTO, "unknown node flags");
	if (n == 0 || n > NODE_FANOUT ||
	    len != NODE_HEADER_LEN + (size_t)n * ID_LEN)
		return err_set(
		    e, ERR_PROTO, "a node of %u children in %zu bytes", n, len);
	out->level = body[0];
	out->n = n;
	out->tail = (body[2] & FLAG_TAIL) != 0;
	memcpy(out->child, body + NODE_HEADER_LEN, (size_t)n * ID_LEN);
	memset(out->child + n, 0, (size_t)(NODE_FANOUT - n) * ID_LEN);
	if (id_is_hole(&out->child[n - 1]))
		return err_set(e, ERR_PROTO, "a node that ends in a hole");
	return 0;
}

size_t
node_print(const struct node *n, uint8_t *body)
{
	body[0] = n->level;
	body[1] = n->n;
	body[2] = n->tail ? FLAG_TAIL : 0;
	body[3] = 0;
	memcpy(body + NODE_HEADER_LEN, n->child, (size_t)n->n * ID_LEN);
	return NODE_HEADER_LEN + (size_t)n->n * ID_LEN;
}

void
node_trim(struct node *n)
{
	n->n = NODE_FANOUT;
	while (n->n > 0 && id_is_hole(&n->child[n->n - 1]))
		n->n--;
}

uint64_t
node_span(unsigned level)
{
	return (uint64_t)1 << 7 * (level + 1);
}

unsigned
node_root_level(uint64_t nslices)
{
	unsigned level = 0;

	while (node_span(level) < nslices)
		level++;
	return level;
}
