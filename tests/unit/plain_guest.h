/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plain_guest: views of a QEMU that no libvirt manages (qemu_fixture), as its
 * tests make them.  What fails fails the test.
 */
#ifndef TESTS_UNIT_PLAIN_GUEST_H
#define TESTS_UNIT_PLAIN_GUEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/guest/guest_impl.h"
#include "tests/unit/qemu_fixture.h"

#define REPO "0123abcd"
#define TAG1 "1111111111111111"
#define TAG2 "2222222222222222"
#define BITMAP1 "backstay-" REPO "-" TAG1

/* The devices of disks, to be written. */
#define VDA "/machine/peripheral/vda/virtio-backend"
#define DC "/machine/peripheral-anon/device[0]/virtio-backend"

enum { PATIENCE_MS = 30000, K64 = 64 << 10 };

extern struct qemu qemu;
extern char *plain_scratch; /* the folder of scratch files */

/* A QEMU whose processors stand still, one whose run, and its end. */
int plain_setup_still(void **state);
int plain_setup_running(void **state);
int plain_teardown(void **state);

/* ${ga}: the agent's socket, or NULL. */
struct guest *plain_open(const char *ga);

/* Opened and locked, as soon as the guard is through. */
struct guest *plain_open_locked(void);

/* As after a committed backup of tag 1. */
struct guest *plain_backed_up(void);

/* The place of a disk among the guest's. */
unsigned plain_disk(const struct guest *g, const char *name);

/* For a view of vda and dc. */
struct guest_view_options plain_options(
    const struct guest *g, const char *tag, const char *since);

void plain_begin(
    struct guest *g, const struct guest_view_options *o, struct guest_view *v);
void plain_end(struct guest *g, bool keep);

/* The byte of which ${len} bytes at ${off} consist. */
int plain_byte(const struct guest_view_disk *d, unsigned off, unsigned len);

/* What is dirty in the first ${size} bytes: how much, and from where on. */
struct plain_map {
	uint64_t dirty;
	uint64_t first;
};
struct plain_map plain_dirty(const struct guest_view_disk *d, unsigned size);

/* How many. */
unsigned plain_files(const char *dir);

/* Until nothing of a backup is left and the guest is "running", or in another
 * state.  Nobody helps it: the guard does it.  ${at}: after what, to tell. */
void plain_wait(const char *at, const char *status);
void plain_wait_clean(const char *at);

#endif
