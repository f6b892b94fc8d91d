/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's command line: its disks and its memory are in their new files. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/live/live_restore_args.h"
#include "agent/live/live_restore_words.h"

static int
put_disk(struct lr *r, const struct lr_file *f, struct err *e)
{
	const struct lr_disk *d = lr_find_disk(r, f->volume->name);
	struct args_chain c;
	struct stat st;
	const char *protocol;

	if (d == NULL)
		return 0;
	protocol = stat(f->path, &st) == 0 && S_ISBLK(st.st_mode)
	    ? "host_device"
	    : "file";
	if (!args_chain(r, d->at, &c))
		return err_set(e, ERR_UNSUP,
		    "disk %s: its options are not understood", d->name);
	if (c.format == 0 && strcmp(f->format, "raw") != 0)
		return err_set(e, ERR_INVAL,
		    "disk %s is raw in this machine: say raw:%s", d->name,
		    f->path);
	if (c.file_key == NULL) {
		/* It was no file of this host: it is one now. */
		char *node = words_get(args_word(r, c.file), "node-name");
		char *v = words_set("driver=file", "filename", f->path), *w;

		w = node == NULL ? xstrdup(v) : words_set(v, "node-name", node);
		free(v);
		free(node);
		args_replace(r, c.file, w);
	} else {
		args_set(r, c.file, c.file_key, f->path);
	}
	if (c.driver_key != NULL)
		args_set(r, c.file, c.driver_key, protocol);
	if (c.format != 0 && !d->nvram) {
		args_set(r, c.format, c.format_key, f->format);
		/* An image that was restored stands by itself. */
		args_set(r, c.format, "backing", NULL);
	}
	return 0;
}

static const struct ram_fact_backend *
saved_backend(const struct lr *r, const char *id)
{
	for (unsigned i = 0; r->ram && i < r->facts.nbackends; i++)
		if (strcmp(r->facts.backend[i].id, id) == 0)
			return &r->facts.backend[i];
	return NULL;
}

/* Memory that lies in a file of ours.  Privately mapped: what it touches is
 * read when it does, and what it changes is not written there. */
static void
put_saved(struct lr *r, size_t i, const struct ram_fact_backend *b)
{
	static const char *const gone[] = { "prealloc", "hugetlb",
		"hugetlbsize", "seal", "discard-data", "prealloc-threads" };
	char *path = xasprintf("%s/%s", r->ram_tmp, b->volume);

	args_set(r, i, "", "memory-backend-file");
	args_set(r, i, "mem-path", path);
	args_set(r, i, "share", r->o->ram_shared ? "on" : "off");
	for (size_t k = 0; k < sizeof(gone) / sizeof(gone[0]); k++)
		args_set(r, i, gone[k], NULL);
	free(path);
}

/* In a folder QEMU makes a file without a name: empty, and nobody else's. */
static void
put_empty(struct lr *r, size_t i)
{
	char *path = words_get(args_word(r, i), "mem-path");
	struct stat st;
	char *slash = path == NULL ? NULL : strrchr(path, '/');

	if (slash == NULL || (stat(path, &st) == 0 && S_ISDIR(st.st_mode)))
		goto done;
	slash[slash == path] = 0;
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		args_set(r, i, "mem-path", path);
	else
		args_set(r, i, "mem-path",
		    r->o->ram_dir != NULL ? r->o->ram_dir : r->home);
done:
	free(path);
}

static void
put_memory(struct lr *r)
{
	for (size_t i = 1; i + 1 < json_array_size(r->args); i++) {
		const char *v = args_value(r, i, "object");
		const struct ram_fact_backend *b;
		char *id, *type;

		if (v == NULL)
			continue;
		id = words_get(v, "id");
		type = words_get(v, "");
		b = id == NULL ? NULL : saved_backend(r, id);
		if (b != NULL)
			put_saved(r, i + 1, b);
		else if (type != NULL &&
		    strcmp(type, "memory-backend-file") == 0)
			put_empty(r, i + 1);
		free(id);
		free(type);
	}
}

/* "q35" is another machine in the next version of QEMU. */
static void
put_machine(struct lr *r)
{
	const char *type = r->facts.machine;

	for (size_t i = 1; i + 1 < json_array_size(r->args); i++) {
		const char *v = args_value(r, i, "machine");
		char *first;

		if (v == NULL)
			v = args_value(r, i, "M");
		if (v == NULL)
			continue;
		first = words_get(v, "");
		args_set(r, i + 1, first != NULL ? "" : "type", type);
		free(first);
		return;
	}
	args_append(r, "-machine", type);
}

int
lr_args_finish(struct lr *r, struct err *e)
{
	int rc = 0;

	for (unsigned i = 0; i < r->nfiles && rc == 0; i++)
		rc = put_disk(r, &r->file[i], e);
	if (rc != 0)
		return rc;
	put_memory(r);
	if (r->ram) {
		args_drop(r, "mem-prealloc", false);
		if (r->facts.machine[0] != 0)
			put_machine(r);
		args_append(r, "-incoming", "defer");
	}
	args_append(r, "-S", NULL);
	return 0;
}
