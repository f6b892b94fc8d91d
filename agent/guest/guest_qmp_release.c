/* SPDX-License-Identifier: Apache-2.0 */
/* All that begins with our prefix goes out of a QEMU, by what QEMU tells is
 * there: the end of a view and the release of a killed one are the same. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/guest/guest_qmp.h"
#include "proto/base/io.h"

enum { PASSES_MAX = 8 };

static bool
is_ours(const char *name)
{
	return name != NULL &&
	    strncmp(name, GUEST_PREFIX, strlen(GUEST_PREFIX)) == 0;
}

static void
found(struct buf *what, const char *text)
{
	if (what != NULL)
		buf_printf(what, "%s%s", what->len == 0 ? "" : ", ", text);
}

/* A step that failed does not keep the others from being tried. */
static void
note(int *rc, int failed, const struct err *why, struct err *e)
{
	if (failed == 0 || *rc != 0)
		return;
	*rc = failed;
	err_set(e, failed, "%s", why->text);
}

static json_t *
one(const char *key, const char *value)
{
	json_t *j = json_object();

	json_set_str(j, key, value);
	return j;
}

/* Tell all of a list that are ours to go; how many there are. */
static int
dismiss(struct guest *g, const char *query, const char *key,
    const char *command, const char *arg, unsigned *n, struct err *e)
{
	struct qmp_guest *p = g->impl;
	const char *s;
	json_t *list, *item, *args;
	size_t i;
	int rc;

	*n = 0;
	rc = qmp_command(p->q, query, NULL, -1, QMP_MS, &list, e);
	if (rc != 0)
		return rc;
	json_array_foreach(list, i, item)
	{
		s = json_string_value(json_object_get(item, key));
		if (!is_ours(s))
			continue;
		++*n;
		if (command == NULL)
			continue;
		args = one(arg, s);
		if (strcmp(command, "block-job-cancel") == 0)
			json_set_bool(args, "force", true);
		else
			json_set_str(args, "mode", "hard");
		/* One that is ending already says so; it is looked at again. */
		qmp_command(p->q, command, args, -1, QMP_MS, NULL, e);
	}
	json_decref(list);
	return 0;
}

static int
dismiss_all(struct guest *g, const char *query, const char *key,
    const char *command, const char *arg, unsigned *n, struct err *e)
{
	struct qmp_guest *p = g->impl;
	uint64_t end = now_ms() + QMP_SETTLE_MS;
	unsigned left;
	int rc;

	rc = dismiss(g, query, key, command, arg, n, e);
	for (left = *n; rc == 0 && left != 0;) {
		rc = dismiss(g, query, key, NULL, NULL, &left, e);
		if (rc == 0 && left != 0 && now_ms() > end)
			rc = err_set(
			    e, ERR_TIMEOUT, "%u of %s do not end", left, query);
		if (rc == 0 && left != 0)
			qmp_pause(p->q, 20);
	}
	return rc;
}

/* Those without parents can go: the images, then their files. */
static int
remove_nodes(struct guest *g, unsigned *n, struct err *e)
{
	struct qmp_guest *p = g->impl;
	const char *s;
	unsigned left = 1;
	json_t *list, *item;
	size_t i;
	int rc = 0;

	*n = 0;
	for (unsigned pass = 0; rc == 0 && left != 0 && pass < PASSES_MAX;
	     pass++) {
		left = 0;
		rc = qmp_command(p->q, "query-named-block-nodes",
		    json_pack("{s:b}", "flat", 1), -1, QMP_MS, &list, e);
		if (rc != 0)
			break;
		json_array_foreach(list, i, item)
		{
			s = json_string_value(
			    json_object_get(item, "node-name"));
			if (!is_ours(s))
				continue;
			left++;
			/* QEMU may keep the file open for longer. */
			if (strncmp(s, GUEST_PREFIX "file-", 14) == 0)
				qmp_command(p->q, "block_resize",
				    json_pack(
					"{s:s,s:i}", "node-name", s, "size", 0),
				    -1, QMP_MS, NULL, NULL);
			if (qmp_command(p->q, "blockdev-del",
				one("node-name", s), -1, QMP_MS, NULL, e) == 0)
				++*n;
		}
		json_decref(list);
	}
	if (rc == 0 && left != 0)
		rc = err_set(e, ERR_BUSY, "scratch nodes are still in use");
	return rc;
}

static int
remove_fds(struct guest *g, struct err *e)
{
	struct qmp_guest *p = g->impl;
	json_t *sets, *set, *fd, *args;
	size_t i, k;
	int rc;

	rc = qmp_command(p->q, "query-fdsets", NULL, -1, QMP_MS, &sets, e);
	if (rc != 0)
		return rc;
	json_array_foreach(sets, i, set)
	{
		json_array_foreach(json_object_get(set, "fds"), k, fd)
		{
			if (!is_ours(json_string_value(
				json_object_get(fd, "opaque"))))
				continue;
			args = json_object();
			json_object_set(
			    args, "fdset-id", json_object_get(set, "fdset-id"));
			json_object_set(args, "fd", json_object_get(fd, "fd"));
			qmp_command(
			    p->q, "remove-fd", args, -1, QMP_MS, NULL, NULL);
		}
	}
	json_decref(sets);
	return 0;
}

/* A scratch image that was full may have stopped the guest at its own write,
 * which is tried again. */
