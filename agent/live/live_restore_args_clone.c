/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's command line: who the machine is, and where others reach it. */
#include <stdlib.h>
#include <string.h>

#include "agent/live/live_restore_args.h"
#include "agent/live/live_restore_words.h"
#include "proto/base/io.h"

void
args_drop(struct lr *r, const char *name, bool with_value)
{
	for (size_t i = 1; i < json_array_size(r->args);) {
		if (!args_is(r, i, name)) {
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
	const char *v = args_word(r, i);

	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		size_t n = strlen(kinds[k]), len;
		char *path, *to;

		if (strncmp(v, kinds[k], n) != 0)
			continue;
		len = strcspn(v + n, ",");
		path = xasprintf("%.*s", (int)len, v + n);
		to = lr_moved(r, path);
		args_replace(
		    r, i, xasprintf("%s%s%s", kinds[k], to, v + n + len));
		free(path);
		free(to);
		return;
	}
}

static void
move_key(struct lr *r, size_t i, const char *key)
{
	char *path = words_get(args_word(r, i), key), *to;

	if (path != NULL && strncmp(path, "/dev/", 5) != 0) {
		to = lr_moved(r, path);
		args_set(r, i, key, to);
		free(to);
	}
	free(path);
}

static void
new_address(struct lr *r, size_t i)
{
	char *was = words_get(args_word(r, i), "mac");
	char mac[LR_MAC_LEN + 1];

	if (was != NULL) {
		lr_new_mac(mac);
		args_set(r, i, "mac", mac);
	}
	free(was);
}

static void
new_name(struct lr *r, size_t i)
{
	char *guest = words_get(args_word(r, i), "guest");

	args_set(r, i, guest != NULL ? "guest" : "", r->name);
	free(guest);
}

static void
new_uuid(struct lr *r, size_t i)
{
	char uuid[LR_UUID_LEN + 1];

	lr_new_uuid(uuid);
	args_replace(r, i, xstrdup(uuid));
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
			if (args_is(r, i, prefixed[k]))
				move_prefixed(r, i + 1);
		for (size_t k = 0; k < sizeof(nets) / sizeof(*nets); k++)
			if (args_is(r, i, nets[k]))
				new_address(r, i + 1);
		if (args_is(r, i, "chardev"))
			move_key(r, i + 1, "path");
		if (args_is(r, i, "pidfile") || args_is(r, i, "D")) {
			char *to = lr_moved(r, args_word(r, i + 1));

			args_replace(r, i + 1, to);
		}
		if (args_is(r, i, "name"))
			new_name(r, i + 1);
		if (args_is(r, i, "uuid"))
			new_uuid(r, i + 1);
		if (args_is(r, i, "vnc") && strchr(args_word(r, i + 1), ':') &&
		    strncmp(args_word(r, i + 1), "unix:", 5) != 0)
			args_set(
			    r, i + 1, "to", "99"); /* the first free display */
	}
}

/* The socket that a monitor of -qmp or -mon listens at; the caller's. */
static char *
monitor_socket(const struct lr *r, size_t *at)
{
	for (size_t i = 1; i + 1 < json_array_size(r->args); i++) {
		const char *v = args_value(r, i, "qmp");
		char *id;

		if (v == NULL)
			v = args_value(r, i, "qmp-pretty");
		*at = i + 1;
		if (v != NULL && strncmp(v, "unix:", 5) == 0)
			return xasprintf(
			    "%.*s", (int)strcspn(v + 5, ","), v + 5);
		v = args_value(r, i, "mon");
		if (v == NULL || !words_is(v, "mode", "control"))
			continue;
		id = words_get(v, "chardev");
		for (size_t k = 1;
		     id != NULL && k + 1 < json_array_size(r->args); k++) {
			const char *c = args_value(r, k, "chardev");
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

	args_drop(r, "daemonize", false);
	args_drop(r, "S", false);
	args_drop(r, "incoming", true);
	args_drop(r, "loadvm", true);
	if (r->o->clone != NULL)
		make_clone(r);
	if (r->o->program != NULL)
		args_replace(r, 0, xstrdup(r->o->program));
	r->qmp = monitor_socket(r, &at);
	if (r->o->qmp != NULL &&
	    (r->qmp == NULL || strcmp(r->qmp, r->o->qmp) != 0)) {
		char *v = xasprintf("unix:%s,server=on,wait=off", r->o->qmp);

		if (r->qmp != NULL && args_is(r, at - 1, "qmp"))
			json_array_set_new(r->args, at, json_string(v));
		else
			args_append(r, "-qmp", v);
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
