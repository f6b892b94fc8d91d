/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/numbers.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/base/crc32c.h"
#include "proto/base/io.h"
#include "proto/base/log.h"
#include "proto/name.h"

#define HEAD "backstay-jobs 1 "

enum { FILE_MAX = 80 };

struct numbers {
	int dirfd;
	bool lost; /* set by numbers_open */
	pthread_mutex_t mu;
	uint64_t next;     /* guarded by mu, */
	uint64_t reserved; /* with this: numbers below may be given */
	uint64_t durable;  /* and this: numbers below are never given again */
};

static int
print(char out[FILE_MAX], uint64_t next)
{
	int n = snprintf(out, FILE_MAX, HEAD "%" PRIu64 " ", next);

	return n +
	    snprintf(out + n, FILE_MAX - (size_t)n, "%08x\n",
		(unsigned)crc32c(0, out, (size_t)n));
}

/* There is one text for each number, so all others are none. */
static bool
parse(const struct buf *b, uint64_t *next)
{
	char text[FILE_MAX], again[FILE_MAX], *end;
	int n;

	if (b->len >= sizeof(text) || b->len <= strlen(HEAD))
		return false;
	memcpy(text, b->data, b->len);
	text[b->len] = 0;
	end = strchr(text + strlen(HEAD), ' ');
	if (end == NULL)
		return false;
	*end = 0;
	if (number_parse(text + strlen(HEAD), 1, NUMBERS_MAX, next) != 0)
		return false;
	n = print(again, *next);
	return (size_t)n == b->len && memcmp(again, b->data, b->len) == 0;
}

struct numbers *
numbers_open(int dirfd)
{
	struct numbers *n = xcalloc(1, sizeof(*n));
	struct buf b = { 0 };
	int rc;

	n->dirfd = dirfd;
	n->next = 1;
	pthread_mutex_init(&n->mu, NULL);
	rc = file_read(dirfd, NUMBERS_FILE, FILE_MAX, &b);
	if (rc != 0 || !parse(&b, &n->next)) {
		n->lost = true;
		n->next = 1;
	}
	if (n->lost && rc != ERR_NOENT)
		log_error(NUMBERS_FILE ": it is damaged or cannot be read");
	n->reserved = n->durable = n->next;
	buf_fini(&b);
	return n;
}

/* mu is held, or nobody else is there. */
static int
keep(struct numbers *n, uint64_t next)
{
	char text[FILE_MAX];
	int len = print(text, next);
	int rc = file_replace(n->dirfd, NUMBERS_FILE, text, (size_t)len, 0600);

	if (rc == 0)
		n->durable = next;
	return rc;
}

void
numbers_close(struct numbers *n)
{
	if (n == NULL)
		return;
	/* Else the next start only leaves out the rest of the block. */
	if (n->next != n->durable && keep(n, n->next) != 0)
		log_info(NUMBERS_FILE ": it stays as it is");
	pthread_mutex_destroy(&n->mu);
	free(n);
}

bool
numbers_lost(const struct numbers *n)
{
	return n->lost;
}

void
numbers_known(struct numbers *n, uint64_t last, bool used)
{
	uint64_t next = n->next;

	if (last >= next && last < NUMBERS_MAX)
		next = last + 1;
	if (n->lost && used)
		next += NUMBERS_LEAP;
	if (next != n->next)
		log_info(NUMBERS_FILE ": %s; the next job is number %" PRIu64,
		    n->lost ? "it was not there to go by"
			    : "it is older than jobs that are known",
		    next);
	n->next = n->reserved = next;
	if (n->durable < next)
		n->durable = next;
}

uint64_t
numbers_next(struct numbers *n)
{
	uint64_t id;

	pthread_mutex_lock(&n->mu);
	if (n->next == n->reserved) {
		n->reserved = n->next + NUMBERS_BLOCK;
		if (keep(n, n->reserved) != 0) {
			log_error(NUMBERS_FILE
			    ": it cannot be written: after a crash, numbers "
			    "of jobs from %" PRIu64 " on may come again",
			    n->next);
			n->reserved = n->next + NUMBERS_AGAIN;
		}
	}
	id = n->next++;
	pthread_mutex_unlock(&n->mu);
	return id;
}
