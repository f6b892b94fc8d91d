/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/bytes.h"

static _Noreturn void
out_of_memory(size_t len)
{
	fprintf(stderr, "out of memory: %zu bytes wanted\n", len);
	abort();
}

void *
xmalloc(size_t len)
{
	void *p = malloc(len != 0 ? len : 1);

	if (p == NULL)
		out_of_memory(len);
	return p;
}

void *
xcalloc(size_t n, size_t size)
{
	void *p = calloc(n != 0 ? n : 1, size != 0 ? size : 1);

	if (p == NULL)
		out_of_memory(size);
	return p;
}

void *
xrealloc(void *old, size_t len)
{
	void *p = realloc(old, len != 0 ? len : 1);

	if (p == NULL)
		out_of_memory(len);
	return p;
}

char *
xstrdup(const char *s)
{
	size_t len = strlen(s) + 1;

	return memcpy(xmalloc(len), s, len);
}

char *
xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	if (n == -1)
		out_of_memory(0);
	return s;
}

void *
aligned_new(size_t len)
{
	void *p;

	if (posix_memalign(&p, 4096, len) != 0)
		out_of_memory(len);
	return p;
}

void
buf_fini(struct buf *b)
{
	free(b->data);
	*b = (struct buf){ 0 };
}

static void
reserve(struct buf *b, size_t len)
{
	size_t want = b->len + len;
	size_t cap = b->cap != 0 ? b->cap : 256;

	if (want < len)
		out_of_memory(len);
	if (want <= b->cap)
		return;
	while (cap < want)
		cap += cap / 2;
	b->data = xrealloc(b->data, cap);
	b->cap = cap;
}

uint8_t *
buf_extend(struct buf *b, size_t len)
{
	uint8_t *p;

	reserve(b, len);
	p = b->data + b->len;
	b->len += len;
	return p;
}

void
buf_add(struct buf *b, const void *data, size_t len)
{
	if (len != 0)
		memcpy(buf_extend(b, len), data, len);
}

void
buf_u8(struct buf *b, uint8_t v)
{
	*buf_extend(b, 1) = v;
}

void
buf_u16(struct buf *b, uint16_t v)
{
	put_le16(buf_extend(b, 2), v);
}

void
buf_u32(struct buf *b, uint32_t v)
{
	put_le32(buf_extend(b, 4), v);
}

void
buf_u64(struct buf *b, uint64_t v)
{
	put_le64(buf_extend(b, 8), v);
}

void
buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap, again;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n > 0) {
		reserve(b, (size_t)n + 1);
		vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, again);
		b->len += (size_t)n;
	}
	va_end(again);
}

const char *
buf_cstr(struct buf *b)
{
	reserve(b, 1);
	b->data[b->len] = 0;
	return (const char *)b->data;
}
