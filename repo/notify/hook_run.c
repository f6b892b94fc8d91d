/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/notify/hook_run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

enum { ARGS_MAX = 8 };

/* A program that runs. */
struct child {
	pid_t pid;
	int pidfd;
	int in;           /* its stdin's other end; -1: it has all */
	int err;          /* its stderr's; -1: closed */
	const char *rest; /* what of the input it has not got yet */
	size_t len;
	char tail[HOOK_LINE_MAX]; /* the last bytes of its stderr */
	size_t ntail;
};

/* ${text} is cut up. */
static unsigned
split(char *text, char *out[HOOK_WORDS_MAX + 1])
{
	unsigned n = 0;
	char *word;

	while ((word = strsep(&text, " \t")) != NULL) {
		if (*word == 0)
			continue;
		if (n == HOOK_WORDS_MAX)
			return n + 1;
		out[n++] = word;
	}
	return n;
}

static int
look_at(const char *path, struct err *e)
{
	struct stat st;

	if (path[0] != '/')
		return err_set(e, ERR_INVAL,
		    "%s: say the whole path of the hook program", path);
	if (stat(path, &st) == -1)
		return err_set(e, errno == EACCES ? ERR_DENIED : ERR_NOENT,
		    "%s: %s; it is to be the hook program", path,
		    strerror(errno));
	if (!S_ISREG(st.st_mode) || access(path, X_OK) == -1)
		return err_set(e, ERR_DENIED,
		    "%s: is no program that can be run here; `chmod +x` it, "
		    "or name another hook",
		    path);
	return 0;
}

/* The command's words, of which the first is a program. */
static int
take(char *text, char *out[HOOK_WORDS_MAX + 1], unsigned *n, struct err *e)
{
	*n = split(text, out);
	if (*n == 0 || *n > HOOK_WORDS_MAX)
		return err_set(e, ERR_INVAL,
		    "a hook is a path and at most %d words",
		    HOOK_WORDS_MAX - 1);
	return look_at(out[0], e);
}

int
hook_check(const char *command, struct err *e)
{
	char *words[HOOK_WORDS_MAX + 1] = { NULL }, *text = xstrdup(command);
	unsigned n;
	int rc = take(text, words, &n, e);

	free(text);
	return rc;
}

/* As after a login: the daemon blocks and ignores some signals. */
static int
spawn_attr(posix_spawnattr_t *attr)
{
	sigset_t all, none;
	int rc;

	sigfillset(&all);
	sigdelset(&all, SIGKILL);
	sigdelset(&all, SIGSTOP);
	sigemptyset(&none);
	rc = posix_spawnattr_init(attr);
	if (rc == 0)
		rc = posix_spawnattr_setflags(attr,
		    POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF |
			POSIX_SPAWN_SETSIGMASK);
	if (rc == 0)
		rc = posix_spawnattr_setpgroup(attr, 0);
	if (rc == 0)
		rc = posix_spawnattr_setsigdefault(attr, &all);
	return rc != 0 ? rc : posix_spawnattr_setsigmask(attr, &none);
}

static int
spawn_files(posix_spawn_file_actions_t *files, int in, int err)
{
	int rc = posix_spawn_file_actions_init(files);

	if (rc == 0)
		rc = posix_spawn_file_actions_adddup2(files, in, 0);
	if (rc == 0)
		rc = posix_spawn_file_actions_addopen(
		    files, 1, "/dev/null", O_WRONLY, 0);
	if (rc == 0)
		rc = posix_spawn_file_actions_adddup2(files, err, 2);
	if (rc == 0)
		rc = posix_spawn_file_actions_addclosefrom_np(files, 3);
	if (rc == 0)
		rc = posix_spawn_file_actions_addchdir_np(files, "/");
	return rc;
}

/* An errno. */
static int
spawn(
    char *const argv[], const struct hook_call *c, int in, int err, pid_t *pid)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	int rc;

	rc = spawn_attr(&attr);
	if (rc != 0)
		return rc;
	rc = spawn_files(&files, in, err);
	if (rc == 0) {
		/* Shares our memory until it execs: whatever that is. */
		rc = posix_spawn(pid, argv[0], &files, &attr, argv,
		    (char *const *)(uintptr_t)c->env);
		posix_spawn_file_actions_destroy(&files);
	}
	posix_spawnattr_destroy(&attr);
	return rc;
}

static void
close_end(int *fd)
{
	if (*fd != -1)
		close(*fd);
	*fd = -1;
}

/* With pipes whose other ends do not wait. */
static int
start(char *const argv[], const struct hook_call *c, struct child *k,
    struct err *e)
{
	int in[2], err[2], rc;

