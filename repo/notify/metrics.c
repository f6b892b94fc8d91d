/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/notify/metrics.h"

#include <inttypes.h>

/* Before the first sample of each metric.  "counter" goes up only. */
static void
head(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_printf(out, "# HELP backstay_%s %s\n# TYPE backstay_%s %s\n", name,
	    help, name, type);
}

static void
gauge(struct buf *out, const char *name, uint64_t v, const char *help)
{
	head(out, name, "gauge", help);
	buf_printf(out, "backstay_%s %" PRIu64 "\n", name, v);
}

static void
counter(struct buf *out, const char *name, uint64_t v, const char *help)
{
	head(out, name, "counter", help);
	buf_printf(out, "backstay_%s %" PRIu64 "\n", name, v);
}

static void
print_repository(const struct metrics *m, struct buf *out)
{
	gauge(out, "backups", m->backups, "Backups that the repository has.");
	gauge(out, "vms", m->vms, "VMs with a backup.");
	gauge(out, "incomplete_backups", m->incomplete,
	    "Interrupted and running backups whose data is kept.");
	gauge(out, "logical_bytes", m->logical, "All volumes of all backups.");
	gauge(out, "unique_bytes", m->unique, "Distinct chunks, uncompressed.");
	gauge(
	    out, "live_bytes", m->live, "What backups need, as it is stored.");
	gauge(out, "stored_bytes", m->stored, "All that is in packs.");
	gauge(out, "dead_bytes", m->dead,
	    "Bytes in packs that nothing needs any more.");
	gauge(out, "packs", m->packs, "Files of data.");
	gauge(out, "index_bytes", m->index_bytes, "Size of the index.");
	gauge(out, "index_entries", m->index_entries,
	    "Entries of the index, about.");
	gauge(out, "volume_free_bytes", m->avail,
	    "Bytes free on the volume of the repository.");
	gauge(out, "volume_size_bytes", m->total,
	    "Size of the volume of the repository.");
}

static void
print_jobs(const struct metrics *m, struct buf *out)
{
	head(out, "jobs_running", "gauge", "Jobs that run now, by kind.");
	for (unsigned i = 0; i < m->njobs; i++)
		buf_printf(out,
		    "backstay_jobs_running{kind=\"%s\"} %" PRIu64 "\n",
		    m->jobs[i].kind, m->jobs[i].running);
	gauge(out, "jobs_queued", m->jobs_queued,
	    "Jobs that wait for an agent now.");
	head(out, "jobs_ended_total", "counter",
	    "Jobs that have ended since the start, by how.");
	for (unsigned i = 0; i < m->njobs; i++) {
		const struct metrics_jobs *j = &m->jobs[i];
		const struct {
			const char *outcome;
			uint64_t n;
		} ends[] = { { "done", j->done }, { "failed", j->failed },
			{ "cancelled", j->cancelled } };

		for (size_t k = 0; k < sizeof(ends) / sizeof(ends[0]); k++)
			buf_printf(out,
			    "backstay_jobs_ended_total{kind=\"%s\",outcome="
			    "\"%s\"} %" PRIu64 "\n",
			    j->kind, ends[k].outcome, ends[k].n);
	}
	counter(out, "received_bytes_total", m->bytes_in,
	    "Bytes that agents and the console sent.");
	counter(out, "sent_bytes_total", m->bytes_out,
	    "Bytes that were sent to agents and the console.");
	gauge(out, "lanes", m->lanes, "Connections that are open.");
	gauge(out, "agents", m->agents, "Agents that stay connected.");
	counter(out, "batches_total", m->batches,
	    "Batches that were made durable and published.");
}

