/* SPDX-License-Identifier: Apache-2.0 */
/* backstayd: the daemon of one repository, in the foreground. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/io.h"
#include "proto/base/log.h"
#include "proto/base/notify.h"
#include "proto/base/owner.h"
#include "proto/lane_ssh.h"
#include "repo/serve/agents.h"
#include "repo/serve/audited.h"
#include "repo/serve/listener.h"
#include "repo/serve/measure.h"
#include "repo/serve/pulse.h"
#include "repo/serve/retain.h"
#include "repo/serve/scheduler.h"
#include "repo/serve/tender.h"
#include "repo/serve/tune.h"
#include "repo/serve/verify.h"
#include "repo/serve/watch.h"
#include "repo/settings/settings_options.h"
#include "repo/store/record.h"

enum {
	STOP_MS = 9000, /* of the ten seconds that a stop may take */
	HOOK_STOP_MS = 1000,
	PARTIAL_MS = 4000, /* for what interrupted backups have stored */
	/* A disk may be slow, but not for ever. */
	PATIENT_START_MS = 3600000,
	PATIENT_STOP_MS = 300000,
	BLOCK_CACHE_MIN = 32 << 20,
	BLOCK_CACHE_MAX = 1 << 30, /* of its own accord: 400 million chunks */
	BLOCK_CACHE_SHARE = 16     /* of the machine's memory */
};

static const char usage_text[] =
    "usage: backstayd REPO [--listen ADDR:PORT]... [--no-ssh] [--index DIR]\n"
    "                 [--block-cache SIZE] [--pack-limit SIZE]\n"
    "                 [--live-percent N] [--checkpoint S]\n"
    "                 [--keep-incomplete HOURS] [--scrub-interval DAYS]\n"
    "                 [--bwlimit RATE] [--jobs N] [--verbose] [--hook "
    "COMMAND]\n"
    "                 [--hook-timeout TIME] [--low-space PERCENT]\n"
    "                 [--http ADDR:PORT] [--metrics-vms]\n"
    "       backstayd -t REPO\n"
    "       backstayd --help | --version\n"
    "\n"
    "Serves the repository in the folder REPO, which `backstay init` made, in\n"
    "the foreground, until SIGTERM or SIGINT.  Logs to stderr.  SIGHUP reads\n"
    "REPO/backstayd.conf and REPO/authorized_agents again.\n"
    "\n"
    "The options are keys of REPO/backstayd.conf, too, and win over it.\n"
    "\n"
    "  --listen ADDR:PORT  where agents connect; may be given several times;\n"
    "                      [ADDR]:PORT for IPv6; PORT for every address.\n"
    "                      Port 0 takes a free one (see REPO/port).\n"
    "                      Default: every address, port 7722.\n"
    "  --no-ssh            serve the local socket REPO/socket only\n"
    "  --index DIR         where the index is (default REPO/index)\n"
    "  --block-cache SIZE  memory for the index (a sixteenth of the "
    "machine's,\n"
    "                      32M to 1G); 3 bytes a chunk keep it fast\n"
    "  --pack-limit SIZE   bytes that a pack of data is filled up to (512M, "
    "or\n"
    "                      5 % of the volume)\n"
    "  --live-percent N    packs of which less than that lives are rewritten\n"
    "                      (50): more saves space and costs writing\n"
    "  --checkpoint S      seconds after which a backup that is interrupted\n"
    "                      does not begin anew (60)\n"
    "  --keep-incomplete HOURS   how long an interrupted backup may be taken\n"
    "                      up again without sending what is stored (24)\n"
    "  --scrub-interval DAYS     all that is stored is read and checked so\n"
    "                      often (30); 0: only when told to\n"
    "  --clock-jump DAYS   a clock that is further ahead at a start is not\n"
    "                      believed (30)\n"
    "  --nfs-timeout S     how long jobs wait for a server of packs that does\n"
    "                      not answer, before they fail (300)\n"
    "  --bwlimit RATE      bytes a second of all agents together; 0: no "
    "limit\n"
    "  --jobs N            so many jobs of connected agents run at a time "
    "(16)\n"
    "  --verbose           log every lane and chunk\n"
    "  --hook COMMAND      a program to run when a job ends or fails, ...\n"
    "  --hook-timeout TIME it is killed after that (60s)\n"
    "  --low-space PERCENT tell it when less than that is free (10)\n"
    "  --http ADDR:PORT    where /metrics and /healthz are\n"
    "  --metrics-vms       with each VM's last backup (the default)\n"
    "  -t                  check the settings and the keys: \"ok\", or all\n"
    "                      that is wrong with them\n";

