/* SPDX-License-Identifier: Apache-2.0 */
/* progress: what a job has done so far, and showing it on stderr. */
#ifndef AGENT_PIPELINE_PROGRESS_H
#define AGENT_PIPELINE_PROGRESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/manifest.h"

/* Bytes.  Any lane adds, the main thread reads. */
struct counters {
	uint64_t total; /* of all volumes; set before start */
	atomic_uint_fast64_t done;
	atomic_uint_fast64_t read;
	atomic_uint_fast64_t holes;
	atomic_uint_fast64_t unchanged;
	atomic_uint_fast64_t deduplicated;
	atomic_uint_fast64_t sent; /* over the wire; for a restore: received */
	atomic_uint_fast64_t stored;
};

/** counters_add(c, n): ${n} bytes more of one of them.  Any thread. */
static inline void
counters_add(atomic_uint_fast64_t *c, uint64_t n)
{
	atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

/** counters_stats(c, duration_ms, out): what they say now. */
void counters_stats(
    struct counters *c, uint64_t duration_ms, struct manifest_stats *out);

enum { PROGRESS_LINE_MAX = 320 };
#define PROGRESS_NO_ETA UINT64_MAX

struct progress_view {
	const char *what; /* "web1" */
	uint64_t done;
	uint64_t total;
	uint64_t rate; /* bytes a second, now */
	uint64_t eta_s;
};

/**
 * progress_bar(v, width, out): one line of at most ${width} - 1 columns and
 * PROGRESS_LINE_MAX bytes with its NUL; what does not fit is left out: first
 * the bar, then the sizes, then the ETA.  Pure.
 */
char *progress_bar(const struct progress_view *v, unsigned width, char *out);

/** progress_text(v, out): the same for a log.  Pure. */
char *progress_text(const struct progress_view *v, char *out);

/** progress_time(s, out): "0:07", "12:34", "1:02:03", "3d 04h"; 16 bytes. */
char *progress_time(uint64_t s, char *out);

/** progress_percent(done, total): 100 only when all is done.  Pure. */
unsigned progress_percent(uint64_t done, uint64_t total);

/* The main thread's. */
struct progress {
	struct counters *c;
	const char *what;
	bool quiet;
	bool tty;
	bool drawn; /* there is a bar on the terminal's line */
	uint64_t started_ms;
	uint64_t shown_ms;
	uint64_t seen_ms; /* ${rate} is of the time up to here */
	uint64_t seen_done;
	double rate;
};

/** progress_init(p, what, quiet, c): ${what} and ${c} stay the caller's. */
void progress_init(
    struct progress *p, const char *what, bool quiet, struct counters *c);

enum { PROGRESS_TICK_MS = 200 };

/** progress_tick(p): call every PROGRESS_TICK_MS or more often. */
void progress_tick(struct progress *p);

/** progress_close(p): take the bar away. */
void progress_close(struct progress *p);

#endif
