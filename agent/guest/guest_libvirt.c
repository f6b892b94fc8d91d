/* SPDX-License-Identifier: Apache-2.0 */
#include <libvirt/libvirt-qemu.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/guest/guest_libvirt.h"
#include "proto/base/log.h"

/* --- the guest's agent */

/* The limit is the domain's: other programs find it as it was by default. */
static void
agent_limit(struct lv *lv, int seconds)
{
	(void)virDomainAgentSetResponseTimeout(lv->dom, seconds, 0);
}

/*
 * Does an agent answer at all?  Asked first, for then it is certain that
 * nothing was asked to freeze.
 */
static bool
agent_answers(struct lv *lv)
{
	long long seconds;
	unsigned nanoseconds;

	agent_limit(lv, GUEST_AGENT_MS / 1000);
	if (virDomainGetTime(lv->dom, &seconds, &nanoseconds, 0) == 0)
		return true;
	switch (virGetLastErrorCode()) {
	case VIR_ERR_AGENT_UNRESPONSIVE:
	case VIR_ERR_AGENT_UNSYNCED:
	case VIR_ERR_ARGUMENT_UNSUPPORTED:
	case VIR_ERR_OPERATION_INVALID:
	case VIR_ERR_OPERATION_UNSUPPORTED: return false;
	default: return true; /* one that does not tell the time */
	}
}

static int
lv_freeze(struct guest *g, struct err *e)
{
	struct lv *lv = g->impl;
	int rc;

	if (!lv->agent)
		return err_set(e, ERR_UNSUP,
		    "the domain has no channel for a guest agent");
	rc = lv_enter(lv, GUEST_FREEZE_MS + LV_QUICK_MS, e);
	if (rc != 0)
		return rc;
	if (!agent_answers(lv)) {
		rc = lv_error(lv, e, "guest agent");
		if (rc != ERR_CLOSED)
			rc = ERR_UNSUP;
		agent_limit(lv, VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK);
		goto done;
	}
	agent_limit(lv, GUEST_FREEZE_MS / 1000);
	if (virDomainFSFreeze(lv->dom, NULL, 0, 0) == -1) {
		rc = lv_error(lv, e, "guest agent");
		/* It refused, and has undone what it began. */
		if (rc == ERR_SYS && virDomainFSThaw(lv->dom, NULL, 0, 0) != -1)
			rc = ERR_UNSUP;
	}
done:
	if (e != NULL && rc != 0)
		e->code = rc;
	lv_leave(lv);
	return rc;
}

static int
lv_thaw(struct guest *g, struct err *e)
{
	struct lv *lv = g->impl;
	int rc;

	if (!lv->agent)
		return 0;
	rc = lv_enter(lv, GUEST_FREEZE_MS + LV_QUICK_MS, e);
	if (rc != 0)
		return rc;
	if (virDomainIsActive(lv->dom) != 0 &&
	    virDomainFSThaw(lv->dom, NULL, 0, 0) == -1)
		rc = lv_error(lv, e, "guest agent");
	agent_limit(lv, VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK);
	lv_leave(lv);
	return rc;
}

/* --- the processors */

static int
lv_stop(struct guest *g, struct err *e)
{
	struct lv *lv = g->impl;
	int rc = lv_enter(lv, LV_QUICK_MS, e);

	if (rc != 0)
		return rc;
	if (virDomainSuspend(lv->dom) == -1)
		rc = lv_error(lv, e, "the domain cannot be paused");
	lv_leave(lv);
	return rc;
}

static int
lv_cont(struct guest *g, struct err *e)
{
	struct lv *lv = g->impl;
	int rc = lv_enter(lv, LV_QUICK_MS, e);

	if (rc != 0)
		return rc;
	if (virDomainResume(lv->dom) == -1 &&
	    virGetLastErrorCode() != VIR_ERR_OPERATION_INVALID)
		rc = lv_error(lv, e, "the domain cannot be resumed");
	lv_leave(lv);
	return rc;
}

/* --- QEMU's monitor */

static int
answer(const char *command, const char *text, json_t **out, struct err *e)
{
	const char *class = "", *desc = "it does not say why";
	json_t *j, *error, *value;
	int rc;

	rc = json_parse(text, strlen(text), &j, e);
	if (rc != 0)
		return rc;
	error = json_object_get(j, "error");
	value = json_object_get(j, "return");
	if (error != NULL || value == NULL) {
		(void)json_opt_str(error, "class", &class, NULL);
		(void)json_opt_str(error, "desc", &desc, NULL);
		rc = err_set(e,
		    strcmp(class, "CommandNotFound") == 0 ? ERR_UNSUP
							  : ERR_INVAL,
		    "QEMU refuses %s: %s", command, desc);
	} else if (out != NULL) {
		*out = json_incref(value);
	}
	json_decref(j);
	return rc;
}

