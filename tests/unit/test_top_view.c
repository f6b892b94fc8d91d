/* SPDX-License-Identifier: Apache-2.0 */
/* top_view and what it stands on: what is seen on screens of all sizes, and
 * what keys do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "repo/console/history_view.h"
#include "repo/console/top_keys.h"
#include "repo/console/top_view.h"
#include "repo/console/top_warn.h"
#include "repo/console/watch_view.h"

static struct top_data d;
static struct top_ui ui;
static struct buf seen;

static json_t *
parse(const char *text)
{
	json_t *j = json_loads(text, 0, NULL);

	assert_non_null(j);
	return j;
}

#define STATUS_HEAD                                                            \
	"{\"avail\":64424509440,\"total\":107374182400,\"backups\":31,"        \
	"\"vms\":3,\"stored\":42949672960,\"logical\":300,\"unique\":100,"     \
	"\"live\":50,"

static json_t *
status(void)
{
	return parse(STATUS_HEAD
	    "\"reclaim\":{\"state\":\"idle\",\"dead\":0,\"freed\":0,"
	    "\"last\":\"done\"},\"scrub\":{\"state\":\"idle\","
	    "\"finished\":\"2026-11-20T01:02:03Z\"},"
	    "\"damage\":{\"damaged\":0,\"hit\":[]},"
	    "\"retention\":{\"clock_ahead\":0,\"clock_off\":false}}");
}

static json_t *
a_job(unsigned id, const char *state, const char *vm, unsigned done)
{
	return json_pack("{s:i,s:s,s:s,s:s,s:s,s:s,s:i,s:i,s:i,s:s}", "job", id,
	    "kind", "backup", "vm", vm, "host", "kvm01", "state", state,
	    "phase", strcmp(state, "running") == 0 ? "reading" : "", "done",
	    done, "total", 1000000, "took_ms", 1000, "text",
	    strcmp(state, "failed") == 0 ? "the cable was cut" : "");
}

static json_t *
some_jobs(unsigned n)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < n; i++) {
		char vm[16];

		snprintf(vm, sizeof(vm), "vm%u", i);
		json_array_append_new(list,
		    a_job((n > 50 ? 1000 : 100) - i,
			i < n / 2 + 1 ? "running" : "done", vm, 500000));
	}
	return list;
}

static json_t *
agents(void)
{
	return parse("[{\"agent\":\"kvm01\",\"host\":\"kvm01.lan\","
		     "\"version\":\"0.4\",\"connected\":true,"
		     "\"since\":\"2026-11-21T07:00:00Z\",\"jobs\":2,"
		     "\"vms\":[{},{}],\"running\":[{}]},"
		     "{\"agent\":\"kvm02\",\"connected\":false,"
		     "\"since\":\"2026-11-21T06:00:00Z\"}]");
}

static int
setup(void **state)
{
	(void)state;
	d = (struct top_data){ .dir = "/srv/backstay" };
	ui = (struct top_ui){ .mode = TOP_LOOK };
	top_take(&d, status(), some_jobs(4), agents(), 1000);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	top_fini(&d);
	buf_fini(&seen);
	return 0;
}

/* All of a canvas as text, which is checked to fit and to be harmless. */
static const char *
text_of(const struct canvas *c)
{
	seen.len = 0;
	for (unsigned i = 0; i < c->rows; i++) {
		size_t from = seen.len;
		unsigned cols = 0;

		canvas_row(c, i, &seen);
		for (size_t k = from; k < seen.len; k++) {
			assert_true(seen.data[k] >= ' ');
			assert_int_not_equal(seen.data[k], 0x7f);
			cols += (seen.data[k] & 0xc0) != 0x80;
		}
		assert_in_range(cols, 0, c->cols);
		buf_u8(&seen, '\n');
	}
	return buf_cstr(&seen);
}

