/* SPDX-License-Identifier: Apache-2.0 */
/* disk_name: what a file of others' making is, by its name alone.  Pure. */
#ifndef AGENT_ARCHIVE_DISK_NAME_H
#define AGENT_ARCHIVE_DISK_NAME_H

#include <stddef.h>

enum disk_name_kind {
	DISK_NAME_OTHER,
	DISK_NAME_DISK,       /* ".img": whatever is in it */
	DISK_NAME_RAW,        /* ".raw" */
	DISK_NAME_QCOW2,      /* ".qcow2" */
	DISK_NAME_VMDK,       /* ".vmdk" */
	DISK_NAME_DEFINITION, /* ".xml" */
	DISK_NAME_OVF,        /* ".ovf" */
	DISK_NAME_MF,         /* ".mf" */
	DISK_NAME_ASIDE       /* what else is in OVAs: ".cert", ".nvram" */
};

/**
 * disk_name(vm, file, out, room): of "FOLDER/NAME.qcow2" NAME, of
 * "FOLDER/VM-NAME.qcow2" too, as a restore calls its files; "" where that is no
 * name of a volume.  Of others all of the last part is taken.
 */
enum disk_name_kind disk_name(
    const char *vm, const char *file, char *out, size_t room);

#endif
