/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/console/unit.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/owner.h"

static void
escape(const char *path, struct buf *out)
{
	const char *p = path;

	while (*p == '/')
		p++;
	if (*p == 0)
		buf_printf(out, "-");
	for (bool first = true; *p != 0; p++, first = false) {
		unsigned char c = (unsigned char)*p;

		if (c == '/') {
			/* Several are one, and one at the end is none. */
			if (p[1] != '/' && p[1] != 0)
				buf_u8(out, '-');
		} else if ((isalnum(c) && c < 128) || c == ':' || c == '_' ||
		    (c == '.' && !first)) {
			buf_u8(out, c);
		} else {
			buf_printf(out, "\\x%02x", c);
		}
	}
}

void
unit_name(const char *dir, struct buf *out)
{
	char *path = realpath(dir, NULL);
	struct buf name = { 0 };
	const char *s;

	escape(path != NULL ? path : dir, &name);
	s = buf_cstr(&name);
	/* All that it holds besides letters is the backslash. */
	buf_printf(out,
	    strchr(s, '\\') != NULL ? "'backstayd@%s'" : "backstayd@%s", s);
	buf_fini(&name);
	free(path);
}

void
unit_start(const char *dir, bool always, struct buf *out)
{
	if (!owner_is(dir, UNIT_USER)) {
		buf_printf(out, "backstayd %s", dir);
		return;
	}
	buf_printf(out, "systemctl %s ", always ? "enable --now" : "start");
	unit_name(dir, out);
}
