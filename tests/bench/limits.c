/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of a backup can do by themselves on this machine, with the
 * bytes of a disk: the limits that `make bench` compares Backstay with.
 *
 *	limits DISK SCRATCH-FILE
 *
 * One line of JSON: 10^9 bytes a second of one thread ("one"), and of one on
 * each processor, together ("all": they slow one another down); each the median
 * of some rounds.  The processor's clock counts, so that what else the machine
 * does matters little.
 */
#include <sys/stat.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <zstd.h>

#include "proto/codec.h"

enum {
	CHUNK = 65536,
	PACKET = 32768, /* what SSH encrypts at once */
	SAMPLE_MAX = 2048,
	ROUNDS = 3,
	THREADS_MAX = 64,
	DISK_BYTES = 512 << 20
};

struct packed {
	size_t len;
	uint8_t b[CHUNK];
};

static uint8_t (*sample)[CHUNK];
static struct packed *packed;
static unsigned nsample;

/* What one thread has at hand; all of it made before the clock runs. */
struct worker {
	unsigned index;
	unsigned of;
	void (*part)(struct worker *w, unsigned chunk);
	pthread_barrier_t *begin;
	double took;
	EVP_MD *sha256;
	EVP_MD *sha512_256;
	EVP_MD_CTX *md;
	EVP_CIPHER_CTX *gcm;
	ZSTD_CCtx *pack;
	ZSTD_DCtx *unpack;
	uint8_t out[2 * CHUNK];
};

static void
must(int ok, const char *what)
{
	if (!ok)
		errx(1, "%s failed", what);
}

static double
now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --- the parts */

static void
digest(struct worker *w, const EVP_MD *md, unsigned chunk)
{
	must(EVP_DigestInit_ex2(w->md, md, NULL) == 1 &&
		EVP_DigestUpdate(w->md, sample[chunk], CHUNK) == 1 &&
		EVP_DigestFinal_ex(w->md, w->out, NULL) == 1,
	    "digest");
}

static void
part_sha256(struct worker *w, unsigned chunk)
{
	digest(w, w->sha256, chunk);
}

static void
part_sha512_256(struct worker *w, unsigned chunk)
{
	digest(w, w->sha512_256, chunk);
}

/* As the agent does: what does not shrink by a thirty-second stays plain. */
static void
part_compress(struct worker *w, unsigned chunk)
{
	size_t n = ZSTD_compressCCtx(w->pack, packed[chunk].b,
	    CHUNK - CHUNK / 32, sample[chunk], CHUNK, CODEC_LEVEL_DEFAULT);

	packed[chunk].len = ZSTD_isError(n) ? 0 : n;
}

static void
part_decompress(struct worker *w, unsigned chunk)
{
	const struct packed *p = &packed[chunk];

	if (p->len != 0)
		must(ZSTD_decompressDCtx(
			 w->unpack, w->out, CHUNK, p->b, p->len) == CHUNK,
		    "decompress");
}

static void
part_gcm(struct worker *w, unsigned chunk)
{
	uint8_t iv[12] = { 0 }, tag[16];
	int n, i;

	for (i = 0; i < CHUNK; i += PACKET) {
		memcpy(iv, &chunk, sizeof(chunk));
		iv[sizeof(chunk)] = i != 0;
		must(EVP_EncryptInit_ex(w->gcm, NULL, NULL, NULL, iv) == 1 &&
			EVP_EncryptUpdate(w->gcm, w->out, &n, sample[chunk] + i,
			    PACKET) == 1 &&
			EVP_EncryptFinal_ex(w->gcm, w->out + n, &n) == 1 &&
			EVP_CIPHER_CTX_ctrl(w->gcm, EVP_CTRL_GCM_GET_TAG,
			    sizeof(tag), tag) == 1,
		    "AES-GCM");
	}
}

static void
part_memcpy(struct worker *w, unsigned chunk)
{
	memcpy(w->out, sample[chunk], CHUNK);
}

/* --- taking their time */

static void
worker_init(struct worker *w)
{
	static const uint8_t key[16] = { 1 };

	w->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	w->sha512_256 = EVP_MD_fetch(NULL, "SHA512-256", NULL);
	w->md = EVP_MD_CTX_new();
	w->gcm = EVP_CIPHER_CTX_new();
	w->pack = ZSTD_createCCtx();
	w->unpack = ZSTD_createDCtx();
	must(w->sha256 != NULL && w->sha512_256 != NULL && w->md != NULL &&
		w->gcm != NULL && w->pack != NULL && w->unpack != NULL &&
		EVP_EncryptInit_ex(
		    w->gcm, EVP_aes_128_gcm(), NULL, key, NULL) == 1,
	    "making contexts");
}

static void
worker_fini(struct worker *w)
{
	ZSTD_freeDCtx(w->unpack);
	ZSTD_freeCCtx(w->pack);
	EVP_CIPHER_CTX_free(w->gcm);
	EVP_MD_CTX_free(w->md);
	EVP_MD_free(w->sha512_256);
	EVP_MD_free(w->sha256);
}

