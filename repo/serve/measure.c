/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/measure.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

#include "proto/base/log.h"
#include "repo/audit/audit.h"
#include "repo/notify/http.h"
#include "repo/notify/metrics.h"
#include "repo/serve/address.h"

/* --- health */

static unsigned
check_volume(struct serve *srv, struct buf *out)
{
	uint64_t avail, total, reserve;
	struct statvfs st;
	char a[16], b[16];

	if (srv->audit != NULL && fstatvfs(*srv->audit, &st) == 0 &&
	    (st.f_flag & ST_RDONLY) != 0) {
		buf_printf(out, "volume: it is read-only\n");
		return 1;
	}
	if (store_space(srv->store, &avail, &total, &reserve) != 0) {
		buf_printf(out, "volume: its free space cannot be told\n");
		return 1;
	}
	if (avail >= reserve)
		return 0;
	buf_printf(out, "space: %s are free, and no backup takes the last %s\n",
	    size_print(avail, a), size_print(reserve, b));
	return 1;
}

static unsigned
check_store(struct serve *srv, struct buf *out)
{
	uint64_t n = store_ndamaged(srv->store), ms;
	unsigned found = 0;

	if (n > 0) {
		buf_printf(out,
		    "damage: %" PRIu64 " chunks and nodes are damaged\n", n);
		found++;
	}
	if (store_waiting_ms(srv->store, &ms) == 0 && ms > HEALTH_LEDGER_MS) {
		buf_printf(out,
		    "store: a change has waited for %" PRIu64
		    " s to become durable\n",
		    ms / 1000);
		found++;
	}
	return found;
}

static unsigned
check_scrub(struct serve *srv, struct buf *out)
{
	uint64_t now = (uint64_t)time(NULL);
	struct scrub_status st;

	scrubber_status(srv->scrubber, &st);
	if (st.running || st.interval_s == 0 || st.finished == 0 ||
	    now < st.finished ||
	    now - st.finished < HEALTH_SCRUBS * st.interval_s)
		return 0;
	buf_printf(out, "scrub: the last one has ended %" PRIu64 " days ago\n",
	    (now - st.finished) / 86400);
	return 1;
}

static unsigned
check_clock(struct serve *srv, struct buf *out)
{
	struct repotime *t = guard_time(srv->guard);

	if (!repotime_is_off(t))
		return 0;
	buf_printf(out,
	    "clock: it is off by %" PRId64
	    " days, and nothing is pruned until it is not\n",
	    repotime_off(t) / 86400);
	return 1;
}

unsigned
measure_health(struct serve *srv, struct buf *out)
{
	unsigned found = 0;

	if (atomic_load(&srv->stopping)) {
		buf_printf(out, "stopping\n");
		found++;
	}
	found += check_volume(srv, out);
	found += check_store(srv, out);
	found += check_scrub(srv, out);
	return found + check_clock(srv, out);
}

/* --- metrics */

static void
measure_store(struct serve *srv, struct metrics *m)
{
	struct catalog_totals t;
	struct store_status st;

	catalog_totals(srv->catalog, &t);
	m->backups = t.nbackups;
	m->vms = t.nvms;
	m->incomplete = t.nincomplete;
	m->logical = t.logical;
	/* What went wrong is in the log; zeroes tell it, too. */
	if (store_status(srv->store, &st) != 0)
		return;
	m->unique = st.unique_raw;
	m->live = st.live;
	m->stored = st.stored;
	m->packs = st.npacks;
	m->index_bytes = st.index_bytes;
	m->index_entries = st.entries;
	m->avail = st.avail;
	m->total = st.total;
	m->batches = st.batches;
}

static void
measure_jobs(struct serve *srv, struct metrics *m)
{
	unsigned waiting, running, agents;
	struct jobs_counts c;

	jobs_counts(srv->jobs, &c);
	for (unsigned k = 0; k < JOB_KINDS; k++)
		m->jobs[k] = (struct metrics_jobs){ .kind = job_kind_name(
							(enum job_kind)k),
			.running = c.n[k][JOB_RUNNING],
			.done = c.n[k][JOB_DONE],
			.failed = c.n[k][JOB_FAILED],
			.cancelled = c.n[k][JOB_CANCELLED] };
	m->njobs = JOB_KINDS;
	queue_counts(srv->queue, &waiting, &running, &agents);
	m->jobs_queued = waiting;
	m->agents = agents;
	m->bytes_in = atomic_load(&srv->bytes_in);
	m->bytes_out = atomic_load(&srv->bytes_out);
	m->lanes = atomic_load(&srv->nlanes);
}

