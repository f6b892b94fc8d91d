/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "agent/guest/domains.h"
#include "agent/guest/guest_libvirt.h"

/* Nothing of ours is in a guest that is only looked at. */
static void
leave(struct guest *g)
{
	g->impl = NULL;
}

static const struct guest_ops list_ops = { .close = leave };

static int
by_name(const void *a, const void *b)
{
	const virDomainPtr *x = a, *y = b;

	return strcmp(virDomainGetName(*x), virDomainGetName(*y));
}

/* What libvirt says of it, as lv_xml_domain reads it. */
static int
read_one(struct lv *lv, struct guest *g, struct err *e)
{
	char *xml;
	int rc;

	memset(lv->disk, 0, sizeof(lv->disk));
	if (virDomainGetUUIDString(lv->dom, lv->uuid) == -1)
		return lv_error(lv, e, "a domain's UUID");
	rc = lv_read_running(g, e);
	if (rc != 0)
		return rc;
	xml = virDomainGetXMLDesc(lv->dom, 0);
	if (xml == NULL)
		return lv_error(lv, e, "a domain's disks");
	rc = lv_xml_domain(g, xml, e);
	free(xml);
	return rc;
}

static int
tell_one(struct lv *lv, domains_fn *fn, void *arg, struct err *e)
{
	struct guest *g = guest_new(&list_ops, "libvirt");
	struct domain d;
	int rc;

	g->impl = lv;
	rc = read_one(lv, g, e);
	if (rc == 0) {
		d = (struct domain){ .name = virDomainGetName(lv->dom),
			.uuid = lv->uuid,
			.state = g->state,
			.ndisks = g->ndisks,
			.disk = g->disk };
		fn(arg, &d);
	}
	guest_close(g);
	return rc;
}

static int
tell_all(struct lv *lv, domains_fn *fn, void *arg, struct err *e)
{
	virDomainPtr *list;
	int n, rc = 0;

	n = virConnectListAllDomains(lv->conn, &list, 0);
	if (n < 0)
		return lv_error(lv, e, "the list of domains");
	if (n > DOMAINS_MAX)
		rc = err_set(
		    e, ERR_LIMIT, "libvirt has over %d domains", DOMAINS_MAX);
	qsort(list, (size_t)n, sizeof(list[0]), by_name);
	for (int i = 0; i < n; i++) {
		lv->dom = list[i];
		if (rc == 0)
			rc = tell_one(lv, fn, arg, e);
		if (rc == ERR_NOENT)
			rc = 0;
		virDomainFree(list[i]);
	}
	lv->dom = NULL;
	free(list);
	return rc;
}

int
domains_list(const char *uri, domains_fn *fn, void *arg, struct err *e)
{
	struct lv *lv = xcalloc(1, sizeof(*lv));
	int rc;

	lv_init(lv);
	lv->uri = uri == NULL ? NULL : xstrdup(uri);
	rc = lv_open(lv, LV_QUICK_MS, e);
	if (rc == 0) {
		rc = tell_all(lv, fn, arg, e);
		lv_leave(lv);
	}
	lv_fini(lv);
	free(lv->uri);
	free(lv);
	return rc;
}
