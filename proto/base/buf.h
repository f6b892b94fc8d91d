/* SPDX-License-Identifier: Apache-2.0 */
/* buf: a growing byte buffer, and memory that is there or ends the process. */
#ifndef PROTO_BASE_BUF_H
#define PROTO_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

/*
 * Lack of memory ends the process with a message: every length that comes
 * from outside was bounded before it reaches an allocation, and both programs
 * are built to be killed at any point.
 */
void *xmalloc(size_t len);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t len);
char *xstrdup(const char *s);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/** aligned_new(len): ${len} bytes on a page boundary; free() releases. */
void *aligned_new(size_t len);

/* Zero-initialise to get an empty one.  Not thread-safe. */
struct buf {
	uint8_t *data;
	size_t len;
	size_t cap;
};

/** buf_fini(b): release the memory; ${b} is empty and usable again. */
void buf_fini(struct buf *b);

/** buf_extend(b, len): make room, count it in, return where it begins. */
uint8_t *buf_extend(struct buf *b, size_t len);

void buf_add(struct buf *b, const void *data, size_t len);
void buf_u8(struct buf *b, uint8_t v);
void buf_u16(struct buf *b, uint16_t v);
void buf_u32(struct buf *b, uint32_t v);
void buf_u64(struct buf *b, uint64_t v);

/** buf_printf(b, fmt, ...): append text, without its closing NUL. */
void buf_printf(struct buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/** buf_cstr(b): NUL-terminate (not counted in len) and return the text. */
const char *buf_cstr(struct buf *b);

#endif
