/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/keyring.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/base/io.h"
#include "proto/base/log.h"

struct keyset {
	atomic_uint refs;
	struct auth auth;
};

/* By name, not by key: it outlives readings of the file. */
struct usage {
	struct usage *next;
	char name[NAME_PART_MAX + 1];
	unsigned refs; /* lanes and jobs: freed at 0; all guarded by mu */
	unsigned lanes[LANE_SERVES + 1];
	unsigned jobs;
};

/* What tells one state of the file from another. */
struct stamp {
	bool there;
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime;
};

struct keyring {
	int dirfd;
	pthread_mutex_t mu;
	struct keyset *now;  /* guarded by mu */
	struct stamp stamp;  /* guarded by mu */
	struct usage *usage; /* guarded by mu */
};

static struct stamp
look(int dirfd)
{
	struct stamp s;
	struct stat st;

	memset(&s, 0, sizeof(s));
	if (fstatat(dirfd, AUTH_FILE, &st, 0) == -1)
		return s;
	s.there = true;
	s.dev = st.st_dev;
	s.ino = st.st_ino;
	s.size = st.st_size;
	s.mtime = st.st_mtim;
	return s;
}

static bool
stamp_equal(const struct stamp *a, const struct stamp *b)
{
	return a->there == b->there && a->dev == b->dev && a->ino == b->ino &&
	    a->size == b->size && a->mtime.tv_sec == b->mtime.tv_sec &&
	    a->mtime.tv_nsec == b->mtime.tv_nsec;
}

static int
read_keys(int dirfd, struct keyset **out, struct err *e)
{
	struct buf text = { 0 };
	struct keyset *s;
	struct auth a = { 0 };
	int rc;

	rc = file_read(dirfd, AUTH_FILE, AUTH_FILE_MAX, &text);
	if (rc == 0)
		rc = auth_parse(
		    (const char *)text.data, text.len, AUTH_FILE, &a, e);
	else if (rc == ERR_LIMIT)
		rc = err_set(e, ERR_INVAL, AUTH_FILE ": the file is too long");
	else if (rc == ERR_NOENT)
		rc = 0;
	else
		err_set(e, rc, AUTH_FILE ": cannot be read");
	buf_fini(&text);
	if (rc != 0)
		return rc;
	s = xcalloc(1, sizeof(*s));
	atomic_init(&s->refs, 1);
	s->auth = a;
	*out = s;
	return 0;
}

int
keyring_open(int dirfd, struct keyring **out, struct err *e)
{
	struct keyring *k = xcalloc(1, sizeof(*k));
	int rc;

	k->dirfd = dirfd;
	pthread_mutex_init(&k->mu, NULL);
	/* Before reading: what changes in between is then read again. */
	k->stamp = look(dirfd);
	rc = read_keys(dirfd, &k->now, e);
	if (rc != 0) {
		keyring_close(k);
		return rc;
	}
	*out = k;
	return 0;
}

void
keyring_close(struct keyring *k)
{
	if (k == NULL)
		return;
	keyset_put(k->now);
	pthread_mutex_destroy(&k->mu);
	free(k);
}

bool
keyring_refresh(struct keyring *k)
{
	struct keyset *s = NULL, *old = NULL;
	struct stamp now;
	struct err e;
	int rc;

	pthread_mutex_lock(&k->mu);
	now = look(k->dirfd);
	if (stamp_equal(&now, &k->stamp)) {
		pthread_mutex_unlock(&k->mu);
		return false;
	}
	k->stamp = now;
	rc = read_keys(k->dirfd, &s, &e);
	if (rc == 0) {
		old = k->now;
		k->now = s;
	}
	pthread_mutex_unlock(&k->mu);
	if (rc != 0) {
		log_error("%s; the keys stay as they were before", e.text);
		return false;
	}
	log_info("%s: %zu keys", AUTH_FILE, s->auth.n);
	keyset_put(old);
	return true;
}

