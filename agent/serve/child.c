/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/serve/child.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/io.h"
#include "proto/base/log.h"

extern char **environ;

enum { LINE_MAX_LEN = 900, ENV_MAX = 4096 };

/* What a child, or the guard that it left, says. */
struct voice {
	int fd; /* -1: closed */
	uint64_t job;
	size_t len;
	char line[LINE_MAX_LEN + 1];
	char error[TASK_TEXT_MAX]; /* the last line that was one */
};

struct child {
	pid_t pid;
	char token[TASK_TOKEN_LEN + 1];
	struct voice voice;
	bool stopping, killed;
	uint64_t kill_at; /* now_ms */
};

struct children {
	const char *program;
	unsigned kill_ms;
	unsigned n, nleft;
	struct child *child[CHILD_MAX];
	struct voice left[CHILD_LEFT_MAX];
};

struct children *
children_new(const char *program, unsigned kill_ms)
{
	struct children *c = xcalloc(1, sizeof(*c));

	c->program = program != NULL ? program : "/proc/self/exe";
	c->kill_ms = kill_ms;
	return c;
}

void
children_free(struct children *c)
{
	if (c == NULL)
		return;
	for (unsigned i = 0; i < c->nleft; i++)
		close(c->left[i].fd);
	free(c);
}

unsigned
children_count(const struct children *c)
{
	return c->n;
}

/* --- what they say */

static const char *
skip(const char *line, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(line, prefix, n) == 0 ? line + n : NULL;
}

/* One line: with the job's number, and what is no error is none here. */
static void
tell(struct voice *v)
{
	const char *said, *text = v->line;
	bool final = false, error = false;

	v->line[v->len] = 0;
	v->len = 0;
	if (*text == 0)
		return;
	if ((said = skip(text, "backstay-agent: ")) != NULL) {
		final = error = true;
		text = said;
	} else if ((said = skip(text, "error: ")) != NULL) {
		error = true;
		text = said;
	} else if ((said = skip(text, "info: ")) != NULL ||
	    (said = skip(text, "debug: ")) != NULL) {
		text = said;
	}
	/* The command's own last word counts, not a log line behind it. */
	if (final || (error && strncmp(v->error, "!", 1) != 0))
		snprintf(v->error, sizeof(v->error), "%s%.380s",
		    final ? "!" : "", text);
	if (error)
		log_error("job %" PRIu64 ": %s", v->job, text);
	else
		log_info("job %" PRIu64 ": %s", v->job, text);
}

/* All that is there.  False: the other end is closed. */
static bool
listen_to(struct voice *v)
{
	char part[1024];
	ssize_t n;

	while ((n = read(v->fd, part, sizeof(part))) > 0)
		for (ssize_t i = 0; i < n; i++) {
			if (part[i] != '\n')
				v->line[v->len++] = part[i];
			if (part[i] == '\n' || v->len == LINE_MAX_LEN)
				tell(v);
		}
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (v->len > 0)
		tell(v);
	return false;
}

static void
hang_up(struct voice *v)
{
	if (v->fd != -1)
		close(v->fd);
	v->fd = -1;
}

unsigned
children_fds(struct children *c, struct pollfd *out)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->n; i++)
		if (c->child[i]->voice.fd != -1)
			out[n++] = (struct pollfd){ .fd = c->child[i]->voice.fd,
				.events = POLLIN };
	for (unsigned i = 0; i < c->nleft; i++)
		out[n++] =
		    (struct pollfd){ .fd = c->left[i].fd, .events = POLLIN };
	return n;
}

void
children_read(struct children *c)
{
	for (unsigned i = 0; i < c->n; i++) {
		struct voice *v = &c->child[i]->voice;

		if (v->fd != -1 && !listen_to(v))
			hang_up(v);
	}
	for (unsigned i = c->nleft; i-- > 0;)
		if (!listen_to(&c->left[i])) {
			hang_up(&c->left[i]);
			c->left[i] = c->left[--c->nleft];
		}
}

/* --- starting */

/* Ours, with the task, and without what only a service itself is to have. */
static char **
make_environ(const char *token)
{
	static const char *const drop[] = { "BACKSTAY_AGENT_TASK=",
		"NOTIFY_SOCKET=", "WATCHDOG_USEC=", "WATCHDOG_PID=",
		"JOURNAL_STREAM=", "INVOCATION_ID=" };
	char **out = xcalloc(ENV_MAX + 2, sizeof(*out));
	unsigned n = 0;

	out[n++] = xasprintf("BACKSTAY_AGENT_TASK=%s", token);
	for (char **at = environ; *at != NULL && n <= ENV_MAX; at++) {
		bool keep = true;

		for (size_t i = 0; i < sizeof(drop) / sizeof(drop[0]); i++)
			keep = keep && skip(*at, drop[i]) == NULL;
		if (keep)
			out[n++] = *at;
	}
	return out;
}

