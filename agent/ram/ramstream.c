/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ram/ramstream.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/ram/ramstream_index.h"
#include "agent/ram/wire.h"
#include "proto/base/buf.h"
#include "proto/base/bytes.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

enum { WINDOW = 1 << 20 };

/* A file read from front to end. */
struct reader {
	int fd;
	uint64_t len;
	uint64_t pos;   /* of the next byte to take */
	uint64_t start; /* where the window lies */
	size_t have;
	int rc; /* the first failure; all that is taken then is zero */
	uint8_t *window;
};

/* The next ${n} bytes, or NULL. */
static const uint8_t *
take(struct reader *r, size_t n)
{
	const uint8_t *p;
	ssize_t got;

	assert(n <= WINDOW);
	if (r->rc != 0)
		return NULL;
	if (r->pos + n > r->start + r->have) {
		got = pread_full(r->fd, r->window, WINDOW, r->pos);
		if (got == -1) {
			r->rc = log_sys("saved memory: read");
			return NULL;
		}
		r->start = r->pos;
		r->have = (size_t)got;
		if (r->have < n) {
			r->rc = ERR_CORRUPT;
			return NULL;
		}
	}
	p = r->window + (r->pos - r->start);
	r->pos += n;
	return p;
}

static uint8_t
take_u8(struct reader *r)
{
	const uint8_t *p = take(r, 1);

	return p != NULL ? *p : 0;
}

static uint32_t
take_u32(struct reader *r)
{
	const uint8_t *p = take(r, 4);

	return p != NULL ? get_be32(p) : 0;
}

static uint64_t
take_u64(struct reader *r)
{
	const uint8_t *p = take(r, 8);

	return p != NULL ? get_be64(p) : 0;
}

static void
take_name(struct reader *r, char name[RAM_NAME_MAX + 1])
{
	size_t n = take_u8(r);
	const uint8_t *p = take(r, n);

	if (p == NULL)
		n = 0;
	else
		memcpy(name, p, n);
	name[n] = 0;
	if (strlen(name) != n)
		r->rc = r->rc != 0 ? r->rc : ERR_UNSUP;
}

/* The machine's type, and what it says of itself; sizes of pages other than
 * ours among that are not for us. */
static int
parse_configuration(struct reader *r)
{
	char name[RAM_NAME_MAX + 1];
	uint32_t n;

	if (take_u8(r) != QEMU_CONFIGURATION)
		return r->rc != 0 ? r->rc : ERR_UNSUP;
	n = take_u32(r);
	if (n > RAM_NAME_MAX)
		return ERR_UNSUP;
	take(r, n);
	for (;;) {
		const uint8_t *p = take(r, 1);

		if (p == NULL)
			return r->rc;
		if (*p != QEMU_SUBSECTION) {
			r->pos--;
			return 0;
		}
		take_name(r, name);
		take_u32(r);
		if (strcmp(name, "configuration/capabilities") == 0) {
			/* None of them changes how pages are written. */
			n = take_u32(r);
			if (n > 64)
				return ERR_UNSUP;
			for (; n > 0 && r->rc == 0; n--) {
				take_name(r, name);
				if (strcmp(name, "x-ignore-shared") == 0 ||
				    strcmp(name, "mapped-ram") == 0)
					return ERR_UNSUP;
			}
		} else if (strcmp(name, "configuration/uuid") == 0) {
			take(r, 16);
		} else {
			return r->rc != 0 ? r->rc : ERR_UNSUP;
		}
	}
}

bool
ramstream_layout_ok(const struct ramstream_layout *l)
{
	uint64_t end = 0;

	if (l->head > RAM_HEAD_MAX || l->nblocks == 0 ||
	    l->nblocks > RAM_BLOCKS_MAX)
		return false;
	for (unsigned i = 0; i < l->nblocks; i++) {
		const struct ram_block *b = &l->block[i];

		if (b->name[0] == 0 || b->size == 0 ||
		    b->size % RAM_PAGE != 0 || b->size > RAM_SIZE_MAX - end ||
		    b->offset != end)
			return false;
		end += (b->size + RAM_BLOCK_ALIGN - 1) / RAM_BLOCK_ALIGN *
		    RAM_BLOCK_ALIGN;
		if (end > RAM_SIZE_MAX)
			return false;
	}
	return l->size == end;
}

