/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plain QEMU, started so that it outlives us: a session of its own, its
 * output in a file.  Until it runs it is ours, and ends if anything fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/guest/guest.h"
#include "agent/guest/linesock.h"
#include "agent/live/live_restore_impl.h"
#include "agent/pipeline/interrupt.h"
#include "agent/ram/ram.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

enum { POLL_MS = 5, END_MS = 10000, LOG_TAIL = 200 };

struct qemu {
	pid_t pid; /* 0: none, or it is nobody's any more */
	char *log;
	off_t log_from; /* what it says begins there */
	bool log_is_new;
};

/* As execvp will look for it. */
static bool
is_there(const char *program)
{
	const char *path = getenv("PATH");
	bool found = false;

	if (strchr(program, '/') != NULL || path == NULL)
		return access(program, X_OK) == 0;
	while (*path != 0 && !found) {
		size_t n = strcspn(path, ":");
		char *whole = xasprintf("%.*s/%s", (int)n, path, program);

		found = access(whole, X_OK) == 0;
		free(whole);
		path += n + (path[n] != 0);
	}
	return found;
}

int
lr_qemu_check(struct lr *r, struct err *e)
{
	const char *program = json_string_value(json_array_get(r->args, 0));
	const char *slash = strrchr(program, '/');
	const char *name = slash == NULL ? program : slash + 1;
	struct linesock *s;
	int rc;

	/* Whoever writes backups shall not choose what this host runs. */
	if (r->o->program == NULL && strncmp(name, "qemu", 4) != 0 &&
	    strcmp(name, "kvm") != 0)
		return err_set(e, ERR_DENIED,
		    "the backup's machine was run by \"%.100s\", which has not "
		    "QEMU's name: --qemu says which program to run",
		    program);
	if (!is_there(program))
		return err_set(e, ERR_NOENT,
		    "%s cannot be started: there is no such program; --qemu "
		    "says which one to run instead",
		    program);
	rc = linesock_open(r->qmp, &s, NULL);
	if (rc == ERR_NOENT)
		return 0;
	if (rc == 0)
		linesock_close(s);
	return err_set(e, ERR_BUSY,
	    "a QEMU listens at %s: the machine runs; end it, or say --clone",
	    r->qmp);
}

static int
open_log(struct lr *r, struct qemu *q, int *out, struct err *e)
{
	struct stat st;
	int fd;

	q->log = xasprintf("%s/%s-qemu.log", r->home, r->name);
	q->log_is_new = lstat(q->log, &st) == -1;
	fd = open(q->log,
	    O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd == -1 || fstat(fd, &st) == -1) {
		if (fd != -1)
			close(fd);
		return err_set(e, ERR_DENIED, "QEMU's log %s: %m", q->log);
	}
	q->log_from = st.st_size;
	*out = fd;
	return 0;
}

/* In the child; never returns.  ${told} takes errno. */
static void
become(char *const *argv, int log, int told)
{
	sigset_t none;
	int null = open("/dev/null", O_RDONLY);
	ssize_t n;

	setsid();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (null != -1 && dup2(null, 0) != -1 && dup2(log, 1) != -1 &&
	    dup2(log, 2) != -1 && dup2(told, 3) != -1 &&
	    fcntl(3, F_SETFD, FD_CLOEXEC) != -1 && close_range(4, ~0U, 0) != -1)
		execvp(argv[0], argv);
	n = write(3, &errno, sizeof(errno));
	_exit(n == (ssize_t)sizeof(errno) ? 127 : 126);
}

static int
spawn(struct lr *r, struct qemu *q, int log, struct err *e)
{
	size_t n = json_array_size(r->args);
	char **argv = xcalloc(n + 1, sizeof(*argv));
	int p[2], failed = 0, rc = 0;

	for (size_t i = 0; i < n; i++)
		argv[i] =
		    xstrdup(json_string_value(json_array_get(r->args, i)));
	if (pipe2(p, O_CLOEXEC) == -1) {
		rc = err_set(e, log_sys("pipe"), "QEMU cannot be started: %m");
		goto done;
	}
	q->pid = fork();
	if (q->pid == 0)
		become(argv, log, p[1]);
	close(p[1]);
	if (q->pid == -1) {
		q->pid = 0;
		rc = err_set(e, log_sys("fork"), "QEMU cannot be started: %m");
	} else if (read(p[0], &failed, sizeof(failed)) > 0) {
		waitpid(q->pid, NULL, 0);
		q->pid = 0;
		rc = err_set(e, ERR_NOENT,
		    "%s cannot be started: %s; --qemu says which program to "
		    "run instead",
		    argv[0], strerror(failed));
	}
	close(p[0]);
done:
	for (size_t i = 0; i < n; i++)
		free(argv[i]);
	free(argv);
	return rc;
}

