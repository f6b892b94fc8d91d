/* SPDX-License-Identifier: Apache-2.0 */
/* A plain QEMU, by its monitor. */
#include "agent/guest/guest_qmp.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/io.h"
#include "proto/base/log.h"

static void
close_qmp(struct guest *g)
{
	struct qmp_guest *p = g->impl;

	ga_close(p->ga);
	qmp_close(p->q);
	for (unsigned i = 0; i < g->ndisks; i++) {
		free(p->disk[i].key);
		free(p->disk[i].node);
	}
	free(p->ga_path);
	free(p->socket);
	free(p);
}

/* The agent serves one at a time, too: held until it has thawed. */
static int
freeze(struct guest *g, struct err *e)
{
	struct qmp_guest *p = g->impl;
	int rc;

	if (p->ga_path == NULL)
		return err_set(
		    e, ERR_UNSUP, "no socket of the guest's agent was named");
	ga_close(p->ga);
	p->ga = NULL;
	rc = ga_open(p->ga_path, GUEST_AGENT_MS, &p->ga, e);
	if (rc != 0) { /* nobody was asked to freeze anything */
		if (e != NULL)
			e->code = ERR_UNSUP;
		return ERR_UNSUP;
	}
	rc = ga_freeze(p->ga, GUEST_FREEZE_MS, e);
	if (rc != 0) {
		ga_close(p->ga);
		p->ga = NULL;
	}
	return rc;
}

static int
thaw(struct guest *g, struct err *e)
{
	struct qmp_guest *p = g->impl;
	int rc = ERR_CLOSED;

	if (p->ga_path == NULL)
		return err_set(
		    e, ERR_UNSUP, "no socket of the guest's agent was named");
	if (p->ga != NULL)
		rc = ga_thaw(p->ga, GUEST_FREEZE_MS, e);
	ga_close(p->ga);
	p->ga = NULL;
	if (rc == 0)
		return 0;
	/* Afresh; it answers when it has done what it was told before. */
	rc = ga_open(p->ga_path, GUEST_FREEZE_MS, &p->ga, e);
	if (rc == 0)
		rc = ga_thaw(p->ga, GUEST_FREEZE_MS, e);
	ga_close(p->ga);
	p->ga = NULL;
	return rc;
}

static int
status(struct guest *g, char *out, size_t len, struct err *e)
{
	struct qmp_guest *p = g->impl;
	const char *s;
	json_t *j;
	int rc;

	rc = qmp_command(p->q, "query-status", NULL, -1, QMP_MS, &j, e);
	if (rc != 0)
		return rc;
	rc = json_get_str(j, "status", &s, e);
	if (rc == 0)
		snprintf(out, len, "%s", s);
	json_decref(j);
	return rc;
}

static int
stop(struct guest *g, struct err *e)
{
	struct qmp_guest *p = g->impl;

	return qmp_command(p->q, "stop", NULL, -1, GUEST_SLOW_MS, NULL, e);
}

static bool
is_migrating(struct guest *g)
{
	static const char *const busy[] = { "setup", "active", "device",
		"pre-switchover", "cancelling", "wait-unplug" };
	struct qmp_guest *p = g->impl;
	const char *s;
	bool found = false;
	json_t *j;

	if (qmp_command(p->q, "query-migrate", NULL, -1, QMP_MS, &j, NULL) != 0)
		return false;
	s = json_string_value(json_object_get(j, "status"));
	for (size_t i = 0; s != NULL && i < sizeof(busy) / sizeof(busy[0]); i++)
		if (strcmp(s, busy[i]) == 0)
			found = true;
	json_decref(j);
	return found;
}

/* RAM that was being saved when its saver died is saved for nobody; at its end
 * the processors would stop again. */
static void
cancel_saving(struct guest *g)
{
	struct qmp_guest *p = g->impl;
	uint64_t end = now_ms() + QMP_SETTLE_MS;

	if (!is_migrating(g))
		return;
	qmp_command(p->q, "migrate_cancel", NULL, -1, QMP_MS, NULL, NULL);
	while (is_migrating(g) && now_ms() < end)
		qmp_pause(p->q, 20);
}

static int
cont(struct guest *g, struct err *e)
{
	struct qmp_guest *p = g->impl;
	char s[32];
	int rc;

	rc = status(g, s, sizeof(s), e);
	if (rc != 0 || strcmp(s, "running") == 0)
		return rc;
	cancel_saving(g);
	return qmp_command(p->q, "cont", NULL, -1, GUEST_SLOW_MS, NULL, e);
}

