/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipeline: backups to and restores from a daemon that breaks its word, which
 * no real one can be made to do.
 */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/pipeline/backup.h"
#include "agent/pipeline/restore.h"
#include "proto/base/io.h"
#include "tests/unit/fake_daemon.h"

/* A disk of 20 MiB and a bit: three leaves, with holes and chunks that occur
 * twice. */
enum { DISK_LEN = (20 << 20) + 1000, NCHUNKS = 160 };

static void
make_disk(unsigned first)
{
	int fd = open(fake_in_dir("disk"), O_CREAT | O_WRONLY | O_TRUNC, 0600);
	uint8_t *data = xcalloc(1, CS);

	assert_int_not_equal(fd, -1);
	assert_int_equal(ftruncate(fd, DISK_LEN), 0);
	for (unsigned i = 0; i < NCHUNKS; i++) {
		memset(data, 0, CS);
		snprintf((char *)data, CS, "chunk %u", first + i / 2);
		assert_int_equal(
		    pwrite_full(fd, data, CS, (uint64_t)i * 2 * CS), 0);
	}
	assert_int_equal(pwrite_full(fd, "end", 3, DISK_LEN - 3), 0);
	close(fd);
	free(data);
}

static int
back_up(struct backup_result *r, struct err *e)
{
	struct repo_url url = { 0 };
	struct backup_disk disk = { "vda", NULL };
	struct backup_options o = { .job = { .url = &url, .lanes = 3 },
		.vm = "vm",
		.compression = 1,
		.quiet = true };
	char *path = xstrdup(fake_in_dir("disk"));
	int rc;

	disk.spec = path;
	strcpy(url.path, d.socket);
	rc = backup_disks(&o, &disk, 1, r, e);
	free(path);
	return rc;
}

static int
restore(struct err *e)
{
	struct repo_url url = { 0 };
	struct restore_disk disk = { "vda", NULL, "raw" };
	struct restore_options o = { .job = { .url = &url, .lanes = 3 },
		.backup = "vm@latest",
		.ndisks = 1,
		.disk = &disk,
		.quiet = true };
	struct restore_result *r = xcalloc(1, sizeof(*r));
	char *path = xstrdup(fake_in_dir("out"));
	int rc;

	disk.path = path;
	strcpy(url.path, d.socket);
	rc = restore_run(&o, r, e);
	if (rc != 0)
		assert_int_equal(access(path, F_OK), -1);
	free(path);
	free(r);
	return rc;
}

static void
check_same(void)
{
	struct buf a = { 0 }, b = { 0 };

	assert_int_equal(
	    file_read(AT_FDCWD, fake_in_dir("disk"), DISK_LEN, &a), 0);
	assert_int_equal(
	    file_read(AT_FDCWD, fake_in_dir("out"), DISK_LEN, &b), 0);
	assert_int_equal(a.len, DISK_LEN);
	assert_int_equal(b.len, DISK_LEN);
	assert_memory_equal(a.data, b.data, DISK_LEN);
	buf_fini(&a);
	buf_fini(&b);
}

static void
must(int rc, const struct err *e)
{
	if (rc != 0)
		fail_msg("%s", e->text);
}

static void
a_chunk_that_is_there_twice_in_a_leaf_is_sent_once(void **state)
{
	struct backup_result r;
	struct err e;

	(void)state;
	make_disk(0);
	must(back_up(&r, &e), &e);
	/* Twins lie side by side, and none straddles two leaves. */
	assert_int_equal(d.nputs, NCHUNKS / 2 + 1);
	assert_int_equal(d.nnode_frames, 4);
	assert_int_equal(r.stats.holes + r.stats.unchanged +
		r.stats.deduplicated + d.nputs * CS - CS + 1000,
	    DISK_LEN);
	must(restore(&e), &e);
	check_same();
}

