/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/io.h"
#include "repo/settings/settings_impl.h"
#include "repo/settings/settings_options.h"

static char dir[64];
static struct buf wrong;
static struct settings *s;

static int
set_up(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/backstay-settings.XXXXXX");
	return mkdtemp(dir) == NULL;
}

static int
tear_down(void **state)
{
	char *file = xasprintf("%s/" SETTINGS_FILE, dir);

	(void)state;
	unlink(file);
	free(file);
	settings_free(s);
	s = NULL;
	buf_fini(&wrong);
	return rmdir(dir);
}

static void
put(const char *text, size_t len)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(file_replace(fd, SETTINGS_FILE, text, len, 0600), 0);
	close(fd);
}

static int
reads_with(const char *text, const struct settings_override *over, unsigned n)
{
	struct settings_source src = { .dir = dir, .over = over, .nover = n };

	settings_free(s);
	s = NULL;
	wrong.len = 0;
	put(text, strlen(text));
	return settings_read(&src, &s, &wrong);
}

static int
reads(const char *text)
{
	return reads_with(text, NULL, 0);
}

static unsigned
nfaults(void)
{
	unsigned n = 0;

	for (const char *p = buf_cstr(&wrong); *p != 0; p++)
		n += *p == '\n';
	return n;
}

/* ${says} begins behind "DIR/backstayd.conf:". */
static void
refuses(const char *text, const char *says)
{
	char *all;

	assert_int_equal(reads(text), ERR_INVAL);
	assert_null(s);
	all = xasprintf("%s/" SETTINGS_FILE ":%s", dir, says);
	if (strstr(buf_cstr(&wrong), all) == NULL)
		fail_msg("\"%s\" lacks \"%s\"", buf_cstr(&wrong), all);
	free(all);
}

static void
no_file_is_all_defaults(void **state)
{
	struct settings_source src = { .dir = dir };
	char *index = xasprintf("%s/index", dir);

	(void)state;
	assert_int_equal(settings_read(&src, &s, &wrong), 0);
	assert_int_equal(s->nlisten, 1);
	assert_string_equal(s->listen[0], "7722");
	assert_string_equal(s->index, index);
	assert_int_equal(s->live_percent, 50);
	assert_int_equal(s->checkpoint, 60);
	assert_int_equal(s->keep_incomplete, 24 * 3600);
	assert_int_equal(s->scrub_interval, 30 * 86400);
	assert_int_equal(s->block_cache, 0);
	assert_int_equal(s->bwlimit.part[0].rate, 0);
	assert_false(s->no_ssh);
	assert_int_equal(settings_vm(s, "web1").set, 0);
	free(index);
}

static void
each_key_of_the_daemon_is_read(void **state)
{
	(void)state;
	assert_int_equal(reads("# a comment\n"
			       "\n"
			       "  [daemon]   ; here\n"
			       "listen = 127.0.0.1:1, [::1]:2  3\n"
			       "no-ssh=on\n"
			       "\tindex = /ssd/index\n"
			       "block-cache: 64M ; as in memory\r\n"
			       "pack-limit = 1.5G\n"
			       "live-percent = 95\n"
			       "checkpoint = 2m\n"
			       "keep-incomplete = 48\n"
			       "scrub-interval = 2w\n"
			       "bwlimit = 200M\n"
			       "hook = /usr/bin/tell them\n"
			       "hook-timeout = 5\n"
			       "low-space = 12 %\n"
			       "http = 127.0.0.1:9722\n"
			       "metrics-vms = no\n"
			       "verbose = yes"),
	    0);
	assert_string_equal(s->hook, "/usr/bin/tell them");
	assert_int_equal(s->hook_timeout, 5);
	assert_int_equal(s->low_space, 12);
	assert_string_equal(s->http, "127.0.0.1:9722");
	assert_false(s->metrics_vms);
	assert_int_equal(s->nlisten, 3);
	assert_string_equal(s->listen[1], "[::1]:2");
	assert_true(s->no_ssh);
	assert_true(s->verbose);
	assert_string_equal(s->index, "/ssd/index");
	assert_int_equal(s->block_cache, 64 << 20);
	assert_int_equal(s->pack_limit, (uint64_t)3 << 29);
	assert_int_equal(s->live_percent, 95);
	assert_int_equal(s->checkpoint, 120);
	assert_int_equal(s->keep_incomplete, 48 * 3600);
	assert_int_equal(s->scrub_interval, 14 * 86400);
	assert_int_equal(s->bwlimit.part[0].rate, 200 << 20);
}

