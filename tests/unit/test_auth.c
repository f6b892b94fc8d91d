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
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/io.h"
#include "repo/serve/keyring.h"

#define KEY1                                                                   \
	"ssh-ed25519 "                                                         \
	"AAAAC3NzaC1lZDI1NTE5AAAAIOqmql2SsZN9Xxyh0a0NJGGSjTwHetfwLieAukawxJl+"
#define KEY2                                                                   \
	"ssh-ed25519 "                                                         \
	"AAAAC3NzaC1lZDI1NTE5AAAAIAqmql2SsZN9Xxyh0a0NJGGSjTwHetfwLieAukawxJl+"

static struct err e;

static int
parse(const char *text, struct auth *a)
{
	memset(a, 0, sizeof(*a));
	memset(&e, 0, sizeof(e));
	return auth_parse(text, strlen(text), "f", a, &e);
}

static void
refuses(const char *text, const char *says)
{
	struct auth a;

	assert_int_equal(parse(text, &a), ERR_INVAL);
	assert_int_equal(a.n, 0);
	if (strstr(e.text, says) == NULL)
		fail_msg("\"%s\" lacks \"%s\"", e.text, says);
}

static void
a_bare_line_backs_up_and_restores_all(void **state)
{
	struct auth a;

	(void)state;
	assert_int_equal(parse("# a\n\n  \t\n" KEY1 " kvm01", &a), 0);
	assert_int_equal(a.n, 1);
	assert_string_equal(a.key[0].name, "kvm01");
	assert_string_equal(a.key[0].type, "ssh-ed25519");
	assert_int_equal(a.key[0].roles, ROLE_BACKUP | ROLE_RESTORE);
	assert_int_equal(a.key[0].line, 4);
	assert_int_equal(a.key[0].lanes, AUTH_LANES_DEFAULT);
	assert_int_equal(a.key[0].jobs, AUTH_JOBS_DEFAULT);
	assert_true(auth_sees(&a.key[0], "db/x"));
	assert_true(auth_may(&a.key[0], ROLE_BACKUP));
	assert_false(auth_may(&a.key[0], ROLE_DELETE));
	assert_false(auth_may(&a.key[0], ROLE_ADMIN));
	auth_fini(&a);
}

static void
options_are_all_taken(void **state)
{
	struct auth a;

	(void)state;
	assert_int_equal(
	    parse("role=backup,role=delete,vm=\"web*\",vm=db/**,"
		  "bwlimit=200M,lanes=8,jobs=3  " KEY1 "  kvm01  \n",
		&a),
	    0);
	assert_int_equal(a.key[0].roles, ROLE_BACKUP | ROLE_DELETE);
	assert_int_equal(a.key[0].bwlimit.n, 1);
	assert_int_equal(a.key[0].bwlimit.part[0].rate, 200 << 20);
	assert_int_equal(a.key[0].lanes, 8);
	assert_int_equal(a.key[0].jobs, 3);
	assert_int_equal(a.key[0].npatterns, 2);
	assert_true(auth_sees(&a.key[0], "web1"));
	assert_true(auth_sees(&a.key[0], "db/x"));
	assert_false(auth_sees(&a.key[0], "mail"));
	assert_false(auth_sees(&a.key[0], "web/x"));
	assert_false(auth_may(&a.key[0], ROLE_RESTORE));
	auth_fini(&a);
}

static void
an_admin_may_do_everything(void **state)
{
	struct auth a;

	(void)state;
	assert_int_equal(parse("role=admin " KEY1 " nas\n", &a), 0);
	for (unsigned r = ROLE_BACKUP; r <= ROLE_ADMIN; r <<= 1)
		assert_true(auth_may(&a.key[0], r));
	auth_fini(&a);
	assert_true(auth_may(keyset_console(), ROLE_ADMIN));
	assert_true(auth_sees(keyset_console(), "a/b"));
}

