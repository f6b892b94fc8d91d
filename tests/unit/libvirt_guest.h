/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvirt_guest: what the tests of domains do with the one that is in their
 * room.  What fails fails the test.
 */
#ifndef TESTS_UNIT_LIBVIRT_GUEST_H
#define TESTS_UNIT_LIBVIRT_GUEST_H

#include <libnbd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/guest/guest.h"
#include "tests/unit/libvirt_room.h"

#define REPO "0123abcd"
#define TAG1 "1111111111111111"
#define TAG2 "2222222222222222"
#define TAG3 "3333333333333333"
#define NAME(tag) "backstay-" REPO "-" tag

/* Places of disks; ${CLUSTER}: what a bit of a bitmap stands for. */
enum { VDA, VDB, SEED, KIB = 1024, CLUSTER = 64 * KIB, WAIT_MS = 60000 };

extern struct room *room;
extern struct err e;

#define OK(call)                                                               \
	do {                                                                   \
		int ok_rc = (call);                                            \
		if (ok_rc != 0)                                                \
			fail_msg(                                              \
			    "%s: %s: %s", #call, err_name(ok_rc), e.text);     \
	} while (0)

/* Opened and locked; the second waits for a guard that holds the lock. */
struct guest *libvirt_guest(void);
struct guest *libvirt_guest_after_guard(void);

/* For a view of vda and vdb. */
struct guest_view_options libvirt_options(const char *tag, const char *since);

struct nbd_handle *libvirt_reader(const struct guest_view_disk *d);

/* Is all of it that byte? */
bool libvirt_reads(
    struct nbd_handle *nbd, int byte, unsigned off, unsigned len);
/* So much of vda's beginning as was written. */
bool libvirt_view_reads(const struct guest_view *v, int byte);

/* Bytes that are dirty in so much from ${off} on. */
uint64_t libvirt_dirty(struct nbd_handle *nbd, unsigned off, unsigned len);

/* No job, no files, and these checkpoints only. */
void libvirt_nothing_left(const char *names);

/* One backup that commits. */
void libvirt_backup(const char *tag, const char *since);

/* Setups of a test and of a group: a new domain that runs, a room. */
int libvirt_fresh(void **state);
int libvirt_room_setup(void **state);
int libvirt_room_teardown(void **state);

#endif
