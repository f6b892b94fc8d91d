/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as QEMU's migration stream, or as facts of one: parsed in bounded
 * time; what was understood and is put together again is understood alike.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/ram/facts.h"
#include "agent/ram/ramstream.h"
#include "proto/base/buf.h"
#include "proto/base/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { VOLUME_MAX = 4 << 20 };

static int
file_of(const void *data, size_t len)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	if (fd == -1 || pwrite_full(fd, data, len, 0) != 0)
		abort();
	return fd;
}

/* Both volumes of a stream as files; the map's holes are zeroes. */
static void
take_apart(struct ramstream *s, struct buf *ram, struct buf *state)
{
	int fd = file_of("", 0);
	struct source *v;
	uint64_t off = 0, len;
	struct err e;
	bool hole;

	if (ramstream_state(s, fd, &e) != 0)
		abort();
	len = (uint64_t)lseek(fd, 0, SEEK_END);
	pread_full(fd, buf_extend(state, (size_t)len), (size_t)len, 0);
	close(fd);
	v = ramstream_source(s);
	memset(buf_extend(ram, (size_t)v->size), 0, (size_t)v->size);
	while (off < v->size) {
		if (source_map(v, off, &len, &hole, &e) != 0 || len == 0 ||
		    len > v->size - off)
			abort();
		if (!hole &&
		    source_read(v, ram->data + off, (size_t)len, off, &e) != 0)
			abort();
		off += len;
	}
	source_close(v);
}

static void
fuzz_stream(const uint8_t *data, size_t size)
{
	struct buf ram = { 0 }, state = { 0 }, ram2 = { 0 }, state2 = { 0 };
	int ram_fd, state_fd, out, copy;
	struct ramstream_layout l;
	struct ramstream *s;
	struct err e;

	if (ramstream_open(file_of(data, size), file_of("", 0), &s, &e) != 0)
		return;
	l = *ramstream_layout(s);
	if (!ramstream_layout_ok(&l))
		abort();
	if (l.size > VOLUME_MAX) {
		ramstream_close(s);
		return;
	}
	take_apart(s, &ram, &state);
	ram_fd = file_of(ram.data, ram.len);
	state_fd = file_of(state.data, state.len);
	out = file_of("", 0);
	copy = dup(out);
	if (ramstream_compose(&l, ram_fd, state_fd, copy, &e) != 0)
		abort();
	close(copy);
	close(ram_fd);
	close(state_fd);
	if (ramstream_open(out, file_of("", 0), &s, &e) != 0)
		abort();
	take_apart(s, &ram2, &state2);
	if (ram.len != ram2.len || memcmp(ram.data, ram2.data, ram.len) != 0 ||
	    state.len != state2.len ||
	    memcmp(state.data, state2.data, state.len) != 0)
		abort();
	buf_fini(&ram);
	buf_fini(&ram2);
	buf_fini(&state);
	buf_fini(&state2);
}

static void
fuzz_facts(const uint8_t *data, size_t size)
{
	struct ram_facts *f = xmalloc(sizeof(*f));
	struct buf a = { 0 }, b = { 0 };
	struct err e;

	if (ram_facts_parse(data, size, f, &e) == 0) {
		ram_facts_print(f, &a);
		if (ram_facts_parse(a.data, a.len, f, &e) != 0)
			abort();
		ram_facts_print(f, &b);
		if (a.len != b.len || memcmp(a.data, b.data, a.len) != 0)
			abort();
	}
	buf_fini(&a);
	buf_fini(&b);
	free(f);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 0 && data[0] == '{')
		fuzz_facts(data, size);
	else
		fuzz_stream(data, size);
	return 0;
}