static void
a_line_printed_reads_the_same(void **state)
{
	static const char *const lines[] = { KEY1 " a\n",
		"role=admin " KEY1 " a\n",
		"role=backup,role=delete,vm=\"a*\",vm=\"b/**\",bwlimit=1K,"
		"lanes=1,jobs=64 " KEY1 " a.b-c_d\n",
		"bwlimit=\"200M, Mon-Fri 08:00-18:00 50M\" " KEY1 " a\n" };
	struct buf b = { 0 };
	struct auth a;

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		assert_int_equal(parse(lines[i], &a), 0);
		b.len = 0;
		auth_print_key(&a.key[0], &b);
		assert_string_equal(buf_cstr(&b), lines[i]);
		auth_fini(&a);
	}
	buf_fini(&b);
}

static void
faults_are_refused_with_their_line(void **state)
{
	(void)state;
	refuses("\n\nnonsense\n", "f:3: \"nonsense\": neither an option");
	refuses(KEY1 "\n", "f:1: the key's name is missing");
	refuses("ssh-ed25519\n", "f:1: the key is missing");
	refuses(KEY1 " a b\n", "more behind the name a");
	refuses(KEY1 " ../a\n", "no name for a key");
	refuses("role=king " KEY1 " a\n", "role=king is none of");
	refuses("colour=red " KEY1 " a\n", "unknown option \"colour\"");
	refuses("vm=\"a b\" " KEY1 " a\n", "no pattern");
	refuses("vm=\"\" " KEY1 " a\n", "no pattern");
	refuses("vm=\"a " KEY1 " a\n", "no closing quote");
	refuses("vm=a\"b " KEY1 " a\n", "quote inside");
	refuses("vm=\"a\"b " KEY1 " a\n", "no comma behind");
	refuses("lanes=0 " KEY1 " a\n", "lanes=0 is not from 1");
	refuses("lanes=61 " KEY1 " a\n", "lanes=61 is not from 1 to 60");
	refuses("lanes=1,lanes=2 " KEY1 " a\n", "lanes= is given twice");
	refuses("bwlimit=fast " KEY1 " a\n", "bwlimit=fast is no rate");
	refuses("bwlimit=1 " KEY1 " a\n", "bwlimit=1 is no rate");
	refuses("role=backup, " KEY1 " a\n", "neither an option");
	refuses("role=backup ssh-dss AAAA a\n", "no type of key");
	refuses("role=backup\n", "no type of key");
	refuses("ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIOqmql2SsZN9 a\n",
	    "not that of a key of type ssh-rsa");
	refuses("ssh-ed25519 AAAA a\n", "the key is damaged");
	refuses("ssh-ed25519 !!!! a\n", "the key is damaged");
	refuses(KEY1 " a\x01\n", "no ASCII text (0x01)");
	refuses(KEY1 " a\r\n", "no ASCII text (0x0d)");
	refuses(KEY1 " a\n# x\n" KEY2 " a\n",
	    "f:3: the name a is taken by the key of line 1");
	refuses(KEY1 " a\n" KEY1 " b\n", "already, in line 1 (a)");
}

static void
base64_has_one_form_only(void **state)
{
	struct auth a;
	/* The same bytes: the last letter's spare bits differ. */
	static const char good[] =
	    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAAQE= a\n";

	(void)state;
	assert_int_equal(parse(good, &a), 0);
	auth_fini(&a);
	refuses("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAAQF= a\n", "damaged");
	refuses("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAAQE a\n", "damaged");
	refuses("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAAQ=E a\n", "damaged");
}

static void
lengths_are_bounded(void **state)
{
	char *text = xmalloc(AUTH_LINE_MAX + 100);
	struct auth a;

	(void)state;
	memset(text, '#', AUTH_LINE_MAX + 1);
	text[AUTH_LINE_MAX + 1] = 0;
	refuses(text, "line is too long");
	text[AUTH_LINE_MAX] = 0;
	assert_int_equal(parse(text, &a), 0);
	strcpy(text, "ssh-ed25519 ");
	memset(text + 12, 'A', AUTH_BASE64_MAX + 4);
	strcpy(text + 12 + AUTH_BASE64_MAX + 4, " a\n");
	refuses(text, "the key is too long");
	assert_int_equal(
	    auth_parse("", (size_t)AUTH_FILE_MAX + 1, "f", &a, &e), ERR_INVAL);
	free(text);
}

