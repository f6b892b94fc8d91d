/* SPDX-License-Identifier: Apache-2.0 */
/* A domain's XML, read and changed. */
#include <libxml/parser.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/live/live_restore_impl.h"
#include "proto/base/io.h"

#define QEMU_NS "http://libvirt.org/schemas/domain/qemu/1.0"
#define X(s) ((const xmlChar *)(s))

static xmlNodePtr
element(xmlNodePtr n, const char *name)
{
	for (; n != NULL; n = n->next)
		if (n->type == XML_ELEMENT_NODE &&
		    strcmp((const char *)n->name, name) == 0)
			return n;
	return NULL;
}

static xmlNodePtr
child(xmlNodePtr n, const char *name)
{
	return n == NULL ? NULL : element(n->children, name);
}

/* The caller's, or NULL. */
static char *
attr(xmlNodePtr n, const char *name)
{
	xmlChar *v = n == NULL ? NULL : xmlGetProp(n, X(name));
	char *s;

	if (v == NULL)
		return NULL;
	s = xstrdup((const char *)v);
	xmlFree(v);
	return s;
}

static bool
attr_is(xmlNodePtr n, const char *name, const char *value)
{
	char *s = attr(n, name);
	bool is = s != NULL && strcmp(s, value) == 0;

	free(s);
	return is;
}

static char *
text_of(xmlNodePtr n)
{
	xmlChar *v = n == NULL ? NULL : xmlNodeGetContent(n);
	char *s;

	if (v == NULL)
		return NULL;
	s = xstrdup((const char *)v);
	xmlFree(v);
	return s;
}

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
	return child(root_of(r), "devices");
}

/* --- reading */

static void
read_disk(struct lr *r, xmlNodePtr n)
{
	xmlNodePtr source = child(n, "source");
	char *target = attr(child(n, "target"), "dev");
	struct lr_disk *d;

	d = source == NULL || target == NULL ? NULL : lr_add_disk(r, target);
	free(target);
	if (d == NULL)
		return;
	d->path = attr(source, "file");
	if (d->path == NULL)
		d->path = attr(source, "dev");
	d->format = attr(child(n, "driver"), "type");
	d->writable = child(n, "readonly") == NULL &&
	    child(n, "shareable") == NULL && !attr_is(n, "device", "cdrom") &&
	    !attr_is(n, "device", "floppy");
}

static void
read_nvram(struct lr *r)
{
	xmlNodePtr n = child(child(root_of(r), "os"), "nvram");
	char *path;
	struct lr_disk *d;

	if (n == NULL)
		return;
	path = attr(child(n, "source"), "file");
	if (path == NULL && child(n, "source") == NULL)
		path = text_of(n);
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
	    child(root, "name") == NULL || devices_of(r) == NULL)
		return err_set(
		    e, ERR_PROTO, "the backup's definition is no domain's XML");
	n = child(devices_of(r), "disk");
	for (; n != NULL; n = element(n->next, "disk"))
		read_disk(r, n);
	read_nvram(r);
	r->name = r->o->clone != NULL ? xstrdup(r->o->clone)
				      : text_of(child(root, "name"));
	return 0;
}

char *
lr_xml_uuid(const struct lr *r)
{
	return text_of(child(root_of(r), "uuid"));
}

bool
lr_xml_tpm(const struct lr *r, char **dir, bool *old)
{
	xmlNodePtr backend = child(child(devices_of(r), "tpm"), "backend");

	*dir = attr(child(backend, "source"), "path");
	*old = attr_is(backend, "version", "1.2");
	return backend != NULL && attr_is(backend, "type", "emulator");
}

/* --- who it is */

static void
new_uuid(xmlNodePtr n)
{
	uint8_t b[16];
	char h[33], text[37];

	random_bytes(b, sizeof(b));
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	hex(b, sizeof(b), h);
	snprintf(text, sizeof(text), "%.8s-%.4s-%.4s-%.4s-%.12s", h, h + 8,
	    h + 12, h + 16, h + 20);
	set_text(n, text);
}

static void
new_address(xmlNodePtr mac)
{
	uint8_t b[3];
	char text[18];

	random_bytes(b, sizeof(b));
	snprintf(
	    text, sizeof(text), "52:54:00:%02x:%02x:%02x", b[0], b[1], b[2]);
	xmlSetProp(mac, X("address"), X(text));
}

/* Sockets and files of consoles and channels. */
static void
move_source(struct lr *r, xmlNodePtr n)
{
	xmlNodePtr source = child(n, "source"), log = child(n, "log");
	char *path, *to;

	if (attr_is(n, "type", "file") || attr_is(n, "type", "unix") ||
	    attr_is(n, "type", "pipe")) {
		path = attr(source, "path");
		if (path != NULL && path[0] == '/') {
			to = lr_moved(r, path);
			xmlSetProp(source, X("path"), X(to));
			free(to);
		}
		free(path);
	}
	path = attr(log, "file");
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
	if (attr_is(n, "autoport", "yes") || !xmlHasProp(n, X("port")))
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
	set_text(child(root, "name"), r->name);
	n = child(root, "uuid");
	if (n == NULL)
		n = xmlNewChild(root, NULL, X("uuid"), NULL);
	new_uuid(n);
	/* It says the identity once more. */
	n = child(root, "sysinfo");
	for (n = child(child(n, "system"), "entry"); n != NULL;
	     n = element(n->next, "entry"))
		if (attr_is(n, "name", "uuid")) {
			drop(n);
			break;
		}
	n = child(root, "genid");
	if (n != NULL)
		new_uuid(n);
	n = child(devices_of(r), "interface");
	for (; n != NULL; n = element(n->next, "interface"))
		if (child(n, "mac") != NULL)
			new_address(child(n, "mac"));
	for (size_t i = 0; i < sizeof(chars) / sizeof(chars[0]); i++)
		for (n = child(devices_of(r), chars[i]); n != NULL;
		     n = element(n->next, chars[i]))
			move_source(r, n);
	for (n = child(devices_of(r), "graphics"); n != NULL;
	     n = element(n->next, "graphics"))
		free_port(n);
}

/* --- its files */

static void
put_source(xmlNodePtr n, const struct lr_file *f)
{
	xmlNodePtr source = child(n, "source"), driver = child(n, "driver");
	xmlNodePtr below;
	struct stat st;
	bool block = stat(f->path, &st) == 0 && S_ISBLK(st.st_mode);

	if (!attr_is(n, "type", "file") && !attr_is(n, "type", "block")) {
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
	while ((below = child(n, "backingStore")) != NULL)
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
	xmlNodePtr n = child(devices_of(r), "disk"), nvram, source;
	const struct lr_file *f;
	unsigned at = 0;
	char *target;

	for (; n != NULL; n = element(n->next, "disk")) {
		target = attr(child(n, "target"), "dev");
		if (child(n, "source") != NULL && target != NULL &&
		    at < r->ndisks) {
			f = file_of(r, r->disk[at++].name);
			if (f != NULL)
				put_source(n, f);
		}
		free(target);
	}
	nvram = child(child(root_of(r), "os"), "nvram");
	f = file_of(r, "nvram");
	if (nvram == NULL || f == NULL)
		return;
	source = child(nvram, "source");
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
	n = child(root, "commandline");
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
