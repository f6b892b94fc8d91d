/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the files of a machine go, and that they get there.  Disks and what
 * belongs to them get their names when all of all is verified; the memory's
 * files are in a folder of ours that goes when the machine has them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/live/live_restore_impl.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

static const struct live_target *
chosen(const struct lr *r, const char *name)
{
	for (unsigned i = 0; i < r->o->ntargets; i++)
		if (strcmp(r->o->target[i].name, name) == 0)
			return &r->o->target[i];
	return NULL;
}

static char *
folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (slash == NULL)
		return xstrdup(".");
	return slash == path ? xstrdup("/")
			     : xasprintf("%.*s", (int)(slash - path), path);
}

static bool
is_device(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISBLK(st.st_mode);
}

static struct lr_file *
add_file(struct lr *r, const struct manifest_volume *v, char *path,
    const char *format)
{
	struct lr_file *f = &r->file[r->nfiles++];
	struct stat st;

	f->volume = v;
	f->path = path;
	f->format = format;
	f->is_new = lstat(path, &st) == -1 && errno == ENOENT;
	return f;
}

/* An image's format, as far as one can be written. */
static const char *
disk_format(
    const struct lr_disk *d, const struct live_target *t, const char *path)
{
	if (t != NULL && t->format != NULL)
		return t->format;
	if (is_device(path))
		return "raw";
	return d->format != NULL && strcmp(d->format, "raw") != 0 ? "qcow2"
								  : "raw";
}

static int
plan_disk(struct lr *r, const struct manifest_volume *v, struct err *e)
{
	const struct live_target *t = chosen(r, v->name);
	const struct lr_disk *d = lr_find_disk(r, v->name);
	const char *format;
	char *path;

	if (d == NULL)
		return err_set(e, ERR_UNSUP,
		    "the machine's definition does not say where its disk %s "
		    "is: restore the disks with --disk, without --start",
		    v->name);
	if (t == NULL && r->o->dir == NULL &&
	    (r->o->clone != NULL || d->path == NULL))
		return err_set(e, ERR_INVAL,
		    d->path == NULL
			? "disk %s was no file: say --disk %s=TARGET or --dir"
			: "disk %s: a clone needs a place of its own for it: "
			  "say --disk %s=TARGET or --dir",
		    v->name, v->name);
	if (t != NULL)
		path = xstrdup(t->path);
	else if (r->o->dir == NULL)
		path = xstrdup(d->path);
	else
		path = xasprintf("%s/%s-%s.%s", r->home, r->name, v->name,
		    disk_format(d, NULL, ""));
	format = disk_format(d, t, path);
	if (path[0] != '/') {
		char *dir = folder_of(path), *real = realpath(dir, NULL);
		char *whole = real == NULL
		    ? NULL
		    : xasprintf("%s/%s", real,
			  strrchr(path, '/') == NULL ? path
						     : strrchr(path, '/') + 1);

		free(dir);
		free(real);
		if (whole == NULL) {
			int rc = err_set(
			    e, ERR_NOENT, "%s: there is no such folder", path);

			free(path);
			return rc;
		}
		free(path);
		path = whole;
	}
	if (d->nvram)
		format = "raw"; /* its file as it was, whatever is in it */
	add_file(r, v, path, format);
	return 0;
}

/* Files of an emulated TPM: libvirt has a place for them, a plain QEMU's was
 * its emulator's business. */
static int
plan_tpm(struct lr *r, const struct manifest_volume *v, struct err *e)
{
	const struct live_target *t = chosen(r, v->name);
	char *dir, *path;

	if (t != NULL) {
		add_file(r, v, xstrdup(t->path), "raw");
		return 0;
	}
	if (r->args != NULL) {
		notes_add(r->out->notes,
		    "the state of its TPM is not restored: say --disk "
		    "%s=FILE, and start the emulator with it before",
		    v->name);
		return 0;
	}
	dir = lr_libvirt_tpm_dir(r);
	if (dir == NULL)
		return err_set(e, ERR_UNSUP,
		    "where libvirt keeps the TPM's state cannot be told: say "
		    "--disk %s=FILE",
		    v->name);
	path = folder_of(dir);
	if (mkdir(path, 0711) == -1 && errno != EEXIST)
		log_sys("TPM: mkdir");
	if (mkdir(dir, 0700) == -1 && errno != EEXIST)
		log_sys("TPM: mkdir");
	free(path);
	add_file(r, v, xasprintf("%s/%s", dir, v->name), "raw");
	free(dir);
	return 0;
}

