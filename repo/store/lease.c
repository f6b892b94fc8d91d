/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/store/lease.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "proto/name.h"
#include "proto/nfs/nfs3_file.h"

#define BOOT_ID "/proc/sys/kernel/random/boot_id"

enum {
	BOOT_ID_MAX = 64,
	HOLDER_LEN = 16,
	RECORD_LEN = 512, /* at least: it is written in place */
	RECORD_MAX = 4096,
	END_MS = 3000,  /* for the server to hear that it is given back */
	LOOK_MS = 1000, /* between looks at another's record */
	MISSED_MAX = 3, /* renewals that did not find the record */
	HOST_LEN = 65
};

struct record {
	char holder[2 * HOLDER_LEN + 1];
	char host[HOST_LEN];
	uint64_t beat;
	char since[TIME_TEXT_LEN + 1];
};

struct lease {
	struct nfs3 *n;
	char *url;
	int dirfd; /* the repository's; our own */
	struct record mine;
	struct nfs3_fh fh; /* of the file that we made for it */
	unsigned missed;   /* its thread only, as the next */
	bool failing;
	pthread_t thread;
	bool running;
	pthread_mutex_t mu;
	pthread_cond_t moved;
	uint64_t good_ms; /* guarded by mu: when the last renewal that
			     succeeded was begun */
	bool lost;        /* guarded by mu, as is the next */
	bool stop;
};

static int
record_parse(const void *text, size_t len, struct record *r)
{
	const char *holder, *host, *since;
	json_t *j;
	struct err e = { 0 };
	int rc;

	if (json_parse(text, len, &j, &e) != 0)
		return ERR_CORRUPT;
	rc = json_get_str(j, "holder", &holder, &e);
	if (rc == 0)
		rc = json_get_str(j, "host", &host, &e);
	if (rc == 0)
		rc = json_get_str(j, "since", &since, &e);
	if (rc == 0)
		rc = json_get_u64(j, "beat", &r->beat, &e);
	if (rc == 0) {
		snprintf(r->holder, sizeof(r->holder), "%s", holder);
		snprintf(r->host, sizeof(r->host), "%s", host);
		snprintf(r->since, sizeof(r->since), "%s", since);
	}
	json_decref(j);
	return rc == 0 ? 0 : ERR_CORRUPT;
}

static void
record_print(const struct record *r, struct buf *out)
{
	json_t *j = json_object();

	json_set_str(j, "holder", r->holder);
	json_set_str(j, "host", r->host);
	json_set_str(j, "since", r->since);
	json_set_u64(j, "beat", r->beat);
	json_print(j, out);
	buf_u8(out, '\n');
	json_decref(j);
}

/* ERR_NOENT: nobody has it; ERR_CORRUPT: nobody can tell who. */
static int
record_read(struct lease *l, const char *name, struct record *r)
{
	struct nfs3_attr attr;
	struct nfs3_file *f;
	struct nfs3_fh fh;
	char text[RECORD_MAX];
	size_t len;
	int rc;

	rc = nfs3_lookup(l->n, nfs3_root(l->n), name, &fh, &attr);
	if (rc != 0)
		return rc;
	f = nfs3_file_new(l->n, &fh, attr.size, false);
	rc = nfs3_file_read(f, text, sizeof(text), 0, &len);
	nfs3_file_free(f);
	/* Taken away between the two. */
	if (rc == ERR_CLOSED)
		return ERR_NOENT;
	return rc != 0 ? rc : record_parse(text, len, r);
}

/* To the file that we made, whatever its name leads to by now. */
static int
record_write(struct lease *l)
{
	struct buf text = { 0 };
	int rc;

	record_print(&l->mine, &text);
	while (text.len < RECORD_LEN)
		buf_u8(&text, '\n');
	rc = nfs3_put(l->n, &l->fh, text.data, (uint32_t)text.len);
	buf_fini(&text);
	return rc;
}

/*
 * The local file has the last holder and which folder it was: a copy of the
 * folder elsewhere has another number, and so does not pass for it; a copy of
 * the whole machine has another boot, as has this one after a crash of all of
 * it, which then waits.
 */
static void
local_print(int dirfd, const char *holder, char *out, size_t len)
{
	struct buf boot = { 0 };
	struct stat st;
	char host[HOST_LEN] = "";

	gethostname(host, sizeof(host) - 1);
	if (fstat(dirfd, &st) == -1)
		memset(&st, 0, sizeof(st));
	file_read(AT_FDCWD, BOOT_ID, BOOT_ID_MAX, &boot);
	snprintf(out, len, "%s %s %llu %.*s\n", holder, host,
	    (unsigned long long)st.st_ino, (int)strcspn(buf_cstr(&boot), "\n"),
	    buf_cstr(&boot));
	buf_fini(&boot);
}

static bool
was_ours(int dirfd, const char *holder)
{
	struct buf text = { 0 };
	char expect[256];
	bool same = false;

	local_print(dirfd, holder, expect, sizeof(expect));
	if (file_read(dirfd, LEASE_FILE, sizeof(expect), &text) == 0)
		same = strcmp(buf_cstr(&text), expect) == 0;
	buf_fini(&text);
	return same;
}

