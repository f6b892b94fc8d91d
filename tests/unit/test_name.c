/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "proto/name.h"

#define N64 "a23456789012345678901234567890123456789012345678901234567890123."
#define COUNT(a) (sizeof(a) / sizeof(*(a)))

static void
names_of_vms_are_one_or_two_parts(void **state)
{
	static const char *const good[] = { "web1", "a", "9", "ns/web1",
		"A.b_c-d", "a..b", "x/y..", N64, N64 "/" N64 };
	static const char *const bad[] = { "", "/", "a/", "/a", "a//b", "a/b/c",
		".", "..", ".a", "-a", "_a", "a/..", "a/.", "../a", "a/../b",
		"a b", "a\n", "a@b", "a*", "\xc3\xa4", "a\\b", N64 "x",
		N64 "x/a", "a/" N64 "x" };

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++)
		assert_true(vm_name_ok(good[i]));
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_false(vm_name_ok(bad[i]));
	assert_false(name_part_ok("a/b"));
	assert_int_equal(strlen(N64), NAME_PART_MAX);
}

static void
namespace_is_what_is_before_the_slash(void **state)
{
	char ns[NAME_PART_MAX + 1];

	(void)state;
	vm_namespace("web1", ns);
	assert_string_equal(ns, "");
	vm_namespace("acme/web1", ns);
	assert_string_equal(ns, "acme");
	vm_namespace(N64 "/" N64, ns);
	assert_string_equal(ns, N64);
}

static void
patterns_match_as_documented(void **state)
{
	static const struct {
		const char *pattern, *vm;
		bool match;
	} t[] = {
		{ "web1", "web1", true },
		{ "web1", "web11", false },
		{ "web", "web1", false },
		{ "*", "web1", true },
		{ "*", "ns/web1", false },
		{ "**", "ns/web1", true },
		{ "**", "web1", true },
		{ "ns/*", "ns/web1", true },
		{ "ns/*", "nsx/web1", false },
		{ "*/*", "ns/web1", true },
		{ "*/*", "web1", false },
		{ "web*", "web", true },
		{ "web*", "web12", true },
		{ "*1", "web1", true },
		{ "*1", "web12", false },
		{ "w*b*1", "wxxbyb1", true },
		{ "web?", "web1", true },
		{ "web?", "web", false },
		{ "ns?web1", "ns/web1", false },
		{ "**1", "ns/web1", true },
		{ "a**z", "a/b.z", true },
		{ "***", "a/b", true },
		{ "", "a", false },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(t); i++)
		if (vm_pattern_match(t[i].pattern, t[i].vm) != t[i].match)
			fail_msg("%s on %s", t[i].pattern, t[i].vm);
}

static void
pattern_of_many_stars_ends_soon(void **state)
{
	char pattern[VM_NAME_MAX + 1] = { 0 }, vm[VM_NAME_MAX + 2] = { 0 };

	(void)state;
	for (size_t i = 0; i + 1 < VM_NAME_MAX; i += 2)
		memcpy(pattern + i, "*a", 2);
	pattern[VM_NAME_MAX - 1] = 'b';
	memset(vm, 'a', VM_NAME_MAX);
	assert_false(vm_pattern_match(pattern, vm));
	vm[VM_NAME_MAX - 1] = 'b';
	assert_true(vm_pattern_match(pattern, vm));
	vm[VM_NAME_MAX] = 'b';
	assert_false(vm_pattern_match("**", vm));
}

static void
patterns_with_other_characters_are_refused(void **state)
{
	static const char *const good[] = { "*", "**", "web?", "ns/*", "a",
		"-*", "*/*", ".*" };
	static const char *const bad[] = { "", "/", "/a", "a/", "a/b/c", "a b",
		"[ab]", "a,b", "\"a\"", "a\n", "{a}", N64 N64 "12" };

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++)
		assert_true(vm_pattern_ok(good[i]));
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_false(vm_pattern_ok(bad[i]));
}

static void
backups_are_named_by_time_or_by_counting_back(void **state)
{
	struct backup_ref r;
	struct err e;

	(void)state;
	assert_int_equal(backup_ref_parse("ns/web1@latest", &r, &e), 0);
	assert_string_equal(r.vm, "ns/web1");
	assert_false(r.by_time);
	assert_int_equal(r.back, 0);
	assert_int_equal(backup_ref_parse("web1@-3", &r, &e), 0);
	assert_false(r.by_time);
	assert_int_equal(r.back, 3);
	assert_int_equal(
	    backup_ref_parse("web1@1970-01-02T00:00:01Z", &r, &e), 0);
	assert_true(r.by_time);
	assert_int_equal(r.time, 86401);
	assert_int_equal(backup_ref_parse(N64 "/" N64 "@latest", &r, &e), 0);
}

