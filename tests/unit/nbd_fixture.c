/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/nbd_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"

enum { START_MS = 20000, COMMAND_MAX = 4096, ARGS_MAX = 32 };

struct folder {
	char was[4096];
	char path[64];
};

int
nbd_folder_setup(void **state)
{
	struct folder *f = xcalloc(1, sizeof(*f));

	assert_non_null(getcwd(f->was, sizeof(f->was)));
	snprintf(f->path, sizeof(f->path), "/tmp/backstay-nbd-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	assert_int_equal(chdir(f->path), 0);
	*state = f;
	return 0;
}

int
nbd_folder_teardown(void **state)
{
	struct folder *f = *state;

	assert_int_equal(chdir(f->was), 0);
	run("rm -rf %s", f->path);
	free(f);
	return 0;
}

void
run(const char *fmt, ...)
{
	char command[COMMAND_MAX];
	va_list ap;
	int n, rc;

	va_start(ap, fmt);
	n = vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	assert_in_range(n, 0, sizeof(command) - 1);
	rc = system(command);
	if (rc != 0)
		fail_msg("%s: ended with %d", command, rc);
}

static bool
listens(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "sock" };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool yes;

	assert_int_not_equal(fd, -1);
	yes = connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
	close(fd);
	return yes;
}

pid_t
server_start(const char *fmt, ...)
{
	char command[COMMAND_MAX], *args[ARGS_MAX + 1], *save = NULL;
	uint64_t deadline = now_ms() + START_MS;
	va_list ap;
	pid_t pid;
	int n = 0;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	for (char *p = strtok_r(command, " ", &save); p != NULL && n < ARGS_MAX;
	     p = strtok_r(NULL, " ", &save))
		args[n++] = p;
	args[n] = NULL;
	pid = fork();
	if (pid == 0) {
		/* Must not outlive a test that failed. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (n > 0)
			execvp(args[0], args);
		_exit(127);
	}
	assert_int_not_equal(pid, -1);
	while (!listens()) {
		assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
		assert_true(now_ms() < deadline);
		poll(NULL, 0, 5);
	}
	return pid;
}

void
server_end(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	unlink("sock");
}

void
nbdinfo_map(struct extents *out, const char *context, const char *server)
{
	char command[COMMAND_MAX], line[256];
	FILE *p;

	snprintf(command, sizeof(command), "nbdinfo --map='%s' -- [ %s ]",
	    context, server);
	p = popen(command, "r");
	assert_non_null(p);
	out->n = 0;
	while (fgets(line, sizeof(line), p) != NULL) {
		unsigned n = out->n++;

		assert_in_range(n, 0, sizeof(out->at) / sizeof(out->at[0]) - 1);
		assert_int_equal(
		    sscanf(line, " %" SCNu64 " %" SCNu64 " %u", &out->at[n].off,
			&out->at[n].len, &out->at[n].flags),
		    3);
	}
	assert_int_equal(pclose(p), 0);
	assert_int_not_equal(out->n, 0);
}

bool
clean_at(struct source *s, uint64_t off)
{
	uint64_t len = 0;
	struct err e = { 0 };
	bool clean;

	if (source_clean(s, off, &len, &clean, &e) != 0)
		fail_msg("clean at %" PRIu64 ": %s", off, e.text);
	assert_in_range(len, 1, s->size - off);
	return clean;
}

void
write_random(const char *image, unsigned n, uint64_t size, unsigned *seed)
{
	struct buf b = { 0 };

	buf_printf(&b, "qemu-io -f qcow2");
	for (unsigned i = 0; i < n; i++) {
		uint64_t off = (uint64_t)rand_r(seed) * 512 % size;
		uint64_t len = ((uint64_t)rand_r(seed) % 300 + 1) * 512;

		if (i % 8 == 0)
			len *= 16;
		if (len > size - off)
			len = size - off;
		buf_printf(&b, " -c 'write -q -P %u %" PRIu64 " %" PRIu64 "'",
		    i % 255 + 1, off, len);
	}
	buf_printf(&b, " %s >io.out", image);
	assert_int_equal(system(buf_cstr(&b)), 0);
	buf_fini(&b);
}

unsigned
test_seed(void)
{
	const char *told = getenv("SEED");
	unsigned seed;

	random_bytes(&seed, sizeof(seed));
	if (told != NULL)
		seed = (unsigned)strtoul(told, NULL, 10);
	print_message("SEED=%u\n", seed);
	return seed;
}
