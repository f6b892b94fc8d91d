/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imgcopy: copy an image from a source to a sink with the agent's own code and
 * nothing between, as its lanes would: threads that map and read windows of
 * 8 MiB and write chunks, the last ones first.  Prints the bytes that were
 * read, of the volume's bytes; "map" as FORMAT prints the holes instead.
 *
 *   imgcopy SOURCE TARGET raw|qcow2 [CLUSTER [CHUNK [THREADS]]]
 *   imgcopy SOURCE - map
 *   imgcopy SOURCE - hold          (keeps it open until its input ends)
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/sink/sink.h"
#include "agent/source/source.h"
#include "proto/base/buf.h"

enum { WINDOW = 8 << 20, THREADS_MAX = 16 };

struct copy {
	struct source *source; /* constant */
	struct sink *sink;     /* constant */
	size_t chunk;          /* constant */
	atomic_uint_fast64_t next;
	atomic_uint_fast64_t bytes_read;
	atomic_bool failed;
};

static int
fail(struct copy *c, const struct err *e)
{
	if (!atomic_exchange(&c->failed, true))
		fprintf(stderr, "imgcopy: %s\n", e->text);
	return 1;
}

/* The chunks from last to first: order must not matter to a sink. */
static int
write_chunks(struct copy *c, const uint8_t *window, uint64_t off, size_t len)
{
	size_t n = (len + c->chunk - 1) / c->chunk;
	struct err e;

	while (n-- > 0) {
		size_t at = n * c->chunk;
		size_t part = len - at < c->chunk ? len - at : c->chunk;

		if (sink_write(c->sink, window + at, part, off + at, &e) != 0)
			return fail(c, &e);
	}
	return 0;
}

static int
copy_window(struct copy *c, uint8_t *window, uint64_t off, size_t len)
{
	bool data = false;
	struct err e;
	uint64_t n;
	bool hole;

	for (uint64_t at = 0; at < len; at += n) {
		if (source_map(c->source, off + at, &n, &hole, &e) != 0)
			return fail(c, &e);
		if (n > len - at)
			n = len - at;
		if (hole && n == len)
			return 0;
		if (hole) {
			memset(window + at, 0, (size_t)n);
			continue;
		}
		data = true;
		if (source_read(
			c->source, window + at, (size_t)n, off + at, &e) != 0)
			return fail(c, &e);
		atomic_fetch_add(&c->bytes_read, n);
	}
	return data ? write_chunks(c, window, off, len) : 0;
}

static void *
lane(void *arg)
{
	struct copy *c = arg;
	uint8_t *window = aligned_new(WINDOW);
	uint64_t off;

	while (!atomic_load(&c->failed)) {
		size_t len = WINDOW;

		off = atomic_fetch_add(&c->next, WINDOW);
		if (off >= c->source->size)
			break;
		if (len > c->source->size - off)
			len = (size_t)(c->source->size - off);
		if (copy_window(c, window, off, len) != 0)
			break;
	}
	free(window);
	return NULL;
}

static int
print_map(struct source *s)
{
	uint64_t len;
	struct err e;
	bool hole;

	for (uint64_t off = 0; off < s->size; off += len) {
		if (source_map(s, off, &len, &hole, &e) != 0) {
			fprintf(stderr, "imgcopy: %s\n", e.text);
			return 1;
		}
		printf("%" PRIu64 " %" PRIu64 " %s\n", off, len,
		    hole ? "hole" : "data");
	}
	return 0;
}

static int
run(struct copy *c, int nthreads)
{
	pthread_t threads[THREADS_MAX];
	struct err e;

	for (int i = 0; i < nthreads; i++)
		if (pthread_create(&threads[i], NULL, lane, c) != 0)
			abort();
	for (int i = 0; i < nthreads; i++)
		pthread_join(threads[i], NULL);
	if (atomic_load(&c->failed))
		return 1;
	if (sink_finish(c->sink, &e) != 0)
		return fail(c, &e);
	printf(
	    "%" PRIuFAST64 " of %" PRIu64 "\n", c->bytes_read, c->source->size);
	return 0;
}

static uint32_t
number(int argc, char **argv, int i, uint32_t otherwise)
{
	return i < argc ? (uint32_t)strtoul(argv[i], NULL, 10) : otherwise;
}

int
main(int argc, char **argv)
{
	struct copy c = { 0 };
	struct sink_options o = { 0 };
	uint32_t nthreads;
	struct err e;
	int rc;

	if (argc < 4) {
		fprintf(stderr,
		    "usage: imgcopy SOURCE TARGET FORMAT "
		    "[CLUSTER [CHUNK [THREADS]]]\n");
		return 2;
	}
	if (source_open(argv[1], &c.source, &e) != 0) {
		fprintf(stderr, "imgcopy: %s\n", e.text);
		return 1;
	}
	if (strcmp(argv[3], "map") == 0) {
		rc = print_map(c.source);
		goto out;
	}
	if (strcmp(argv[3], "hold") == 0) {
		printf("open\n");
		fflush(stdout);
		rc = read(STDIN_FILENO, &o, 1) == -1;
		goto out;
	}
	o.path = argv[2];
	o.format = argv[3];
	o.size = c.source->size;
	o.cluster_size = number(argc, argv, 4, 0);
	o.force = true;
	c.chunk = number(argc, argv, 5, 64 << 10);
	nthreads = number(argc, argv, 6, 4);
	if (c.chunk == 0 || c.chunk % (64 << 10) != 0 || nthreads == 0 ||
	    nthreads > THREADS_MAX) {
		fprintf(stderr, "imgcopy: bad CHUNK or THREADS\n");
		return 2;
	}
	rc = sink_open(&o, &c.sink, &e);
	if (rc != 0) {
		fprintf(stderr, "imgcopy: %s\n", e.text);
		goto out;
	}
	rc = run(&c, (int)nthreads);
	sink_close(c.sink);
out:
	source_close(c.source);
	return rc != 0;
}
