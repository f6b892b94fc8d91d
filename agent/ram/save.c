/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/ram/migrate.h"
#include "agent/ram/ram.h"
#include "agent/ram/ram_impl.h"
#include "agent/ram/ramcopy.h"
#include "agent/source/source_mem.h"
#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

enum { SNAPSHOT_START_MS = 120000 };
/* A stream without memory has firmware, video memory and devices in it. */
#define STATE_MAX ((off_t)64 << 20)

/* The memory's files, while nobody writes to them. */
static int
take_files(struct ram *r, struct err *e)
{
	int rc = 0;

	for (unsigned i = 0; i < r->backends.n && rc == 0; i++) {
		const struct ram_backend *b = &r->backends.b[i];

		if (!r->clone || !ramcopy_clone(b->fd, r->copy[i]))
			rc = ramcopy_copy(
			    b->fd, r->copy[i], b->size, r->o.threads, e);
		if (rc == 0 && ftruncate(r->copy[i], (off_t)b->size) != 0) {
			log_sys("memory: truncate");
			rc = err_set(e, ERR_SYS, "scratch: cannot write: %m");
		}
	}
	return rc;
}

/* Did QEMU put the memory into the stream after all? */
static int
skipped(struct ram *r, bool *yes, struct err *e)
{
	struct stat st;

	if (fstat(r->stream, &st) != 0) {
		log_sys("memory: stat");
		return err_set(e, ERR_SYS, "cannot look at the saved state");
	}
	*yes = st.st_size <= STATE_MAX || (uint64_t)st.st_size < r->size / 8;
	return 0;
}

int
ram_frozen(struct guest *g, void *arg, struct err *e)
{
	struct ram *r = arg;
	bool yes = false;
	int rc;

	if (r->method == RAM_SNAPSHOT)
		return 0;
	rc = migrate_start(g, r->stream, r->method == RAM_MAPPED, e);
	if (rc == 0)
		rc = migrate_wait(g, e);
	if (rc != 0 || r->method != RAM_SHARED)
		return rc;
	r->facts.form = RAM_FORM_SHARED;
	rc = skipped(r, &yes, e);
	if (rc == 0 && !yes)
		r->facts.form = RAM_FORM_RAW;
	return rc == 0 && yes ? take_files(r, e) : rc;
}

/* The devices' state is taken before the first page, and no sooner may the
 * guest go on: that would part it from its disks.  Before 8.2 QEMU lets it go
 * on by itself, later only one that ran. */
int
ram_frozen_after(struct guest *g, void *arg, struct err *e)
{
	uint64_t end = now_ms() + SNAPSHOT_START_MS;
	struct timespec t = { .tv_nsec = 1000000 };
	struct ram *r = arg;
	bool running = false, begun = false;
	int rc;

	if (r->method != RAM_SNAPSHOT)
		return 0;
	rc = migrate_start(g, r->stream, false, e);
	if (rc != 0)
		return rc;
	r->begun = true;
	for (;;) {
		rc = migrate_running(g, &running, e);
		if (rc != 0 || running)
			return rc;
		rc = migrate_begun(g, &begun, e);
		if (rc != 0)
			return rc;
		if (begun)
			return guest_monitor(g, "cont", NULL, -1, NULL, e);
		if (now_ms() > end)
			return err_set(e, ERR_TIMEOUT,
			    "QEMU does not begin its background snapshot");
		nanosleep(&t, NULL);
	}
}

static int
restore_settings(struct ram *r, struct err *e)
{
	int rc;

	if (!r->set)
		return 0;
	rc = migrate_restore(r->guest, NULL, e);
	if (rc == 0)
		r->set = false;
	return rc;
}

