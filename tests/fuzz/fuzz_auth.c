/* SPDX-License-Identifier: Apache-2.0 */
/*
 * authorized_agents: what parses is printed, and must parse again to the same
 * keys and print the same.
 */
#include <stdlib.h>
#include <string.h>

#include "repo/serve/auth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
print(const struct auth *a, struct buf *b)
{
	for (size_t i = 0; i < a->n; i++)
		auth_print_key(&a->key[i], b);
}

static void
same(const struct auth_key *a, const struct auth_key *b)
{
	if (strcmp(a->name, b->name) != 0 || strcmp(a->type, b->type) != 0 ||
	    strcmp(a->base64, b->base64) != 0 || a->roles != b->roles ||
	    a->npatterns != b->npatterns ||
	    !hours_equal(&a->bwlimit, &b->bwlimit) || a->lanes != b->lanes ||
	    a->jobs != b->jobs)
		abort();
	for (unsigned i = 0; i < a->npatterns; i++)
		if (strcmp(a->pattern[i], b->pattern[i]) != 0)
			abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf one = { 0 }, two = { 0 };
	struct auth a, b;
	struct err e;

	if (auth_parse((const char *)data, size, "f", &a, &e) != 0)
		return 0;
	print(&a, &one);
	if (auth_parse((const char *)one.data, one.len, "g", &b, &e) != 0 ||
	    a.n != b.n)
		abort();
	for (size_t i = 0; i < a.n; i++) {
		same(&a.key[i], &b.key[i]);
		if (auth_find_name(&b, a.key[i].name) != &b.key[i] ||
		    auth_find_blob(&b, a.key[i].base64) != &b.key[i])
			abort();
		auth_sees(&a.key[i], "acme/web1");
	}
	print(&b, &two);
	if (one.len != two.len ||
	    (one.len > 0 && memcmp(one.data, two.data, one.len) != 0))
		abort();
	buf_fini(&one);
	buf_fini(&two);
	auth_fini(&a);
	auth_fini(&b);
	return 0;
}
