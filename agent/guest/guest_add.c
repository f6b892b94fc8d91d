/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest is found to have: disks, files, and what is to be said of it. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "agent/guest/guest_impl.h"

/* Volumes of other kinds are called so, and are found by it. */
static bool
is_reserved(const char *name)
{
	static const char *const names[] = { "definition", "nvram", "tpm",
		"ram", "state" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

static bool
is_taken(const struct guest *g, const char *name)
{
	for (unsigned i = 0; i < g->ndisks; i++)
		if (strcmp(g->disk[i].name, name) == 0)
			return true;
	for (unsigned i = 0; i < g->nfiles; i++)
		if (strcmp(g->file[i].name, name) == 0)
			return true;
	return false;
}

/* A name that a volume may have, and none of the guest's has. */
static void
make_name(const struct guest *g, const char *name, const char *otherwise,
    bool reserved, char out[NAME_PART_MAX + 1])
{
	char base[NAME_PART_MAX - 3];
	size_t n = 0;

	for (; *name != 0 && n < sizeof(base) - 1; name++) {
		bool ok = isalnum((unsigned char)*name) ||
		    (n != 0 && strchr("._-", *name) != NULL);

		if (ok)
			base[n++] = *name;
		else if (n != 0)
			base[n++] = '-';
	}
	base[n] = 0;
	if (n == 0)
		snprintf(base, sizeof(base), "%s", otherwise);
	snprintf(out, NAME_PART_MAX + 1, "%s", base);
	for (unsigned i = 2; is_taken(g, out) || (reserved && is_reserved(out));
	     i++)
		snprintf(out, NAME_PART_MAX + 1, "%s-%u", base, i);
}

struct guest_disk *
guest_add_disk(struct guest *g, const char *name)
{
	struct guest_disk *d = &g->disk[g->ndisks];

	if (g->ndisks == MANIFEST_VOLUMES_MAX)
		return NULL;
	memset(d, 0, sizeof(*d));
	make_name(g, name, "disk", true, d->name);
	g->ndisks++;
	return d;
}

void
guest_add_file(
    struct guest *g, const char *name, const char *kind, const char *path)
{
	struct guest_file *f = &g->file[g->nfiles];

	if (g->nfiles == GUEST_FILES_MAX) {
		guest_add_note(g,
		    "%.100s is not in the backup: more than %d "
		    "files belong to the machine",
		    path, GUEST_FILES_MAX);
		return;
	}
	make_name(g, name, kind, false, f->name);
	snprintf(f->kind, sizeof(f->kind), "%s", kind);
	f->path = xstrdup(path);
	g->nfiles++;
}

static int
by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* tpm2-00.permall, tpm-00.volatilestate, ...; and what it locks by is not. */
static int
is_tpm_state(const struct dirent *d)
{
	return strncmp(d->d_name, "tpm", 3) == 0;
}

static bool
ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && strcmp(s + n - m, end) == 0;
}

void
guest_add_tpm(struct guest *g, const char *dir, const char *first)
{
	struct dirent **list;
	int n = scandir(dir, &list, is_tpm_state, by_name);

	if (n == -1 && errno != ENOENT) {
		/* Who is to read it is told why that cannot be. */
		guest_add_file(g, "tpm", "tpm", dir);
		return;
	}
	if (n <= 0)
		guest_add_note(g, "its TPM has no state in %.200s yet", dir);
	for (int i = 0; i < n; i++) {
		const char *name = list[i]->d_name;
		char *path = xasprintf("%s/%s", dir, name);

		if (first != NULL && ends_with(name, "-00.permall"))
			name = first;
		guest_add_file(g, name, "tpm", path);
		free(path);
		free(list[i]);
	}
	if (n >= 0)
		free(list);
}

void
guest_add_note(struct guest *g, const char *fmt, ...)
{
	size_t at = strlen(g->note);
	va_list ap;

	if (at != 0)
		at +=
		    (size_t)snprintf(g->note + at, sizeof(g->note) - at, "; ");
	if (at >= sizeof(g->note))
		return;
	va_start(ap, fmt);
	vsnprintf(g->note + at, sizeof(g->note) - at, fmt, ap);
	va_end(ap);
}

const char *
guest_note(const struct guest *g)
{
	return g->note;
}
