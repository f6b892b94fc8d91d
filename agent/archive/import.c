/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/archive/import.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/archive/head.h"

static bool
is_own(const char *name)
{
	const char *slash = strrchr(name, '/');

	return strcmp(slash != NULL ? slash + 1 : name, HEAD_FIRST) == 0;
}

static int
take_archive(const struct import_options *o, int fd, struct backup_result *out,
    struct err *e)
{
	const char *what =
	    strcmp(o->from, "-") == 0 ? "the standard input" : o->from;
	struct arcin *a;
	int rc = arcin_open(fd, what, &a, e);

	if (rc != 0)
		return rc;
	if (a == NULL)
		return import_foreign(o, NULL, out, e);
	rc = arcin_next(a, e);
	if (rc == 0 && is_own(arcin_member(a)->name))
		rc = import_own(o, a, out, e);
	else if (rc == 0)
		rc = import_foreign(o, a, out, e);
	else if (rc == ERR_UNSUP)
		rc = import_foreign(o, NULL, out, e);
	else if (rc == ERR_NOENT)
		rc = arcin_fail(a, ERR_INVAL, e, "it is empty");
	arcin_close(a);
	return rc;
}

int
import_run(
    const struct import_options *o, struct backup_result *out, struct err *e)
{
	struct stat st;
	int fd, rc;

	memset(out, 0, sizeof(*out));
	if (strcmp(o->from, "-") == 0)
		return take_archive(o, STDIN_FILENO, out, e);
	/* Not held up by a pipe that nobody writes to. */
	fd = open(o->from, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd == -1)
		return err_set(e,
		    errno == ENOENT       ? ERR_NOENT
			: errno == EACCES ? ERR_DENIED
					  : ERR_SYS,
		    "%.200s: %s", o->from, strerror(errno));
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		rc = take_archive(o, fd, out, e);
	else
		rc = import_foreign(o, NULL, out, e);
	close(fd);
	return rc;
}