static const char *
screen(unsigned cols, unsigned rows)
{
	struct canvas c;
	const char *s;

	canvas_init(&c, rows, cols, true);
	top_draw(&c, &d, &ui);
	s = text_of(&c);
	canvas_fini(&c);
	return s;
}

static void
sees(const char *s, const char *what)
{
	if (strstr(s, what) == NULL)
		fail_msg("\"%s\" is not in\n%s", what, s);
}

static void
sees_not(const char *s, const char *what)
{
	if (strstr(s, what) != NULL)
		fail_msg("\"%s\" is in\n%s", what, s);
}

static void
all_of_it_is_on_a_small_screen(void **state)
{
	const char *s = screen(80, 24);

	(void)state;
	sees(s, "backstay  /srv/backstay");
	sees(s, "1 agent  3 running  0 queued");
	sees(s, "60.0 GiB free");
	sees(s, "40.0 GiB in 31 backups");
	sees(s, "dedup 3.0");
	sees(s, "idle, 0 B dead");
	sees(s, "last 2026-11-20");
	sees(s, "   100  backup  vm0 ");
	sees(s, "reading     50 %");
	sees(s, "    97  backup  vm3 ");
	sees(s, "kvm01");
	sees(s, "1 of 2   connected  2026-11-21T07:00:00Z");
	sees(s, "gone       2026-11-21T06:00:00Z");
	sees(s, "? help  q quit");
	sees_not(s, "!");
}

static void
any_size_is_drawn_without_harm(void **state)
{
	(void)state;
	json_decref(d.jobs);
	d.jobs = some_jobs(120);
	for (unsigned rows = 1; rows < 60; rows++)
		for (unsigned cols = 1; cols < 220; cols += 7) {
			for (int by = -1; by < 2; by++)
				top_move(&d, &ui, rows, 40 * by);
			for (int m = TOP_LOOK; m <= TOP_LIMIT; m++) {
				ui.mode = (enum top_mode)m;
				screen(cols, rows);
			}
		}
	ui.mode = TOP_LOOK;
	sees(screen(30, 24), "too small");
	sees(screen(80, 7), "too small");
}

static void
text_from_elsewhere_cannot_steer_the_terminal(void **state)
{
	const char *s;

	(void)state;
	json_decref(d.jobs);
	d.jobs = parse("[{\"job\":1,\"kind\":\"backup\",\"state\":\"failed\","
		       "\"vm\":\"w\\u001b[2J\",\"host\":\"\\u009b31m\","
		       "\"text\":\"\\u001b]0;x\\u0007\\n\\u007f\"}]");
	s = screen(100, 24);
	sees(s, "w?[2J");
	sees(s, "?]0;x???");
}

static void
the_chosen_job_stays_in_sight(void **state)
{
	(void)state;
	json_decref(d.jobs);
	d.jobs = some_jobs(120);
	top_move(&d, &ui, 24, 0);
	assert_int_equal(ui.chosen, 1000);
	for (int i = 0; i < 119; i++) {
		char head[16];

		top_move(&d, &ui, 24, 1);
		snprintf(head, sizeof(head), "vm%d ", i + 1);
		sees(screen(80, 24), head);
	}
	assert_true(ui.skip > 90);
	top_move(&d, &ui, 24, 1);
	sees(screen(80, 24), "vm119 ");
	top_move(&d, &ui, 24, -1000);
	assert_int_equal(ui.skip, 0);
	/* It has left the list, which is shorter now. */
	top_move(&d, &ui, 24, 1000);
	json_decref(d.jobs);
	d.jobs = some_jobs(2);
	top_move(&d, &ui, 24, 0);
	assert_int_equal(ui.skip, 0);
	assert_non_null(top_job(&d, ui.chosen));
	json_decref(d.jobs);
	d.jobs = json_array();
	top_move(&d, &ui, 24, 1);
	assert_int_equal(ui.chosen, 0);
	sees(screen(80, 24), "none yet");
}

