/* SPDX-License-Identifier: Apache-2.0 */
/* nbd_fixture: images and NBD servers of QEMU for tests, in a folder. */
#ifndef TESTS_UNIT_NBD_FIXTURE_H
#define TESTS_UNIT_NBD_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/source/source.h"

/** nbd_folder_setup(state), nbd_folder_teardown(state): the test runs in a new,
 * empty folder, which goes with all that is in it. */
int nbd_folder_setup(void **state);
int nbd_folder_teardown(void **state);

/** run(fmt, ...): a shell's command, which must succeed. */
void run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/** server_start(fmt, ...): a program with its arguments (apart by single
 * spaces) that listens on "sock" of this folder.  Waits until it does. */
pid_t server_start(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/** server_end(pid): whatever state it is in. */
void server_end(pid_t pid);

/* What nbdinfo says: extents in order. */
struct extents {
	unsigned n;
	struct {
		uint64_t off;
		uint64_t len;
		unsigned flags;
	} at[8192];
};

/** nbdinfo_map(out, context, server): by a server that nbdinfo starts. */
void nbdinfo_map(struct extents *out, const char *context, const char *server);

/** clean_at(s, off): whether source_clean calls the byte clean. */
bool clean_at(struct source *s, uint64_t off);

/** write_random(image, n, size, seed): ${n} writes anywhere, by qemu-io. */
void write_random(const char *image, unsigned n, uint64_t size, unsigned *seed);

/** test_seed(): told, and taken from SEED if that is set. */
unsigned test_seed(void);

#endif