/*
 * QEMU since 10.0 has a command for it; before, what makes a node active, but
 * for the processors' going on, is to export it.
 */
static int
activate(struct guest *g, struct err *e)
{
	struct qmp_guest *p = g->impl;
	struct err why = { 0 };
	char s[32];
	int rc;

	rc = status(g, s, sizeof(s), e);
	if (rc != 0 || strcmp(s, "postmigrate") != 0)
		return rc;
	rc = qmp_command(p->q, "blockdev-set-active",
	    json_pack("{s:b}", "active", 1), -1, GUEST_SLOW_MS, NULL, &why);
	if (rc == 0)
		return 0;
	if (rc != ERR_UNSUP)
		return err_set(e, rc, "%s", why.text);
	rc = guest_qmp_server(g, e);
	for (unsigned i = 0; rc == 0 && i < g->ndisks; i++) {
		if (g->disk[i].readonly)
			continue;
		rc = qmp_command(p->q, "block-export-add",
		    json_pack("{s:s,s:s,s:s,s:s,s:b}", "type", "nbd", "id",
			GUEST_PREFIX "activate", "node-name", p->disk[i].node,
			"name", GUEST_PREFIX "activate", "writable", 0),
		    -1, GUEST_SLOW_MS, NULL, e);
		if (rc == 0)
			rc = qmp_command(p->q, "block-export-del",
			    json_pack("{s:s,s:s}", "id",
				GUEST_PREFIX "activate", "mode", "hard"),
			    -1, GUEST_SLOW_MS, NULL, e);
	}
	return rc;
}

static int
view_files(struct guest *g, const struct guest_view_options *o,
    struct guest_view *out, struct err *e)
{
	if (is_migrating(g))
		return err_set(e, ERR_BUSY,
		    "the guest is being migrated: back it up afterwards");
	return guest_qmp_view_files(g, o, out, e);
}

static int
monitor(struct guest *g, const char *command, json_t *args, int fd,
    json_t **out, struct err *e)
{
	struct qmp_guest *p = g->impl;

	return qmp_command(p->q, command, args, fd, GUEST_SLOW_MS, out, e);
}

static const struct guest_ops ops = {
	.close = close_qmp,
	.freeze = freeze,
	.thaw = thaw,
	.stop = stop,
	.cont = cont,
	.activate = activate,
	.view_files = view_files,
	.view_prepare = guest_qmp_view_prepare,
	.view_point = guest_qmp_view_point,
	.view_expose = guest_qmp_view_expose,
	.view_end = guest_qmp_view_end,
	.watch = guest_qmp_watch,
	.release = guest_qmp_release,
	.monitor = monitor,
};

/* The guard may run elsewhere. */
static char *
absolute(const char *path)
{
	char *real = realpath(path, NULL);

	return real != NULL ? real : xstrdup(path);
}

int
guest_open_qmp(
    const char *socket, const char *ga, struct guest **out, struct err *e)
{
	struct guest *g = guest_new(&ops, "qmp");
	struct qmp_guest *p = xcalloc(1, sizeof(*p));
	char *path = absolute(socket), s[32];
	struct stat st;
	int rc;

	g->impl = p;
	json_set_str(g->how, "socket", path);
	if (ga != NULL) {
		p->ga_path = absolute(ga);
		json_set_str(g->how, "ga", p->ga_path);
	}
	rc = qmp_open(path, QMP_GREETING_MS, &p->q, e);
	if (rc == 0 && stat(path, &st) == -1)
		rc = err_set(
		    e, log_sys("%s: stat", path), "cannot look at %s", path);
	if (rc == 0 && qmp_version(p->q) < QMP_VERSION_MIN)
		rc = err_set(e, ERR_UNSUP,
		    "QEMU %u.%u is too old for backups of a running guest: "
		    "6.0 or newer is needed",
		    qmp_version(p->q) / 100, qmp_version(p->q) % 100);
	if (rc == 0)
		rc = status(g, s, sizeof(s), e);
	free(path);
	if (rc != 0)
		goto err_close;
	snprintf(g->ident, sizeof(g->ident), "qmp-%llx-%llx",
	    (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	g->state = strcmp(s, "running") == 0 ? GUEST_RUNNING : GUEST_PAUSED;
	guest_qmp_files(g);
	rc = guest_qmp_list(g, e);
	if (rc != 0)
		goto err_close;
	*out = g;
	return 0;
err_close:
	guest_close(g);
	return rc;
}
