/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/console/unit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void
is_called(const char *dir, const char *name)
{
	struct buf b = { 0 };

	unit_name(dir, &b);
	assert_string_equal(buf_cstr(&b), name);
	buf_fini(&b);
}

static void
a_unit_is_called_as_systemd_escapes_the_folder(void **state)
{
	(void)state;
	is_called("/srv/backstay", "backstayd@srv-backstay");
	is_called("//srv//backstay/", "backstayd@srv-backstay");
	is_called("/no/a_b:c.d", "backstayd@no-a_b:c.d");
	is_called("/", "backstayd@-");
}

static void
what_a_shell_would_change_is_quoted(void **state)
{
	(void)state;
	is_called("/no/vm-backup", "'backstayd@no-vm\\x2dbackup'");
	is_called("/no/a b", "'backstayd@no-a\\x20b'");
	is_called("/.no/\xc3\xa4", "'backstayd@\\x2eno-\\xc3\\xa4'");
}

static void
a_repository_of_nobody_in_particular_is_started_by_hand(void **state)
{
	struct buf b = { 0 };

	(void)state;
	unit_start("/no/such", true, &b);
	assert_string_equal(buf_cstr(&b), "backstayd /no/such");
	buf_fini(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    a_unit_is_called_as_systemd_escapes_the_folder),
		cmocka_unit_test(what_a_shell_would_change_is_quoted),
		cmocka_unit_test(
		    a_repository_of_nobody_in_particular_is_started_by_hand),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
