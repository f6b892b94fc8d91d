/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ram/migrate.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/io.h"

#define NOTE "backstay-ram"
#define NOTE_PATH "/objects/" NOTE
#define FD_NAME "backstay-ram"
#define BANDWIDTH ((json_int_t)1 << 40)

enum { POLL_MIN_MS = 2, POLL_MAX_MS = 50, CANCEL_MS = 10000 };

/* What changes the stream or where it goes; "events" is nobody's harm. */
static const char *const caps_off[] = { "xbzrle", "compress", "multifd",
	"postcopy-ram", "return-path", "pause-before-switchover", "release-ram",
	"rdma-pin-all", "auto-converge", "zero-blocks", "x-colo", "block",
	"dirty-bitmaps", "zero-copy-send", "postcopy-preempt", "dirty-limit",
	"switchover-ack", "mapped-ram", "x-ignore-shared",
	"background-snapshot" };

static const char *const params_kept[] = { "max-bandwidth", "tls-creds",
	"tls-hostname", "multifd-channels", "multifd-compression" };

#define N(a) (sizeof(a) / sizeof((a)[0]))

static bool
wanted(const struct migrate_caps *c, const char *cap)
{
	return (c->ignore_shared && strcmp(cap, "x-ignore-shared") == 0) ||
	    (c->snapshot && strcmp(cap, "background-snapshot") == 0) ||
	    (c->mapped && strcmp(cap, "mapped-ram") == 0) ||
	    (c->mapped && c->channels > 1 && strcmp(cap, "multifd") == 0);
}

/* True if ${name} is one of what we may have to switch off. */
static bool
ours(const char *name)
{
	for (size_t i = 0; i < N(caps_off); i++)
		if (strcmp(caps_off[i], name) == 0)
			return true;
	return false;
}

static json_t *
cap(const char *name, bool on)
{
	json_t *j = json_object();

	json_set_str(j, "capability", name);
	json_set_bool(j, "state", on);
	return j;
}

static int
set_caps(struct guest *g, json_t *list, struct err *e)
{
	json_t *args = json_object();

	json_object_set(args, "capabilities", list);
	return guest_monitor(g, "migrate-set-capabilities", args, -1, NULL, e);
}

int
migrate_idle(struct guest *g, struct err *e)
{
	const char *status = "none";
	json_t *j;
	int rc;

	rc = guest_monitor(g, "query-migrate", NULL, -1, &j, e);
	if (rc != 0)
		return rc;
	json_opt_str(j, "status", &status, NULL);
	if (strcmp(status, "none") != 0 && strcmp(status, "completed") != 0 &&
	    strcmp(status, "failed") != 0 && strcmp(status, "cancelled") != 0)
		rc = err_set(e, ERR_BUSY,
		    "the guest is being migrated (%s); its memory can be saved "
		    "when that is over",
		    status);
	json_decref(j);
	return rc;
}

/* The settings as they are, as arguments of the commands that set them. */
static int
settings(struct guest *g, json_t **out, struct err *e)
{
	json_t *caps, *params, *one, *v, *list = json_array();
	json_t *p = json_object();
	size_t i;
	int rc;

	rc = guest_monitor(g, "query-migrate-capabilities", NULL, -1, &caps, e);
	if (rc != 0)
		goto err_free;
	rc = guest_monitor(g, "query-migrate-parameters", NULL, -1, &params, e);
	if (rc != 0)
		goto err_caps;
	json_array_foreach(caps, i, one)
	{
		const char *name = "";
		bool on = false;

		json_opt_str(one, "capability", &name, NULL);
		json_opt_bool(one, "state", &on, NULL);
		if (ours(name))
			json_array_append_new(list, cap(name, on));
	}
	for (i = 0; i < N(params_kept); i++) {
		v = json_object_get(params, params_kept[i]);
		if (v != NULL)
			json_object_set(p, params_kept[i], v);
	}
	json_decref(params);
	json_decref(caps);
	*out = json_object();
	json_object_set_new(*out, "caps", list);
	json_object_set_new(*out, "params", p);
	return 0;
err_caps:
	json_decref(caps);
err_free:
	json_decref(list);
	json_decref(p);
	return rc;
}

static int
note_settings(struct guest *g, const json_t *now, struct err *e)
{
	json_t *args = json_object();
	struct buf b = { 0 };

	json_print(now, &b);
	json_set_str(args, "qom-type", "authz-simple");
	json_set_str(args, "id", NOTE);
	json_set_str(args, "identity", buf_cstr(&b));
	buf_fini(&b);
	return guest_monitor(g, "object-add", args, -1, NULL, e);
}

/* In the order that QEMU checks them one by one: off before on. */
static int
switch_caps(struct guest *g, const json_t *now, const struct migrate_caps *c,
    struct err *e)
{
	json_t *one, *list = json_array();
	unsigned want, got = 0;
	size_t i;
	int rc;