/* In the child: only what is safe after a fork of many threads. */
static void
become(const char *program, int err, pid_t parent, char **words, char **env)
{
	int null = open("/dev/null", O_RDWR);
	sigset_t none;

	/* However we end, it is told to, and then cleans up. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent || null == -1 ||
	    dup2(null, STDIN_FILENO) == -1 || dup2(null, STDOUT_FILENO) == -1 ||
	    dup2(err, STDERR_FILENO) == -1)
		_exit(127);
	/* Not all libraries close theirs. */
	close_range(STDERR_FILENO + 1, ~0U, 0);
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(program, words, env);
	_exit(127);
}

static pid_t
run(const char *program, int err, char **words, char **env)
{
	pid_t parent = getpid(), pid;
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	pid = fork();
	if (pid == 0)
		become(program, err, parent, words, env);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return pid;
}

int
children_start(struct children *c, const struct task *t,
    const struct task_words *w, struct err *e)
{
	struct child *k;
	char **env;
	int pair[2];

	if (c->n == CHILD_MAX)
		return err_set(e, ERR_LIMIT, "%u jobs run here", c->n);
	if (pipe2(pair, O_CLOEXEC) == -1)
		return err_set(e, log_sys("pipe"), "cannot start a process");
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	k = xcalloc(1, sizeof(*k));
	memcpy(k->token, t->token, sizeof(k->token));
	k->voice.job = t->job;
	k->voice.fd = pair[0];
	env = make_environ(t->token);
	k->pid = run(c->program, pair[1], (char **)w->word, env);
	free(env[0]);
	free(env);
	close(pair[1]);
	if (k->pid == -1) {
		close(pair[0]);
		free(k);
		return err_set(e, log_sys("fork"), "cannot start a process");
	}
	c->child[c->n++] = k;
	return 0;
}

/* --- ending */

void
children_stop(struct children *c, const char *token)
{
	for (unsigned i = 0; i < c->n; i++) {
		struct child *k = c->child[i];

		if (k->stopping ||
		    (token != NULL && strcmp(k->token, token) != 0))
			continue;
		k->stopping = true;
		k->kill_at = now_ms() + c->kill_ms;
		kill(k->pid, SIGTERM);
	}
}

int
children_kill(struct children *c)
{
	uint64_t now = now_ms(), next = UINT64_MAX;

	for (unsigned i = 0; i < c->n; i++) {
		struct child *k = c->child[i];

		if (!k->stopping || k->killed)
			continue;
		if (now >= k->kill_at) {
			log_error("job %" PRIu64 ": its process %d does not "
				  "end, and is killed",
			    k->voice.job, (int)k->pid);
			k->killed = true;
			kill(k->pid, SIGKILL);
		} else if (k->kill_at < next) {
			next = k->kill_at;
		}
	}
	return next == UINT64_MAX ? -1 : (int)(next - now);
}

/* What it had to say at its end may be there yet, and its guard may go on. */
static void
leave_voice(struct children *c, struct voice *v)
{
	if (v->fd == -1 || !listen_to(v)) {
		hang_up(v);
		return;
	}
	if (c->nleft == CHILD_LEFT_MAX) {
		hang_up(&c->left[0]);
		memmove(&c->left[0], &c->left[1],
		    (CHILD_LEFT_MAX - 1) * sizeof(c->left[0]));
		c->nleft--;
	}
	c->left[c->nleft++] = *v;
}

static void
one_ended(struct children *c, struct child *k, int status, children_ended *fn,
    void *arg)
{
	bool ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	char why[TASK_TEXT_MAX] = "";
	const char *said;

	leave_voice(c, &k->voice);
	said = k->voice.error + (k->voice.error[0] == '!');
	if (ok)
		said = "";
	else if (k->killed)
		said = "it did not end when it was told to, and was killed";
	else if (WIFSIGNALED(status))
		snprintf(why, sizeof(why),
		    "its process was ended by signal %d (%s)", WTERMSIG(status),
		    strsignal(WTERMSIG(status)));
	else if (*said == 0)
		snprintf(why, sizeof(why), "its process ended with status %d",
		    WEXITSTATUS(status));
	if (why[0] != 0)
		said = why;
	if (ok)
		log_info("job %" PRIu64 ": done", k->voice.job);
	else
		log_error("job %" PRIu64 ": ended: %s", k->voice.job, said);
	fn(arg, k->token, ok, said);
}

void
children_reap(struct children *c, children_ended *fn, void *arg)
{
	for (unsigned i = c->n; i-- > 0;) {
		struct child *k = c->child[i];
		int status;

		if (waitpid(k->pid, &status, WNOHANG) != k->pid)
			continue;
		c->child[i] = c->child[--c->n];
		one_ended(c, k, status, fn, arg);
		free(k);
	}
}
