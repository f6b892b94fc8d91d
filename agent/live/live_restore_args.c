/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's command line, read and changed: option after option, each with the
 * word behind it. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/live/live_restore_impl.h"
#include "agent/live/live_restore_words.h"
#include "proto/base/io.h"

enum { CHAIN_MAX = 16 };

static const char *
word(const struct lr *r, size_t i)
{
	const char *s = json_string_value(json_array_get(r->args, i));

	return s == NULL ? "" : s;
}

/* Is the word at ${i} option ${name}?  It may begin with one dash or two. */
static bool
is_option(const struct lr *r, size_t i, const char *name)
{
	const char *s = word(r, i);

	if (*s != '-')
		return false;
	s += 1 + (s[1] == '-');
	return strcmp(s, name) == 0;
}

/* The value of the option ${name} at ${i}, or NULL. */
static const char *
value_of(const struct lr *r, size_t i, const char *name)
{
	return is_option(r, i, name) && i + 1 < json_array_size(r->args)
	    ? word(r, i + 1)
	    : NULL;
}

/* Uses up ${value}. */
static void
replace(struct lr *r, size_t i, char *value)
{
	json_array_set_new(r->args, i, json_string(value));
	free(value);
}

static void
set(struct lr *r, size_t i, const char *key, const char *value)
{
	replace(r, i, words_set(word(r, i), key, value));
}

static void
append(struct lr *r, const char *name, const char *value)
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
		v = value_of(r, i, "blockdev");
		if (v != NULL && words_is(v, "node-name", node))
			return i + 1;
		v = value_of(r, i, "drive");
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

/* What a disk is made of: the option that says its format, and the option and
 * key that say its file.  0, NULL: none does. */
struct chain {
	size_t format;
	const char *format_key;
	size_t file;
	const char *file_key;
	const char *driver_key; /* of the file's protocol */
};

static bool
drive_chain(const struct lr *r, size_t at, struct chain *c)
{
	char *file = words_get(word(r, at), "file");
	char *driver = words_get(word(r, at), "driver");

	c->format = at;
	c->format_key = driver != NULL ? "driver" : "format";
	c->file = at;
	c->file_key = file != NULL ? "file" : "file.filename";
	free(file);
	free(driver);
	return true;
}

