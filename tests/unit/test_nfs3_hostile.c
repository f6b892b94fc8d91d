/* SPDX-License-Identifier: Apache-2.0 */
/* Lengths of a server's answers that are not so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/buf.h"
#include "proto/nfs/nfs3_file.h"
#include "tests/unit/nfs_proxy.h"

enum {
	LEN = 5000,
	LOOKUP = 3,
	LOOKUP_LEN = 4, /* of the handle, from the beginning */
	READ = 6,
	ATTRIBUTES = 4,
	ATTRIBUTES_LEN = 84
};

static struct nfs_room room;
static struct nfs_proxy *proxy;
static struct nfs3 *n;
static _Atomic uint32_t lie; /* a length; 0: none */

static enum proxy_fate
look(void *arg, uint32_t proc, bool answer, uint8_t *body, size_t len)
{
	uint32_t v = atomic_load(&lie);
	size_t at = LOOKUP_LEN;

	(void)arg;
	if (v == 0 || !answer || (proc != READ && proc != LOOKUP))
		return PROXY_PASS;
	/* Status, attributes if there are, count, end. */
	if (proc == READ)
		at = ATTRIBUTES + 12 +
		    (proxy_u32(body + ATTRIBUTES) != 0 ? ATTRIBUTES_LEN : 0);
	if (at + 4 <= len)
		proxy_set_u32(body + at, v);
	return PROXY_PASS;
}

static int
setup(void **state)
{
	struct nfs3_options o = { .patience_ms = 1500, .bounded = true };
	struct nfs3_url u;
	struct err e = { 0 };
	char url[256];

	(void)state;
	nfs_room_open(&room);
	proxy = nfs_proxy_new(&room, look, NULL, url, sizeof(url));
	assert_int_equal(nfs3_url_parse(url, &u, &e), 0);
	assert_int_equal(nfs3_open(&u, &o, &n, &e), 0);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	nfs3_close(n);
	nfs_proxy_free(proxy);
	nfs_room_close(&room);
	return 0;
}

/* (Lengths in the midst of an answer that reach over its end libnfs 4.0.0 may
 * die of: no concern of ours, but for who picks the server.) */
static void
lengths_that_are_not_so_are_refused(void **state)
{
	static const uint32_t lies[] = { UINT32_MAX, UINT32_MAX - 3,
		0x80000000 };
	static char data[LEN], back[LEN];
	struct iovec iov = { data, LEN };
	struct nfs3_file *f;
	struct nfs3_fh fh;
	size_t got;

	(void)state;
	assert_int_equal(nfs3_create(n, nfs3_root(n), "f", 0600, &fh), 0);
	f = nfs3_file_new(n, &fh, 0, false);
	assert_int_equal(nfs3_file_write(f, &iov, 1, 0), 0);
	assert_int_equal(nfs3_file_sync(f), 0);
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		atomic_store(&lie, lies[i]);
		assert_int_equal(
		    nfs3_file_read(f, back, LEN, 0, &got), ERR_SYS);
	}
	atomic_store(&lie, NFS3_FH_MAX + 4);
	assert_int_equal(nfs3_lookup(n, nfs3_root(n), "f", &fh, NULL), ERR_SYS);
	atomic_store(&lie, 0);
	assert_int_equal(nfs3_file_read(f, back, LEN, 0, &got), 0);
	assert_int_equal(got, LEN);
	nfs3_file_free(f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lengths_that_are_not_so_are_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