static int
lv_monitor(struct guest *g, const char *command, json_t *args, int fd,
    json_t **out, struct err *e)
{
	struct lv *lv = g->impl;
	json_t *j = json_object();
	struct buf text = { 0 };
	char *result = NULL;
	int rc;

	json_set_str(j, "execute", command);
	if (args != NULL)
		json_object_set_new(j, "arguments", args);
	json_print(j, &text);
	json_decref(j);
	rc = lv_enter(lv, GUEST_SLOW_MS, e);
	if (rc != 0)
		goto done;
	if (virDomainQemuMonitorCommandWithFiles(lv->dom, buf_cstr(&text),
		fd == -1 ? 0 : 1, fd == -1 ? NULL : &fd, NULL, NULL, &result,
		0) == -1)
		rc = lv_error(lv, e, "QEMU's monitor");
	lv_leave(lv);
	if (rc == 0)
		rc = answer(command, result, out, e);
	free(result);
done:
	buf_fini(&text);
	return rc;
}

/* An export of a node makes QEMU activate it, and stays for a moment only. */
static int
activate_node(struct guest *g, const char *node, struct err *e)
{
	json_t *args = json_object();
	int rc;

	json_set_str(args, "type", "nbd");
	json_set_str(args, "id", GUEST_PREFIX "activate");
	json_set_str(args, "node-name", node);
	json_set_str(args, "name", GUEST_PREFIX "activate");
	rc = lv_monitor(g, "block-export-add", args, -1, NULL, e);
	if (rc != 0)
		return rc;
	args = json_object();
	json_set_str(args, "id", GUEST_PREFIX "activate");
	json_set_str(args, "mode", "hard");
	return lv_monitor(g, "block-export-del", args, -1, NULL, e);
}

static int
activate_all(struct guest *g, struct err *e)
{
	json_t *list, *one;
	const char *node;
	size_t i;
	int rc;

	rc = lv_monitor(g, "query-block", NULL, -1, &list, e);
	if (rc != 0)
		return rc;
	json_array_foreach(list, i, one)
	{
		node = json_string_value(json_object_get(
		    json_object_get(one, "inserted"), "node-name"));
		if (node == NULL)
			continue;
		rc = activate_node(g, node, e);
		if (rc != 0)
			break;
	}
	json_decref(list);
	return rc;
}

/* A QEMU whose state was saved has let go of its images, until it goes on. */
static int
lv_activate(struct guest *g, struct err *e)
{
	struct lv *lv = g->impl;
	struct err why = { 0 };
	const char *status = "";
	json_t *j, *args, *addr, *data;
	char *path;
	int rc, rc2;

	rc = lv_monitor(g, "query-status", NULL, -1, &j, e);
	if (rc != 0)
		return rc;
	rc = json_get_str(j, "status", &status, e);
	if (rc != 0 || strcmp(status, "postmigrate") != 0) {
		json_decref(j);
		return rc;
	}
	json_decref(j);
	args = json_object();
	json_set_bool(args, "active", true);
	rc = lv_monitor(g, "blockdev-set-active", args, -1, NULL, &why);
	if (rc == 0)
		return 0;
	if (rc != ERR_UNSUP)
		return err_set(e, rc, "%s", why.text);
	path = xasprintf("%s-activate", lv->view.socket);
	args = json_object();
	addr = json_object();
	data = json_object();
	json_set_str(data, "path", path);
	json_set_str(addr, "type", "unix");
	json_object_set_new(addr, "data", data);
	json_object_set_new(args, "addr", addr);
	rc = lv_monitor(g, "nbd-server-start", args, -1, NULL, e);
	if (rc == 0) {
		rc = activate_all(g, e);
		rc2 = lv_monitor(
		    g, "nbd-server-stop", NULL, -1, NULL, rc == 0 ? e : NULL);
		rc = rc != 0 ? rc : rc2;
	}
	unlink(path);
	free(path);
	return rc;
}

/* --- opening */