static void
what_did_not_change_is_not_sent_again(void **state)
{
	struct backup_result r;
	struct err e;

	(void)state;
	make_disk(0);
	must(back_up(&r, &e), &e);
	d.nputs = 0;
	d.nnode_frames = 0;
	must(back_up(&r, &e), &e);
	assert_int_equal(d.nputs, 0);
	assert_int_equal(d.nnode_frames, 1); /* the root */
	assert_int_equal(r.stats.unchanged + r.stats.holes, DISK_LEN);
	make_disk(1);
	must(back_up(&r, &e), &e);
	assert_true(d.nputs > 0 && d.nputs <= 4);
	must(restore(&e), &e);
	check_same();
}

static void
chunks_that_the_store_lost_are_sent_again(void **state)
{
	struct backup_result r;
	struct err e;

	(void)state;
	make_disk(0);
	d.fault = FAULT_LOSE_ONCE;
	must(back_up(&r, &e), &e);
	assert_int_equal(d.nputs, NCHUNKS / 2 + 2);
	assert_int_equal(d.nnode_frames, 5);
	must(restore(&e), &e);
	check_same();
}

static void
a_store_that_goes_on_losing_ends_the_backup(void **state)
{
	struct backup_result r;
	struct err e;

	(void)state;
	make_disk(0);
	d.fault = FAULT_LOSE_ALWAYS;
	assert_int_equal(back_up(&r, &e), ERR_MISSING);
	assert_non_null(strstr(e.text, "disk vda at byte"));
	assert_false(d.has_backup);
	d.fault = FAULT_LOSE_INNER;
	assert_int_equal(back_up(&r, &e), ERR_MISSING);
	assert_false(d.has_backup);
}

static void
a_damaged_parent_is_as_none(void **state)
{
	struct backup_result r;
	struct err e;

	(void)state;
	make_disk(0);
	must(back_up(&r, &e), &e);
	d.fault = FAULT_PARENT_DAMAGED;
	must(back_up(&r, &e), &e);
	assert_int_equal(r.stats.unchanged, 0);
	d.fault = FAULT_NONE;
	must(restore(&e), &e);
	check_same();
}

static void
a_full_store_ends_the_backup_in_its_words(void **state)
{
	struct backup_result r;
	struct err e;

	(void)state;
	make_disk(0);
	d.fault = FAULT_NO_SPACE;
	assert_int_equal(back_up(&r, &e), ERR_NOSPC);
	assert_non_null(strstr(e.text, "the store is full"));
}

static void
an_answer_to_nothing_ends_the_backup(void **state)
{
	struct backup_result r;
	struct err e;

	(void)state;
	make_disk(0);
	d.fault = FAULT_WRONG_ANSWER;
	assert_int_equal(back_up(&r, &e), ERR_PROTO);
}

static void
a_job_that_is_ended_elsewhere_ends_here(void **state)
{
	struct backup_result r;
	struct err e;

	(void)state;
	make_disk(0);
	d.fault = FAULT_ENDED;
	assert_int_equal(back_up(&r, &e), ERR_CLOSED);
	assert_non_null(strstr(e.text, "not any more"));
}

static void
one_lane_that_gets_in_is_enough(void **state)
{
	struct backup_result r;
	struct err e;

	(void)state;
	make_disk(0);
	d.fault = FAULT_LANES;
	must(back_up(&r, &e), &e);
	assert_int_equal(back_up(&r, &e), ERR_LIMIT); /* none gets in now */
}