static void
measure_upkeep(struct serve *srv, struct metrics *m)
{
	struct reclaim_status r;
	struct scrub_status s;

	reclaimer_status(srv->reclaimer, &r);
	m->dead = r.dead;
	m->freed = r.freed;
	m->copied = r.copied;
	m->reclaim_stopped = r.paused || r.held_s > 0;
	scrubber_status(srv->scrubber, &s);
	m->scrub_running = s.running;
	m->scrub_paused = s.paused;
	m->scrub_finished = s.finished;
	m->scrub_read = s.read;
	m->scrub_total = s.total;
	m->scrub_found = s.damaged;
	m->scrub_healed = s.healed;
	m->damaged = store_ndamaged(srv->store);
}

static void
measure_telling(struct serve *srv, struct metrics *m)
{
	struct hook_status *h = xmalloc(sizeof(*h));
	struct buf reasons = { 0 };

	if (srv->audit != NULL)
		audit_last(*srv->audit, &m->audit_lines, NULL);
	m->clock_ahead = repotime_off(guard_time(srv->guard));
	events_counts(srv->events, &m->events);
	hook_status(srv->hook, h);
	m->hook_runs = h->runs;
	m->hook_failures = h->failures;
	free(h->command);
	free(h);
	m->healthy = measure_health(srv, &reasons) == 0;
	buf_fini(&reasons);
}

/* The caller's, or NULL. */
static struct metrics_vm *
measure_vms(struct serve *srv, struct metrics *m)
{
	const struct settings *s = settings_get(srv->settings);
	bool wanted = s->metrics_vms;
	struct catalog_vm *from;
	struct metrics_vm *to;

	settings_put(srv->settings, s);
	if (!wanted)
		return NULL;
	from = xcalloc(METRICS_VMS_MAX, sizeof(*from));
	to = xcalloc(METRICS_VMS_MAX, sizeof(*to));
	m->nvm = catalog_vms(srv->catalog, from, METRICS_VMS_MAX);
	for (size_t i = 0; i < m->nvm; i++) {
		memcpy(to[i].name, from[i].name, sizeof(to[i].name));
		to[i].backups = from[i].nbackups;
		to[i].last = from[i].last;
		to[i].size = from[i].size;
	}
	free(from);
	m->vm = to;
	return to;
}

void
measure_metrics(struct serve *srv, struct buf *out)
{
	struct metrics m = { .version = BACKSTAY_VERSION, .since = srv->since };
	struct metrics_vm *vms;

	measure_store(srv, &m);
	measure_jobs(srv, &m);
	measure_upkeep(srv, &m);
	measure_telling(srv, &m);
	vms = measure_vms(srv, &m);
	metrics_print(&m, out);
	free(vms);
}

/* --- pages */

static int
make_metrics(void *srv, struct buf *out)
{
	measure_metrics(srv, out);
	return 200;
}

static int
make_health(void *srv, struct buf *out)
{
	if (measure_health(srv, out) > 0)
		return 503;
	buf_printf(out, "ok\n");
	return 200;
}

static const struct http_page pages[] = {
	{ "/metrics", METRICS_TYPE, make_metrics },
	{ "/healthz", "text/plain; charset=utf-8", make_health },
};

int
measure_start(
    struct serve *srv, const char *address, struct http **out, struct err *e)
{
	char place[64];
	uint16_t port;
	int fd, rc;

	*out = NULL;
	if (*address == 0)
		return 0;
	rc = address_listen(address, &fd, &port, e);
	if (rc != 0)
		return rc;
	address_print(fd, place);
	rc = http_start(fd, pages, sizeof(pages) / sizeof(pages[0]), srv, out);
	if (rc != 0)
		return err_set(e, rc, "http %s: could not start", address);
	log_info("http://%s/metrics and /healthz: whoever gets there may read "
		 "them",
	    place);
	return 0;
}

void
measure_stop(struct http *h)
{
	http_stop(h);
}
