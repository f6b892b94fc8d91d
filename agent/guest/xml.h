/* SPDX-License-Identifier: Apache-2.0 */
/* xml: elements of libxml2's trees; a node may be NULL: then so is what is
 * asked of it. */
#ifndef AGENT_GUEST_XML_H
#define AGENT_GUEST_XML_H

#include <libxml/tree.h>
#include <stdbool.h>

/** xml_element(n, name): the next element ${name} after ${n}, or ${n}; NULL. */
xmlNodePtr xml_element(xmlNodePtr n, const char *name);

/** xml_child(n, name): its first child of that name, or NULL. */
xmlNodePtr xml_child(xmlNodePtr n, const char *name);

/** xml_attr(n, name), xml_text(n): a value, the caller's, or NULL. */
char *xml_attr(xmlNodePtr n, const char *name);
char *xml_text(xmlNodePtr n);

/** xml_attr_is(n, name, value): is it there, and has that value? */
bool xml_attr_is(xmlNodePtr n, const char *name, const char *value);

#endif
