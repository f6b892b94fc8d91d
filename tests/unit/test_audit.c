/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "repo/audit/audit_impl.h"

enum { LINES_MAX = 64 };

static char dir[64];
static int dirfd = -1;
static struct audit_report r;
static struct buf faults; /* "LINE: TEXT\n" */
static unsigned nvisited;

static int
set_up(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/backstay-audit.XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dirfd == -1;
}

static int
tear_down(void **state)
{
	struct audit_files f;
	char name[AUDIT_NAME_MAX];

	(void)state;
	buf_fini(&faults);

	if (audit_files_list(dirfd, &f, NULL) != 0)
		return -1;
	for (size_t i = 0; i < f.n; i++) {
		audit_files_name(f.last[i], name);
		unlinkat(dirfd, name, 0);
	}
	audit_files_fini(&f);
	unlinkat(dirfd, AUDIT_FILE, 0);
	unlinkat(dirfd, AUDIT_HEAD, 0);
	close(dirfd);
	return rmdir(dir);
}

static uint64_t
append(const char *op, const char *name)
{
	struct audit_entry a = { .who = "kvm01",
		.from = "10.0.0.7",
		.op = op,
		.what = json_pack("{s:[s]}", "backups", name),
		.outcome = "done" };
	struct err e = { 0 };
	uint64_t n = 0;

	if (audit_append(dirfd, &a, &n, &e) != 0)
		fail_msg("%s", e.text);
	json_decref(a.what);
	return n;
}

static void
append_some(unsigned n)
{
	char name[32];

	for (unsigned i = 1; i <= n; i++) {
		snprintf(name, sizeof(name), "web%u@latest", i);
		append("delete", name);
	}
}

static void
see_line(void *arg, json_t *line)
{
	const char *hash;

	(void)arg;
	assert_int_equal(json_get_str(line, "hash", &hash, NULL), 0);
	nvisited++;
}

static void
see_fault(void *arg, const char *file, uint64_t line, const char *text)
{
	(void)arg;
	/* Of audit.log itself, without its name. */
	if (strcmp(file, AUDIT_FILE) != 0)
		buf_printf(&faults, "%s:", file);
	buf_printf(&faults, "%llu: %s\n", (unsigned long long)line, text);
}

/* How many faults there are. */
static unsigned
check_with(const char *witness)
{
	struct err e = { 0 };

	faults.len = 0;
	nvisited = 0;
	buf_cstr(&faults);
	if (audit_read(dirfd, see_line, see_fault, NULL, witness, &r, &e) != 0)
		fail_msg("%s", e.text);
	buf_cstr(&faults);
	return r.faults;
}

static unsigned
check(void)
{
	return check_with(NULL);
}

static void
says(const char *text)
{
	if (strstr((const char *)faults.data, text) == NULL)
		fail_msg(
		    "\"%s\" lacks \"%s\"", (const char *)faults.data, text);
}

/* The log as lines, without their newlines. */
struct text {
	struct buf all;
	char *line[LINES_MAX];
	unsigned n;
};

static void
take(struct text *t)
{
	char *rest, *line;

	memset(t, 0, sizeof(*t));
	assert_int_equal(file_read(dirfd, AUDIT_FILE, 1 << 20, &t->all), 0);
	rest = (char *)(uintptr_t)buf_cstr(&t->all);
	while ((line = strsep(&rest, "\n")) != NULL && *line != 0)
		t->line[t->n++] = line;
}

static void
give(struct text *t)
{
	struct buf b = { 0 };

	for (unsigned i = 0; i < t->n; i++)
		if (t->line[i] != NULL)
			buf_printf(&b, "%s\n", t->line[i]);
	assert_int_equal(
	    file_replace(dirfd, AUDIT_FILE, b.data, b.len, 0600), 0);
	buf_fini(&b);
	buf_fini(&t->all);
}

