/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index_scale: what the index costs as it grows.  It is filled with entries
 * that look like a daemon's, through the same batches and merges, and then
 * asked as lanes and the ledger ask it, with the daemon's own settings.
 *
 *   index_scale [-c CACHE_MIB] [-m MEMTABLES_MIB] [-k] FOLDER JSON N...
 *
 * For each N, in FOLDER/N: most ids come in their order, since the long way
 * there is not what is measured; the last part comes at random, as in life, and
 * takes the tables of all levels through RocksDB's own compaction.  Nothing
 * is compacted by hand.  -k: what is there is taken as it is, and stays.
 *
 * Each part runs in a process of its own, so that memory is its own, and an
 * opening is a daemon's after a kill: it replays what the WAL holds.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/log.h"
#include "repo/store/index_private.h"

enum {
	ASK = 128,    /* ids of one query */
	BATCH = 4096, /* puts of one batch */
	LOT = 1024,   /* ids at a time, as the ledger asks while it closes */
	LOAD_BATCH = 1 << 16,
	LOAD_MEMTABLES = 384 << 20,
	COMMITS = 128,
	RANDOM_PERCENT = 15, /* of entries that come in no order */
	PACK_BYTES = 512 << 20,
	SIZES_MAX = 8,
	SETTLE_S = 1200,
	ASK_MS = 3000,  /* of each kind of question */
	WARM_MS = 8000, /* before: a daemon's cache has what it holds */
};

/* What is promised. */
static const double bytes_max = 80, open_ms_max = 2000, growth_max = 2;

struct result { /* in memory that parent and children share */
	uint64_t n;
	double load_s;
	double entry_bytes; /* all files */
	double table_bytes; /* what compaction leaves: without the WAL */
	double open_ms;
	double miss, hit;           /* ids a second, files in the page cache */
	double miss_us, hit_us;     /* processor time of one */
	double cold_miss, cold_hit; /* ids a second, read from the disk */
	double commit_ms, commit_p95_ms, commit_max_ms;
	double hwm_mib;
	bool done;
};

static struct index_options options = {
	.block_cache = 32 << 20, .memtables = 32 << 20, .create = true
};

