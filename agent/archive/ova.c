/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/archive/ova.h"

#include <libxml/parser.h>
#include <libxml/tree.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/archive/digest.h"
#include "proto/base/io.h"

enum { PIECE = 1 << 20, WORD_MAX = 16 };

void
ova_fini(struct ova *o)
{
	buf_fini(&o->descriptor);
	buf_fini(&o->manifest);
}

static int
take_text(struct arcin *a, char *name, struct buf *text, struct err *e)
{
	if (name[0] != 0)
		return arcin_fail(
		    a, ERR_INVAL, e, "is a second one of %.150s", name);
	memcpy(name, arcin_member(a)->name, ARCIN_NAME_MAX + 1);
	return arcin_text(a, OVA_TEXT_MAX, text, e);
}

int
ova_member(
    struct ova *o, struct arcin *a, enum disk_name_kind kind, struct err *e)
{
	if (kind == DISK_NAME_OVF)
		return take_text(a, o->descriptor_name, &o->descriptor, e);
	if (kind == DISK_NAME_MF)
		return take_text(a, o->manifest_name, &o->manifest, e);
	if (o->naside == OVA_ASIDE_MAX)
		return arcin_fail(
		    a, ERR_LIMIT, e, "is one too many that is no disk");
	memcpy(
	    o->aside[o->naside++], arcin_member(a)->name, ARCIN_NAME_MAX + 1);
	return 0; /* the next one passes it over */
}

static const char *
plain(const char *name)
{
	return strncmp(name, "./", 2) == 0 ? name + 2 : name;
}

static bool
same_name(const char *a, const char *b)
{
	return strcmp(plain(a), plain(b)) == 0;
}

static const struct spool_file *
find_disk(const struct spool *s, const char *name)
{
	for (unsigned i = 0; i < s->n; i++)
		if (same_name(s->file[i].member, name))
			return &s->file[i];
	return NULL;
}

static bool
is_aside(const struct ova *o, const char *name)
{
	for (unsigned i = 0; i < o->naside; i++)
		if (same_name(o->aside[i], name))
			return true;
	return false;
}

/* --- the descriptor */

static xmlNodePtr
element(xmlNodePtr n, const char *name)
{
	while (n != NULL &&
	    (n->type != XML_ELEMENT_NODE ||
		strcmp((const char *)n->name, name) != 0))
		n = n->next;
	return n;
}

static int
check_file(
    const struct ova *o, const struct spool *s, xmlNodePtr file, struct err *e)
{
	xmlChar *href = xmlGetProp(file, BAD_CAST "href");
	xmlChar *packed = xmlGetProp(file, BAD_CAST "compression");
	xmlChar *chunk = xmlGetProp(file, BAD_CAST "chunkSize");
	const char *name = (const char *)href;
	int rc = 0;

	if (name == NULL)
		rc = err_set(e, ERR_INVAL, "%.100s: a file without a name",
		    o->descriptor_name);
	else if ((packed != NULL &&
		     strcasecmp((const char *)packed, "identity") != 0) ||
	    chunk != NULL)
		rc = err_set(e, ERR_UNSUP,
		    "%.100s: %.100s is packed or in pieces: unpack it, and "
		    "import its disks",
		    o->descriptor_name, name);
	else if (find_disk(s, name) == NULL && !is_aside(o, name))
		rc = err_set(e, ERR_INVAL,
		    "%.100s: names %.100s, which is not in the archive",
		    o->descriptor_name, name);
	xmlFree(href);
	xmlFree(packed);
	xmlFree(chunk);
	return rc;
}

