/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/ram/ramstream.h"
#include "agent/ram/wire.h"
#include "proto/base/buf.h"
#include "proto/base/bytes.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

enum { PAGES = 256 }; /* read at once */

struct writer {
	int fd;
	struct buf b;
	uint8_t *page; /* PAGES of them */
};

static int
flush(struct writer *w, struct err *e)
{
	size_t done = 0;

	while (done < w->b.len) {
		ssize_t n = write(w->fd, w->b.data + done, w->b.len - done);

		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1 && errno == EPIPE)
			return err_set(e, ERR_CLOSED,
			    "QEMU stopped reading the saved memory");
		if (n == -1) {
			log_sys("saved memory: write");
			return err_set(
			    e, ERR_SYS, "cannot feed the saved memory to QEMU");
		}
		done += (size_t)n;
	}
	w->b.len = 0;
	return 0;
}

static void
add_be32(struct buf *b, uint32_t v)
{
	put_be32(buf_extend(b, 4), v);
}

static void
add_be64(struct buf *b, uint64_t v)
{
	put_be64(buf_extend(b, 8), v);
}

/* ${len} bytes of the state, from ${off} on. */
static int
copy_state(
    struct writer *w, int state, uint64_t off, uint64_t len, struct err *e)
{
	int rc = 0;

	while (len > 0 && rc == 0) {
		size_t n =
		    len < PAGES * RAM_PAGE ? (size_t)len : PAGES * RAM_PAGE;
		ssize_t got = pread_full(state, buf_extend(&w->b, n), n, off);

		if (got == -1) {
			log_sys("saved state: read");
			return err_set(e, ERR_SYS, "cannot read the state");
		}
		if ((size_t)got != n)
			return err_set(
			    e, ERR_CORRUPT, "the saved state is too short");
		rc = flush(w, e);
		off += n;
		len -= n;
	}
	return rc;
}

static void
add_page(struct writer *w, const struct ram_block *b, uint64_t addr,
    const uint8_t *page)
{
	bool zero = bytes_zero(page, RAM_PAGE);
	uint64_t flags = zero ? QEMU_PAGE_ZERO : QEMU_PAGE_DATA;

	if (addr != 0)
		flags |= QEMU_PAGE_SAME;
	add_be64(&w->b, addr | flags);
	if (addr == 0) {
		buf_u8(&w->b, (uint8_t)strlen(b->name));
		buf_add(&w->b, b->name, strlen(b->name));
	}
	if (zero)
		buf_u8(&w->b, 0);
	else
		buf_add(&w->b, page, RAM_PAGE);
}

/* Zero pages too: QEMU has put its firmware into memory that it just made. */
static int
add_block(struct writer *w, const struct ram_block *b, int ram, struct err *e)
{
	uint64_t addr = 0;
	int rc = 0;

	while (addr < b->size && rc == 0) {
		uint64_t left = b->size - addr;
		size_t n =
		    left < PAGES * RAM_PAGE ? (size_t)left : PAGES * RAM_PAGE;
		ssize_t got = pread_full(ram, w->page, n, b->offset + addr);

		if (got == -1) {
			log_sys("saved memory: read");
			return err_set(e, ERR_SYS, "cannot read the memory");
		}
		if ((size_t)got != n)
			return err_set(
			    e, ERR_CORRUPT, "the saved memory is too short");
		for (size_t i = 0; i < n; i += RAM_PAGE)
			add_page(w, b, addr + i, w->page + i);
		addr += n;
		rc = flush(w, e);
	}
	return rc;
}

int
ramstream_compose(const struct ramstream_layout *l, int ram, int state, int out,
    struct err *e)
{
	struct writer w = { .fd = out };
	struct stat st;
	int rc;

	if (!ramstream_layout_ok(l))
		return err_set(
		    e, ERR_CORRUPT, "the facts of the saved memory are wrong");
	if (fstat(state, &st) != 0) {
		log_sys("saved state: stat");
		return err_set(e, ERR_SYS, "cannot read the state");
	}
	if ((uint64_t)st.st_size < l->head)
		return err_set(e, ERR_CORRUPT, "the saved state is too short");
	w.page = xmalloc(PAGES * RAM_PAGE);
	rc = copy_state(&w, state, 0, l->head, e);
	if (rc == 0) {
		buf_u8(&w.b, QEMU_PART);
		add_be32(&w.b, l->section);
	}
	for (unsigned i = 0; i < l->nblocks && rc == 0; i++)
		rc = add_block(&w, &l->block[i], ram, e);
	if (rc == 0) {
		add_be64(&w.b, QEMU_PAGE_EOS);
		if (l->footer) {
			buf_u8(&w.b, QEMU_FOOTER);
			add_be32(&w.b, l->section);
		}
		if (l->switchover) {
			buf_u8(&w.b, QEMU_COMMAND);
			add_be32(&w.b, (uint32_t)QEMU_SWITCHOVER << 16);
		}
		rc = flush(&w, e);
	}
	if (rc == 0)
		rc = copy_state(
		    &w, state, l->head, (uint64_t)st.st_size - l->head, e);
	buf_fini(&w.b);
	free(w.page);
	return rc;
}