static void
other_names_of_backups_are_refused_with_an_example(void **state)
{
	static const char *const bad[] = { "", "@", "web1", "@latest", "web1@",
		"web1@Latest", "web1@latest ", "web1@-", "web1@-0", "web1@--1",
		"web1@-1x", "web1@- 1", "web1@1", "web1@-4294967296",
		"web1@-99999999999999999999", "a/../b@latest", "a@b@latest",
		N64 "/" N64 "x@latest", "web1@2026-02-30T00:00:00Z" };
	struct backup_ref r;
	struct err e;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		assert_int_equal(backup_ref_parse(bad[i], &r, &e), ERR_INVAL);
		assert_non_null(strstr(e.text, "VM@latest"));
	}
}

static void
expect_time(const char *s, uint64_t seconds)
{
	char again[TIME_TEXT_LEN + 1];
	uint64_t t = 1;

	assert_int_equal(time_parse(s, &t), 0);
	assert_true(t == seconds);
	assert_string_equal(time_print(t, again), s);
}

static void
times_come_back_also_in_leap_years(void **state)
{
	char s[TIME_TEXT_LEN + 1];

	(void)state;
	expect_time("1970-01-01T00:00:00Z", 0);
	expect_time("2000-02-29T12:00:00Z", 951825600);
	expect_time("2024-02-29T23:59:59Z", 1709251199);
	expect_time("2026-11-21T19:30:05Z", 1795289405);
	expect_time("2038-01-19T03:14:08Z", 2147483648);
	expect_time("9999-12-31T23:59:59Z", 253402300799);
	assert_string_equal(time_print(UINT64_MAX, s), "9999-12-31T23:59:59Z");
}

static void
days_that_no_calendar_has_are_refused(void **state)
{
	static const char *const bad[] = { "", "2026-11-21T19:30:05",
		"2026-11-21 19:30:05Z", "2026-11-21T19:30:05z",
		"2026-11-21T19:30:05ZZ", "2026-1-021T19:30:05Z",
		"2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z",
		"2026-01-00T00:00:00Z", "2026-01-32T00:00:00Z",
		"2026-04-31T00:00:00Z", "2026-02-29T00:00:00Z",
		"2100-02-29T00:00:00Z", "2026-01-01T24:00:00Z",
		"2026-01-01T00:60:00Z", "2026-01-01T00:00:60Z",
		"1969-12-31T23:59:59Z", "0000-00-00T00:00:00Z",
		"-026-01-01T00:00:00Z", "2026-01-01T+1:00:00Z" };
	uint64_t t = 7;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++)
		if (time_parse(bad[i], &t) != ERR_INVAL)
			fail_msg("%s", bad[i]);
	assert_int_equal(t, 7);
}

static void
sizes_are_read_with_their_units(void **state)
{
	static const struct {
		const char *s;
		uint64_t v;
	} t[] = { { "0", 0 }, { "4096", 4096 }, { "512B", 512 },
		{ "64K", 65536 }, { "64KB", 65536 }, { "64KiB", 65536 },
		{ "64k", 65536 }, { "1.5G", 1610612736 }, { "200M", 209715200 },
		{ "2T", 2199023255552 }, { "0.5K", 512 }, { "1.125K", 1152 },
		{ "1P", 1125899906842624 },
		{ "18446744073709551615", UINT64_MAX },
		{ "16383.999P", 18446742947809644773u } };
	uint64_t v;

	(void)state;
	for (size_t i = 0; i < COUNT(t); i++) {
		assert_int_equal(size_parse(t[i].s, &v), 0);
		if (v != t[i].v)
			fail_msg("%s is %llu", t[i].s, (unsigned long long)v);
	}
}

static void
sizes_that_overflow_or_make_no_sense_are_refused(void **state)
{
	static const char *const bad[] = { "", "K", "-1", "+1", " 1", "1 ",
		"1 K", "1.", ".5K", "1.5", "1.5B", "1.2345K", "1e3", "0x10",
		"1KK", "1Ki", "1iB", "1X", "1.5.5K", "18446744073709551616",
		"16384P", "99999999999999999999", "18014398509481984K" };
	uint64_t v = 7;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++)
		if (size_parse(bad[i], &v) != ERR_INVAL)
			fail_msg("%s", bad[i]);
	assert_int_equal(v, 7);
}

