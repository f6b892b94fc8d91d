/* SPDX-License-Identifier: Apache-2.0 */
/* One point in time of such a tree: its files, and what they stand on. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/archive/nastree.h"
#include "agent/image/imgfile.h"
#include "agent/source/source_mem.h"
#include "proto/base/buf.h"

#define DEFINITION "domain-config.xml"
/* Is there from the beginning of a backup to its end. */
#define UNFINISHED "backup.xml"

/* Of "root.VOLUME.qcow2", "datadisk.VOLUME.qcow2", also with a number and a
 * point before it: the disk's name; false: it is no disk. */
static bool
disk_name(const char *file, const char **name, size_t *len)
{
	size_t n = strlen(file), digits = strspn(file, "0123456789");

	if (n < 6 || strcmp(file + n - 6, ".qcow2") != 0)
		return false;
	*name = file;
	*len = n - 6;
	if (digits > 0 && file[digits] == '.') {
		*name += digits + 1;
		*len -= digits + 1;
	}
	return strncmp(*name, "root.", 5) == 0 ||
	    strncmp(*name, "datadisk.", 9) == 0;
}

static int
add_disk(struct nastree_files *f, const char *file, struct err *e)
{
	struct nastree_disk *d = &f->disk[f->ndisks];
	const char *name;
	size_t len;

	if (!disk_name(file, &name, &len))
		return 0;
	if (f->ndisks == MANIFEST_VOLUMES_MAX - 1)
		return err_set(e, ERR_LIMIT, "it has more than %d disks",
		    MANIFEST_VOLUMES_MAX - 1);
	/* There is one, and after a reinstall its volume is another. */
	if (strncmp(name, "root.", 5) == 0)
		len = 4;
	if (len <= NAME_PART_MAX) {
		memcpy(d->name, name, len);
		d->name[len] = 0;
	}
	if (len > NAME_PART_MAX || !name_part_ok(d->name) ||
	    strlen(file) >= sizeof(d->file))
		return err_set(e, ERR_INVAL,
		    "it has a disk whose name is too long or has other "
		    "characters than letters, digits, '.', '_' and '-'");
	memcpy(d->file, file, strlen(file) + 1);
	for (unsigned i = 0; i < f->ndisks; i++)
		if (strcmp(f->disk[i].name, d->name) == 0)
			return err_set(
			    e, ERR_INVAL, "it has two disks %s", d->name);
	f->ndisks++;
	return 0;
}

static int
disk_order(const void *a, const void *b)
{
	const char *x = ((const struct nastree_disk *)a)->name;
	const char *y = ((const struct nastree_disk *)b)->name;
	bool x_root = strcmp(x, "root") == 0, y_root = strcmp(y, "root") == 0;

	if (x_root != y_root)
		return x_root ? -1 : 1;
	return strcmp(x, y);
}

static char *
path_of(const struct nastree *t, const struct nastree_instance *i,
    const char *when, const char *file)
{
	return xasprintf("%s/%s/%s%s%s", t->root, i->name, when,
	    file[0] != 0 ? "/" : "", file);
}

/* None of what leads from the root of the tree to that file is a link. */
static int
no_links(const struct nastree *t, const struct nastree_instance *i,
    const char *when, const char *file, struct err *e)
{
	char *path[3] = { xasprintf("%s/%s", t->root, i->name),
		path_of(t, i, when, ""), path_of(t, i, when, file) };
	unsigned n = file[0] != 0 ? 3 : 2;
	struct stat st;
	int rc = 0;

	for (unsigned k = 0; rc == 0 && k < n; k++) {
		mode_t want = k < 2 ? S_IFDIR : S_IFREG;

		if (lstat(path[k], &st) == -1)
			rc = imgfile_open_error(e, path[k]);
		else if ((st.st_mode & S_IFMT) != want)
			rc = err_set(e, ERR_INVAL,
			    "%s: is a link or of another kind than it should "
			    "be, and not followed",
			    path[k]);
	}
	for (unsigned k = 0; k < 3; k++)
		free(path[k]);
	return rc;
}