static void
lv_close(struct guest *g)
{
	struct lv *lv = g->impl;

	lv_view_undo_files(lv);
	lv_fini(lv);
	free(lv->uri);
	free(lv->run_dir);
	free(lv);
}

static const struct guest_ops libvirt_ops = {
	.close = lv_close,
	.freeze = lv_freeze,
	.thaw = lv_thaw,
	.stop = lv_stop,
	.cont = lv_cont,
	.activate = lv_activate,
	.view_files = lv_view_files,
	.view_prepare = lv_view_prepare,
	.view_point = lv_view_point,
	.view_expose = lv_view_expose,
	.view_end = lv_view_end,
	.watch = lv_watch,
	.release = lv_release,
	.monitor = lv_monitor,
};

static enum guest_state
state_of(int state)
{
	switch (state) {
	case VIR_DOMAIN_RUNNING:
	case VIR_DOMAIN_BLOCKED:
	case VIR_DOMAIN_SHUTDOWN: /* on its way down, and writing */
		return GUEST_RUNNING;
	case VIR_DOMAIN_PAUSED:
	case VIR_DOMAIN_PMSUSPENDED: return GUEST_PAUSED;
	default: return GUEST_OFF;
	}
}

int
lv_read_running(struct guest *g, struct err *e)
{
	struct lv *lv = g->impl;
	int state, reason;

	if (virDomainGetState(lv->dom, &state, &reason, 0) == -1)
		return lv_error(lv, e, "the domain's state");
	g->state = state_of(state);
	/* A domain that panicked is there until somebody destroys it. */
	if (state == VIR_DOMAIN_CRASHED && virDomainIsActive(lv->dom) == 1)
		g->state = GUEST_PAUSED;
	return 0;
}

int
lv_read_state(struct guest *g, struct err *e)
{
	int rc = lv_read_running(g, e);

	if (rc == 0)
		g->pid = lv_find_qemu(g->impl);
	return rc;
}

static int
read_definition(struct guest *g, struct err *e)
{
	struct lv *lv = g->impl;
	unsigned flags = VIR_DOMAIN_XML_SECURE;
	char *xml;
	int rc;

	/* A transient domain has no other than that of now. */
	if (virDomainIsPersistent(lv->dom) != 0)
		flags |= VIR_DOMAIN_XML_INACTIVE;
	xml = virDomainGetXMLDesc(lv->dom, flags);
	if (xml == NULL)
		return lv_error(lv, e, "the domain's definition");
	g->definition = xml;
	g->definition_format = "libvirt-xml";
	xml = virDomainGetXMLDesc(lv->dom, 0);
	if (xml == NULL)
		return lv_error(lv, e, "the domain's disks");
	rc = lv_xml_domain(g, xml, e);
	free(xml);
	return rc;
}

static int
read_sizes(struct guest *g, struct err *e)
{
	struct lv *lv = g->impl;
	virDomainBlockInfo info;

	for (unsigned i = 0; i < g->ndisks; i++) {
		if (virDomainGetBlockInfo(
			lv->dom, lv->disk[i].target, &info, 0) == 0)
			g->disk[i].size = info.capacity;
		/* Of one that is off the size is that of its images; whether
		 * they can be read is told where they are. */
		else if (!g->disk[i].cdrom && g->state != GUEST_OFF)
			return lv_error(
			    lv, e, "size of disk %s", lv->disk[i].target);
	}
	return 0;
}

int
guest_open_libvirt(
    const char *uri, const char *domain, struct guest **out, struct err *e)
{
	struct guest *g = guest_new(&libvirt_ops, "libvirt");
	struct lv *lv = xcalloc(1, sizeof(*lv));
	int rc;

	g->impl = lv;
	lv_init(lv);
	lv->uri = uri == NULL ? NULL : xstrdup(uri);
	rc = lv_connect(lv, domain, e);
	if (rc == 0)
		rc = lv_enter(lv, GUEST_SLOW_MS, e);
	if (rc == 0) {
		rc = lv_read_state(g, e);
		if (rc == 0)
			rc = read_definition(g, e);
		if (rc == 0)
			rc = read_sizes(g, e);
		lv_leave(lv);
	}
	if (rc != 0) {
		guest_close(g);
		return rc;
	}
	snprintf(g->ident, sizeof(g->ident), "libvirt-%s", lv->uuid);
	if (uri != NULL)
		json_set_str(g->how, "uri", uri);
	json_set_str(g->how, "domain", lv->uuid);
	*out = g;
	return 0;
}
