/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backup: in two steps, watched, and given up where nobody answers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "agent/source/source_mem.h"
#include "proto/base/io.h"
#include "tests/unit/fake_daemon.h"
#include "tests/unit/fake_disk.h"

static void
the_parent_is_known_before_there_is_anything_to_send(void **state)
{
	struct backup_input in[2] = { { .name = "vda", .kind = "disk" },
		{ .name = "xml", .kind = "definition" } };
	struct disk *p = disk_full(10, 0);
	struct backup_result r;
	struct backup *b;
	struct err e;

	(void)state;
	fake_set(0);
	for (unsigned i = 0; i < 2; i++) {
		fake_must(backup_open(&fake_options, &b, &e), &e);
		if (i == 0)
			assert_null(backup_parent_checkpoint(b));
		else
			assert_string_equal(
			    backup_parent_checkpoint(b), "0123456789abcdef");
		assert_string_equal(
		    backup_repo(b), "0123456789abcdef0123456789abcdef");
		fake_must(backup_alive(b, &e), &e);
		in[0].source = &p->s;
		in[1].source = source_mem_new("<domain/>", 9, "libvirt-xml");
		fake_must(backup_send(b, in, 2, "guest", "0123456789abcdef",
			      backup_parent_checkpoint(b), &r, &e),
		    &e);
		assert_int_equal(r.trusted, i == 1);
		backup_close(b);
		assert_string_equal(d.backup.volume[1].kind, "definition");
		assert_string_equal(d.backup.volume[1].format, "libvirt-xml");
		assert_int_equal(d.backup.volume[1].size, 9);
	}
	assert_int_equal(d.nprepared, 2);
	/* Nothing happens if nothing is sent. */
	fake_must(backup_open(&fake_options, &b, &e), &e);
	backup_close(b);
	backup_close(NULL);
	/* A daemon that knows begin alone. */
	d.mute = true;
	fake_must(backup_open(&fake_options, &b, &e), &e);
	assert_null(backup_parent_checkpoint(b));
	fake_must(backup_alive(b, &e), &e);
	in[0].source = &p->s;
	fake_must(backup_send(b, in, 1, "offline", NULL, NULL, &r, &e), &e);
	assert_true(r.has_parent);
	backup_close(b);
	disk_free(p);
}

/* It cannot, as the VM is held; but if it did, all would be wrong. */
static void
a_parent_that_is_another_in_the_end_is_not_trusted(void **state)
{
	struct disk *p = disk_full(300, 0);
	struct backup_input in = {
		.name = "vda", .kind = "disk", .source = &p->s
	};
	struct backup_result r;
	struct backup *b;
	struct err e;

	(void)state;
	fake_first(p);
	fake_must(backup_open(&fake_options, &b, &e), &e);
	assert_string_equal(backup_parent_checkpoint(b), "a");
	strcpy(d.backup.checkpoint, "b");
	fake_must(backup_send(b, &in, 1, "crash", "c",
		      backup_parent_checkpoint(b), &r, &e),
	    &e);
	assert_false(r.trusted);
	assert_int_equal(atomic_load(&p->nread), p->s.size);
	backup_close(b);
	disk_free(p);
}

static int
watch(void *arg, struct err *e)
{
	unsigned *n = arg;

	return ++*n < 5 ? 0 : err_set(e, ERR_NOSPC, "the scratch is full");
}

static void
who_watches_can_end_it(void **state)
{
	struct disk *p = disk_full(300, 0);
	struct backup_result r;
	unsigned n = 0;
	uint64_t ms = now_ms();
	struct err e;

	(void)state;
	fake_set(0);
	fake_options.job.watch = watch;
	fake_options.job.watch_arg = &n;
	d.fault = FAULT_SILENT;
	assert_int_equal(fake_send(p, "a", NULL, &r, &e), ERR_NOSPC);
	assert_string_equal(e.text, "the scratch is full");
	assert_int_equal(n, 5);
	ms = now_ms() - ms;
	assert_in_range(ms, 300, 5000);
	assert_false(d.has_backup);
	disk_free(p);
}

static void
a_daemon_that_does_not_answer_is_given_up(void **state)
{
	struct disk *p = disk_full(300, 0);
	struct backup_result r;
	uint64_t ms = now_ms();
	struct err e;

	(void)state;
	fake_set(0);
	fake_options.job.stall_timeout_s = 1;
	d.fault = FAULT_SILENT;
	assert_int_equal(fake_send(p, "a", NULL, &r, &e), ERR_TIMEOUT);
	assert_non_null(strstr(e.text, "no byte has moved"));
	ms = now_ms() - ms;
	assert_in_range(ms, 900, 8000);
	disk_free(p);
}

/* Who only reads slowly is not stuck. */
static int
slow_read(struct source *s, void *data, size_t len, uint64_t off, struct err *e)
{
	struct timespec ts = { .tv_nsec = 400000000 };

	nanosleep(&ts, NULL); /* is what is tested, and no wait */
	return disk_read(s, data, len, off, e);
}

static void
a_slow_disk_is_no_reason_to_give_up(void **state)
{
	struct source_ops slow = disk_ops;
	struct disk *p = disk_full(32, 0);
	struct backup_result r;
	struct err e;

	(void)state;
	slow.read = slow_read;
	p->s.ops = &slow;
	fake_set(0);
	fake_options.job.stall_timeout_s = 1;
	fake_must(fake_send(p, "a", NULL, &r, &e), &e);
	disk_free(p);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, fake_start, fake_stop)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(the_parent_is_known_before_there_is_anything_to_send),
		CASE(a_parent_that_is_another_in_the_end_is_not_trusted),
		CASE(who_watches_can_end_it),
		CASE(a_daemon_that_does_not_answer_is_given_up),
		CASE(a_slow_disk_is_no_reason_to_give_up),
	};

	fake_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
