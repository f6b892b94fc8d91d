/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's command line, read: which disks it has, and by what names. */
#include "agent/live/live_restore_args.h"

#include <stdlib.h>
#include <string.h>

#include "agent/live/live_restore_words.h"

enum { CHAIN_MAX = 16 };

const char *
args_word(const struct lr *r, size_t i)
{
	const char *s = json_string_value(json_array_get(r->args, i));

	return s == NULL ? "" : s;
}

/* Is the word at ${i} option ${name}?  It may begin with one dash or two. */
bool
args_is(const struct lr *r, size_t i, const char *name)
{
	const char *s = args_word(r, i);

	if (*s != '-')
		return false;
	s += 1 + (s[1] == '-');
	return strcmp(s, name) == 0;
}

/* The value of the option ${name} at ${i}, or NULL. */
const char *
args_value(const struct lr *r, size_t i, const char *name)
{
	return args_is(r, i, name) && i + 1 < json_array_size(r->args)
	    ? args_word(r, i + 1)
	    : NULL;
}

/* Uses up ${value}. */
void
args_replace(struct lr *r, size_t i, char *value)
{
	json_array_set_new(r->args, i, json_string(value));
	free(value);
}

void
args_set(struct lr *r, size_t i, const char *key, const char *value)
{
	args_replace(r, i, words_set(args_word(r, i), key, value));
}

void
args_append(struct lr *r, const char *name, const char *value)
{
	json_array_append_new(r->args, json_string(name));
	if (value != NULL)
		json_array_append_new(r->args, json_string(value));
}

/* --- disks */

/* Where in the list ${node} is defined: a -blockdev or a -drive; 0: nowhere. */
static size_t
find_node(const struct lr *r, const char *node)
{
	const char *v;

	for (size_t i = 1; i + 1 < json_array_size(r->args); i++) {
		v = args_value(r, i, "blockdev");
		if (v != NULL && words_is(v, "node-name", node))
			return i + 1;
		v = args_value(r, i, "drive");
		if (v != NULL &&
		    (words_is(v, "id", node) || words_is(v, "node-name", node)))
			return i + 1;
	}
	return 0;
}

static bool
is_format(const char *driver)
{
	static const char *const known[] = { "qcow2", "raw", "qed", "vmdk",
		"vdi", "vhdx", "vpc", "luks" };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(driver, known[i]) == 0)
			return true;
	return false;
}

static bool
drive_chain(const struct lr *r, size_t at, struct args_chain *c)
{
	char *file = words_get(args_word(r, at), "file");
	char *driver = words_get(args_word(r, at), "driver");

	c->format = at;
	c->format_key = driver != NULL ? "driver" : "format";
	c->file = at;
	c->file_key = file != NULL ? "file" : "file.filename";
	free(file);
	free(driver);
	return true;
}

static bool
node_chain(const struct lr *r, size_t at, struct args_chain *c)
{
	for (unsigned n = 0; n < CHAIN_MAX && at != 0; n++) {
		char *driver = words_get(args_word(r, at), "driver");
		char *file;

		if (driver != NULL && is_format(driver) && c->format == 0) {
			c->format = at;
			c->format_key = "driver";
		}
		free(driver);
		c->file = at;
		c->file_key = "filename";
		c->driver_key = "driver";
		file = words_get(args_word(r, at), "filename");
		if (file == NULL) {
			c->file_key = "file.filename";
			c->driver_key = "file.driver";
			file = words_get(args_word(r, at), "file.filename");
		}
		free(file);
		if (file != NULL)
			return true;
		file = words_get(args_word(r, at), "file");
		if (file == NULL) {
			/* A protocol that knows no files. */
			c->file_key = NULL;
			return true;
		}
		at = find_node(r, file);
		free(file);
	}
	return false;
}

bool
args_chain(const struct lr *r, size_t at, struct args_chain *c)
{
	memset(c, 0, sizeof(*c));
	return args_is(r, at - 1, "drive") ? drive_chain(r, at, c)
					   : node_chain(r, at, c);
}

static void
add_disk(struct lr *r, const char *name, size_t at, bool writable)
{
	struct lr_disk *d = lr_add_disk(r, name);
	struct args_chain c;

	if (d == NULL || !args_chain(r, at, &c))
		return;
	d->at = at;
	d->writable = writable &&
	    !words_is(args_word(r, at), "read-only", "on") &&
	    !words_is(args_word(r, at), "readonly", "on") &&
	    !words_is(args_word(r, at), "media", "cdrom");
	if (c.file_key != NULL)
		d->path = words_get(args_word(r, c.file), c.file_key);
	if (d->path != NULL && d->path[0] != '/') {
		free(d->path); /* relative to who knows what */
		d->path = NULL;
	}
	if (c.format != 0)
		d->format = words_get(args_word(r, c.format), c.format_key);
	else
		d->format = xstrdup("raw");
}