/* All that it names has to be there. */
static int
check_descriptor(const struct ova *o, const struct spool *s, struct err *e)
{
	/* Nothing but this text is read, whatever it names. */
	xmlDocPtr doc = xmlReadMemory((const char *)o->descriptor.data,
	    (int)o->descriptor.len, NULL, NULL,
	    XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	xmlNodePtr n =
	    doc != NULL ? element(xmlDocGetRootElement(doc), "Envelope") : NULL;
	int rc = 0;

	if (n == NULL)
		rc = err_set(e, ERR_INVAL, "%.100s: is no OVF descriptor",
		    o->descriptor_name);
	n = n != NULL ? element(n->children, "References") : NULL;
	n = n != NULL ? element(n->children, "File") : NULL;
	for (; rc == 0 && n != NULL; n = element(n->next, "File"))
		rc = check_file(o, s, n, e);
	xmlFreeDoc(doc);
	return rc;
}

/* --- the manifest */

struct line {
	char word[WORD_MAX]; /* "SHA256" */
	char *name;
	char *sum;
};

/* "SHA256(NAME)= SUM", which is cut up. */
static bool
parse_line(char *text, struct line *out)
{
	char *open = strchr(text, '('), *close, *p;
	size_t n;

	if (open == NULL)
		return false;
	n = strcspn(text, " \t(");
	if (n == 0 || n >= sizeof(out->word) ||
	    text + n + strspn(text + n, " \t") != open)
		return false;
	memcpy(out->word, text, n);
	out->word[n] = 0;
	close = strrchr(open, ')');
	if (close == NULL)
		return false;
	p = close + 1 + strspn(close + 1, " \t");
	if (*p != '=')
		return false;
	*close = 0;
	out->name = open + 1;
	out->sum = p + 1 + strspn(p + 1, " \t");
	out->sum[strcspn(out->sum, " \t")] = 0;
	return true;
}

static int
add_disk(struct digest *d, const struct spool_file *f, struct err *e)
{
	uint8_t *data = xmalloc(PIECE);
	int rc = 0;

	for (uint64_t off = 0; rc == 0 && off < f->size; off += PIECE) {
		size_t n =
		    f->size - off < PIECE ? (size_t)(f->size - off) : PIECE;

		if (pread_full(f->fd, data, n, off) != (ssize_t)n)
			rc = err_set(e, ERR_SYS, "%.150s: cannot be read again",
			    f->member);
		else
			digest_add(d, data, n);
	}
	free(data);
	return rc;
}

/* ${disk}: or NULL, the descriptor. */
static int
check_sum(const struct ova *o, const struct line *l,
    const struct spool_file *disk, struct err *e)
{
	struct digest *d = digest_named(l->word);
	char is[DIGEST_TEXT_MAX];
	int rc = 0;

	if (d == NULL)
		return err_set(e, ERR_UNSUP,
		    "%.100s: has checksums of the kind %.16s, which is unknown",
		    o->manifest_name, l->word);
	if (disk != NULL)
		rc = add_disk(d, disk, e);
	else
		digest_add(d, o->descriptor.data, o->descriptor.len);
	digest_text(d, is);
	digest_free(d);
	if (rc == 0 && strcasecmp(is, l->sum) != 0)
		rc = err_set(e, ERR_INVAL,
		    "the checksum of %.120s is another than %.100s says: it is "
		    "damaged",
		    l->name, o->manifest_name);
	return rc;
}

static int
take_line(const struct ova *o, const struct spool *s, char *text,
    bool checked[], struct err *e)
{
	const struct spool_file *disk;
	struct line l;
	int rc;

	if (!parse_line(text, &l))
		return err_set(e, ERR_INVAL,
		    "%.100s: has a line that is no checksum", o->manifest_name);
	if (same_name(l.name, o->descriptor_name))
		return check_sum(o, &l, NULL, e);
	if (is_aside(o, l.name))
		return 0;
	disk = find_disk(s, l.name);
	if (disk == NULL)
		return err_set(e, ERR_INVAL,
		    "%.100s: names %.100s, which is not in the archive",
		    o->manifest_name, l.name);
	rc = check_sum(o, &l, disk, e);
	checked[disk - s->file] = true;
	return rc;
}

static int
check_manifest(const struct ova *o, const struct spool *s, struct err *e)
{
	bool checked[MANIFEST_VOLUMES_MAX] = { false };
	char *text, *line, *save = NULL;
	int rc = 0;

	text = xcalloc(1, o->manifest.len + 1);
	if (o->manifest.len > 0)
		memcpy(text, o->manifest.data, o->manifest.len);
	for (line = strtok_r(text, "\r\n", &save); rc == 0 && line != NULL;
	     line = strtok_r(NULL, "\r\n", &save))
		rc = take_line(o, s, line, checked, e);
	free(text);
	for (unsigned i = 0; rc == 0 && i < s->n; i++)
		if (!checked[i])
			rc = err_set(e, ERR_INVAL,
			    "%.100s: has no checksum of %.100s",
			    o->manifest_name, s->file[i].member);
	return rc;
}

int
ova_check(const struct ova *o, const struct spool *s, struct err *e)
{
	const char *alone = o->manifest_name[0] != 0 ? o->manifest_name
	    : o->naside > 0                          ? o->aside[0]
						     : NULL;
	int rc;

	if (o->descriptor_name[0] == 0)
		return alone == NULL
		    ? 0
		    : err_set(e, ERR_INVAL,
			  "%.150s: is of an OVA, and there is no descriptor "
			  "(.ovf)",
			  alone);
	rc = check_descriptor(o, s, e);
	if (rc == 0 && o->manifest_name[0] != 0)
		rc = check_manifest(o, s, e);
	return rc;
}