static void
lengths_of_time_are_read_with_their_units(void **state)
{
	static const struct {
		const char *s;
		unsigned unit;
		uint64_t v;
	} t[] = { { "0", 0, 0 }, { "0s", 0, 0 }, { "90s", 0, 90 },
		{ "30m", 0, 1800 }, { "2h", 3600, 7200 }, { "7d", 0, 604800 },
		{ "4w", 0, 2419200 }, { "1y", 0, 31536000 }, { "90", 1, 90 },
		{ "2", 3600, 7200 },
		{ "18446744073709551615", 1, UINT64_MAX } };
	static const char *const bad[] = { "", "s", "5", "-1s", "1.5h", "1 d",
		" 1d", "1D", "1h30m", "1dd", "yesterday", "584942417356y",
		"18446744073709551616s", "000000000000000000000001s" };
	uint64_t v;

	(void)state;
	for (size_t i = 0; i < COUNT(t); i++) {
		assert_int_equal(seconds_parse(t[i].s, t[i].unit, &v), 0);
		if (v != t[i].v)
			fail_msg("%s is %llu", t[i].s, (unsigned long long)v);
	}
	v = 7;
	for (size_t i = 0; i < COUNT(bad); i++)
		if (seconds_parse(bad[i], 0, &v) != ERR_INVAL)
			fail_msg("%s", bad[i]);
	assert_int_equal(
	    seconds_parse("18446744073709551616", 1, &v), ERR_INVAL);
	assert_int_equal(v, 7);
}

static void
sizes_are_printed_for_people(void **state)
{
	static const struct {
		uint64_t v;
		const char *s;
	} t[] = { { 0, "0 B" }, { 512, "512 B" }, { 1023, "1023 B" },
		{ 1024, "1.0 KiB" }, { 1536, "1.5 KiB" },
		{ 1503238554, "1.4 GiB" }, { 1048575, "1024.0 KiB" },
		{ (uint64_t)1 << 40, "1.0 TiB" },
		{ (uint64_t)1 << 50, "1.0 PiB" }, { UINT64_MAX, "16.0 EiB" } };
	char s[16];

	(void)state;
	for (size_t i = 0; i < COUNT(t); i++)
		assert_string_equal(size_print(t[i].v, s), t[i].s);
}

static void
numbers_are_whole_decimal_and_within_their_bounds(void **state)
{
	uint64_t v;

	(void)state;
	assert_int_equal(number_parse("7", 1, 9, &v), 0);
	assert_int_equal(v, 7);
	assert_int_equal(number_parse("1", 1, 9, &v), 0);
	assert_int_equal(number_parse("9", 1, 9, &v), 0);
	assert_int_equal(number_parse("0", 1, 9, &v), ERR_INVAL);
	assert_int_equal(number_parse("10", 1, 9, &v), ERR_INVAL);
	assert_int_equal(number_parse("", 0, 9, &v), ERR_INVAL);
	assert_int_equal(number_parse("7x", 0, 9, &v), ERR_INVAL);
	assert_int_equal(number_parse("-7", 0, 9, &v), ERR_INVAL);
	assert_int_equal(number_parse(" 7", 0, 9, &v), ERR_INVAL);
	assert_int_equal(
	    number_parse("18446744073709551615", 0, UINT64_MAX, &v), 0);
	assert_int_equal(
	    number_parse("18446744073709551616", 0, UINT64_MAX, &v), ERR_INVAL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_of_vms_are_one_or_two_parts),
		cmocka_unit_test(namespace_is_what_is_before_the_slash),
		cmocka_unit_test(patterns_match_as_documented),
		cmocka_unit_test(pattern_of_many_stars_ends_soon),
		cmocka_unit_test(patterns_with_other_characters_are_refused),
		cmocka_unit_test(backups_are_named_by_time_or_by_counting_back),
		cmocka_unit_test(
		    other_names_of_backups_are_refused_with_an_example),
		cmocka_unit_test(times_come_back_also_in_leap_years),
		cmocka_unit_test(days_that_no_calendar_has_are_refused),
		cmocka_unit_test(sizes_are_read_with_their_units),
		cmocka_unit_test(
		    sizes_that_overflow_or_make_no_sense_are_refused),
		cmocka_unit_test(lengths_of_time_are_read_with_their_units),
		cmocka_unit_test(sizes_are_printed_for_people),
		cmocka_unit_test(
		    numbers_are_whole_decimal_and_within_their_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