struct folder {
	char path[64];
	int fd;
};

static int
make_folder(void **state)
{
	struct folder *f = xcalloc(1, sizeof(*f));

	strcpy(f->path, "/tmp/backstay-auth.XXXXXX");
	assert_non_null(mkdtemp(f->path));
	f->fd = open(f->path, O_RDONLY | O_DIRECTORY);
	*state = f;
	return 0;
}

static int
remove_folder(void **state)
{
	struct folder *f = *state;

	unlinkat(f->fd, AUTH_FILE, 0);
	close(f->fd);
	rmdir(f->path);
	free(f);
	return 0;
}

static void
write_keys(const struct folder *f, const char *text)
{
	assert_int_equal(
	    file_replace(f->fd, AUTH_FILE, text, strlen(text), 0600), 0);
}

static void
a_changed_file_is_read_again(void **state)
{
	const struct folder *f = *state;
	struct keyset *before, *after;
	struct keyring *k;

	assert_int_equal(keyring_open(f->fd, &k, &e), 0);
	before = keyring_get(k);
	assert_int_equal(keyset_auth(before)->n, 0);
	assert_false(keyring_refresh(k));
	write_keys(f, KEY1 " a\n");
	assert_true(keyring_refresh(k));
	assert_false(keyring_refresh(k));
	after = keyring_get(k);
	assert_non_null(auth_find_name(keyset_auth(after), "a"));
	/* Who has the old ones keeps them. */
	assert_int_equal(keyset_auth(before)->n, 0);
	keyset_put(before);
	keyset_put(after);
	keyring_close(k);
}

static void
a_bad_file_stops_the_start_and_not_a_reload(void **state)
{
	const struct folder *f = *state;
	struct keyset *now;
	struct keyring *k;

	write_keys(f, KEY1 " a\nnonsense\n");
	assert_int_equal(keyring_open(f->fd, &k, &e), ERR_INVAL);
	assert_non_null(strstr(e.text, AUTH_FILE ":2"));
	write_keys(f, KEY1 " a\n");
	assert_int_equal(keyring_open(f->fd, &k, &e), 0);
	write_keys(f, "nonsense\n");
	assert_false(keyring_refresh(k));
	now = keyring_get(k);
	assert_non_null(auth_find_name(keyset_auth(now), "a"));
	keyset_put(now);
	keyring_close(k);
}

static void
lanes_and_jobs_of_a_key_are_limited(void **state)
{
	const struct folder *f = *state;
	struct auth_key key = { .name = "a", .lanes = 2, .jobs = 1 };
	struct auth_key other = { .name = "console", .lanes = 1, .jobs = 1 };
	struct usage *u1, *u2, *u3, *u4;
	struct keyring *k;

	assert_int_equal(keyring_open(f->fd, &k, &e), 0);
	assert_int_equal(keyring_lane_begin(k, &key, &u1, &e), 0);
	assert_int_equal(keyring_lane_begin(k, &key, &u2, &e), 0);
	assert_int_equal(keyring_lane_begin(k, &key, &u3, &e), ERR_LIMIT);
	/* A key that is called so shares nothing with the console itself. */
	assert_int_equal(keyring_lane_begin(k, &other, &u3, &e), 0);
	assert_int_equal(keyring_lane_begin(k, keyset_console(), &u4, &e), 0);
	assert_int_equal(keyring_job_begin(k, &key, u1, &e), 0);
	assert_int_equal(keyring_job_begin(k, &key, u2, &e), ERR_LIMIT);
	keyring_lane_end(k, u1, LANE_FRESH);
	keyring_lane_end(k, u2, LANE_FRESH);
	/* The job outlives its lanes here, and still counts. */
	assert_int_equal(keyring_lane_begin(k, &key, &u2, &e), 0);
	assert_int_equal(keyring_job_begin(k, &key, u2, &e), ERR_LIMIT);
	keyring_job_end(k, u1);
	assert_int_equal(keyring_job_begin(k, &key, u2, &e), 0);
	keyring_job_end(k, u2);
	keyring_lane_end(k, u2, LANE_FRESH);
	keyring_lane_end(k, u3, LANE_FRESH);
	keyring_lane_end(k, u4, LANE_FRESH);
	keyring_close(k);
}

