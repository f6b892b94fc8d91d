/* SPDX-License-Identifier: Apache-2.0 */
/* What no good server does: replies with gaps, nonsense, or a byte a while. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/source/nbdconn.h"
#include "agent/source/source_nbd.h"
#include "proto/base/buf.h"
#include "proto/base/bytes.h"
#include "proto/base/io.h"
#include "tests/unit/nbd_fixture.h"

#define MIB (UINT64_C(1) << 20)
#define SIZE (64 * MIB)
#define DIRTY "x:dirty"

/* Of NBD's protocol: doc/proto.md of the project nbd. */
#define OPTION_REPLY UINT64_C(0x0003e889045565a9)
enum { REQUEST_MAGIC = 0x25609513, REPLY_MAGIC = 0x668e33ef };
enum { OPT_GO = 7, OPT_STRUCTURED = 8, OPT_SET_CONTEXT = 10 };
enum { REP_ACK = 1, REP_INFO = 3, REP_CONTEXT = 4 };
#define REP_UNSUP UINT32_C(0x80000001)
enum { CMD_READ = 0, CMD_DISC = 2, CMD_STATUS = 7 };
enum { CHUNK_NONE = 0, CHUNK_DATA = 1, CHUNK_STATUS = 5 };
enum { EXPORT_FLAGS = 3, EXPORT_DF = 1 << 7 };
enum { REQUEST_LEN = 28, OPTION_MAX = 4096, TRICKLE_MS = 20 };

enum manner {
	GOOD,
	GAP,         /* a read's second half does not come */
	TWICE,       /* its first half comes twice instead */
	BACKWARDS,   /* its halves come in the wrong order */
	BREAKS_OFF,  /* the connection ends within it */
	TRICKLES,    /* it comes a byte at a time */
	NONSENSE,    /* it is not a reply */
	NO_CONTEXT,  /* nothing is told of any context */
	EMPTY_PARTS, /* extents of no bytes */
	TINY_PARTS,  /* one extent of 512 bytes a question */
	STRANGE_BITS /* holes that are not zeroes, and unknown bits */
};

struct fake {
	int fd;
	enum manner manner;
	uint16_t flags;
	unsigned nstatus; /* how often it was asked; after join */
	pthread_t thread;
};

static bool
get(int fd, void *data, size_t len)
{
	return len == 0 || recv(fd, data, len, MSG_WAITALL) == (ssize_t)len;
}

static void
send_buf(int fd, struct buf *b)
{
	size_t at = 0;

	while (at < b->len) {
		ssize_t n = send(fd, b->data + at, b->len - at, MSG_NOSIGNAL);

		if (n <= 0)
			break;
		at += (size_t)n;
	}
	buf_fini(b);
}

static void
be(struct buf *b, uint64_t v, size_t len)
{
	uint8_t all[8];

	put_be64(all, v);
	buf_add(b, all + 8 - len, len);
}

static void
option_reply(int fd, uint32_t option, uint32_t type, const struct buf *body)
{
	struct buf b = { 0 };

	be(&b, OPTION_REPLY, 8);
	be(&b, option, 4);
	be(&b, type, 4);
	be(&b, body->len, 4);
	buf_add(&b, body->data, body->len);
	send_buf(fd, &b);
}

/* Each name that is asked for is there; the first is context 1. */
static void
contexts(int fd, const uint8_t *data)
{
	uint32_t name_len = get_be32(data), n = get_be32(data + 4 + name_len);

	data += 8 + name_len;
	for (uint32_t i = 0; i < n; i++) {
		struct buf b = { 0 };
		uint32_t len = get_be32(data);

		be(&b, i + 1, 4);
		buf_add(&b, data + 4, len);
		option_reply(fd, OPT_SET_CONTEXT, REP_CONTEXT, &b);
		buf_fini(&b);
		data += 4 + len;
	}
}

static bool
negotiate(struct fake *f, int fd)
{
	static const struct buf empty;
	uint8_t head[16] = { 0 }, data[OPTION_MAX] = { 0 };
	struct buf b = { 0 };

	buf_add(&b, "NBDMAGICIHAVEOPT\0\3", 18);
	send_buf(fd, &b);
	if (!get(fd, head, 4))
		return false;
	for (;;) {
		uint32_t option, len;

		if (!get(fd, head, sizeof(head)))
			return false;
		option = get_be32(head + 8);
		len = get_be32(head + 12);
		if (len > sizeof(data) || !get(fd, data, len))
			return false;
		if (option == OPT_SET_CONTEXT)
			contexts(fd, data);
		if (option == OPT_GO) {
			be(&b, 0, 2);
			be(&b, SIZE, 8);
			be(&b, f->flags, 2);
			option_reply(fd, option, REP_INFO, &b);
			buf_fini(&b);
		}
		option_reply(fd, option,
		    option == OPT_GO || option == OPT_STRUCTURED ||
			    option == OPT_SET_CONTEXT
			? REP_ACK
			: REP_UNSUP,
		    &empty);
		if (option == OPT_GO)
			return true;
	}
}

