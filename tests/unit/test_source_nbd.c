/* SPDX-License-Identifier: Apache-2.0 */
/* Exports of QEMU's own servers, whole, stopped and killed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/source/source_nbd.h"
#include "proto/base/buf.h"
#include "proto/base/bytes.h"
#include "proto/base/io.h"
#include "tests/unit/nbd_fixture.h"
#include "tests/unit/standstill.h"

#define MIB (UINT64_C(1) << 20)
#define CONTEXT "qemu:dirty-bitmap:b0"
#define QEMU_NBD "qemu-nbd -r -f qcow2 -B b0 "
#define SERVE QEMU_NBD "-x vda -t -k %s/sock -e 16 disk"

enum {
	GRANULE = 64 << 10,
	WINDOW = 8 << 20,
	PIECE = 512 << 10,
	THREADS = 4,
	SHORT_MS = 2000,
	/* What a busy machine may add to a timeout. */
	SLACK_MS = 8000
};

static char here[256];

/* Some of it written before bitmap b0, some after; an odd size. */
static void
make_disk(uint64_t size, unsigned *seed)
{
	assert_non_null(getcwd(here, sizeof(here)));
	run("qemu-img create -q -f qcow2 disk %llu", (unsigned long long)size);
	write_random("disk", 24, size, seed);
	run("qemu-img bitmap --add disk b0");
	write_random("disk", 24, size, seed);
	run("qemu-io -f qcow2 -c 'write -q -z 3M 1M' -c 'write -q -z -u 5M 1M' "
	    "disk");
}

static struct source_nbd_options
options(void)
{
	return (struct source_nbd_options){
		.socket = "sock",
		.export = "vda",
		.dirty = CONTEXT,
		.connections = 3,
		.timeout_ms = 20000,
	};
}

static struct source *
connect_to(const struct source_nbd_options *o)
{
	struct source *s;
	struct err e = { 0 };

	if (source_nbd_open(o, &s, &e) != 0)
		fail_msg("%s", e.text);
	return s;
}

static void
refused(const struct source_nbd_options *o, int code, const char *words)
{
	struct source *s;
	struct err e = { 0 };

	assert_int_equal(source_nbd_open(o, &s, &e), code);
	assert_int_equal(e.code, code);
	if (strstr(e.text, words) == NULL)
		fail_msg("\"%s\" lacks \"%s\"", e.text, words);
}

/* What several threads do with one source. */
struct reader {
	struct source *s;
	const uint8_t *want;
	atomic_uint_fast64_t *next;
	int rc;
	bool differs;
	struct err e;
};

static void *
reader_main(void *arg)
{
	struct reader *r = arg;
	uint8_t *data = xmalloc(WINDOW);

	for (;;) {
		uint64_t off = atomic_fetch_add(r->next, WINDOW), len;
		size_t n;
		bool hole;

		if (off >= r->s->size)
			break;
		n = r->s->size - off < WINDOW ? (size_t)(r->s->size - off)
					      : WINDOW;
		r->rc = source_map(r->s, off, &len, &hole, &r->e);
		for (size_t at = 0; r->rc == 0 && at < n; at += PIECE)
			r->rc = source_read(r->s, data + at,
			    n - at < PIECE ? n - at : PIECE, off + at, &r->e);
		if (r->rc != 0)
			break;
		r->differs |= memcmp(data, r->want + off, n) != 0;
		r->rc = source_read(r->s, data, n, off, &r->e);
		if (r->rc != 0)
			break;
		r->differs |= memcmp(data, r->want + off, n) != 0;
	}
	free(data);
	return NULL;
}