/* All that is opened, in this order. */
struct daemon {
	struct serve srv;
	int dirfd;
	int keysfd;
	char *host_key;
	char *fingerprint;
	struct tender *tender;
	struct watch *watch;
	struct http *http;
	struct listener *listener;
	struct pulse *pulse;
};

static void
misuse(const struct err *e)
{
	fprintf(stderr, "backstayd: %s\n%s", e->text, usage_text);
	exit(2);
}

/* Filled only as far as the index is large. */
static uint64_t
default_block_cache(void)
{
	uint64_t n = (uint64_t)sysconf(_SC_PHYS_PAGES) *
	    (uint64_t)sysconf(_SC_PAGESIZE) / BLOCK_CACHE_SHARE;

	if (n < BLOCK_CACHE_MIN)
		n = BLOCK_CACHE_MIN;
	return n < BLOCK_CACHE_MAX ? n : BLOCK_CACHE_MAX;
}

static uint64_t
block_cache(const struct settings *s)
{
	return s->block_cache != 0 ? s->block_cache : default_block_cache();
}

static void
see_backup(void *arg, const struct manifest *m)
{
	catalog_add(arg, m);
}

/* The public half, which is shown to people so that they can compare. */
static int
read_host_key(struct daemon *d, struct err *e)
{
	char *type = NULL, *base64 = NULL, *comment = NULL;
	struct buf text = { 0 };
	int rc;

	if (faccessat(d->keysfd, "host_ed25519", R_OK, 0) == -1)
		return err_set(e, ERR_NOENT,
		    "%s: cannot be read: %s; agents know this repository by "
		    "it: bring it back from a copy",
		    d->host_key, strerror(errno));
	rc = file_read(d->keysfd, "host_ed25519.pub", 4096, &text);
	if (rc == 0) {
		buf_cstr(&text);
		text.data[strcspn((char *)text.data, "\r\n")] = 0;
		rc = lane_ssh_pubkey((const char *)text.data, &type, &base64,
		    &d->fingerprint, &comment, e);
	}
	buf_fini(&text);
	free(type);
	free(base64);
	free(comment);
	if (rc != 0) {
		/* Shown only: the private half is what counts. */
		log_info("%s.pub: cannot be read", d->host_key);
		d->fingerprint = xstrdup("unknown");
	}
	return 0;
}

/* There are secrets and guests' data below: nobody else's business. */
static int
tighten(int fd, const char *dir, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && (st.st_mode & 077) == 0)
		return 0;
	if (fchmod(fd, 0700) == -1) {
		err_set(e, ERR_SYS,
		    "%s: others may look into it, and its mode cannot be "
		    "changed: %s",
		    dir, strerror(errno));
		return log_sys("%s: chmod", dir);
	}
	log_info("%s: others could look into it; its mode is 0700 now", dir);
	return 0;
}

static int
open_folders(struct daemon *d, const char *dir, struct err *e)
{
	d->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->dirfd == -1)
		return err_set(e, errno == ENOENT ? ERR_NOENT : ERR_SYS,
		    "%s: %s; `backstay init %s` makes a repository", dir,
		    strerror(errno), dir);
	d->keysfd =
	    openat(d->dirfd, "keys", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->keysfd == -1)
		return err_set(e, ERR_NOENT,
		    "%s/keys: %s; `backstay init` makes a repository with its "
		    "keys",
		    dir, strerror(errno));
	return tighten(d->dirfd, dir, e);
}

