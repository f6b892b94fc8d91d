/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/buf.h"
#include "repo/catalog/catalog.h"

static struct err e;
static struct manifest m; /* too large for a habit on the stack */

static void
add(struct catalog *c, const char *vm, uint64_t seq, uint64_t time,
    unsigned nvolumes)
{
	memset(&m, 0, sizeof(m));
	strcpy(m.vm, vm);
	m.seq = seq;
	m.time = time;
	m.id[0] = (uint8_t)seq;
	m.id[1] = (uint8_t)(seq >> 8);
	m.nvolumes = nvolumes;
	for (unsigned i = 0; i < nvolumes; i++) {
		snprintf(m.volume[i].name, sizeof(m.volume[i].name), "v%u", i);
		m.volume[i].size = 1000;
	}
	assert_int_equal(catalog_add(c, &m), 0);
}

static uint64_t
found(struct catalog *c, const char *name)
{
	struct backup_ref ref;

	assert_int_equal(backup_ref_parse(name, &ref, &e), 0);
	memset(&e, 0, sizeof(e));
	return catalog_find(c, &ref, &m, &e) == 0 ? m.seq : 0;
}

static void
names_find_what_they_mean(void **state)
{
	struct catalog *c = catalog_new();

	(void)state;
	/* As a start may tell them: in any order. */
	add(c, "web1", 3, 86400 * 3, 1);
	add(c, "web1", 1, 86400 * 1, 1);
	add(c, "web1", 7, 86400 * 7, 64);
	add(c, "db/web1", 9, 86400 * 9, 1);
	assert_int_equal(found(c, "web1@latest"), 7);
	assert_int_equal(m.nvolumes, 64);
	assert_string_equal(m.volume[63].name, "v63");
	assert_int_equal(found(c, "web1@-1"), 3);
	assert_int_equal(m.nvolumes, 1);
	assert_int_equal(found(c, "web1@-2"), 1);
	assert_int_equal(found(c, "web1@-3"), 0);
	assert_int_equal(e.code, ERR_NOENT);
	assert_int_equal(found(c, "web1@1970-01-04T00:00:00Z"), 3);
	assert_int_equal(found(c, "web1@1970-01-04T00:00:01Z"), 0);
	assert_non_null(strstr(e.text, "the newest is web1@1970-01-08"));
	assert_int_equal(found(c, "db/web1@latest"), 9);
	assert_int_equal(found(c, "web@latest"), 0);
	assert_string_equal(e.text, "there is no backup of web");
	catalog_free(c);
}

static void
an_id_is_there_once(void **state)
{
	struct catalog *c = catalog_new();
	struct catalog_totals t;

	(void)state;
	add(c, "a", 5, 5, 1);
	assert_int_equal(catalog_add(c, &m), ERR_EXIST);
	catalog_totals(c, &t);
	assert_int_equal(t.nbackups, 1);
	catalog_free(c);
}

static void
each_backup_of_a_vm_gets_a_time_of_its_own(void **state)
{
	struct catalog *c = catalog_new();

	(void)state;
	assert_int_equal(catalog_next_time(c, "a", 100), 100);
	add(c, "a", 1, 100, 1);
	assert_int_equal(catalog_next_time(c, "a", 100), 101);
	add(c, "a", 2, 101, 1);
	assert_int_equal(catalog_next_time(c, "a", 100), 102);
	assert_int_equal(catalog_next_time(c, "a", 99), 102);
	assert_int_equal(catalog_next_time(c, "a", 500), 500);
	assert_int_equal(catalog_next_time(c, "b", 100), 100);
	catalog_free(c);
}

static void
a_listing_goes_by_vm_and_sequence(void **state)
{
	static const struct {
		const char *vm;
		uint64_t seq;
	} want[] = { { "a", 2 }, { "a", 4 }, { "b/c", 1 }, { "d", 3 } };
	struct catalog *c = catalog_new();
	struct catalog_cursor cur = { .seq = 0 };

	(void)state;
	assert_int_equal(catalog_next(c, &cur, &m), ERR_NOENT);
	add(c, "d", 3, 3, 1);
	add(c, "b/c", 1, 1, 1);
	add(c, "a", 4, 4, 1);
	add(c, "a", 2, 2, 1);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(catalog_next(c, &cur, &m), 0);
		assert_string_equal(m.vm, want[i].vm);
		assert_int_equal(m.seq, want[i].seq);
	}
	assert_int_equal(catalog_next(c, &cur, &m), ERR_NOENT);
	/* Past the rest of a VM; and from a VM that is not there. */
	cur = (struct catalog_cursor){ .vm = "a", .seq = UINT64_MAX };
	assert_int_equal(catalog_next(c, &cur, &m), 0);
	assert_string_equal(m.vm, "b/c");
	cur = (struct catalog_cursor){ .vm = "c", .seq = 77 };
	assert_int_equal(catalog_next(c, &cur, &m), 0);
	assert_string_equal(m.vm, "d");
	catalog_free(c);
}