static int
go_on_after_error(struct guest *g, struct err *e)
{
	struct qmp_guest *p = g->impl;
	const char *s;
	json_t *j;
	int rc;

	rc = qmp_command(p->q, "query-status", NULL, -1, QMP_MS, &j, e);
	if (rc != 0)
		return rc;
	s = json_string_value(json_object_get(j, "status"));
	if (s != NULL && strcmp(s, "io-error") == 0)
		rc =
		    qmp_command(p->q, "cont", NULL, -1, GUEST_SLOW_MS, NULL, e);
	json_decref(j);
	return rc;
}

static bool
is_view_bitmap(const char *name, const void *arg)
{
	(void)arg;
	return strcmp(name, GUEST_VIEW_BITMAP) == 0;
}

int
guest_qmp_bitmaps(struct guest *g, guest_qmp_gone_fn *gone, const void *arg,
    struct buf *what, struct err *e)
{
	struct qmp_guest *p = g->impl;
	struct err why = { 0 };
	json_t *nodes, *node, *b, *args;
	const char *s, *n;
	size_t i, k;
	int rc, rc2;

	rc = qmp_command(p->q, "query-named-block-nodes",
	    json_pack("{s:b}", "flat", 1), -1, QMP_MS, &nodes, e);
	if (rc != 0)
		return rc;
	json_array_foreach(nodes, i, node)
	{
		n = json_string_value(json_object_get(node, "node-name"));
		json_array_foreach(json_object_get(node, "dirty-bitmaps"), k, b)
		{
			s = json_string_value(json_object_get(b, "name"));
			if (n == NULL || s == NULL || !gone(s, arg))
				continue;
			args = one("node", n);
			json_set_str(args, "name", s);
			rc2 = qmp_command(p->q, "block-dirty-bitmap-remove",
			    args, -1, QMP_MS, NULL, &why);
			if (rc2 == 0)
				found(what, "a dirty bitmap");
			/* Images below the guest's are not to be changed. */
			else if (!json_is_true(json_object_get(node, "ro")))
				note(&rc, rc2, &why, e);
		}
	}
	json_decref(nodes);
	return rc;
}

int
guest_qmp_undo(struct guest *g, struct buf *what, struct err *e)
{
	struct qmp_guest *p = g->impl;
	struct err why = { 0 };
	unsigned n;
	int rc, rc2;

	/* One that hangs is not asked a dozen times. */
	rc = qmp_command(p->q, "query-status", NULL, -1, QMP_MS, NULL, e);
	if (rc != 0)
		return rc;
	rc2 = dismiss_all(
	    g, "query-block-exports", "id", "block-export-del", "id", &n, &why);
	note(&rc, rc2, &why, e);
	if (rc2 == 0 && n != 0)
		found(what, "NBD exports");
	rc2 = dismiss_all(g, "query-block-jobs", "device", "block-job-cancel",
	    "device", &n, &why);
	note(&rc, rc2, &why, e);
	if (rc2 == 0 && n != 0) {
		found(what, "backup jobs");
		note(&rc, go_on_after_error(g, &why), &why, e);
	}
	if (mark_has_server(g->mark, g->pid)) {
		rc2 = qmp_command(
		    p->q, "nbd-server-stop", NULL, -1, QMP_MS, NULL, &why);
		/* Refused: it did not run yet, or not any more. */
		if (rc2 == 0)
			found(what, "an NBD server");
		else if (rc2 != ERR_INVAL)
			note(&rc, rc2, &why, e);
		if (rc2 == 0 || rc2 == ERR_INVAL)
			mark_server(g->mark, g->pid, false);
	}
	rc2 = remove_nodes(g, &n, &why);
	note(&rc, rc2, &why, e);
	if (rc2 == 0 && n != 0)
		found(what, "scratch nodes");
	note(&rc, remove_fds(g, &why), &why, e);
	note(&rc, guest_qmp_bitmaps(g, is_view_bitmap, NULL, what, &why), &why,
	    e);
	return rc;
}

struct old {
	const char *repo, *keep;
};

static bool
is_old(const char *name, const void *arg)
{
	const struct old *o = arg;

	return guest_bitmap_is_old(name, o->repo, o->keep);
}

int
guest_qmp_release(struct guest *g, const char *repo, const char *keep,
    struct buf *what, struct err *e)
{
	struct old old = { .repo = repo, .keep = keep };
	struct err why = { 0 };
	int rc;

	rc = guest_qmp_undo(g, what, e);
	if (rc == ERR_TIMEOUT || rc == ERR_CLOSED)
		return rc;
	note(&rc, guest_qmp_bitmaps(g, is_old, &old, what, &why), &why, e);
	/* Where jobs ended the disks' nodes are others. */
	note(&rc, guest_qmp_list(g, &why), &why, e);
	return rc;
}

static bool
is_named(const char *name, const void *arg)
{
	return strcmp(name, arg) == 0;
}

int
guest_qmp_view_end(struct guest *g, bool keep, struct err *e)
{
	struct qmp_guest *p = g->impl;
	const char *bitmap = keep ? p->old_bitmap : p->new_bitmap;
	struct err why = { 0 };
	int rc;

	rc = guest_qmp_undo(g, NULL, e);
	if (bitmap[0] != 0 && rc != ERR_TIMEOUT && rc != ERR_CLOSED)
		note(&rc, guest_qmp_bitmaps(g, is_named, bitmap, NULL, &why),
		    &why, e);
	for (unsigned i = 0; i < p->nview; i++) {
		close(p->scratch[i]);
		free(p->export[i]);
		p->export[i] = NULL;
	}
	p->nview = 0;
	p->pointed = false;
	free(p->socket);
	p->socket = NULL;
	return rc;
}
