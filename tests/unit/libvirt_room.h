/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvirt_room: a libvirtd of an unprivileged user in a folder of its own, and
 * domains in it without a system: their disks are written through QEMU's
 * monitor.
 */
#ifndef TESTS_UNIT_LIBVIRT_ROOM_H
#define TESTS_UNIT_LIBVIRT_ROOM_H

#include <libvirt/libvirt.h>
#include <stdbool.h>
#include <sys/types.h>

struct room {
	char dir[64];
	char scratch[96];
	char uri[200];
	pid_t daemon;
	virConnectPtr conn;
	virDomainPtr dom; /* "d": vda qcow2 16 MiB, vdb raw 4 MiB, sda cdrom */
	char uuid[VIR_UUID_STRING_BUFLEN];
};

enum { ROOM_VDA = 16 << 20, ROOM_VDB = 4 << 20 };

/** room_open(): ends the test program where that fails, and says why. */
struct room *room_open(void);
void room_close(struct room *r);

/** room_daemon_start(r), room_daemon_stop(r): the domains go on. */
void room_daemon_start(struct room *r);
void room_daemon_stop(struct room *r);

/** room_define(r), room_undefine(r): the domain, anew; as libvirt forgets its
 * checkpoints. */
void room_define(struct room *r);
void room_undefine(struct room *r);

/** room_images(r): new, empty images for the domain, which is off. */
void room_images(struct room *r);

/** room_start(r), room_power_off(r), room_kill(r): as when QEMU crashes. */
void room_start(struct room *r);
void room_power_off(struct room *r);
void room_kill(struct room *r);
pid_t room_qemu(const struct room *r);

/** room_write(r, disk, byte, off, len): as the guest would. */
void room_write(
    struct room *r, const char *disk, int byte, unsigned off, unsigned len);

/** room_monitor(r, text): QEMU's answer; the caller's. */
char *room_monitor(struct room *r, const char *text);

/** room_checkpoints(r, out, len): their names, sorted, "a b". */
char *room_checkpoints(struct room *r, char *out, size_t len);

/** room_job(r): has the domain a backup job? */
bool room_job(struct room *r);

/** room_files(path): how many files are in a folder and below. */
unsigned room_files(const char *path);

#endif