	if (pipe2(in, O_CLOEXEC) == -1)
		return log_sys("hook: pipe");
	if (pipe2(err, O_CLOEXEC) == -1) {
		rc = log_sys("hook: pipe");
		goto err_in;
	}
	if (fcntl(in[1], F_SETFL, O_NONBLOCK) == -1 ||
	    fcntl(err[0], F_SETFL, O_NONBLOCK) == -1) {
		rc = log_sys("hook: fcntl");
		goto err_err;
	}
	errno = spawn(argv, c, in[0], err[1], &k->pid);
	if (errno != 0) {
		rc = err_set(e, errno == ENOENT ? ERR_NOENT : ERR_SYS,
		    "%s: could not be started: %s", argv[0], strerror(errno));
		goto err_err;
	}
	close(in[0]);
	close(err[1]);
	k->in = in[1];
	k->err = err[0];
	k->pidfd = pidfd_open(k->pid, 0);
	if (k->pidfd == -1) {
		rc = log_sys("hook: pidfd");
		kill(-k->pid, SIGKILL);
		waitpid(k->pid, NULL, 0);
		close_end(&k->in);
		close_end(&k->err);
		return rc;
	}
	return 0;
err_err:
	close(err[0]);
	close(err[1]);
err_in:
	close(in[0]);
	close(in[1]);
	return rc;
}

static void
feed(struct child *k)
{
	ssize_t n = write(k->in, k->rest, k->len);

	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		k->rest += n;
		k->len -= (size_t)n;
	}
	/* All is there, or it does not want it. */
	if (n <= 0 || k->len == 0)
		close_end(&k->in);
}

static void
keep_tail(struct child *k, const char *data, size_t n)
{
	size_t room = sizeof(k->tail), drop;

	if (n > room) {
		data += n - room;
		n = room;
	}
	drop = k->ntail + n > room ? k->ntail + n - room : 0;
	memmove(k->tail, k->tail + drop, k->ntail - drop);
	k->ntail -= drop;
	memcpy(k->tail + k->ntail, data, n);
	k->ntail += n;
}

/* At most what a pipe holds, so that none that writes for ever keeps us. */
static void
hear(struct child *k)
{
	enum { ROUNDS = 16 };
	char some[4096];

	for (int i = 0; i < ROUNDS && k->err != -1; i++) {
		ssize_t n = read(k->err, some, sizeof(some));

		if (n == -1 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0)
			close_end(&k->err);
		else
			keep_tail(k, some, (size_t)n);
	}
}

static void
last_line(struct child *k, char out[HOOK_LINE_MAX + 1])
{
	const char *from;
	size_t n = k->ntail;

	while (n > 0 && (k->tail[n - 1] == '\n' || k->tail[n - 1] == '\r'))
		n--;
	from = memrchr(k->tail, '\n', n);
	from = from != NULL ? from + 1 : k->tail;
	n -= (size_t)(from - k->tail);
	for (size_t i = 0; i < n; i++)
		out[i] = (unsigned char)from[i] < ' ' ? '?' : from[i];
	out[n] = 0;
}

/* Until it has ended, or ${until_ms}, or ${wake}.  True: it has ended. */
static bool
tend(struct child *k, uint64_t until_ms, int wake)
{
	for (;;) {
		struct pollfd p[] = { { .fd = k->pidfd, .events = POLLIN },
			{ .fd = k->in, .events = POLLOUT },
			{ .fd = k->err, .events = POLLIN },
			{ .fd = wake, .events = POLLIN } };
		uint64_t now = now_ms();

		if (now >= until_ms)
			return false;
		if (poll(p, 4, (int)(until_ms - now)) == -1 && errno != EINTR) {
			log_sys("hook: poll");
			return false;
		}
		if (p[1].revents != 0)
			feed(k);
		if (p[2].revents != 0)
			hear(k);
		if (p[0].revents != 0)
			return true;
		if (p[3].revents != 0)
			return false;
	}
}

/* Its group's number is taken as long as it is not waited for. */
static int
put_down(struct child *k, bool late, struct err *e)
{
	int rc = err_set(e, ERR_TIMEOUT, "%s",
	    late ? "did not end in time and was killed"
		 : "was killed, since the daemon stops");

	log_debug("hook: process group %d is ended", (int)k->pid);
	kill(-k->pid, SIGTERM);
	tend(k, now_ms() + HOOK_GRACE_MS, -1);
	kill(-k->pid, SIGKILL);
	return rc;
}

static void
finish(struct child *k, struct hook_result *out)
{
	int status = 0;

	while (waitpid(k->pid, &status, 0) == -1 && errno == EINTR)
		;
	hear(k);
	last_line(k, out->line);
	out->status =
	    WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	close_end(&k->in);
	close_end(&k->err);
	close_end(&k->pidfd);
}

int
hook_run(const struct hook_call *c, struct hook_result *out, struct err *e)
{
	char *argv[HOOK_WORDS_MAX + ARGS_MAX + 1] = { NULL };
	struct child k = { .rest = c->input, .len = strlen(c->input) };
	char *text = xstrdup(c->command);
	uint64_t from = now_ms();
	unsigned n;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = take(text, argv, &n, e);
	for (unsigned i = 0; rc == 0 && c->args[i] != NULL; i++) {
		if (i == ARGS_MAX)
			abort(); /* our own mistake */
		argv[n + i] = (char *)(uintptr_t)c->args[i];
	}
	if (rc == 0)
		rc = start(argv, c, &k, e);
	if (rc == 0) {
		if (!tend(&k, from + c->timeout_ms, c->wake))
			rc = put_down(&k, now_ms() - from >= c->timeout_ms, e);
		finish(&k, out);
	}
	out->ms = (unsigned)(now_ms() - from);
	free(text);
	return rc;
}