static void
read_all(struct source *s, const uint8_t *want)
{
	atomic_uint_fast64_t next = 0;
	struct reader r[THREADS];
	pthread_t t[THREADS];

	for (int i = 0; i < THREADS; i++) {
		r[i] = (struct reader){ .s = s, .want = want, .next = &next };
		assert_int_equal(
		    pthread_create(&t[i], NULL, reader_main, &r[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < THREADS; i++) {
		if (r[i].rc != 0)
			fail_msg("%s", r[i].e.text);
		assert_false(r[i].differs);
	}
}

static uint8_t *
content(uint64_t size)
{
	uint8_t *data = xmalloc((size_t)size);
	int fd;

	run("qemu-img convert -f qcow2 -O raw disk raw");
	fd = open("raw", O_RDONLY | O_CLOEXEC);
	assert_int_not_equal(fd, -1);
	assert_int_equal(pread_full(fd, data, (size_t)size, 0), size);
	close(fd);
	return data;
}

static void
all_threads_read_what_the_disk_holds(void **state)
{
	struct source_nbd_options o = options();
	unsigned seed = test_seed();
	uint64_t size = 70 * MIB + 1536;
	uint8_t *want, few[3000];
	struct source *s;
	struct err e;
	pid_t pid;

	(void)state;
	make_disk(size, &seed);
	want = content(size);
	pid = server_start(SERVE, here);
	s = connect_to(&o);
	assert_int_equal(s->size, size);
	assert_string_equal(s->format, "raw");
	read_all(s, want);
	for (int i = 0; i < 50; i++) {
		uint64_t off = (uint64_t)rand_r(&seed) % (size - sizeof(few));

		assert_int_equal(source_read(s, few, sizeof(few), off, &e), 0);
		assert_memory_equal(few, want + off, sizeof(few));
	}
	assert_int_equal(source_read(s, few, 1, size, &e), ERR_INVAL);
	source_close(s);
	server_end(pid);
	free(want);
}

static void
one_connection_is_enough_for_many_threads(void **state)
{
	struct source_nbd_options o = options();
	unsigned seed = test_seed();
	uint8_t *want;
	struct source *s;
	pid_t pid;

	(void)state;
	make_disk(40 * MIB, &seed);
	want = content(40 * MIB);
	pid = server_start(QEMU_NBD "-x vda -t -k %s/sock -e 1 disk", here);
	o.connections = 4;
	s = connect_to(&o);
	read_all(s, want);
	source_close(s);
	server_end(pid);
	free(want);
}

typedef int stretch_fn(
    struct source *s, uint64_t off, uint64_t *len, bool *yes, struct err *e);

/* Granules that QEMU calls ${flags} as a whole, and only those, are it. */
static void
compare(struct source *s, stretch_fn *ask, const struct extents *x,
    unsigned mask, unsigned flags)
{
	size_t n = (size_t)((s->size + GRANULE - 1) / GRANULE);
	bool *want = xcalloc(n, sizeof(*want)), any = false, none = false;
	uint64_t off = 0, len;
	struct err e;
	bool yes;

	memset(want, true, n);
	for (unsigned i = 0; i < x->n; i++) {
		uint64_t end = x->at[i].off + x->at[i].len;

		if ((x->at[i].flags & mask) == flags)
			continue;
		for (uint64_t g = x->at[i].off / GRANULE; g * GRANULE < end;
		     g++)
			want[g] = false;
	}
	for (; off < s->size; off += len) {
		assert_int_equal(ask(s, off, &len, &yes, &e), 0);
		assert_in_range(len, 1, s->size - off);
		assert_int_equal(off % GRANULE, 0);
		for (uint64_t g = off / GRANULE; g * GRANULE < off + len; g++)
			assert_int_equal(want[g], yes);
		any |= yes;
		none |= !yes;
	}
	assert_true(any && none);
	free(want);
}

static void
holes_and_clean_regions_are_those_of_qemu(void **state)
{
	static const uint64_t sizes[] = { 70 * MIB + 1536, 3000 * MIB + 512,
		1024 * MIB, 80 * 1024 * MIB };
	struct source_nbd_options o = options();
	unsigned seed = test_seed();
	static struct extents x;

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct source *s;
		pid_t pid;

		run("rm -f disk");
		make_disk(sizes[i], &seed);
		pid = server_start(SERVE, here);
		s = connect_to(&o);
		nbdinfo_map(&x, "base:allocation", QEMU_NBD "disk");
		compare(s, source_map, &x, 2, 2);
		nbdinfo_map(&x, CONTEXT, QEMU_NBD "disk");
		compare(s, source_clean, &x, ~0u, 0);
		/* From anywhere, as from a boundary. */
		for (int n = 0; n < 200; n++) {
			uint64_t off = (uint64_t)rand_r(&seed) * 512 % s->size;

			assert_int_equal(
			    clean_at(s, off), clean_at(s, off - off % GRANULE));
		}
		source_close(s);
		server_end(pid);
	}
}

static void
without_a_context_nothing_is_clean(void **state)
{
	struct source_nbd_options o = options();
	unsigned seed = 1;
	struct source *s;
	uint64_t len;
	struct err e;
	bool clean;
	pid_t pid;

	(void)state;
	make_disk(64 * MIB, &seed);
	pid = server_start(SERVE, here);
	o.dirty = NULL;
	o.format = "qcow2";
	o.cluster_size = 65536;
	s = connect_to(&o);
	assert_int_equal(source_clean(s, 512, &len, &clean, &e), 0);
	assert_false(clean);
	assert_int_equal(len, s->size - 512);
	assert_string_equal(s->format, "qcow2");
	assert_int_equal(s->cluster_size, 65536);
	source_close(s);
	server_end(pid);
}

static void
what_is_not_there_is_told_by_name(void **state)
{
	struct source_nbd_options o = options();
	unsigned seed = 1;
	pid_t pid;

	(void)state;
	refused(&o, ERR_NOENT, "sock");
	make_disk(64 * MIB, &seed);
	pid = server_start(SERVE, here);
	o.dirty = "qemu:dirty-bitmap:b1";
	refused(&o, ERR_NOENT, "b1");
	o = options();
	o.export = "vdb";
	refused(&o, ERR_NOENT, "vdb");
	kill(pid, SIGKILL);
	o = options();
	/* The socket stays, and nobody listens to it. */
	for (uint64_t deadline = now_ms() + SLACK_MS;;) {
		struct source *s;
		struct err e;

		if (source_nbd_open(&o, &s, &e) != 0)
			break;
		source_close(s);
		assert_true(now_ms() < deadline);
		poll(NULL, 0, 5);
	}
	refused(&o, ERR_CLOSED, "nobody listens");
	server_end(pid);
}

static void
fails_soon(struct source *s, int code, const char *words, int within_ms)
{
	uint64_t start = now_ms();
	static uint8_t data[WINDOW];
	struct err e = { 0 };

	assert_int_equal(source_read(s, data, sizeof(data), 0, &e), code);
	assert_int_equal(e.code, code);
	if (strstr(e.text, words) == NULL)
		fail_msg("\"%s\" lacks \"%s\"", e.text, words);
	assert_in_range(now_ms() - start, 0, (uint64_t)within_ms);
}

static void
server_that_stands_still_is_given_up(void **state)
{
	struct source_nbd_options o = options();
	unsigned seed = 1;
	struct source *s;
	uint64_t len;
	struct err e;
	bool hole;
	pid_t pid;

	(void)state;
	make_disk(64 * MIB, &seed);
	pid = server_start(SERVE, here);
	o.timeout_ms = SHORT_MS;
	s = connect_to(&o);
	standstill(pid);
	fails_soon(s, ERR_TIMEOUT, "no answer for 2.0 s", SHORT_MS + SLACK_MS);
	/* For all who come later, and at once. */
	fails_soon(s, ERR_TIMEOUT, "no answer", SHORT_MS / 2);
	assert_int_equal(source_map(s, 0, &len, &hole, &e), ERR_TIMEOUT);
	source_close(s);
	refused(&o, ERR_TIMEOUT, "connecting");
	kill(pid, SIGCONT);
	s = connect_to(&o);
	standstill(pid);
	assert_int_equal(source_map(s, 0, &len, &hole, &e), ERR_TIMEOUT);
	source_close(s);
	kill(pid, SIGCONT);
	s = connect_to(&o);
	assert_int_equal(source_map(s, 0, &len, &hole, &e), 0);
	source_close(s);
	server_end(pid);
}

static void *
fail_main(void *arg)
{
	struct reader *r = arg;
	uint8_t *data = xmalloc(WINDOW);

	for (uint64_t off = 0; r->rc == 0; off = (off + WINDOW) % (48 * MIB))
		r->rc = source_read(r->s, data, WINDOW, off, &r->e);
	free(data);
	return NULL;
}

/* All threads read for ever, until what ${end} does. */
static void
all_end(int (*end)(struct source *s, pid_t pid), int code, const char *words)
{
	struct source_nbd_options o = options();
	struct reader r[THREADS];
	pthread_t t[THREADS];
	unsigned seed = 1;
	uint64_t start;
	struct source *s;
	pid_t pid;

	make_disk(64 * MIB, &seed);
	pid = server_start(SERVE, here);
	s = connect_to(&o);
	for (int i = 0; i < THREADS; i++) {
		r[i] = (struct reader){ .s = s };
		assert_int_equal(
		    pthread_create(&t[i], NULL, fail_main, &r[i]), 0);
	}
	assert_int_equal(end(s, pid), 0);
	start = now_ms();
	for (int i = 0; i < THREADS; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(r[i].rc, code);
		if (strstr(r[i].e.text, words) == NULL)
			fail_msg("\"%s\" lacks \"%s\"", r[i].e.text, words);
	}
	assert_in_range(now_ms() - start, 0, SLACK_MS);
	source_close(s);
	server_end(pid);
}

static int
by_kill(struct source *s, pid_t pid)
{
	(void)s;
	return kill(pid, SIGKILL);
}

static int
by_stop(struct source *s, pid_t pid)
{
	standstill(pid);
	source_nbd_stop(s);
	return 0;
}

static void
server_that_is_killed_ends_all_threads(void **state)
{
	(void)state;
	all_end(by_kill, ERR_CLOSED, "closed the connection");
}

static void
who_does_not_want_to_wait_stops_all_threads(void **state)
{
	(void)state;
	all_end(by_stop, ERR_CLOSED, "was stopped");
}

/* A socket that is listened to by nobody who would ever answer. */
static int
silent(int backlog)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "sock" };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_not_equal(fd, -1);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, backlog), 0);
	return fd;
}

