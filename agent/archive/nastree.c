/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/archive/nastree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/image/imgfile.h"
#include "proto/base/buf.h"

/* Two digits at ${s}. */
static int
two(const char *s)
{
	return (s[0] - '0') * 10 + (s[1] - '0');
}

int
nastree_time(const char *when, uint64_t *out)
{
	static const char form[] = "dddd.dd.dd.dd.dd.dd";
	struct tm tm = { 0 };
	int month, day;
	time_t t;

	for (int i = 0; form[i] != 0; i++)
		if (form[i] == 'd' ? when[i] < '0' || when[i] > '9'
				   : when[i] != '.')
			return ERR_INVAL;
	if (when[NASTREE_WHEN_LEN] != 0)
		return ERR_INVAL;
	month = two(when + 5);
	day = two(when + 8);
	tm.tm_year = two(when) * 100 + two(when + 2) - 1900;
	tm.tm_mon = month - 1;
	tm.tm_mday = day;
	tm.tm_hour = two(when + 11);
	tm.tm_min = two(when + 14);
	tm.tm_sec = two(when + 17);
	tm.tm_isdst = -1;
	if (tm.tm_year < 70 || month < 1 || month > 12 || day < 1 ||
	    tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 59)
		return ERR_INVAL;
	t = mktime(&tm);
	/* The 31st of April would be another day. */
	if (t < 0 || tm.tm_mon != month - 1 || tm.tm_mday != day)
		return ERR_INVAL;
	*out = (uint64_t)t;
	return 0;
}

bool
nastree_is_point(const char *path)
{
	size_t n = strlen(path);
	uint64_t t;
	char when[NASTREE_WHEN_LEN + 1];

	while (n > 0 && path[n - 1] == '/')
		n--;
	if (n < NASTREE_WHEN_LEN ||
	    (n > NASTREE_WHEN_LEN && path[n - NASTREE_WHEN_LEN - 1] != '/'))
		return false;
	memcpy(when, path + n - NASTREE_WHEN_LEN, NASTREE_WHEN_LEN);
	when[NASTREE_WHEN_LEN] = 0;
	return nastree_time(when, &t) == 0;
}

static bool
is_kind(int dirfd, const char *name, mode_t kind)
{
	struct stat st;

	return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    (st.st_mode & S_IFMT) == kind;
}

/* A folder beneath ${dirfd}, no link; ${path} is for messages. */
static int
folder_open(
    int dirfd, const char *name, const char *path, DIR **out, struct err *e)
{
	int fd = openat(dirfd, name,
	    O_RDONLY | O_DIRECTORY | O_CLOEXEC |
		(dirfd == AT_FDCWD ? 0 : O_NOFOLLOW));

	*out = NULL;
	if (fd == -1) {
		int rc = imgfile_open_error(e, path);

		return rc != 0 ? rc : ERR_SYS;
	}
	*out = fdopendir(fd);
	if (*out == NULL) {
		imgfile_sys(e, path, "open");
		close(fd);
		return ERR_SYS;
	}
	return 0;
}

static int
skip(struct nastree *t, const char *name, const char *when, const char *why,
    struct err *e)
{
	struct nastree_skipped *s;

	if (t->nskipped == NASTREE_INSTANCES_MAX)
		return err_set(e, ERR_LIMIT,
		    "%s: has too much that is none of CloudStack's", t->root);
	if ((t->nskipped & (t->nskipped - 1)) == 0)
		t->skipped = xrealloc(t->skipped,
		    (t->nskipped > 0 ? 2 * t->nskipped : 1) *
			sizeof(*t->skipped));
	s = &t->skipped[t->nskipped++];
	snprintf(s->instance, sizeof(s->instance), "%s", name);
	snprintf(s->when, sizeof(s->when), "%s", when);
	snprintf(s->why, sizeof(s->why), "%s", why);
	return 0;
}

/* A link, which is not followed, to a folder. */
static bool
is_folder_link(int dirfd, const char *name)
{
	struct stat st;

	return is_kind(dirfd, name, S_IFLNK) &&
	    fstatat(dirfd, name, &st, 0) == 0 && S_ISDIR(st.st_mode);
}

static int
point_order(const void *a, const void *b)
{
	const struct nastree_point *x = a, *y = b;

	if (x->time != y->time)
		return x->time < y->time ? -1 : 1;
	return strcmp(x->when, y->when);
}

static int
instance_order(const void *a, const void *b)
{
	return strcmp(((const struct nastree_instance *)a)->name,
	    ((const struct nastree_instance *)b)->name);
}

/* Written as the time of a point is. */
static bool
looks_like_point(const char *name)
{
	return strlen(name) >= NASTREE_WHEN_LEN &&
	    strspn(name, "0123456789.") >= NASTREE_WHEN_LEN && name[4] == '.' &&
	    name[7] == '.' && name[10] == '.';
}