static void
an_unknown_key_is_named_with_the_one_that_was_meant(void **state)
{
	(void)state;
	refuses("[daemon]\n\nlive-percnt = 5\n",
	    "3: [daemon] has no key \"live-percnt\": is it live-percent?");
	refuses("[daemon]\nfrobnicate = 5\n",
	    "2: [daemon] has no key \"frobnicate\": backstayd.conf(5)");
	refuses("[vm **]\nkeep_last = 5\n",
	    "2: [vm] has no key \"keep_last\": is it keep-last?");
	refuses("[daemon]\nkeep-last = 5\n",
	    "2: keep-last belongs to [vm PATTERN], and this is [daemon]");
	refuses("[vm **]\nlisten = 5\n",
	    "2: listen belongs to [daemon], and this is [vm]");
}

static void
an_unknown_section_is_named_also_without_keys(void **state)
{
	(void)state;
	refuses("[deamon]\n", "1: there is no section [deamon]");
	refuses("[deamon]\nx = 1\ny = 2\n", "1: there is no section [deamon]");
	assert_int_equal(nfaults(), 1);
	refuses("[vms x]\n", "1: there is no section [vms x]");
	refuses("[vm]\n", "1: \"\" is no pattern of VMs");
	refuses("[vm we b]\n", "1: \"we b\" is no pattern of VMs");
	refuses("verbose = yes\n", "1: \"verbose\" stands in no section");
	refuses("[daemon\nverbose = yes\n", "1: a section is [daemon] or");
	refuses("[daemon] verbose = yes\n", "1: a section is [daemon] or");
}

static void
what_is_there_twice_is_refused(void **state)
{
	(void)state;
	refuses("[daemon]\nverbose = no\nverbose = yes\n",
	    "3: verbose is there already, in line 2");
	refuses("[daemon]\nverbose = no\n[vm a]\n[daemon]\nverbose = no\n",
	    "5: verbose is there already, in line 2");
	refuses("[vm a]\nlock = 0\nlock = 7d\n",
	    "3: lock is there already, in [vm a]");
	refuses("[vm a]\nlock = 0\n[vm a]\n",
	    "3: [vm a] is there already, in line 1");
	assert_int_equal(reads("[daemon]\nverbose = no\n[daemon]\n"
			       "bwlimit = 0\n[vm a]\nlock = 0\n[vm b]\n"
			       "lock = 0\n"),
	    0);
}

static void
each_bad_value_is_told_with_what_the_key_takes(void **state)
{
	static const char *const bad[][2] = { { "listen", "" },
		{ "listen", "host:port" }, { "listen", "::1:5" },
		{ "listen", "70000" },
		{ "listen", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17" },
		{ "no-ssh", "maybe" }, { "verbose", "" }, { "index", "" },
		{ "block-cache", "31M" }, { "block-cache", "lots" },
		{ "block-cache", "0" }, { "pack-limit", "3G" },
		{ "live-percent", "0" }, { "live-percent", "96" },
		{ "live-percent", "5%" }, { "checkpoint", "0" },
		{ "checkpoint", "2d" }, { "checkpoint", "-1" },
		{ "keep-incomplete", "366d" }, { "keep-incomplete", "x" },
		{ "scrub-interval", "99999999999999999999" },
		{ "scrub-interval", "18446744073709551615w" },
		{ "bwlimit", "2T" }, { "bwlimit", "fast" }, { "hook", "tell" },
		{ "hook", "./tell" }, { "hook-timeout", "0" },
		{ "hook-timeout", "2h" }, { "low-space", "100" },
		{ "low-space", "5G" }, { "low-space", "5 %%" },
		{ "low-space", "" }, { "http", "9722" }, { "http", ":9722" },
		{ "http", "::1:9722" }, { "http", "localhost:x" },
		{ "metrics-vms", "" } };
	static const char *const bad_vm[][2] = { { "keep-last", "-1" },
		{ "keep-hourly", "100001" }, { "keep-daily", "7d" },
		{ "keep-weekly", "" }, { "keep-monthly", "x" },
		{ "keep-yearly", "1.5" }, { "keep-within", "7" },
		{ "keep-within", "7x" }, { "min-age", "101y" },
		{ "lock", "30" }, { "lock", "d" } };
	char *text, *says;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		text = xasprintf("[daemon]\n%s = %s\n", bad[i][0], bad[i][1]);
		says = xasprintf("2: %s takes ", bad[i][0]);
		refuses(text, says);
		assert_int_equal(nfaults(), 1);
		free(text);
		free(says);
	}
	for (size_t i = 0; i < sizeof(bad_vm) / sizeof(bad_vm[0]); i++) {
		text =
		    xasprintf("[vm a]\n%s = %s\n", bad_vm[i][0], bad_vm[i][1]);
		says = xasprintf("2: %s takes ", bad_vm[i][0]);
		refuses(text, says);
		free(text);
		free(says);
	}
}

