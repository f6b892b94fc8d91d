/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/name.h"
#include "repo/retain/keep.h"

enum { HOUR = 3600, DAY = 86400, MOST = 120, HISTORIES = 200 };

static struct keep_backup b[MOST + 64];
static size_t n;

static uint64_t
at(const char *text)
{
	uint64_t t = 0;

	assert_int_equal(time_parse(text, &t), 0);
	return t;
}

static void
add(uint64_t time)
{
	b[n] = (struct keep_backup){ .time = time, .seq = n + 1 };
	n++;
}

/* The rules of all, newest last, one letter each. */
static const char *
rules(const struct retain_policy *p, uint64_t now)
{
	static const char letter[] = "-lhdwmyiLap?A";
	static char out[MOST + 65];

	keep_decide(p, now, b, n);
	for (size_t i = 0; i < n; i++)
		out[i] = letter[b[i].rule];
	out[n] = 0;
	return out;
}

static int
none(void **state)
{
	(void)state;
	n = 0;
	return 0;
}

static void
without_a_rule_all_are_kept(void **state)
{
	const struct retain_policy p = { .set = RETAIN_LAST };

	(void)state;
	assert_string_equal(rules(&p, 1000), "");
	add(10);
	add(20);
	assert_string_equal(rules(&p, 1000), "AA");
}

static void
each_rule_considers_only_what_is_older_than_what_is_covered(void **state)
{
	const struct retain_policy p = { .keep_last = 2, .keep_daily = 3 };

	(void)state;
	/* Two a day for six days. */
	for (int d = 1; d <= 6; d++) {
		add((uint64_t)d * DAY + 3 * HOUR);
		add((uint64_t)d * DAY + 9 * HOUR);
	}
	/* The last day is covered by the two last; three days before it. */
	assert_string_equal(rules(&p, 10 * DAY), "-----d-d-dll");
}

static void
what_a_rule_passes_over_is_not_kept_by_a_later_one(void **state)
{
	const struct retain_policy p = { .keep_hourly = 1, .keep_daily = 2 };

	(void)state;
	add(1 * DAY + 5 * HOUR);
	add(1 * DAY + 5 * HOUR + 60);
	add(2 * DAY);
	add(3 * DAY + 1 * HOUR + 1);
	add(3 * DAY + 1 * HOUR + 2);
	assert_string_equal(rules(&p, 10 * DAY), "-dd-h");
}

static void
weeks_are_iso_weeks_also_at_the_end_of_a_year(void **state)
{
	const struct retain_policy p = { .keep_weekly = 2 };

	(void)state;
	add(at("2026-12-27T23:59:59Z")); /* the Sunday of week 52 */
	add(at("2026-12-28T00:00:00Z")); /* week 53 ... */
	add(at("2027-01-01T12:00:00Z"));
	add(at("2027-01-03T23:59:59Z")); /* ... to its Sunday */
	add(at("2027-01-04T00:00:00Z")); /* week 1 */
	assert_string_equal(rules(&p, at("2027-02-01T00:00:00Z")), "---ww");
}

static void
months_and_years_are_those_of_utc(void **state)
{
	const struct retain_policy p = { .keep_monthly = 2, .keep_yearly = 1 };

	(void)state;
	add(at("2024-02-29T23:59:59Z"));
	add(at("2024-12-31T23:59:59Z"));
	add(at("2025-01-01T00:00:00Z"));
	add(at("2025-01-31T23:59:59Z"));
	add(at("2025-02-01T00:00:00Z"));
	assert_string_equal(rules(&p, at("2025-03-01T00:00:00Z")), "-y-mm");
}

static void
within_is_counted_from_the_newest_and_only_adds(void **state)
{
	const struct retain_policy p = { .keep_last = 1,
		.keep_within = 2 * DAY };

	(void)state;
	add(1 * DAY);
	add(2 * DAY); /* just too old */
	add(2 * DAY + 1);
	add(4 * DAY);
	/* Long after: a VM that is backed up no more keeps what it has. */
	assert_string_equal(rules(&p, 400 * DAY), "--il");
}

static void
a_flood_of_new_backups_displaces_nothing(void **state)
{
	const struct retain_policy p = {
		.keep_last = 2, .keep_monthly = 1, .min_age = DAY
	};
	uint64_t now = 40 * DAY;

	(void)state;
	add(1 * DAY);
	add(31 * DAY);
	add(32 * DAY);
	add(33 * DAY);
	assert_string_equal(rules(&p, now), "m-ll");
	for (int i = 0; i < 20; i++)
		add(now - DAY + 1 + (uint64_t)i);
	assert_string_equal(rules(&p, now), "m-llaaaaaaaaaaaaaaaaaaaa");
	/* Also one that says to be from next year. */
	add(now + 365 * DAY);
	assert_string_equal(rules(&p, now), "m-llaaaaaaaaaaaaaaaaaaaaa");
}

