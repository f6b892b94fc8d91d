/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/image/imgfile.h"
#include "agent/sink/swap_impl.h"
#include "proto/base/bytes.h"
#include "proto/base/io.h"
#include "proto/base/json.h"

enum { JOURNAL_FORMAT = 1, JOURNAL_MAX = 1 << 20 };

char *
swap_journal_name(const char *name)
{
	return xasprintf(".%s.swap", name);
}

struct swap *
swap_new(void)
{
	return xcalloc(1, sizeof(struct swap));
}

int
swap_add(struct swap *w, const char *dir, const char *name, struct err *e)
{
	struct swap_disk *d = &w->disk[w->n];

	d->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->dirfd == -1)
		return imgfile_open_error(e, dir);
	d->dir = xstrdup(dir);
	d->name = xstrdup(name);
	d->tmp = xasprintf(".%s.restoring", name);
	d->old = xasprintf(".%s.replaced", name);
	d->journal = swap_journal_name(name);
	d->lock[0] = d->lock[1] = -1;
	w->n++;
	return 0;
}

void
swap_free(struct swap *w)
{
	for (unsigned i = 0; w != NULL && i < w->n; i++) {
		struct swap_disk *d = &w->disk[i];

		for (int k = 0; k < 2; k++)
			if (d->lock[k] != -1)
				close(d->lock[k]);
		close(d->dirfd);
		free(d->dir);
		free(d->name);
		free(d->tmp);
		free(d->old);
		free(d->journal);
		free(d->kept);
	}
	free(w);
}

/* All 64 bits of it, which JSON has as a signed number. */
static void
set_inode(json_t *j, const char *key, uint64_t ino)
{
	json_object_set_new(j, key, json_integer((json_int_t)ino));
}

static int
get_inode(const json_t *j, const char *key, uint64_t *out, struct err *e)
{
	const json_t *v = json_object_get(j, key);

	if (!json_is_integer(v))
		return err_set(e, ERR_PROTO, "\"%s\" is not a number", key);
	*out = (uint64_t)json_integer_value(v);
	return 0;
}

int
swap_note(const struct swap *w, unsigned i, struct err *e)
{
	json_t *j = json_object(), *disks = json_array();
	struct buf text = { 0 };
	int rc;

	json_set_u64(j, "format", JOURNAL_FORMAT);
	json_set_hex(j, "id", w->id, sizeof(w->id));
	if (w->stamp[0] != 0)
		json_set_str(j, "keep", w->stamp);
	for (unsigned k = 0; k < w->n; k++) {
		json_t *d = json_object();

		json_set_str(d, "dir", w->disk[k].dir);
		json_set_str(d, "name", w->disk[k].name);
		set_inode(d, "new", w->disk[k].new_ino);
		set_inode(d, "old", w->disk[k].old_ino);
		json_array_append_new(disks, d);
	}
	json_object_set_new(j, "disks", disks);
	json_print(j, &text);
	json_decref(j);
	rc = file_replace(
	    w->disk[i].dirfd, w->disk[i].journal, text.data, text.len, 0600);
	buf_fini(&text);
	return rc == 0
	    ? 0
	    : err_set(e, rc, "%s/%s: cannot be written: %s", w->disk[i].dir,
		  w->disk[i].journal,
		  rc == ERR_NOSPC ? "no space is left" : "the log says why");
}

static int
disk_from_json(struct swap *w, json_t *j, struct err *e)
{
	const char *dir = "", *name = "";
	uint64_t new_ino = 0, old_ino = 0;
	int rc;

	rc = json_get_str(j, "dir", &dir, e);
	if (rc == 0)
		rc = json_get_str(j, "name", &name, e);
	if (rc == 0)
		rc = get_inode(j, "new", &new_ino, e);
	if (rc == 0)
		rc = get_inode(j, "old", &old_ino, e);
	if (rc == 0 &&
	    (dir[0] != '/' || name[0] == 0 || strchr(name, '/') != NULL))
		rc = err_set(e, ERR_PROTO, "no place of a disk");
	if (rc == 0)
		rc = swap_add(w, dir, name, e);
	if (rc != 0)
		return rc;
	w->disk[w->n - 1].new_ino = new_ino;
	w->disk[w->n - 1].old_ino = old_ino;
	return 0;
}

static int
from_json(struct swap *w, const json_t *j, struct err *e)
{
	const char *stamp = "";
	uint64_t format;
	json_t *disks;
	int rc;

	rc = json_get_u64(j, "format", &format, e);
	if (rc == 0 && format != JOURNAL_FORMAT)
		rc = err_set(e, ERR_PROTO, "of another format");
	if (rc == 0)
		rc = json_get_hex(j, "id", w->id, sizeof(w->id), e);
	if (rc == 0)
		rc = json_opt_str(j, "keep", &stamp, e);
	if (rc == 0)
		rc = json_get_array(j, "disks", &disks, e);
	if (rc == 0 &&
	    (strlen(stamp) >= sizeof(w->stamp) || strchr(stamp, '/') != NULL ||
		json_array_size(disks) == 0 ||
		json_array_size(disks) > MANIFEST_VOLUMES_MAX))
		rc = err_set(e, ERR_PROTO, "of what nobody wrote");
	if (rc != 0)
		return rc;
	memcpy(w->stamp, stamp, strlen(stamp) + 1);
	for (size_t i = 0; rc == 0 && i < json_array_size(disks); i++)
		rc = disk_from_json(w, json_array_get(disks, i), e);
	return rc;
}

/* Another swap's journal may have its place by now: that one needs it. */
static bool
is_ours(const struct swap *w, const struct swap_disk *d)
{
	uint8_t id[SWAP_ID_LEN];
	struct buf text = { 0 };
	json_t *j = NULL;
	bool is = false;

	if (file_read(d->dirfd, d->journal, JOURNAL_MAX, &text) == 0 &&
	    json_parse(text.data, text.len, &j, NULL) == 0)
		is = json_get_hex(j, "id", id, sizeof(id), NULL) == 0 &&
		    memcmp(id, w->id, sizeof(id)) == 0;
	json_decref(j);
	buf_fini(&text);
	return is;
}

int
swap_forget(const struct swap *w, unsigned i)
{
	const struct swap_disk *d = &w->disk[i];

	if (is_ours(w, d) && unlinkat(d->dirfd, d->journal, 0) == -1 &&
	    errno != ENOENT)
		return -1;
	return fsync(d->dirfd);
}

int
swap_read(int dirfd, const char *journal, const char *path, struct swap **out,
    struct err *e)
{
	struct buf text = { 0 };
	struct swap *w;
	json_t *j;
	int rc;

	*out = NULL;
	rc = file_read(dirfd, journal, JOURNAL_MAX, &text);
	if (rc == ERR_NOENT) {
		buf_fini(&text);
		return 0;
	}
	if (rc != 0) {
		buf_fini(&text);
		return err_set(e, rc == ERR_LIMIT ? ERR_CORRUPT : rc,
		    "%s: its %s %s", path, journal,
		    rc == ERR_LIMIT ? "is too long for what it is"
				    : "cannot be read");
	}
	w = swap_new();
	rc = json_parse(text.data, text.len, &j, e);
	if (rc == 0) {
		rc = from_json(w, j, e);
		json_decref(j);
	}
	buf_fini(&text);
	if (rc == 0) {
		*out = w;
		return 0;
	}
	swap_free(w);
	if (rc == ERR_PROTO)
		e->code = ERR_CORRUPT;
	return err_prefix(e, "%s: its %s", path, journal);
}
