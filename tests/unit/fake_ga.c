/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/fake_ga.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void
ga_answers(struct fake_ga *a, int fd, char *line)
{
	char answer[128] = "{\"return\": 1}\n";
	char *id = strstr(line, "\"id\":");

	pthread_mutex_lock(&a->mu);
	if (strstr(line, "guest-sync-delimited") != NULL) {
		snprintf(answer, sizeof(answer), "\xff{\"return\": %lu}\n",
		    strtoul(id + 5, NULL, 10));
	} else if (strstr(line, "fsfreeze-status") != NULL) {
		snprintf(answer, sizeof(answer), "{\"return\": \"%s\"}\n",
		    a->frozen ? "frozen" : "thawed");
	} else if (strstr(line, "fsfreeze-freeze") != NULL) {
		a->frozen = true;
		a->freezes++;
	} else if (strstr(line, "fsfreeze-thaw") != NULL) {
		a->frozen = false;
		a->thaws++;
	}
	pthread_mutex_unlock(&a->mu);
	send(fd, answer, strlen(answer), MSG_NOSIGNAL);
}

static void
ga_serves(struct fake_ga *a, int fd)
{
	struct pollfd p[2] = { { .fd = fd, .events = POLLIN },
		{ .fd = a->stop[0], .events = POLLIN } };
	char line[1024];
	size_t len = 0;

	while (poll(p, 2, -1) > 0 && p[1].revents == 0) {
		if (recv(fd, line + len, 1, 0) != 1)
			return;
		if (len < sizeof(line) - 2 && line[len] != '\n') {
			len++;
			continue;
		}
		line[len + 1] = 0;
		len = 0;
		ga_answers(a, fd, line);
	}
}

static void *
ga_body(void *arg)
{
	struct fake_ga *a = arg;
	struct pollfd p[2] = { { .fd = a->listener, .events = POLLIN },
		{ .fd = a->stop[0], .events = POLLIN } };
	int fd;

	while (poll(p, 2, -1) > 0 && p[1].revents == 0) {
		fd = accept(a->listener, NULL, NULL);
		ga_serves(a, fd);
		close(fd);
	}
	return NULL;
}

void
fake_ga_start(struct fake_ga *a, const char *dir)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	memset(a, 0, sizeof(*a));
	pthread_mutex_init(&a->mu, NULL);
	snprintf(a->path, sizeof(a->path), "%s/ga.sock", dir);
	unlink(a->path);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", a->path);
	a->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(
	    bind(a->listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(a->listener, 4), 0);
	assert_int_equal(pipe2(a->stop, O_CLOEXEC), 0);
	assert_int_equal(pthread_create(&a->thread, NULL, ga_body, a), 0);
}

void
fake_ga_end(struct fake_ga *a)
{
	close(a->stop[1]);
	pthread_join(a->thread, NULL);
	close(a->stop[0]);
	close(a->listener);
}

bool
fake_ga_frozen(struct fake_ga *a)
{
	bool frozen;

	pthread_mutex_lock(&a->mu);
	frozen = a->frozen;
	pthread_mutex_unlock(&a->mu);
	return frozen;
}
