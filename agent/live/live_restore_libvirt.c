/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A domain of libvirt.  It is started without being defined, so that if
 * anything fails nothing of it remains; with arguments that make QEMU wait for
 * its memory, which the definition, made when it runs, does not have.
 */
#include <libvirt/virterror.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/guest/guest.h"
#include "agent/live/live_restore_impl.h"
#include "agent/pipeline/interrupt.h"
#include "agent/ram/ram.h"

static void
silent(void *arg, virErrorPtr error)
{
	(void)arg;
	(void)error;
}

static int
failed(struct err *e, const char *what)
{
	const char *why = virGetLastErrorMessage();

	return err_set(e, ERR_SYS, "%s: libvirt says: %.250s", what,
	    why == NULL ? "nothing" : why);
}

/* Nobody else may have its name or identity; it may be there, switched off. */
static int
check_domain(struct lr *r, virDomainPtr dom, const char *uuid, struct err *e)
{
	char has[VIR_UUID_STRING_BUFLEN] = "";
	const char *name = virDomainGetName(dom);

	if (virDomainGetUUIDString(dom, has) != 0)
		return failed(e, "a domain's identity");
	if (virDomainIsActive(dom) != 0)
		return err_set(e, ERR_BUSY,
		    "domain %s runs: switch it off, or say --clone NAME", name);
	if (uuid == NULL || strcmp(has, uuid) != 0 ||
	    strcmp(name, r->name) != 0)
		return err_set(e, ERR_EXIST,
		    "there is another domain with that name or identity: %s, "
		    "%s; undefine it, or say --clone NAME",
		    name, has);
	if (virDomainHasManagedSaveImage(dom, 0) == 1)
		return err_set(e, ERR_EXIST,
		    "domain %s has a saved state (managed save), which does "
		    "not belong to these disks: remove it with virsh "
		    "managedsave-remove",
		    name);
	return 0;
}

int
lr_libvirt_check(struct lr *r, struct err *e)
{
	char *uuid = lr_xml_uuid(r);
	virDomainPtr dom;
	int rc = 0;

	virSetErrorFunc(NULL, silent);
	virInitialize();
	r->conn = virConnectOpen(r->o->uri);
	if (r->conn == NULL) {
		rc = failed(e, "cannot connect to libvirt");
		goto done;
	}
	dom = virDomainLookupByName(r->conn, r->name);
	if (dom != NULL) {
		rc = check_domain(r, dom, uuid, e);
		virDomainFree(dom);
	}
	dom = rc != 0 || uuid == NULL
	    ? NULL
	    : virDomainLookupByUUIDString(r->conn, uuid);
	if (dom != NULL) {
		rc = check_domain(r, dom, uuid, e);
		virDomainFree(dom);
	}
done:
	free(uuid);
	return rc;
}

char *
lr_libvirt_tpm_dir(struct lr *r)
{
	char *dir, *uuid, *uri;
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	const char *kind;
	bool old, system;

	if (!lr_xml_tpm(r, &dir, &old) || dir != NULL)
		return dir;
	kind = old ? "tpm1.2" : "tpm2";
	uuid = lr_xml_uuid(r);
	uri = virConnectGetURI(r->conn);
	system = uri != NULL && strstr(uri, "/system") != NULL;
	if (uuid != NULL && system)
		dir = xasprintf("/var/lib/libvirt/swtpm/%s/%s", uuid, kind);
	else if (uuid != NULL && config != NULL)
		dir = xasprintf(
		    "%s/libvirt/qemu/swtpm/%s/%s", config, uuid, kind);
	else if (uuid != NULL && home != NULL)
		dir = xasprintf(
		    "%s/.config/libvirt/qemu/swtpm/%s/%s", home, uuid, kind);
	free(uuid);
	free(uri);
	return dir;
}

/* Checkpoints that libvirt remembers are of the disks from before. */
static void
forget_checkpoints(struct lr *r)
{
	virDomainPtr dom = virDomainLookupByName(r->conn, r->name);
	virDomainCheckpointPtr *list = NULL;
	int n;

	if (dom == NULL)
		return;
	n = virDomainListAllCheckpoints(dom, &list, 0);
	for (int i = 0; i < n; i++) {
		(void)virDomainCheckpointDelete(
		    list[i], VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY);
		virDomainCheckpointFree(list[i]);
	}
	free(list);
	virDomainFree(dom);
}

static int
start(struct lr *r, struct err *e)
{
	char *xml = lr_xml_text(r, r->ram);

	r->dom = virDomainCreateXML(r->conn, xml, VIR_DOMAIN_START_PAUSED);
	xmlFree(xml);
	return r->dom == NULL ? failed(e, "the domain cannot be started") : 0;
}

static int
load(struct lr *r, struct err *e)
{
	char uuid[VIR_UUID_STRING_BUFLEN];
	struct guest *g;
	int rc;

	if (virDomainGetUUIDString(r->dom, uuid) != 0)
		return failed(e, "the domain's identity");
	rc = guest_open_libvirt(r->o->uri, uuid, &g, e);
	if (rc != 0)
		return rc;
	r->out->pid = guest_pid(g);
	if (r->ram)
		rc = ram_load(g, &r->facts, r->ram_tmp, e);
	guest_close(g);
	return rc;
}

/* From now on it is there when it is off, too. */
static int
define(struct lr *r, struct err *e)
{
	char *xml = lr_xml_text(r, false);
	virDomainPtr dom = virDomainDefineXML(r->conn, xml);

	xmlFree(xml);
	if (dom == NULL)
		return failed(e, "the domain cannot be defined");
	virDomainFree(dom);
	return 0;
}

int
lr_libvirt_start(struct lr *r, struct err *e)
{
	int rc;

	lr_xml_finish(r);
	forget_checkpoints(r);
	rc = start(r, e);
	if (rc == 0)
		rc = load(r, e);
	if (rc == 0 && interrupt_pending())
		rc = err_set(e, ERR_CLOSED, "interrupted");
	if (rc == 0)
		rc = define(r, e);
	if (rc == 0 && !r->o->paused && virDomainResume(r->dom) != 0)
		rc = failed(e, "the domain does not go on");
	if (rc != 0 && r->dom != NULL)
		(void)virDomainDestroy(r->dom);
	return rc;
}

void
lr_libvirt_close(struct lr *r)
{
	if (r->dom != NULL)
		virDomainFree(r->dom);
	if (r->conn != NULL)
		virConnectClose(r->conn);
}
