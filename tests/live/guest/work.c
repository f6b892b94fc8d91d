/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work: what a test guest does.  Static, a child of the initramfs' init; all
 * that it says goes to the serial console, a line at a time.
 *
 *   work disks MIB DELAY_US DEV [DEV2]
 *       Writes numbers, each synchronously and each to DEV before it goes to
 *       DEV2.  tests/live/slots.py tells a point in time from a smear by them.
 *       Goes on behind what it finds:   FOUND MAX WRONG [MAX2 WRONG2]
 *       Once a second:                  LAT MAX_US P99_US N P50_US NUMBER
 *       (of single writes) and          AGREE NUMBER ok|BAD
 *       where BAD is: the disks are not what this process, its memory,
 *       remembers to have written.  Memory and disks that were restored from
 *       different moments disagree.
 *   work mem MIB [PAGES_PER_S [SEEN_PER_S]]
 *       Fills memory; goes round its pages, checks that each one is as it was
 *       left, and changes it:           COUNT N ok|BAD
 *       With a third number it goes round a second time, faster, and changes
 *       nothing; each eighth:           SEEN EIGHTHS ok|BAD
 *   work tick MS
 *       T N as often: whoever follows the console sees when it stood still.
 *   work file PATH DELAY_US
 *       Appends to a file, and syncs it.  FILE N MAX_US once a second: how many
 *       times, and the longest.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/*
 * Number s goes to a slot of one of the region's runs: a run has 16 of them, so
 * that a second's writes leave most of a dirty bitmap clean, and the runs
 * follow each other STEP apart.  slots.py knows this too.
 */
enum { SLOT = 4096, RUN = 16, STEP = 7919, CELL = 64, AHEAD = 8, BACK = 16 };
static const char magic[8] = "BkstyGst";

struct cell { /* fills a slot, over and over */
	char magic[8];
	uint64_t number;
	uint64_t disk;
	uint64_t noise[5];
};
_Static_assert(sizeof(struct cell) == CELL, "slots.py reads it");

struct disk {
	const char *name;
	int fd;
	uint64_t index;
};

static int64_t runs; /* of the region */
static uint8_t *io;  /* a run, aligned */

static uint64_t
mix(uint64_t x)
{
	x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdULL;
	x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53ULL;
	return x ^ (x >> 33);
}

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void
nap_us(long us)
{
	struct timespec t = { us / 1000000, us % 1000000 * 1000 };

	if (us > 0)
		nanosleep(&t, NULL);
}

static void
cell_make(struct cell *c, uint64_t number, uint64_t disk)
{
	unsigned i;

	memset(c, 0, sizeof(*c));
	if (number == 0)
		return; /* a slot that was never written */
	memcpy(c->magic, magic, sizeof(magic));
	c->number = number;
	c->disk = disk;
	for (i = 0; i < 5; i++)
		c->noise[i] = mix(number * 16 + disk * 8 + i);
}

static off_t
run_offset(int64_t run)
{
	run = (run % runs + runs) % runs;
	return (off_t)(run * STEP % runs * RUN * SLOT);
}

static int
slot_is(const uint8_t *slot, uint64_t number, uint64_t disk)
{
	struct cell c;
	size_t i;

	cell_make(&c, number, disk);
	for (i = 0; i < SLOT; i += CELL) {
		if (memcmp(slot + i, &c, CELL) != 0)
			return 0;
	}
	return 1;
}

static void
read_run(const struct disk *d, int64_t run)
{
	ssize_t n = pread(d->fd, io, RUN * SLOT, run_offset(run));

	if (n != RUN * SLOT) {
		printf("READ-ERROR %s %s\n", d->name, strerror(errno));
		exit(1);
	}
}

/* How many slots of the runs from..to are not as they are behind ${last}. */
static unsigned
wrong_slots(const struct disk *d, int64_t last, int64_t from, int64_t to)
{
	int64_t run, number;
	unsigned i, wrong = 0;

	for (run = from; run <= to; run++) {
		read_run(d, run);
		for (i = 0; i < RUN; i++) {
			number = run * RUN + i;
			if (number > last)
				number -= runs * RUN;
			if (number < 0)
				number = 0;
			wrong +=
			    !slot_is(io + i * SLOT, (uint64_t)number, d->index);
		}
	}
	return wrong;
}