static void
all_faults_are_told_not_only_the_first(void **state)
{
	static const struct settings_override over[] = { { "bwlimit", "x" } };

	(void)state;
	assert_int_equal(reads_with("[daemon]\n"
				    "what is this\n"
				    "live-percent = 0\n"
				    "[nope]\n"
				    "[vm a]\n"
				    "lock = soon\n"
				    "and this\n",
			     over, 1),
	    ERR_INVAL);
	assert_int_equal(nfaults(), 6);
	assert_non_null(strstr(buf_cstr(&wrong), ":2: neither a [section]"));
	assert_non_null(strstr(buf_cstr(&wrong), ":3: live-percent takes"));
	assert_non_null(strstr(buf_cstr(&wrong), ":4: there is no section"));
	assert_non_null(strstr(buf_cstr(&wrong), ":6: lock takes"));
	assert_non_null(strstr(buf_cstr(&wrong), ":7: neither a [section]"));
	assert_non_null(strstr(buf_cstr(&wrong), "--bwlimit takes bytes a"));
}

static void
strange_bytes_and_long_lines_are_faults(void **state)
{
	struct settings_source src = { .dir = dir };
	char text[600];

	(void)state;
	put("[daemon]\nverbose = y\0es\n", 23);
	assert_int_equal(settings_read(&src, &s, &wrong), ERR_INVAL);
	assert_non_null(strstr(buf_cstr(&wrong), ":2: this is no text"));
	refuses("[daemon]\nverbose = \x1b[2J\n", "2: verbose takes");
	assert_null(strchr(buf_cstr(&wrong), 0x1b));
	memset(text, 'x', sizeof(text));
	memcpy(text, "[daemon]\nindex = ", 17);
	text[500] = 0;
	refuses(text, "2: a line of more than 1");
	assert_int_equal(nfaults(), 1);
	text[9] = '#';
	assert_int_equal(reads(text), 0);
	/* Lines that begin with blanks go on with nothing. */
	refuses("[daemon]\nverbose = yes\n  no-ssh\n", "3: neither");
}

static void
a_file_that_is_too_long_is_refused(void **state)
{
	struct settings_source src = { .dir = dir };
	char *text = xmalloc(SETTINGS_FILE_MAX + 1);

	(void)state;
	memset(text, '\n', SETTINGS_FILE_MAX + 1);
	put(text, SETTINGS_FILE_MAX + 1);
	free(text);
	assert_int_not_equal(settings_read(&src, &s, &wrong), 0);
	assert_int_equal(nfaults(), 1);
}

static void
the_command_line_wins(void **state)
{
	static const struct settings_override over[] = { { "listen", "1" },
		{ "live-percent", "60" }, { "listen", "[::]:2" },
		{ "live-percent", "70" } };

	(void)state;
	assert_int_equal(reads_with("[daemon]\nlisten = 9\nlive-percent = 5\n"
				    "bwlimit = 1M\n",
			     over, 4),
	    0);
	assert_int_equal(s->nlisten, 2);
	assert_string_equal(s->listen[0], "1");
	assert_string_equal(s->listen[1], "[::]:2");
	assert_int_equal(s->live_percent, 70);
	assert_int_equal(s->bwlimit.part[0].rate, 1 << 20);
}

static void
options_are_keys_of_the_table(void **state)
{
	char *argv[] = { (char *)(uintptr_t) "backstayd",
		(char *)(uintptr_t) "REPO", (char *)(uintptr_t) "--verbose",
		(char *)(uintptr_t) "--index", (char *)(uintptr_t) "x",
		(char *)(uintptr_t) "--bwlimit=5M", NULL };
	struct settings_options o;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(settings_options_parse(6, argv, &o, &e), 0);
	assert_string_equal(o.src.dir, "REPO");
	assert_int_equal(o.src.nover, 3);
	assert_string_equal(o.over[0].name, "verbose");
	assert_string_equal(o.over[0].value, "yes");
	assert_string_equal(o.over[1].name, "index");
	assert_int_equal(o.over[1].value[0], '/');
	assert_string_equal(o.over[2].value, "5M");
	settings_options_fini(&o);
}