/* The blocks, as the memory's first section tells them. */
static int
parse_blocks(struct reader *r, uint64_t total, struct ramstream_layout *l)
{
	while (total > 0) {
		struct ram_block *b = &l->block[l->nblocks];

		if (l->nblocks == RAM_BLOCKS_MAX)
			return ERR_UNSUP;
		take_name(r, b->name);
		b->size = take_u64(r);
		b->offset = l->size;
		if (r->rc != 0)
			return r->rc;
		if (b->size > total || b->size > RAM_SIZE_MAX)
			return ERR_UNSUP;
		total -= b->size;
		l->size += (b->size + RAM_BLOCK_ALIGN - 1) / RAM_BLOCK_ALIGN *
		    RAM_BLOCK_ALIGN;
		l->nblocks++;
	}
	return ramstream_layout_ok(l) ? 0 : ERR_UNSUP;
}

static int
map_index(struct ramstream *s)
{
	void *p;

	s->npages = s->layout.size / RAM_PAGE;
	if (ftruncate(s->index, (off_t)(s->npages * sizeof(*s->page))) != 0)
		return log_sys("saved memory: notes of where pages lie");
	p = mmap(NULL, s->npages * sizeof(*s->page), PROT_READ | PROT_WRITE,
	    MAP_SHARED, s->index, 0);
	if (p == MAP_FAILED)
		return log_sys("saved memory: map the notes");
	s->page = p;
	return 0;
}

/* Sections are followed by a footer, or none of them is. */
static int
parse_footer(struct reader *r, bool first, struct ramstream_layout *l)
{
	const uint8_t *p = take(r, 1);

	if (p == NULL)
		return r->rc;
	if (first)
		l->footer = *p == QEMU_FOOTER;
	if (!l->footer) {
		r->pos--;
		return 0;
	}
	if (*p != QEMU_FOOTER || take_u32(r) != l->section)
		return r->rc != 0 ? r->rc : ERR_UNSUP;
	return 0;
}

static int
parse_start(struct ramstream *s, struct reader *r)
{
	struct ramstream_layout *l = &s->layout;
	char name[RAM_NAME_MAX + 1];
	uint64_t v;
	int rc;

	if (take_u8(r) != QEMU_START)
		return r->rc != 0 ? r->rc : ERR_UNSUP;
	l->section = take_u32(r);
	take_name(r, name);
	if (take_u32(r) != 0 || take_u32(r) != QEMU_RAM_VERSION ||
	    strcmp(name, "ram") != 0)
		return r->rc != 0 ? r->rc : ERR_UNSUP;
	v = take_u64(r);
	if ((v & QEMU_PAGE_FLAGS) != QEMU_PAGE_SIZES)
		return r->rc != 0 ? r->rc : ERR_UNSUP;
	rc = parse_blocks(r, v & ~(uint64_t)QEMU_PAGE_FLAGS, l);
	if (rc != 0)
		return rc;
	/* A page takes 9 bytes at least: no notes for what cannot come. */
	if (l->size / RAM_PAGE > r->len / 9 + RAM_BLOCKS_MAX * 256)
		return ERR_UNSUP;
	v = take_u64(r);
	if (v == QEMU_PAGE_FLUSH)
		v = take_u64(r);
	if (v != QEMU_PAGE_EOS)
		return r->rc != 0 ? r->rc : ERR_UNSUP;
	rc = parse_footer(r, true, l);
	if (rc != 0)
		return rc;
	l->head = r->pos;
	return l->head <= RAM_HEAD_MAX ? map_index(s) : ERR_UNSUP;
}

static const struct ram_block *
find_block(const struct ramstream_layout *l, const char *name)
{
	for (unsigned i = 0; i < l->nblocks; i++)
		if (strcmp(l->block[i].name, name) == 0)
			return &l->block[i];
	return NULL;
}

/* Pages up to the section's end.  ${last}: the block of the page before, which
 * may be of the section before. */
static int
parse_pages(
    struct ramstream *s, struct reader *r, const struct ram_block **last)
{
	const struct ram_block *b = *last;
	char name[RAM_NAME_MAX + 1];