static void
server_that_says_nothing_is_given_up(void **state)
{
	struct source_nbd_options o = options();
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "sock" };
	int fd = silent(0), full;

	(void)state;
	o.timeout_ms = SHORT_MS;
	refused(&o, ERR_TIMEOUT, "connecting");
	/* Its queue is full: connect fails at once instead of waiting. */
	close(fd);
	unlink("sock");
	fd = silent(0);
	full = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(full, (struct sockaddr *)&a, sizeof(a)), 0);
	refused(&o, ERR_TIMEOUT, "does not take connections");
	close(full);
	close(fd);
}

static void
block_that_cannot_be_read_is_the_only_one(void **state)
{
	struct source_nbd_options o = options();
	static uint8_t data[WINDOW];
	struct source *s;
	struct err e = { 0 };
	pid_t pid;

	(void)state;
	assert_non_null(getcwd(here, sizeof(here)));
	run("head -c 32M /dev/zero | tr '\\0' 'x' >disk");
	pid = server_start("qemu-storage-daemon --blockdev "
			   "driver=file,node-name=f,filename=disk --blockdev "
			   "driver=blkdebug,node-name=d,image=f,"
			   "inject-error.0.event=none,"
			   "inject-error.0.iotype=read,"
			   "inject-error.0.errno=5,"
			   "inject-error.0.sector=20480 "
			   "--nbd-server addr.type=unix,addr.path=%s/sock "
			   "--export nbd,id=e,node-name=d,name=vda",
	    here);
	o.dirty = NULL;
	s = connect_to(&o);
	assert_int_equal(source_read(s, data, WINDOW, 8 * MIB, &e), ERR_SYS);
	assert_non_null(strstr(e.text, "Input/output error"));
	/* Not the source's end. */
	assert_int_equal(source_read(s, data, WINDOW, 0, &e), 0);
	assert_int_equal(data[WINDOW - 1], 'x');
	assert_int_equal(source_read(s, data, WINDOW, 16 * MIB, &e), 0);
	source_close(s);
	server_end(pid);
}

