/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ram/backends.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/log.h"

/* A file that QEMU has mapped for all to see. */
struct mapped {
	char path[PATH_MAX];
	unsigned long ino;
	uint64_t size; /* of its mappings together */
};

enum { MAPPED_MAX = 64 };

static int
ask_property(
    struct guest *g, const char *id, const char *property, char out[PATH_MAX])
{
	json_t *args = json_object(), *j;
	char path[128];
	int rc;

	*out = 0;
	snprintf(path, sizeof(path), "/objects/%s", id);
	json_set_str(args, "path", path);
	json_set_str(args, "property", property);
	rc = guest_monitor(g, "qom-get", args, -1, &j, NULL);
	if (rc != 0)
		return rc; /* it is of a kind that has no such thing */
	if (json_is_string(j))
		snprintf(out, PATH_MAX, "%s", json_string_value(j));
	json_decref(j);
	return 0;
}

/* One line of /proc/PID/maps: shared, writable, of a file. */
static bool
parse_map(const char *line, uint64_t *len, unsigned long *ino, char *path)
{
	unsigned long long a, b;
	char perm[5], *end;
	int n = 0;

	if (sscanf(line, "%llx-%llx %4s %*x %*x:%*x %lu %n", &a, &b, perm, ino,
		&n) != 4 ||
	    n == 0 || strcmp(perm, "rw-s") != 0 || *ino == 0 || b <= a)
		return false;
	*len = b - a;
	snprintf(path, PATH_MAX, "%s", line + n);
	path[strcspn(path, "\n")] = 0;
	/* A restore takes the name away, not the file. */
	end = strstr(path, " (deleted)");
	if (end != NULL && end[strlen(" (deleted)")] == 0)
		*end = 0;
	return true;
}

static unsigned
list_mapped(int pid, struct mapped *m)
{
	char name[64], line[PATH_MAX + 128], path[PATH_MAX];
	unsigned long ino;
	unsigned n = 0;
	uint64_t len;
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%d/maps", pid);
	f = fopen(name, "re");
	if (f == NULL)
		return 0;
	while (fgets(line, sizeof(line), f) != NULL) {
		unsigned i;

		if (!parse_map(line, &len, &ino, path))
			continue;
		for (i = 0; i < n; i++)
			if (m[i].ino == ino && strcmp(m[i].path, path) == 0)
				break;
		if (i == MAPPED_MAX)
			continue;
		if (i == n) {
			n++;
			m[i].ino = ino;
			m[i].size = 0;
			snprintf(m[i].path, sizeof(m[i].path), "%s", path);
		}
		m[i].size += len;
	}
	fclose(f);
	return n;
}

/* QEMU keeps what it maps open, whatever became of its name since. */
static int
open_mapped(int pid, const struct mapped *m, int mode)
{
	char name[64], target[PATH_MAX];
	struct dirent *d;
	struct stat st;
	int found = -1;
	ssize_t n;
	DIR *dir;

	snprintf(name, sizeof(name), "/proc/%d/fd", pid);
	dir = opendir(name);
	if (dir == NULL)
		return -1;
	while (found == -1 && (d = readdir(dir)) != NULL) {
		n = readlinkat(
		    dirfd(dir), d->d_name, target, sizeof(target) - 1);
		if (n <= 0)
			continue;
		target[n] = 0;
		if (fstatat(dirfd(dir), d->d_name, &st, 0) != 0 ||
		    st.st_ino != m->ino || !S_ISREG(st.st_mode))
			continue;
		found = openat(dirfd(dir), d->d_name, mode | O_CLOEXEC);
	}
	closedir(dir);
	return found;
}

/* Is this the file of that backend, by its name? */
static bool
named_so(const struct mapped *m, const char *mem_path, const char *id)
{
	char part[128];
	size_t n = strlen(mem_path), all = strlen(m->path);

	if (n == 0)
		return false;
	/* Another root's paths end alike. */
	if (all >= n && strcmp(m->path + all - n, mem_path) == 0)
		return true;
	snprintf(part, sizeof(part), "/qemu_back_mem.%s.", id);
	return strstr(m->path, part) != NULL;
}

static void
open_backend(struct guest *g, struct ram_backend *b, const char *mem_path,
    const struct mapped *m, unsigned n, int mode)
{
	const struct mapped *best = NULL;
	unsigned fits = 0;
	struct stat st;

	for (unsigned i = 0; i < n; i++) {
		if (m[i].size < b->size)
			continue;
		if (b->named && named_so(&m[i], mem_path, b->id)) {
			best = &m[i];
			fits = 1;
			break;
		}
		if (!b->named && m[i].size == b->size) {
			best = &m[i];
			fits++;
		}
	}
	if (fits != 1)
		return;
	b->fd = open_mapped(guest_pid(g), best, mode);
	if (b->fd == -1)
		return;
	if (fstat(b->fd, &st) != 0 || (uint64_t)st.st_size != b->size) {
		close(b->fd);
		b->fd = -1;
	}
}

static int
parse_backend(const json_t *j, struct ram_backend *b, struct err *e)
{
	const char *id;
	int rc;

	rc = json_get_str(j, "id", &id, e);
	if (rc == 0)
		rc = json_get_u64(j, "size", &b->size, e);
	if (rc == 0 && strlen(id) >= sizeof(b->id))
		rc = err_set(e, ERR_LIMIT, "memory backend with a long name");
	if (rc != 0)
		return rc;
	snprintf(b->id, sizeof(b->id), "%s", id);
	json_opt_bool(j, "share", &b->share, NULL);
	b->fd = -1;
	return 0;
}

int
backends_find(
    struct guest *g, bool write, struct ram_backends *out, struct err *e)
{
	struct ram_backend *b;
	struct mapped *m;
	char path[PATH_MAX];
	json_t *list, *j;
	unsigned n = 0;
	size_t i;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = guest_monitor(g, "query-memdev", NULL, -1, &list, e);
	if (rc != 0)
		return rc;
	m = xcalloc(MAPPED_MAX, sizeof(*m));
	if (guest_pid(g) != 0)
		n = list_mapped(guest_pid(g), m);
	json_array_foreach(list, i, j)
	{
		if (out->n == RAM_BACKENDS_MAX) {
			rc = err_set(e, ERR_LIMIT,
			    "the guest has more than %d memory backends",
			    RAM_BACKENDS_MAX);
			break;
		}
		rc = parse_backend(j, &out->b[out->n], e);
		if (rc != 0)
			break;
		b = &out->b[out->n];
		b->named = ask_property(g, b->id, "mem-path", path) == 0;
		if (b->share)
			open_backend(
			    g, b, path, m, n, write ? O_RDWR : O_RDONLY);
		out->n++;
	}
	free(m);
	json_decref(list);
	if (rc != 0)
		backends_close(out);
	return rc;
}

void
backends_close(struct ram_backends *b)
{
	for (unsigned i = 0; i < b->n; i++)
		if (b->b[i].fd != -1)
			close(b->b[i].fd);
	b->n = 0;
}

uint64_t
backends_size(const struct ram_backends *b)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < b->n; i++)
		sum += b->b[i].size;
	return sum;
}