static void
the_latest_is_the_one_of_the_latest_time(void **state)
{
	struct catalog *c = catalog_new();
	struct catalog_vm vm;

	(void)state;
	add(c, "a", 1, 500, 1);
	/* Imported: from before it, and between them. */
	add(c, "a", 2, 100, 1);
	add(c, "a", 3, 900, 1);
	add(c, "a", 4, 700, 2);
	assert_int_equal(catalog_newest(c, "a", &m), 0);
	assert_int_equal(m.seq, 3);
	assert_int_equal(found(c, "a@latest"), 3);
	assert_int_equal(found(c, "a@-1"), 4);
	assert_int_equal(found(c, "a@-2"), 1);
	assert_int_equal(found(c, "a@-3"), 2);
	assert_int_equal(catalog_vms(c, &vm, 1), 1);
	assert_int_equal(vm.last, 900);
	assert_int_equal(catalog_next_time(c, "a", 1), 901);
	catalog_free(c);
}

static void
totals_add_up_and_do_not_wrap(void **state)
{
	struct catalog *c = catalog_new();
	struct catalog_totals t;

	(void)state;
	add(c, "a", 1, 1, 2);
	add(c, "a", 2, 2, 1);
	add(c, "b", 3, 3, 1);
	catalog_totals(c, &t);
	assert_int_equal(t.nbackups, 3);
	assert_int_equal(t.nvms, 2);
	assert_int_equal(t.logical, 4000);
	for (uint64_t i = 0; i < 20; i++) {
		memset(&m, 0, sizeof(m));
		strcpy(m.vm, "huge");
		m.seq = m.time = 100 + i;
		m.id[0] = (uint8_t)m.seq;
		m.nvolumes = 1;
		m.volume[0].size = VOLUME_SIZE_MAX;
		assert_int_equal(catalog_add(c, &m), 0);
	}
	catalog_totals(c, &t);
	assert_true(t.logical == UINT64_MAX);
	catalog_free(c);
}

static void
what_is_hidden_is_found_no_more_and_held_until_released(void **state)
{
	struct catalog *c = catalog_new();
	struct catalog_cursor cur = { .seq = 0 };
	struct catalog_totals t;
	uint8_t id[BACKUP_ID_LEN];
	bool held;

	(void)state;
	add(c, "a", 1, 1, 1);
	add(c, "a", 2, 2, 1);
	memcpy(id, m.id, sizeof(id));
	assert_int_equal(catalog_hold(c, "a", id), 0);
	assert_int_equal(catalog_hold(c, "a", id), 0);
	assert_false(catalog_release(c, "a", id));
	assert_int_equal(catalog_hide(c, "a", id, &held), 0);
	assert_true(held);
	assert_int_equal(catalog_hide(c, "a", id, &held), ERR_NOENT);
	assert_int_equal(catalog_hold(c, "a", id), ERR_NOENT);
	assert_false(catalog_hidden(c, "a", id, true));
	assert_int_equal(found(c, "a@latest"), 1);
	assert_int_equal(found(c, "a@-1"), 0);
	assert_int_equal(catalog_find_id(c, "a", id, &m), ERR_NOENT);
	assert_int_equal(catalog_newest(c, "a", &m), 0);
	assert_int_equal(m.seq, 1);
	assert_int_equal(catalog_next(c, &cur, &m), 0);
	assert_int_equal(catalog_next(c, &cur, &m), ERR_NOENT);
	catalog_totals(c, &t);
	assert_int_equal(t.nbackups, 1);
	assert_true(catalog_release(c, "a", id));
	assert_false(catalog_release(c, "a", id));
	/* Its time stays taken. */
	assert_int_equal(catalog_next_time(c, "a", 2), 3);
	catalog_free(c);
}

static void
of_a_delete_and_a_release_one_finishes(void **state)
{
	struct catalog *c = catalog_new();
	uint8_t id[BACKUP_ID_LEN];
	bool held;

	(void)state;
	/* Released while it is being dropped: the delete finishes. */
	add(c, "a", 1, 1, 1);
	memcpy(id, m.id, sizeof(id));
	assert_int_equal(catalog_hold(c, "a", id), 0);
	assert_int_equal(catalog_hide(c, "a", id, &held), 0);
	assert_true(held);
	assert_false(catalog_release(c, "a", id));
	assert_true(catalog_hidden(c, "a", id, true));
	assert_int_equal(catalog_hide(c, "a", id, &held), ERR_NOENT);
	/* Never held: nobody has to. */
	add(c, "a", 2, 2, 1);
	memcpy(id, m.id, sizeof(id));
	assert_int_equal(catalog_hide(c, "a", id, &held), 0);
	assert_false(held);
	assert_false(catalog_hidden(c, "a", id, true));
	/* The drop failed: it is back, with who holds it. */
	add(c, "a", 3, 3, 1);
	memcpy(id, m.id, sizeof(id));
	assert_int_equal(catalog_hold(c, "a", id), 0);
	assert_int_equal(catalog_hide(c, "a", id, &held), 0);
	assert_int_equal(found(c, "a@latest"), 0);
	assert_false(catalog_hidden(c, "a", id, false));
	assert_int_equal(found(c, "a@latest"), 3);
	assert_false(catalog_release(c, "a", id));
	assert_int_equal(found(c, "a@latest"), 3);
	assert_int_equal(catalog_hide(c, "a", id, &held), 0);
	assert_false(held);
	catalog_free(c);
}