/* The end of what it said, in one line. */
static int
ended(const struct qemu *q, struct err *e)
{
	char text[LOG_TAIL + 1];
	struct stat st;
	ssize_t n = 0;
	off_t from;
	int fd = open(q->log, O_RDONLY | O_CLOEXEC);

	if (fd != -1 && fstat(fd, &st) == 0) {
		from = st.st_size - LOG_TAIL;
		if (from < q->log_from)
			from = q->log_from;
		n = pread_full(fd, text, LOG_TAIL, (uint64_t)from);
	}
	if (fd != -1)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	for (char *c = text; *c != 0; c++)
		if ((unsigned char)*c < ' ')
			*c = c[1] == 0 ? 0 : ' ';
	return err_set(e, ERR_CLOSED, "QEMU ended: %s",
	    text[0] != 0 ? text : "it did not say why");
}

static bool
is_gone(struct qemu *q)
{
	if (q->pid == 0 || waitpid(q->pid, NULL, WNOHANG) != q->pid)
		return q->pid == 0;
	q->pid = 0;
	return true;
}

static void
end(struct qemu *q)
{
	uint64_t until = now_ms() + END_MS;

	if (q->pid == 0)
		return;
	kill(q->pid, SIGTERM);
	while (!is_gone(q) && now_ms() < until)
		poll(NULL, 0, POLL_MS);
	if (q->pid != 0) {
		kill(q->pid, SIGKILL);
		waitpid(q->pid, NULL, 0);
		q->pid = 0;
	}
}

/* Until its monitor answers. */
static int
meet(struct lr *r, struct qemu *q, struct guest **g, struct err *e)
{
	uint64_t until = now_ms() + RESTORE_START_MS;
	int rc;

	for (;;) {
		rc = guest_open_qmp(r->qmp, NULL, g, e);
		if (rc == 0)
			return 0;
		if (is_gone(q))
			return ended(q, e);
		/* A QEMU that takes long to begin greets nobody yet. */
		if (rc != ERR_NOENT && rc != ERR_CLOSED && rc != ERR_BUSY &&
		    rc != ERR_TIMEOUT)
			return rc;
		if (interrupt_pending())
			return err_set(e, ERR_CLOSED, "interrupted");
		if (now_ms() > until)
			return err_set(e, ERR_TIMEOUT,
			    "QEMU does not make its monitor's socket %s",
			    r->qmp);
		poll(NULL, 0, POLL_MS);
	}
}

static int
run(struct lr *r, struct guest *g, struct err *e)
{
	const char *status = "";
	json_t *j;
	int rc = 0;

	if (r->ram)
		rc = ram_load(g, &r->facts, r->ram_tmp, e);
	if (rc == 0 && interrupt_pending())
		rc = err_set(e, ERR_CLOSED, "interrupted");
	if (rc == 0 && !r->o->paused)
		rc = guest_monitor(g, "cont", NULL, -1, NULL, e);
	if (rc == 0)
		rc = guest_monitor(g, "query-status", NULL, -1, &j, e);
	if (rc != 0)
		return rc;
	json_opt_str(j, "status", &status, NULL);
	if (!r->o->paused && strcmp(status, "running") != 0)
		rc = err_set(e, ERR_SYS,
		    "the machine does not go on: QEMU says \"%s\"", status);
	json_decref(j);
	return rc;
}

int
lr_qemu_start(struct lr *r, struct err *e)
{
	struct qemu q = { 0 };
	struct guest *g = NULL;
	struct err why = { 0 };
	int rc, log = -1;

	rc = lr_args_finish(r, e);
	if (rc == 0)
		rc = open_log(r, &q, &log, e);
	if (rc != 0) {
		free(q.log);
		return rc;
	}
	rc = spawn(r, &q, log, e);
	close(log);
	if (rc == 0)
		rc = meet(r, &q, &g, e);
	if (rc == 0)
		rc = run(r, g, e);
	guest_close(g);
	if (rc != 0 && q.pid != 0 && is_gone(&q)) {
		rc = ended(&q, &why);
		*e = why;
	}
	if (rc != 0) {
		end(&q);
		if (q.log_is_new)
			unlink(q.log);
	} else {
		r->out->pid = q.pid;
		r->out->qmp = xstrdup(r->qmp);
	}
	free(q.log);
	return rc;
}
