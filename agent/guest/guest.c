/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/guest/guest.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "agent/guest/guest_impl.h"
#include "proto/base/log.h"

struct guest *
guest_new(const struct guest_ops *ops, const char *kind)
{
	struct guest *g = xcalloc(1, sizeof(*g));

	g->ops = ops;
	g->how = json_object();
	json_set_str(g->how, "kind", kind);
	return g;
}

int
guest_reopen(const json_t *how, struct guest **out, struct err *e)
{
	const char *kind, *at = NULL, *ga = NULL;
	int rc;

	rc = json_get_str(how, "kind", &kind, e);
	if (rc != 0)
		return rc;
	if (strcmp(kind, "qmp") == 0) {
		rc = json_get_str(how, "socket", &at, e);
		if (rc == 0)
			rc = json_opt_str(how, "ga", &ga, e);
		if (rc == 0)
			rc = guest_open_qmp(at, ga, out, e);
		return rc;
	}
	if (strcmp(kind, "libvirt") == 0) {
		rc = json_opt_str(how, "uri", &at, e);
		if (rc == 0)
			rc = json_get_str(how, "domain", &ga, e);
		if (rc == 0)
			rc = guest_open_libvirt(at, ga, out, e);
		return rc;
	}
	return err_set(
	    e, ERR_INVAL, "there is no kind of guest \"%.20s\"", kind);
}

void
guest_bitmap_name(
    char out[CHECKPOINT_NAME_MAX], const char *repo, const char *tag)
{
	snprintf(
	    out, CHECKPOINT_NAME_MAX, GUEST_PREFIX "%.8s-%.16s", repo, tag);
}

bool
guest_bitmap_is_old(const char *name, const char *repo, const char *keep)
{
	char of[CHECKPOINT_NAME_MAX];

	if (repo == NULL)
		return false;
	guest_bitmap_name(of, repo, "");
	if (strncmp(name, of, strlen(of)) != 0)
		return false;
	return keep == NULL || strcmp(name + strlen(of), keep) != 0;
}

/* A connection that broke in a view leaves the guest to the guard. */
static void
let_guard_go(struct guest *g)
{
	bool undone = !g->unclean;

	if (g->guard == NULL)
		return;
	if (g->mark != NULL &&
	    (mark_is_frozen(g->mark, g->pid) ||
		mark_is_stopped(g->mark, g->pid)))
		undone = false;
	if (undone)
		guard_stop(g->guard);
	else
		guard_leave(g->guard);
	g->guard = NULL;
}

void
guest_close(struct guest *g)
{
	if (g == NULL)
		return;
	if (g->viewing)
		guest_view_end(g, false, NULL);
	let_guard_go(g);
	/* Who waits for the connection may have the lock when he gets it. */
	mark_close(g->mark);
	g->ops->close(g);
	for (unsigned i = 0; i < g->ndisks; i++)
		free(g->disk[i].path);
	for (unsigned i = 0; i < g->nfiles; i++)
		free(g->file[i].path);
	free(g->definition);
	json_decref(g->how);
	free(g);
}

enum guest_state
guest_state(const struct guest *g)
{
	return g->state;
}

const struct guest_disk *
guest_disks(const struct guest *g, unsigned *n)
{
	*n = g->ndisks;
	return g->disk;
}

const struct guest_file *
guest_files(const struct guest *g, unsigned *n)
{
	*n = g->nfiles;
	return g->file;
}

const char *
guest_definition(const struct guest *g, const char **format)
{
	*format = g->definition_format;
	return g->definition;
}

int
guest_pid(const struct guest *g)
{
	return g->pid;
}

int
guest_lock(struct guest *g, struct err *e)
{
	return g->mark != NULL ? 0 : mark_open(g->ident, &g->mark, e);
}

static void
found(struct buf *what, const char *text)
{
	buf_printf(what, "%s%s", what->len == 0 ? "" : ", ", text);
}

int
guest_release(struct guest *g, const char *repo, const char *keep, char *what,
    size_t len, struct err *e)
{
	struct buf b = { 0 };
	unsigned files;
	int rc = 0, rc2;

	assert(g->mark != NULL && !g->viewing);
	/* A guest that stands still comes first. */
	if (mark_is_stopped(g->mark, g->pid)) {
		rc = guest_cont(g, e);
		if (rc == 0)
			found(&b, "stopped processors");
	}
	if (mark_is_frozen(g->mark, g->pid)) {
		rc2 = g->ops->thaw(g, rc == 0 ? e : NULL);
		if (rc2 == 0)
			rc2 = mark_frozen(g->mark, g->pid, false);
		if (rc2 == 0)
			found(&b, "frozen file systems");
		rc = rc != 0 ? rc : rc2;
	}
	rc2 = g->ops->release(g, repo, keep, &b, rc == 0 ? e : NULL);
	rc = rc != 0 ? rc : rc2;
	files = mark_remove_files(g->mark);
	if (files != 0)
		found(&b, "files");
	if (rc == 0) { /* what is left is of a process that has ended */
		mark_frozen(g->mark, 0, false);
		mark_stopped(g->mark, 0, false);
		mark_server(g->mark, 0, false);
	}
	snprintf(what, len, "%s", b.len == 0 ? "" : buf_cstr(&b));
	buf_fini(&b);
	return rc;
}

int
guest_watch(struct guest *g, struct err *e)
{
	return g->ops->watch(g, e);
}

int
guest_view_end(struct guest *g, bool keep, struct err *e)
{
	int rc = 0, rc2;

	if (!g->viewing)
		return 0;
	rc = g->ops->view_end(g, keep, e);
	g->viewing = false;
	mark_remove_files(g->mark);
	/* Left so by a step that failed; once more, before the guard. */
	if (mark_is_stopped(g->mark, g->pid)) {
		rc2 = guest_cont(g, rc == 0 ? e : NULL);
		rc = rc != 0 ? rc : rc2;
	}
	if (rc != 0)
		g->unclean = true;
	let_guard_go(g);
	return rc;
}

int
guest_monitor(struct guest *g, const char *command, json_t *args, int fd,
    json_t **out, struct err *e)
{
	return g->ops->monitor(g, command, args, fd, out, e);
}

/* There must be somebody to undo it before it is done. */
int
guest_guarded(struct guest *g, struct err *e)
{
	int rc;

	rc = guest_lock(g, e);
	if (rc != 0)
		return rc;
	if (g->guard != NULL && !guard_alive(g->guard)) {
		guard_leave(g->guard);
		g->guard = NULL;
	}
	if (g->guard != NULL)
		return 0;
	json_set_str(g->how, "ident", g->ident);
	return guard_start(g->how, &g->guard, e);
}

int
guest_stop(struct guest *g, struct err *e)
{
	int rc;

	if (g->state != GUEST_RUNNING)
		return 0;
	rc = guest_guarded(g, e);
	if (rc != 0)
		return rc;
	rc = mark_stopped(g->mark, g->pid, true);
	if (rc != 0)
		return err_set(e, rc, "cannot note that the guest stops");
	rc = g->ops->stop(g, e);
	g->state = GUEST_PAUSED;
	if (rc != 0)
		guest_cont(g, NULL); /* it may have stopped */
	return rc;
}

int
guest_cont(struct guest *g, struct err *e)
{
	int rc;

	if (g->mark == NULL || !mark_is_stopped(g->mark, g->pid))
		return 0; /* not stopped by us */
	rc = g->ops->cont(g, e);
	if (rc != 0)
		return rc;
	g->state = GUEST_RUNNING;
	return mark_stopped(g->mark, g->pid, false);
}
