/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints.  libvirt keeps two things of one: metadata in a folder of its
 * own, and in each image a bitmap of the same name that records from then on.
 * Either may be gone: the bitmap after a crash of QEMU or with another image,
 * the metadata where the domain was undefined and defined again.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/guest/guest_libvirt.h"

static int
last_code(void)
{
	virErrorPtr error = virGetLastError();

	return error == NULL ? VIR_ERR_OK : error->code;
}

/* Has the last call failed as there is no bitmap ${name} in an image?  There
 * is no code of its own for that. */
static bool
bitmap_is_missing(const char *name)
{
	virErrorPtr error = virGetLastError();

	if (error == NULL || error->message == NULL)
		return false;
	if (error->code == VIR_ERR_CHECKPOINT_INCONSISTENT)
		return true;
	return error->code == VIR_ERR_INTERNAL_ERROR &&
	    strstr(error->message, name) != NULL &&
	    strstr(error->message, "QEMU") == NULL;
}

static int
delete_one(
    struct lv *lv, virDomainCheckpointPtr c, const char *name, struct err *e)
{
	if (virDomainIsActive(lv->dom) == 0)
		return 0;
	if (virDomainCheckpointDelete(c, 0) == 0)
		return 0;
	if (last_code() == VIR_ERR_NO_DOMAIN_CHECKPOINT)
		return 0;
	if (bitmap_is_missing(name) &&
	    virDomainCheckpointDelete(
		c, VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY) == 0)
		return 0;
	return lv_error(lv, e, "checkpoint %s cannot be deleted", name);
}

int
lv_check_delete(struct lv *lv, const char *name, struct err *e)
{
	virDomainCheckpointPtr c;
	int rc;

	c = virDomainCheckpointLookupByName(lv->dom, name, 0);
	if (c == NULL)
		return last_code() == VIR_ERR_NO_DOMAIN_CHECKPOINT
		    ? 0
		    : lv_error(lv, e, "checkpoint %s", name);
	rc = delete_one(lv, c, name, e);
	virDomainCheckpointFree(c);
	return rc;
}

int
lv_check_delete_old(struct lv *lv, const char *repo, const char *keep,
    unsigned *n, struct err *e)
{
	virDomainCheckpointPtr *list = NULL;
	int count, rc = 0, rc2;

	*n = 0;
	if (virDomainIsActive(lv->dom) != 1)
		return 0;
	count = virDomainListAllCheckpoints(lv->dom, &list, 0);
	if (count == -1)
		return last_code() == VIR_ERR_NO_SUPPORT
		    ? 0
		    : lv_error(lv, e, "the domain's checkpoints");
	for (int i = 0; i < count; i++) {
		const char *name = virDomainCheckpointGetName(list[i]);

		if (name != NULL && guest_bitmap_is_old(name, repo, keep)) {
			rc2 = delete_one(lv, list[i], name, rc == 0 ? e : NULL);
			rc = rc != 0 ? rc : rc2;
			if (rc2 == 0)
				(*n)++;
		}
		virDomainCheckpointFree(list[i]);
	}
	free(list);
	return rc;
}

/* Makes libvirt know again of a checkpoint; ${valid}: only if the bitmaps are
 * there and good. */
static bool
renew(struct guest *g, int only, bool valid)
{
	struct lv *lv = g->impl;
	struct buf xml = { 0 };
	virDomainCheckpointPtr c;
	unsigned flags = VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE;

	if (valid)
		flags |= VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE;
	lv_xml_renewal(g, lv->view.old, only, &xml);
	c = virDomainCheckpointCreateXML(lv->dom, buf_cstr(&xml), flags);
	buf_fini(&xml);
	if (c == NULL)
		return false;
	virDomainCheckpointFree(c);
	return true;
}

static void
forget(struct lv *lv)
{
	virDomainCheckpointPtr c;

	c = virDomainCheckpointLookupByName(lv->dom, lv->view.old, 0);
	if (c == NULL)
		return;
	virDomainCheckpointDelete(
	    c, VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY);
	virDomainCheckpointFree(c);
}

/* What libvirt forgot it can be told of anew, disk by disk. */
static void
renew_all(struct guest *g, struct guest_view *out)
{
	struct lv *lv = g->impl;
	struct lv_view *v = &lv->view;
	bool any = false;

	for (unsigned i = 0; i < v->ndisks; i++) {
		if (!lv->disk[v->disk[i]].bitmap)
			continue;
		v->incremental[i] = renew(g, (int)i, true);
		if (v->incremental[i]) {
			any = true;
			forget(lv);
			continue;
		}
		snprintf(out->disk[i].why, sizeof(out->disk[i].why),
		    "libvirt does not know the parent's checkpoint, and the "
		    "image has no good bitmap of it");
		/* One that is broken would stay for ever. */
		if (renew(g, (int)i, false))
			(void)lv_check_delete(lv, v->old, NULL);
	}
	if (!any || renew(g, -1, true))
		return;
	for (unsigned i = 0; i < v->ndisks; i++)
		if (v->incremental[i]) {
			v->incremental[i] = false;
			snprintf(out->disk[i].why, sizeof(out->disk[i].why),
			    "libvirt does not take back the parent's "
			    "checkpoint");
		}
}

int
lv_check_parent(struct guest *g, struct guest_view *out, struct err *e)
{
	struct lv *lv = g->impl;
	struct lv_view *v = &lv->view;
	virDomainCheckpointPtr c;
	char *xml;

	if (v->old[0] == 0)
		return 0;
	for (unsigned i = 0; i < v->ndisks; i++)
		if (!lv->disk[v->disk[i]].bitmap)
			snprintf(out->disk[i].why, sizeof(out->disk[i].why),
			    "libvirt keeps bitmaps in writable qcow2 images "
			    "only, and this disk has none (%s)",
			    g->disk[v->disk[i]].format);
	c = virDomainCheckpointLookupByName(lv->dom, v->old, 0);
	if (c == NULL) {
		if (last_code() != VIR_ERR_NO_DOMAIN_CHECKPOINT)
			return lv_error(lv, e, "checkpoint %s", v->old);
		renew_all(g, out);
		return 0;
	}
	xml = virDomainCheckpointGetXMLDesc(
	    c, VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN);
	virDomainCheckpointFree(c);
	if (xml == NULL)
		return lv_error(lv, e, "checkpoint %s", v->old);
	for (unsigned i = 0; i < v->ndisks; i++) {
		const struct lv_disk *l = &lv->disk[v->disk[i]];

		if (!l->bitmap)
			continue;
		v->incremental[i] = lv_xml_covers(xml, l->target);
		if (!v->incremental[i])
			snprintf(out->disk[i].why, sizeof(out->disk[i].why),
			    "the parent's checkpoint has no bitmap of it");
	}
	free(xml);
	return 0;
}
