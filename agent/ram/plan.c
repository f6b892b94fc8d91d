/* SPDX-License-Identifier: Apache-2.0 */
/* What can be done with this guest's memory, and what is best. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "agent/ram/migrate.h"
#include "agent/ram/ram_impl.h"
#include "agent/ram/ramcopy.h"
#include "proto/base/buf.h"
#include "proto/base/log.h"

enum {
	/* Versions in which something came. */
	QEMU_MEMFD_NOT_SKIPPED = 801,
	QEMU_MAPPED = 900,
	/* From as many processors on several threads of QEMU pay. */
	CHANNELS_FROM = 4
};

static const char *const names[] = {
	[RAM_AUTO] = "auto",
	[RAM_SHARED] = "shared",
	[RAM_SNAPSHOT] = "snapshot",
	[RAM_MAPPED] = "mapped",
	[RAM_STREAM] = "stream",
};

const char *
ram_method_name(enum ram_method m)
{
	return names[m];
}

enum ram_method
ram_method(const struct ram *r)
{
	return r->method;
}

static unsigned
processors(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n < 1 ? 1 : n > RAM_THREADS_MAX ? RAM_THREADS_MAX : (unsigned)n;
}

void
ram_caps(const struct ram *r, struct migrate_caps *c)
{
	memset(c, 0, sizeof(*c));
	c->ignore_shared = r->method == RAM_SHARED;
	c->snapshot = r->method == RAM_SNAPSHOT;
	c->mapped = r->method == RAM_MAPPED;
	if (c->mapped && r->o.threads >= CHANNELS_FROM)
		c->channels = r->o.threads / 2;
}

static int
ask_version(struct ram *r, struct err *e)
{
	uint64_t major, minor, micro;
	json_t *j, *q;
	int rc;

	rc = guest_monitor(r->guest, "query-version", NULL, -1, &j, e);
	if (rc != 0)
		return rc;
	rc = json_get_object(j, "qemu", &q, e);
	if (rc == 0)
		rc = json_get_u64(q, "major", &major, e);
	if (rc == 0)
		rc = json_get_u64(q, "minor", &minor, e);
	if (rc == 0)
		rc = json_get_u64(q, "micro", &micro, e);
	json_decref(j);
	if (rc != 0)
		return rc;
	r->version = (unsigned)(major % 10000 * 100 + minor % 100);
	snprintf(r->facts.qemu, sizeof(r->facts.qemu), "%llu.%llu.%llu",
	    (unsigned long long)major, (unsigned long long)minor,
	    (unsigned long long)micro);
	return 0;
}

static int
ask_machine(struct ram *r, struct err *e)
{
	json_t *args = json_object(), *j;
	char *end;
	int rc;

	json_set_str(args, "path", "/machine");
	json_set_str(args, "property", "type");
	rc = guest_monitor(r->guest, "qom-get", args, -1, &j, e);
	if (rc != 0)
		return rc;
	if (json_is_string(j))
		snprintf(r->facts.machine, sizeof(r->facts.machine), "%s",
		    json_string_value(j));
	json_decref(j);
	end = strstr(r->facts.machine, "-machine");
	if (end != NULL)
		*end = 0;
	return 0;
}

static int
ask_size(struct ram *r, struct err *e)
{
	uint64_t base = 0, plugged = 0;
	json_t *j;
	int rc;

	rc = guest_monitor(
	    r->guest, "query-memory-size-summary", NULL, -1, &j, e);
	if (rc != 0)
		return rc;
	rc = json_get_u64(j, "base-memory", &base, e);
	if (rc == 0)
		rc = json_opt_u64(j, "plugged-memory", &plugged, e);
	json_decref(j);
	if (rc == 0 && (base > RAM_SIZE_MAX || plugged > RAM_SIZE_MAX))
		rc = err_set(e, ERR_LIMIT, "the guest has too much memory");
	r->size = base + plugged;
	return rc;
}

/* All of it lies in files that QEMU leaves out of its stream. */
static bool
all_shared(const struct ram *r)
{
	const struct ram_backends *b = &r->backends;

	for (unsigned i = 0; i < b->n; i++)
		if (!b->b[i].share || b->b[i].fd == -1 ||
		    (!b->b[i].named && r->version >= QEMU_MEMFD_NOT_SKIPPED))
			return false;
	return b->n > 0 && backends_size(b) >= r->size;
}

