/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream that was saved without the memory that lies in shared files, made
 * into one that has it all, as a QEMU reads that knows nothing of such files:
 * its head is written anew, without that capability and the blocks' addresses;
 * a section with the files' pages follows, and then the rest as it was.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/image/imgfile.h"
#include "agent/live/live_restore_impl.h"
#include "agent/ram/wire.h"
#include "proto/base/bytes.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

enum { PAGES = 256, COPY = 1 << 20 };

struct plain {
	struct lr *r;
	const uint8_t *in; /* the begin of the state */
	size_t len, at;
	bool bad;
	struct buf out;
	uint32_t section;
	bool footer;
	unsigned nblocks; /* those that lie in files */
	struct {
		char name[RAM_NAME_MAX + 1];
		uint64_t size;
		const char *volume;
	} block[RAM_BACKENDS_MAX];
};

static const uint8_t *
take(struct plain *p, size_t n)
{
	static const uint8_t none[16];

	if (p->bad || n > p->len - p->at) {
		p->bad = true;
		return none;
	}
	p->at += n;
	return p->in + p->at - n;
}

static uint8_t
take_u8(struct plain *p)
{
	return *take(p, 1);
}

static uint32_t
take_u32(struct plain *p)
{
	return get_be32(take(p, 4));
}

static uint64_t
take_u64(struct plain *p)
{
	return get_be64(take(p, 8));
}

static void
take_name(struct plain *p, char name[RAM_NAME_MAX + 1])
{
	uint8_t n = take_u8(p);
	const uint8_t *b = take(p, n);

	if (p->bad)
		n = 0;
	memcpy(name, b, n);
	name[n] = 0;
}

static void
add_u32(struct buf *b, uint32_t v)
{
	put_be32(buf_extend(b, 4), v);
}

static void
add_u64(struct buf *b, uint64_t v)
{
	put_be64(buf_extend(b, 8), v);
}

static void
add_name(struct buf *b, const char *name)
{
	buf_u8(b, (uint8_t)strlen(name));
	buf_add(b, name, strlen(name));
}

/* The capabilities that it names, but for the one. */
static void
copy_capabilities(struct plain *p, uint32_t version)
{
	char name[RAM_NAME_MAX + 1];
	uint32_t n = take_u32(p), left = 0;
	struct buf names = { 0 };

	for (uint32_t i = 0; i < n && !p->bad; i++) {
		take_name(p, name);
		if (strcmp(name, "x-ignore-shared") == 0)
			continue;
		add_name(&names, name);
		left++;
	}
	if (left > 0) {
		buf_u8(&p->out, QEMU_SUBSECTION);
		add_name(&p->out, "configuration/capabilities");
		add_u32(&p->out, version);
		add_u32(&p->out, left);
		buf_add(&p->out, names.data, names.len);
	}
	buf_fini(&names);
}

static bool
copy_configuration(struct plain *p)
{
	char name[RAM_NAME_MAX + 1];
	uint32_t n, version;

	if (take_u32(p) != QEMU_MAGIC || take_u32(p) != QEMU_VERSION ||
	    take_u8(p) != QEMU_CONFIGURATION)
		return false;
	n = take_u32(p);
	take(p, n);
	if (p->bad)
		return false;
	buf_add(&p->out, p->in, p->at);
	while (!p->bad && p->at < p->len && p->in[p->at] == QEMU_SUBSECTION) {
		size_t from = p->at++;

		take_name(p, name);
		version = take_u32(p);
		if (strcmp(name, "configuration/capabilities") == 0) {
			copy_capabilities(p, version);
		} else if (strcmp(name, "configuration/uuid") == 0) {
			take(p, 16);
			buf_add(&p->out, p->in + from, p->at - from);
		} else {
			return false;
		}
	}
	return !p->bad;
}

/* The file of the block of that name: "/objects/ID", or "ID". */
static const char *
volume_of(const struct lr *r, const char *name, uint64_t size)
{
	for (unsigned i = 0; i < r->facts.nbackends; i++) {
		const struct ram_fact_backend *b = &r->facts.backend[i];
		const char *slash = strrchr(name, '/');

		if (strcmp(slash == NULL ? name : slash + 1, b->id) == 0 &&
		    b->size == size)
			return b->volume;
	}
	return NULL;
}

static bool
copy_blocks(struct plain *p)
{
	char name[RAM_NAME_MAX + 1];
	uint64_t total, size;
	const char *volume;

	if (take_u8(p) != QEMU_START)
		return false;
	p->section = take_u32(p);
	take_name(p, name);
	if (strcmp(name, "ram") != 0 || take_u32(p) != 0 ||
	    take_u32(p) != QEMU_RAM_VERSION)
		return false;
	total = take_u64(p);
	if ((total & QEMU_PAGE_FLAGS) != QEMU_PAGE_SIZES)
		return false;
	buf_u8(&p->out, QEMU_START);
	add_u32(&p->out, p->section);
	add_name(&p->out, name);
	add_u32(&p->out, 0);
	add_u32(&p->out, QEMU_RAM_VERSION);
	add_u64(&p->out, total);
	total &= ~(uint64_t)QEMU_PAGE_FLAGS;
	while (total > 0 && !p->bad) {
		take_name(p, name);
		size = take_u64(p);
		take_u64(p); /* its address */
		if (size > total || size == 0)
			return false;
		total -= size;
		add_name(&p->out, name);
		add_u64(&p->out, size);
		volume = volume_of(p->r, name, size);
		if (volume == NULL)
			continue;
		if (p->nblocks == RAM_BACKENDS_MAX)
			return false;
		memcpy(p->block[p->nblocks].name, name, sizeof(name));
		p->block[p->nblocks].size = size;
		p->block[p->nblocks++].volume = volume;
	}
	return !p->bad && p->nblocks == p->r->facts.nbackends;
}

