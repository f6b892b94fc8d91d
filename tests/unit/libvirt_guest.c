/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/libvirt_guest.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"

struct room *room;
struct err e;
static char text[400];

struct guest *
libvirt_guest(void)
{
	struct guest *g;

	OK(guest_open_libvirt(room->uri, "d", &g, &e));
	OK(guest_lock(g, &e));
	return g;
}

/* The lock may be a guard's, for as long as it releases. */
struct guest *
libvirt_guest_after_guard(void)
{
	uint64_t end = now_ms() + WAIT_MS;
	struct guest *g;
	int rc;

	OK(guest_open_libvirt(room->uri, "d", &g, &e));
	while ((rc = guest_lock(g, &e)) == ERR_BUSY) {
		assert_true(now_ms() < end);
		poll(NULL, 0, 20);
	}
	OK(rc);
	return g;
}

struct guest_view_options
libvirt_options(const char *tag, const char *since)
{
	struct guest_view_options o = { 0 };

	o.repo = REPO;
	o.tag = tag;
	o.since = since;
	o.quiesce = QUIESCE_AUTO;
	o.scratch_dir = room->scratch;
	o.scratch_max = 8 << 20;
	o.ndisks = 2;
	o.disk[0] = VDA;
	o.disk[1] = VDB;
	return o;
}

struct nbd_handle *
libvirt_reader(const struct guest_view_disk *d)
{
	struct nbd_handle *nbd = nbd_create();

	assert_non_null(nbd);
	nbd_set_export_name(nbd, d->export);
	if (d->dirty != NULL)
		nbd_add_meta_context(nbd, d->dirty);
	if (nbd_connect_unix(nbd, d->socket) == -1)
		fail_msg("%s: %s", d->socket, nbd_get_error());
	return nbd;
}

bool
libvirt_reads(struct nbd_handle *nbd, int byte, unsigned off, unsigned len)
{
	uint8_t *data = xmalloc(len);
	bool same = true;

	if (nbd_pread(nbd, data, len, off, 0) == -1)
		fail_msg("pread: %s", nbd_get_error());
	for (unsigned i = 0; i < len; i++)
		same = same && data[i] == byte;
	free(data);
	return same;
}

static int
add_dirty(void *arg, const char *context, uint64_t off, uint32_t *entries,
    size_t n, int *error)
{
	uint64_t *sum = arg;

	(void)off;
	(void)error;
	if (strncmp(context, "qemu:", 5) == 0)
		for (size_t i = 0; i + 1 < n; i += 2)
			if (entries[i + 1] & 1)
				*sum += entries[i];
	return 0;
}

/* Bytes that are dirty in so much from ${off} on. */
uint64_t
libvirt_dirty(struct nbd_handle *nbd, unsigned off, unsigned len)
{
	uint64_t sum = 0;

	if (nbd_block_status(nbd, len, off,
		(nbd_extent_callback){
		    .callback = add_dirty, .user_data = &sum },
		0) == -1)
		fail_msg("block status: %s", nbd_get_error());
	return sum;
}

bool
libvirt_view_reads(const struct guest_view *v, int byte)
{
	struct nbd_handle *nbd = libvirt_reader(&v->disk[0]);
	bool same = libvirt_reads(nbd, byte, 0, CLUSTER);

	nbd_close(nbd);
	return same;
}

static const char *
checkpoints(void)
{
	return room_checkpoints(room, text, sizeof(text));
}

void
libvirt_nothing_left(const char *names)
{
	assert_false(room_job(room));
	assert_string_equal(checkpoints(), names);
	assert_int_equal(room_files(room->scratch), 0);
}

/* One backup that commits. */
void
libvirt_backup(const char *tag, const char *since)
{
	struct guest_view_options o = libvirt_options(tag, since);
	struct guest *g = libvirt_guest();
	struct guest_view v;

	OK(guest_view_begin(g, &o, &v, &e));
	OK(guest_view_end(g, true, &e));
	guest_close(g);
}

int
libvirt_fresh(void **state)
{
	(void)state;
	if (virDomainIsActive(room->dom) == 1)
		room_power_off(room);
	room_undefine(room);
	room_define(room);
	room_images(room);
	room_start(room);
	return 0;
}

int
libvirt_room_setup(void **state)
{
	(void)state;
	room = room_open();
	return 0;
}

int
libvirt_room_teardown(void **state)
{
	(void)state;
	room_close(room);
	return 0;
}
