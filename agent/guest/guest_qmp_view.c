/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The point in time of a plain QEMU's disks: backup jobs that copy what the
 * guest is about to overwrite into scratch images, which are exported.
 *
 * Jobs, and not filters with snapshot-access: they begin for all disks and
 * with the bitmaps in one transaction, without stopping the processors, and
 * QEMU 6.0 has them.  What they lack before QEMU has on-cbw-error for them is
 * a guest's write that outlives a failure of the scratch image; hence the
 * reserved room, no flushing, no network, and guest_qmp_watch.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/guest/guest_qmp.h"
#include "agent/guest/scratch.h"
#include "proto/base/log.h"

#define NBD_FD GUEST_PREFIX "nbd"

int
guest_qmp_view_files(struct guest *g, const struct guest_view_options *o,
    struct guest_view *out, struct err *e)
{
	struct qmp_guest *p = g->impl;
	uint64_t need = 0, share = o->scratch_max / o->ndisks, size;
	int rc;

	(void)out;
	guest_bitmap_name(p->new_bitmap, o->repo, o->tag);
	p->old_bitmap[0] = 0;
	if (o->since != NULL)
		guest_bitmap_name(p->old_bitmap, o->repo, o->since);
	p->scratch_max = o->scratch_max;
	rc = guest_qmp_list(g, e);
	if (rc != 0)
		return rc;
	for (unsigned i = 0; i < o->ndisks; i++)
		need += scratch_need(
		    g->disk[o->disk[i]].size, o->scratch_max - need);
	rc = scratch_check(o->scratch_dir, need, e);
	if (rc != 0)
		return rc;
	for (unsigned i = 0; i < o->ndisks; i++) {
		size = g->disk[o->disk[i]].size;
		rc = scratch_new(o->scratch_dir, size,
		    scratch_need(size, share), &p->scratch[i], e);
		if (rc != 0)
			return rc;
		p->nview = i + 1;
	}
	return 0;
}

/* QEMU is handed the socket: it need not have a right to our folder. */
static int
bound_socket(const char *path, int *out, struct err *e)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd, rc;

	if (strlen(path) >= sizeof(a.sun_path))
		return err_set(
		    e, ERR_LIMIT, "%s is too long for a socket", path);
	memcpy(a.sun_path, path, strlen(path) + 1);
	unlink(path); /* of a run that was killed; the lock is ours */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd != -1 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0) {
		*out = fd;
		return 0;
	}
	rc = err_set(
	    e, log_sys("%s: bind", path), "cannot make a socket %s", path);
	if (fd != -1)
		close(fd);
	return rc;
}

int
guest_qmp_server(struct guest *g, struct err *e)
{
	struct qmp_guest *p = g->impl;
	char *path;
	int fd = -1, rc;

	if (p->socket != NULL)
		return 0;
	path = xasprintf("%s/%s.nbd", mark_dir(g->mark), g->ident);
	rc = mark_file(g->mark, path);
	if (rc == 0)
		rc = bound_socket(path, &fd, e);
	if (rc != 0)
		goto err_free;
	rc = qmp_command(p->q, "getfd", json_pack("{s:s}", "fdname", NBD_FD),
	    fd, QMP_MS, NULL, e);
	close(fd);
	if (rc != 0)
		goto err_unlink;
	rc = mark_server(g->mark, g->pid, true);
	if (rc == 0)
		rc = qmp_command(p->q, "nbd-server-start",
		    json_pack("{s:{s:s,s:{s:s}},s:i}", "addr", "type", "fd",
			"data", "str", NBD_FD, "max-connections",
			QMP_NBD_CONNECTIONS),
		    -1, QMP_MS, NULL, e);
	if (rc != 0)
		goto err_mark;
	p->socket = path;
	return 0;
err_mark:
	mark_server(g->mark, g->pid, false);
	qmp_command(p->q, "closefd", json_pack("{s:s}", "fdname", NBD_FD), -1,
	    QMP_MS, NULL, NULL);
	if (rc == ERR_INVAL)
		rc = err_set(e, ERR_BUSY,
		    "QEMU's NBD server cannot be had: it has only one, which "
		    "somebody else may be using (query-block-exports tells for "
		    "what; nbd-server-stop ends it)");
err_unlink:
	unlink(path);
err_free:
	free(path);
	return rc;
}

static int
add_scratch(struct guest *g, unsigned i, const char *node, struct err *e)
{
	struct qmp_guest *p = g->impl;
	char name[64], file[64], fdset[64];
	uint64_t id;
	json_t *j;
	int rc;

	snprintf(name, sizeof(name), QMP_SCRATCH, i);
	snprintf(file, sizeof(file), QMP_SCRATCH_FILE, i);
	rc = qmp_command(p->q, "add-fd", json_pack("{s:s}", "opaque", QMP_FD),
	    p->scratch[i], QMP_MS, &j, e);
	if (rc != 0)
		return rc;
	rc = json_get_u64(j, "fdset-id", &id, e);
	json_decref(j);
	if (rc != 0)
		return rc;
	snprintf(
	    fdset, sizeof(fdset), "/dev/fdset/%llu", (unsigned long long)id);
	/* Nobody needs it after a crash, and no flush of it shall hold up the
	 * guest. */
	rc = qmp_command(p->q, "blockdev-add",
	    json_pack("{s:s,s:s,s:s,s:{s:b}}", "driver", "file", "filename",
		fdset, "node-name", file, "cache", "no-flush", 1),
	    -1, QMP_MS, NULL, e);
	if (rc != 0)
		return rc;
	return qmp_command(p->q, "blockdev-add",
	    json_pack("{s:s,s:s,s:s,s:s,s:{s:b}}", "driver", "qcow2", "file",
		file, "node-name", name, "backing", node, "cache", "no-flush",
		1),
	    -1, QMP_MS, NULL, e);
}