static bool
is_memory(const struct manifest_volume *v)
{
	return strcmp(v->kind, "ram") == 0 || strcmp(v->kind, "state") == 0;
}

static int
plan_one(struct lr *r, const struct manifest_volume *v, struct err *e)
{
	if (strcmp(v->kind, "definition") == 0)
		return 0;
	if (strcmp(v->kind, "tpm") == 0)
		return plan_tpm(r, v, e);
	if (!is_memory(v))
		return plan_disk(r, v, e);
	if (r->ram)
		add_file(r, v, xasprintf("%s/%s", r->ram_tmp, v->name), "raw");
	return 0;
}

/* Empties what a killed run left there. */
static int
empty(int fd, const char *path, struct err *e)
{
	int own = dup(fd);
	DIR *d = own == -1 ? NULL : fdopendir(own);
	struct dirent *it;

	if (d == NULL) {
		if (own != -1)
			close(own);
		return err_set(e, log_sys("%s: read", path),
		    "cannot read the folder %s", path);
	}
	rewinddir(d); /* where it is at is known to all that share it */
	while ((it = readdir(d)) != NULL)
		if (strcmp(it->d_name, ".") != 0 &&
		    strcmp(it->d_name, "..") != 0)
			unlinkat(fd, it->d_name, 0);
	closedir(d);
	return 0;
}