	want = (unsigned)c->ignore_shared + (unsigned)c->snapshot +
	    (unsigned)c->mapped + (unsigned)(c->mapped && c->channels > 1);
	for (int on = 0; on < 2; on++)
		json_array_foreach(json_object_get(now, "caps"), i, one)
		{
			const char *name = "";

			json_opt_str(one, "capability", &name, NULL);
			if (wanted(c, name) != (on == 1))
				continue;
			got += (unsigned)on;
			json_array_append_new(list, cap(name, on == 1));
		}
	rc = got == want ? set_caps(g, list, e)
			 : err_set(e, ERR_UNSUP,
			       "this QEMU is too old for that way of saving "
			       "memory");
	json_decref(list);
	return rc == ERR_INVAL ? ERR_UNSUP : rc;
}

static int
switch_params(struct guest *g, const json_t *now, const struct migrate_caps *c,
    struct err *e)
{
	const json_t *was = json_object_get(now, "params");
	json_t *p = json_object();
	const char *tls = "";

	json_object_set_new(p, "max-bandwidth", json_integer(BANDWIDTH));
	json_opt_str(was, "tls-creds", &tls, NULL);
	if (*tls != 0)
		json_set_str(p, "tls-creds", "");
	if (c->channels > 1) {
		json_set_u64(p, "multifd-channels", c->channels);
		json_set_str(p, "multifd-compression", "none");
	}
	return guest_monitor(g, "migrate-set-parameters", p, -1, NULL, e);
}

int
migrate_setup(struct guest *g, const struct migrate_caps *c, struct err *e)
{
	json_t *now = NULL;
	int rc;

	rc = migrate_restore(g, NULL, e);
	if (rc == 0)
		rc = settings(g, &now, e);
	if (rc != 0)
		return rc;
	rc = note_settings(g, now, e);
	if (rc == 0) {
		rc = switch_caps(g, now, c, e);
		if (rc == 0)
			rc = switch_params(g, now, c, e);
		if (rc != 0)
			migrate_restore(g, NULL, NULL);
	}
	json_decref(now);
	return rc;
}

static int
put_back(struct guest *g, const char *text, struct err *e)
{
	json_t *was, *caps, *params;
	int rc;

	rc = json_parse(text, strlen(text), &was, e);
	if (rc != 0)
		return rc;
	rc = json_get_array(was, "caps", &caps, e);
	if (rc == 0)
		rc = json_get_object(was, "params", &params, e);
	if (rc == 0) {
		rc = set_caps(g, caps, e);
		if (rc == 0)
			rc = guest_monitor(g, "migrate-set-parameters",
			    json_incref(params), -1, NULL, e);
	}
	json_decref(was);
	return rc;
}

int
migrate_restore(struct guest *g, bool *found, struct err *e)
{
	json_t *args = json_object(), *note;
	struct err none;
	int rc;

	if (found != NULL)
		*found = false;
	json_set_str(args, "path", NOTE_PATH);
	json_set_str(args, "property", "identity");
	/* An object that is not there is the ordinary case. */
	rc = guest_monitor(g, "qom-get", args, -1, &note, &none);
	if (rc == ERR_CLOSED || rc == ERR_TIMEOUT)
		return err_set(e, rc, "%s", none.text);
	if (rc != 0)
		return 0;
	if (found != NULL)
		*found = true;
	rc = ERR_PROTO;
	if (json_is_string(note))
		rc = put_back(g, json_string_value(note), e);
	json_decref(note);
	if (rc != 0)
		return err_set(
		    e, rc, "QEMU's migration settings cannot be put back");
	args = json_object();
	json_set_str(args, "id", NOTE);
	return guest_monitor(g, "object-del", args, -1, NULL, e);
}

/* QEMU opens what is in a set by a path, and wants the same access mode. */
static int
add_fdset(struct guest *g, int fd, int mode, uint64_t *set, struct err *e)
{
	char path[64];
	json_t *args = json_object(), *j;
	int rc, own;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	own = open(path, mode | O_CLOEXEC);
	if (own == -1) {
		json_decref(args);
		return err_set(e, ERR_SYS, "cannot open a scratch file: %m");
	}
	json_set_str(args, "opaque", FD_NAME);
	rc = guest_monitor(g, "add-fd", args, own, &j, e);
	close(own);
	if (rc != 0)
		return rc;
	rc = json_get_u64(j, "fdset-id", set, e);
	json_decref(j);
	return rc;
}

static void
remove_fdset(struct guest *g, uint64_t set)
{
	json_t *args = json_object();

	json_set_u64(args, "fdset-id", set);
	guest_monitor(g, "remove-fd", args, -1, NULL, NULL);
}