/* Of the node's; NULL: none of that name. */
static const json_t *
bitmap_of(const json_t *nodes, const char *node, const char *name)
{
	const json_t *n, *b;
	const char *s;
	size_t i, k;

	json_array_foreach(nodes, i, n)
	{
		s = json_string_value(json_object_get(n, "node-name"));
		if (s == NULL || strcmp(s, node) != 0)
			continue;
		json_array_foreach(json_object_get(n, "dirty-bitmaps"), k, b)
		{
			s = json_string_value(json_object_get(b, "name"));
			if (s != NULL && strcmp(s, name) == 0)
				return b;
		}
	}
	return NULL;
}

/* Why it cannot be built upon; NULL: it can. */
static const char *
flaw_of(const json_t *b)
{
	if (b == NULL)
		return "QEMU has no record of what changed since the parent "
		       "(it was restarted, or the image replaced)";
	if (json_is_true(json_object_get(b, "inconsistent")))
		return "the record of what changed since the parent is "
		       "inconsistent (QEMU ended without closing the image)";
	if (!json_is_true(json_object_get(b, "recording")))
		return "the record of what changed since the parent was "
		       "switched off";
	if (json_is_true(json_object_get(b, "busy")))
		return "the record of what changed since the parent is in use "
		       "by others";
	if (json_integer_value(json_object_get(b, "granularity")) !=
	    GUEST_GRANULARITY)
		return "the record of what changed since the parent has "
		       "another granularity";
	return NULL;
}

static int
add_view_bitmap(struct guest *g, unsigned i, const char *node,
    const json_t *nodes, struct guest_view_disk *out, struct err *e)
{
	struct qmp_guest *p = g->impl;
	const char *flaw = flaw_of(bitmap_of(nodes, node, p->old_bitmap));
	int rc;

	if (flaw != NULL) {
		snprintf(out->why, sizeof(out->why), "%s", flaw);
		return 0;
	}
	rc = qmp_command(p->q, "block-dirty-bitmap-add",
	    json_pack("{s:s,s:s,s:b,s:i}", "node", node, "name",
		GUEST_VIEW_BITMAP, "disabled", 1, "granularity",
		GUEST_GRANULARITY),
	    -1, QMP_MS, NULL, e);
	p->merged[i] = rc == 0;
	return rc;
}

/* QEMU tells in its schema whether a write of the guest can outlive a copy
 * that failed. */
static bool
has_cbw_error(struct guest *g)
{
	struct qmp_guest *p = g->impl;
	const json_t *s, *m;
	const char *arg = NULL, *name;
	bool found = false;
	json_t *schema;
	size_t i, k;

	if (qmp_version(p->q) < 1000 ||
	    qmp_command(
		p->q, "query-qmp-schema", NULL, -1, QMP_MS, &schema, NULL) != 0)
		return false;
	json_array_foreach(schema, i, s)
	{
		name = json_string_value(json_object_get(s, "name"));
		if (name != NULL && strcmp(name, "blockdev-backup") == 0)
			arg = json_string_value(json_object_get(s, "arg-type"));
	}
	json_array_foreach(schema, i, s)
	{
		name = json_string_value(json_object_get(s, "name"));
		if (name == NULL || arg == NULL || strcmp(name, arg) != 0)
			continue;
		json_array_foreach(json_object_get(s, "members"), k, m)
		{
			name = json_string_value(json_object_get(m, "name"));
			if (name != NULL && strcmp(name, "on-cbw-error") == 0)
				found = true;
		}
	}
	json_decref(schema);
	return found;
}

int
guest_qmp_view_prepare(struct guest *g, const struct guest_view_options *o,
    struct guest_view *out, struct err *e)
{
	struct qmp_guest *p = g->impl;
	json_t *nodes = NULL;
	int rc;

	p->cbw_error = has_cbw_error(g);
	rc = guest_qmp_server(g, e);
	if (rc == 0 && o->since != NULL)
		rc = qmp_command(p->q, "query-named-block-nodes",
		    json_pack("{s:b}", "flat", 1), -1, QMP_MS, &nodes, e);
	for (unsigned i = 0; rc == 0 && i < o->ndisks; i++) {
		const char *node = p->disk[o->disk[i]].node;

		p->merged[i] = false;
		rc = add_scratch(g, i, node, e);
		if (rc == 0 && o->since != NULL)
			rc = add_view_bitmap(
			    g, i, node, nodes, &out->disk[i], e);
		if (rc != 0)
			err_prefix(e, "disk %s", g->disk[o->disk[i]].name);
	}
	json_decref(nodes);
	return rc;
}