static void
what_is_just_old_enough_takes_part(void **state)
{
	const struct retain_policy p = { .keep_last = 1, .min_age = DAY };

	(void)state;
	add(10);
	add(20);
	assert_string_equal(rules(&p, DAY + 19), "la");
	assert_string_equal(rules(&p, DAY + 20), "-l");
}

static void
what_was_imported_counts_by_its_time_and_is_young_by_ours(void **state)
{
	const struct retain_policy p = { .keep_daily = 2, .min_age = DAY };

	(void)state;
	for (uint64_t d = 1; d <= 4; d++) {
		add(d * DAY);
		b[d - 1].since = 100 * DAY;
	}
	assert_string_equal(rules(&p, 100 * DAY + 5), "aaaa");
	assert_string_equal(rules(&p, 101 * DAY), "--dd");
}

static void
what_is_protected_stays_and_does_not_count(void **state)
{
	const struct retain_policy p = { .keep_last = 1 };

	(void)state;
	add(10);
	add(20);
	add(30);
	b[2].is_protected = true;
	b[0].is_protected = true;
	assert_string_equal(rules(&p, 1000), "plp");
}

static void
what_is_locked_stays_and_counts(void **state)
{
	const struct retain_policy p = { .keep_last = 1 };

	(void)state;
	add(10);
	add(20);
	add(30);
	b[0].locked_until = b[2].locked_until = 1000;
	assert_string_equal(rules(&p, 999), "L-l");
	assert_string_equal(rules(&p, 1000), "--l");
}

static void
incomplete_ones_are_nobodys_business_here(void **state)
{
	const struct retain_policy p = { .keep_last = 1 };

	(void)state;
	add(10);
	add(20);
	b[1].incomplete = true;
	assert_string_equal(rules(&p, 1000), "l?");
}

static void
the_order_in_which_they_come_does_not_matter(void **state)
{
	const struct retain_policy p = { .keep_last = 1, .keep_daily = 1 };

	(void)state;
	add(3 * DAY);
	add(1 * DAY);
	add(3 * DAY); /* the same second: the higher sequence is newer */
	add(2 * DAY);
	assert_string_equal(rules(&p, 9 * DAY), "--ld");
}

/* --- at random, beside the second opinion */

static uint64_t seed;

static uint64_t
below(uint64_t most)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % most;
}

static unsigned
some(unsigned most)
{
	return below(2) ? 0 : (unsigned)below(most + 1);
}

static struct retain_policy
any_policy(void)
{
	return (struct retain_policy){ .keep_last = some(8),
		.keep_hourly = some(30),
		.keep_daily = some(14),
		.keep_weekly = some(8),
		.keep_monthly = some(12),
		.keep_yearly = some(4),
		.keep_within = some(40) * (uint64_t)DAY / 2,
		.min_age = some(20) * (uint64_t)DAY / 2 };
}

/* From a few an hour to a few a month, over days or years. */
static void
any_history(uint64_t now)
{
	uint64_t step = (uint64_t)1 << (8 + below(15)), t = now;
	size_t many = below(MOST);

	n = 0;
	for (size_t i = 0; i < many; i++) {
		t -= below(step);
		add(t);
		b[i].seq = many - i;
		b[i].is_protected = below(12) == 0;
		b[i].incomplete = below(25) == 0;
		if (below(6) == 0)
			b[i].locked_until = now - 50 * DAY + below(100 * DAY);
	}
	for (size_t i = 0; many > 0 && i < many; i++) {
		size_t k = below(many);
		struct keep_backup x = b[i];

		b[i] = b[k];
		b[k] = x;
	}
}

static void
say(FILE *f, const struct retain_policy *p, uint64_t now)
{
	fprintf(f,
	    "{\"now\":%llu,\"policy\":{\"last\":%u,\"hourly\":%u,"
	    "\"daily\":%u,\"weekly\":%u,\"monthly\":%u,\"yearly\":%u,"
	    "\"within\":%llu,\"min-age\":%llu},\"backups\":[",
	    (unsigned long long)now, p->keep_last, p->keep_hourly,
	    p->keep_daily, p->keep_weekly, p->keep_monthly, p->keep_yearly,
	    (unsigned long long)p->keep_within, (unsigned long long)p->min_age);
	for (size_t i = 0; i < n; i++)
		fprintf(f,
		    "%s{\"time\":%llu,\"seq\":%llu,\"locked\":%llu,"
		    "\"protected\":%s,\"incomplete\":%s}",
		    i > 0 ? "," : "", (unsigned long long)b[i].time,
		    (unsigned long long)b[i].seq,
		    (unsigned long long)b[i].locked_until,
		    b[i].is_protected ? "true" : "false",
		    b[i].incomplete ? "true" : "false");
	fprintf(f, "]}\n");
}