static void
print_upkeep(const struct metrics *m, struct buf *out)
{
	counter(out, "reclaimed_bytes_total", m->freed,
	    "Bytes of packs that were removed.");
	counter(out, "rewritten_bytes_total", m->copied,
	    "Bytes that were copied so that packs could be removed.");
	gauge(out, "reclaim_stopped", m->reclaim_stopped,
	    "1 while reclaiming is paused or held.");
	gauge(out, "scrub_running", m->scrub_running,
	    "1 while all that is stored is read and checked.");
	gauge(out, "scrub_paused", m->scrub_paused, "1 while that is paused.");
	gauge(out, "scrub_finished_timestamp_seconds", m->scrub_finished,
	    "When the last scrub had read everything; 0: never.");
	gauge(out, "scrub_read_bytes", m->scrub_read,
	    "Bytes that this scrub, or the last one, has read.");
	gauge(out, "scrub_expected_bytes", m->scrub_total,
	    "Bytes that it had to read at its begin.");
	gauge(out, "scrub_bad_records", m->scrub_found,
	    "Records that it found bad.");
	gauge(out, "scrub_healed_records", m->scrub_healed,
	    "Records of these of which there was a good copy.");
	gauge(out, "damaged_records", m->damaged,
	    "Chunks and nodes that are known to be damaged now.");
}

static void
print_watch(const struct metrics *m, struct buf *out)
{
	counter(out, "audit_lines_total", m->audit_lines,
	    "Number of the last line of the audit log.");
	head(out, "clock_ahead_seconds", "gauge",
	    "How far the wall clock is ahead of the repository's time.");
	buf_printf(
	    out, "backstay_clock_ahead_seconds %" PRId64 "\n", m->clock_ahead);
	head(out, "events_total", "counter", "Events, by kind.");
	for (unsigned k = 0; k < EVENT_KINDS; k++)
		buf_printf(out,
		    "backstay_events_total{event=\"%s\"} %" PRIu64 "\n",
		    event_kind_name((enum event_kind)k), m->events.posted[k]);
	counter(out, "events_lost_total", m->events.lost,
	    "Events that the hook was not told of: too many waited.");
	counter(out, "hook_runs_total", m->hook_runs,
	    "Events for which the hook was run.");
	counter(out, "hook_failures_total", m->hook_failures,
	    "Runs of the hook that failed or were killed.");
	gauge(out, "healthy", m->healthy, "1 if /healthz says ok.");
}

/* Names are made of letters, digits and ".-_/" (name.h); no matter. */
static void
print_label(struct buf *out, const char *s)
{
	for (; *s != 0; s++) {
		if (*s == '\\' || *s == '"')
			buf_u8(out, '\\');
		if (*s == '\n')
			buf_printf(out, "\\n");
		else
			buf_u8(out, (uint8_t)*s);
	}
}

static uint64_t
vm_backups(const struct metrics_vm *v)
{
	return v->backups;
}

static uint64_t
vm_last(const struct metrics_vm *v)
{
	return v->last;
}

static uint64_t
vm_size(const struct metrics_vm *v)
{
	return v->size;
}

static void
print_vms(const struct metrics *m, struct buf *out)
{
	static const struct {
		const char *name, *help;
		uint64_t (*value)(const struct metrics_vm *v);
	} of[] = {
		{ "vm_backups", "Backups of that VM.", vm_backups },
		{ "vm_last_backup_timestamp_seconds",
		    "When the VM's last backup was made.", vm_last },
		{ "vm_last_backup_size_bytes",
		    "All volumes of the VM's last backup.", vm_size },
	};

	for (size_t i = 0; i < sizeof(of) / sizeof(of[0]); i++) {
		head(out, of[i].name, "gauge", of[i].help);
		for (size_t k = 0; k < m->nvm; k++) {
			buf_printf(out, "backstay_%s{vm=\"", of[i].name);
			print_label(out, m->vm[k].name);
			buf_printf(
			    out, "\"} %" PRIu64 "\n", of[i].value(&m->vm[k]));
		}
	}
	gauge(out, "vms_left_out", m->vms > m->nvm ? m->vms - m->nvm : 0,
	    "VMs whose last backup is not told here: there are too many.");
}

void
metrics_print(const struct metrics *m, struct buf *out)
{
	head(out, "build_info", "gauge", "Which release runs.");
	buf_printf(out, "backstay_build_info{version=\"");
	print_label(out, m->version);
	buf_printf(out, "\"} 1\n");
	gauge(out, "start_time_seconds", m->since,
	    "When the daemon was started.");
	print_repository(m, out);
	print_jobs(m, out);
	print_upkeep(m, out);
	print_watch(m, out);
	if (m->vm != NULL)
		print_vms(m, out);
}
