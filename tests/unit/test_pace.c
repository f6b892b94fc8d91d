/* SPDX-License-Identifier: Apache-2.0 */
/* Turns by a clock of the test's; then lanes that are threads, by the real. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "proto/base/io.h"
#include "repo/serve/pace.h"
#include "repo/serve/pace_core.h"

#define MB ((uint64_t)1000000)
#define MS ((uint64_t)1000000)
#define S (1000 * MS)

enum { JOBS_MAX = 4, LANES_MAX = 16, STEP_NS = 100000 };

/* A lane works a while for each piece, then asks for the next. */
struct lane {
	struct pace_ask ask;
	bool waiting;
	uint64_t ready_ns;
};

struct sim_job {
	struct pace_job core;
	struct lane lane[LANES_MAX];
	unsigned nlanes;
	uint64_t work_ns; /* for a piece */
	bool idle;
	uint64_t had;
};

struct sim {
	struct pace_core core;
	struct pace_key key[JOBS_MAX];
	struct sim_job job[JOBS_MAX];
	unsigned njobs;
	uint64_t now;
};

static void
nothing(struct pace_ask *a)
{
	(void)a;
}

static void
init(struct sim *s)
{
	memset(s, 0, sizeof(*s));
	s->now = 1000 * S;
	for (unsigned i = 0; i < JOBS_MAX; i++) {
		s->key[i].next = s->core.key;
		s->core.key = &s->key[i];
	}
}

static struct sim_job *
add(struct sim *s, unsigned key, unsigned lanes, uint64_t work_ns)
{
	struct sim_job *j = &s->job[s->njobs++];

	j->nlanes = lanes;
	j->work_ns = work_ns;
	pace_core_join(&s->core, &s->key[key], &j->core);
	return j;
}

static void
move_lane(struct sim *s, struct sim_job *j, struct lane *l)
{
	uint64_t rate = pace_core_rate(&s->core, &j->core);

	if (l->waiting && l->ask.granted) {
		l->waiting = false;
		j->had += l->ask.nbytes;
		l->ready_ns = s->now + j->work_ns;
	}
	if (l->waiting || j->idle || s->now < l->ready_ns)
		return;
	pace_core_ask(&j->core, &l->ask, pace_core_piece(rate));
	l->waiting = true;
}

static void
run(struct sim *s, uint64_t ns)
{
	uint64_t end = s->now + ns;

	for (unsigned i = 0; i < s->njobs; i++)
		s->job[i].had = 0;
	for (; s->now < end; s->now += STEP_NS) {
		for (unsigned i = 0; i < s->njobs; i++)
			for (unsigned k = 0; k < s->job[i].nlanes; k++)
				move_lane(s, &s->job[i], &s->job[i].lane[k]);
		pace_core_step(&s->core, s->now, nothing);
	}
}

static void
set(struct sim *s, struct pace_meter *m, uint64_t rate)
{
	pace_meter_rate(m, rate, s->now);
}

/* Within a percent, and a burst at either end. */
static void
about(uint64_t had, uint64_t rate, uint64_t ns)
{
	double want = (double)rate * (double)ns / 1e9;
	double off = (double)had - want;

	if (off < 0)
		off = -off;
	if (off > 0.01 * want + (double)PACE_PIECE_MAX)
		fail_msg("had %llu, not %.0f", (unsigned long long)had, want);
}

static void
a_rate_is_kept(void **state)
{
	static const uint64_t rates[] = { 64 << 10, MB, 20 * MB, 1000 * MB };
	struct sim s;

	(void)state;
	for (unsigned i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		struct sim_job *j;

		init(&s);
		j = add(&s, 0, 4, 0);
		set(&s, &s.core.meter, rates[i]);
		run(&s, 10 * S);
		about(j->had, rates[i], 10 * S);
	}
}

