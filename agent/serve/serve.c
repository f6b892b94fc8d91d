/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/serve/serve.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "agent/serve/child.h"
#include "agent/serve/control.h"
#include "proto/base/io.h"
#include "proto/base/log.h"
#include "proto/base/notify.h"

enum {
	POLL_MS = 1000,
	/* Children that are to end have that long, and then are killed. */
	STOP_MS = CHILD_KILL_MS + 5000
};

struct serve {
	const struct serve_options *o;
	char *repo;
	struct repo_url url;
	int signals;
	struct conf_now *now;
	struct desk *desk;
	struct lookout *lookout;
	struct control *control;
	struct children *children;
	bool stopping;
	uint64_t stop_at; /* now_ms: by then it is over */
	char status[300];
};

const char *
serve_repo(const struct serve_options *o, const struct conf *c)
{
	const char *env = getenv("BACKSTAY_AGENT_REPO");

	if (o->repo != NULL)
		return o->repo;
	if (*conf_text(c, CONF_REPO) != 0)
		return conf_text(c, CONF_REPO);
	return env != NULL && *env != 0 ? env : NULL;
}

static void
set_level(struct serve *s)
{
	const struct conf *c = conf_get(s->now);

	log_set_level(conf_is(conf_text(c, CONF_VERBOSE)) ? LOG_LEVEL_DEBUG
							  : LOG_LEVEL_INFO);
	conf_put(s->now, c);
}

static void
log_lines(struct buf *b, void (*put)(const char *fmt, ...))
{
	char *all = xstrdup(buf_cstr(b)), *rest = all, *line;

	while ((line = strsep(&rest, "\n")) != NULL)
		if (*line != 0)
			put("%s", line);
	free(all);
}

static void
reload(struct serve *s)
{
	const struct conf *old = conf_get(s->now);
	struct buf wrong = { 0 }, changes = { 0 };
	struct conf *c;

	notify_reloading();
	if (conf_read(s->o->conf_path, s->o->conf_must, &c, &wrong) != 0) {
		log_lines(&wrong, log_error);
		log_error("%s: nothing of it counts before that is mended",
		    s->o->conf_path);
	} else {
		conf_compare(old, c, &changes);
		if (changes.len == 0)
			log_info("%s: nothing has changed", s->o->conf_path);
		log_lines(&changes, log_info);
		conf_set(s->now, c);
		set_level(s);
		lookout_again(s->lookout);
	}
	conf_put(s->now, old);
	buf_fini(&wrong);
	buf_fini(&changes);
	s->status[0] = 0;
	notify_ready("settings were read again");
}

static void
begin_stop(struct serve *s)
{
	if (s->stopping)
		return;
	log_info("stops; %u jobs are told to end", children_count(s->children));
	notify_stopping("stopping");
	s->stopping = true;
	s->stop_at = now_ms() + STOP_MS;
	desk_close(s->desk, "the agent on this host is stopping");
	children_stop(s->children, NULL);
	control_stop(s->control);
}

/* True: SIGCHLD was among them. */
static bool
take_signals(struct serve *s)
{
	struct signalfd_siginfo info;
	bool child = false;

	while (read(s->signals, &info, sizeof(info)) == sizeof(info)) {
		switch (info.ssi_signo) {
		case SIGCHLD: child = true; break;
		case SIGHUP: reload(s); break;
		default: begin_stop(s);
		}
	}
	return child;
}

static void
log_command(const struct task *t, const struct task_words *w)
{
	struct buf b = { 0 };

	for (unsigned i = 0; i < w->n; i++)
		buf_printf(&b, "%s%s", i > 0 ? " " : "", w->word[i]);
	log_debug("job %llu: %s", (unsigned long long)t->job, buf_cstr(&b));
	buf_fini(&b);
}

static void
start_task(struct serve *s, const struct conf *c, struct task *t)
{
	const struct inventory *v = lookout_get(s->lookout);
	static const struct inventory none;
	struct task_words w;
	struct err e = { 0 };
	int rc;

	rc = task_command(t, c, s->repo, v != NULL ? v : &none, &w, &e);
	if (rc == 0) {
		log_command(t, &w);
		rc = children_start(s->children, t, &w, &e);
	}
	if (rc != 0) {
		log_error("job %llu: %s", (unsigned long long)t->job, e.text);
		desk_end(s->desk, t->token, false, e.text);
	}
	task_words_fini(&w);
	lookout_put(s->lookout, v);
	task_fini(t);
}

