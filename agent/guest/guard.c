/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/guest/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/guest/guest_impl.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

#define GUARD_ARG "--guard-of-a-guest"

enum {
	GUARD_READY_MS = 10000,
	/* A QEMU that hangs, or another user of its monitor: how long the
	 * guard goes on trying, and how often. */
	GUARD_TRY_MS = 15 * 60 * 1000,
	/* A lock that is held for longer than our last moments take has another
	 * holder, who reads its file. */
	GUARD_LOCK_MS = 30 * 1000,
	GUARD_PAUSE_MIN_MS = 50,
	GUARD_PAUSE_MAX_MS = 5000,
	GUARD_ARG_MAX = 8192
};

struct guard {
	int fd; /* the guard has the other end as its standard input */
	pid_t pid;
};

/* In the child: only what is safe after a fork of many threads. */
static void
become_guard(int fd, char *const argv[])
{
	int null;

	setsid(); /* signals to our group are not for it */
	if (dup2(fd, STDIN_FILENO) == -1)
		_exit(127);
	/* Who reads our output does not wait for the guard. */
	null = open("/dev/null", O_WRONLY);
	if (null != -1)
		dup2(null, STDOUT_FILENO);
	execv("/proc/self/exe", argv);
	_exit(127);
}

/* Its life is its own, so that nobody has to wait for it. */
static pid_t
start_child(int fd, char *const argv[])
{
	sigset_t all, old;
	pid_t pid;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	pid = fork();
	if (pid == 0) {
		for (int s = 1; s < NSIG; s++)
			signal(s, SIG_DFL);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		become_guard(fd, argv);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return pid;
}

static bool
wait_ready(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char c = 0;

	return poll(&p, 1, GUARD_READY_MS) == 1 && recv(fd, &c, 1, 0) == 1 &&
	    c == 'r';
}

int
guard_start(const json_t *how, struct guard **out, struct err *e)
{
	struct guard *g = xcalloc(1, sizeof(*g));
	struct buf text = { 0 };
	char name[] = "backstay-agent", arg[] = GUARD_ARG;
	char *argv[] = { name, arg, NULL, NULL };
	int pair[2], rc;

	json_print(how, &text);
	buf_cstr(&text);
	argv[2] = (char *)text.data;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == -1) {
		rc = err_set(e, log_sys("guard: socketpair"),
		    "cannot start the guard process");
		goto err_free;
	}
	g->fd = pair[0];
	g->pid = start_child(pair[1], argv);
	close(pair[1]);
	if (g->pid == -1) {
		rc = err_set(e, log_sys("guard: fork"),
		    "cannot start the guard process");
		goto err_close;
	}
	if (!wait_ready(g->fd)) {
		rc = err_set(e, ERR_TIMEOUT,
		    "the guard process, which would let the guest go on if "
		    "this one died, did not start");
		goto err_kill;
	}
	buf_fini(&text);
	*out = g;
	return 0;
err_kill:
	kill(g->pid, SIGKILL);
	waitpid(g->pid, NULL, 0);
err_close:
	close(g->fd);
err_free:
	buf_fini(&text);
	free(g);
	return rc;
}

bool
guard_alive(struct guard *g)
{
	struct pollfd p = { .fd = g->fd, .events = 0 };

	return poll(&p, 1, 0) == 0;
}

void
guard_stop(struct guard *g)
{
	if (g == NULL)
		return;
	send(g->fd, "q", 1, MSG_NOSIGNAL);
	close(g->fd);
	waitpid(g->pid, NULL, 0);
	free(g);
}

void
guard_leave(struct guard *g)
{
	if (g == NULL)
		return;
	close(g->fd);
	free(g);
}

/* Until the other end says that all is well, or ends. */
static bool
all_was_well(void)
{
	char c;
	ssize_t n;

	do
		n = read(STDIN_FILENO, &c, 1);
	while (n == -1 && errno == EINTR);
	return n == 1 && c == 'q';
}

/* Nobody answers there any more: its files are all that can be left. */
static int
release_files(const char *ident)
{
	struct mark *m;
	int rc;

	rc = mark_open(ident, &m, NULL);
	if (rc != 0)
		return rc == ERR_BUSY ? 0 : rc; /* its holder does it */
	mark_remove_files(m);
	mark_frozen(m, 0, false);
	mark_stopped(m, 0, false);
	mark_server(m, 0, false);
	mark_close(m);
	return 0;
}

/* 0: done, or somebody else does it; else: later perhaps. */
static int
release(const json_t *how, const char *ident, bool lock_is_ours, struct err *e)
{
	char what[ERR_TEXT_MAX];
	struct guest *g;
	int rc;

	rc = guest_reopen(how, &g, e);
	if (rc == ERR_NOENT || (rc == 0 && g->state == GUEST_OFF)) {
		if (rc == 0)
			guest_close(g);
		return release_files(ident);
	}
	if (rc != 0)
		return rc;
	rc = guest_lock(g, e);
	/* Which bitmaps are good only the next backup knows. */
	if (rc == 0) {
		rc = guest_release(g, NULL, NULL, what, sizeof(what), e);
		if (what[0] != 0)
			log_info("guard: the backup's process ended; released "
				 "%s",
			    what);
	} else if (rc == ERR_BUSY && !lock_is_ours)
		rc = 0;
	guest_close(g);
	return rc;
}

static int
guard(const char *text)
{
	uint64_t end, pause = GUARD_PAUSE_MIN_MS;
	const char *ident = "";
	struct err e = { 0 };
	json_t *how;
	int rc;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	if (strlen(text) > GUARD_ARG_MAX ||
	    json_parse(text, strlen(text), &how, NULL) != 0 ||
	    json_get_str(how, "ident", &ident, NULL) != 0)
		return 1;
	if (send(STDIN_FILENO, "r", 1, MSG_NOSIGNAL) != 1)
		return 1;
	if (all_was_well()) {
		json_decref(how);
		return 0;
	}
	end = now_ms() + GUARD_TRY_MS;
	while ((rc = release(how, ident,
		    now_ms() < end - GUARD_TRY_MS + GUARD_LOCK_MS, &e)) != 0 &&
	    now_ms() < end) {
		poll(NULL, 0, (int)pause);
		pause = pause * 2 < GUARD_PAUSE_MAX_MS ? pause * 2
						       : GUARD_PAUSE_MAX_MS;
	}
	if (rc != 0)
		log_error("guard: gave up: the guest may be paused or frozen, "
			  "and keep jobs named backstay-: %s",
		    e.text);
	json_decref(how);
	return rc == 0 ? 0 : 1;
}

int
guard_main(int argc, char **argv)
{
	if (argc != 3 || strcmp(argv[1], GUARD_ARG) != 0)
		return -1;
	return guard(argv[2]);
}
