/* SPDX-License-Identifier: Apache-2.0 */
/* A domain's XML, read and changed. */
#include <libxml/parser.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/guest/xml.h"
#include "agent/live/live_restore_impl.h"
#include "proto/base/io.h"

#define QEMU_NS "http://libvirt.org/schemas/domain/qemu/1.0"
#define X(s) ((const xmlChar *)(s))

static void
set_text(xmlNodePtr n, const char *text)
{
	xmlChar *safe = xmlEncodeSpecialChars(n->doc, X(text));

	xmlNodeSetContent(n, safe);
	xmlFree(safe);
}

static void
drop(xmlNodePtr n)
{
	xmlUnlinkNode(n);
	xmlFreeNode(n);
}

static xmlNodePtr
root_of(const struct lr *r)
{
	return xmlDocGetRootElement(r->doc);
}

static xmlNodePtr
devices_of(const struct lr *r)
{
	return xml_child(root_of(r), "devices");
}

/* --- reading */

static void
read_disk(struct lr *r, xmlNodePtr n)
{
	xmlNodePtr source = xml_child(n, "source");
	char *target = xml_attr(xml_child(n, "target"), "dev");
	struct lr_disk *d;

	d = source == NULL || target == NULL ? NULL : lr_add_disk(r, target);
	free(target);
	if (d == NULL)
		return;
	d->path = xml_attr(source, "file");
	if (d->path == NULL)
		d->path = xml_attr(source, "dev");
	d->format = xml_attr(xml_child(n, "driver"), "type");
	d->writable = xml_child(n, "readonly") == NULL &&
	    xml_child(n, "shareable") == NULL &&
	    !xml_attr_is(n, "device", "cdrom") &&
	    !xml_attr_is(n, "device", "floppy");
}

static void
read_nvram(struct lr *r)
{
	xmlNodePtr n = xml_child(xml_child(root_of(r), "os"), "nvram");
	char *path;
	struct lr_disk *d;

	if (n == NULL)
		return;
	path = xml_attr(xml_child(n, "source"), "file");
	if (path == NULL && xml_child(n, "source") == NULL)
		path = xml_text(n);
	if (path != NULL && path[0] != '/') {
		free(path);
		path = NULL;
	}
	d = lr_add_disk(r, "nvram");
	if (d == NULL) {
		free(path);
		return;
	}
	d->path = path;
	d->writable = true;
	d->nvram = true;
}

