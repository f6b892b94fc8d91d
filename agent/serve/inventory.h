/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inventory: the machines that this host offers, with their disks: what
 * agent.conf says of them, and libvirt.
 */
#ifndef AGENT_SERVE_INVENTORY_H
#define AGENT_SERVE_INVENTORY_H

#include "agent/serve/conf.h"
#include "proto/base/json.h"

enum {
	/* What one `serve` may tell, with room to spare. */
	INVENTORY_VMS_MAX = 512,
	INVENTORY_DISKS_MAX = 2048,
	INVENTORY_PATH_MAX = 1023,
	INVENTORY_JSON_MAX = 192 << 10
};

struct inventory_disk {
	char name[NAME_PART_MAX + 1];
	char *path;         /* or NULL: it has none here */
	const char *format; /* "raw", "qcow2" ... */
	uint64_t size;      /* that a guest sees; 0: cannot be told */
};

struct inventory_vm {
	char name[VM_NAME_MAX + 1];
	const char *state; /* "running", "off", "unknown" */
	char *domain;      /* UUID of the domain of libvirt, or NULL */
	unsigned ndisks;
	struct inventory_disk disk[MANIFEST_VOLUMES_MAX];
};

/* One look around; never changes. */
struct inventory {
	unsigned nvms;
	struct inventory_vm *vm; /* by name */
};

/**
 * inventory_take(c, old, e): look.  ${old}: the look before, or NULL.  Not
 * fast; waits for libvirt, but not for ever.
 * Never NULL; where ${e} is set afterwards, libvirt could not be asked, and
 * what it has is missing.  The caller's: inventory_free.
 */
struct inventory *inventory_take(
    const struct conf *c, const struct inventory *old, struct err *e);
void inventory_free(struct inventory *v);

/** inventory_find(v, name): NULL: there is no such VM here. */
const struct inventory_vm *inventory_find(
    const struct inventory *v, const char *name);

/** inventory_has_path(v, path): it is a disk of one of them. */
bool inventory_has_path(const struct inventory *v, const char *path);

/** inventory_json(v, ntold): the array "vms" of PROTOCOL.md 6, "serve"; of the
 * first ${ntold}, as more may not be told. */
json_t *inventory_json(const struct inventory *v, unsigned *ntold);

/** image_size(path, format, out): what a guest sees, without a lock: whoever
 * has the image open is not disturbed.  ${format} may be "". Returns the
 * format that it has, or NULL: it cannot be told. */
const char *image_size(const char *path, const char *format, uint64_t *out);

/** socket_listens(path): a process of this host does, at that local socket. */
bool socket_listens(const char *path);

#endif
