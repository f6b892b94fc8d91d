/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/archive/disk_name.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "proto/name.h"

static const struct {
	const char *end;
	enum disk_name_kind kind;
} ends[] = {
	{ ".qcow2", DISK_NAME_QCOW2 },
	{ ".raw", DISK_NAME_RAW },
	{ ".img", DISK_NAME_DISK },
	{ ".vmdk", DISK_NAME_VMDK },
	{ ".xml", DISK_NAME_DEFINITION },
	{ ".ovf", DISK_NAME_OVF },
	{ ".mf", DISK_NAME_MF },
	{ ".cert", DISK_NAME_ASIDE },
	{ ".nvram", DISK_NAME_ASIDE },
};

/* "NAMESPACE/VM" is "NAMESPACE-VM" in names of files. */
static bool
begins_with_vm(const char *s, const char *vm)
{
	for (; *vm != 0; vm++, s++)
		if (*s != (*vm == '/' ? '-' : *vm))
			return false;
	return *s == '-';
}

enum disk_name_kind
disk_name(const char *vm, const char *file, char *out, size_t room)
{
	const char *slash = strrchr(file, '/');
	const char *name = slash != NULL ? slash + 1 : file;
	enum disk_name_kind kind = DISK_NAME_OTHER;
	size_t len = strlen(name);

	for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		size_t n = strlen(ends[i].end);

		if (len > n && strcasecmp(name + len - n, ends[i].end) == 0) {
			kind = ends[i].kind;
			len -= n;
			break;
		}
	}
	if (begins_with_vm(name, vm) && len > strlen(vm) + 1) {
		len -= strlen(vm) + 1;
		name += strlen(vm) + 1;
	}
	out[0] = 0;
	if (len >= room)
		return kind;
	memcpy(out, name, len);
	out[len] = 0;
	if (!name_part_ok(out))
		out[0] = 0;
	return kind;
}