static double
seconds(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double
now(void)
{
	return seconds(CLOCK_MONOTONIC);
}

static void
die(const char *what)
{
	fprintf(stderr, "index_scale: %s\n", what);
	exit(1);
}

static uint64_t
mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

/* Of the ${n} ids the first ones rise; all of them are spread alike. */
static uint64_t
nsorted(uint64_t n)
{
	return n / 100 * (100 - RANDOM_PERCENT);
}

static void
id_of(uint64_t i, uint64_t n, struct id *id)
{
	uint64_t word[ID_LEN / 8], step = UINT64_MAX / (nsorted(n) + 1);

	for (uint64_t k = 0; k < ID_LEN / 8; k++)
		word[k] = mix(mix(i) + k);
	if (i < nsorted(n))
		word[0] = i * step + word[0] % step;
	for (unsigned k = 0; k < ID_LEN; k++)
		id->b[k] = (uint8_t)(word[k / 8] >> (56 - k % 8 * 8));
}

/* As if they had come in another order than that of their ids. */
static void
entry_of(uint64_t i, uint64_t n, struct index_entry *e)
{
	uint64_t h = mix(~i), at = i < nsorted(n) ? mix(h) % n : i;
	uint64_t packs = n * 40000 / PACK_BYTES + 1;

	*e = (struct index_entry){
		.place = { .pack = (uint32_t)(1 + at * packs / n),
		    .off = (uint32_t)(h % PACK_BYTES) & ~7u,
		    .stored_len = 16384 + (uint32_t)(h >> 32) % 49152,
		    .raw_len = 65536,
		    .codec = 1 },
		.refs = 1,
		.stamp = 1 + at / BATCH,
		.kind = RECORD_CHUNK,
	};
	if (h % 256 == 0) {
		e->kind = RECORD_NODE;
		e->place.raw_len = e->place.stored_len = 8192;
	}
}

static void
open_index(const char *path, struct index **x)
{
	struct err e = { 0 };

	if (index_open(path, &options, x, &e) != 0)
		die(e.text);
}

static uint64_t
property(struct index *x, const char *name)
{
	uint64_t v = 0, sum = 0;

	for (int i = 0; i < CF_COUNT; i++) {
		if (rocksdb_property_int_cf(x->db, x->cf[i], name, &v) != 0)
			die("RocksDB does not tell what it does");
		sum += v;
	}
	return sum;
}

/* Until nothing is left that RocksDB does by itself. */
static void
settle(struct index *x)
{
	static const char *const busy[] = { "rocksdb.mem-table-flush-pending",
		"rocksdb.compaction-pending", "rocksdb.num-running-flushes",
		"rocksdb.num-running-compactions" };
	double until = now() + SETTLE_S;
	unsigned quiet = 0;

	while (quiet < 10) {
		struct timespec t = { .tv_nsec = 20 * 1000 * 1000 };
		uint64_t n = 0;

		for (size_t i = 0; i < sizeof(busy) / sizeof(busy[0]); i++)
			n += property(x, busy[i]);
		quiet = n == 0 ? quiet + 1 : 0;
		if (now() > until)
			die("RocksDB does not come to rest");
		nanosleep(&t, NULL);
	}
}

/* Ids [from, to) in one batch. */
static void
put_ids(struct index *x, uint64_t n, uint64_t from, uint64_t to, bool sync)
{
	struct index_batch *b = index_batch_new(x);
	struct index_entry e;
	struct id id;

	for (uint64_t i = from; i < to; i++) {
		id_of(i, n, &id);
		entry_of(i, n, &e);
		index_batch_merge(b, &id, &e);
	}
	index_batch_number(b, INDEX_PUBLISHED, 1 + from / BATCH);
	if (index_batch_write(b, sync) != 0)
		die("cannot write");
	index_batch_free(b);
}

/* Ids [at, end) in batches of ${some}. */
static void
load_part(
    const char *path, uint64_t n, uint64_t at, uint64_t end, uint64_t some)
{
	struct index *x;

	open_index(path, &x);
	for (; at < end; at += some) {
		some = some < end - at ? some : end - at;
		put_ids(x, n, at, at + some, false);
	}
	settle(x);
	index_close(x);
}

static void
load(const char *path, uint64_t n, struct result *r)
{
	uint64_t memtables = options.memtables;
	double t = now();

	/* So that tables are of the size that compaction makes them: those
	 * that do not overlap go down as they are. */
	options.memtables = LOAD_MEMTABLES;
	load_part(path, n, 0, nsorted(n), LOAD_BATCH);
	options.memtables = memtables;
	load_part(path, n, nsorted(n), n, BATCH);
	r->load_s = now() - t;
}

/* What is to be done with each file of the index. */
enum files { FILES_DROP, FILES_READ };

static void
each_file(const char *path, enum files what)
{
	DIR *d = opendir(path);
	static char data[1 << 20];
	struct dirent *de;

	if (d == NULL)
		die("cannot list the index");
	while ((de = readdir(d)) != NULL) {
		int fd = openat(dirfd(d), de->d_name, O_RDONLY | O_CLOEXEC);
		struct stat st;

		if (fd == -1)
			continue;
		if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
			/* Only what is clean can go. */
			if (what == FILES_DROP) {
				fdatasync(fd);
				posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
			}
			while (what == FILES_READ &&
			    read(fd, data, sizeof(data)) > 0)
				;
		}
		close(fd);
	}
	closedir(d);
}

/* Ids a second that are looked up, ASK at a time; ${known}: all are there.
 * ${us}: processor time of one, which who else runs here changes little. */
static double
ask(struct index *x, uint64_t n, bool known, unsigned ms, double *us)
{
	static uint64_t seed;
	struct index_entry out[ASK];
	struct id ids[ASK];
	double took = 0, cpu = 0, until = now() + ms / 1e3;
	uint64_t asked = 0;

	while (now() < until) {
		double t, c;

		for (unsigned i = 0; i < ASK; i++) {
			uint64_t k = mix(++seed);

			/* Beyond ${n} no id was ever made from. */
			id_of(known ? k % n : k | 1ULL << 63, n, &ids[i]);
		}
		t = now();
		c = seconds(CLOCK_THREAD_CPUTIME_ID);
		if (index_get_many(x, ids, ASK, out) != 0)
			die("cannot read");
		cpu += seconds(CLOCK_THREAD_CPUTIME_ID) - c;
		took += now() - t;
		asked += ASK;
		for (unsigned i = 0; i < ASK; i++)
			if ((out[i].place.pack != 0) != known)
				die("an answer is wrong");
	}
	*us = cpu * 1e6 / (double)asked;
	return (double)asked / took;
}

static int
by_id(const void *a, const void *b)
{
	return memcmp(a, b, ID_LEN);
}