static int
start(struct guest *g, const char *command, int fd, bool seekable, int mode,
    struct err *e)
{
	json_t *args = json_object();
	uint64_t set = 0;
	char uri[64];
	int rc;

	if (seekable) {
		json_decref(args);
		rc = add_fdset(g, fd, mode, &set, e);
		snprintf(uri, sizeof(uri), "file:/dev/fdset/%llu",
		    (unsigned long long)set);
	} else {
		json_set_str(args, "fdname", FD_NAME);
		rc = guest_monitor(g, "getfd", args, fd, NULL, e);
		snprintf(uri, sizeof(uri), "fd:" FD_NAME);
	}
	if (rc != 0)
		return rc;
	args = json_object();
	json_set_str(args, "uri", uri);
	rc = guest_monitor(g, command, args, -1, NULL, e);
	/* What QEMU opened of it stays open. */
	if (seekable)
		remove_fdset(g, set);
	return rc;
}

int
migrate_start(struct guest *g, int fd, bool seekable, struct err *e)
{
	return start(g, "migrate", fd, seekable, O_WRONLY, e);
}

int
migrate_incoming(struct guest *g, int fd, bool seekable, struct err *e)
{
	return start(g, "migrate-incoming", fd, seekable, O_RDONLY, e);
}

static void
pause_ms(unsigned ms)
{
	struct timespec t = { .tv_nsec = (long)ms * 1000000 };

	nanosleep(&t, NULL);
}

struct progress {
	uint64_t moved; /* bytes */
	uint64_t pages;
	bool done;
};

static int
look(struct guest *g, struct progress *p, struct err *e)
{
	const char *status = "none", *why = "it does not say why";
	uint64_t zero = 0;
	json_t *j, *ram;
	int rc;

	memset(p, 0, sizeof(*p));
	rc = guest_monitor(g, "query-migrate", NULL, -1, &j, e);
	if (rc != 0)
		return rc;
	json_opt_str(j, "status", &status, NULL);
	json_opt_str(j, "error-desc", &why, NULL);
	ram = json_object_get(j, "ram");
	if (ram != NULL) {
		json_opt_u64(ram, "transferred", &p->moved, NULL);
		json_opt_u64(ram, "normal", &p->pages, NULL);
		json_opt_u64(ram, "duplicate", &zero, NULL);
		p->pages += zero;
	}
	p->done = strcmp(status, "completed") == 0;
	if (strcmp(status, "failed") == 0 || strcmp(status, "cancelled") == 0)
		rc = err_set(e, ERR_SYS,
		    "QEMU could not save the guest's memory (%s): %.200s",
		    status, why);
	json_decref(j);
	return rc;
}

int
migrate_failed(struct guest *g, struct err *e)
{
	struct progress p;

	return look(g, &p, e);
}

int
migrate_begun(struct guest *g, bool *begun, struct err *e)
{
	struct progress p;
	int rc;

	rc = look(g, &p, e);
	*begun = rc == 0 && (p.done || p.pages > 0);
	return rc;
}

void
migrate_cancel(struct guest *g)
{
	uint64_t end = now_ms() + CANCEL_MS;

	if (guest_monitor(g, "migrate_cancel", NULL, -1, NULL, NULL) != 0)
		return;
	while (migrate_idle(g, NULL) == ERR_BUSY && now_ms() < end)
		pause_ms(POLL_MAX_MS);
}

int
migrate_wait(struct guest *g, struct err *e)
{
	uint64_t last = 0, since = now_ms();
	struct progress p;
	unsigned ms = POLL_MIN_MS;
	int rc;

	for (;;) {
		rc = look(g, &p, e);
		if (rc != 0 || p.done)
			return rc;
		if (p.moved != last) {
			last = p.moved;
			since = now_ms();
		} else if (now_ms() - since > MIGRATE_STALL_MS) {
			migrate_cancel(g);
			return err_set(e, ERR_TIMEOUT,
			    "QEMU saves the guest's memory no further; is the "
			    "scratch folder's disk slow or full?");
		}
		pause_ms(ms);
		ms = ms * 2 < POLL_MAX_MS ? ms * 2 : POLL_MAX_MS;
	}
}

static int
status(struct guest *g, bool *running, bool *waits, struct err *e)
{
	const char *s = "";
	json_t *j;
	int rc;

	rc = guest_monitor(g, "query-status", NULL, -1, &j, e);
	if (rc != 0)
		return rc;
	rc = json_get_bool(j, "running", running, e);
	if (rc == 0)
		rc = json_get_str(j, "status", &s, e);
	*waits = strcmp(s, "inmigrate") == 0;
	json_decref(j);
	return rc;
}

int
migrate_running(struct guest *g, bool *running, struct err *e)
{
	bool waits;

	return status(g, running, &waits, e);
}

int
migrate_waits(struct guest *g, bool *waits, struct err *e)
{
	bool running;

	return status(g, &running, waits, e);
}