static void
a_rate_that_changes_counts_from_then_on(void **state)
{
	struct sim_job *a, *b;
	struct sim s;

	(void)state;
	init(&s);
	a = add(&s, 0, 3, 0);
	b = add(&s, 1, 1, 0);
	for (unsigned i = 0; i < 8; i++) {
		uint64_t rate = i % 2 == 0 ? 40 * MB : 5 * MB;

		set(&s, &s.core.meter, rate);
		run(&s, S);
		about(a->had + b->had, rate, S);
	}
}

static void
a_rest_is_not_made_up_for(void **state)
{
	struct sim_job *j;
	struct sim s;

	(void)state;
	init(&s);
	j = add(&s, 0, 4, 0);
	set(&s, &s.core.meter, 20 * MB);
	run(&s, S);
	j->idle = true;
	run(&s, 60 * S);
	j->idle = false;
	run(&s, S);
	assert_in_range(j->had, 19 * MB, 22 * MB + 200000);
}

static void
jobs_share_alike_whatever_their_lanes(void **state)
{
	struct sim_job *a, *b, *c;
	struct sim s;

	(void)state;
	init(&s);
	a = add(&s, 0, 1, 0);
	b = add(&s, 1, 16, 0);
	c = add(&s, 1, 4, 0); /* of the same key as the second */
	set(&s, &s.core.meter, 30 * MB);
	run(&s, 10 * S);
	about(a->had, 10 * MB, 10 * S);
	about(b->had, 10 * MB, 10 * S);
	about(c->had, 10 * MB, 10 * S);
}

static void
a_lane_that_works_between_pieces_loses_nothing(void **state)
{
	struct sim_job *a, *b;
	struct sim s;

	(void)state;
	init(&s);
	a = add(&s, 0, 1, 2 * MS); /* a piece is 3.9 ms of the rate */
	b = add(&s, 1, 8, 0);
	set(&s, &s.core.meter, 20 * MB);
	run(&s, 10 * S);
	about(a->had, 10 * MB, 10 * S);
	about(b->had, 10 * MB, 10 * S);
}

static void
what_one_cannot_use_is_the_others(void **state)
{
	struct sim_job *a, *b, *c;
	struct sim s;

	(void)state;
	init(&s);
	a = add(&s, 0, 4, 0);
	b = add(&s, 0, 4, 0);
	c = add(&s, 1, 1, 0);
	set(&s, &s.core.meter, 30 * MB);
	set(&s, &a->core.meter, 2 * MB);
	run(&s, 10 * S);
	about(a->had, 2 * MB, 10 * S);
	about(b->had, 14 * MB, 10 * S);
	about(c->had, 14 * MB, 10 * S);
	/* Its own rate gone, it has no credit from that time. */
	set(&s, &a->core.meter, 0);
	run(&s, 2 * S);
	assert_in_range(a->had, 19 * MB, 29 * MB);
	run(&s, 10 * S);
	about(a->had, 10 * MB, 10 * S);
}

static void
jobs_of_a_slow_key_share_it(void **state)
{
	struct sim_job *a, *b, *c;
	struct sim s;

	(void)state;
	init(&s);
	a = add(&s, 0, 1, 0);
	b = add(&s, 0, 8, 0);
	c = add(&s, 1, 4, 0);
	set(&s, &s.core.meter, 40 * MB);
	set(&s, &s.key[0].meter, 4 * MB);
	run(&s, 20 * S);
	about(a->had, 2 * MB, 20 * S);
	about(b->had, 2 * MB, 20 * S);
	about(c->had, 36 * MB, 20 * S);
}

static void
a_newcomer_has_its_share_and_no_more(void **state)
{
	struct sim_job *a, *b;
	struct sim s;

	(void)state;
	init(&s);
	a = add(&s, 0, 2, 0);
	set(&s, &s.core.meter, 20 * MB);
	run(&s, 30 * S);
	about(a->had, 20 * MB, 30 * S);
	b = add(&s, 1, 2, 0);
	run(&s, 2 * S);
	about(a->had, 10 * MB, 2 * S);
	about(b->had, 10 * MB, 2 * S);
	/* One that rested comes back with a quarter of a second at most. */
	b->idle = true;
	run(&s, 30 * S);
	b->idle = false;
	run(&s, 2 * S);
	assert_in_range(b->had, 20 * MB, 25 * MB + 500000);
}