static void
the_section_that_fits_best_counts_key_by_key(void **state)
{
	struct retain_policy p;

	(void)state;
	assert_int_equal(reads("[vm **]\n"
			       "keep-last = 3\nkeep-daily = 7\nlock = 1d\n"
			       "[vm web*]\n"
			       "keep-last = 5\n"
			       "[vm w??1]\n"
			       "keep-last = 6\nkeep-weekly = 2\n"
			       "[vm web1]\n"
			       "min-age = 2h\nlock = 0\n"
			       "[vm db/**]\n"
			       "keep-within = 1y\n"),
	    0);
	p = settings_vm(s, "web1");
	assert_int_equal(p.keep_last, 5); /* as long; the first */
	assert_int_equal(p.keep_weekly, 2);
	assert_int_equal(p.keep_daily, 7);
	assert_int_equal(p.min_age, 7200);
	assert_int_equal(p.lock, 0);
	assert_int_equal(
	    p.set, RETAIN_LAST | RETAIN_WEEKLY | RETAIN_DAILY | RETAIN_MIN_AGE);
	p = settings_vm(s, "web22");
	assert_int_equal(p.keep_last, 5);
	assert_int_equal(p.lock, 86400);
	assert_int_equal(p.set, RETAIN_LAST | RETAIN_DAILY | RETAIN_LOCK);
	p = settings_vm(s, "db/a");
	assert_int_equal(p.keep_within, 365 * 86400);
	assert_int_equal(p.keep_last, 3);
	p = settings_vm(s, "x/web1");
	assert_int_equal(p.keep_last, 3);
	assert_int_equal(p.keep_hourly, 0);
}

static void
schedules_are_chosen_key_by_key_and_lines_of_them_add_up(void **state)
{
	struct plan p;

	(void)state;
	assert_int_equal(reads("[vm **]\n"
			       "schedule = daily 02:00; Mon 12:00 UTC\n"
			       "schedule = *-*~1\n"
			       "window = 22:00-06:00;\n"
			       "retries = 5\n"
			       "prune = no\n"
			       "keep-last = 3\n"
			       "[vm web*]\n"
			       "retry-wait = 1m\n"
			       "catch-up = no\n"
			       "window = 00:00-24:00\n"
			       "[vm web1]\n"
			       "schedule = never\n"),
	    0);
	settings_plan(s, "db1", &p);
	assert_int_equal(p.ntimes, 3);
	assert_string_equal(p.schedule, "daily 02:00; Mon 12:00 UTC; *-*~1");
	assert_string_equal(p.windows, "22:00-06:00");
	assert_int_equal(p.retries, 5);
	assert_int_equal(p.retry_wait, 300);
	assert_true(p.catch_up);
	assert_false(p.prune);
	settings_plan(s, "web2", &p);
	assert_int_equal(p.ntimes, 3);
	assert_string_equal(p.windows, "00:00-24:00");
	assert_int_equal(p.retry_wait, 60);
	assert_false(p.catch_up);
	settings_plan(s, "web1", &p);
	assert_int_equal(p.ntimes, 0);
	assert_int_equal(p.retries, 5);
	assert_int_equal(settings_vm(s, "web1").set, RETAIN_LAST);
	assert_int_equal(reads(""), 0);
	settings_plan(s, "web1", &p);
	assert_int_equal(p.ntimes, 0);
	assert_int_equal(p.set, 0);
	assert_int_equal(p.retries, 3);
	assert_true(p.prune && p.catch_up);
}