/* No point that can be taken. */
static int
other(struct nastree *t, DIR *d, const char *instance, const char *name,
    struct err *e)
{
	if (!looks_like_point(name))
		return 0;
	if (is_folder_link(dirfd(d), name))
		return skip(
		    t, instance, name, "it is a link, and not followed", e);
	if (is_kind(dirfd(d), name, S_IFDIR))
		return skip(t, instance, name, "that is no time", e);
	return 0;
}

static int
scan_instance(struct nastree *t, DIR *d, const char *name, const char *path,
    struct nastree_instance *i, struct err *e)
{
	const struct dirent *de;
	size_t cap = 0;

	while (errno = 0, (de = readdir(d)) != NULL) {
		struct nastree_point p;

		if (nastree_time(de->d_name, &p.time) != 0 ||
		    !is_kind(dirfd(d), de->d_name, S_IFDIR)) {
			int rc = other(t, d, name, de->d_name, e);

			if (rc != 0)
				return rc;
			continue;
		}
		if (i->npoints == NASTREE_POINTS_MAX)
			return err_set(e, ERR_LIMIT,
			    "%s: has more than %d points in time", path,
			    NASTREE_POINTS_MAX);
		memcpy(p.when, de->d_name, sizeof(p.when));
		if (i->npoints == cap) {
			cap = cap == 0 ? 32 : 2 * cap;
			i->point = xrealloc(i->point, cap * sizeof(*i->point));
		}
		i->point[i->npoints++] = p;
	}
	if (errno != 0)
		return imgfile_sys(e, path, "read");
	if (i->npoints == 0)
		return 0;
	qsort(i->point, i->npoints, sizeof(*i->point), point_order);
	/* Where a clock is put forward two local times can be one. */
	for (size_t k = 1; k < i->npoints; k++)
		if (i->point[k].time <= i->point[k - 1].time)
			i->point[k].time = i->point[k - 1].time + 1;
	return 0;
}

static int
add_instance(
    struct nastree *t, size_t *cap, DIR *top, const char *name, struct err *e)
{
	struct nastree_instance i = { .npoints = 0 };
	char *path = xasprintf("%s/%s", t->root, name);
	DIR *d;
	int rc;

	rc = folder_open(dirfd(top), name, path, &d, e);
	if (rc == 0) {
		rc = scan_instance(t, d, name, path, &i, e);
		closedir(d);
	} else if (name_part_ok(name)) {
		rc = skip(t, name, "", e->text, e);
	} else {
		rc = 0; /* "lost+found", or others' like it */
	}
	free(path);
	if (rc != 0 || i.npoints == 0) {
		free(i.point);
		return rc;
	}
	memcpy(i.name, name, strlen(name) + 1);
	if (t->ninstances == *cap) {
		*cap = *cap == 0 ? 32 : 2 * *cap;
		t->instance =
		    xrealloc(t->instance, *cap * sizeof(*t->instance));
	}
	t->instance[t->ninstances++] = i;
	return 0;
}

static int
top_entry(
    struct nastree *t, size_t *cap, DIR *top, const char *name, struct err *e)
{
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return 0;
	if (is_folder_link(dirfd(top), name))
		return skip(t, name, "",
		    "it is a link, and not followed: import the folder itself, "
		    "as import VM FOLDER",
		    e);
	if (!is_kind(dirfd(top), name, S_IFDIR))
		return 0;
	return add_instance(t, cap, top, name, e);
}

static int
scan(struct nastree *t, DIR *top, struct err *e)
{
	const struct dirent *de;
	size_t cap = 0;
	int rc;

	while (errno = 0, (de = readdir(top)) != NULL) {
		if (t->ninstances == NASTREE_INSTANCES_MAX)
			return err_set(e, ERR_LIMIT,
			    "%s: has more than %d instances", t->root,
			    NASTREE_INSTANCES_MAX);
		rc = top_entry(t, &cap, top, de->d_name, e);
		if (rc != 0)
			return rc;
	}
	if (errno != 0)
		return imgfile_sys(e, t->root, "read");
	if (t->ninstances == 0 && t->nskipped == 0)
		return err_set(e, ERR_NOENT,
		    "%s: there is no INSTANCE/YYYY.MM.DD.HH.MM.SS in it: name "
		    "the folder that CloudStack's backup repository is",
		    t->root);
	if (t->ninstances > 0)
		qsort(t->instance, t->ninstances, sizeof(*t->instance),
		    instance_order);
	return 0;
}

int
nastree_scan(const char *root, struct nastree **out, struct err *e)
{
	struct nastree *t = xcalloc(1, sizeof(*t));
	DIR *top;
	int rc;

	t->root = xstrdup(root);
	rc = folder_open(AT_FDCWD, root, root, &top, e);
	if (rc == 0) {
		rc = scan(t, top, e);
		closedir(top);
	}
	if (rc != 0) {
		nastree_free(t);
		return rc;
	}
	*out = t;
	return 0;
}

void
nastree_free(struct nastree *t)
{
	if (t == NULL)
		return;
	for (size_t i = 0; i < t->ninstances; i++)
		free(t->instance[i].point);
	free(t->instance);
	free(t->skipped);
	free(t->root);
	free(t);
}