static void
cut_to(off_t size)
{
	int fd = openat(dirfd, AUDIT_FILE, O_WRONLY | O_CLOEXEC);

	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

static void
no_log_is_an_empty_one(void **state)
{
	(void)state;
	assert_int_equal(check(), 0);
	assert_int_equal(r.last, 0);
}

static void
lines_are_numbered_and_chained(void **state)
{
	struct text t;
	char hash[AUDIT_HASH_LEN + 1];
	size_t len;

	(void)state;
	assert_int_equal(append("delete", "a"), 1);
	assert_int_equal(append("delete", "b\n\x01\"}"), 2);
	assert_int_equal(append("restore", "c"), 3);
	assert_int_equal(check(), 0);
	assert_int_equal(r.lines, 3);
	assert_int_equal(nvisited, 3);
	/* As FORMAT.md says, by hand. */
	take(&t);
	assert_int_equal(t.n, 3);
	len = strlen(t.line[0]);
	assert_memory_equal(t.line[0] + len - 75, ",\"hash\":\"", 9);
	t.line[0][len - 75] = '}';
	audit_hash(audit_none, t.line[0], len - 74, hash);
	assert_memory_equal(hash, t.line[0] + len - 66, AUDIT_HASH_LEN);
	buf_fini(&t.all);
}

static void
a_changed_line_is_named(void **state)
{
	struct text t;

	(void)state;
	append_some(5);
	take(&t);
	*strstr(t.line[2], "web3") = 'W';
	give(&t);
	assert_int_equal(check(), 1);
	says("3: was changed: its hash");
	assert_int_equal(r.lines, 4);
}

static void
a_changed_hash_is_found(void **state)
{
	struct text t;
	char *h;

	(void)state;
	append_some(4);
	take(&t);
	h = t.line[1] + strlen(t.line[1]) - 3;
	*h = *h == 'a' ? 'b' : 'a';
	give(&t);
	assert_true(check() >= 1);
	says("2: was changed");
}

static void
a_rewritten_line_with_a_fresh_hash_breaks_the_next(void **state)
{
	char before[AUDIT_HASH_LEN + 1], hash[AUDIT_HASH_LEN + 1];
	struct text t;
	size_t len;

	(void)state;
	append_some(4);
	take(&t);
	len = strlen(t.line[1]);
	memcpy(before, t.line[0] + strlen(t.line[0]) - 66, AUDIT_HASH_LEN);
	before[AUDIT_HASH_LEN] = 0;
	*strstr(t.line[1], "kvm01") = 'X';
	t.line[1][len - 75] = '}';
	audit_hash(before, t.line[1], len - 74, hash);
	t.line[1][len - 75] = ',';
	memcpy(t.line[1] + len - 66, hash, AUDIT_HASH_LEN);
	give(&t);
	assert_int_equal(check(), 1);
	says("3: was changed: its hash is not that of its text and of the "
	     "line before");
}

static void
removed_lines_are_named(void **state)
{
	struct text t;

	(void)state;
	append_some(6);
	take(&t);
	t.line[1] = t.line[3] = t.line[4] = NULL;
	give(&t);
	check();
	says("2: has the number 3: 2 is missing before it");
	says("3: has the number 6: 4 to 5 are missing before it");
}

static void
swapped_lines_are_found(void **state)
{
	struct text t;
	char *swap;

	(void)state;
	append_some(5);
	take(&t);
	swap = t.line[1];
	t.line[1] = t.line[2];
	t.line[2] = swap;
	give(&t);
	check();
	says("2: has the number 3: 2 is missing before it");
	says("3: has the number 2 and stands behind 3: it is not at its "
	     "place");
}

static void
a_line_that_is_garbage_is_named(void **state)
{
	struct text t;

	(void)state;
	append_some(3);
	take(&t);
	t.line[1] = (char *)(uintptr_t) "# nothing to see here";
	give(&t);
	check();
	says("2: is no line of this log");
}

static void
a_cut_end_is_found_by_the_head(void **state)
{
	struct text t;

	(void)state;
	append_some(5);
	take(&t);
	t.line[3] = t.line[4] = NULL;
	give(&t);
	assert_int_equal(check(), 1);
	says("3: is the last one, with the number 3; audit.head knows 5");
	/* Who goes on from there cannot hide it. */
	assert_int_equal(append("delete", "x"), 5);
	assert_int_equal(check(), 1);
	says("4: says that on 2");
	assert_int_equal(append("delete", "y"), 6);
	assert_int_equal(check(), 1);
}

static void
a_log_that_was_taken_away_is_found(void **state)
{
	(void)state;
	append_some(2);
	unlinkat(dirfd, AUDIT_FILE, 0);
	assert_int_equal(check(), 1);
	says("0: there is no line, and audit.head knows 2");
	append("delete", "x");
	assert_int_equal(check(), 1);
	says("1: says that on 2");
}

static void
a_head_that_was_taken_away_is_found(void **state)
{
	(void)state;
	append_some(2);
	unlinkat(dirfd, AUDIT_HEAD, 0);
	assert_int_equal(check(), 1);
	says("2: is the last one, and audit.head is missing");
	append("delete", "x");
	assert_int_equal(check(), 1);
	says("3: says that on 2");
}

static void
a_witness_tells_a_log_that_was_made_anew(void **state)
{
	char hash[AUDIT_HASH_LEN + 1];

	(void)state;
	append_some(3);
	assert_int_equal(check(), 0);
	memcpy(hash, r.hash, sizeof(hash));
	append("delete", "x");
	assert_int_equal(check_with(hash), 0);
	unlinkat(dirfd, AUDIT_FILE, 0);
	unlinkat(dirfd, AUDIT_HEAD, 0);
	append("delete", "another");
	append_some(3);
	assert_int_equal(check(), 0);
	assert_int_equal(check_with(hash), 1);
	says("none has the hash");
}

static off_t
size_now(void)
{
	struct stat st;

	assert_int_equal(fstatat(dirfd, AUDIT_FILE, &st, 0), 0);
	return st.st_size;
}

/* As a crash leaves it: the line in part, the head as it was. */
static void
crash_within(size_t kept)
{
	struct buf head = { 0 };
	off_t size = size_now();

	assert_int_equal(file_read(dirfd, AUDIT_HEAD, 4096, &head), 0);
	append("delete", "torn@latest");
	cut_to(size + (off_t)kept);
	assert_int_equal(
	    file_replace(dirfd, AUDIT_HEAD, head.data, head.len, 0600), 0);
	buf_fini(&head);
}

static void
a_torn_end_is_noted_and_stays(void **state)
{
	struct text t;

	(void)state;
	append_some(3);
	crash_within(40);
	assert_int_equal(check(), 0);
	assert_int_equal(r.torn, 1);
	assert_int_equal(append("delete", "next"), 5);
	assert_int_equal(check(), 0);
	assert_int_equal(r.torn, 1);
	assert_int_equal(r.lines, 5);
	take(&t);
	assert_int_equal(t.n, 6);
	assert_int_equal(strlen(t.line[3]), 40);
	assert_non_null(strstr(t.line[4], "\"op\":\"torn\""));
	/* What was torn may not be changed behind it. */
	t.line[3][5] ^= 1;
	give(&t);
	assert_int_equal(check(), 1);
	says("4: is no line of this log");
}

static void
each_place_where_a_crash_tears_is_healed(void **state)
{
	size_t len;
	off_t size;

	(void)state;
	append_some(2);
	size = size_now();
	append("delete", "torn@latest");
	len = (size_t)(size_now() - size);
	for (size_t kept = 0; kept <= len; kept += kept + 12 < len ? 11 : 1) {
		unlinkat(dirfd, AUDIT_FILE, 0);
		unlinkat(dirfd, AUDIT_HEAD, 0);
		append_some(2);
		crash_within(kept);
		check();
		if (r.faults > 0)
			fail_msg("%zu of %zu: %s", kept, len, faults.data);
		append("delete", "next");
		check();
		if (r.faults > 0)
			fail_msg("%zu of %zu: %s", kept, len, faults.data);
		/* Whole but for its newline, it is completed. */
		assert_int_equal(r.torn, kept > 0 && kept < len - 1);
		assert_int_equal(r.last, kept == 0 ? 3 : 4);
	}
}

static void
a_line_that_is_too_long_is_refused_and_leaves_nothing(void **state)
{
	char *name = xmalloc(AUDIT_LINE_MAX + 1);
	struct audit_entry a = { .who = "x", .op = "delete" };
	struct err e;

	(void)state;
	memset(name, 'x', AUDIT_LINE_MAX);
	name[AUDIT_LINE_MAX] = 0;
	append_some(1);
	a.what = json_pack("{s:s}", "a", name);
	assert_int_equal(audit_append(dirfd, &a, NULL, &e), ERR_LIMIT);
	json_decref(a.what);
	free(name);
	assert_int_equal(check(), 0);
	assert_int_equal(r.last, 1);
}

static void *
append_many(void *arg)
{
	for (int i = 0; i < 25; i++)
		append("delete", arg);
	return NULL;
}

static void
threads_and_other_handles_append_one_at_a_time(void **state)
{
	pthread_t t[4];

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, append_many,
				     (void *)(uintptr_t) "web@latest"),
		    0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(check(), 0);
	assert_int_equal(r.lines, 100);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

/* So much in few lines that audit.log is full. */
static void
append_large(unsigned n)
{
	enum { LEN = 700 << 10 };
	char *text = xmalloc(LEN + 1);

	memset(text, 'x', LEN);
	text[LEN] = 0;
	while (n-- > 0)
		append("prune", text);
	free(text);
}

/* The name of the i-th full file, from 0. */
static char *
full_file(size_t i, char name[AUDIT_NAME_MAX])
{
	struct audit_files f;

	assert_int_equal(audit_files_list(dirfd, &f, NULL), 0);
	assert_true(i < f.n);
	audit_files_name(f.last[i], name);
	audit_files_fini(&f);
	return name;
}

static off_t
size_of(const char *name)
{
	struct stat st;

	return fstatat(dirfd, name, &st, 0) == 0 ? st.st_size : -1;
}

static void
a_full_file_is_kept_and_the_chain_goes_on_in_a_new_one(void **state)
{
	char name[AUDIT_NAME_MAX];
	struct audit_report newest;
	struct err e = { 0 };

	(void)state;
	append_some(2);
	append_large(23);
	assert_true(size_of(AUDIT_FILE) < AUDIT_FULL);
	append_large(1);
	assert_true(size_of(AUDIT_FILE) >= AUDIT_FULL);
	assert_int_equal(append("delete", "web1@latest"), 27);
	assert_true(size_of(AUDIT_FILE) < 1000);
	assert_string_equal(full_file(0, name), "audit.log.26");
	append_large(26);
	assert_string_equal(full_file(1, name), "audit.log.51");
	assert_int_equal(check(), 0);
	assert_int_equal(r.lines, 53);
	assert_int_equal(r.last, 53);
	assert_int_equal(nvisited, 53);
	assert_int_equal(
	    audit_read_newest(dirfd, NULL, see_fault, NULL, &newest, &e), 0);
	assert_int_equal(newest.faults, 0);
	assert_int_equal(newest.lines, 2);
	assert_string_equal(newest.hash, r.hash);
	/* A witness may be in any of them. */
	assert_int_equal(check_with(newest.hash), 0);
}

static void
crashes_around_a_full_file_leave_the_chain_whole(void **state)
{
	char name[AUDIT_NAME_MAX];
	struct audit_head h;
	struct err e = { 0 };
	int fd;

	(void)state;
	append_large(24);
	/* It has its new name, and nothing follows yet. */
	assert_int_equal(renameat(dirfd, AUDIT_FILE, dirfd, "audit.log.24"), 0);
	assert_int_equal(check(), 0);
	append_some(1);
	assert_int_equal(check(), 0);
	assert_int_equal(r.last, 25);
	/* The new file is there, and empty. */
	append_large(24);
	assert_string_equal(full_file(0, name), "audit.log.24");
	assert_int_equal(renameat(dirfd, AUDIT_FILE, dirfd, "audit.log.49"), 0);
	fd = openat(dirfd, AUDIT_FILE, O_WRONLY | O_CREAT, 0600);
	close(fd);
	assert_int_equal(check(), 0);
	/* Its first line is there, and the head does not know. */
	assert_int_equal(audit_head_read(dirfd, &h, &e), 0);
	append_some(1);
	assert_int_equal(audit_head_write(dirfd, &h, &e), 0);
	assert_int_equal(check(), 0);
	append_some(1);
	assert_int_equal(check(), 0);
	assert_int_equal(r.last, 51);
	assert_int_equal(r.lines, 51);
}

static void
a_full_file_that_was_changed_cut_or_taken_away_is_named(void **state)
{
	char name[AUDIT_NAME_MAX];
	int fd;

	(void)state;
	append_large(24);
	append_some(3);
	full_file(0, name);
	assert_int_equal(check(), 0);
	fd = openat(dirfd, name, O_RDWR);
	assert_int_equal(pwrite(fd, "y", 1, 400 << 10), 1);
	assert_int_equal(check(), 1);
	says("audit.log.24:1: was changed");
	assert_int_equal(pwrite(fd, "x", 1, 400 << 10), 1);
	assert_int_equal(check(), 0);
	assert_int_equal(ftruncate(fd, size_of(name) - 10), 0);
	close(fd);
	assert_int_equal(check(), 2);
	says("audit.log.24:24: is no whole line");
	says("1: has the number 25: 24 is missing before it");
	assert_int_equal(unlinkat(dirfd, name, 0), 0);
	assert_int_equal(check(), 1);
	says("1: has the number 25: 1 to 24 are missing before it");
	/* What is new goes on all the same. */
	append_some(1);
	assert_int_equal(check(), 1);
	assert_int_equal(unlinkat(dirfd, AUDIT_FILE, 0), 0);
	assert_true(check() > 0);
	says("the log was taken away");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(no_log_is_an_empty_one),
		TEST(lines_are_numbered_and_chained),
		TEST(a_changed_line_is_named),
		TEST(a_changed_hash_is_found),
		TEST(a_rewritten_line_with_a_fresh_hash_breaks_the_next),
		TEST(removed_lines_are_named),
		TEST(swapped_lines_are_found),
		TEST(a_line_that_is_garbage_is_named),
		TEST(a_cut_end_is_found_by_the_head),
		TEST(a_log_that_was_taken_away_is_found),
		TEST(a_head_that_was_taken_away_is_found),
		TEST(a_witness_tells_a_log_that_was_made_anew),
		TEST(a_torn_end_is_noted_and_stays),
		TEST(each_place_where_a_crash_tears_is_healed),
		TEST(a_line_that_is_too_long_is_refused_and_leaves_nothing),
		TEST(threads_and_other_handles_append_one_at_a_time),
		TEST(a_full_file_is_kept_and_the_chain_goes_on_in_a_new_one),
		TEST(crashes_around_a_full_file_leave_the_chain_whole),
		TEST(a_full_file_that_was_changed_cut_or_taken_away_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