static void
action(json_t *actions, const char *type, json_t *data)
{
	json_array_append_new(
	    actions, json_pack("{s:s,s:o}", "type", type, "data", data));
}

/* One transaction.  The jobs come first: each holds its disk still from then
 * on until all is done, so that the bitmaps are of the same moment. */
int
guest_qmp_view_point(struct guest *g, const struct guest_view_options *o,
    struct guest_view *out, struct err *e)
{
	struct qmp_guest *p = g->impl;
	json_t *actions = json_array(), *data;
	char name[64], job[64];
	int rc;

	(void)out;
	for (unsigned i = 0; i < o->ndisks; i++) {
		snprintf(name, sizeof(name), QMP_SCRATCH, i);
		snprintf(job, sizeof(job), QMP_JOB, i);
		data = json_pack("{s:s,s:s,s:s,s:s}", "device",
		    p->disk[o->disk[i]].node, "target", name, "sync", "none",
		    "job-id", job);
		if (p->cbw_error)
			json_set_str(data, "on-cbw-error", "break-snapshot");
		action(actions, "blockdev-backup", data);
	}
	for (unsigned i = 0; i < o->ndisks; i++) {
		const struct qmp_disk *d = &p->disk[o->disk[i]];

		if (p->merged[i])
			action(actions, "block-dirty-bitmap-merge",
			    json_pack("{s:s,s:s,s:[s]}", "node", d->node,
				"target", GUEST_VIEW_BITMAP, "bitmaps",
				p->old_bitmap));
		action(actions, "block-dirty-bitmap-add",
		    json_pack("{s:s,s:s,s:b,s:i}", "node", d->node, "name",
			p->new_bitmap, "persistent", d->persistent,
			"granularity", GUEST_GRANULARITY));
	}
	rc = qmp_command(p->q, "transaction",
	    json_pack("{s:o}", "actions", actions), -1, GUEST_SLOW_MS, NULL, e);
	p->pointed = rc == 0;
	return rc;
}

int
guest_qmp_view_expose(struct guest *g, const struct guest_view_options *o,
    struct guest_view *out, struct err *e)
{
	struct qmp_guest *p = g->impl;
	char node[64], id[64];
	json_t *args;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < o->ndisks; i++) {
		snprintf(node, sizeof(node), QMP_SCRATCH, i);
		snprintf(id, sizeof(id), QMP_EXPORT, i);
		p->export[i] =
		    xasprintf(GUEST_PREFIX "%s", g->disk[o->disk[i]].name);
		args = json_pack("{s:s,s:s,s:s,s:s,s:b}", "type", "nbd", "id",
		    id, "node-name", node, "name", p->export[i], "writable", 0);
		if (p->merged[i])
			json_object_set_new(args, "bitmaps",
			    json_pack("[s]", GUEST_VIEW_BITMAP));
		rc = qmp_command(
		    p->q, "block-export-add", args, -1, QMP_MS, NULL, e);
		out->disk[i].socket = p->socket;
		out->disk[i].export = p->export[i];
		out->disk[i].dirty = p->merged[i]
		    ? (char *)"qemu:dirty-bitmap:" GUEST_VIEW_BITMAP
		    : NULL;
	}
	return rc;
}

static int
jobs_run(struct guest *g, struct err *e)
{
	struct qmp_guest *p = g->impl;
	const char *s;
	unsigned n = 0;
	json_t *j, *job;
	size_t i;
	int rc;

	rc = qmp_command(
	    p->q, "query-block-jobs", NULL, -1, QMP_WATCH_MS, &j, e);
	if (rc != 0)
		return rc;
	json_array_foreach(j, i, job)
	{
		s = json_string_value(json_object_get(job, "device"));
		n += s != NULL &&
		    strncmp(s, GUEST_PREFIX, strlen(GUEST_PREFIX)) == 0 &&
		    json_object_get(job, "error") == NULL;
	}
	json_decref(j);
	if (n < p->nview)
		return err_set(e, ERR_CLOSED,
		    "QEMU has ended the job that keeps the point in time");
	return 0;
}

int
guest_qmp_watch(struct guest *g, struct err *e)
{
	struct qmp_guest *p = g->impl;
	uint64_t used = 0, room = UINT64_MAX;

	for (unsigned i = 0; i < p->nview; i++) {
		used += scratch_used(p->scratch[i]);
		room = scratch_room(p->scratch[i]);
	}
	if (used >= p->scratch_max)
		return err_set(e, ERR_NOSPC,
		    "the guest overwrote so much while it was read that the "
		    "scratch files reached their limit of %llu MiB: raise it, "
		    "or back up at a quieter time",
		    (unsigned long long)p->scratch_max >> 20);
	if (room < SCRATCH_MARGIN / 2)
		return err_set(e, ERR_NOSPC,
		    "the file system of the scratch files is nearly full: "
		    "the view was given up before the guest's writes failed");
	return p->pointed ? jobs_run(g, e) : 0;
}