static bool
node_chain(const struct lr *r, size_t at, struct chain *c)
{
	for (unsigned n = 0; n < CHAIN_MAX && at != 0; n++) {
		char *driver = words_get(word(r, at), "driver");
		char *file;

		if (driver != NULL && is_format(driver) && c->format == 0) {
			c->format = at;
			c->format_key = "driver";
		}
		free(driver);
		c->file = at;
		c->file_key = "filename";
		c->driver_key = "driver";
		file = words_get(word(r, at), "filename");
		if (file == NULL) {
			c->file_key = "file.filename";
			c->driver_key = "file.driver";
			file = words_get(word(r, at), "file.filename");
		}
		free(file);
		if (file != NULL)
			return true;
		file = words_get(word(r, at), "file");
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

static bool
chain_of(const struct lr *r, size_t at, struct chain *c)
{
	memset(c, 0, sizeof(*c));
	return is_option(r, at - 1, "drive") ? drive_chain(r, at, c)
					     : node_chain(r, at, c);
}

static void
add_disk(struct lr *r, const char *name, size_t at, bool writable)
{
	struct lr_disk *d = lr_add_disk(r, name);
	struct chain c;

	if (d == NULL || !chain_of(r, at, &c))
		return;
	d->at = at;
	d->writable = writable && !words_is(word(r, at), "read-only", "on") &&
	    !words_is(word(r, at), "readonly", "on") &&
	    !words_is(word(r, at), "media", "cdrom");
	if (c.file_key != NULL)
		d->path = words_get(word(r, c.file), c.file_key);
	if (d->path != NULL && d->path[0] != '/') {
		free(d->path); /* relative to who knows what */
		d->path = NULL;
	}
	if (c.format != 0)
		d->format = words_get(word(r, c.format), c.format_key);
	else
		d->format = xstrdup("raw");
}

/* Disks that a -device shows to the guest. */
static void
list_devices(struct lr *r)
{
	for (size_t i = 1; i + 1 < json_array_size(r->args); i++) {
		const char *v = value_of(r, i, "device");
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
		const char *v = value_of(r, i, "drive");
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
		const char *v = value_of(r, i, "machine");
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
		const char *v = value_of(r, i, "chardev");
		char *fd = v == NULL ? NULL : words_get(v, "fd");
		bool given = fd != NULL || is_option(r, i, "add-fd");

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
	r->name = xstrdup(r->o->clone != NULL ? r->o->clone : r->vm);
	return 0;
}

/* --- who it is */

static void
drop_option(struct lr *r, const char *name, bool with_value)
{
	for (size_t i = 1; i < json_array_size(r->args);) {
		if (!is_option(r, i, name)) {
			i++;
			continue;
		}
		json_array_remove(r->args, i);
		if (with_value && i < json_array_size(r->args))
			json_array_remove(r->args, i);
	}
}

/* "unix:PATH,server=on": the path moves. */
static void
move_prefixed(struct lr *r, size_t i)
{
	static const char *const kinds[] = { "unix:", "file:", "pipe:" };
	const char *v = word(r, i);

	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		size_t n = strlen(kinds[k]), len;
		char *path, *to;

		if (strncmp(v, kinds[k], n) != 0)
			continue;
		len = strcspn(v + n, ",");
		path = xasprintf("%.*s", (int)len, v + n);
		to = lr_moved(r, path);
		replace(r, i, xasprintf("%s%s%s", kinds[k], to, v + n + len));
		free(path);
		free(to);
		return;
	}
}

static void
move_key(struct lr *r, size_t i, const char *key)
{
	char *path = words_get(word(r, i), key), *to;

	if (path != NULL && strncmp(path, "/dev/", 5) != 0) {
		to = lr_moved(r, path);
		set(r, i, key, to);
		free(to);
	}
	free(path);
}

static void
new_address(struct lr *r, size_t i)
{
	char *was = words_get(word(r, i), "mac"), mac[18];
	uint8_t b[3];

	if (was != NULL) {
		random_bytes(b, sizeof(b));
		snprintf(mac, sizeof(mac), "52:54:00:%02x:%02x:%02x", b[0],
		    b[1], b[2]);
		set(r, i, "mac", mac);
	}
	free(was);
}

static void
new_name(struct lr *r, size_t i)
{
	char *guest = words_get(word(r, i), "guest");

	set(r, i, guest != NULL ? "guest" : "", r->name);
	free(guest);
}

static void
new_uuid(struct lr *r, size_t i)
{
	uint8_t b[16];
	char h[33];

	random_bytes(b, sizeof(b));
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	hex(b, sizeof(b), h);
	replace(r, i,
	    xasprintf(
		"%.8s-%.4s-%.4s-%.4s-%.12s", h, h + 8, h + 12, h + 16, h + 20));
}

/* Everything by which two machines would get into each other's way. */
static void
make_clone(struct lr *r)
{
	static const char *const prefixed[] = { "qmp", "qmp-pretty", "monitor",
		"serial", "parallel", "vnc" };
	static const char *const nets[] = { "device", "nic", "net" };

	for (size_t i = 1; i + 1 < json_array_size(r->args); i++) {
		for (size_t k = 0; k < sizeof(prefixed) / sizeof(*prefixed);
		     k++)
			if (is_option(r, i, prefixed[k]))
				move_prefixed(r, i + 1);
		for (size_t k = 0; k < sizeof(nets) / sizeof(*nets); k++)
			if (is_option(r, i, nets[k]))
				new_address(r, i + 1);
		if (is_option(r, i, "chardev"))
			move_key(r, i + 1, "path");
		if (is_option(r, i, "pidfile") || is_option(r, i, "D")) {
			char *to = lr_moved(r, word(r, i + 1));

			replace(r, i + 1, to);
		}
		if (is_option(r, i, "name"))
			new_name(r, i + 1);
		if (is_option(r, i, "uuid"))
			new_uuid(r, i + 1);
		if (is_option(r, i, "vnc") && strchr(word(r, i + 1), ':') &&
		    strncmp(word(r, i + 1), "unix:", 5) != 0)
			set(r, i + 1, "to", "99"); /* the first free display */
	}
}

/* The socket that a monitor of -qmp or -mon listens at; the caller's. */
static char *
monitor_socket(const struct lr *r, size_t *at)
{
	for (size_t i = 1; i + 1 < json_array_size(r->args); i++) {
		const char *v = value_of(r, i, "qmp");
		char *id;

		if (v == NULL)
			v = value_of(r, i, "qmp-pretty");
		*at = i + 1;
		if (v != NULL && strncmp(v, "unix:", 5) == 0)
			return xasprintf(
			    "%.*s", (int)strcspn(v + 5, ","), v + 5);
		v = value_of(r, i, "mon");
		if (v == NULL || !words_is(v, "mode", "control"))
			continue;
		id = words_get(v, "chardev");
		for (size_t k = 1;
		     id != NULL && k + 1 < json_array_size(r->args); k++) {
			const char *c = value_of(r, k, "chardev");
			char *path = NULL;

			if (c != NULL && words_is(c, "id", id))
				path = words_get(c, "path");
			if (path != NULL) {
				free(id);
				return path;
			}
		}
		free(id);
	}
	return NULL;
}

int
lr_args_identity(struct lr *r, struct err *e)
{
	size_t at = 0;

	drop_option(r, "daemonize", false);
	drop_option(r, "S", false);
	drop_option(r, "incoming", true);
	drop_option(r, "loadvm", true);
	if (r->o->clone != NULL)
		make_clone(r);
	if (r->o->program != NULL)
		replace(r, 0, xstrdup(r->o->program));
	r->qmp = monitor_socket(r, &at);
	if (r->o->qmp != NULL &&
	    (r->qmp == NULL || strcmp(r->qmp, r->o->qmp) != 0)) {
		char *v = xasprintf("unix:%s,server=on,wait=off", r->o->qmp);

		if (r->qmp != NULL && is_option(r, at - 1, "qmp"))
			json_array_set_new(r->args, at, json_string(v));
		else
			append(r, "-qmp", v);
		free(v);
		free(r->qmp);
		r->qmp = xstrdup(r->o->qmp);
	}
	if (r->qmp == NULL)
		return err_set(e, ERR_INVAL,
		    "the machine has no monitor on a Unix socket: say --qmp "
		    "SOCKET, where it shall have one");
	return 0;
}

/* --- its disks and memory */

static int
put_disk(struct lr *r, const struct lr_file *f, struct err *e)
{
	const struct lr_disk *d = lr_find_disk(r, f->volume->name);
	struct chain c;
	struct stat st;
	const char *protocol;

	if (d == NULL)
		return 0;
	protocol = stat(f->path, &st) == 0 && S_ISBLK(st.st_mode)
	    ? "host_device"
	    : "file";
	if (!chain_of(r, d->at, &c))
		return err_set(e, ERR_UNSUP,
		    "disk %s: its options are not understood", d->name);
	if (c.format == 0 && strcmp(f->format, "raw") != 0)
		return err_set(e, ERR_INVAL,
		    "disk %s is raw in this machine: say raw:%s", d->name,
		    f->path);
	if (c.file_key == NULL) {
		/* It was no file of this host: it is one now. */
		char *node = words_get(word(r, c.file), "node-name");
		char *v = words_set("driver=file", "filename", f->path), *w;

		w = node == NULL ? xstrdup(v) : words_set(v, "node-name", node);
		free(v);
		free(node);
		replace(r, c.file, w);
	} else {
		set(r, c.file, c.file_key, f->path);
	}
	if (c.driver_key != NULL)
		set(r, c.file, c.driver_key, protocol);
	if (c.format != 0 && !d->nvram) {
		set(r, c.format, c.format_key, f->format);
		/* An image that was restored stands by itself. */
		set(r, c.format, "backing", NULL);
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

	set(r, i, "", "memory-backend-file");
	set(r, i, "mem-path", path);
	set(r, i, "share", r->o->ram_shared ? "on" : "off");
	for (size_t k = 0; k < sizeof(gone) / sizeof(gone[0]); k++)
		set(r, i, gone[k], NULL);
	free(path);
}

/* In a folder QEMU makes a file without a name: empty, and nobody else's. */
static void
put_empty(struct lr *r, size_t i)
{
	char *path = words_get(word(r, i), "mem-path");
	struct stat st;
	char *slash = path == NULL ? NULL : strrchr(path, '/');

	if (slash == NULL || (stat(path, &st) == 0 && S_ISDIR(st.st_mode)))
		goto done;
	slash[slash == path] = 0;
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		set(r, i, "mem-path", path);
	else
		set(r, i, "mem-path",
		    r->o->ram_dir != NULL ? r->o->ram_dir : r->home);
done:
	free(path);
}

static void
put_memory(struct lr *r)
{
	for (size_t i = 1; i + 1 < json_array_size(r->args); i++) {
		const char *v = value_of(r, i, "object");
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
		const char *v = value_of(r, i, "machine");
		char *first;

		if (v == NULL)
			v = value_of(r, i, "M");
		if (v == NULL)
			continue;
		first = words_get(v, "");
		set(r, i + 1, first != NULL ? "" : "type", type);
		free(first);
		return;
	}
	append(r, "-machine", type);
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
		drop_option(r, "mem-prealloc", false);
		if (r->facts.machine[0] != 0)
			put_machine(r);
		append(r, "-incoming", "defer");
	}
	append(r, "-S", NULL);
	return 0;
}