static void
the_console_is_not_held_to_the_rate_of_all(void **state)
{
	struct sim_job *a, *b;
	struct sim s;

	(void)state;
	init(&s);
	s.key[1].exempt = true;
	a = add(&s, 0, 2, 0);
	b = add(&s, 1, 2, 0);
	assert_int_equal(pace_core_rate(&s.core, &b->core), 0);
	set(&s, &s.core.meter, 10 * MB);
	set(&s, &b->core.meter, 50 * MB);
	assert_int_equal(pace_core_rate(&s.core, &a->core), 10 * MB);
	assert_int_equal(pace_core_rate(&s.core, &b->core), 50 * MB);
	run(&s, 5 * S);
	about(a->had, 10 * MB, 5 * S);
	about(b->had, 50 * MB, 5 * S);
}

static void
an_ask_that_is_taken_back_costs_nothing(void **state)
{
	struct pace_ask x, y, z;
	struct sim_job *j;
	struct sim s;

	(void)state;
	init(&s);
	j = add(&s, 0, 0, 0);
	set(&s, &s.core.meter, MB);
	pace_core_ask(&j->core, &x, MB);
	assert_true(pace_core_step(&s.core, s.now, nothing) == PACE_NEVER);
	assert_true(x.granted);
	pace_core_ask(&j->core, &x, 1000);
	pace_core_ask(&j->core, &y, 1000);
	pace_core_ask(&j->core, &z, 1000);
	assert_true(pace_core_step(&s.core, s.now, nothing) == s.now + S);
	pace_core_take_back(&j->core, &y);
	pace_core_take_back(&j->core, &z);
	pace_core_ask(&j->core, &y, 1000);
	assert_true(
	    pace_core_step(&s.core, s.now + 2 * S, nothing) == PACE_NEVER);
	assert_true(x.granted && y.granted && !z.granted);
	pace_core_leave(&j->core);
	assert_null(s.key[0].job);
}

/* --- lanes that are threads */

struct worker {
	struct pace_lanes *job;
	atomic_uint_fast64_t *had;
	atomic_bool *stop;
	pthread_t thread;
};

static void *
work(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(w->stop))
		atomic_fetch_add(w->had, pace_pay(w->job, 64 << 10, 20));
	return NULL;
}

static struct hours
rate(const char *text)
{
	struct hours h;

	assert_int_equal(hours_parse(text, &h), 0);
	return h;
}

static void
start(struct worker *w, struct pace_lanes *job, atomic_uint_fast64_t *had,
    atomic_bool *stop)
{
	*w = (struct worker){ .job = job, .had = had, .stop = stop };
	pace_lane(job, 1);
	assert_int_equal(pthread_create(&w->thread, NULL, work, w), 0);
}

/* How long it took until ${n} bytes more had moved. */
static uint64_t
time_until(atomic_uint_fast64_t had[2], uint64_t n)
{
	struct timespec t = { .tv_nsec = MS };
	uint64_t begin = now_ms(), was = had[0] + had[1];

	while (had[0] + had[1] - was < n && now_ms() - begin < 60000)
		nanosleep(&t, NULL);
	return now_ms() - begin;
}