static void
an_agent_s_lane_takes_none_of_those_that_work(void **state)
{
	const struct folder *f = *state;
	struct auth_key key = { .name = "a", .lanes = 1, .jobs = 1 };
	struct usage *u1, *u2, *u3;
	struct keyring *k;

	assert_int_equal(keyring_open(f->fd, &k, &e), 0);
	assert_int_equal(keyring_lane_begin(k, &key, &u1, &e), 0);
	assert_int_equal(
	    keyring_lane_use(k, &key, u1, LANE_FRESH, LANE_SERVES, &e), 0);
	assert_int_equal(keyring_lane_begin(k, &key, &u2, &e), 0);
	assert_int_equal(
	    keyring_lane_use(k, &key, u2, LANE_FRESH, LANE_WORKS, &e), 0);
	assert_int_equal(keyring_lane_begin(k, &key, &u3, &e), 0);
	assert_int_equal(
	    keyring_lane_use(k, &key, u3, LANE_FRESH, LANE_WORKS, &e),
	    ERR_LIMIT);
	keyring_lane_end(k, u2, LANE_WORKS);
	assert_int_equal(
	    keyring_lane_use(k, &key, u3, LANE_FRESH, LANE_WORKS, &e), 0);
	keyring_lane_end(k, u3, LANE_WORKS);
	keyring_lane_end(k, u1, LANE_SERVES);
	keyring_close(k);
}

static void
one_key_does_not_take_all_places_of_agents(void **state)
{
	const struct folder *f = *state;
	struct auth_key key = { .name = "a", .lanes = 64, .jobs = 1 };
	struct usage *u[KEYRING_SERVES_MAX + 1];
	struct keyring *k;
	int n;

	assert_int_equal(keyring_open(f->fd, &k, &e), 0);
	for (n = 0; n < KEYRING_SERVES_MAX; n++) {
		assert_int_equal(keyring_lane_begin(k, &key, &u[n], &e), 0);
		assert_int_equal(keyring_lane_use(k, &key, u[n], LANE_FRESH,
				     LANE_SERVES, &e),
		    0);
	}
	assert_int_equal(keyring_lane_begin(k, &key, &u[n], &e), 0);
	assert_int_equal(
	    keyring_lane_use(k, &key, u[n], LANE_FRESH, LANE_SERVES, &e),
	    ERR_LIMIT);
	keyring_lane_end(k, u[n], LANE_FRESH);
	while (n-- > 0)
		keyring_lane_end(k, u[n], LANE_SERVES);
	keyring_close(k);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_bare_line_backs_up_and_restores_all),
		cmocka_unit_test(options_are_all_taken),
		cmocka_unit_test(an_admin_may_do_everything),
		cmocka_unit_test(a_line_printed_reads_the_same),
		cmocka_unit_test(faults_are_refused_with_their_line),
		cmocka_unit_test(base64_has_one_form_only),
		cmocka_unit_test(lengths_are_bounded),
		cmocka_unit_test_setup_teardown(
		    a_changed_file_is_read_again, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(
		    a_bad_file_stops_the_start_and_not_a_reload, make_folder,
		    remove_folder),
		cmocka_unit_test_setup_teardown(
		    lanes_and_jobs_of_a_key_are_limited, make_folder,
		    remove_folder),
		cmocka_unit_test_setup_teardown(
		    an_agent_s_lane_takes_none_of_those_that_work, make_folder,
		    remove_folder),
		cmocka_unit_test_setup_teardown(
		    one_key_does_not_take_all_places_of_agents, make_folder,
		    remove_folder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