static int
scrub_key(void *arg, uint32_t domain, uint8_t key[HASH_KEY_LEN], bool *keyed)
{
	struct domain d;
	int rc = domains_get(arg, domain, &d, NULL);

	*keyed = rc == 0 && d.keyed;
	if (*keyed)
		memcpy(key, d.key, HASH_KEY_LEN);
	explicit_bzero(&d, sizeof(d));
	return rc;
}

static int
daemon_open(
    struct daemon *d, const char *dir, const struct settings *s, struct err *e)
{
	struct store_options so = { .index = s->index,
		.block_cache = block_cache(s),
		.data_limit = s->pack_limit,
		.nfs_timeout_ms = (unsigned)s->nfs_timeout * 1000,
		.checkpoint_ms = (unsigned)s->checkpoint * 1000 };
	struct reclaim_options ro = { .live_percent =
					  (unsigned)s->live_percent };
	struct store_format f;
	int rc;

	rc = store_format_read(dir, &f, e);
	if (rc == 0)
		rc = open_folders(d, dir, e);
	if (rc != 0)
		return rc;
	d->host_key = xasprintf("%s/keys/host_ed25519", dir);
	rc = read_host_key(d, e);
	if (rc == 0)
		rc = keyring_open(d->dirfd, &d->srv.keyring, e);
	if (rc == 0)
		rc = domains_open(
		    d->keysfd, f.dedup_namespace, &d->srv.domains, e);
	if (rc != 0)
		return rc;
	d->srv.audit = &d->dirfd;
	d->srv.catalog = catalog_new();
	d->srv.locks = locks_new();
	d->srv.jobs = jobs_new(serve_let_go, &d->srv);
	d->srv.numbers = numbers_open(d->dirfd);
	jobs_number(d->srv.jobs, d->srv.numbers);
	d->srv.pace = pace_new();
	jobs_pace(d->srv.jobs, d->srv.pace);
	d->srv.queue = agents_queue(&d->srv, (unsigned)s->jobs);
	d->srv.events = events_new(dir);
	jobs_tell(d->srv.jobs, d->srv.events);
	rc = hook_start(d->srv.events, dir, &d->srv.hook);
	if (rc != 0)
		return err_set(
		    e, rc, "%s: the hook's thread could not start", dir);
	d->srv.since = (uint64_t)time(NULL);
	d->srv.keep_incomplete = s->keep_incomplete;
	rc = store_open(dir, &so, see_backup, d->srv.catalog, &d->srv.store, e);
	if (rc != 0)
		return rc;
	d->srv.guard = retain_open(&d->srv, d->dirfd, s->clock_jump);
	rc = reclaimer_start(d->srv.store, &ro, &d->srv.reclaimer);
	if (rc != 0)
		return err_set(e, rc, "%s: the reclaimer could not start", dir);
	rc = scrubber_start(d->srv.store,
	    &(struct scrub_options){ .interval_s = s->scrub_interval,
		.key = scrub_key,
		.arg = d->srv.domains },
	    &d->srv.scrubber);
	if (rc != 0)
		return err_set(e, rc, "%s: scrub could not start", dir);
	d->srv.verifiers = verifiers_new();
	rc = tender_start(&d->srv, &d->tender);
	if (rc != 0)
		err_set(e, rc, "%s: a thread could not start", dir);
	return rc;
}

static void
daemon_close(struct daemon *d)
{
	measure_stop(d->http);
	watch_stop(d->watch);
	scheduler_stop(d->srv.scheduler);
	tender_stop(d->tender);
	verifiers_free(d->srv.verifiers);
	scrubber_stop(d->srv.scrubber);
	reclaimer_stop(d->srv.reclaimer);
	store_close(d->srv.store);
	hook_stop(d->srv.hook, HOOK_STOP_MS);
	queue_free(d->srv.queue);
	scheduler_free(d->srv.scheduler);
	jobs_free(d->srv.jobs);
	numbers_close(d->srv.numbers);
	events_free(d->srv.events);
	pace_free(d->srv.pace);
	locks_free(d->srv.locks);
	guard_close(d->srv.guard);
	catalog_free(d->srv.catalog);
	domains_close(d->srv.domains);
	keyring_close(d->srv.keyring);
	free(d->fingerprint);
	free(d->host_key);
	if (d->keysfd != -1)
		close(d->keysfd);
	if (d->dirfd != -1)
		close(d->dirfd);
}

