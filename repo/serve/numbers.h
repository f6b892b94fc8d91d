/* SPDX-License-Identifier: Apache-2.0 */
/*
 * numbers: what jobs are called, over all starts of the daemon: each number
 * once.  They are reserved in blocks in REPO/jobs.next, FORMAT.md 11, before
 * the first of them is given.
 */
#ifndef REPO_SERVE_NUMBERS_H
#define REPO_SERVE_NUMBERS_H

#include <stdbool.h>
#include <stdint.h>

#define NUMBERS_FILE "jobs.next"
#define NUMBERS_MAX ((uint64_t)1 << 53) /* JSON of others has doubles */

enum {
	NUMBERS_BLOCK = 1000,  /* of which a crash may skip what is left */
	NUMBERS_LEAP = 100000, /* past those that nobody knows any more */
	NUMBERS_AGAIN = 20     /* numbers until the next try to write */
};

struct numbers;

/** numbers_open(dirfd): goes on where REPO/jobs.next says; ${dirfd} outlives
 * it.  numbers_close(n): nobody takes numbers any more; what is left of the
 * block is there for the next start.  NULL is nothing. */
struct numbers *numbers_open(int dirfd);
void numbers_close(struct numbers *n);

/** numbers_lost(n): there was no such file, or none that could be read. */
bool numbers_lost(const struct numbers *n);

/** numbers_known(n, last, used): before the first numbers_next: ${last} was
 * given, as is known from elsewhere; 0: none.  ${used}: the repository had jobs
 * before, though it may not be known which. */
void numbers_known(struct numbers *n, uint64_t last, bool used);

/** numbers_next(n): one that was never given.  Any thread, without a lock: for
 * the first of a block it syncs a small file.  If that cannot be written it is
 * logged and the numbers go on: a full volume must still take deletes. */
uint64_t numbers_next(struct numbers *n);

#endif