static int
make_ram_folder(struct lr *r, struct err *e)
{
	const char *dir = r->o->ram_dir != NULL ? r->o->ram_dir : r->home;

	r->ram_tmp = xasprintf("%s/.%s.ram-restoring", dir, r->name);
	if (mkdir(r->ram_tmp, 0700) == -1 && errno != EEXIST)
		return err_set(e, errno == ENOENT ? ERR_NOENT : ERR_DENIED,
		    "%s, for the memory: %m", r->ram_tmp);
	r->ram_fd =
	    open(r->ram_tmp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (r->ram_fd == -1)
		return err_set(e, log_sys("%s: open", r->ram_tmp),
		    "cannot use the folder %s", r->ram_tmp);
	if (flock(r->ram_fd, LOCK_EX | LOCK_NB) == -1) {
		close(r->ram_fd);
		r->ram_fd = -1;
		return err_set(e, ERR_BUSY,
		    "%s: another restore of that machine is under way",
		    r->ram_tmp);
	}
	return empty(r->ram_fd, r->ram_tmp, e);
}

void
lr_files_drop_ram(struct lr *r)
{
	if (r->ram_fd == -1)
		return;
	(void)empty(r->ram_fd, r->ram_tmp, NULL);
	if (rmdir(r->ram_tmp) == -1)
		log_sys("%s: remove", r->ram_tmp);
	close(r->ram_fd);
	r->ram_fd = -1;
}

/* The folder of --dir, or of the first disk. */
int
lr_files_home(struct lr *r, struct err *e)
{
	const struct live_target *t;
	const struct lr_disk *d;

	if (r->o->dir != NULL) {
		r->home = realpath(r->o->dir, NULL);
		if (r->home == NULL)
			return err_set(e, ERR_NOENT,
			    "--dir %s: %m; make that folder", r->o->dir);
		return 0;
	}
	for (unsigned i = 0; i < r->out->restore.manifest.nvolumes; i++) {
		const char *name = r->out->restore.manifest.volume[i].name;

		t = chosen(r, name);
		d = lr_find_disk(r, name);
		if (d == NULL || is_device(t != NULL ? t->path : d->path))
			continue;
		if (t != NULL || d->path != NULL) {
			r->home = folder_of(t != NULL ? t->path : d->path);
			return 0;
		}
	}
	r->home = xstrdup("/var/tmp");
	return 0;
}

/* Disks that the backup lacks: a clone would share them with the original. */
static int
check_missing(struct lr *r, struct err *e)
{
	for (unsigned i = 0; i < r->ndisks; i++) {
		const struct lr_disk *d = &r->disk[i];
		const struct manifest *m = &r->out->restore.manifest;

		if (manifest_volume_find(m, d->name) != -1)
			continue;
		if (r->o->clone != NULL && d->writable)
			return err_set(e, ERR_UNSUP,
			    "the backup does not have disk %s, which the clone "
			    "would share with the original",
			    d->name);
		notes_add(r->out->notes,
		    "disk %s is not in the backup: it stays as it is", d->name);
	}
	for (unsigned i = 0; i < r->o->ntargets; i++)
		if (manifest_volume_find(
			&r->out->restore.manifest, r->o->target[i].name) == -1)
			return err_set(e, ERR_NOENT,
			    "the backup has no disk \"%s\"",
			    r->o->target[i].name);
	return 0;
}

static int
check_targets(struct lr *r, struct err *e)
{
	for (unsigned i = 0; i < r->nfiles; i++) {
		const struct lr_file *f = &r->file[i];

		if (!f->is_new && !r->o->force)
			return err_set(e, ERR_EXIST,
			    "%s of the machine is there already (%s): --force "
			    "replaces it, --dir puts the disks elsewhere",
			    f->volume->name, f->path);
		for (unsigned k = 0; k < i; k++)
			if (strcmp(r->file[k].path, f->path) == 0)
				return err_set(e, ERR_INVAL,
				    "%s and %s would be the same file, %s",
				    r->file[k].volume->name, f->volume->name,
				    f->path);
	}
	return 0;
}

int
lr_files_plan(struct lr *r, struct err *e)
{
	const struct manifest *m = &r->out->restore.manifest;
	int rc;

	rc = check_missing(r, e);
	if (rc == 0 && r->ram)
		rc = make_ram_folder(r, e);
	for (unsigned i = 0; i < m->nvolumes && rc == 0; i++)
		rc = plan_one(r, &m->volume[i], e);
	return rc != 0 ? rc : check_targets(r, e);
}

/* What QEMU runs as is told by whose folder it is; libvirt gives files of its
 * system's to QEMU by itself. */
void
lr_give_away(const char *path)
{
	char *dir = folder_of(path);
	struct stat st, own;
	int fd = -1;

	if (stat(dir, &st) == 0 && st.st_uid != geteuid())
		fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd != -1) {
		if (fstat(fd, &own) == -1 || !S_ISREG(own.st_mode) ||
		    own.st_nlink != 1 || fchown(fd, st.st_uid, st.st_gid) == -1)
			log_info("%s stays this user's", path);
		close(fd);
	}
	free(dir);
}

int
lr_files_fetch(struct lr *r, struct err *e)
{
	struct restore_result *result = xcalloc(1, sizeof(*result));
	struct restore_disk disk[MANIFEST_VOLUMES_MAX];
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];
	struct restore_options ro = { .job = r->o->job,
		.disk = disk,
		.ndisks = r->nfiles,
		.force = r->o->force,
		.quiet = r->o->quiet };
	int rc;

	/* The very one that the definition is of. */
	ro.backup = manifest_name(&r->out->restore.manifest, name);
	for (unsigned i = 0; i < r->nfiles; i++)
		disk[i] = (struct restore_disk){ r->file[i].volume->name,
			r->file[i].path, r->file[i].format };
	rc = restore_run(&ro, result, e);
	for (unsigned i = 0; i < r->nfiles && rc == 0; i++)
		if (r->file[i].is_new && !is_memory(r->file[i].volume))
			lr_give_away(r->file[i].path);
	if (rc == 0)
		r->out->restore = *result;
	free(result);
	return rc;
}

int
lr_read(const char *path, size_t max, struct buf *out, struct err *e)
{
	int rc = file_read(AT_FDCWD, path, max, out);

	return rc == 0 ? 0 : err_set(e, rc, "%s: cannot be read", path);
}