static void
nap(unsigned ms)
{
	nanosleep(&(struct timespec){ ms / 1000, (long)(ms % 1000) * 1000000L },
	    NULL);
}

static int
busy(const struct lease *l, const struct record *r, struct err *e)
{
	if (*r->holder == 0)
		return err_set(e, ERR_BUSY,
		    "%s: another daemon is about to take the packs; stop it "
		    "first, or try again in a moment",
		    l->url);
	return err_set(e, ERR_BUSY,
	    "%s: the packs are in use by a daemon on %s since %s; stop it "
	    "first, or, if it is gone for good, try again in a moment",
	    l->url, r->host, r->since);
}

static bool
same_record(const struct record *a, const struct record *b)
{
	return strcmp(a->holder, b->holder) == 0 && a->beat == b->beat;
}

/* Whether whoever the record names, or whoever wrote one that cannot be read
 * (all zero), is at work. */
static int
wait_for_silence(struct lease *l, struct record *r, struct err *e)
{
	uint64_t until = now_ms() + LEASE_MS;
	struct record now;
	int rc;

	log_info("%s: was used by a daemon on %s; waiting for %d s to see "
		 "whether it is still at work",
	    l->url, *r->host != 0 ? r->host : "another host", LEASE_MS / 1000);
	while (now_ms() < until) {
		nap(LOOK_MS);
		memset(&now, 0, sizeof(now));
		rc = record_read(l, LEASE_FILE, &now);
		if (rc != 0 && rc != ERR_CORRUPT)
			return rc;
		if (!same_record(&now, r))
			return busy(l, &now, e);
	}
	return 0;
}

/*
 * The old record is taken away by a rename: of several who want it one has it
 * then.  Who held it may just have come back and renewed it: either we see that
 * here, and put it back, or he, who looks for the name after each renewal, does
 * not find it.
 */
static int
take_away(struct lease *l, const struct record *judged, struct err *e)
{
	const struct nfs3_fh *dir = nfs3_root(l->n);
	char name[sizeof(LEASE_ASIDE) + 2 * HOLDER_LEN];
	struct record r = { .beat = 0 };
	int rc;

	snprintf(name, sizeof(name), LEASE_ASIDE "%s", l->mine.holder);
	rc = nfs3_rename(l->n, dir, LEASE_FILE, dir, name, NULL);
	if (rc == ERR_NOENT)
		return busy(l, judged, e);
	if (rc == 0)
		rc = record_read(l, name, &r);
	if (rc != 0 && rc != ERR_CORRUPT)
		return rc;
	if (!same_record(&r, judged)) {
		nfs3_rename(l->n, dir, name, dir, LEASE_FILE, NULL);
		return busy(l, &r, e);
	}
	rc = nfs3_remove(l->n, dir, name);
	return rc == ERR_NOENT ? 0 : rc;
}

/* A file that is new: what the one before us still sends goes to his own. */
static int
take(struct lease *l, struct err *e)
{
	uint8_t id[HOLDER_LEN];
	char local[256];
	struct record r = { .beat = 0 };
	int rc;
	bool there;

	rc = record_read(l, LEASE_FILE, &r);
	there = rc == 0 || rc == ERR_CORRUPT;
	if (there && (rc != 0 || !was_ours(l->dirfd, r.holder))) {
		rc = wait_for_silence(l, &r, e);
		there = rc == 0;
	}
	if (rc != 0 && rc != ERR_NOENT)
		return rc;
	random_bytes(id, sizeof(id));
	hex(id, sizeof(id), l->mine.holder);
	gethostname(l->mine.host, sizeof(l->mine.host) - 1);
	time_print((uint64_t)time(NULL), l->mine.since);
	l->mine.beat = 1;
	/* First that it is ours if it is: a crash between is then no wait. */
	local_print(l->dirfd, l->mine.holder, local, sizeof(local));
	rc = file_replace(l->dirfd, LEASE_FILE, local, strlen(local), 0600);
	if (rc == 0 && there)
		rc = take_away(l, &r, e);
	if (rc != 0)
		return rc;
	rc = nfs3_create(l->n, nfs3_root(l->n), LEASE_FILE, 0600, &l->fh);
	if (rc == ERR_EXIST)
		return busy(l, &r, e);
	if (rc != 0)
		return rc;
	l->good_ms = now_ms();
	rc = record_write(l);
	if (rc == 0)
		rc = record_read(l, LEASE_FILE, &r);
	if (rc == 0 && strcmp(r.holder, l->mine.holder) != 0)
		return busy(l, &r, e);
	return rc;
}

/* 0; ERR_BUSY: it is another's now.  First written, then looked for by its
 * name: see take_away. */
