/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live_restore_impl: what the files live_restore*.c share.
 *
 *   live_restore.c         the order of things
 *   live_restore_files.c   which volume goes where; the folder of the memory
 *   live_restore_words.[ch]  single options of QEMU's command line
 *   live_restore_args*.[ch]  a command line: its disks; what it is as a clone;
 *                          its new files
 *   live_restore_qemu.c    runs it, loads the memory
 *   live_restore_xml.c     a domain's XML
 *   live_restore_libvirt.c checks, starts, loads and defines it
 *   live_restore_save.c    a save image for libvirt
 *   live_restore_mapped.c  QEMU's file of mapped memory, moved
 *   live_restore_plain.c   a stream with memory that was saved beside it
 */
#ifndef AGENT_LIVE_LIVE_RESTORE_IMPL_H
#define AGENT_LIVE_LIVE_RESTORE_IMPL_H

#include <libvirt/libvirt.h>
#include <libxml/tree.h>

#include "agent/live/live_restore.h"
#include "agent/ram/facts.h"
#include "proto/base/json.h"

enum {
	DEFINITION_MAX = 1 << 20,
	RESTORE_ARGS_MAX = 4096,
	RESTORE_START_MS = 60000 /* until a new QEMU answers */
};

/* A disk that the definition has. */
struct lr_disk {
	char name[NAME_PART_MAX + 1]; /* as backups call it */
	char *path;                   /* of its image, or NULL: no file */
	char *format;                 /* or NULL: it does not say */
	bool writable;
	bool nvram;
	size_t at; /* args: the option that names it */
};

/* A volume of the backup, and the file it becomes. */
struct lr_file {
	const struct manifest_volume *volume;
	char *path;
	const char *format; /* of sink_open */
	bool is_new;        /* there was none before */
};

struct lr {
	const struct live_restore_options *o;
	struct live_restore_result *out;
	char vm[VM_NAME_MAX + 1];
	char *name; /* the machine's, from here on */

	/* The definition: one of the two. */
	json_t *args;
	xmlDocPtr doc;
	unsigned ndisks;
	struct lr_disk disk[MANIFEST_VOLUMES_MAX];

	unsigned nfiles;
	struct lr_file file[MANIFEST_VOLUMES_MAX];
	char *home;    /* the folder that has what is not said elsewhere */
	char *ram_tmp; /* the folder of the memory's files, or NULL */
	int ram_fd;    /* of it, locked; or -1 */
	bool ram;      /* there is saved memory, and it is wanted */
	struct ram_facts facts;

	/* live_restore_qemu.c's. */
	char *qmp;
	/* live_restore_libvirt.c's. */
	virConnectPtr conn;
	virDomainPtr dom; /* what we started, or NULL */
};

/** lr_new_uuid(out), lr_new_mac(out): of a clone's, at random. */
enum { LR_UUID_LEN = 36, LR_MAC_LEN = 17 };
void lr_new_uuid(char *out);
void lr_new_mac(char *out);

/** lr_add_disk(r, name): the next one, or NULL: too many.  ${name} becomes what
 * guests' disks are called in backups. */
struct lr_disk *lr_add_disk(struct lr *r, const char *name);

/** lr_find_disk(r, name): or NULL. */
struct lr_disk *lr_find_disk(struct lr *r, const char *name);

/** lr_moved(r, path): where a socket or log of a clone is instead; the
 * caller's. */
char *lr_moved(const struct lr *r, const char *path);

/* --- live_restore_files.c */

/** lr_files_home(r, e): fills in home. */
int lr_files_home(struct lr *r, struct err *e);

/** lr_files_plan(r, e): fills in files; makes the memory's folder. */
int lr_files_plan(struct lr *r, struct err *e);

/** lr_files_fetch(r, e): restores all of them. */
int lr_files_fetch(struct lr *r, struct err *e);

/** lr_files_drop_ram(r): the memory's folder goes. */
void lr_files_drop_ram(struct lr *r);

/** lr_give_away(path): a new file in somebody else's folder is theirs. */
void lr_give_away(const char *path);

/** lr_read(path, max, out, e): a small file that was restored. */
int lr_read(const char *path, size_t max, struct buf *out, struct err *e);

/* --- live_restore_args*.c */

/** lr_args_parse(r, text, e): the definition "qemu-args"; fills in args,
 * disks, name.  ERR_PROTO, ERR_UNSUP. */
int lr_args_parse(struct lr *r, const struct buf *text, struct err *e);

/** lr_args_identity(r, e): a clone's name, sockets and addresses; which monitor
 * there is (qmp). */
int lr_args_identity(struct lr *r, struct err *e);

/** lr_args_finish(r, e): disks are in their new files, memory in its folder;
 * it waits for the memory, or stands still at its begin. */
int lr_args_finish(struct lr *r, struct err *e);

/* --- live_restore_qemu.c */

/** lr_qemu_check(r, e): nobody runs that machine. */
int lr_qemu_check(struct lr *r, struct err *e);
int lr_qemu_start(struct lr *r, struct err *e);

/* --- live_restore_xml.c */

int lr_xml_parse(struct lr *r, const struct buf *text, struct err *e);
void lr_xml_identity(struct lr *r);
void lr_xml_finish(struct lr *r);

/** lr_xml_text(r, waits): as libvirt takes it; ${waits}: QEMU is to wait for a
 * migration.  Free with xmlFree. */
char *lr_xml_text(struct lr *r, bool waits);

/** lr_xml_uuid(r): the caller's, or NULL. */
char *lr_xml_uuid(const struct lr *r);

/** lr_xml_tpm(r): does it have an emulated TPM, and where is its state?  The
 * folder, the caller's, or NULL: where libvirt has it. */
bool lr_xml_tpm(const struct lr *r, char **dir, bool *old);

/* --- live_restore_libvirt.c */

/** lr_libvirt_check(r, e): connects; nobody has that name or identity.
 * lr_libvirt_close: NULLs are nothing. */
int lr_libvirt_check(struct lr *r, struct err *e);
int lr_libvirt_start(struct lr *r, struct err *e);
void lr_libvirt_close(struct lr *r);

/** lr_libvirt_tpm_dir(r): of the domain's TPM; the caller's, or NULL. */
char *lr_libvirt_tpm_dir(struct lr *r);

/* --- live_restore_save.c */

/** lr_save(r, e): writes o->save. */
int lr_save(struct lr *r, struct err *e);

/* --- live_restore_mapped.c */

/**
 * lr_mapped_move(in, out, by, e): the file of mapped memory, ${by} (a multiple
 * of RAM_BLOCK_ALIGN) further on.  ERR_UNSUP (not understood), ERR_CORRUPT
 * (cut off), ERR_NOSPC, ERR_SYS.
 */
int lr_mapped_move(int in, int out, uint64_t by, struct err *e);

/* --- live_restore_plain.c */

/**
 * lr_plain_compose(r, state, out, e): ${state} was saved without the shared
 * memory, which lies in files of the folder: one stream with all of it.
 * As lr_mapped_move.
 */
int lr_plain_compose(struct lr *r, int state, int out, struct err *e);

#endif