int
lr_xml_parse(struct lr *r, const struct buf *text, struct err *e)
{
	xmlNodePtr root, n;

	r->doc = xmlReadMemory((const char *)text->data, (int)text->len, NULL,
	    NULL, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	root = r->doc == NULL ? NULL : root_of(r);
	if (root == NULL || strcmp((const char *)root->name, "domain") != 0 ||
	    xml_child(root, "name") == NULL || devices_of(r) == NULL)
		return err_set(
		    e, ERR_PROTO, "the backup's definition is no domain's XML");
	n = xml_child(devices_of(r), "disk");
	for (; n != NULL; n = xml_element(n->next, "disk"))
		read_disk(r, n);
	read_nvram(r);
	r->name = r->o->clone != NULL ? xstrdup(r->o->clone)
				      : xml_text(xml_child(root, "name"));
	return 0;
}

char *
lr_xml_uuid(const struct lr *r)
{
	return xml_text(xml_child(root_of(r), "uuid"));
}

bool
lr_xml_tpm(const struct lr *r, char **dir, bool *old)
{
	xmlNodePtr backend =
	    xml_child(xml_child(devices_of(r), "tpm"), "backend");

	*dir = xml_attr(xml_child(backend, "source"), "path");
	*old = xml_attr_is(backend, "version", "1.2");
	return backend != NULL && xml_attr_is(backend, "type", "emulator");
}

/* --- who it is */

static void
new_uuid(xmlNodePtr n)
{
	char uuid[LR_UUID_LEN + 1];

	lr_new_uuid(uuid);
	set_text(n, uuid);
}

static void
new_address(xmlNodePtr mac)
{
	char text[LR_MAC_LEN + 1];

	lr_new_mac(text);
	xmlSetProp(mac, X("address"), X(text));
}

/* Sockets and files of consoles and channels. */
static void
move_source(struct lr *r, xmlNodePtr n)
{
	xmlNodePtr source = xml_child(n, "source"), log = xml_child(n, "log");
	char *path, *to;

	if (xml_attr_is(n, "type", "file") || xml_attr_is(n, "type", "unix") ||
	    xml_attr_is(n, "type", "pipe")) {
		path = xml_attr(source, "path");
		if (path != NULL && path[0] == '/') {
			to = lr_moved(r, path);
			xmlSetProp(source, X("path"), X(to));
			free(to);
		}
		free(path);
	}
	path = xml_attr(log, "file");
	if (path != NULL) {
		to = lr_moved(r, path);
		xmlSetProp(log, X("file"), X(to));
		free(to);
	}
	free(path);
}

static void
free_port(xmlNodePtr n)
{
	if (xml_attr_is(n, "autoport", "yes") || !xmlHasProp(n, X("port")))
		return;
	xmlSetProp(n, X("autoport"), X("yes"));
	xmlUnsetProp(n, X("port"));
	xmlUnsetProp(n, X("tlsPort"));
	xmlUnsetProp(n, X("websocket"));
}

void
lr_xml_identity(struct lr *r)
{
	static const char *const chars[] = { "serial", "parallel", "console",
		"channel" };
	xmlNodePtr root = root_of(r), n;

	xmlUnsetProp(root, X("id"));
	if (r->o->clone == NULL)
		return;
	set_text(xml_child(root, "name"), r->name);
	n = xml_child(root, "uuid");
	if (n == NULL)
		n = xmlNewChild(root, NULL, X("uuid"), NULL);
	new_uuid(n);
	/* It says the identity once more. */
	n = xml_child(root, "sysinfo");
	for (n = xml_child(xml_child(n, "system"), "entry"); n != NULL;
	     n = xml_element(n->next, "entry"))
		if (xml_attr_is(n, "name", "uuid")) {
			drop(n);
			break;
		}
	n = xml_child(root, "genid");
	if (n != NULL)
		new_uuid(n);
	n = xml_child(devices_of(r), "interface");
	for (; n != NULL; n = xml_element(n->next, "interface"))
		if (xml_child(n, "mac") != NULL)
			new_address(xml_child(n, "mac"));
	for (size_t i = 0; i < sizeof(chars) / sizeof(chars[0]); i++)
		for (n = xml_child(devices_of(r), chars[i]); n != NULL;
		     n = xml_element(n->next, chars[i]))
			move_source(r, n);
	for (n = xml_child(devices_of(r), "graphics"); n != NULL;
	     n = xml_element(n->next, "graphics"))
		free_port(n);
}

/* --- its files */

static void
put_source(xmlNodePtr n, const struct lr_file *f)
{
	xmlNodePtr source = xml_child(n, "source"),
		   driver = xml_child(n, "driver");
	xmlNodePtr below;
	struct stat st;
	bool block = stat(f->path, &st) == 0 && S_ISBLK(st.st_mode);

	if (!xml_attr_is(n, "type", "file") &&
	    !xml_attr_is(n, "type", "block")) {
		/* A network's or a pool's: nothing of it is true here. */
		drop(source);
		source = xmlNewChild(n, NULL, X("source"), NULL);
	}
	xmlSetProp(n, X("type"), X(block ? "block" : "file"));
	xmlUnsetProp(source, X("file"));
	xmlUnsetProp(source, X("dev"));
	xmlUnsetProp(source, X("index"));
	xmlSetProp(source, X(block ? "dev" : "file"), X(f->path));
	/* An image that was restored stands by itself. */
	while ((below = xml_child(n, "backingStore")) != NULL)
		drop(below);
	if (driver == NULL) {
		driver = xmlNewChild(n, NULL, X("driver"), NULL);
		xmlSetProp(driver, X("name"), X("qemu"));
	}
	xmlSetProp(driver, X("type"), X(f->format));
}

static const struct lr_file *
file_of(const struct lr *r, const char *name)
{
	for (unsigned i = 0; i < r->nfiles; i++)
		if (strcmp(r->file[i].volume->name, name) == 0)
			return &r->file[i];
	return NULL;
}

/* In the order of lr_xml_parse: names that were not fit follow from it. */
void
lr_xml_finish(struct lr *r)
{
	xmlNodePtr n = xml_child(devices_of(r), "disk"), nvram, source;
	const struct lr_file *f;
	unsigned at = 0;
	char *target;

	for (; n != NULL; n = xml_element(n->next, "disk")) {
		target = xml_attr(xml_child(n, "target"), "dev");
		if (xml_child(n, "source") != NULL && target != NULL &&
		    at < r->ndisks) {
			f = file_of(r, r->disk[at++].name);
			if (f != NULL)
				put_source(n, f);
		}
		free(target);
	}
	nvram = xml_child(xml_child(root_of(r), "os"), "nvram");
	f = file_of(r, "nvram");
	if (nvram == NULL || f == NULL)
		return;
	source = xml_child(nvram, "source");
	if (source != NULL)
		xmlSetProp(source, X("file"), X(f->path));
	else
		set_text(nvram, f->path);
}

/* --- writing */

static void
add_arg(xmlNodePtr n, xmlNsPtr ns, const char *value)
{
	xmlNodePtr arg = xmlNewChild(n, ns, X("arg"), NULL);

	xmlSetProp(arg, X("value"), X(value));
}

static void
add_waiting(xmlDocPtr doc)
{
	xmlNodePtr root = xmlDocGetRootElement(doc), n;
	xmlNsPtr ns = xmlSearchNsByHref(doc, root, X(QEMU_NS));

	if (ns == NULL)
		ns = xmlNewNs(root, X(QEMU_NS), X("qemu"));
	n = xml_child(root, "commandline");
	if (n == NULL)
		n = xmlNewChild(root, ns, X("commandline"), NULL);
	add_arg(n, ns, "-incoming");
	add_arg(n, ns, "defer");
}

char *
lr_xml_text(struct lr *r, bool waits)
{
	xmlDocPtr doc = xmlCopyDoc(r->doc, 1);
	xmlChar *text;
	int len;

	if (waits)
		add_waiting(doc);
	xmlDocDumpMemory(doc, &text, &len);
	xmlFreeDoc(doc);
	return (char *)text;
}