static int
by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* What the ledger does with a batch: look up all in their order; write them
 * durably. */
static void
commits(struct index *x, uint64_t n, struct result *r)
{
	struct index_entry *cur = xmalloc(LOT * sizeof(*cur));
	struct id *ids = xmalloc(BATCH * sizeof(*ids));
	double ms[COMMITS];

	for (uint64_t c = 0; c < COMMITS; c++) {
		uint64_t from = n + c * BATCH;
		double t = now();

		for (uint64_t i = 0; i < BATCH; i++)
			id_of(from + i, n, &ids[i]);
		qsort(ids, BATCH, sizeof(*ids), by_id);
		for (unsigned i = 0; i < BATCH; i += LOT)
			if (index_get_many(x, ids + i, LOT, cur) != 0)
				die("cannot read");
		put_ids(x, n, from, from + BATCH, true);
		ms[c] = (now() - t) * 1e3;
	}
	qsort(ms, COMMITS, sizeof(ms[0]), by_size);
	r->commit_ms = ms[COMMITS / 2];
	r->commit_p95_ms = ms[COMMITS * 95 / 100];
	r->commit_max_ms = ms[COMMITS - 1];
	free(ids);
	free(cur);
}

static double
hwm_mib(void)
{
	char line[128];
	unsigned long kib = 0;
	FILE *f = fopen("/proc/self/status", "re");

	if (f == NULL)
		die("no /proc/self/status");
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "VmHWM:", 6) == 0)
			kib = strtoul(line + 6, NULL, 10);
	fclose(f);
	return (double)kib / 1024;
}

static void
measure(const char *path, uint64_t n, struct result *r)
{
	struct index_size size;
	struct index *x;
	double t;

	each_file(path, FILES_DROP);
	t = now();
	open_index(path, &x);
	r->open_ms = (now() - t) * 1e3;
	settle(x);
	if (index_size(x, &size) != 0)
		die("no size");
	r->entry_bytes = (double)size.bytes / (double)n;
	r->table_bytes =
	    (double)property(x, "rocksdb.total-sst-files-size") / (double)n;
	each_file(path, FILES_DROP);
	r->cold_miss = ask(x, n, false, ASK_MS, &r->miss_us);
	each_file(path, FILES_DROP);
	r->cold_hit = ask(x, n, true, ASK_MS, &r->hit_us);
	each_file(path, FILES_READ);
	ask(x, n, false, WARM_MS, &r->miss_us);
	r->miss = ask(x, n, false, ASK_MS, &r->miss_us);
	/* Not all that is read gets into the cache at once. */
	ask(x, n, true, WARM_MS, &r->hit_us);
	r->hit = ask(x, n, true, ASK_MS, &r->hit_us);
	commits(x, n, r);
	r->hwm_mib = hwm_mib();
	index_close(x);
	r->done = true;
}

static void
in_child(void (*part)(const char *path, uint64_t n, struct result *r),
    const char *path, struct result *r)
{
	pid_t pid = fork();
	int status;

	if (pid == -1)
		die("cannot fork");
	if (pid == 0) {
		part(path, r->n, r);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status != 0)
		die("a part of it failed");
}

static void
destroy(const char *path, uint64_t n, struct result *r)
{
	struct err e = { 0 };

	(void)n;
	(void)r;
	if (access(path, F_OK) == 0 && index_destroy(path, &e) != 0)
		die(e.text);
}

/* Nothing of RocksDB runs here: its threads would be missing in children. */
static void
one_size(const char *folder, bool keep, struct result *r)
{
	char path[4096];

	snprintf(
	    path, sizeof(path), "%s/%llu", folder, (unsigned long long)r->n);
	if (access(path, F_OK) != 0 || !keep) {
		fprintf(stderr, "# %llu entries\n", (unsigned long long)r->n);
		in_child(destroy, path, r);
		in_child(load, path, r);
	}
	in_child(measure, path, r);
	if (!keep)
		in_child(destroy, path, r);
}