static void
a_daemon_that_is_gone_is_said_and_its_jobs_go(void **state)
{
	const char *s;

	(void)state;
	top_lost(&d, "the daemon is not running");
	s = screen(80, 24);
	sees(s, "no daemon");
	sees(s, "the daemon is not running");
	sees(s, "60.0 GiB free");
	sees_not(s, "vm0");
	top_take(&d, NULL, some_jobs(1), NULL, 5000);
	sees(screen(80, 24), "vm0");
	sees_not(screen(80, 24), "not running");
}

static void
what_somebody_should_see_is_at_the_top_worst_first(void **state)
{
	struct top_warn w[TOP_WARN_MAX];
	json_t *s =
	    parse("{\"avail\":5,\"total\":100,\"reclaim\":{"
		  "\"state\":\"paused\",\"last\":\"nospc\"},\"damage\":{"
		  "\"damaged\":3,\"hit\":[{},{}],\"complete\":true},"
		  "\"retention\":{\"clock_ahead\":-172800,"
		  "\"clock_off\":true,\"doubt\":\"torn\"},"
		  "\"low_space\":10,\"events\":{\"missed-schedule\":4,"
		  "\"unusual-change\":0}}");
	json_t *jobs = some_jobs(1);

	(void)state;
	json_array_append_new(jobs, a_job(5, "failed", "x", 0));
	assert_int_equal(top_warnings(s, jobs, w), TOP_WARN_MAX);
	assert_true(w[0].bad && w[1].bad && w[2].bad);
	assert_false(w[3].bad);
	sees(w[0].text, "3 chunks are damaged, 2 backups are hit");
	sees(w[1].text, "2 days behind");
	sees(w[3].text, "little space: 5 B free, 5 %");
	sees(w[5].text, "no space is given back: paused");
	json_object_set_new(s, "reclaim", json_object());
	json_object_set_new(s, "damage", json_object());
	assert_int_equal(top_warnings(s, jobs, w), 5);
	sees(w[3].text, "4 scheduled backups were missed");
	sees(w[4].text, "1 of the last 2 jobs failed");
	json_decref(d.status);
	d.status = s;
	sees(screen(80, 24), "! the clock is 2 days behind");
	json_decref(jobs);
	json_object_set_new(s, "avail", json_integer(2));
	top_warnings(s, NULL, w);
	assert_true(w[0].bad);
	assert_int_equal(top_warnings(NULL, NULL, w), 0);
}

static bool
press(int key, struct top_wish *w)
{
	return top_key(&d, &ui, 24, key, w);
}

static void
a_cancel_is_asked_for_twice(void **state)
{
	struct top_wish w;

	(void)state;
	top_move(&d, &ui, 24, 0);
	assert_true(press('c', &w));
	assert_null(w.ask);
	sees(screen(80, 24), "cancel job 100?");
	assert_true(press('n', &w));
	assert_null(w.ask);
	assert_int_equal(ui.mode, TOP_LOOK);
	press('c', &w);
	assert_true(press('y', &w));
	assert_string_equal(
	    json_string_value(json_object_get(w.ask, "op")), "cancel");
	assert_int_equal(
	    json_integer_value(json_object_get(w.ask, "job")), 100);
	json_decref(w.ask);
	/* One that has ended. */
	press(TOP_KEY_END, &w);
	press('c', &w);
	assert_int_equal(ui.mode, TOP_LOOK);
	sees(screen(80, 24), "that job has ended");
	press(TOP_KEY_UP, &w);
	sees_not(screen(80, 24), "that job has ended");
}