/* Disks that a -device shows to the guest. */
static void
list_devices(struct lr *r)
{
	for (size_t i = 1; i + 1 < json_array_size(r->args); i++) {
		const char *v = args_value(r, i, "device");
		char *drive = v == NULL ? NULL : words_get(v, "drive");
		char *id = v == NULL ? NULL : words_get(v, "id");
		char *driver = v == NULL ? NULL : words_get(v, "");
		size_t at = drive == NULL ? 0 : find_node(r, drive);

		if (at != 0)
			add_disk(r, id != NULL ? id : drive, at,
			    driver == NULL || strstr(driver, "-cd") == NULL);
		free(drive);
		free(id);
		free(driver);
	}
}

/* Those that a -drive shows by itself are named as QEMU names them. */
static void
list_drives(struct lr *r)
{
	unsigned n[2] = { 0 };

	for (size_t i = 1; i + 1 < json_array_size(r->args); i++) {
		const char *v = args_value(r, i, "drive");
		char *bus = v == NULL ? NULL : words_get(v, "if");
		char *id = v == NULL ? NULL : words_get(v, "id");
		bool virtio = bus != NULL && strcmp(bus, "virtio") == 0;
		char name[32];

		if (v == NULL || (bus != NULL && strcmp(bus, "none") == 0))
			goto next;
		if (bus != NULL && strcmp(bus, "pflash") == 0) {
			if (!words_is(v, "readonly", "on") &&
			    !words_is(v, "read-only", "on")) {
				add_disk(r, "nvram", i + 1, true);
				r->disk[r->ndisks - 1].nvram = true;
			}
			goto next;
		}
		if (virtio)
			snprintf(name, sizeof(name), "virtio%u", n[1]++);
		else
			snprintf(name, sizeof(name), "ide%u-%s0", n[0]++,
			    words_is(v, "media", "cdrom") ? "cd" : "hd");
		add_disk(r, id != NULL ? id : name, i + 1, true);
	next:
		free(bus);
		free(id);
	}
}

static void
list_flash(struct lr *r)
{
	for (size_t i = 1; i + 1 < json_array_size(r->args); i++) {
		const char *v = args_value(r, i, "machine");
		char *node;
		size_t at;

		if (v == NULL)
			continue;
		node = words_get(v, "pflash1");
		at = node == NULL ? 0 : find_node(r, node);
		free(node);
		if (at != 0 && lr_find_disk(r, "nvram") == NULL) {
			add_disk(r, "nvram", at, true);
			r->disk[r->ndisks - 1].nvram = true;
		}
	}
}

static int
check(const struct lr *r, struct err *e)
{
	for (size_t i = 1; i < json_array_size(r->args); i++) {
		const char *v = args_value(r, i, "chardev");
		char *fd = v == NULL ? NULL : words_get(v, "fd");
		bool given = fd != NULL || args_is(r, i, "add-fd");

		free(fd);
		if (given)
			return err_set(e, ERR_UNSUP,
			    "whoever started this QEMU gave open files to it, "
			    "which a command line does not tell: restore its "
			    "disks with --disk, and start it as before");
	}
	return 0;
}

int
lr_args_parse(struct lr *r, const struct buf *text, struct err *e)
{
	const json_t *one;
	const char *vm;
	size_t i = 0;
	int rc;

	/* No object, as all else that we read. */
	r->args = json_loadb(
	    (const char *)text->data, text->len, JSON_REJECT_DUPLICATES, NULL);
	json_array_foreach(r->args, i, one)
	{
		if (!json_is_string(one))
			break;
	}
	if (!json_is_array(r->args) || i < json_array_size(r->args) || i == 0 ||
	    i > RESTORE_ARGS_MAX)
		return err_set(
		    e, ERR_PROTO, "the backup's definition is no command line");
	rc = check(r, e);
	if (rc != 0)
		return rc;
	list_devices(r);
	list_drives(r);
	list_flash(r);
	/* Files are called by it: without the namespace. */
	vm = strrchr(r->vm, '/');
	vm = vm != NULL ? vm + 1 : r->vm;
	r->name = xstrdup(r->o->clone != NULL ? r->o->clone : vm);
	return 0;
}
