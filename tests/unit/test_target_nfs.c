/* SPDX-License-Identifier: Apache-2.0 */
/* Two restores that write to one name of an NFS export at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/sink/target.h"
#include "proto/nfs/nfs3.h"
#include "tests/unit/nfs_proxy.h"

enum { RENAME = 14 };

static struct nfs_room room;
static struct nfs_proxy *proxy;
static struct nfs3 *other; /* goes to the server itself */
static char url[320];
static atomic_bool take_away;
static struct nfs3_fh theirs;

/* Between the look whether it is still ours and the rename. */
static enum proxy_fate
look(void *arg, uint32_t proc, bool answer, uint8_t *body, size_t len)
{
	const char *tmp = ".disk.raw.restoring";

	(void)arg;
	(void)body;
	(void)len;
	if (proc != RENAME || answer || !atomic_exchange(&take_away, false))
		return PROXY_PASS;
	assert_int_equal(nfs3_remove(other, nfs3_root(other), tmp), 0);
	assert_int_equal(
	    nfs3_create(other, nfs3_root(other), tmp, 0600, &theirs), 0);
	return PROXY_PASS;
}

static int
setup(void **state)
{
	struct nfs3_options o = { .patience_ms = 10000, .bounded = true };
	char export[256], *query;
	struct nfs3_url u;
	struct err e = { 0 };

	(void)state;
	nfs_room_open(&room);
	assert_int_equal(nfs3_url_parse(room.url, &u, &e), 0);
	assert_int_equal(nfs3_open(&u, &o, &other, &e), 0);
	proxy = nfs_proxy_new(&room, look, NULL, export, sizeof(export));
	query = strchr(export, '?');
	snprintf(url, sizeof(url), "%.*s/disk.raw%s", (int)(query - export),
	    export, query);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	nfs3_close(other);
	nfs_proxy_free(proxy);
	nfs_room_close(&room);
	return 0;
}

static void
restore(struct target *t)
{
	struct err e = { 0 };

	assert_int_equal(target_open(t, url, true, &e), 0);
	assert_int_equal(outfile_write(&t->out, "whole", 5, 0, &e), 0);
}

static void
who_was_overtaken_in_the_last_moment_does_not_call_it_done(void **state)
{
	struct err e = { 0 };
	struct target t;
	struct nfs3_attr attr;
	struct nfs3_fh fh;

	(void)state;
	restore(&t);
	atomic_store(&take_away, true);
	assert_int_equal(target_finish(&t, &e), ERR_BUSY);
	assert_non_null(strstr(e.text, "another restore"));
	target_close(&t);
	/* What is there is the other one's, and untouched. */
	assert_int_equal(
	    nfs3_lookup(other, nfs3_root(other), "disk.raw", &fh, &attr), 0);
	assert_true(nfs3_same(&fh, &theirs) && attr.size == 0);
	restore(&t);
	assert_int_equal(target_finish(&t, &e), 0);
	target_close(&t);
	assert_int_equal(
	    nfs3_lookup(other, nfs3_root(other), "disk.raw", &fh, &attr), 0);
	assert_int_equal(attr.size, 5);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    who_was_overtaken_in_the_last_moment_does_not_call_it_done),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
