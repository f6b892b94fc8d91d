/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ramcheck save SOCKET METHOD SCRATCH OUT: save a guest's memory, put the
 * volumes as files into folder OUT; tells method, form, pause and sizes.
 * ramcheck view SOCKET METHOD SCRATCH OUT: the same together with the disks:
 * the first one's export can be read at SCRATCH until standard input ends.
 * ramcheck load SOCKET DIR: feed them to a QEMU that waits, and let it run.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/guest/guard.h"
#include "agent/ram/facts.h"
#include "agent/ram/ram.h"
#include "proto/base/bytes.h"
#include "proto/base/io.h"

enum { BLOCK = 1 << 20 };

static struct err err;

static int
fail(const char *what)
{
	fprintf(stderr, "ramcheck: %s: %s\n", what, err.text);
	return 1;
}

static uint64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* A volume as a sparse file; returns the bytes of its data. */
static int
put(const struct ram_input *in, const char *dir, uint64_t *data)
{
	uint8_t *buf = xmalloc(BLOCK);
	char path[4096];
	uint64_t off = 0, len;
	bool hole;
	int fd, rc = 0;

	*data = 0;
	snprintf(path, sizeof(path), "%s/%s", dir, in->name);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd == -1 || ftruncate(fd, (off_t)in->source->size) != 0)
		rc = err_set(&err, ERR_SYS, "%s: %m", path);
	while (rc == 0 && off < in->source->size) {
		rc = source_map(in->source, off, &len, &hole, &err);
		if (rc == 0 && hole) {
			off += len;
			continue;
		}
		if (len > BLOCK)
			len = BLOCK;
		if (rc == 0)
			rc = source_read(
			    in->source, buf, (size_t)len, off, &err);
		if (rc == 0 && pwrite_full(fd, buf, (size_t)len, off) != 0)
			rc = err_set(&err, ERR_SYS, "%s: %m", path);
		off += len;
		*data += len;
	}
	if (fd != -1)
		close(fd);
	free(buf);
	return rc;
}

static int
take(struct guest *g, struct ram *r, uint64_t *pause)
{
	uint64_t start = now_us();
	int rc, rc2;

	rc = guest_stop(g, &err);
	if (rc != 0)
		return rc;
	rc = ram_frozen(g, r, &err);
	if (rc == 0)
		rc = ram_frozen_after(g, r, &err);
	rc2 = guest_cont(g, rc == 0 ? &err : NULL);
	*pause = now_us() - start;
	return rc != 0 ? rc : rc2;
}

/* The same with the disks' point in time, as a backup does it. */
static int
take_view(struct guest *g, struct ram *r, const char *dir, uint64_t *pause)
{
	struct guest_view_options o = { .repo = "0badcafe",
		.tag = "0123456789abcdef",
		.quiesce = QUIESCE_NO,
		.scratch_dir = dir,
		.scratch_max = 1 << 30,
		.ndisks = 1,
		.frozen = ram_frozen,
		.frozen_after = ram_frozen_after,
		.frozen_arg = r };
	struct guest_view v;
	int rc;

	rc = guest_view_begin(g, &o, &v, &err);
	if (rc != 0)
		return rc;
	*pause = v.pause_us;
	printf(" socket %s export %s", v.disk[0].socket, v.disk[0].export);
	return 0;
}

static int
save(struct guest *g, char **v)
{
	bool view = strcmp(v[1], "view") == 0;
	int rc;
	struct ram_options o = { .scratch_dir = v[4],
		.scratch_max = UINT64_MAX };
	struct ram_input in[RAM_INPUTS_MAX];
	uint64_t pause = 0, data, start = now_us();
	unsigned n;
	struct ram *r;

	for (o.method = RAM_AUTO; o.method < RAM_STREAM; o.method++)
		if (strcmp(v[3], ram_method_name(o.method)) == 0)
			break;
	if (ram_plan(g, &o, &r, &err) != 0)
		return fail("plan");
	printf("method %s plan_us %llu", ram_method_name(ram_method(r)),
	    (unsigned long long)(now_us() - start));
	fflush(stdout);
	rc = view ? take_view(g, r, v[4], &pause) : take(g, r, &pause);
	if (rc != 0 || ram_finish(r, &err) != 0) {
		ram_close(r);
		return fail("save");
	}
	printf(" pause_us %llu total_us %llu", (unsigned long long)pause,
	    (unsigned long long)(now_us() - start));
	n = ram_inputs(r, in);
	ram_close(r);
	for (unsigned i = 0; i < n; i++) {
		if (put(&in[i], v[5], &data) != 0)
			return fail(in[i].name);
		printf(" %s %llu/%llu", in[i].name, (unsigned long long)data,
		    (unsigned long long)in[i].source->size);
		source_close(in[i].source);
	}
	printf("\n");
	fflush(stdout);
	if (view) {
		while (getchar() != EOF)
			;
		if (guest_view_end(g, false, &err) != 0)
			return fail("view end");
	}
	return 0;
}

static int
load(struct guest *g, char **v)
{
	struct ram_facts *f = xmalloc(sizeof(*f));
	struct buf b = { 0 };
	char path[4096];
	uint64_t start = now_us();
	int rc;

	snprintf(path, sizeof(path), "%s/ram-facts", v[3]);
	rc = file_read(AT_FDCWD, path, RAM_FACTS_LEN_MAX, &b);
	if (rc != 0)
		rc = err_set(&err, rc, "%s", path);
	if (rc == 0)
		rc = ram_facts_parse(b.data, b.len, f, &err);
	if (rc == 0)
		rc = ram_load(g, f, v[3], &err);
	if (rc == 0)
		rc = guest_monitor(g, "cont", NULL, -1, NULL, &err);
	free(f);
	buf_fini(&b);
	if (rc != 0)
		return fail("load");
	printf("loaded in_us %llu\n", (unsigned long long)(now_us() - start));
	return 0;
}

int
main(int argc, char **argv)
{
	struct guest *g;
	int rc;

	rc = guard_main(argc, argv);
	if (rc != -1)
		return rc;
	if (!(argc == 6 &&
		(strcmp(argv[1], "save") == 0 ||
		    strcmp(argv[1], "view") == 0)) &&
	    !(argc == 4 && strcmp(argv[1], "load") == 0)) {
		fprintf(stderr,
		    "usage: ramcheck save|view SOCKET METHOD SCRATCH OUT |\n"
		    "       ramcheck load SOCKET DIR\n");
		return 2;
	}
	rc = guest_open_qmp(argv[2], NULL, &g, &err);
	if (rc != 0)
		return fail("guest");
	rc = argc == 6 ? save(g, argv) : load(g, argv);
	guest_close(g);
	return rc;
}