static void
chunk(
    struct buf *b, const uint8_t *request, bool last, uint16_t type, size_t len)
{
	be(b, REPLY_MAGIC, 4);
	be(b, last, 2);
	be(b, type, 2);
	buf_add(b, request + 8, 8);
	be(b, len, 4);
}

static void
data_chunk(struct buf *b, const uint8_t *request, bool last, uint64_t off,
    uint32_t len)
{
	chunk(b, request, last, CHUNK_DATA, len + 8);
	be(b, off, 8);
	memset(buf_extend(b, len), 'x', len);
}

/* False: the connection ends. */
static bool
answer_read(struct fake *f, int fd, const uint8_t *request)
{
	uint64_t off = get_be64(request + 16);
	uint32_t len = get_be32(request + 24), half = len / 2;
	struct buf b = { 0 };

	switch (f->manner) {
	case GAP:
		data_chunk(&b, request, false, off, half);
		chunk(&b, request, true, CHUNK_NONE, 0);
		break;
	case TWICE:
		data_chunk(&b, request, false, off, half);
		data_chunk(&b, request, true, off, half);
		break;
	case BACKWARDS:
		data_chunk(&b, request, false, off + half, half);
		data_chunk(&b, request, true, off, half);
		break;
	case BREAKS_OFF:
		data_chunk(&b, request, true, off, len);
		b.len -= 10;
		send_buf(fd, &b);
		return false;
	case TRICKLES:
		data_chunk(&b, request, true, off, len);
		for (size_t i = 0; i < b.len; i++) {
			if (send(fd, b.data + i, 1, MSG_NOSIGNAL) != 1)
				break;
			poll(NULL, 0, TRICKLE_MS);
		}
		buf_fini(&b);
		return false;
	case NONSENSE: memset(buf_extend(&b, len), 0x55, len); break;
	default: data_chunk(&b, request, true, off, len); break;
	}
	send_buf(fd, &b);
	return true;
}

static void
answer_status(struct fake *f, int fd, const uint8_t *request)
{
	uint32_t len = get_be32(request + 24);
	struct buf b = { 0 };

	f->nstatus++;
	for (uint32_t id = 1; id <= 2 && f->manner != NO_CONTEXT; id++) {
		uint32_t flags = id == 1 ? 3 : 0;

		if (f->manner == EMPTY_PARTS)
			len = 0;
		if (f->manner == TINY_PARTS)
			len = 512;
		if (f->manner == STRANGE_BITS)
			flags = id == 1 ? 1 : 2;
		chunk(&b, request, id == 2, CHUNK_STATUS, 12);
		be(&b, id, 4);
		be(&b, len, 4);
		be(&b, flags, 4);
	}
	if (f->manner == NO_CONTEXT)
		chunk(&b, request, true, CHUNK_NONE, 0);
	send_buf(fd, &b);
}

static void *
fake_main(void *arg)
{
	struct fake *f = arg;
	int fd = accept(f->fd, NULL, NULL);
	uint8_t request[REQUEST_LEN];
	bool going = fd != -1 && negotiate(f, fd);

	while (going && get(fd, request, sizeof(request))) {
		uint32_t type = get_be32(request + 4) & 0xffff;

		if (type == CMD_READ)
			going = answer_read(f, fd, request);
		else if (type == CMD_STATUS)
			answer_status(f, fd, request);
		else
			going = false;
	}
	close(fd);
	return NULL;
}

static struct source *
start(struct fake *f, enum manner manner, bool df)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "sock" };
	struct source_nbd_options o = { .socket = "sock",
		.dirty = DIRTY,
		.connections = 1,
		.timeout_ms = manner == TRICKLES ? 3000 : 30000 };
	struct source *s;
	struct err e = { 0 };

	*f = (struct fake){ .manner = manner,
		.flags = (uint16_t)(EXPORT_FLAGS | (df ? EXPORT_DF : 0)) };
	unlink("sock");
	f->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(f->fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(f->fd, 4), 0);
	assert_int_equal(pthread_create(&f->thread, NULL, fake_main, f), 0);
	if (source_nbd_open(&o, &s, &e) != 0)
		fail_msg("%s", e.text);
	return s;
}