struct keyset *
keyring_get(struct keyring *k)
{
	struct keyset *s;

	pthread_mutex_lock(&k->mu);
	s = k->now;
	atomic_fetch_add(&s->refs, 1);
	pthread_mutex_unlock(&k->mu);
	return s;
}

void
keyset_put(struct keyset *s)
{
	if (s == NULL || atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	auth_fini(&s->auth);
	free(s);
}

const struct auth *
keyset_auth(const struct keyset *s)
{
	return &s->auth;
}

const struct auth_key *
keyset_console(void)
{
	static const struct auth_key console = { .name = "console",
		.type = "local",
		.roles = ROLE_ADMIN,
		.lanes = 64,
		.jobs = AUTH_JOBS_MAX };

	return &console;
}

/*
 * The console's own usage must not be a key's that is called "console" too:
 * told apart by a name that no key can have.
 */
static const char *
usage_name(const struct auth_key *key)
{
	return key == keyset_console() ? "" : key->name;
}

static int
too_many(const struct auth_key *key, unsigned n, struct err *e)
{
	return err_set(e, ERR_LIMIT,
	    "key %s has %u lanes open, and may not have more", key->name, n);
}

int
keyring_lane_begin(struct keyring *k, const struct auth_key *key,
    struct usage **out, struct err *e)
{
	const char *name = usage_name(key);
	struct usage *u;
	int rc = 0;

	pthread_mutex_lock(&k->mu);
	for (u = k->usage; u != NULL; u = u->next)
		if (strcmp(u->name, name) == 0)
			break;
	if (u != NULL && u->lanes[LANE_FRESH] >= key->lanes) {
		rc = too_many(key, u->lanes[LANE_FRESH], e);
	} else {
		if (u == NULL) {
			u = xcalloc(1, sizeof(*u));
			memcpy(u->name, name, strlen(name) + 1);
			u->next = k->usage;
			k->usage = u;
		}
		u->lanes[LANE_FRESH]++;
		u->refs++;
		*out = u;
	}
	pthread_mutex_unlock(&k->mu);
	return rc;
}

int
keyring_lane_use(struct keyring *k, const struct auth_key *key, struct usage *u,
    enum lane_use from, enum lane_use to, struct err *e)
{
	unsigned most = to == LANE_SERVES ? KEYRING_SERVES_MAX : key->lanes;
	int rc = 0;

	pthread_mutex_lock(&k->mu);
	if (to != LANE_FRESH && u->lanes[to] >= most) {
		rc = too_many(key, u->lanes[to], e);
	} else {
		u->lanes[from]--;
		u->lanes[to]++;
	}
	pthread_mutex_unlock(&k->mu);
	return rc;
}

/* ${k} is locked. */
static void
usage_put(struct keyring *k, struct usage *u)
{
	struct usage **at;

	if (--u->refs > 0)
		return;
	for (at = &k->usage; *at != u; at = &(*at)->next)
		;
	*at = u->next;
	free(u);
}

void
keyring_lane_end(struct keyring *k, struct usage *u, enum lane_use use)
{
	pthread_mutex_lock(&k->mu);
	u->lanes[use]--;
	usage_put(k, u);
	pthread_mutex_unlock(&k->mu);
}

int
keyring_job_begin(struct keyring *k, const struct auth_key *key,
    struct usage *u, struct err *e)
{
	int rc = 0;

	pthread_mutex_lock(&k->mu);
	if (u->jobs >= key->jobs) {
		rc = err_set(e, ERR_LIMIT,
		    "key %s has %u jobs running, and may not have more",
		    key->name, u->jobs);
	} else {
		u->jobs++;
		u->refs++;
	}
	pthread_mutex_unlock(&k->mu);
	return rc;
}

void
keyring_job_end(struct keyring *k, struct usage *u)
{
	pthread_mutex_lock(&k->mu);
	u->jobs--;
	usage_put(k, u);
	pthread_mutex_unlock(&k->mu);
}