static int
renew(struct lease *l)
{
	struct record r = { .beat = 0 };
	int rc;

	l->mine.beat++;
	rc = record_write(l);
	/* ERR_CLOSED: the file is gone, and who has it is seen by its name. */
	if (rc == 0 || rc == ERR_CLOSED)
		rc = record_read(l, LEASE_FILE, &r);
	if (rc == 0 && strcmp(r.holder, l->mine.holder) != 0) {
		log_error("%s: a daemon on %s has taken these packs; this one "
			  "changes nothing more: stop one of the two",
		    l->url, r.host);
		return ERR_BUSY;
	}
	l->missed = rc == ERR_NOENT || rc == ERR_CORRUPT ? l->missed + 1 : 0;
	if (l->missed < MISSED_MAX)
		return rc;
	log_error("%s: the file \"" LEASE_FILE "\" was taken away; this daemon "
		  "changes nothing more: look who uses these packs, and start "
		  "it anew",
	    l->url);
	return ERR_BUSY;
}

/* Once that it goes wrong, and once that it is well again. */
static void
tell(struct lease *l, int rc)
{
	char why[160];

	if (rc != 0 && rc != ERR_BUSY && !l->failing)
		log_error("%s: nothing is changed until it is certain that the "
			  "packs are still ours: %s",
		    l->url,
		    rc == ERR_TIMEOUT ? nfs3_trouble(l->n, why, sizeof(why))
				      : "the file \"" LEASE_FILE
					"\" is not to be had");
	else if (rc == 0 && l->failing)
		log_info("%s: is back", l->url);
	l->failing = rc != 0;
}

static void *
lease_main(void *arg)
{
	struct lease *l = arg;
	struct timespec t;
	uint64_t began;
	int rc;

	pthread_mutex_lock(&l->mu);
	while (!l->stop && !l->lost) {
		clock_gettime(CLOCK_MONOTONIC, &t);
		t.tv_sec += LEASE_RENEW_MS / 1000;
		pthread_cond_timedwait(&l->moved, &l->mu, &t);
		if (l->stop)
			break;
		pthread_mutex_unlock(&l->mu);
		began = now_ms();
		rc = renew(l);
		tell(l, rc);
		pthread_mutex_lock(&l->mu);
		if (rc == 0)
			l->good_ms = began;
		else if (rc == ERR_BUSY)
			l->lost = true;
		nfs3_changes_until(
		    l->n, l->lost ? 0 : l->good_ms + LEASE_HOLD_MS);
		pthread_cond_broadcast(&l->moved);
	}
	pthread_mutex_unlock(&l->mu);
	return NULL;
}

int
lease_check(struct lease *l)
{
	uint64_t until = nfs3_deadline(l->n), now;
	struct timespec t;
	int rc = 0;

	pthread_mutex_lock(&l->mu);
	while (!l->lost && !l->stop &&
	    (now = now_ms()) - l->good_ms >= LEASE_HOLD_MS && rc == 0) {
		if (now >= until)
			rc = ERR_TIMEOUT;
		clock_gettime(CLOCK_MONOTONIC, &t);
		t.tv_sec++;
		pthread_cond_timedwait(&l->moved, &l->mu, &t);
	}
	if (l->lost)
		rc = ERR_SYS;
	pthread_mutex_unlock(&l->mu);
	return rc;
}

int
lease_begin(struct nfs3 *n, int dirfd, const char *url, struct lease **out,
    struct err *e)
{
	struct lease *l = xcalloc(1, sizeof(*l));
	pthread_condattr_t monotonic;
	int rc;

	l->n = n;
	l->url = xstrdup(url);
	l->dirfd = fcntl(dirfd, F_DUPFD_CLOEXEC, 0);
	pthread_mutex_init(&l->mu, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&l->moved, &monotonic);
	pthread_condattr_destroy(&monotonic);
	rc = take(l, e);
	if (rc == 0)
		nfs3_changes_until(n, l->good_ms + LEASE_HOLD_MS);
	if (rc == 0 && pthread_create(&l->thread, NULL, lease_main, l) != 0)
		rc = ERR_SYS;
	if (rc != 0) {
		if (e->code == 0)
			err_set(e, rc, "%s: the lease: %s", url, err_name(rc));
		lease_end(l);
		return rc;
	}
	l->running = true;
	*out = l;
	return 0;
}

void
lease_end(struct lease *l)
{
	struct record r;

	if (l == NULL)
		return;
	pthread_mutex_lock(&l->mu);
	l->stop = true;
	pthread_cond_broadcast(&l->moved);
	pthread_mutex_unlock(&l->mu);
	if (l->running) {
		nfs3_hurry(l->n, END_MS);
		pthread_join(l->thread, NULL);
		if (record_read(l, LEASE_FILE, &r) == 0 &&
		    strcmp(r.holder, l->mine.holder) == 0)
			nfs3_remove(l->n, nfs3_root(l->n), LEASE_FILE);
	}
	close(l->dirfd);
	pthread_cond_destroy(&l->moved);
	pthread_mutex_destroy(&l->mu);
	free(l->url);
	free(l);
}