static void
a_limit_is_typed(void **state)
{
	struct top_wish w;

	(void)state;
	top_move(&d, &ui, 24, 0);
	press('l', &w);
	sees(screen(80, 24), "limit of job 100");
	press(TOP_KEY_ENTER, &w);
	assert_null(w.ask);
	press('l', &w);
	press('0', &w);
	press(TOP_KEY_ENTER, &w);
	assert_int_equal(
	    json_integer_value(json_object_get(w.ask, "job")), 100);
	json_decref(w.ask);
	press('L', &w);
	for (const char *s = "20x"; *s != 0; s++)
		press(*s, &w);
	press(TOP_KEY_BACK, &w);
	press('M', &w);
	for (int i = 0; i < 100; i++)
		press(TOP_KEY_DOWN, &w);
	sees(screen(80, 24), "20M");
	press(TOP_KEY_ENTER, &w);
	assert_string_equal(
	    json_string_value(json_object_get(w.ask, "key")), "bwlimit");
	assert_string_equal(
	    json_string_value(json_object_get(w.ask, "value")), "20M");
	assert_null(json_object_get(w.ask, "job"));
	json_decref(w.ask);
	press('l', &w);
	for (int i = 0; i < 100; i++)
		press('1', &w);
	assert_int_equal(strlen(ui.input), TOP_INPUT_MAX);
	press(TOP_KEY_ESCAPE, &w);
	assert_int_equal(ui.mode, TOP_LOOK);
}

static void
pausing_goes_by_what_is(void **state)
{
	struct top_wish w;

	(void)state;
	press('p', &w);
	assert_string_equal(
	    json_string_value(json_object_get(w.ask, "action")), "pause");
	json_decref(w.ask);
	json_object_set_new(json_object_get(d.status, "reclaim"), "state",
	    json_string("paused"));
	press('p', &w);
	assert_string_equal(
	    json_string_value(json_object_get(w.ask, "action")), "resume");
	json_decref(w.ask);
	assert_false(press('q', &w));
	assert_true(press('?', &w));
	sees(screen(80, 24), "Any key goes back");
	assert_true(press('q', &w));
	assert_int_equal(ui.mode, TOP_LOOK);
}

static void
the_graph_moves_on(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2 * TOP_SPARK_MAX; i++) {
		json_t *jobs = json_array();

		json_array_append_new(jobs,
		    json_pack("{s:i,s:s,s:[{s:i,s:I,s:i}]}", "job", 1, "state",
			"running", "traffic", "lane", 0, "in",
			(json_int_t)i * 1048576, "out", 0));
		top_take(&d, NULL, jobs, NULL, 10000 + i * 1000);
	}
	assert_int_equal(d.nspark, TOP_SPARK_MAX);
	assert_int_equal(d.spark[TOP_SPARK_MAX - 1], 1048576);
	sees(screen(80, 24), "1.0 MiB/s");
	sees(screen(80, 24), "@@@@@@@ peak 1.0 MiB/s");
}