static void
start_tasks(struct serve *s)
{
	const struct conf *c = conf_get(s->now);
	unsigned max = (unsigned)conf_number(c, CONF_JOBS);
	struct task t;

	while (!s->stopping && children_count(s->children) < max &&
	    desk_start(s->desk, &t))
		start_task(s, c, &t);
	conf_put(s->now, c);
}

static void
take_end(void *arg, const char *token, bool ok, const char *text)
{
	struct serve *s = arg;

	desk_end(s->desk, token, ok, text);
}

static void
tell_status(struct serve *s)
{
	char now[sizeof(s->status)], lane[220];

	control_status(s->control, lane, sizeof(lane));
	snprintf(
	    now, sizeof(now), "%s; %u jobs", lane, children_count(s->children));
	if (s->stopping || strcmp(now, s->status) == 0)
		return;
	memcpy(s->status, now, sizeof(now));
	notify_status("%s", now);
}

static int
poll_ms(struct serve *s)
{
	int kill = children_kill(s->children), ms = POLL_MS;
	unsigned dog = notify_watchdog_ms();

	if (kill != -1 && kill < ms)
		ms = kill;
	if (dog != 0 && (int)dog < ms)
		ms = (int)dog;
	return ms;
}

static void
loop(struct serve *s)
{
	struct pollfd p[CHILD_FDS_MAX + 2];
	char token[TASK_TOKEN_LEN + 1];
	unsigned n;

	while (!s->stopping || children_count(s->children) > 0) {
		if (s->stopping && now_ms() > s->stop_at) {
			log_error("%u jobs do not end; they are left",
			    children_count(s->children));
			break;
		}
		n = children_fds(s->children, p);
		p[n++] = (struct pollfd){ .fd = s->signals, .events = POLLIN };
		p[n++] =
		    (struct pollfd){ .fd = desk_fd(s->desk), .events = POLLIN };
		(void)poll(p, n, poll_ms(s));
		desk_seen(s->desk);
		take_signals(s);
		children_read(s->children);
		/* Signals of several children are one. */
		children_reap(s->children, take_end, s);
		while (desk_to_stop(s->desk, token))
			children_stop(s->children, token);
		start_tasks(s);
		tell_status(s);
		notify_alive();
	}
}

static int
open_signals(void)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	/* Before threads are there, so that all have it. */
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd == -1) {
		log_sys("signalfd");
		abort();
	}
	return fd;
}

static void
open_all(struct serve *s, struct conf *c)
{
	struct control_options o = {
		.url = &s->url, .id = s->o->id, .version = s->o->version
	};

	s->signals = open_signals();
	s->now = conf_now_new(c);
	s->desk = desk_new();
	s->children = children_new(NULL, CHILD_KILL_MS);
	s->lookout = lookout_new(s->now);
	o.now = s->now;
	o.lookout = s->lookout;
	o.desk = s->desk;
	s->control = control_new(&o);
}

/* What a thread that is held up still uses is left to the process's end, which
 * is near. */
static void
close_all(struct serve *s)
{
	bool all = control_free(s->control);

	all = lookout_free(s->lookout) && all;
	children_free(s->children);
	close(s->signals);
	if (!all)
		return;
	desk_free(s->desk);
	conf_now_free(s->now);
	free(s->repo);
	free(s);
}

int
serve_run(const struct serve_options *o, struct conf *c, struct err *e)
{
	struct serve *s = xcalloc(1, sizeof(*s));
	const char *repo = serve_repo(o, c);
	int rc;

	if (repo == NULL) {
		rc = err_set(e, ERR_INVAL,
		    "no repository: say repo = ssh://NAS in [agent] of %s",
		    o->conf_path);
		goto err_free;
	}
	rc = repo_url_parse(repo, &s->url, e);
	if (rc != 0)
		goto err_free;
	s->o = o;
	s->repo = xstrdup(repo);
	open_all(s, c);
	set_level(s);
	log_info("backstay-agent %s serves %s", o->version, s->repo);
	notify_ready("connecting");
	loop(s);
	close_all(s);
	log_info("stopped");
	return 0;
err_free:
	conf_free(c);
	free(s);
	return rc;
}