static void
end(struct fake *f, struct source *s)
{
	source_close(s);
	pthread_join(f->thread, NULL);
	close(f->fd);
}

static void
read_ends(enum manner manner, bool df, int code)
{
	static uint8_t data[MIB];
	struct fake f;
	struct source *s = start(&f, manner, df);
	struct err e = { 0 };
	uint64_t was = now_ms();
	int rc = source_read(s, data, sizeof(data), 4096, &e);

	if (rc != code)
		fail_msg("manner %d: %d (%s)", manner, rc, e.text);
	assert_in_range(now_ms() - was, 0, 10000);
	/* Nothing more comes of it, and all later calls say the same. */
	assert_int_equal(source_read(s, data, sizeof(data), 0, &e), code);
	end(&f, s);
}

static void
good_reply_is_taken(void **state)
{
	(void)state;
	read_ends(GOOD, true, 0);
	read_ends(GOOD, false, 0);
}

static void
read_with_a_gap_is_no_data(void **state)
{
	(void)state;
	for (int df = 0; df < 2; df++) {
		read_ends(GAP, df != 0, ERR_PROTO);
		read_ends(TWICE, df != 0, ERR_PROTO);
		read_ends(BACKWARDS, df != 0, ERR_PROTO);
	}
}

static void
reply_that_breaks_off_is_the_end(void **state)
{
	(void)state;
	read_ends(BREAKS_OFF, true, ERR_CLOSED);
	read_ends(NONSENSE, true, ERR_CLOSED);
}

static void
byte_now_and_then_is_no_answer(void **state)
{
	(void)state;
	read_ends(TRICKLES, true, ERR_TIMEOUT);
}

static void
good_contexts_are_taken(void **state)
{
	struct fake f;
	struct source *s = start(&f, GOOD, true);
	struct err e;
	uint64_t len;
	bool yes;

	(void)state;
	assert_int_equal(source_map(s, 512, &len, &yes, &e), 0);
	assert_true(yes);
	assert_int_equal(len, SIZE - 512);
	assert_int_equal(source_clean(s, 0, &len, &yes, &e), 0);
	assert_true(yes);
	assert_int_equal(len, SIZE);
	end(&f, s);
	assert_int_equal(f.nstatus, 1); /* both at once, and kept */
}

static void
context_that_is_not_told_is_an_error(void **state)
{
	(void)state;
	for (enum manner m = NO_CONTEXT; m <= EMPTY_PARTS; m++) {
		struct fake f;
		struct source *s = start(&f, m, true);
		struct err e;
		uint64_t len;
		bool yes;

		assert_int_equal(source_clean(s, 0, &len, &yes, &e), ERR_PROTO);
		end(&f, s);
	}
}

static void
only_what_reads_as_zero_is_a_hole(void **state)
{
	struct fake f;
	struct source *s = start(&f, STRANGE_BITS, true);
	struct err e;
	uint64_t len;
	bool yes;

	(void)state;
	assert_int_equal(source_map(s, 0, &len, &yes, &e), 0);
	assert_false(yes);
	assert_int_equal(len, SIZE);
	assert_int_equal(source_clean(s, 0, &len, &yes, &e), 0);
	assert_false(yes);
	end(&f, s);
}

/* 131072 questions would be needed; where it is given up, nothing is known. */
static void
tiny_parts_are_asked_for_a_bounded_number_of_times(void **state)
{
	struct fake f;
	struct source *s = start(&f, TINY_PARTS, true);
	struct err e;
	uint64_t len;
	bool yes;

	(void)state;
	assert_int_equal(source_clean(s, 0, &len, &yes, &e), 0);
	assert_true(yes);
	assert_in_range(len, 1, SIZE / 2);
	assert_int_equal(source_clean(s, len, &len, &yes, &e), 0);
	assert_false(yes);
	end(&f, s);
	assert_in_range(f.nstatus, 2, 5000);
}

#define CASE(f)                                                                \
	cmocka_unit_test_setup_teardown(                                       \
	    f, nbd_folder_setup, nbd_folder_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(good_reply_is_taken),
		CASE(read_with_a_gap_is_no_data),
		CASE(reply_that_breaks_off_is_the_end),
		CASE(byte_now_and_then_is_no_answer),
		CASE(good_contexts_are_taken),
		CASE(context_that_is_not_told_is_an_error),
		CASE(only_what_reads_as_zero_is_a_hole),
		CASE(tiny_parts_are_asked_for_a_bounded_number_of_times),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