/* The most that all lanes together take, and what the index caches. */
static void
say_memory(const struct daemon *d, const struct settings *s)
{
	uint64_t chunk = store_format(d->srv.store)->chunk_size, lane;
	char a[16], b[16], c[16];

	lane = LANE_WINDOW + 2 * FRAME_PAYLOAD_MAX + LANE_FLUSH_LEN +
	    STORE_RANGE_MIN + RECORD_STORED_MAX + 4 * chunk;
	log_info("memory: at most %s for %d lanes of up to %s, %s of block "
		 "cache for the index",
	    size_print(STORE_RANGES + SERVE_LANES_MAX * lane, a),
	    SERVE_LANES_MAX, size_print(lane, b),
	    size_print(block_cache(s), c));
	if (*store_format(d->srv.store)->packs != 0)
		log_info("NFS: at most %s until the server has it on disk",
		    size_print(store_export_memory(), a));
	lane = 2 * AGENT_FRAME_MAX + LANE_FLUSH_LEN + AGENT_LIST_MAX;
	log_info("agents: at most %d, each a thread and up to %s; %d jobs that "
		 "wait",
	    SERVE_AGENTS_MAX, size_print(lane, a), QUEUE_MAX);
}

/* Packs are kept open for reading, and RocksDB has files of its own. */
static void
raise_limits(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &r) == -1)
			log_debug("the limit of open files stays as it is");
	}
}

static void
say_ready(struct daemon *d)
{
	char text[PULSE_TEXT_MAX];

	pulse_text(&d->srv, text);
	notify_ready("%s", text);
}

static void
reload(struct daemon *d)
{
	notify_reloading();
	tune_again(&d->srv);
	listener_reload(d->listener);
	say_ready(d);
}

static const char *
wait_for_end(struct daemon *d, const sigset_t *set)
{
	for (;;) {
		int sig;

		if (sigwait(set, &sig) != 0)
			continue;
		if (sig == SIGHUP) {
			reload(d);
			continue;
		}
		log_info("%s: stopping", sig == SIGTERM ? "SIGTERM" : "SIGINT");
		return sig == SIGTERM ? "SIGTERM" : "SIGINT";
	}
}

static void
stop(struct daemon *d)
{
	atomic_store(&d->srv.until_ms, now_ms() + PARTIAL_MS);
	atomic_store(&d->srv.stopping, true);
	locks_close(d->srv.locks);
	queue_close(d->srv.queue, "the daemon is stopping");
	jobs_end_all(d->srv.jobs, "the daemon is stopping");
	if (!jobs_settled_wait(d->srv.jobs, atomic_load(&d->srv.until_ms)))
		log_info("some jobs are all but done, and do not end in time");
	scheduler_stop(d->srv.scheduler);
	if (listener_stop(d->listener, STOP_MS))
		return;
	/* As after a power cut: what was committed is safe. */
	log_error("a lane did not end in time; leaving without it");
	_exit(1);
}

/* What stops a start, without one. */
static int
check(const struct settings_options *o)
{
	int dirfd = open(o->src.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct keyring *keys = NULL;
	struct settings *s = NULL;
	struct buf wrong = { 0 };
	struct err e = { 0 };

	settings_read(&o->src, &s, &wrong);
	if (s != NULL && s->hook[0] != 0 && hook_check(s->hook, &e) != 0)
		buf_printf(&wrong, "%s/" SETTINGS_FILE ": hook: %s\n",
		    o->src.dir, e.text);
	if (dirfd == -1)
		buf_printf(&wrong, "%s: %s\n", o->src.dir, strerror(errno));
	if (dirfd != -1 && keyring_open(dirfd, &keys, &e) != 0)
		buf_printf(&wrong, "%s/%s\n", o->src.dir, e.text);
	fputs(wrong.len == 0 ? "ok\n" : buf_cstr(&wrong),
	    wrong.len == 0 ? stdout : stderr);
	keyring_close(keys);
	settings_free(s);
	if (dirfd != -1)
		close(dirfd);
	dirfd = wrong.len > 0;
	buf_fini(&wrong);
	return dirfd;
}

static void
parse_args(int argc, char **argv, struct settings_options *o)
{
	struct err e = { 0 };

	if (settings_options_parse(argc, argv, o, &e) != 0)
		misuse(&e);
	if (o->help)
		fputs(usage_text, stdout);
	else if (o->version)
		puts(SERVE_PROGRAM " " BACKSTAY_VERSION);
	else if (!o->test)
		return;
	exit(o->test && !o->help && !o->version ? check(o) : 0);
}

/* Before any thread, so that only this one sees the signals. */
static void
prepare(sigset_t *set)
{
	umask(077);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, set, NULL);
	raise_limits();
	lane_ssh_init();
}

