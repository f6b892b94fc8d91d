/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/plain_guest.h"

#include <libnbd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"

struct qemu qemu;
char *plain_scratch;

static int
setup_of(bool running)
{
	qemu_folder(&qemu);
	plain_scratch = xasprintf("%s/scratch", qemu.dir);
	assert_int_equal(mkdir(plain_scratch, 0700), 0);
	qemu_start(&qemu, running);
	return 0;
}

int
plain_setup_still(void **state)
{
	(void)state;
	return setup_of(false);
}

int
plain_setup_running(void **state)
{
	(void)state;
	return setup_of(true);
}

int
plain_teardown(void **state)
{
	(void)state;
	qemu_folder_remove(&qemu);
	free(plain_scratch);
	return 0;
}

struct guest *
plain_open(const char *ga)
{
	struct err e = { 0 };
	struct guest *g;

	if (guest_open_qmp(qemu.qmp, ga, &g, &e) != 0)
		fail_msg("%s", e.text);
	return g;
}

unsigned
plain_disk(const struct guest *g, const char *name)
{
	const struct guest_disk *d;
	unsigned n;

	d = guest_disks(g, &n);
	for (unsigned i = 0; i < n; i++)
		if (strcmp(d[i].name, name) == 0)
			return i;
	fail_msg("there is no disk %s", name);
	return 0;
}

struct guest_view_options
plain_options(const struct guest *g, const char *tag, const char *since)
{
	struct guest_view_options o = { .repo = REPO,
		.tag = tag,
		.since = since,
		.quiesce = QUIESCE_NO,
		.scratch_dir = plain_scratch,
		.scratch_max = 64 << 20,
		.ndisks = 2 };

	o.disk[0] = plain_disk(g, "vda");
	o.disk[1] = plain_disk(g, "dc");
	return o;
}

void
plain_begin(
    struct guest *g, const struct guest_view_options *o, struct guest_view *v)
{
	struct err e = { 0 };

	if (guest_view_begin(g, o, v, &e) != 0)
		fail_msg("%s", e.text);
}

void
plain_end(struct guest *g, bool keep)
{
	struct err e = { 0 };

	if (guest_view_end(g, keep, &e) != 0)
		fail_msg("%s", e.text);
}

static struct nbd_handle *
connect_to(const struct guest_view_disk *d)
{
	struct nbd_handle *h = nbd_create();

	assert_non_null(h);
	if (d->dirty != NULL)
		assert_int_equal(nbd_add_meta_context(h, d->dirty), 0);
	assert_int_equal(nbd_set_export_name(h, d->export), 0);
	if (nbd_connect_unix(h, d->socket) == -1)
		fail_msg("%s", nbd_get_error());
	if (d->dirty != NULL)
		assert_int_equal(nbd_can_meta_context(h, d->dirty), 1);
	return h;
}

/* The byte of which ${len} bytes at ${off} consist. */
static int
byte_at(struct nbd_handle *h, unsigned off, unsigned len)
{
	uint8_t *data = malloc(len);
	int byte;

	if (nbd_pread(h, data, len, off, 0) == -1)
		fail_msg("%s", nbd_get_error());
	byte = data[0];
	for (unsigned i = 0; i < len; i++)
		assert_int_equal(data[i], byte);
	free(data);
	return byte;
}

int
plain_byte(const struct guest_view_disk *d, unsigned off, unsigned len)
{
	struct nbd_handle *h = connect_to(d);
	int byte = byte_at(h, off, len);

	nbd_close(h);
	return byte;
}

static int
map_extent(void *arg, const char *context, uint64_t off, uint32_t *entry,
    size_t n, int *error)
{
	struct plain_map *m = arg;

	(void)context;
	(void)error;
	for (size_t i = 0; i + 1 < n; i += 2) {
		if (entry[i + 1] & 1) {
			if (m->dirty == 0)
				m->first = off;
			m->dirty += entry[i];
		}
		off += entry[i];
	}
	return 0;
}

struct plain_map
plain_dirty(const struct guest_view_disk *d, unsigned size)
{
	struct nbd_handle *h = connect_to(d);
	struct plain_map m = { 0 };

	assert_int_equal(nbd_block_status(h, size, 0,
			     (nbd_extent_callback){
				 .callback = map_extent, .user_data = &m },
			     0),
	    0);
	nbd_close(h);
	return m;
}

unsigned
plain_files(const char *dir)
{
	char command[256];
	FILE *f;
	unsigned n = 99;

	snprintf(command, sizeof(command), "ls -A %s | wc -l", dir);
	f = popen(command, "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%u", &n), 1);
	pclose(f);
	return n;
}

struct guest *
plain_backed_up(void)
{
	struct guest *g = plain_open(NULL);
	struct guest_view_options o = plain_options(g, TAG1, NULL);
	struct guest_view v;

	plain_begin(g, &o, &v);
	plain_end(g, true);
	return g;
}

void
plain_wait(const char *at, const char *status)
{
	uint64_t until = now_ms() + PATIENCE_MS;
	char s[32];

	while (!qemu_is_clean(&qemu) ||
	    strcmp(qemu_status(&qemu, s, sizeof(s)), status) != 0) {
		if (now_ms() > until)
			fail_msg("after %s: %s", at,
			    qemu_is_clean(&qemu) ? "stopped" : "not clean");
		poll(NULL, 0, 20);
	}
}

void
plain_wait_clean(const char *at)
{
	plain_wait(at, "running");
}

struct guest *
plain_open_locked(void)
{
	uint64_t until = now_ms() + PATIENCE_MS;
	struct err e = { 0 };
	struct guest *g;
	int rc;

	for (;;) {
		rc = guest_open_qmp(qemu.qmp, NULL, &g, &e);
		if (rc == 0) {
			rc = guest_lock(g, &e);
			if (rc == 0)
				return g;
			guest_close(g);
		}
		if (rc != ERR_BUSY || now_ms() > until)
			fail_msg("%s", e.text);
	}
}