static const struct row {
	const char *name, *what;
	size_t at;
	int digits;
} rows[] = {
#define ROW(field, what, digits)                                               \
	{                                                                      \
#field, what, offsetof(struct result, field), digits           \
	}
	ROW(load_s, "filling it, s", 0),
	ROW(table_bytes, "bytes of tables an entry", 1),
	ROW(entry_bytes, "bytes on disk an entry, with the WAL", 1),
	ROW(open_ms, "opening it after a kill, cold, ms", 0),
	ROW(miss, "ids looked up a second, 128 at a time: not there", 0),
	ROW(hit, "the same: there", 0),
	ROW(miss_us, "processor time of one that is not there, us", 2),
	ROW(hit_us, "of one that is there, us", 2),
	ROW(cold_miss, "not there; files not in the page cache", 0),
	ROW(cold_hit, "there; files not in the page cache", 0),
	ROW(commit_ms, "a batch of 4096 new ids, synced, ms", 1),
	ROW(commit_p95_ms, "of 100 such batches the fifth longest, ms", 1),
	ROW(commit_max_ms, "the longest of all, ms", 1),
	ROW(hwm_mib, "most memory of the process, MiB", 0),
#undef ROW
};

static double
field(const struct result *r, const struct row *row)
{
	double v;

	memcpy(&v, (const char *)r + row->at, sizeof(v));
	return v;
}

static void
print(const struct result *r, unsigned n)
{
	printf("%-52s", "entries");
	for (unsigned k = 0; k < n; k++)
		printf(" %11llu", (unsigned long long)r[k].n);
	printf("\n");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		printf("%-52s", rows[i].what);
		for (unsigned k = 0; k < n; k++)
			printf(
			    " %11.*f", rows[i].digits, field(&r[k], &rows[i]));
		printf("\n");
	}
}

static void
print_json(const char *path, const struct result *r, unsigned n)
{
	FILE *f = fopen(path, "we");

	if (f == NULL)
		die("cannot write the JSON");
	fprintf(f, "{\"cache_mib\": %llu, \"sizes\": [",
	    (unsigned long long)options.block_cache >> 20);
	for (unsigned k = 0; k < n; k++) {
		fprintf(f, "%s{\"entries\": %llu", k > 0 ? ", " : "",
		    (unsigned long long)r[k].n);
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
			fprintf(f, ", \"%s\": %.1f", rows[i].name,
			    field(&r[k], &rows[i]));
		fprintf(f, "}");
	}
	fprintf(f, "]}\n");
	if (fclose(f) != 0)
		die("cannot write the JSON");
}

static int
at_most(const char *what, double is, double most)
{
	printf("%s - %s: %.1f (at most %.1f)\n", is <= most ? "ok" : "MISSED",
	    what, is, most);
	return is <= most ? 0 : 1;
}

int
main(int argc, char **argv)
{
	struct result *r;
	unsigned n = 0;
	bool keep = false;
	int c, missed = 0;

	while ((c = getopt(argc, argv, "c:m:k")) != -1) {
		switch (c) {
		case 'c':
			options.block_cache = strtoull(optarg, NULL, 10) << 20;
			break;
		case 'm':
			options.memtables = strtoull(optarg, NULL, 10) << 20;
			break;
		case 'k': keep = true; break;
		default: return 2;
		}
	}
	if (argc - optind < 3 || argc - optind > 2 + SIZES_MAX) {
		fprintf(stderr,
		    "usage: index_scale [-c CACHE_MIB] "
		    "[-m MEMTABLES_MIB] [-k] FOLDER JSON N...\n");
		return 2;
	}
	r = mmap(NULL, SIZES_MAX * sizeof(*r), PROT_READ | PROT_WRITE,
	    /* cppcheck-suppress invalidFunctionArg ; -1 is no file */
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (r == MAP_FAILED)
		die("no memory");
	if (mkdir(argv[optind], 0777) == -1 && errno != EEXIST)
		die("cannot make the folder");
	for (; n < (unsigned)(argc - optind - 2); n++) {
		r[n].n = strtoull(argv[optind + 2 + (int)n], NULL, 10);
		if (r[n].n < 1000)
			die("say at least 1000 entries");
		one_size(argv[optind], keep, &r[n]);
	}
	print(r, n);
	print_json(argv[optind + 1], r, n);
	printf("# also in %s\n", argv[optind + 1]);
	missed += at_most(
	    "bytes of tables an entry", r[n - 1].table_bytes, bytes_max);
	missed += at_most("opening, ms", r[n - 1].open_ms, open_ms_max);
	if (n > 1) {
		missed += at_most("a miss: the last to the first",
		    r[n - 1].miss_us / r[0].miss_us, growth_max);
		missed += at_most("a hit: the last to the first",
		    r[n - 1].hit_us / r[0].hit_us, growth_max);
		missed += at_most("a batch: the last to the first",
		    r[n - 1].commit_ms / r[0].commit_ms, growth_max);
	}
	return missed > 0;
}