static int
look(DIR *d, const char *path, struct nastree_files *out, struct err *e)
{
	const struct dirent *de;
	int rc;

	while (errno = 0, (de = readdir(d)) != NULL) {
		if (strcmp(de->d_name, UNFINISHED) == 0)
			return err_set(e, ERR_INVAL,
			    "it is not finished: " UNFINISHED " is there");
		if (strcmp(de->d_name, DEFINITION) == 0)
			out->definition = true;
		rc = add_disk(out, de->d_name, e);
		if (rc != 0)
			return rc;
	}
	if (errno != 0)
		return imgfile_sys(e, path, "read");
	if (out->ndisks == 0)
		return err_set(e, ERR_INVAL,
		    "it has no disk: no root.VOLUME.qcow2, no "
		    "datadisk.VOLUME.qcow2");
	qsort(out->disk, out->ndisks, sizeof(out->disk[0]), disk_order);
	return 0;
}

int
nastree_look(const struct nastree *t, const struct nastree_instance *i,
    const struct nastree_point *p, struct nastree_files *out, struct err *e)
{
	char *path = path_of(t, i, p->when, "");
	DIR *d;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = no_links(t, i, p->when, "", e);
	if (rc != 0)
		goto out;
	d = opendir(path);
	if (d == NULL) {
		rc = imgfile_open_error(e, path);
		goto out;
	}
	rc = look(d, path, out, e);
	closedir(d);
out:
	free(path);
	return rc;
}

struct place {
	const struct nastree *tree;
	const struct nastree_instance *instance;
};

enum { PARTS_MAX = 64 };

/*
 * Which file of the instance a backing file's name means, as seen from the
 * image in ${when}: "WHEN" and "FILE" in ${part}, pointing into ${name}, which
 * is cut up.
 */
static bool
locate(const char *instance, char *when, char *name, const char *part[2])
{
	const char *at[PARTS_MAX];
	unsigned n = 0;
	char *save, *s;

	if (name[0] != '/') {
		at[n++] = instance;
		at[n++] = when;
	}
	for (s = strtok_r(name, "/", &save); s != NULL;
	     s = strtok_r(NULL, "/", &save)) {
		if (strcmp(s, ".") == 0)
			continue;
		if (strcmp(s, "..") == 0) {
			if (n == 0)
				return false;
			n--;
		} else if (n == PARTS_MAX) {
			return false;
		} else {
			at[n++] = s;
		}
	}
	/* A mount point of then may stand before it, if it began with one. */
	if (n < 3 || strcmp(at[n - 3], instance) != 0)
		return false;
	part[0] = at[n - 2];
	part[1] = at[n - 1];
	return true;
}

static int
place(void *arg, const char *image, const char *name, char **out, struct err *e)
{
	const struct place *p = arg;
	char *copy, *when = xstrdup(image), *slash;
	const char *part[2], *own;
	uint64_t time;
	int rc;

	if (strncmp(name, "file:", 5) == 0)
		name += 5;
	copy = xstrdup(name);
	/* ROOT/INSTANCE/WHEN/FILE: we made that path. */
	slash = strrchr(when, '/');
	*slash = 0;
	own = strrchr(when, '/') + 1;
	if (!locate(p->instance->name, when + (own - when), copy, part) ||
	    nastree_time(part[0], &time) != 0) {
		rc = err_set(e, ERR_INVAL,
		    "%s: its backing file is none of this instance's: it is "
		    "not looked for elsewhere",
		    image);
		goto out;
	}
	rc = no_links(p->tree, p->instance, part[0], part[1], e);
	if (rc == ERR_NOENT)
		rc = err_set(e, ERR_NOENT,
		    "%s: it stands on a disk of %s, which is not there any "
		    "more",
		    image, part[0]);
	if (rc == 0)
		*out = path_of(p->tree, p->instance, part[0], part[1]);
out:
	free(when);
	free(copy);
	return rc;
}

int
nastree_disk(const struct nastree *t, const struct nastree_instance *i,
    const struct nastree_point *p, const struct nastree_disk *disk,
    struct source **out, struct err *e)
{
	struct place where = { t, i };
	char *path = path_of(t, i, p->when, disk->file);
	int rc;

	rc = no_links(t, i, p->when, disk->file, e);
	if (rc == 0)
		rc = source_open_chain(path, place, &where, out, e);
	free(path);
	return rc;
}

int
nastree_definition(const struct nastree *t, const struct nastree_instance *i,
    const struct nastree_point *p, struct source **out, struct err *e)
{
	char *path = path_of(t, i, p->when, DEFINITION);
	bool whole;
	int rc;

	rc = no_links(t, i, p->when, DEFINITION, e);
	if (rc == 0)
		rc = source_file_copy(path, "libvirt-xml",
		    NASTREE_DEFINITION_MAX, &whole, out, e);
	if (rc == 0 && (*out)->size == 0) {
		source_close(*out);
		*out = NULL;
	}
	free(path);
	return rc;
}