static unsigned
wrong_anywhere(const struct disk *d, int64_t last)
{
	return wrong_slots(d, last, last / RUN - runs + 1, last / RUN);
}

/* The largest number on the disk. */
static int64_t
find_last(const struct disk *d)
{
	struct cell c;
	int64_t run, last = 0;
	unsigned i;

	for (run = 0; run < runs; run++) {
		read_run(d, run);
		for (i = 0; i < RUN; i++) {
			memcpy(&c, io + i * SLOT, CELL);
			if (memcmp(c.magic, magic, sizeof(magic)) == 0 &&
			    (int64_t)c.number > last)
				last = (int64_t)c.number;
		}
	}
	return last;
}

static int
by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

enum { SAMPLES = 16384 };

static void
print_latency(uint32_t *us, unsigned n, int64_t number)
{
	if (n == 0)
		return;
	qsort(us, n, sizeof(*us), by_size);
	printf("LAT %u %u %u %u %lld\n", us[n - 1], us[n * 99 / 100], n,
	    us[n / 2], (long long)number);
}

/* Most times what was written last and what is next to be overwritten; now and
 * then all of it. */
static void
print_agreement(struct disk *d, unsigned ndisks, int64_t last, unsigned turn)
{
	unsigned i, wrong = 0;

	for (i = 0; i < ndisks; i++) {
		wrong += turn % 16 == 0
		    ? wrong_anywhere(&d[i], last)
		    : wrong_slots(
			  &d[i], last, last / RUN - BACK, last / RUN + AHEAD);
	}
	printf("AGREE %lld %s\n", (long long)last, wrong == 0 ? "ok" : "BAD");
}

static void
write_number(const struct disk *d, int64_t number)
{
	struct cell c;
	off_t at = run_offset(number / RUN) + number % RUN * SLOT;
	size_t i;

	cell_make(&c, (uint64_t)number, d->index);
	for (i = 0; i < SLOT; i += CELL)
		memcpy(io + i, &c, CELL);
	if (pwrite(d->fd, io, SLOT, at) != SLOT) {
		printf("WRITE-ERROR %s %s\n", d->name, strerror(errno));
		exit(1);
	}
}

static void
do_disks(long mib, long delay, char **names, unsigned ndisks)
{
	static uint32_t us[SAMPLES];
	struct disk d[2];
	int64_t number, last = 0, start, second = now_us();
	unsigned i, n = 0, turn = 1;

	runs = (int64_t)mib * 1048576 / (RUN * SLOT);
	if (ndisks > 2 || runs <= AHEAD + BACK + 1 ||
	    posix_memalign((void **)&io, SLOT, RUN * SLOT) != 0)
		exit(2);
	for (i = 0; i < ndisks; i++) {
		d[i].name = names[i];
		d[i].index = i;
		d[i].fd = open(names[i], O_RDWR | O_DIRECT | O_DSYNC);
		if (d[i].fd == -1) {
			perror(names[i]);
			exit(1);
		}
	}
	printf("FOUND");
	for (i = 0; i < ndisks; i++) {
		last = find_last(&d[i]);
		printf(
		    " %lld %u", (long long)last, wrong_anywhere(&d[i], last));
	}
	printf("\n");
	for (number = last + 1;; number++) {
		for (i = 0; i < ndisks; i++) {
			start = now_us();
			write_number(&d[i], number);
			if (n < SAMPLES)
				us[n++] = (uint32_t)(now_us() - start);
		}
		if (now_us() - second >= 1000000) {
			print_latency(us, n, number);
			print_agreement(d, ndisks, number, turn++);
			n = 0;
			second = now_us();
		}
		nap_us(delay);
	}
}