static void
one_job_is_shown_with_all_that_it_does(void **state)
{
	json_t *j = parse(
	    "{\"job\":17,\"kind\":\"backup\",\"vm\":\"web1\","
	    "\"host\":\"kvm01\",\"state\":\"running\",\"phase\":\"reading\","
	    "\"since\":\"2026-11-21T07:12:05Z\",\"took_ms\":4000,"
	    "\"done\":52428800,\"total\":104857600,\"read\":20971520,"
	    "\"unchanged\":31457280,\"deduplicated\":1048576,\"sent\":7340032,"
	    "\"stored\":6291456,\"traffic\":["
	    "{\"lane\":0,\"in\":1024,\"out\":2048},"
	    "{\"lane\":5,\"in\":7340032,\"out\":100}]}");
	json_t *jobs = json_pack("[o]", j);
	struct buf line = { 0 };
	struct feed f = { 0 };
	struct canvas c;
	const char *s;

	(void)state;
	feed_take(&f, jobs, 1000);
	canvas_init(&c, 30, 80, true);
	assert_in_range(watch_draw(&c, j, feed_find(&f, 17)), 13, 14);
	s = text_of(&c);
	sees(s, "job 17: backup of web1 (kvm01)\n");
	sees(s, "50 %   ETA 0:04");
	sees(s, "unchanged         30.0 MiB");
	sees(s, "deduplicated       1.0 MiB");
	sees(s, "mean        12.5 MiB/s");
	sees(s, "since         07:12:05");
	sees(s, "     5     7.0 MiB       100 B");
	canvas_fini(&c);
	canvas_init(&c, 13, 80, true);
	assert_int_equal(watch_draw(&c, j, feed_find(&f, 17)), 13);
	sees(text_of(&c), "... and 2 more");
	canvas_fini(&c);
	watch_line(j, feed_find(&f, 17), &line);
	assert_string_equal(buf_cstr(&line),
	    "job 17: backup of web1 (kvm01): reading 50 %, 50.0 MiB of 100.0 "
	    "MiB, 12.5 MiB/s, mean 12.5 MiB/s, ETA 0:04");
	line.len = 0;
	json_object_set_new(j, "state", json_string("failed"));
	json_object_set_new(j, "text", json_string("no \033[2Jspace"));
	watch_end(j, &line);
	assert_string_equal(buf_cstr(&line),
	    "job 17: backup of web1 (kvm01) failed: no ?[2Jspace (0:04, 50.0 "
	    "MiB, mean 12.5 MiB/s)");
	assert_false(watch_running(j));
	json_object_set_new(j, "state", json_string("queued"));
	assert_true(watch_running(j));
	json_object_set_new(j, "total", json_integer(0));
	json_object_set_new(j, "phase", json_string(""));
	json_object_set_new(j, "text", json_string("waits for job 7"));
	line.len = 0;
	watch_line(j, NULL, &line);
	assert_string_equal(buf_cstr(&line),
	    "job 17: backup of web1 (kvm01): queued, waits for job 7");
	buf_fini(&line);
	feed_fini(&f);
	json_decref(jobs);
}

static void
a_history_has_a_bar_for_each_and_says_what_stands_out(void **state)
{
	json_t *list =
	    parse("[{\"time\":\"2026-11-01T00:00:00Z\",\"size\":104857600,"
		  "\"full\":true,\"stats\":{\"stored\":104857600}},"
		  "{\"time\":\"2026-11-02T00:00:00Z\",\"size\":104857600,"
		  "\"stats\":{\"unchanged\":83886080,\"deduplicated\":10485760,"
		  "\"stored\":5242880,\"duration_ms\":61000}},"
		  "{\"time\":\"2026-11-03T00:00:00Z\",\"size\":104857600,"
		  "\"unusual\":\"incompressible\","
		  "\"stats\":{\"unchanged\":62914560,\"stored\":41943040}}]");
	json_t *figures = history_to_json(list);
	struct canvas c;
	const char *s;

	(void)state;
	assert_int_equal(history_rows(list), 6);
	canvas_init(&c, history_rows(list), 86, true);
	history_draw(&c, list);
	s = text_of(&c);
	sees(s, "100.0 MiB  100.0 MiB  100.0 MiB  ###################>\n");
	sees(s, "1:01   20.0 MiB   10.0 MiB    5.0 MiB  ###.......\n");
	sees(s, "! 2026-11-03");
	sees(s, " 40.0 MiB   40.0 MiB  ####################\n");
	sees(s, "40.0 MiB of new data does not compress: as if encrypted");
	canvas_fini(&c);
	assert_int_equal(json_integer_value(json_object_get(
			     json_array_get(figures, 1), "new")),
	    10485760);
	json_decref(figures);
	json_decref(list);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(all_of_it_is_on_a_small_screen),
		T(any_size_is_drawn_without_harm),
		T(text_from_elsewhere_cannot_steer_the_terminal),
		T(the_chosen_job_stays_in_sight),
		T(a_daemon_that_is_gone_is_said_and_its_jobs_go),
		T(what_somebody_should_see_is_at_the_top_worst_first),
		T(a_cancel_is_asked_for_twice),
		T(a_limit_is_typed),
		T(pausing_goes_by_what_is),
		T(the_graph_moves_on),
		T(one_job_is_shown_with_all_that_it_does),
		T(a_history_has_a_bar_for_each_and_says_what_stands_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
