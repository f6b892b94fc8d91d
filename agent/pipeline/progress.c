/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pipeline/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "proto/base/io.h"
#include "proto/base/log.h"
#include "proto/name.h"

enum {
	LINE_EVERY_MS = 10000, /* where there is no terminal */
	RATE_OVER_MS = 3000,   /* the rate shown is about of so long */
	BAR_MIN = 8,
	BAR_MAX = 40,
	WIDTH_DEFAULT = 80,
	SIZE_TEXT = 16
};

void
counters_stats(
    struct counters *c, uint64_t duration_ms, struct manifest_stats *out)
{
	out->read = atomic_load(&c->read);
	out->holes = atomic_load(&c->holes);
	out->unchanged = atomic_load(&c->unchanged);
	out->deduplicated = atomic_load(&c->deduplicated);
	out->sent = atomic_load(&c->sent);
	out->stored = atomic_load(&c->stored);
	out->duration_ms = duration_ms;
}

char *
progress_time(uint64_t s, char *out)
{
	unsigned long long m = s / 60, h = m / 60, d = h / 24;

	if (d > 9999)
		snprintf(out, SIZE_TEXT, "never");
	else if (d > 0)
		snprintf(out, SIZE_TEXT, "%llud %02lluh", d, h % 24);
	else if (h > 0)
		snprintf(out, SIZE_TEXT, "%llu:%02llu:%02u", h, m % 60,
		    (unsigned)(s % 60));
	else
		snprintf(out, SIZE_TEXT, "%llu:%02u", m, (unsigned)(s % 60));
	return out;
}

unsigned
progress_percent(uint64_t done, uint64_t total)
{
	if (done >= total)
		return 100;
	return (unsigned)((double)done / (double)total * 100.0);
}

/* The parts of a line, and how many columns they take together. */
struct parts {
	char head[2 * NAME_PART_MAX + 16]; /* "web1  42%" */
	char sizes[2 * SIZE_TEXT + 4];
	char rate[SIZE_TEXT + 4];
	char eta[SIZE_TEXT + 8];
};

static void
make_parts(const struct progress_view *v, struct parts *p)
{
	char a[SIZE_TEXT], b[SIZE_TEXT];

	snprintf(p->head, sizeof(p->head), "%.*s %3u%%", 2 * NAME_PART_MAX + 1,
	    v->what, progress_percent(v->done, v->total));
	snprintf(p->sizes, sizeof(p->sizes), "%s/%s", size_print(v->done, a),
	    size_print(v->total, b));
	snprintf(p->rate, sizeof(p->rate), "%s/s", size_print(v->rate, a));
	if (v->eta_s == PROGRESS_NO_ETA)
		snprintf(p->eta, sizeof(p->eta), "ETA -");
	else
		snprintf(p->eta, sizeof(p->eta), "ETA %s",
		    progress_time(v->eta_s, a));
}

char *
progress_bar(const struct progress_view *v, unsigned width, char *out)
{
	char bar[BAR_MAX + 1];
	struct parts p;
	size_t room, len, full;

	make_parts(v, &p);
	/* The last column stays free: some terminals wrap when it is used. */
	room = width > 1 ? width - 1 : 0;
	if (room > PROGRESS_LINE_MAX - 1)
		room = PROGRESS_LINE_MAX - 1;
	len = strlen(p.head) + strlen(p.sizes) + strlen(p.rate) +
	    strlen(p.eta) + 6;
	if (len + BAR_MIN + 3 <= room) {
		size_t n = room - len - 3;

		if (n > BAR_MAX)
			n = BAR_MAX;
		full = v->total == 0 || v->done >= v->total
		    ? n
		    : (size_t)((double)v->done / (double)v->total * (double)n);
		memset(bar, ' ', n);
		memset(bar, '=', full);
		if (full < n)
			bar[full] = '>';
		bar[n] = 0;
		snprintf(out, PROGRESS_LINE_MAX, "%s [%s] %s  %s  %s", p.head,
		    bar, p.sizes, p.rate, p.eta);
	} else if (len <= room) {
		snprintf(out, PROGRESS_LINE_MAX, "%s  %s  %s  %s", p.head,
		    p.sizes, p.rate, p.eta);
	} else if (len - strlen(p.sizes) <= room) {
		snprintf(out, PROGRESS_LINE_MAX, "%s  %s  %s", p.head, p.rate,
		    p.eta);
	} else {
		snprintf(out, PROGRESS_LINE_MAX, "%s  %s", p.head, p.rate);
	}
	/* A terminal narrower than that sees the front of it. */
	if (strlen(out) > room)
		out[room] = 0;
	return out;
}

char *
progress_text(const struct progress_view *v, char *out)
{
	struct parts p;

	make_parts(v, &p);
	snprintf(out, PROGRESS_LINE_MAX, "%s, %s, %s, %s", p.head, p.sizes,
	    p.rate, p.eta);
	return out;
}

void
progress_init(
    struct progress *p, const char *what, bool quiet, struct counters *c)
{
	memset(p, 0, sizeof(*p));
	p->c = c;
	p->what = what;
	p->quiet = quiet;
	p->tty = isatty(STDERR_FILENO) == 1;
	p->started_ms = now_ms();
	p->shown_ms = p->started_ms;
	p->seen_ms = p->started_ms;
}

/* Smoothed, so that the figure can be read, yet follows what happens. */
static void
update_rate(struct progress *p, uint64_t now, uint64_t done)
{
	uint64_t ms = now - p->seen_ms;
	double latest, weight;

	if (ms < PROGRESS_TICK_MS / 2)
		return;
	latest = (double)(done - p->seen_done) * 1000.0 / (double)ms;
	weight = (double)ms / RATE_OVER_MS;
	if (weight > 1 || p->seen_ms == p->started_ms)
		weight = 1;
	p->rate += weight * (latest - p->rate);
	p->seen_ms = now;
	p->seen_done = done;
}

static void
put(const char *s)
{
	if (write(STDERR_FILENO, s, strlen(s)) == -1)
		return; /* nowhere left to say it */
}

void
progress_tick(struct progress *p)
{
	uint64_t now = now_ms(), done = atomic_load(&p->c->done);
	struct progress_view v = { .what = p->what,
		.done = done,
		.total = p->c->total,
		.eta_s = PROGRESS_NO_ETA };
	char text[PROGRESS_LINE_MAX], line[PROGRESS_LINE_MAX + 8];
	struct winsize ws = { 0 };
	unsigned width = WIDTH_DEFAULT;

	if (p->quiet)
		return;
	update_rate(p, now, done);
	if (now - p->shown_ms < (p->tty ? PROGRESS_TICK_MS : LINE_EVERY_MS))
		return;
	p->shown_ms = now;
	v.rate = (uint64_t)p->rate;
	if (v.rate > 0 && done <= v.total)
		v.eta_s = (v.total - done) / v.rate;
	if (!p->tty) {
		log_info("%s", progress_text(&v, text));
		return;
	}
	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col > 0)
		width = ws.ws_col;
	snprintf(
	    line, sizeof(line), "\r%s\033[K", progress_bar(&v, width, text));
	put(line);
	p->drawn = true;
}

void
progress_close(struct progress *p)
{
	if (p->drawn)
		put("\r\033[K");
	p->drawn = false;
}
