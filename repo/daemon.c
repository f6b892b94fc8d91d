/* SPDX-License-Identifier: Apache-2.0 */
/* backstayd: the daemon of one repository, in the foreground. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
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
#include "proto/lane_ssh.h"
#include "repo/serve/listener.h"
#include "repo/serve/tender.h"
#include "repo/serve/verify.h"
#include "repo/store/record.h"

enum {
	STOP_MS = 9000,    /* of the ten seconds that a stop may take */
	PARTIAL_MS = 4000, /* for what interrupted backups have stored */
	KEEP_INCOMPLETE_H = 24,
	KEEP_INCOMPLETE_MAX_H = 24 * 365,
	BLOCK_CACHE_MIN = 32 << 20,
	BLOCK_CACHE_MAX = 1 << 30, /* of its own accord: 400 million chunks */
	BLOCK_CACHE_SHARE = 16,    /* of the machine's memory */
	PACK_LIMIT_MIN = 1 << 20
};

static const char usage_text[] =
    "usage: backstayd REPO [--listen ADDR:PORT]... [--no-ssh] [--index DIR]\n"
    "                 [--block-cache SIZE] [--pack-limit SIZE]\n"
    "                 [--live-percent N] [--checkpoint S]\n"
    "                 [--keep-incomplete HOURS] [--scrub-interval DAYS]\n"
    "                 [--verbose]\n"
    "       backstayd --help | --version\n"
    "\n"
    "Serves the repository in the folder REPO, which `backstay init` made, in\n"
    "the foreground, until SIGTERM or SIGINT.  Logs to stderr.  SIGHUP reads\n"
    "REPO/authorized_agents again.\n"
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
    "  --verbose           log every lane and chunk\n";

#define PACK_LIMIT_MAX ((uint64_t)2 << 30)

struct settings {
	const char *dir;
	const char *index;
	const char *listen[LISTEN_MAX];
	unsigned nlisten;
	bool no_ssh;
	bool verbose;
	uint64_t block_cache;
	uint64_t pack_limit;   /* 0: the store's default */
	unsigned live_percent; /* 0: the reclaimer's default */
	unsigned checkpoint_s; /* 0: the store's default */
	uint64_t keep_incomplete_h;
	uint64_t scrub_days;
};

/* All that is opened, in this order. */
struct daemon {
	struct serve srv;
	int dirfd;
	int keysfd;
	char *host_key;
	char *fingerprint;
	struct tender *tender;
	struct listener *listener;
};

enum { SCRUB_INTERVAL_MAX_D = 3650 };

static void
misuse(const char *what, const char *which)
{
	fprintf(stderr, "backstayd: %s%s\n%s", what, which, usage_text);
	exit(2);
}

