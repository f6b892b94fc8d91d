/* SPDX-License-Identifier: Apache-2.0 */
/* unusual: histories as VMs make them, and what stands out of them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "repo/catalog/unusual.h"

static const double gib = 1 << 30, mib = 1 << 20;

/* A disk of 200 GiB with 100 in use. */
static const double size = 200.0 * (1 << 30), used = 100.0 * (1 << 30);

static uint64_t rng;

/* From 0 to below 1. */
static double
chance(void)
{
	rng = rng * 6364136223846793005u + 1442695040888963407u;
	return (double)(rng >> 11) / 9007199254740992.0;
}

static double
normal(void)
{
	return sqrt(-2 * log(1 - chance())) * cos(6.283185307 * chance());
}

/* A backup that changed so much, of which ${dedup} was there, packed to
 * ${ratio} of the rest. */
static struct unusual_facts
backup(double changed, double dedup, double ratio)
{
	struct unusual_facts f = { 0 };
	struct manifest_stats s = { .holes = (uint64_t)(size - used),
		.unchanged = (uint64_t)(used - changed),
		.deduplicated = (uint64_t)(changed * dedup),
		.stored = (uint64_t)(changed * (1 - dedup) * ratio) };

	unusual_count((uint64_t)size, &s, &f);
	return f;
}

/* Judged, then part of what is usual. */
static enum unusual
next(struct unusual_history *h, struct unusual_facts f)
{
	uint64_t usual;
	enum unusual u = unusual_judge(h, &f, &usual);

	unusual_add(h, &f, false);
	return u;
}

/* About 2 GiB a day, which pack to about 0.45. */
static struct unusual_facts
quiet_day(void)
{
	return backup(
	    2 * gib * exp2(0.3 * normal()), 0.1, 0.45 + 0.05 * normal());
}

static struct unusual_history
quiet_month(void)
{
	struct unusual_history h = { 0 };

	for (int i = 0; i < 30; i++)
		assert_int_equal(next(&h, quiet_day()), UNUSUAL_NOT);
	return h;
}

static int
setup(void **state)
{
	(void)state;
	rng = 42;
	return 0;
}

static void
encrypted_files_stand_out(void **state)
{
	static const double parts[] = { 0.95, 0.5, 0.2, 0.1 };
	struct unusual_history h = quiet_month();

	(void)state;
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		struct unusual_history copy = h;

		assert_int_equal(next(&copy, backup(parts[i] * used, 0, 1)),
		    UNUSUAL_INCOMPRESSIBLE);
		/* As they are, as base64 makes them, and half of each file. */
		copy = h;
		assert_int_equal(next(&copy, backup(parts[i] * used, 0, 0.77)),
		    UNUSUAL_INCOMPRESSIBLE);
	}
}

static void
what_was_usual_is_told(void **state)
{
	struct unusual_history h = { 0 };
	struct unusual_facts f = backup(50 * gib, 0, 1);
	uint64_t usual;

	(void)state;
	for (int i = 0; i < 11; i++) {
		struct unusual_facts day = backup((1 + i) * gib, 0, 1);

		unusual_add(&h, &day, false);
	}
	assert_int_equal(unusual_judge(&h, &f, &usual), UNUSUAL_NOT);
	h = (struct unusual_history){ 0 };
	for (int i = 0; i < 11; i++) {
		struct unusual_facts day = backup((100 + i) * mib, 0, 1);

		unusual_add(&h, &day, false);
	}
	assert_int_equal(unusual_judge(&h, &f, &usual), UNUSUAL_INCOMPRESSIBLE);
	assert_in_range(usual, 104 * 1048576, 106 * 1048576);
}

static void
an_upgrade_of_the_system_does_not(void **state)
{
	struct unusual_history h = quiet_month();

	(void)state;
	/* 8 GiB of programs; some of the other VMs have them already. */
	assert_int_equal(next(&h, backup(8 * gib, 0.3, 0.45)), UNUSUAL_NOT);
	h = quiet_month();
	assert_int_equal(next(&h, backup(20 * gib, 0, 0.5)), UNUSUAL_NOT);
}

static void
a_template_that_all_have_does_not(void **state)
{
	struct unusual_history h = quiet_month();

	(void)state;
	assert_int_equal(next(&h, backup(0.9 * used, 0.99, 1)), UNUSUAL_NOT);
}

static void
most_of_a_disk_rewritten_does_even_if_it_packs(void **state)
{
	struct unusual_history h = quiet_month();

	(void)state;
	assert_int_equal(next(&h, backup(0.8 * used, 0, 0.4)), UNUSUAL_CHANGED);
}

static void
the_first_backups_say_nothing(void **state)
{
	struct unusual_history h = { 0 };
	struct unusual_facts full = backup(used, 0, 1);

	(void)state;
	full.full = true;
	assert_int_equal(next(&h, full), UNUSUAL_NOT);
	assert_int_equal(h.n, 0);
	for (int i = 0; i < UNUSUAL_LEAST - 1; i++)
		next(&h, quiet_day());
	assert_int_equal(next(&h, backup(used, 0, 1)), UNUSUAL_NOT);
	h = (struct unusual_history){ 0 };
	for (int i = 0; i < UNUSUAL_LEAST; i++)
		next(&h, quiet_day());
	assert_int_equal(next(&h, backup(used, 0, 1)), UNUSUAL_INCOMPRESSIBLE);
	/* Nor does one that was made as a whole on demand, but it is judged. */
	h = quiet_month();
	full = backup(used, 0.98, 1);
	full.full = true;
	assert_int_equal(next(&h, full), UNUSUAL_NOT);
	full = backup(used, 0.1, 1);
	full.full = true;
	assert_int_equal(next(&h, full), UNUSUAL_INCOMPRESSIBLE);
	assert_int_equal(h.n, 30);
}