	for (;;) {
		uint64_t v = take_u64(r), addr = v & ~(uint64_t)QEMU_PAGE_FLAGS;
		unsigned flags = (unsigned)(v & QEMU_PAGE_FLAGS);

		if (r->rc != 0)
			return r->rc;
		if (v == QEMU_PAGE_EOS)
			return 0;
		if (v == QEMU_PAGE_FLUSH)
			continue;
		if ((flags & QEMU_PAGE_SAME) == 0) {
			take_name(r, name);
			b = find_block(&s->layout, name);
			*last = b;
		}
		if (r->rc != 0)
			return r->rc;
		if (b == NULL || addr >= b->size)
			return ERR_UNSUP;
		flags &= ~(unsigned)QEMU_PAGE_SAME;
		addr = (addr + b->offset) / RAM_PAGE;
		if (flags == QEMU_PAGE_ZERO) {
			if (take_u8(r) != 0)
				return ERR_UNSUP;
			s->page[addr] = 0;
		} else if (flags == QEMU_PAGE_DATA) {
			s->page[addr] = r->pos;
			take(r, RAM_PAGE);
		} else {
			return ERR_UNSUP;
		}
	}
}

/* All sections of the memory's pages, up to the first device's. */
static int
parse_parts(struct ramstream *s, struct reader *r)
{
	const struct ram_block *last = NULL;
	const uint8_t *p;
	int rc;

	for (;;) {
		s->tail = r->pos;
		p = take(r, 1);
		if (p == NULL)
			return r->rc;
		if (*p == QEMU_FULL)
			return 0;
		if (*p == QEMU_COMMAND) {
			if (take_u32(r) != (uint32_t)QEMU_SWITCHOVER << 16)
				return r->rc != 0 ? r->rc : ERR_UNSUP;
			s->layout.switchover = true;
			continue;
		}
		/* Whatever else there is might have pages after it. */
		if ((*p != QEMU_PART && *p != QEMU_END) ||
		    take_u32(r) != s->layout.section)
			return r->rc != 0 ? r->rc : ERR_UNSUP;
		rc = parse_pages(s, r, &last);
		if (rc == 0)
			rc = parse_footer(r, false, &s->layout);
		if (rc != 0)
			return rc;
	}
}

static int
parse(struct ramstream *s, struct reader *r)
{
	int rc;

	if (take_u32(r) != QEMU_MAGIC || take_u32(r) != QEMU_VERSION)
		return r->rc != 0 ? r->rc : ERR_UNSUP;
	rc = parse_configuration(r);
	if (rc == 0)
		rc = parse_start(s, r);
	if (rc == 0)
		rc = parse_parts(s, r);
	return rc != 0 ? rc : r->rc;
}

int
ramstream_open(int fd, int index, struct ramstream **out, struct err *e)
{
	struct ramstream *s = xcalloc(1, sizeof(*s));
	struct reader r = { .fd = fd };
	struct stat st;
	int rc;

	s->fd = fd;
	s->index = index;
	if (fstat(fd, &st) != 0) {
		rc = log_sys("saved memory: stat");
		err_set(e, rc, "cannot look at the saved memory");
		goto err_close;
	}
	s->len = (uint64_t)st.st_size;
	r.len = s->len;
	r.window = xmalloc(WINDOW);
	rc = parse(s, &r);
	free(r.window);
	if (rc != 0) {
		err_set(e, rc, "memory saved by QEMU: %s at byte %llu",
		    rc == ERR_CORRUPT     ? "it ends"
			: rc == ERR_UNSUP ? "something unknown"
					  : "cannot be read",
		    (unsigned long long)r.pos);
		goto err_close;
	}
	*out = s;
	return 0;
err_close:
	ramstream_close(s);
	return rc;
}

void
ramstream_close(struct ramstream *s)
{
	if (s == NULL)
		return;
	if (s->page != NULL)
		munmap(s->page, s->npages * sizeof(*s->page));
	close(s->fd);
	close(s->index);
	free(s);
}

const struct ramstream_layout *
ramstream_layout(const struct ramstream *s)
{
	return &s->layout;
}

static int
copy_range(int from, uint64_t off, uint64_t len, int to, uint64_t at)
{
	uint8_t *buf = xmalloc(WINDOW);
	int rc = 0;

	while (len > 0 && rc == 0) {
		size_t n = len < WINDOW ? (size_t)len : WINDOW;

		if (pread_full(from, buf, n, off) != (ssize_t)n ||
		    pwrite_full(to, buf, n, at) != 0)
			rc = log_sys("saved memory: copy the state");
		off += n;
		at += n;
		len -= n;
	}
	free(buf);
	return rc;
}

int
ramstream_state(struct ramstream *s, int out, struct err *e)
{
	int rc;

	rc = copy_range(s->fd, 0, s->layout.head, out, 0);
	if (rc == 0)
		rc = copy_range(
		    s->fd, s->tail, s->len - s->tail, out, s->layout.head);
	if (rc != 0)
		err_set(e, rc, "cannot write the devices' state to scratch");
	return rc;
}
