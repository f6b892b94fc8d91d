/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/guest/xml.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"

xmlNodePtr
xml_element(xmlNodePtr n, const char *name)
{
	for (; n != NULL; n = n->next)
		if (n->type == XML_ELEMENT_NODE &&
		    strcmp((const char *)n->name, name) == 0)
			return n;
	return NULL;
}

xmlNodePtr
xml_child(xmlNodePtr n, const char *name)
{
	return n == NULL ? NULL : xml_element(n->children, name);
}

/* In memory that free() frees, whatever libxml2's is. */
static char *
taken(xmlChar *v)
{
	char *s;

	if (v == NULL)
		return NULL;
	s = xstrdup((const char *)v);
	xmlFree(v);
	return s;
}

char *
xml_attr(xmlNodePtr n, const char *name)
{
	return n == NULL ? NULL : taken(xmlGetProp(n, (const xmlChar *)name));
}

char *
xml_text(xmlNodePtr n)
{
	return n == NULL ? NULL : taken(xmlNodeGetContent(n));
}

bool
xml_attr_is(xmlNodePtr n, const char *name, const char *value)
{
	char *s = xml_attr(n, name);
	bool is = s != NULL && strcmp(s, value) == 0;

	free(s);
	return is;
}
