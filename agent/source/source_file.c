/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/source/source_kinds.h"
#include "agent/source/source_mem.h"

int
source_file_open(
    const char *path, const char *format, struct source **out, struct err *e)
{
	struct imgfile *f;
	int rc;

	rc = imgfile_open_unlocked(path, &f, e);
	if (rc != 0)
		return rc;
	*out = source_raw_new(f);
	(*out)->format = format;
	return 0;
}
