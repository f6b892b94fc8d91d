/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *
err_name(int code)
{
	static const char *const names[ERR_MAX] = { "ok", "sys", "noent",
		"exist", "corrupt", "proto", "limit", "denied", "busy", "nospc",
		"closed", "timeout", "inval", "unsup", "missing" };

	if (code < 0 || code >= ERR_MAX)
		return "unknown";
	return names[code];
}

int
err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	if (e != NULL) {
		va_start(ap, fmt);
		vsnprintf(e->text, sizeof(e->text), fmt, ap);
		va_end(ap);
		e->code = code;
	}
	return code;
}

int
err_prefix(struct err *e, const char *fmt, ...)
{
	char was[ERR_TEXT_MAX];
	size_t room, len;
	va_list ap;
	int n;

	memcpy(was, e->text, sizeof(was));
	va_start(ap, fmt);
	n = vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n + 3 > sizeof(e->text))
		return e->code; /* no room for what it was about */
	e->text[n++] = ':';
	e->text[n++] = ' ';
	room = sizeof(e->text) - (size_t)n - 1;
	len = strnlen(was, sizeof(was));
	if (len > room)
		len = room;
	memcpy(e->text + n, was, len);
	e->text[(size_t)n + len] = 0;
	return e->code;
}