static int
serve(struct daemon *d, const char *dir, const struct settings *s,
    const sigset_t *set, struct err *e)
{
	struct listener_options lo = { .addr = (const char *const *)s->listen,
		.naddr = s->nlisten,
		.no_ssh = s->no_ssh,
		.dir = dir };
	struct catalog_totals t;
	const char *why;
	int rc;

	notify_patience(PATIENT_START_MS);
	rc = daemon_open(d, dir, s, e);
	if (rc != 0)
		return rc;
	tune(&d->srv);
	lo.dirfd = d->dirfd;
	lo.host_key = d->host_key;
	rc = watch_start(&d->srv, &d->watch);
	if (rc == 0)
		rc = measure_start(&d->srv, s->http, &d->http, e);
	if (rc != 0)
		return rc;
	/* Before anybody can do anything. */
	audited_start(&d->srv);
	rc = scheduler_start(&d->srv, &d->srv.scheduler);
	if (rc == 0)
		rc = listener_start(&d->srv, &lo, &d->listener, e);
	if (rc != 0) {
		audited_stop(&d->srv, e->text);
		return rc;
	}
	say_memory(d, s);
	catalog_totals(d->srv.catalog, &t);
	log_info("%s: ready: %llu backups of %llu VMs; listening at %s; host "
		 "key %s",
	    dir, (unsigned long long)t.nbackups, (unsigned long long)t.nvms,
	    listener_addresses(d->listener), d->fingerprint);
	rc = pulse_start(&d->srv, d->listener, &d->pulse);
	notify_patience_end();
	/* Feeds nobody, then: the watchdog ends that. */
	if (rc != 0)
		log_error("the service manager is told nothing");
	say_ready(d);
	why = wait_for_end(d, set);
	notify_stopping("stops: %s", why);
	pulse_stop(d->pulse);
	notify_patience(PATIENT_STOP_MS);
	stop(d);
	audited_stop(&d->srv, why);
	return 0;
}

int
main(int argc, char **argv)
{
	struct daemon d = { .dirfd = -1, .keysfd = -1 };
	const struct settings *s;
	struct settings_options o;
	struct buf wrong = { 0 };
	struct err e = { 0 };
	sigset_t set;
	int rc;

	std_fds_keep();
	parse_args(argc, argv, &o);
	if (owner_become(o.src.dir, &e) != 0) {
		fprintf(stderr, "backstayd: %s\n", e.text);
		return 1;
	}
	if (settings_open(&o.src, &d.srv.settings, &wrong) != 0) {
		fputs(buf_cstr(&wrong), stderr);
		fputs("backstayd: the settings have faults\n", stderr);
		return 2;
	}
	prepare(&set);
	s = settings_get(d.srv.settings);
	if (s->verbose)
		log_set_level(LOG_LEVEL_DEBUG);
	rc = serve(&d, o.src.dir, s, &set, &e);
	daemon_close(&d);
	notify_patience_end();
	settings_put(d.srv.settings, s);
	settings_close(d.srv.settings);
	if (rc != 0)
		log_error("%s", e.text[0] != 0 ? e.text : err_name(rc));
	else
		log_info("%s: stopped", o.src.dir);
	settings_options_fini(&o);
	return rc != 0;
}