static void
threads_keep_rates_that_change_and_share(void **state)
{
	struct hours slow = rate("4M"), fast = rate("16M"), none = rate("0");
	struct pace *p = pace_new();
	struct pace_lanes *job[2] = { pace_join(p, 1, "a"),
		pace_join(p, 2, "b") };
	atomic_uint_fast64_t had[2] = { 0, 0 };
	atomic_bool stop = false;
	struct worker w[6];
	uint64_t took;

	(void)state;
	pace_settings(p, &fast);
	start(&w[0], job[0], &had[0], &stop);
	for (unsigned i = 1; i < 6; i++)
		start(&w[i], job[1], &had[1], &stop);
	took = time_until(had, 16 << 20);
	/* A tenth may come at once; how late a busy machine is nobody knows. */
	assert_in_range(took, 850, 20000);
	assert_in_range(had[0] * 100 / had[1], 60, 150);
	pace_set_all(p, &slow);
	assert_in_range(time_until(had, 2 << 20), 350, 20000);
	pace_set_all(p, NULL);
	assert_in_range(time_until(had, 8 << 20), 300, 20000);
	pace_set_key(p, "a", &slow);
	pace_set_key(p, "b", &slow);
	assert_in_range(time_until(had, 4 << 20), 350, 20000);
	assert_true(pace_set_job(p, 1, &slow));
	assert_false(pace_set_job(p, 3, &slow));
	pace_set_key(p, "a", NULL);
	pace_set_key(p, "b", NULL);
	pace_set_all(p, &none);
	assert_true(pace_set_job(p, 1, &none));
	/* Without any rate it is as fast as can be. */
	assert_in_range(time_until(had, (uint64_t)1 << 30), 0, 20000);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 6; i++) {
		pthread_join(w[i].thread, NULL);
		pace_lane(w[i].job, -1);
	}
	pace_leave(job[0]);
	pace_leave(job[1]);
	pace_free(p);
}

static void
what_is_set_lasts_and_what_was_said_comes_back(void **state)
{
	struct hours h = rate("5M"), file = rate("7M, Mon-Fri 08:00-18:00 7M");
	struct pace *p = pace_new();
	struct pace_lanes *l;
	json_t *o;

	(void)state;
	pace_settings(p, &h);
	pace_set_key(p, "kvm01", &h);
	pace_set_key(p, "gone", NULL);
	l = pace_join(p, 9, "kvm01");
	pace_key(l, &file);
	o = pace_to_json(p);
	assert_int_equal(
	    json_integer_value(json_object_get(o, "rate")), 5 << 20);
	assert_string_equal(
	    json_string_value(json_object_get(o, "from")), "settings");
	assert_int_equal(json_array_size(json_object_get(o, "keys")), 1);
	assert_int_equal(json_array_size(json_object_get(o, "jobs")), 1);
	json_decref(o);
	pace_leave(l);
	l = pace_join(p, 10, "kvm01");
	pace_key(l, &file);
	assert_int_equal(pace_pay(l, 1 << 20, 0), (5 << 20) / 256);
	pace_set_key(p, "kvm01", NULL);
	o = pace_to_json(p);
	assert_string_equal(
	    json_string_value(json_object_get(
		json_array_get(json_object_get(o, "keys"), 0), "bwlimit")),
	    "7M, Mon-Fri 08:00-18:00 7M");
	json_decref(o);
	pace_leave(l);
	l = pace_join(p, 11, NULL);
	assert_int_equal(pace_pay(l, 1 << 20, 0), 1 << 20);
	assert_int_equal(pace_window(l, 4 << 20), 4 << 20);
	assert_true(pace_set_job(p, 11, &h));
	pace_lane(l, 2);
	assert_int_equal(pace_window(l, 4 << 20), (5 << 20) / 5 / 2);
	pace_lane(l, -2);
	pace_leave(l);
	pace_free(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_rate_is_kept),
		cmocka_unit_test(a_rate_that_changes_counts_from_then_on),
		cmocka_unit_test(a_rest_is_not_made_up_for),
		cmocka_unit_test(jobs_share_alike_whatever_their_lanes),
		cmocka_unit_test(
		    a_lane_that_works_between_pieces_loses_nothing),
		cmocka_unit_test(what_one_cannot_use_is_the_others),
		cmocka_unit_test(jobs_of_a_slow_key_share_it),
		cmocka_unit_test(a_newcomer_has_its_share_and_no_more),
		cmocka_unit_test(the_console_is_not_held_to_the_rate_of_all),
		cmocka_unit_test(an_ask_that_is_taken_back_costs_nothing),
		cmocka_unit_test(threads_keep_rates_that_change_and_share),
		cmocka_unit_test(
		    what_is_set_lasts_and_what_was_said_comes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