static unsigned
parse_number(const char *s, uint64_t max, const char *what)
{
	uint64_t n;

	if (number_parse(s, 1, max, &n) != 0)
		misuse(what, s);
	return (unsigned)n;
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
parse_block_cache(const char *s)
{
	uint64_t n;

	if (size_parse(s, &n) != 0 || n < BLOCK_CACHE_MIN ||
	    n > (uint64_t)1 << 40)
		misuse("--block-cache is 32M to 1T, not ", s);
	return n;
}

/* A pack's offsets have 32 bits, and it holds more than a chunk. */
static uint64_t
parse_pack_limit(const char *s)
{
	uint64_t n;

	if (size_parse(s, &n) != 0 || n < PACK_LIMIT_MIN || n > PACK_LIMIT_MAX)
		misuse("--pack-limit is 1M to 2G, not ", s);
	return n;
}

static void
parse_args(int argc, char **argv, struct settings *s)
{
	static const struct option options[] = { { "listen", required_argument,
						     NULL, 'l' },
		{ "no-ssh", no_argument, NULL, 'n' },
		{ "index", required_argument, NULL, 'i' },
		{ "block-cache", required_argument, NULL, 'b' },
		{ "pack-limit", required_argument, NULL, 'p' },
		{ "live-percent", required_argument, NULL, 'L' },
		{ "checkpoint", required_argument, NULL, 'c' },
		{ "keep-incomplete", required_argument, NULL, 'k' },
		{ "scrub-interval", required_argument, NULL, 's' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' }, { NULL, 0, NULL, 0 } };
	int c;

	while ((c = getopt_long(argc, argv, "vh", options, NULL)) != -1) {
		switch (c) {
		case 'l':
			if (s->nlisten == LISTEN_MAX)
				misuse("too many --listen", "");
			s->listen[s->nlisten++] = optarg;
			break;
		case 'n': s->no_ssh = true; break;
		case 'i': s->index = optarg; break;
		case 'b': s->block_cache = parse_block_cache(optarg); break;
		case 'p': s->pack_limit = parse_pack_limit(optarg); break;
		case 'L':
			s->live_percent = parse_number(
			    optarg, 95, "--live-percent is 1 to 95, not ");
			break;
		case 'c':
			s->checkpoint_s = parse_number(
			    optarg, 86400, "--checkpoint is 1 to 86400, not ");
			break;
		case 'k':
			if (number_parse(optarg, 0, KEEP_INCOMPLETE_MAX_H,
				&s->keep_incomplete_h) != 0)
				misuse("--keep-incomplete is a number of "
				       "hours, not ",
				    optarg);
			break;
		case 'v': s->verbose = true; break;
		case 'h': fputs(usage_text, stdout); exit(0);
		case 'V': puts(SERVE_PROGRAM " " SERVE_VERSION); exit(0);
		case 's':
			if (number_parse(optarg, 0, SCRUB_INTERVAL_MAX_D,
				&s->scrub_days) != 0)
				misuse("--scrub-interval is a number of "
				       "days, not ",
				    optarg);
			break;
		default: misuse("see the options below", "");
		}
	}
	if (optind + 1 != argc)
		misuse(optind == argc ? "which repository?"
				      : "one repository, not also ",
		    optind == argc ? "" : argv[optind + 1]);
	if (s->no_ssh && s->nlisten > 0)
		misuse("--no-ssh and --listen exclude each other", "");
	s->dir = argv[optind];
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
daemon_open(struct daemon *d, const struct settings *s, struct err *e)
{
	struct store_options so = { .index = s->index,
		.block_cache = s->block_cache,
		.data_limit = s->pack_limit,
		.checkpoint_ms = s->checkpoint_s * 1000 };
	struct reclaim_options ro = { .live_percent = s->live_percent };
	struct store_format f;
	int rc;

	rc = store_format_read(s->dir, &f, e);
	if (rc == 0)
		rc = open_folders(d, s->dir, e);
	if (rc != 0)
		return rc;
	d->host_key = xasprintf("%s/keys/host_ed25519", s->dir);
	rc = read_host_key(d, e);
	if (rc == 0)
		rc = keyring_open(d->dirfd, &d->srv.keyring, e);
	if (rc == 0)
		rc = domains_open(
		    d->keysfd, f.dedup_namespace, &d->srv.domains, e);
	if (rc != 0)
		return rc;
	d->srv.catalog = catalog_new();
	d->srv.locks = locks_new();
	d->srv.jobs = jobs_new(serve_let_go, &d->srv);
	d->srv.since = (uint64_t)time(NULL);
	d->srv.keep_incomplete = s->keep_incomplete_h * 3600;
	rc = store_open(
	    s->dir, &so, see_backup, d->srv.catalog, &d->srv.store, e);
	if (rc != 0)
		return rc;
	rc = reclaimer_start(d->srv.store, &ro, &d->srv.reclaimer);
	if (rc != 0)
		return err_set(
		    e, rc, "%s: the reclaimer could not start", s->dir);
	rc = scrubber_start(d->srv.store,
	    &(struct scrub_options){ .interval_s = s->scrub_days * 86400,
		.key = scrub_key,
		.arg = d->srv.domains },
	    &d->srv.scrubber);
	if (rc != 0)
		return err_set(e, rc, "%s: scrub could not start", s->dir);
	d->srv.verifiers = verifiers_new();
	rc = tender_start(&d->srv, &d->tender);
	if (rc != 0)
		err_set(e, rc, "%s: a thread could not start", s->dir);
	return rc;
}

static void
daemon_close(struct daemon *d)
{
	tender_stop(d->tender);
	verifiers_free(d->srv.verifiers);
	scrubber_stop(d->srv.scrubber);
	reclaimer_stop(d->srv.reclaimer);
	store_close(d->srv.store);
	jobs_free(d->srv.jobs);
	locks_free(d->srv.locks);
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
	    size_print(s->block_cache, c));
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
wait_for_end(struct daemon *d, const sigset_t *set)
{
	for (;;) {
		int sig;

		if (sigwait(set, &sig) != 0)
			continue;
		if (sig == SIGHUP) {
			listener_reload(d->listener);
			continue;
		}
		log_info("%s: stopping", sig == SIGTERM ? "SIGTERM" : "SIGINT");
		return;
	}
}

static void
stop(struct daemon *d)
{
	atomic_store(&d->srv.until_ms, now_ms() + PARTIAL_MS);
	atomic_store(&d->srv.stopping, true);
	locks_close(d->srv.locks);
	jobs_end_all(d->srv.jobs, "the daemon is stopping");
	if (listener_stop(d->listener, STOP_MS))
		return;
	/* As after a power cut: what was committed is safe. */
	log_error("a lane did not end in time; leaving without it");
	_exit(1);
}

int
main(int argc, char **argv)
{
	struct settings s = { .block_cache = default_block_cache(),
		.keep_incomplete_h = KEEP_INCOMPLETE_H,
		.scrub_days = SCRUB_INTERVAL_DAYS };
	struct daemon d = { .dirfd = -1, .keysfd = -1 };
	struct listener_options lo;
	struct catalog_totals t;
	struct err e = { 0 };
	sigset_t set;
	int rc;

	parse_args(argc, argv, &s);
	umask(077);
	if (s.verbose)
		log_set_level(LOG_LEVEL_DEBUG);
	signal(SIGPIPE, SIG_IGN);
	/* Before any thread, so that only this one sees them. */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	raise_limits();
	lane_ssh_init();
	rc = daemon_open(&d, &s, &e);
	if (rc != 0)
		goto out;
	lo = (struct listener_options){ .addr = s.listen,
		.naddr = s.nlisten,
		.no_ssh = s.no_ssh,
		.dir = s.dir,
		.dirfd = d.dirfd,
		.host_key = d.host_key };
	rc = listener_start(&d.srv, &lo, &d.listener, &e);
	if (rc != 0)
		goto out;
	say_memory(&d, &s);
	catalog_totals(d.srv.catalog, &t);
	log_info("%s: ready: %llu backups of %llu VMs; listening at %s; host "
		 "key %s",
	    s.dir, (unsigned long long)t.nbackups, (unsigned long long)t.nvms,
	    listener_addresses(d.listener), d.fingerprint);
	wait_for_end(&d, &set);
	stop(&d);
out:
	daemon_close(&d);
	if (rc != 0)
		log_error("%s", e.text[0] != 0 ? e.text : err_name(rc));
	else
		log_info("%s: stopped", s.dir);
	return rc != 0;
}
