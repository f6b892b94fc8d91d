/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/retain/repotime.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "proto/name.h"

enum { CLOCK_VERSION = 1, CLOCK_FILE_MAX = 4096 };

struct repotime {
	int dirfd;
	struct repotime_source source;
	uint64_t began_s;  /* repository time, ... */
	uint64_t began_ms; /* ... when the steady clock showed this */
	pthread_mutex_t mu;
	uint64_t number;  /* guarded by mu, with all below */
	uint64_t kept_ms; /* when it was kept last */
	bool is_off;      /* as was reported */
};

static uint64_t
wall_s(void)
{
	return (uint64_t)time(NULL);
}

/* Goes on while the machine sleeps. */
static uint64_t
steady_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static const struct repotime_source system_source = { wall_s, steady_ms };

uint64_t
repotime_now(struct repotime *t)
{
	return t->began_s + (t->source.steady_ms() - t->began_ms) / 1000;
}

int64_t
repotime_off(struct repotime *t)
{
	return (int64_t)t->source.wall_s() - (int64_t)repotime_now(t);
}

/* With mu held. */
static int
keep(struct repotime *t)
{
	char text[TIME_TEXT_LEN + 1];
	json_t *j = json_object();
	struct buf b = { 0 };
	int rc;

	json_set_u64(j, "version", CLOCK_VERSION);
	json_set_str(j, "seen", time_print(repotime_now(t), text));
	json_set_u64(j, "number", t->number);
	json_print(j, &b);
	buf_add(&b, "\n", 1);
	rc = file_replace(t->dirfd, REPOTIME_FILE, b.data, b.len, 0600);
	if (rc == ERR_NOSPC)
		log_error("%s: no space to write it", REPOTIME_FILE);
	t->kept_ms = t->source.steady_ms();
	json_decref(j);
	buf_fini(&b);
	return rc;
}

/* 0; ERR_NOENT; or it is no such file, as ${e} says. */
static int
read_file(int dirfd, uint64_t *seen, uint64_t *number, struct err *e)
{
	struct buf b = { 0 };
	json_t *j = NULL;
	const char *text;
	uint64_t version;
	int rc;

	rc = file_read(dirfd, REPOTIME_FILE, CLOCK_FILE_MAX, &b);
	if (rc != 0) {
		err_set(e, rc, "it cannot be read");
		goto out;
	}
	rc = json_parse(b.data, b.len, &j, e);
	if (rc == 0)
		rc = json_get_u64(j, "version", &version, e);
	if (rc == 0 && version != CLOCK_VERSION)
		rc = err_set(
		    e, ERR_UNSUP, "its version is not %d", CLOCK_VERSION);
	if (rc == 0)
		rc = json_get_str(j, "seen", &text, e);
	if (rc == 0 && time_parse(text, seen) != 0)
		rc = err_set(e, ERR_PROTO, "\"seen\" is not a time");
	if (rc == 0)
		rc = json_get_u64(j, "number", number, e);
out:
	json_decref(j);
	buf_fini(&b);
	return rc;
}

static void
report(struct repotime *t, bool off)
{
	char now[TIME_TEXT_LEN + 1], wall[TIME_TEXT_LEN + 1];

	time_print(repotime_now(t), now);
	time_print(t->source.wall_s(), wall);
	if (off)
		log_error("the clock says %s, and repository time is %s: "
			  "backups grow old and locks end by the latter; "
			  "correct the clock (backstayd(8), TIME)",
		    wall, now);
	else
		log_info("the clock says %s, and repository time is %s: they "
			 "agree again",
		    wall, now);
}

bool
repotime_is_off(struct repotime *t)
{
	int64_t off = repotime_off(t);

	return off > REPOTIME_OFF_S || off < -REPOTIME_OFF_S;
}

/*
 * The wall clock says how long nobody looked.  What it says beyond the bound
 * it says of a machine that was off for very long, or whose clock is wrong: a
 * dead battery, a typing error.  Of the two mistakes, to let backups grow old
 * too late is the one that can be mended.
 */
static uint64_t
begin_at(uint64_t seen, uint64_t wall, uint64_t jump)
{
	if (seen == 0)
		return wall;
	if (wall < seen)
		return seen;
	return wall - seen <= jump ? wall : seen;
}

struct repotime *
repotime_open(const struct repotime_options *o)
{
	struct repotime *t = xcalloc(1, sizeof(*t));
	uint64_t seen = 0, wall;
	struct err why = { 0 };
	int rc;

	t->dirfd = o->dirfd;
	t->source = o->source != NULL ? *o->source : system_source;
	pthread_mutex_init(&t->mu, NULL);
	wall = t->source.wall_s();
	rc = read_file(o->dirfd, &seen, &t->number, &why);
	if (rc != 0) {
		if (rc != ERR_NOENT)
			log_error("%s: %s: repository time begins at the "
				  "newest backup",
			    REPOTIME_FILE, why.text);
		/* That backup's clock may have been wrong, too. */
		seen = o->floor < wall ? o->floor : wall;
		t->number = 0;
	}
	t->began_ms = t->source.steady_ms();
	t->began_s = begin_at(seen, wall, o->jump_s);
	t->is_off = repotime_is_off(t);
	if (t->is_off)
		report(t, true);
	keep(t);
	return t;
}

void
repotime_close(struct repotime *t)
{
	if (t == NULL)
		return;
	/* Where it fails less was seen, which harms nobody. */
	keep(t);
	pthread_mutex_destroy(&t->mu);
	free(t);
}

void
repotime_tick(struct repotime *t)
{
	bool off = repotime_is_off(t);

	pthread_mutex_lock(&t->mu);
	if (off != t->is_off) {
		t->is_off = off;
		report(t, off);
	}
	if (t->source.steady_ms() - t->kept_ms >= REPOTIME_KEEP_MS)
		keep(t);
	pthread_mutex_unlock(&t->mu);
}

uint64_t
repotime_number(struct repotime *t)
{
	uint64_t n;

	pthread_mutex_lock(&t->mu);
	n = t->number;
	pthread_mutex_unlock(&t->mu);
	return n;
}

int
repotime_count(struct repotime *t, uint64_t number)
{
	int rc = 0;

	pthread_mutex_lock(&t->mu);
	if (number > t->number) {
		t->number = number;
		rc = keep(t);
	}
	pthread_mutex_unlock(&t->mu);
	return rc;
}