/* A server of large blocks: reads have to be aligned to them. */
static void
reads_are_aligned_as_the_server_wants(void **state)
{
	struct source_nbd_options o = options();
	static uint8_t data[3 * PIECE];
	struct source *s;
	struct err e = { 0 };
	pid_t pid;

	(void)state;
	assert_non_null(getcwd(here, sizeof(here)));
	run("head -c 4M /dev/urandom >disk; cp disk raw");
	pid = server_start("qemu-storage-daemon --blockdev "
			   "driver=file,node-name=f,filename=disk --blockdev "
			   "driver=blkdebug,node-name=d,image=f,align=4096 "
			   "--nbd-server addr.type=unix,addr.path=%s/sock "
			   "--export nbd,id=e,node-name=d,name=vda",
	    here);
	o.dirty = NULL;
	s = connect_to(&o);
	for (unsigned off = 0; off < 5000; off += 777) {
		size_t n = sizeof(data) - off;
		uint8_t *want = xmalloc(n);
		int fd = open("raw", O_RDONLY | O_CLOEXEC);

		assert_int_equal(pread_full(fd, want, n, off), n);
		close(fd);
		assert_int_equal(source_read(s, data, n, off, &e), 0);
		assert_memory_equal(data, want, n);
		free(want);
	}
	source_close(s);
	server_end(pid);
}

#define CASE(f)                                                                \
	cmocka_unit_test_setup_teardown(                                       \
	    f, nbd_folder_setup, nbd_folder_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(all_threads_read_what_the_disk_holds),
		CASE(one_connection_is_enough_for_many_threads),
		CASE(holes_and_clean_regions_are_those_of_qemu),
		CASE(without_a_context_nothing_is_clean),
		CASE(what_is_not_there_is_told_by_name),
		CASE(server_that_stands_still_is_given_up),
		CASE(server_that_is_killed_ends_all_threads),
		CASE(who_does_not_want_to_wait_stops_all_threads),
		CASE(server_that_says_nothing_is_given_up),
		CASE(block_that_cannot_be_read_is_the_only_one),
		CASE(reads_are_aligned_as_the_server_wants),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