static void *
work(void *arg)
{
	struct worker *w = arg;
	unsigned i;

	worker_init(w);
	pthread_barrier_wait(w->begin);
	w->took = now(CLOCK_THREAD_CPUTIME_ID);
	for (i = w->index; i < nsample; i += w->of)
		w->part(w, i);
	w->took = now(CLOCK_THREAD_CPUTIME_ID) - w->took;
	worker_fini(w);
	return NULL;
}

static double
seconds(unsigned nthreads, void (*part)(struct worker *, unsigned))
{
	pthread_t thread[THREADS_MAX];
	pthread_barrier_t begin;
	struct worker *w = calloc(nthreads, sizeof(*w));
	double sum = 0;
	unsigned i;

	must(w != NULL && pthread_barrier_init(&begin, NULL, nthreads) == 0,
	    "making threads");
	for (i = 0; i < nthreads; i++) {
		w[i].index = i;
		w[i].of = nthreads;
		w[i].part = part;
		w[i].begin = &begin;
		must(pthread_create(&thread[i], NULL, work, &w[i]) == 0,
		    "pthread_create");
	}
	for (i = 0; i < nthreads; i++)
		pthread_join(thread[i], NULL);
	for (i = 0; i < nthreads; i++)
		sum += w[i].took;
	pthread_barrier_destroy(&begin);
	free(w);
	return sum / nthreads;
}

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double
rate(unsigned nthreads, void (*part)(struct worker *, unsigned))
{
	double took[ROUNDS];
	int i;

	for (i = 0; i < ROUNDS; i++)
		took[i] = seconds(nthreads, part);
	qsort(took, ROUNDS, sizeof(took[0]), by_value);
	return (double)nsample * CHUNK / 1e9 / took[ROUNDS / 2];
}

static double
disk_rate(const char *path)
{
	double start;
	size_t done, n;
	unsigned i = 0;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd == -1)
		err(1, "%s", path);
	start = now(CLOCK_MONOTONIC);
	for (done = 0; done < DISK_BYTES; done += n) {
		n = i + 16 <= nsample ? 16 * CHUNK : CHUNK;
		if (write(fd, sample[i], n) != (ssize_t)n)
			err(1, "%s: write", path);
		i = (i + (unsigned)(n / CHUNK)) % nsample;
	}
	if (fdatasync(fd) != 0)
		err(1, "%s: fdatasync", path);
	start = now(CLOCK_MONOTONIC) - start;
	close(fd);
	unlink(path);
	return DISK_BYTES / 1e9 / start;
}

/* --- the sample */

/* The next offset that may hold data, or -1. */
static off_t
next_data(int fd, off_t at, off_t size)
{
	at = lseek(fd, at, SEEK_DATA);
	if (at == -1 && errno != ENXIO)
		err(1, "SEEK_DATA");
	at = at == -1 ? -1 : at / CHUNK * CHUNK;
	return at + CHUNK > size ? -1 : at;
}

/* From all over the disk, and no zeroes: nobody hashes or sends those. */
static void
load(const char *path)
{
	static const uint8_t zero[CHUNK];
	struct stat st;
	off_t at;
	uint64_t nth = 0, every;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd == -1 || fstat(fd, &st) != 0)
		err(1, "%s", path);
	sample = calloc(SAMPLE_MAX, CHUNK);
	packed = calloc(SAMPLE_MAX, sizeof(*packed));
	must(sample != NULL && packed != NULL, "calloc");
	every = (uint64_t)st.st_blocks * 512 / CHUNK / SAMPLE_MAX + 1;
	for (at = 0; nsample < SAMPLE_MAX; at += CHUNK) {
		at = next_data(fd, at, st.st_size);
		if (at == -1)
			break;
		if (nth++ % every != 0)
			continue;
		if (pread(fd, sample[nsample], CHUNK, at) != CHUNK)
			err(1, "%s: read", path);
		nsample += memcmp(sample[nsample], zero, CHUNK) != 0;
	}
	must(nsample != 0, "finding data on the disk");
	close(fd);
}

int
main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*part)(struct worker *, unsigned);
	} parts[] = {
		{ "sha256", part_sha256 },
		{ "sha512_256", part_sha512_256 },
		{ "compress", part_compress }, /* fills what is next */
		{ "decompress", part_decompress },
		{ "aes128gcm", part_gcm },
		{ "memcpy", part_memcpy },
	};
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned i,
	    ncores = n < 1    ? 1
	    : n > THREADS_MAX ? THREADS_MAX
			      : (unsigned)n;
	size_t small = 0;

	if (argc != 3)
		errx(2, "usage: limits DISK SCRATCH-FILE");
	load(argv[1]);
	printf("{\"sample\": %zu, \"level\": %d", (size_t)nsample * CHUNK,
	    CODEC_LEVEL_DEFAULT);
	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		printf(", \"%s\": {\"one\": %.3f, \"all\": %.3f}",
		    parts[i].name, rate(1, parts[i].part),
		    rate(ncores, parts[i].part));
	for (i = 0; i < nsample; i++)
		small += packed[i].len != 0 ? packed[i].len : CHUNK;
	printf(", \"ratio\": %.3f, \"disk_write\": %.3f}\n",
	    (double)nsample * CHUNK / (double)small, disk_rate(argv[2]));
	free(packed);
	free(sample);
	return 0;
}