static void
restore_refuses_what_is_not_the_backup(void **state)
{
	static const struct {
		enum fault fault;
		int code;
		const char *text;
	} cases[] = {
		{ FAULT_BYTE, ERR_CORRUPT, "disk vda at byte" },
		{ FAULT_TWICE, ERR_PROTO, "chunks" },
		{ FAULT_NOT_SENT, ERR_PROTO, "did not send" },
		{ FAULT_OTHER_SLICE, ERR_PROTO, "not asked for" },
		{ FAULT_OTHER_NODE, ERR_CORRUPT, "node 0 of level 1" },
		{ FAULT_HANGUP, ERR_CLOSED, "" },
		{ FAULT_PARENT_DAMAGED, ERR_CORRUPT, "bad bytes in pack 1" },
	};
	struct backup_result r;
	struct err e;

	(void)state;
	make_disk(0);
	must(back_up(&r, &e), &e);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		d.fault = cases[i].fault;
		pthread_mutex_lock(&d.mu);
		d.nreads = 0;
		pthread_mutex_unlock(&d.mu);
		assert_int_equal(restore(&e), cases[i].code);
		assert_non_null(strstr(e.text, cases[i].text));
	}
	d.fault = FAULT_NONE;
	must(restore(&e), &e);
	check_same();
}

/* So it is when the packs are compacted between two READs. */
static void
what_moves_between_two_parts_comes_once_all_the_same(void **state)
{
	struct backup_result r;
	struct err e;

	(void)state;
	make_disk(0);
	must(back_up(&r, &e), &e);
	d.fault = FAULT_BOTH_PARTS;
	must(restore(&e), &e);
	check_same();
	assert_int_equal(unlink(fake_in_dir("out")), 0);
	d.fault = FAULT_NO_PART;
	must(restore(&e), &e);
	check_same();
}

/* Until the daemon has heard so much more of it; or what ${code} says. */
struct slow {
	unsigned words;
	int code;
};

static unsigned
words(void)
{
	unsigned n;

	pthread_mutex_lock(&d.mu);
	n = d.nprogress;
	pthread_mutex_unlock(&d.mu);
	return n;
}

static int
be_slow(void *arg, struct err *e)
{
	const struct slow *s = arg;
	const struct timespec little = { .tv_nsec = 5000000 };
	unsigned from = words();
	uint64_t until = now_ms() + 60000;

	while (words() - from < s->words) {
		if (now_ms() > until)
			return err_set(e, ERR_TIMEOUT, "nothing was heard");
		nanosleep(&little, NULL);
	}
	return s->code == 0 ? 0 : err_set(e, s->code, "it is full");
}

static void
the_daemon_hears_of_a_job_whose_disks_take_long(void **state)
{
	struct repo_url url = { 0 };
	struct job_options o = { .url = &url, .lanes = 1 };
	struct job *j = xcalloc(1, sizeof(*j));
	struct err e = { 0 };

	(void)state;
	strcpy(url.path, d.socket);
	must(job_open(j, &o, &e), &e);
	must(job_tell(j, "syncing", &e), &e);
	must(job_aside(j, be_slow, &(struct slow){ .words = 2 }, &e), &e);
	assert_int_equal(
	    job_aside(j, be_slow, &(struct slow){ .code = ERR_NOSPC }, &e),
	    ERR_NOSPC);
	assert_string_equal(e.text, "it is full");
	must(job_tell(j, "swapping", &e), &e);
	/* What is under way is not given up halfway. */
	d.fault = FAULT_ENDED;
	must(job_aside(j, be_slow, &(struct slow){ .words = 1 }, &e), &e);
	assert_int_equal(job_tell(j, "swapping", &e), ERR_CLOSED);
	d.fault = FAULT_NONE;
	job_close(j);
	free(j);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, fake_start, fake_stop)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_chunk_that_is_there_twice_in_a_leaf_is_sent_once),
		CASE(what_did_not_change_is_not_sent_again),
		CASE(chunks_that_the_store_lost_are_sent_again),
		CASE(a_store_that_goes_on_losing_ends_the_backup),
		CASE(a_damaged_parent_is_as_none),
		CASE(a_full_store_ends_the_backup_in_its_words),
		CASE(an_answer_to_nothing_ends_the_backup),
		CASE(a_job_that_is_ended_elsewhere_ends_here),
		CASE(one_lane_that_gets_in_is_enough),
		CASE(what_moves_between_two_parts_comes_once_all_the_same),
		CASE(restore_refuses_what_is_not_the_backup),
		CASE(the_daemon_hears_of_a_job_whose_disks_take_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
