/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/console/damage.h"

#include <inttypes.h>
#include <stdio.h>

#include "repo/console/console.h"

static void
print_volume(const char *backup, const json_t *v)
{
	const json_t *runs = json_object_get(v, "runs"), *r;
	uint64_t bytes = answer_u64(v, "bytes"), told = 0;
	size_t i;

	printf("  %s, volume %s: %" PRIu64 " bytes:", backup,
	    answer_str(v, "volume"), bytes);
	json_array_foreach(runs, i, r)
	{
		told += answer_u64(r, "len");
		printf("%s %" PRIu64 " from %" PRIu64, i == 0 ? "" : ",",
		    answer_u64(r, "len"), answer_u64(r, "from"));
	}
	puts(told < bytes ? ", ..." : "");
}

void
damage_print(const json_t *d)
{
	const json_t *hits = json_object_get(d, "hit");

	if (answer_u64(d, "damaged") == 0) {
		puts("damage      none is known");
		return;
	}
	printf("damage      %" PRIu64 " chunks and nodes; backups hit: %zu%s\n",
	    answer_u64(d, "damaged"), json_array_size(hits),
	    json_is_true(json_object_get(d, "complete"))
		? ""
		: " so far, not all were looked at");
	for (size_t i = 0; i < json_array_size(hits); i++) {
		const json_t *h = json_array_get(hits, i);
		const json_t *volumes = json_object_get(h, "volumes");

		for (size_t k = 0; k < json_array_size(volumes); k++)
			print_volume(answer_str(h, "backup"),
			    json_array_get(volumes, k));
	}
}