/* Pages to their places; a stream that we do not understand stays whole. */
static int
place(struct ram *r, struct err *e)
{
	int fd, index, rc;
	struct err why;

	rc = ramcopy_scratch(r->o.scratch_dir, &index, e);
	if (rc == 0)
		rc = ramcopy_scratch(r->o.scratch_dir, &r->state, e);
	if (rc != 0)
		return rc;
	fd = dup(r->stream);
	if (fd == -1) {
		close(index);
		log_sys("memory: dup");
		return err_set(e, ERR_SYS, "no file descriptor: %m");
	}
	rc = ramstream_open(fd, index, &r->pages, &why);
	if (rc == ERR_UNSUP) {
		log_info("%s: kept as it is", why.text);
		r->facts.form = RAM_FORM_RAW;
		return 0;
	}
	if (rc != 0)
		return err_set(e, rc, "%s", why.text);
	r->facts.form = RAM_FORM_PLACED;
	r->facts.layout = *ramstream_layout(r->pages);
	return ramstream_state(r->pages, r->state, e);
}

int
ram_finish(struct ram *r, struct err *e)
{
	int rc = 0;

	if (r->begun)
		rc = migrate_wait(r->guest, e);
	if (rc != 0)
		return rc;
	r->begun = false;
	rc = restore_settings(r, e);
	if (rc != 0)
		return rc;
	if (r->method == RAM_MAPPED)
		r->facts.form = RAM_FORM_MAPPED;
	else if (r->method != RAM_SHARED)
		rc = place(r, e);
	r->facts.ignore_shared = r->method == RAM_SHARED;
	r->finished = rc == 0;
	return rc;
}

static struct ram_input *
add(struct ram_input *in, unsigned *n, const char *kind, struct source *s)
{
	struct ram_input *i = &in[(*n)++];

	i->kind = kind;
	i->source = s;
	return i;
}

static void
add_files(struct ram *r, struct ram_input *in, unsigned *n)
{
	struct ram_facts *f = &r->facts;

	for (unsigned i = 0; i < r->backends.n; i++) {
		struct ram_fact_backend *b = &f->backend[i];
		struct ram_input *made;

		memcpy(b->id, r->backends.b[i].id, sizeof(b->id));
		snprintf(b->volume, sizeof(b->volume), "ram%u", i);
		b->size = r->backends.b[i].size;
		made = add(in, n, "ram", ram_source_fd(&r->copy[i]));
		memcpy(made->name, b->volume, sizeof(b->volume));
	}
	f->nbackends = r->backends.n;
}

unsigned
ram_inputs(struct ram *r, struct ram_input *in)
{
	struct source *s;
	struct buf b = { 0 };
	unsigned n = 0;
	int *state = &r->stream;

	if (!r->finished)
		return 0;
	r->finished = false; /* given away */
	if (r->facts.form == RAM_FORM_SHARED) {
		add_files(r, in, &n);
	} else if (r->facts.form == RAM_FORM_PLACED) {
		s = ramstream_source(r->pages);
		snprintf(add(in, &n, "ram", s)->name, sizeof(in->name), "ram0");
		r->pages = NULL;
		state = &r->state;
	} else if (r->facts.form == RAM_FORM_MAPPED) {
		s = ram_source_fd(&r->stream);
		snprintf(add(in, &n, "ram", s)->name, sizeof(in->name), "ram0");
		state = NULL;
	}
	if (state != NULL)
		snprintf(add(in, &n, "state", ram_source_fd(state))->name,
		    sizeof(in->name), "state");
	ram_facts_print(&r->facts, &b);
	s = source_mem_new(b.data, b.len, "json");
	snprintf(add(in, &n, "state", s)->name, sizeof(in->name), "ram-facts");
	buf_fini(&b);
	return n;
}

int
ram_release(struct guest *g, bool *found, struct err *e)
{
	return migrate_restore(g, found, e);
}

static void
close_fd(int fd)
{
	if (fd != -1)
		close(fd);
}

void
ram_close(struct ram *r)
{
	struct err e;

	if (r == NULL)
		return;
	if (r->begun)
		migrate_cancel(r->guest);
	if (restore_settings(r, &e) != 0)
		log_error("memory: %s", e.text);
	ramstream_close(r->pages);
	close_fd(r->stream);
	close_fd(r->state);
	for (unsigned i = 0; i < RAM_BACKENDS_MAX; i++)
		close_fd(r->copy[i]);
	backends_close(&r->backends);
	free(r);
}
