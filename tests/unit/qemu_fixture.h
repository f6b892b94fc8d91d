/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qemu_fixture: a real QEMU in a folder of its own, without a system: its
 * disks are written through its second monitor as a guest would.
 *
 * vda: qcow2, 16 MiB, of -blockdev and a device with an id; dc:
 * raw, 4 MiB, of -drive and a device without; ro: qcow2, only read; ide1-cd0: a
 * CD; a node that no device uses; firmware and NVRAM in flash.
 */
#ifndef TESTS_UNIT_QEMU_FIXTURE_H
#define TESTS_UNIT_QEMU_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/guest/qmp.h"

struct qemu {
	pid_t pid;
	char dir[64];
	char qmp[96]; /* the monitor for those who are tested */
	struct qmp *test;
	bool iothread; /* vda has one; set before qemu_start */
};

enum { QEMU_VDA = 16 << 20, QEMU_DC = 4 << 20 };

/** qemu_folder(q), qemu_folder_remove(q): with new images, no QEMU yet. */
void qemu_folder(struct qemu *q);
void qemu_folder_remove(struct qemu *q);

/** qemu_start(q, running): its processors stand still, or do they run?
 * qemu_end(q): in order; qemu_kill(q): without. */
void qemu_start(struct qemu *q, bool running);
void qemu_end(struct qemu *q);
void qemu_kill(struct qemu *q);

/** qemu_write(q, disk, byte, off, len): as the guest; it must succeed.
 * ${disk}: a device's path in QEMU. */
void qemu_write(
    struct qemu *q, const char *disk, int byte, unsigned off, unsigned len);

/** qemu_ask(q, command, args): what it returns, the caller's; args used up. */
json_t *qemu_ask(struct qemu *q, const char *command, json_t *args);

/** qemu_status(q, out, len): "running", "paused", ... */
const char *qemu_status(struct qemu *q, char *out, size_t len);

/** qemu_bitmaps(q, node, out, len): names of its dirty bitmaps, "a b", in the
 * order of the alphabet. */
const char *qemu_bitmaps(
    struct qemu *q, const char *node, char *out, size_t len);

/** qemu_is_clean(q): nothing that begins with "backstay-" is in it, but
 * bitmaps of checkpoints; and no NBD server runs. */
bool qemu_is_clean(struct qemu *q);

#endif
