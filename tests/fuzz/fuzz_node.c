/* SPDX-License-Identifier: Apache-2.0 */
/* A node that parses is in its one form: it prints to the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "proto/node.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t body[NODE_LEN_MAX];
	struct node n, trimmed;
	struct err e;

	if (node_parse(data, size, &n, &e) != 0)
		return 0;
	if (node_print(&n, body) != size || memcmp(body, data, size) != 0)
		abort();
	trimmed = n;
	node_trim(&trimmed);
	if (trimmed.n != n.n || n.level > NODE_LEVEL_MAX)
		abort();
	return 0;
}
