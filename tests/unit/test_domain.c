/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/io.h"
#include "repo/catalog/domain.h"

static struct err e;

struct folder {
	char path[64];
	int fd;
};

static int
make_folder(void **state)
{
	struct folder *f = xcalloc(1, sizeof(*f));

	strcpy(f->path, "/tmp/backstay-domain.XXXXXX");
	assert_non_null(mkdtemp(f->path));
	f->fd = open(f->path, O_RDONLY | O_DIRECTORY);
	*state = f;
	return 0;
}

static int
remove_folder(void **state)
{
	struct folder *f = *state;

	unlinkat(f->fd, "domains.json", 0);
	unlinkat(f->fd, "domains.json.tmp", AT_REMOVEDIR);
	close(f->fd);
	rmdir(f->path);
	free(f);
	return 0;
}

static void
one_owner_has_one_domain_and_no_key(void **state)
{
	const struct folder *f = *state;
	struct domains *d;
	struct domain x;

	assert_int_equal(domains_open(f->fd, false, &d, &e), 0);
	assert_int_equal(domains_for(d, "acme/web1", &x, &e), 0);
	assert_int_equal(x.number, 0);
	assert_null(domain_key(&x));
	assert_int_equal(domains_get(d, 0, &x, &e), 0);
	assert_null(domain_key(&x));
	assert_int_equal(domains_get(d, 1, &x, &e), ERR_CORRUPT);
	assert_int_equal(faccessat(f->fd, "domains.json", F_OK, 0), -1);
	domains_close(d);
}

static void
each_namespace_has_a_key_that_stays(void **state)
{
	const struct folder *f = *state;
	struct domain a, b, none, again;
	struct domains *d;
	struct stat st;

	assert_int_equal(domains_open(f->fd, true, &d, &e), 0);
	assert_int_equal(domains_for(d, "acme/web1", &a, &e), 0);
	assert_int_equal(domains_for(d, "corp/web1", &b, &e), 0);
	assert_int_equal(domains_for(d, "web1", &none, &e), 0);
	assert_int_equal(domains_for(d, "acme/db", &again, &e), 0);
	assert_int_equal(a.number, again.number);
	assert_memory_equal(a.key, again.key, HASH_KEY_LEN);
	assert_true(a.number != b.number && a.number != none.number &&
	    b.number != none.number);
	assert_true(a.number != 0 && b.number != 0 && none.number != 0);
	assert_memory_not_equal(a.key, b.key, HASH_KEY_LEN);
	assert_non_null(domain_key(&none));
	/* It was written before it was used. */
	assert_int_equal(fstatat(f->fd, "domains.json", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	domains_close(d);
	assert_int_equal(domains_open(f->fd, true, &d, &e), 0);
	assert_int_equal(domains_get(d, b.number, &again, &e), 0);
	assert_memory_equal(b.key, again.key, HASH_KEY_LEN);
	assert_int_equal(domains_for(d, "acme/x", &again, &e), 0);
	assert_int_equal(again.number, a.number);
	domains_close(d);
}

static void
a_key_that_cannot_be_written_is_not_used(void **state)
{
	const struct folder *f = *state;
	struct domains *d;
	struct domain x;

	assert_int_equal(domains_open(f->fd, true, &d, &e), 0);
	/* In the way of the file that is written first. */
	assert_int_equal(mkdirat(f->fd, "domains.json.tmp", 0700), 0);
	assert_int_equal(domains_for(d, "acme/a", &x, &e), ERR_SYS);
	assert_int_equal(domains_get(d, 1, &x, &e), ERR_CORRUPT);
	assert_int_equal(unlinkat(f->fd, "domains.json.tmp", AT_REMOVEDIR), 0);
	assert_int_equal(domains_for(d, "acme/a", &x, &e), 0);
	domains_close(d);
}

static void
refused(const struct folder *f, const char *text, int code)
{
	struct domains *d;

	assert_int_equal(
	    file_replace(f->fd, "domains.json", text, strlen(text), 0600), 0);
	assert_int_equal(domains_open(f->fd, true, &d, &e), code);
	assert_non_null(strstr(e.text, "domains.json"));
}

static void
a_damaged_file_is_refused(void **state)
{
#define KEY "\"key\":\"" HEX16 HEX16 HEX16 HEX16 "\""
#define HEX16 "0123456789abcdef"
	const struct folder *f = *state;

	refused(f, "", ERR_CORRUPT);
	refused(f, "{}", ERR_CORRUPT);
	refused(f, "{\"version\":2,\"domains\":[]}", ERR_UNSUP);
	refused(f, "{\"version\":1,\"domains\":[1]}", ERR_CORRUPT);
	refused(f,
	    "{\"version\":1,\"domains\":[{\"namespace\":\"a\",\"domain\":0," KEY
	    "}]}",
	    ERR_CORRUPT);
	refused(f,
	    "{\"version\":1,\"domains\":[{\"namespace\":\"a/"
	    "b\",\"domain\":1," KEY "}]}",
	    ERR_CORRUPT);
	refused(f,
	    "{\"version\":1,\"domains\":[{\"namespace\":\"a\",\"domain\":1,"
	    "\"key\":\"00\"}]}",
	    ERR_CORRUPT);
	refused(f,
	    "{\"version\":1,\"domains\":[{\"namespace\":\"a\",\"domain\":1," KEY
	    "},{\"namespace\":\"b\",\"domain\":1," KEY "}]}",
	    ERR_CORRUPT);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    one_owner_has_one_domain_and_no_key, make_folder,
		    remove_folder),
		cmocka_unit_test_setup_teardown(
		    each_namespace_has_a_key_that_stays, make_folder,
		    remove_folder),
		cmocka_unit_test_setup_teardown(
		    a_key_that_cannot_be_written_is_not_used, make_folder,
		    remove_folder),
		cmocka_unit_test_setup_teardown(
		    a_damaged_file_is_refused, make_folder, remove_folder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