static void
what_is_wrong_with_a_schedule_is_told(void **state)
{
	(void)state;
	refuses("[vm a]\nschedule = daily 02:00; 25:00\n",
	    "2: schedule: hour 25: from 0 to 23 may be said");
	refuses("[vm a]\nschedule = daily ; Mon 12:00\n",
	    "2: schedule: a ; behind a blank begins a comment");
	refuses("[vm a]\nschedule =\n", "2: schedule: write times");
	refuses("[vm a]\nschedule = daily\nschedule = never\n",
	    "3: schedule: never stands alone");
	refuses("[vm a]\nwindow = 22-06\n",
	    "2: window: \"22-06\" is no window: write 22:00-06:00");
	refuses("[vm a]\nretries = 101\n",
	    "2: retries takes a number from 0 to 100, not \"101\"");
	refuses("[vm a]\nretry-wait = 5\n", "2: retry-wait takes a time");
	refuses("[vm a]\ncatch-up = maybe\n", "2: catch-up takes yes or no");
	refuses("[vm a]\nprune = yes\nprune = no\n",
	    "3: prune is there already, in [vm a]");
	refuses("[daemon]\nschedule = daily\n",
	    "2: schedule belongs to [vm PATTERN], and this is [daemon]");
}

static void
a_reload_changes_what_may_and_names_what_may_not(void **state)
{
	struct settings_source src = { .dir = dir };
	const struct settings *old, *now;
	struct buf changes = { 0 };
	struct settings_now *n;
	static const char first[] =
	    "[daemon]\nlisten = 1\nlive-percent = 5\n"
	    "[vm a]\nkeep-last = 1\n[vm b]\nlock = 1d\n";
	static const char second[] = "[daemon]\nlisten = 2\nlive-percent = 6\n"
				     "[vm a]\nkeep-last = 2\n[vm c]\n";

	(void)state;
	put(first, sizeof(first) - 1);
	assert_int_equal(settings_open(&src, &n, &wrong), 0);
	old = settings_get(n);
	put(second, sizeof(second) - 1);
	assert_int_equal(settings_reload(n, &changes, &wrong), 0);
	now = settings_get(n);
	assert_string_equal(buf_cstr(&changes),
	    "listen: stays 1; 2 counts from the next start on\n"
	    "live-percent: 5 -> 6\n"
	    "[vm a]: keep-last = 1 -> keep-last = 2\n"
	    "[vm c]: nothing -> \n"
	    "[vm b]: lock = 1d -> nothing\n");
	/* Who looks at the old ones still can. */
	assert_int_equal(old->live_percent, 5);
	assert_int_equal(now->live_percent, 6);
	assert_string_equal(now->listen[0], "1");
	assert_int_equal(settings_vm(now, "a").keep_last, 2);
	assert_int_equal(settings_vm(now, "b").set, 0);
	settings_put(n, old);
	settings_put(n, now);
	/* The same again is no change but what a restart waits for. */
	changes.len = 0;
	assert_int_equal(settings_reload(n, &changes, &wrong), 0);
	assert_string_equal(buf_cstr(&changes),
	    "listen: stays 1; 2 counts from the next start on\n");
	settings_close(n);
	buf_fini(&changes);
}

static void
a_reload_of_a_file_with_faults_changes_nothing(void **state)
{
	struct settings_source src = { .dir = dir };
	const struct settings *now;
	struct buf changes = { 0 };
	struct settings_now *n;
	static const char text[] = "[daemon]\nlive-percent = 9\nbla = 2\n";

	(void)state;
	assert_int_equal(settings_open(&src, &n, &wrong), 0);
	put(text, sizeof(text) - 1);
	assert_int_equal(settings_reload(n, &changes, &wrong), ERR_INVAL);
	assert_int_equal(changes.len, 0);
	assert_int_equal(nfaults(), 1);
	now = settings_get(n);
	assert_int_equal(now->live_percent, 50);
	settings_put(n, now);
	settings_close(n);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(no_file_is_all_defaults),
		TEST(each_key_of_the_daemon_is_read),
		TEST(an_unknown_key_is_named_with_the_one_that_was_meant),
		TEST(an_unknown_section_is_named_also_without_keys),
		TEST(what_is_there_twice_is_refused),
		TEST(each_bad_value_is_told_with_what_the_key_takes),
		TEST(all_faults_are_told_not_only_the_first),
		TEST(strange_bytes_and_long_lines_are_faults),
		TEST(a_file_that_is_too_long_is_refused),
		TEST(the_command_line_wins),
		TEST(options_are_keys_of_the_table),
		TEST(the_section_that_fits_best_counts_key_by_key),
		TEST(schedules_are_chosen_key_by_key_and_lines_of_them_add_up),
		TEST(what_is_wrong_with_a_schedule_is_told),
		TEST(a_reload_changes_what_may_and_names_what_may_not),
		TEST(a_reload_of_a_file_with_faults_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