/* Whether the files can be cloned into scratch.  The first clone waits for the
 * disk; it is done now, so that the one that counts takes milliseconds.  A
 * clone holds up whoever touches the memory while it waits, a sync does not. */
static bool
try_clone(struct ram *r)
{
	bool ok = true;
	int fd;

	for (unsigned i = 0; i < r->backends.n && ok; i++) {
		if (ramcopy_scratch(r->o.scratch_dir, &fd, NULL) != 0)
			return false;
		if (fdatasync(r->backends.b[i].fd) != 0)
			log_sys("memory: sync");
		ok = ramcopy_clone(r->backends.b[i].fd, fd);
		close(fd);
	}
	return ok;
}

/* May QEMU do it?  Its settings are ours if it may. */
static int
try_method(struct ram *r, enum ram_method m, struct err *e)
{
	struct migrate_caps c;
	int rc;

	r->method = m;
	if (m == RAM_SHARED && !all_shared(r))
		return err_set(e, ERR_UNSUP,
		    "the guest's memory does not lie in shared files that can "
		    "be read (memory-backend-file, share=on)");
	if (m == RAM_MAPPED && r->version < QEMU_MAPPED)
		return err_set(e, ERR_UNSUP, "mapped-ram needs QEMU 9.0");
	/* It would start a guest that was paused. */
	if (m == RAM_SNAPSHOT && guest_state(r->guest) != GUEST_RUNNING)
		return err_set(e, ERR_UNSUP, "the guest does not run");
	ram_caps(r, &c);
	rc = migrate_setup(r->guest, &c, e);
	r->set = rc == 0;
	return rc;
}

static int
choose(struct ram *r, struct err *e)
{
	static const enum ram_method order[] = { RAM_SNAPSHOT, RAM_SHARED,
		RAM_MAPPED, RAM_STREAM };
	int rc;

	r->clone = all_shared(r) && try_clone(r);
	if (r->o.method != RAM_AUTO)
		return try_method(r, r->o.method, e);
	/* What holds the guest for milliseconds comes first. */
	if (r->clone)
		return try_method(r, RAM_SHARED, e);
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		rc = try_method(r, order[i], e);
		if (rc != ERR_UNSUP)
			return rc;
	}
	return rc;
}

/* A file for what QEMU writes, and with copies as many more. */
static int
open_scratch(struct ram *r, struct err *e)
{
	uint64_t need = r->clone && r->method == RAM_SHARED ? 0 : r->size;
	struct statvfs st;
	int rc;

	if (statvfs(r->o.scratch_dir, &st) != 0)
		return err_set(e, ERR_NOENT,
		    "scratch folder %s: %m; make it, or say --scratch-dir",
		    r->o.scratch_dir);
	if (need > r->o.scratch_max || need / st.f_frsize > st.f_bavail)
		return err_set(e, ERR_NOSPC,
		    "scratch folder %s has no room for %llu MiB of memory; say "
		    "--scratch-dir, or make room",
		    r->o.scratch_dir, (unsigned long long)(need >> 20));
	rc = ramcopy_scratch(r->o.scratch_dir, &r->stream, e);
	for (unsigned i = 0;
	     r->method == RAM_SHARED && i < r->backends.n && rc == 0; i++)
		rc = ramcopy_scratch(r->o.scratch_dir, &r->copy[i], e);
	return rc;
}

int
ram_plan(struct guest *g, const struct ram_options *o, struct ram **out,
    struct err *e)
{
	struct ram *r = xcalloc(1, sizeof(*r));
	int rc;

	r->guest = g;
	r->o = *o;
	r->stream = -1;
	r->state = -1;
	for (unsigned i = 0; i < RAM_BACKENDS_MAX; i++)
		r->copy[i] = -1;
	if (r->o.threads == 0 || r->o.threads > RAM_THREADS_MAX)
		r->o.threads = processors();
	rc = migrate_idle(g, e);
	if (rc == 0)
		rc = ask_version(r, e);
	if (rc == 0)
		rc = ask_machine(r, e);
	if (rc == 0)
		rc = ask_size(r, e);
	if (rc == 0)
		rc = backends_find(g, false, &r->backends, e);
	if (rc == 0)
		rc = choose(r, e);
	if (rc == 0)
		rc = open_scratch(r, e);
	if (rc != 0) {
		ram_close(r);
		return rc;
	}
	*out = r;
	return 0;
}