static void
random_histories_are_kept_as_the_second_opinion_says(void **state)
{
	uint64_t now = at("2026-11-22T04:47:39Z");
	char in[] = "/tmp/test_keep.XXXXXX";
	const char *given = getenv("SEED");
	char command[128], line[4096], ours[4096];
	uint64_t began;
	int fd = mkstemp(in);
	FILE *f = fdopen(fd, "w");

	(void)state;
	assert_non_null(f);
	began = seed = given != NULL ? strtoull(given, NULL, 10)
				     : (uint64_t)time(NULL) * 2654435761u + 1;
	print_message("SEED=%llu\n", (unsigned long long)began);
	for (int i = 0; i < HISTORIES; i++) {
		struct retain_policy p = any_policy();

		any_history(now);
		say(f, &p, now);
	}
	assert_int_equal(fclose(f), 0);
	snprintf(
	    command, sizeof(command), "python3 tests/spec/retention.py %s", in);
	f = popen(command, "r");
	assert_non_null(f);
	seed = began;
	for (int i = 0; i < HISTORIES; i++) {
		struct retain_policy p = any_policy();
		size_t len = 0;

		any_history(now);
		keep_decide(&p, now, b, n);
		ours[0] = 0;
		for (size_t k = 0; k < n; k++)
			len += (size_t)snprintf(ours + len, sizeof(ours) - len,
			    "%s%s", k > 0 ? " " : "",
			    b[k].rule == KEEP_NOT ? "-"
						  : keep_rule_name(b[k].rule));
		assert_non_null(fgets(line, sizeof(line), f));
		line[strcspn(line, "\n")] = 0;
		assert_string_equal(ours, line);
	}
	assert_int_equal(pclose(f), 0);
	unlink(in);
}

/* Whatever the policy: what is young can displace nothing. */
static void
no_young_backup_changes_what_becomes_of_an_old_one(void **state)
{
	uint64_t now = at("2026-11-22T04:47:39Z");

	(void)state;
	if (seed == 0)
		seed = 88172645463325252u;
	for (int i = 0; i < HISTORIES; i++) {
		struct retain_policy p = any_policy();
		static enum keep_rule before[MOST];
		size_t old;

		p.min_age += HOUR;
		any_history(now);
		keep_decide(&p, now, b, n);
		old = n;
		for (size_t k = 0; k < n; k++)
			before[k] = b[k].rule;
		for (int k = 0; k < 50; k++)
			add(now - below(HOUR));
		keep_decide(&p, now, b, n);
		for (size_t k = 0; k < old; k++)
			assert_int_equal(b[k].rule, before[k]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(without_a_rule_all_are_kept, none),
		cmocka_unit_test_setup(
		    each_rule_considers_only_what_is_older_than_what_is_covered,
		    none),
		cmocka_unit_test_setup(
		    what_a_rule_passes_over_is_not_kept_by_a_later_one, none),
		cmocka_unit_test_setup(
		    weeks_are_iso_weeks_also_at_the_end_of_a_year, none),
		cmocka_unit_test_setup(months_and_years_are_those_of_utc, none),
		cmocka_unit_test_setup(
		    within_is_counted_from_the_newest_and_only_adds, none),
		cmocka_unit_test_setup(
		    a_flood_of_new_backups_displaces_nothing, none),
		cmocka_unit_test_setup(
		    what_is_just_old_enough_takes_part, none),
		cmocka_unit_test_setup(
		    what_was_imported_counts_by_its_time_and_is_young_by_ours,
		    none),
		cmocka_unit_test_setup(
		    what_is_protected_stays_and_does_not_count, none),
		cmocka_unit_test_setup(what_is_locked_stays_and_counts, none),
		cmocka_unit_test_setup(
		    incomplete_ones_are_nobodys_business_here, none),
		cmocka_unit_test_setup(
		    the_order_in_which_they_come_does_not_matter, none),
		cmocka_unit_test(
		    random_histories_are_kept_as_the_second_opinion_says),
		cmocka_unit_test(
		    no_young_backup_changes_what_becomes_of_an_old_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
