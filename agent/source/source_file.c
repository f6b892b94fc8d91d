/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/source/source_kinds.h"
#include "agent/source/source_mem.h"
#include "proto/base/buf.h"

int
source_file_open(
    const char *path, const char *format, struct source **out, struct err *e)
{
	struct imgfile *f = xcalloc(1, sizeof(*f));
	struct stat st;
	int rc;

	/* Without O_NONBLOCK a named pipe would keep us here for ever. */
	f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (f->fd == -1) {
		rc = imgfile_open_error(e, path);
		goto err_free;
	}
	if (fstat(f->fd, &st) == -1) {
		rc = imgfile_sys(e, path, "stat");
		goto err_close;
	}
	if (!S_ISREG(st.st_mode)) {
		rc = err_set(e, ERR_INVAL, "%s: is no regular file", path);
		goto err_close;
	}
	f->size = (uint64_t)st.st_size;
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	f->path = xstrdup(path);
	*out = source_raw_new(f);
	(*out)->format = format;
	return 0;
err_close:
	close(f->fd);
err_free:
	free(f);
	return rc;
}
