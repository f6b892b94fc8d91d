/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_restore: the parts of the command that start machines, and that swap
 * disks. */
#ifndef AGENT_CMD_RESTORE_H
#define AGENT_CMD_RESTORE_H

#include "agent/cmd.h"
#include "agent/live/live_restore.h"

enum {
	OPT_START = OPT_OWN + 32,
	OPT_CLONE,
	OPT_DIR,
	OPT_CONNECT,
	OPT_QMP,
	OPT_QEMU,
	OPT_RAM_DIR,
	OPT_RAM_SHARED,
	OPT_NO_RAM,
	OPT_PAUSED,
	OPT_SAVE
};

#define CMD_START_OPTIONS                                                      \
	{ "start", no_argument, NULL, OPT_START },                             \
	    { "clone", required_argument, NULL, OPT_CLONE },                   \
	    { "dir", required_argument, NULL, OPT_DIR },                       \
	    { "connect", required_argument, NULL, OPT_CONNECT },               \
	    { "qmp", required_argument, NULL, OPT_QMP },                       \
	    { "qemu", required_argument, NULL, OPT_QEMU },                     \
	    { "ram-dir", required_argument, NULL, OPT_RAM_DIR },               \
	    { "ram-shared", no_argument, NULL, OPT_RAM_SHARED },               \
	    { "no-ram", no_argument, NULL, OPT_NO_RAM },                       \
	    { "paused", no_argument, NULL, OPT_PAUSED },                       \
	{                                                                      \
		"as-libvirt-save", required_argument, NULL, OPT_SAVE           \
	}

enum {
	OPT_SWAP = OPT_OWN + 64,
	OPT_AS,
	OPT_KEEP_OLD,
	OPT_DOMAIN,
	OPT_OWN_PATH,
	OPT_FINISH
};

#define CMD_SWAP_OPTIONS                                                       \
	{ "swap", no_argument, NULL, OPT_SWAP },                               \
	    { "as", required_argument, NULL, OPT_AS },                         \
	    { "keep-old", no_argument, NULL, OPT_KEEP_OLD },                   \
	    { "domain", required_argument, NULL, OPT_DOMAIN },                 \
	    { "own", required_argument, NULL, OPT_OWN_PATH },                  \
	{                                                                      \
		"finish", required_argument, NULL, OPT_FINISH                  \
	}

/* Disks in place of those that a VM of this host has. */
struct cmd_swap {
	bool swap, keep_old;
	const char *as;     /* the VM's new name, or NULL */
	const char *domain; /* of libvirt, or NULL; with ${uri}, or NULL */
	const char *uri;
	const char *qmp; /* its monitor's socket, or NULL */
	unsigned nown;   /* places that need not be named; 0: any */
	const char *own[MANIFEST_VOLUMES_MAX];
	const char *finish; /* only this: bring that disk to its end */
	const char *alone;  /* options that need --swap */
};

/** cmd_swap_option(s, cmd, opt, arg): as cmd_start_option. */
int cmd_swap_option(
    struct cmd_swap *s, const char *cmd, int opt, const char *arg);

/** cmd_swap_run(c, s, o, vm, format, named): ${vm}: of the backup.
 * cmd_swap_finish(path): of that disk.  The exit code. */
int cmd_swap_run(const struct cmd_common *c, const struct cmd_swap *s,
    const struct restore_options *o, const char *vm, const char *format,
    const struct cmd_disk *named);
int cmd_swap_finish(const char *path);

/* What was asked for beside the files. */
struct cmd_start {
	bool start;
	const char *alone; /* an option that needs --start */
	struct live_restore_options o;
};

/** cmd_start_option(s, cmd, opt, arg): take one of those: EXIT_DONE,
 * EXIT_MISUSE; -1: it is none of them. */
int cmd_start_option(
    struct cmd_start *s, const char *cmd, int opt, const char *arg);

/** cmd_start_run(c, s, disk, n): ${disk}: places that were chosen.  The exit
 * code. */
int cmd_start_run(const struct cmd_common *c, struct cmd_start *s,
    const struct live_target *target, unsigned n);

#endif
