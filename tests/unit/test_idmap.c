/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/base/bytes.h"
#include "repo/store/idmap.h"

static struct id
id_of(uint64_t n)
{
	struct id id = { { 0 } };

	put_le64(id.b, n * 0x9e3779b97f4a7c15u);
	id.b[ID_LEN - 1] = 1;
	return id;
}

static void
what_was_added_is_found_and_what_was_removed_is_not(void **state)
{
	struct idmap m;
	bool fresh;

	(void)state;
	idmap_init(&m, sizeof(uint64_t));
	for (uint64_t round = 0; round < 4; round++) {
		for (uint64_t i = 0; i < 1000; i++) {
			struct id id = id_of(i);

			*(uint64_t *)idmap_add(&m, &id, &fresh) = i;
			assert_int_equal(fresh, round == 0 || i % 3 == 0);
		}
		for (uint64_t i = 0; i < 1000; i += 3) {
			struct id id = id_of(i);

			idmap_remove(&m, &id);
		}
		for (uint64_t i = 0; i < 1000; i++) {
			struct id id = id_of(i);
			uint64_t *v = idmap_find(&m, &id);

			if (i % 3 == 0) {
				assert_null(v);
				continue;
			}
			assert_non_null(v);
			assert_int_equal(*v, i);
		}
	}
	idmap_fini(&m);
}

/* At every size: also where the next new one would make the map grow. */
static void
asking_for_what_is_there_loses_no_place_on_the_way_through(void **state)
{
	(void)state;
	for (uint64_t n = 1; n < 400; n++) {
		uint64_t seen = 0, *v;
		const struct id *id;
		struct idmap m;
		size_t at = 0;
		bool fresh;

		idmap_init(&m, sizeof(uint64_t));
		for (uint64_t i = 0; i < n; i++) {
			struct id one = id_of(i);

			idmap_add(&m, &one, &fresh);
		}
		while ((v = idmap_next(&m, &at, &id)) != NULL) {
			struct id one = *id;

			assert_int_equal(*v, 0);
			++*v;
			/* From somewhere on the way. */
			if (seen++ > n / 2)
				idmap_add(&m, &one, &fresh);
		}
		assert_int_equal(seen, n);
		idmap_fini(&m);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    what_was_added_is_found_and_what_was_removed_is_not),
		cmocka_unit_test(
		    asking_for_what_is_there_loses_no_place_on_the_way_through),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
