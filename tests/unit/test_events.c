/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "repo/notify/events.h"

static json_t *
facts(const char *vm, const char *outcome)
{
	json_t *o = json_object();

	json_set_str(o, "vm", vm);
	json_set_str(o, "outcome", outcome);
	return o;
}

static void
an_event_is_told_as_it_was_posted(void **state)
{
	struct events *v = events_new("/repo");
	struct event e;
	struct err why;
	const char *s;
	json_t *j;

	(void)state;
	assert_int_equal(
	    event_post(v, EVENT_LOW_SPACE, facts("db/x", "low")), 1);
	assert_int_equal(events_take(v, 0, &e), 0);
	assert_int_equal(e.kind, EVENT_LOW_SPACE);
	assert_string_equal(e.vm, "db/x");
	assert_string_equal(e.outcome, "low");
	assert_null(strchr(e.text, '\n'));
	assert_int_equal(json_parse(e.text, strlen(e.text), &j, &why), 0);
	assert_int_equal(json_get_str(j, "event", &s, &why), 0);
	assert_string_equal(s, "low-space");
	assert_int_equal(json_get_str(j, "repository", &s, &why), 0);
	assert_string_equal(s, "/repo");
	assert_int_equal(json_get_str(j, "time", &s, &why), 0);
	assert_int_equal(strlen(s), strlen("2027-01-31T12:00:00Z"));
	json_decref(j);
	event_fini(&e);
	assert_int_equal(events_take(v, 1, &e), ERR_TIMEOUT);
	events_free(v);
}

static void
without_facts_or_listeners_nothing_breaks(void **state)
{
	struct events *v = events_new("r");
	struct event e;

	(void)state;
	assert_int_equal(event_post(NULL, EVENT_TEST, json_object()), 0);
	assert_int_equal(event_post(v, EVENT_TEST, NULL), 1);
	assert_int_equal(events_take(v, 0, &e), 0);
	assert_string_equal(e.vm, "");
	event_fini(&e);
	events_free(v);
}

static void
a_full_queue_loses_what_is_new_and_counts_it(void **state)
{
	struct events *v = events_new("r");
	struct events_counts c;
	struct event e;

	(void)state;
	for (unsigned i = 0; i < EVENTS_QUEUED_MAX; i++)
		assert_int_equal(
		    event_post(v, EVENT_JOB_END, facts("a", "done")), i + 1);
	assert_int_equal(event_post(v, EVENT_DAMAGE, facts("b", "found")), 0);
	events_counts(v, &c);
	assert_int_equal(c.lost, 1);
	assert_int_equal(c.posted[EVENT_JOB_END], EVENTS_QUEUED_MAX);
	assert_int_equal(c.posted[EVENT_DAMAGE], 1);
	assert_int_equal(events_take(v, 0, &e), 0);
	assert_int_equal(e.number, 1);
	event_fini(&e);
	assert_true(event_post(v, EVENT_DAMAGE, facts("b", "found")) != 0);
	events_free(v);
}

static void
too_many_facts_leave_the_ones_that_count(void **state)
{
	struct events *v = events_new("r");
	char *much = xmalloc(EVENT_TEXT_MAX);
	json_t *o = facts("a", "found");
	struct event e;

	(void)state;
	memset(much, 'x', EVENT_TEXT_MAX - 1);
	much[EVENT_TEXT_MAX - 1] = 0;
	json_set_str(o, "hit", much);
	assert_int_equal(event_post(v, EVENT_DAMAGE, o), 1);
	assert_int_equal(events_take(v, 0, &e), 0);
	assert_string_equal(e.vm, "a");
	assert_non_null(strstr(e.text, "\"shortened\":true"));
	assert_null(strstr(e.text, "xxx"));
	event_fini(&e);
	o = facts("a", "found");
	json_set_str(o, "text", much);
	assert_int_equal(event_post(v, EVENT_DAMAGE, o), 0);
	free(much);
	events_free(v);
}

static void
after_the_end_what_waits_is_told_and_nothing_else(void **state)
{
	struct events *v = events_new("r");
	struct event e;

	(void)state;
	assert_int_equal(event_post(v, EVENT_TEST, NULL), 1);
	events_close(v);
	assert_int_equal(event_post(v, EVENT_TEST, NULL), 0);
	assert_int_equal(events_take(v, 1000, &e), 0);
	event_fini(&e);
	assert_int_equal(events_take(v, 1000, &e), ERR_CLOSED);
	events_free(v);
}

enum { POSTERS = 4, EACH = 500 };

static void *
post_many(void *arg)
{
	for (unsigned i = 0; i < EACH; i++)
		event_post(arg, EVENT_JOB_END, facts("a", "done"));
	return NULL;
}

static void
many_threads_post_and_every_event_is_told_or_counted(void **state)
{
	struct events *v = events_new("r");
	uint64_t told = 0, until = now_ms() + 20000;
	struct events_counts c;
	pthread_t t[POSTERS];
	struct event e;

	(void)state;
	log_set_level(LOG_LEVEL_ERROR);
	for (unsigned i = 0; i < POSTERS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, post_many, v), 0);
	do {
		while (events_take(v, 1, &e) == 0) {
			event_fini(&e);
			told++;
		}
		events_counts(v, &c);
	} while (told + c.lost < POSTERS * EACH && now_ms() < until);
	for (unsigned i = 0; i < POSTERS; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(told + c.lost, POSTERS * EACH);
	assert_int_equal(c.posted[EVENT_JOB_END], POSTERS * EACH);
	events_free(v);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_event_is_told_as_it_was_posted),
		cmocka_unit_test(without_facts_or_listeners_nothing_breaks),
		cmocka_unit_test(a_full_queue_loses_what_is_new_and_counts_it),
		cmocka_unit_test(too_many_facts_leave_the_ones_that_count),
		cmocka_unit_test(
		    after_the_end_what_waits_is_told_and_nothing_else),
		cmocka_unit_test(
		    many_threads_post_and_every_event_is_told_or_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