static void
incomplete_backups_are_kept_apart(void **state)
{
	struct catalog_cursor cur = { .incomplete = true };
	struct catalog *c = catalog_new();
	struct catalog_totals t;
	uint8_t id[BACKUP_ID_LEN];
	struct backup_ref ref;
	bool held;

	(void)state;
	add(c, "a", 1, 1, 1);
	memset(&m, 0, sizeof(m));
	strcpy(m.vm, "a");
	m.seq = m.time = 5;
	m.id[0] = 5;
	m.incomplete = true;
	memcpy(id, m.id, sizeof(id));
	assert_int_equal(catalog_add(c, &m), 0);
	assert_int_equal(found(c, "a@latest"), 1);
	assert_int_equal(found(c, "a@1970-01-01T00:00:05Z"), 0);
	assert_int_equal(catalog_newest(c, "a", &m), 0);
	assert_int_equal(m.seq, 1);
	assert_int_equal(catalog_find_id(c, "a", id, &m), ERR_NOENT);
	assert_int_equal(catalog_hold(c, "a", id), ERR_NOENT);
	catalog_totals(c, &t);
	assert_int_equal(t.nbackups, 1);
	assert_int_equal(t.nincomplete, 1);
	assert_int_equal(catalog_next_time(c, "a", 5), 6);
	/* By its time, for who asks for these too; never as the latest. */
	assert_int_equal(
	    backup_ref_parse("a@1970-01-01T00:00:05Z", &ref, &e), 0);
	assert_int_equal(catalog_find_any(c, &ref, &m, &e), 0);
	assert_int_equal(m.seq, 5);
	assert_int_equal(backup_ref_parse("a@latest", &ref, &e), 0);
	assert_int_equal(catalog_find_any(c, &ref, &m, &e), 0);
	assert_int_equal(m.seq, 1);
	assert_int_equal(catalog_next(c, &cur, &m), 0);
	assert_int_equal(m.seq, 5);
	assert_int_equal(catalog_next(c, &cur, &m), ERR_NOENT);
	cur = (struct catalog_cursor){ .seq = 0 };
	assert_int_equal(catalog_next(c, &cur, &m), 0);
	assert_int_equal(m.seq, 1);
	assert_int_equal(catalog_next(c, &cur, &m), ERR_NOENT);
	assert_int_equal(catalog_hide(c, "a", id, &held), 0);
	assert_false(catalog_hidden(c, "a", id, true));
	catalog_totals(c, &t);
	assert_int_equal(t.nincomplete, 0);
	catalog_free(c);
}

static void *
adder(void *arg)
{
	struct manifest *x = xcalloc(1, sizeof(*x));

	strcpy(x->vm, "t");
	for (uint64_t i = 1; i <= 500; i++) {
		x->seq = x->time = i;
		x->id[0] = (uint8_t)i;
		x->id[1] = (uint8_t)(i >> 8);
		x->nvolumes = (unsigned)i % 3;
		catalog_add(arg, x);
	}
	free(x);
	return NULL;
}

static void
a_reader_sees_whole_backups_while_others_are_added(void **state)
{
	struct catalog *c = catalog_new();
	uint64_t last = 0;
	pthread_t t;

	(void)state;
	assert_int_equal(pthread_create(&t, NULL, adder, c), 0);
	while (last < 500) {
		if (catalog_newest(c, "t", &m) != 0)
			continue;
		assert_true(m.seq >= last);
		assert_int_equal(m.nvolumes, m.seq % 3);
		last = m.seq;
	}
	pthread_join(t, NULL);
	catalog_free(c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_find_what_they_mean),
		cmocka_unit_test(an_id_is_there_once),
		cmocka_unit_test(each_backup_of_a_vm_gets_a_time_of_its_own),
		cmocka_unit_test(a_listing_goes_by_vm_and_sequence),
		cmocka_unit_test(the_latest_is_the_one_of_the_latest_time),
		cmocka_unit_test(totals_add_up_and_do_not_wrap),
		cmocka_unit_test(
		    what_is_hidden_is_found_no_more_and_held_until_released),
		cmocka_unit_test(of_a_delete_and_a_release_one_finishes),
		cmocka_unit_test(incomplete_backups_are_kept_apart),
		cmocka_unit_test(
		    a_reader_sees_whole_backups_while_others_are_added),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