static void
what_comes_every_week_is_usual(void **state)
{
	(void)state;
	/* On whichever day of the first week it is for the first time. */
	for (int first = 0; first < 7; first++) {
		struct unusual_history h = { 0 };

		for (int day = 0; day < 90; day++)
			assert_int_equal(
			    next(&h,
				day % 7 == first
				    ? backup(30 * gib * exp2(0.2 * normal()), 0,
					  0.95)
				    : quiet_day()),
			    UNUSUAL_NOT);
	}
}

static void
noise_raises_no_alarm(void **state)
{
	static const double noise[] = { 0.2, 0.4, 0.6, 0.8 };
	static const double mean[] = { 20, 200, 2000 }; /* MiB a day */
	unsigned n = 0, alarms = 0;

	(void)state;
	for (int vm = 0; vm < 600; vm++) {
		double sigma = noise[vm % 4], mid = mean[vm % 3] * mib;
		struct unusual_history h = { 0 };

		for (int day = 0; day < 90; day++, n++) {
			double c = mid * exp2(sigma * normal());

			/* Pictures on one day, logs on the next. */
			if (next(&h,
				backup(c < used ? c : used, 0.3 * chance(),
				    0.2 + 0.8 * chance())) != UNUSUAL_NOT)
				alarms++;
		}
	}
	print_message("%u of %u backups of noise\n", alarms, n);
	assert_int_equal(alarms, 0);
}

static void
much_of_every_day_raises_hardly_any(void **state)
{
	unsigned n = 0, alarms = 0;

	(void)state;
	/* A tenth of the disk a day, by factors of two, of any kind: there some
	 * of it is bound to look like what is looked for. */
	for (int vm = 0; vm < 600; vm++) {
		struct unusual_history h = { 0 };

		for (int day = 0; day < 90; day++, n++) {
			double c = 0.1 * used * exp2(normal());

			if (next(&h,
				backup(c < used ? c : used, 0.3 * chance(),
				    0.2 + 0.8 * chance())) != UNUSUAL_NOT)
				alarms++;
		}
	}
	print_message("%u of %u backups\n", alarms, n);
	assert_true(alarms * 1000 < n);
}

static void
a_new_rhythm_is_told_once(void **state)
{
	struct unusual_history h = quiet_month();
	unsigned alarms = 0;

	(void)state;
	for (int day = 0; day < 60; day++)
		if (next(
			&h, backup(25 * gib * exp2(0.2 * normal()), 0, 0.98)) !=
		    UNUSUAL_NOT)
			alarms++;
	assert_int_equal(alarms, 1);
}

static void
idle_machines_have_a_floor(void **state)
{
	struct unusual_history h = { 0 };

	(void)state;
	for (int i = 0; i < 30; i++)
		assert_int_equal(next(&h, backup(0, 0, 1)), UNUSUAL_NOT);
	/* Much more than nothing, but nothing to speak of. */
	assert_int_equal(next(&h, backup(2 * gib, 0, 1)), UNUSUAL_NOT);
	assert_int_equal(
	    next(&h, backup(6 * gib, 0, 1)), UNUSUAL_INCOMPRESSIBLE);
}

static void
memory_is_compared_with_memory(void **state)
{
	struct unusual_history h = { 0 };
	struct unusual_facts f = quiet_day();

	(void)state;
	unusual_add(&h, &f, true);
	assert_int_equal(h.n, 0);
	f.ram = true;
	unusual_add(&h, &f, true);
	assert_int_equal(h.n, 1);
}

static void
figures_that_do_not_fit_do_no_harm(void **state)
{
	struct manifest_stats s = { .holes = 10,
		.unchanged = UINT64_MAX / 2,
		.deduplicated = 5,
		.stored = UINT64_MAX / 2 };
	struct unusual_facts f;

	(void)state;
	unusual_count(5, &s, &f);
	assert_int_equal(f.used, 0);
	assert_int_equal(f.fresh, 0);
	assert_int_equal(f.dense, 0);
	s.unchanged = 0;
	unusual_count(1000, &s, &f);
	assert_int_equal(f.fresh, 985);
	assert_int_equal(f.stored, 985);
	assert_int_equal(f.dense, 985);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup(f, setup)
	const struct CMUnitTest tests[] = {
		T(encrypted_files_stand_out),
		T(what_was_usual_is_told),
		T(an_upgrade_of_the_system_does_not),
		T(a_template_that_all_have_does_not),
		T(most_of_a_disk_rewritten_does_even_if_it_packs),
		T(the_first_backups_say_nothing),
		T(what_comes_every_week_is_usual),
		T(noise_raises_no_alarm),
		T(much_of_every_day_raises_hardly_any),
		T(a_new_rhythm_is_told_once),
		T(idle_machines_have_a_floor),
		T(memory_is_compared_with_memory),
		T(figures_that_do_not_fit_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