static bool
copy_end(struct plain *p)
{
	uint64_t v = take_u64(p);

	if (v == QEMU_PAGE_FLUSH) {
		add_u64(&p->out, v);
		v = take_u64(p);
	}
	if (v != QEMU_PAGE_EOS)
		return false;
	add_u64(&p->out, v);
	p->footer = p->at < p->len && p->in[p->at] == QEMU_FOOTER;
	if (p->footer) {
		p->at++;
		if (take_u32(p) != p->section)
			return false;
		buf_u8(&p->out, QEMU_FOOTER);
		add_u32(&p->out, p->section);
	}
	return !p->bad;
}

static int
flush(struct plain *p, int fd, struct err *e)
{
	size_t done = 0;

	while (done < p->out.len) {
		ssize_t n = write(fd, p->out.data + done, p->out.len - done);

		if (n == -1 && errno == EINTR)
			continue;
		if (n <= 0)
			return imgfile_write_error(e, "save image");
		done += (size_t)n;
	}
	p->out.len = 0;
	return 0;
}

/* Zero pages too: QEMU has put its firmware into memory that it just made. */
static void
add_page(struct plain *p, unsigned i, uint64_t at, const uint8_t *page)
{
	bool zero = bytes_zero(page, RAM_PAGE);
	uint64_t flags = zero ? QEMU_PAGE_ZERO : QEMU_PAGE_DATA;

	add_u64(&p->out, at | flags | (at != 0 ? QEMU_PAGE_SAME : 0));
	if (at == 0)
		add_name(&p->out, p->block[i].name);
	if (zero)
		buf_u8(&p->out, 0);
	else
		buf_add(&p->out, page, RAM_PAGE);
}

static int
copy_block(struct plain *p, unsigned i, int fd, struct err *e)
{
	char *path = xasprintf("%s/%s", p->r->ram_tmp, p->block[i].volume);
	int in = open(path, O_RDONLY | O_CLOEXEC), rc = 0;
	uint8_t *b = xmalloc(PAGES * RAM_PAGE);

	if (in == -1)
		rc = err_set(e, ERR_NOENT, "the backup's memory: %m");
	for (uint64_t at = 0; at < p->block[i].size && rc == 0;) {
		uint64_t left = p->block[i].size - at;
		size_t n =
		    left < PAGES * RAM_PAGE ? (size_t)left : PAGES * RAM_PAGE;

		if (pread_full(in, b, n, at) != (ssize_t)n)
			rc = err_set(
			    e, ERR_CORRUPT, "the saved memory is too short");
		for (size_t k = 0; k < n && rc == 0; k += RAM_PAGE)
			add_page(p, i, at + k, b + k);
		if (rc == 0)
			rc = flush(p, fd, e);
		at += n;
	}
	if (in != -1)
		close(in);
	free(b);
	free(path);
	return rc;
}

static int
copy_rest(struct plain *p, int state, int fd, struct err *e)
{
	uint64_t at = p->at;
	ssize_t n;
	int rc = 0;

	do {
		n = pread_full(state, buf_extend(&p->out, COPY), COPY, at);
		p->out.len = n > 0 ? (size_t)n : 0;
		if (n == -1)
			rc = err_set(
			    e, log_sys("state: read"), "cannot read the state");
		else
			rc = flush(p, fd, e);
		at += n > 0 ? (uint64_t)n : 0;
	} while (n > 0 && rc == 0);
	return rc;
}

int
lr_plain_compose(struct lr *r, int state, int out, struct err *e)
{
	uint8_t *head = xmalloc(RAM_HEAD_MAX);
	ssize_t n = pread_full(state, head, RAM_HEAD_MAX, 0);
	struct plain p = { .r = r, .in = head };
	int rc = 0;

	p.len = n > 0 ? (size_t)n : 0;
	if (!copy_configuration(&p) || !copy_blocks(&p) || !copy_end(&p)) {
		rc = err_set(e, ERR_UNSUP,
		    "the state of this memory is not understood: no save image "
		    "can be made of it; --start loads it");
		goto done;
	}
	buf_u8(&p.out, QEMU_PART);
	add_u32(&p.out, p.section);
	for (unsigned i = 0; i < p.nblocks && rc == 0; i++)
		rc = copy_block(&p, i, out, e);
	add_u64(&p.out, QEMU_PAGE_EOS);
	if (p.footer) {
		buf_u8(&p.out, QEMU_FOOTER);
		add_u32(&p.out, p.section);
	}
	if (rc == 0)
		rc = flush(&p, out, e);
	if (rc == 0)
		rc = copy_rest(&p, state, out, e);
done:
	buf_fini(&p.out);
	free(head);
	return rc;
}