/* What page ${p} holds after its ${turn}th change; a quarter is zeros. */
static uint64_t
word(size_t p, uint64_t turn, size_t i)
{
	return mix(p) % 4 == 0 ? 0 : mix((p << 32) + turn * 512 + i);
}

enum { WORDS = SLOT / 8 };

/* Pages from ${at} on, of which the first ${n} changes went round. */
static int
look(const uint64_t *m, size_t pages, uint64_t n, uint64_t at, size_t count)
{
	size_t p, i;
	uint64_t turn;
	int bad = 0;

	while (count-- > 0) {
		p = at++ % pages;
		turn = n / pages + (p < n % pages);
		for (i = 0; i < WORDS; i++)
			bad |= m[p * WORDS + i] != word(p, turn, i);
	}
	return bad;
}

static void
do_mem(long mib, long rate, long seen)
{
	enum { BATCH = 64 };
	size_t pages = (size_t)mib * 1048576 / SLOT, p, i;
	size_t ahead = (size_t)seen * BATCH / (size_t)(rate > 0 ? rate : 1);
	uint64_t *m, n, turn, at = 0;
	int bad = 0;

	if (pages == 0 || rate <= 0 || seen < 0)
		exit(2);
	m = malloc(pages * SLOT);
	if (m == NULL) {
		perror("mem");
		exit(1);
	}
	for (p = 0; p < pages; p++) {
		for (i = 0; i < WORDS; i++)
			m[p * WORDS + i] = word(p, 0, i);
	}
	printf("MEM %ld\n", mib);
	for (n = 0;; n++) {
		p = n % pages;
		turn = n / pages;
		for (i = 0; i < WORDS; i++) {
			bad |= m[p * WORDS + i] != word(p, turn, i);
			m[p * WORDS + i] = word(p, turn + 1, i);
		}
		if (n % BATCH == 0) {
			printf("COUNT %llu %s\n", (unsigned long long)n,
			    bad ? "BAD" : "ok");
			bad |= look(m, pages, n + 1, at, ahead);
			if (at * 8 / pages != (at + ahead) * 8 / pages)
				printf("SEEN %llu %s\n",
				    (unsigned long long)((at + ahead) * 8 /
					pages),
				    bad ? "BAD" : "ok");
			at += ahead;
			nap_us(1000000L * BATCH / rate);
		}
	}
}

static void
do_tick(long ms)
{
	unsigned long long n;

	if (ms <= 0)
		exit(2);
	for (n = 1;; n++) {
		printf("T %llu\n", n);
		nap_us(ms * 1000);
	}
}

static void
do_file(const char *path, long delay)
{
	int64_t second = now_us(), start, max = 0;
	unsigned long long n;
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);

	if (fd == -1) {
		perror(path);
		exit(1);
	}
	for (n = 1;; n++) {
		start = now_us();
		if (dprintf(fd, "%llu\n", n) < 0 || fsync(fd) != 0) {
			printf("FILE-ERROR %s\n", strerror(errno));
			exit(1);
		}
		if (now_us() - start > max)
			max = now_us() - start;
		if (now_us() - second >= 1000000) {
			printf("FILE %llu %lld\n", n, (long long)max);
			max = 0;
			second = now_us();
		}
		nap_us(delay);
	}
}

int
main(int argc, char **argv)
{
	/* Whole lines, so that those of several processes do not mix. */
	setvbuf(stdout, NULL, _IOLBF, 4096);
	if (argc >= 5 && strcmp(argv[1], "disks") == 0)
		do_disks(
		    atol(argv[2]), atol(argv[3]), argv + 4, (unsigned)argc - 4);
	if (argc >= 3 && strcmp(argv[1], "mem") == 0)
		do_mem(atol(argv[2]), argc > 3 ? atol(argv[3]) : 320,
		    argc > 4 ? atol(argv[4]) : 0);
	if (argc == 3 && strcmp(argv[1], "tick") == 0)
		do_tick(atol(argv[2]));
	if (argc == 4 && strcmp(argv[1], "file") == 0)
		do_file(argv[2], atol(argv[3]));
	fprintf(stderr, "usage: see work.c\n");
	return 2;
}
