/* SPDX-License-Identifier: Apache-2.0 */
/* How a point in time is taken of a guest of either kind. */
#include <assert.h>
#include <string.h>
#include <time.h>

#include "agent/guest/guest_impl.h"
#include "proto/base/log.h"

static bool
hex_digits(const char *s, size_t n)
{
	return strlen(s) == n && strspn(s, "0123456789abcdef") == n;
}

static int
check(const struct guest *g, const struct guest_view_options *o, struct err *e)
{
	if (!hex_digits(o->repo, 8) || !hex_digits(o->tag, CHECKPOINT_TAG_LEN))
		return err_set(e, ERR_INVAL, "no name for a checkpoint");
	if (o->since != NULL &&
	    (!hex_digits(o->since, CHECKPOINT_TAG_LEN) ||
		strcmp(o->since, o->tag) == 0))
		return err_set(e, ERR_INVAL, "no name of a checkpoint");
	if (o->scratch_dir == NULL || o->scratch_dir[0] != '/')
		return err_set(e, ERR_INVAL,
		    "the folder for scratch files must be an absolute path");
	if (g->state == GUEST_OFF)
		return err_set(e, ERR_INVAL, "the guest is not running");
	if (o->ndisks == 0)
		return err_set(e, ERR_INVAL, "no disk is to be backed up");
	for (unsigned i = 0; i < o->ndisks; i++) {
		if (o->disk[i] >= g->ndisks)
			return err_set(
			    e, ERR_INVAL, "there is no disk %u", o->disk[i]);
		for (unsigned j = 0; j < i; j++)
			if (o->disk[i] == o->disk[j])
				return err_set(e, ERR_INVAL,
				    "disk %s is named twice",
				    g->disk[o->disk[i]].name);
	}
	return 0;
}

static uint64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int
thaw(struct guest *g, struct err *e)
{
	int rc;

	rc = g->ops->thaw(g, e);
	if (rc != 0) {
		if (e != NULL)
			err_prefix(
			    e, "the guest's file systems may still be frozen");
		return rc;
	}
	return mark_frozen(g->mark, g->pid, false);
}

/* Frozen, or with a note why not, as far as options allow that. */
static int
freeze(struct guest *g, const struct guest_view_options *o,
    struct guest_view *out, struct err *e)
{
	struct err why = { 0 };
	int rc, rc2;

	if (o->quiesce == QUIESCE_NO)
		return 0;
	if (g->state != GUEST_RUNNING) {
		rc = err_set(&why, ERR_UNSUP, "the guest is paused");
	} else {
		rc = mark_frozen(g->mark, g->pid, true);
		if (rc != 0)
			return err_set(e, rc, "cannot note that it freezes");
		rc = g->ops->freeze(g, &why);
		if (rc == 0) {
			out->consistency = "guest";
			return 0;
		}
		/* An agent that is late may freeze yet; it thaws after that. */
		if (rc == ERR_UNSUP)
			rc2 = mark_frozen(g->mark, g->pid, false);
		else
			rc2 = thaw(g, e);
		if (rc2 != 0)
			return rc2;
	}
	if (o->quiesce == QUIESCE_REQUIRE)
		return err_set(e, rc == ERR_UNSUP ? ERR_UNSUP : rc,
		    "the guest's file systems cannot be frozen: %s", why.text);
	snprintf(out->note, sizeof(out->note), "not frozen: %.180s", why.text);
	return 0;
}

static int
point_running(struct guest *g, const struct guest_view_options *o,
    struct guest_view *out, struct err *e)
{
	int rc, rc2;

	rc = g->ops->view_prepare(g, o, out, e);
	if (rc == 0)
		rc = freeze(g, o, out, e);
	if (rc != 0)
		return rc;
	rc = g->ops->view_point(g, o, out, e);
	if (rc == 0 && o->point != NULL)
		rc = o->point(g, o->point_arg, e);
	if (strcmp(out->consistency, "guest") == 0) {
		rc2 = thaw(g, rc == 0 ? e : NULL);
		rc = rc != 0 ? rc : rc2;
	}
	return rc;
}

/* File systems are not frozen for it: a machine that is restored with its RAM
 * would wake up with frozen ones. */
static int
point_stopped(struct guest *g, const struct guest_view_options *o,
    struct guest_view *out, struct err *e)
{
	bool was_running = g->state == GUEST_RUNNING;
	uint64_t start = now_us();
	int rc, rc2;

	rc = guest_stop(g, e);
	if (rc != 0)
		return rc;
	rc = o->frozen(g, o->frozen_arg, e);
	/* Nodes are added afterwards, or saving would inactivate them too. */
	if (rc == 0 && g->ops->activate != NULL)
		rc = g->ops->activate(g, e);
	if (rc == 0)
		rc = g->ops->view_prepare(g, o, out, e);
	if (rc == 0)
		rc = g->ops->view_point(g, o, out, e);
	if (rc == 0 && o->point != NULL)
		rc = o->point(g, o->point_arg, e);
	if (rc == 0 && o->frozen_after != NULL)
		rc = o->frozen_after(g, o->frozen_arg, e);
	rc2 = guest_cont(g, rc == 0 ? e : NULL);
	if (was_running)
		out->pause_us = now_us() - start;
	out->consistency = "ram";
	return rc != 0 ? rc : rc2;
}

int
guest_view_begin(struct guest *g, const struct guest_view_options *o,
    struct guest_view *out, struct err *e)
{
	int rc;

	assert(!g->viewing);
	memset(out, 0, sizeof(*out));
	out->consistency = "crash";
	rc = check(g, o, e);
	if (rc == 0)
		rc = guest_check_iothreads(g, e);
	if (rc == 0)
		rc = guest_guarded(g, e);
	if (rc != 0)
		return rc;
	g->viewing = true;
	rc = g->ops->view_files(g, o, out, e);
	if (rc == 0)
		rc = o->frozen != NULL ? point_stopped(g, o, out, e)
				       : point_running(g, o, out, e);
	if (rc == 0)
		rc = g->ops->view_expose(g, o, out, e);
	if (rc != 0)
		guest_view_end(g, false, NULL);
	return rc;
}
