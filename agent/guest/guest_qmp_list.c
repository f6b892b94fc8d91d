/* SPDX-License-Identifier: Apache-2.0 */
/* Which disks a QEMU has, by query-block. */
#include <stdlib.h>
#include <string.h>
#include <limits.h>
#include <unistd.h>

#include "agent/guest/guest_qmp.h"

static const char *
text_of(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s == NULL ? "" : s;
}

/* The id that whoever started QEMU gave to the device, if they did. */
static char *
name_of(const json_t *block)
{
	const char *qdev = text_of(block, "qdev");
	const char *device = text_of(block, "device");
	static const char given[] = "/machine/peripheral/";

	if (strncmp(qdev, given, strlen(given)) == 0) {
		qdev += strlen(given);
		return xasprintf("%.*s", (int)strcspn(qdev, "/"), qdev);
	}
	if (qdev[0] != '/') /* the disk is the device itself */
		return xstrdup(qdev);
	if (device[0] != 0)
		return xstrdup(device);
	return xstrdup(
	    text_of(json_object_get(block, "inserted"), "node-name"));
}

/* A path that QEMU was given may be relative to where it runs. */
static char *
path_of(const struct guest *g, const char *file)
{
	char cwd[PATH_MAX], link[64];
	ssize_t n;

	if (file[0] == '/')
		return xstrdup(file);
	if (file[0] == 0 || strchr(file, ':') != NULL || g->pid == 0)
		return NULL;
	snprintf(link, sizeof(link), "/proc/%d/cwd", g->pid);
	n = readlink(link, cwd, sizeof(cwd) - 1);
	if (n <= 0)
		return NULL;
	return xasprintf("%.*s/%s", (int)n, cwd, file);
}

static const char *
format_of(const char *driver)
{
	static const char *const known[] = { "qcow2", "raw", "qed", "vmdk",
		"vdi", "vhdx", "vpc", "luks" };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(driver, known[i]) == 0)
			return known[i];
	return "raw"; /* a protocol without a format above it */
}

static bool
can_keep_bitmaps(const json_t *inserted)
{
	const json_t *data =
	    json_object_get(json_object_get(json_object_get(inserted, "image"),
				"format-specific"),
		"data");

	return strcmp(text_of(inserted, "drv"), "qcow2") == 0 &&
	    strcmp(text_of(data, "compat"), "0.10") != 0 &&
	    !json_is_true(json_object_get(inserted, "ro"));
}

static int
find(const struct guest *g, const char *key)
{
	const struct qmp_guest *p = g->impl;

	for (unsigned i = 0; i < g->ndisks; i++)
		if (strcmp(p->disk[i].key, key) == 0)
			return (int)i;
	return -1;
}

static void
add(struct guest *g, const json_t *block, bool first)
{
	struct qmp_guest *p = g->impl;
	const json_t *in = json_object_get(block, "inserted");
	const json_t *image = json_object_get(in, "image");
	const char *key = text_of(block, "qdev");
	struct guest_disk *d;
	struct qmp_disk *n;
	char *name;
	int i;

	i = find(g, key);
	if (i == -1 && first) {
		name = name_of(block);
		d = guest_add_disk(g, name);
		free(name);
		if (d == NULL)
			return;
		i = (int)g->ndisks - 1;
		d->path = path_of(g, text_of(in, "file"));
		d->cdrom = json_is_true(json_object_get(block, "removable"));
		d->readonly = json_is_true(json_object_get(in, "ro"));
		p->disk[i].key = xstrdup(key);
		p->disk[i].node = xstrdup("");
	}
	if (i == -1)
		return; /* plugged in since: not known to the caller */
	d = &g->disk[i];
	n = &p->disk[i];
	d->size = (uint64_t)json_integer_value(
	    json_object_get(image, "virtual-size"));
	d->format = format_of(text_of(in, "drv"));
	free(n->node);
	n->node = xstrdup(text_of(in, "node-name"));
	n->persistent = can_keep_bitmaps(in);
}

static bool
is_flash(const json_t *block)
{
	return strncmp(text_of(block, "device"), "pflash", 6) == 0 ||
	    strstr(text_of(block, "qdev"), ".flash") != NULL;
}

static void
add_flash(struct guest *g, const json_t *block)
{
	const json_t *in = json_object_get(block, "inserted");
	char *path;

	/* The firmware itself is not the VM's. */
	if (json_is_true(json_object_get(in, "ro")))
		return;
	path = path_of(g, text_of(in, "file"));
	if (path != NULL)
		guest_add_file(g, "nvram", "nvram", path);
	else
		guest_add_note(g,
		    "its NVRAM is not in the backup: \"%.100s\" is no file",
		    text_of(in, "file"));
	free(path);
}

int
guest_qmp_list(struct guest *g, struct err *e)
{
	struct qmp_guest *p = g->impl;
	bool first = g->ndisks == 0;
	json_t *list, *block;
	size_t i;
	int rc;

	rc = qmp_command(p->q, "query-block", NULL, -1, QMP_MS, &list, e);
	if (rc != 0)
		return rc;
	json_array_foreach(list, i, block)
	{
		/* Without a device no guest sees it; or no medium is in. */
		if (text_of(block, "qdev")[0] == 0 ||
		    text_of(json_object_get(block, "inserted"),
			"node-name")[0] == 0)
			continue;
		if (!is_flash(block))
			add(g, block, first);
		else if (first)
			add_flash(g, block);
	}
	json_decref(list);
	return 0;
}
