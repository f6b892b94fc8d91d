/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/archive/import.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/archive/head.h"
#include "agent/image/imgfile.h"
#include "agent/qcow2/header.h"
#include "agent/source/source.h"
#include "proto/base/buf.h"

/* Who packs what was unpacked may have put it into a folder. */
static bool
is_own(const char *name)
{
	const char *slash = strrchr(name, '/');

	return strcmp(slash != NULL ? slash + 1 : name, HEAD_FIRST) == 0;
}

/* ${fd} is at its beginning. */
static int
run_fd(const struct import_options *o, int fd, bool rewinds,
    struct backup_result *out, struct err *e)
{
	const char *what = rewinds ? o->from : "the standard input";
	struct arcin *a;
	int rc;

	rc = arcin_open(fd, what, &a, e);
	if (rc != 0)
		return rc;
	rc = a != NULL ? arcin_next(a, e) : ERR_UNSUP;
	if (rc == 0 && is_own(arcin_member(a)->name))
		rc = import_own(o, a, out, e);
	else if (rc == 0)
		rc = import_foreign(o, a, out, e);
	/* A disk may begin with zeroes, as an archive without members does. */
	else if (rc == ERR_NOENT && a != NULL && arcin_began(a))
		rc = arcin_fail(
		    a, ERR_INVAL, e, "has no disks, but folders only");
	else if ((rc == ERR_NOENT || rc == ERR_UNSUP) && rewinds)
		rc = import_foreign(o, NULL, out, e);
	else if (rc == ERR_NOENT || rc == ERR_UNSUP)
		rc = err_set(e, ERR_UNSUP,
		    "%s: is no archive; of an image say the file's name", what);
	arcin_close(a);
	return rc;
}

/* An image is taken for what it is before anything else. */
static bool
is_image(int fd, const struct stat *st)
{
	uint8_t magic[QCOW2_MAGIC_LEN];

	return S_ISBLK(st->st_mode) ||
	    (pread(fd, magic, sizeof(magic), 0) == sizeof(magic) &&
		memcmp(magic, QCOW2_MAGIC, sizeof(magic)) == 0);
}

static int
run_path(
    const struct import_options *o, struct backup_result *out, struct err *e)
{
	struct stat st;
	bool image;
	int fd, rc;

	fd = open(o->from, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd == -1)
		return imgfile_open_error(e, o->from);
	if (fstat(fd, &st) == -1) {
		rc = imgfile_sys(e, o->from, "stat");
		goto out;
	}
	if (S_ISDIR(st.st_mode)) {
		rc = err_set(e, ERR_INVAL,
		    "%s: is a folder: of CloudStack's NAS backups say "
		    "--cloudstack",
		    o->from);
		goto out;
	}
	/* A pipe is to be waited for. */
	if (fcntl(fd, F_SETFL, 0) == -1) {
		rc = imgfile_sys(e, o->from, "open");
		goto out;
	}
	image = is_image(fd, &st);
	if (image)
		rc = import_foreign(o, NULL, out, e);
	else
		rc = run_fd(o, fd, S_ISREG(st.st_mode), out, e);
out:
	close(fd);
	return rc;
}

/* What a person named, as far as there is room for it. */
static void
name_source(const struct import_options *o, struct buf *out)
{
	const char *from = o->from;

	if (from != NULL && strcmp(from, "-") == 0)
		from = "the standard input";
	buf_printf(out, "%s", from != NULL ? from : "");
	for (unsigned i = 0; from == NULL && i < o->ndisks; i++)
		buf_printf(out, "%s%s", i > 0 ? ", " : "", o->disk[i].spec);
	if (out->len <= BACKUP_IMPORT_MAX)
		return;
	out->len = 0;
	if (from != NULL)
		buf_printf(out, "%.*s", BACKUP_IMPORT_MAX, from);
	else
		buf_printf(out, "%u images, the first: %.2000s", o->ndisks,
		    o->disk[0].spec);
}

static int
run(const struct import_options *o, struct backup_result *out, struct err *e)
{
	if (o->from == NULL)
		return import_foreign(o, NULL, out, e);
	if (strcmp(o->from, "-") == 0 && isatty(STDIN_FILENO))
		return err_set(e, ERR_INVAL,
		    "the standard input is a terminal: say the file, or send "
		    "an archive to it");
	if (strcmp(o->from, "-") == 0)
		return run_fd(o, STDIN_FILENO, false, out, e);
	/* Whose format is said is an image. */
	if (source_path(o->from) != o->from)
		return import_foreign(o, NULL, out, e);
	return run_path(o, out, e);
}

int
import_run(
    const struct import_options *o, struct backup_result *out, struct err *e)
{
	struct import_options named = *o;
	struct buf source = { 0 };
	int rc;

	memset(out, 0, sizeof(*out));
	name_source(o, &source);
	named.backup.import = buf_cstr(&source);
	rc = run(&named, out, e);
	buf_fini(&source);
	return rc;
}
