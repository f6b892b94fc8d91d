/* SPDX-License-Identifier: Apache-2.0 */
/* XML of domains, backup jobs and checkpoints, read and written. */
#include <libxml/parser.h>
#include <stdlib.h>
#include <string.h>

#include "agent/guest/guest_libvirt.h"
#include "agent/guest/xml.h"

/* --- reading */

static int
parse(const char *text, const char *root, xmlDocPtr *out, struct err *e)
{
	size_t len = strlen(text);
	xmlDocPtr doc;
	xmlNodePtr n;

	if (len > LV_XML_MAX)
		return err_set(e, ERR_LIMIT,
		    "libvirt's XML of %zu bytes is longer than %d", len,
		    LV_XML_MAX);
	doc = xmlReadMemory(text, (int)len, NULL, NULL,
	    XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	n = doc == NULL ? NULL : xmlDocGetRootElement(doc);
	if (n == NULL || strcmp((const char *)n->name, root) != 0) {
		xmlFreeDoc(doc);
		return err_set(e, ERR_PROTO, "libvirt's XML has no <%s>", root);
	}
	*out = doc;
	return 0;
}

/* Of the image's formats, those that we know by name. */
static const char *
format_name(xmlNodePtr driver)
{
	static const char *const known[] = { "qcow2", "qed", "vdi", "vmdk",
		"vpc", "vhdx", "qcow", "luks" };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (xml_attr_is(driver, "type", known[i]))
			return known[i];
	return "raw";
}

static void
read_disk(struct guest *g, xmlNodePtr n)
{
	struct lv *lv = g->impl;
	xmlNodePtr source = xml_child(n, "source");
	struct guest_disk *d;
	struct lv_disk *l;
	char *target = xml_attr(xml_child(n, "target"), "dev");
	bool removable = xml_attr_is(n, "device", "cdrom") ||
	    xml_attr_is(n, "device", "floppy");

	/* An empty drive, or one for tests of XML. */
	if (source == NULL || target == NULL ||
	    strlen(target) >= sizeof(l->target))
		goto done;
	d = guest_add_disk(g, target);
	if (d == NULL)
		goto done;
	l = &lv->disk[g->ndisks - 1];
	snprintf(l->target, sizeof(l->target), "%s", target);
	d->format = format_name(xml_child(n, "driver"));
	d->path = xml_attr(source, "file");
	if (d->path == NULL)
		d->path = xml_attr(source, "dev");
	d->cdrom = removable;
	d->readonly = xml_child(n, "readonly") != NULL;
	l->shared = xml_child(n, "shareable") != NULL;
	/* What is written to a transient disk, bitmaps too, is thrown away. */
	l->bitmap = strcmp(d->format, "qcow2") == 0 && !d->readonly &&
	    !d->cdrom && !l->shared && xml_child(n, "transient") == NULL;
done:
	free(target);
}

static void
read_nvram(struct guest *g, xmlNodePtr nvram)
{
	char *path;
	xmlChar *text;

	if (nvram == NULL)
		return;
	path = xml_attr(xml_child(nvram, "source"), "file");
	if (path == NULL && xml_child(nvram, "source") == NULL) {
		text = xmlNodeGetContent(nvram);
		if (text != NULL && text[0] == '/')
			path = xstrdup((const char *)text);
		xmlFree(text);
	}
	if (path != NULL)
		guest_add_file(g, "nvram", "nvram", path);
	free(path);
}

static void
read_tpm(struct guest *g, xmlNodePtr tpm)
{
	struct lv *lv = g->impl;
	xmlNodePtr backend = xml_child(tpm, "backend");
	char *version, *dir;

	if (backend == NULL || !xml_attr_is(backend, "type", "emulator"))
		return;
	version = xml_attr(backend, "version");
	dir = xml_attr(xml_child(backend, "source"), "path");
	if (dir == NULL)
		dir = lv_find_tpm(lv->uuid, version == NULL ? "2.0" : version);
	if (dir != NULL)
		guest_add_tpm(g, dir, NULL);
	else
		guest_add_note(g,
		    "no state of its TPM is in the backup: there is none yet, "
		    "or its place cannot be told");
	free(version);
	free(dir);
}

int
lv_xml_domain(struct guest *g, const char *live, struct err *e)
{
	struct lv *lv = g->impl;
	xmlNodePtr root, devices, n;
	xmlDocPtr doc;
	int rc;

	rc = parse(live, "domain", &doc, e);
	if (rc != 0)
		return rc;
	root = xmlDocGetRootElement(doc);
	devices = xml_child(root, "devices");
	for (n = xml_child(devices, "disk"); n != NULL;
	     n = xml_element(n->next, "disk"))
		read_disk(g, n);
	for (n = xml_child(devices, "channel"); n != NULL;
	     n = xml_element(n->next, "channel"))
		if (xml_attr_is(xml_child(n, "target"), "name",
			"org.qemu.guest_agent.0"))
			lv->agent = true;
	g->no_iothreads = strstr(live, "iothread") == NULL;
	read_nvram(g, xml_child(xml_child(root, "os"), "nvram"));
	read_tpm(g, xml_child(devices, "tpm"));
	xmlFreeDoc(doc);
	return 0;
}

bool
lv_name_is_ours(const char *path)
{
	const char *name = strrchr(path, '/');

	return name != NULL &&
	    strncmp(name + 1, GUEST_PREFIX, strlen(GUEST_PREFIX)) == 0;
}

int
lv_xml_job(const char *xml, struct lv_job *out, struct err *e)
{
	xmlNodePtr root, n;
	xmlDocPtr doc;
	char *path;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = parse(xml, "domainbackup", &doc, e);
	if (rc != 0)
		return rc;
	root = xmlDocGetRootElement(doc);
	out->socket = xml_attr(xml_child(root, "server"), "socket");
	n = xml_child(xml_child(root, "disks"), "disk");
	for (; n != NULL; n = xml_element(n->next, "disk")) {
		path = xml_attr(xml_child(n, "scratch"), "file");
		if (path == NULL)
			continue;
		if (!lv_name_is_ours(path) ||
		    out->nscratch == MANIFEST_VOLUMES_MAX) {
			free(path);
			continue;
		}
		out->ours = true;
		out->scratch[out->nscratch++] = path;
	}
	xmlFreeDoc(doc);
	return 0;
}

void
lv_job_fini(struct lv_job *job)
{
	free(job->socket);
	for (unsigned i = 0; i < job->nscratch; i++)
		free(job->scratch[i]);
	memset(job, 0, sizeof(*job));
}

bool
lv_xml_covers(const char *xml, const char *target)
{
	xmlNodePtr n;
	xmlDocPtr doc;
	bool covers = false;

	if (parse(xml, "domaincheckpoint", &doc, NULL) != 0)
		return false;
	n = xml_child(xml_child(xmlDocGetRootElement(doc), "disks"), "disk");
	for (; n != NULL; n = xml_element(n->next, "disk"))
		if (xml_attr_is(n, "name", target) &&
		    xml_attr_is(n, "checkpoint", "bitmap"))
			covers = true;
	xmlFreeDoc(doc);
	return covers;
}

/* --- writing */

static void
quoted(struct buf *out, const char *attribute, const char *value)
{
	buf_printf(out, " %s='", attribute);
	for (; *value != 0; value++)
		switch (*value) {
		case '&': buf_printf(out, "&amp;"); break;
		case '<': buf_printf(out, "&lt;"); break;
		case '\'': buf_printf(out, "&apos;"); break;
		default: buf_u8(out, (uint8_t)*value);
		}
	buf_printf(out, "'");
}

/* The place of a disk in the view, or -1. */
static int
place(const struct lv_view *v, unsigned disk)
{
	for (unsigned i = 0; i < v->ndisks; i++)
		if (v->disk[i] == disk)
			return (int)i;
	return -1;
}

void
lv_xml_backup(const struct guest *g, struct buf *out)
{
	const struct lv *lv = g->impl;
	const struct lv_view *v = &lv->view;

	buf_printf(out, "<domainbackup mode='pull'><server transport='unix'");
	quoted(out, "socket", v->socket);
	buf_printf(out, "/><disks>");
	for (unsigned d = 0; d < g->ndisks; d++) {
		int i = place(v, d);

		buf_printf(out, "<disk");
		quoted(out, "name", lv->disk[d].target);
		if (i == -1) {
			buf_printf(out, " backup='no'/>");
			continue;
		}
		buf_printf(out, " backup='yes' type='file'");
		quoted(out, "exportname", g->disk[d].name);
		if (v->incremental[i]) {
			buf_printf(out, " backupmode='incremental'");
			quoted(out, "incremental", v->old);
			quoted(out, "exportbitmap", GUEST_VIEW_BITMAP);
		} else {
			buf_printf(out, " backupmode='full'");
		}
		buf_printf(out, "><scratch");
		quoted(out, "file", v->scratch[i]);
		buf_printf(out, "/></disk>");
	}
	buf_printf(out, "</disks></domainbackup>");
}

bool
lv_xml_checkpoint(const struct guest *g, struct buf *out)
{
	const struct lv *lv = g->impl;
	bool any = false;

	buf_printf(
	    out, "<domaincheckpoint><name>%s</name><disks>", lv->view.new);
	for (unsigned d = 0; d < g->ndisks; d++) {
		bool is = place(&lv->view, d) != -1 && lv->disk[d].bitmap;

		buf_printf(out, "<disk");
		quoted(out, "name", lv->disk[d].target);
		buf_printf(out, " checkpoint='%s'/>", is ? "bitmap" : "no");
		any = any || is;
	}
	buf_printf(out, "</disks></domaincheckpoint>");
	return any;
}

void
lv_xml_renewal(
    const struct guest *g, const char *name, int only, struct buf *out)
{
	const struct lv *lv = g->impl;
	const struct lv_view *v = &lv->view;

	/* It must have been made before any other that libvirt knows of. */
	buf_printf(out,
	    "<domaincheckpoint><name>%s</name><creationTime>1</creationTime>"
	    "<disks>",
	    name);
	for (unsigned i = 0; i < v->ndisks; i++) {
		const struct lv_disk *l = &lv->disk[v->disk[i]];

		if (!(only == (int)i || (only == -1 && v->incremental[i])))
			continue;
		buf_printf(out, "<disk");
		quoted(out, "name", l->target);
		buf_printf(out, " checkpoint='bitmap'");
		quoted(out, "bitmap", name);
		buf_printf(out, "/>");
	}
	buf_printf(out, "</disks></domaincheckpoint>");
}
