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

enum {
	HOLDER_LEN = 16,
	RECORD_MAX = 4096,
	END_MS = 3000,   /* for the server to hear that it is given back */
	LOOK_MS = 1000,  /* between looks at another's record */
	SETTLE_MS = 500, /* two who begin at once: the later one has it */
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
record_read(struct lease *l, struct record *r, struct nfs3_fh *fh)
{
	struct nfs3_attr attr;
	struct nfs3_file *f;
	char text[RECORD_MAX];
	size_t len;
	int rc;

	rc = nfs3_lookup(l->n, nfs3_root(l->n), LEASE_FILE, fh, &attr);
	if (rc != 0)
		return rc;
	f = nfs3_file_new(l->n, fh, attr.size, false);
	rc = nfs3_file_read(f, text, sizeof(text), 0, &len);
	nfs3_file_free(f);
	return rc != 0 ? rc : record_parse(text, len, r);
}

/* In place: the record grows by a digit now and then, and never shrinks. */
static int
record_write(struct lease *l)
{
	struct buf text = { 0 };
	struct nfs3_file *f;
	struct nfs3_fh fh;
	struct iovec iov;
	int rc;

	record_print(&l->mine, &text);
	rc = nfs3_lookup(l->n, nfs3_root(l->n), LEASE_FILE, &fh, NULL);
	if (rc == ERR_NOENT)
		rc = nfs3_create(l->n, nfs3_root(l->n), LEASE_FILE, 0600, &fh);
	if (rc == 0) {
		f = nfs3_file_new(l->n, &fh, 0, false);
		iov = (struct iovec){ text.data, text.len };
		rc = nfs3_file_write(f, &iov, 1, 0);
		if (rc == 0)
			rc = nfs3_file_sync(f);
		if (rc == 0)
			rc = nfs3_file_cut(f, text.len);
		nfs3_file_free(f);
	}
	buf_fini(&text);
	return rc;
}

/*
 * The local file has the last holder and which folder it was: a copy of the
 * folder elsewhere has another number, and so does not pass for it.
 */
static void
local_print(int dirfd, const char *holder, char *out, size_t len)
{
	struct stat st;
	char host[HOST_LEN] = "";

	gethostname(host, sizeof(host) - 1);
	if (fstat(dirfd, &st) == -1)
		memset(&st, 0, sizeof(st));
	snprintf(out, len, "%s %s %llu\n", holder, host,
	    (unsigned long long)st.st_ino);
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
	return err_set(e, ERR_BUSY,
	    "%s: the packs are in use by a daemon on %s since %s; stop it "
	    "first, or, if it is gone for good, try again in a moment",
	    l->url, r->host, r->since);
}

/* Whether whoever the record names is at work. */
static int
wait_for_silence(struct lease *l, struct record *r, struct err *e)
{
	uint64_t until = now_ms() + LEASE_MS, beat = r->beat;
	struct nfs3_fh fh;
	int rc;

	log_info("%s: was used by a daemon on %s; waiting for %d s to see "
		 "whether it is still at work",
	    l->url, r->host, LEASE_MS / 1000);
	while (now_ms() < until) {
		nap(LOOK_MS);
		rc = record_read(l, r, &fh);
		if (rc == ERR_NOENT)
			return 0;
		if (rc == 0 && r->beat != beat)
			return busy(l, r, e);
		if (rc != 0 && rc != ERR_CORRUPT)
			return rc;
	}
	return 0;
}

static int
take(struct lease *l, struct err *e)
{
	uint8_t id[HOLDER_LEN];
	char local[256];
	struct record r;
	struct nfs3_fh fh;
	int rc;

	rc = record_read(l, &r, &fh);
	if (rc == 0 && !was_ours(l->dirfd, r.holder))
		rc = wait_for_silence(l, &r, e);
	if (rc != 0 && rc != ERR_NOENT && rc != ERR_CORRUPT)
		return rc;
	random_bytes(id, sizeof(id));
	hex(id, sizeof(id), l->mine.holder);
	gethostname(l->mine.host, sizeof(l->mine.host) - 1);
	time_print((uint64_t)time(NULL), l->mine.since);
	l->mine.beat = 1;
	/* First that it is ours if it is: a crash between is then no wait. */
	local_print(l->dirfd, l->mine.holder, local, sizeof(local));
	rc = file_replace(l->dirfd, LEASE_FILE, local, strlen(local), 0600);
	if (rc != 0)
		return rc;
	l->good_ms = now_ms();
	rc = record_write(l);
	if (rc != 0)
		return rc;
	nap(SETTLE_MS);
	rc = record_read(l, &r, &fh);
	if (rc == 0 && strcmp(r.holder, l->mine.holder) != 0)
		return busy(l, &r, e);
	return rc;
}

/* 0; ERR_BUSY: it is another's now. */
static int
renew(struct lease *l)
{
	struct record r;
	struct nfs3_fh fh;
	int rc;

	rc = record_read(l, &r, &fh);
	/* Somebody cleaned up: nobody else has it. */
	if (rc == 0 && strcmp(r.holder, l->mine.holder) != 0) {
		log_error("%s: a daemon on %s has taken these packs; this one "
			  "changes nothing more: stop one of the two",
		    l->url, r.host);
		return ERR_BUSY;
	}
	if (rc != 0 && rc != ERR_NOENT)
		return rc;
	l->mine.beat++;
	return record_write(l);
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
		pthread_mutex_lock(&l->mu);
		if (rc == 0)
			l->good_ms = began;
		else if (rc == ERR_BUSY)
			l->lost = true;
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
	    (now = now_ms()) - l->good_ms >= LEASE_MS && rc == 0) {
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
	struct nfs3_fh fh;

	if (l == NULL)
		return;
	pthread_mutex_lock(&l->mu);
	l->stop = true;
	pthread_cond_broadcast(&l->moved);
	pthread_mutex_unlock(&l->mu);
	if (l->running) {
		pthread_join(l->thread, NULL);
		nfs3_patience(l->n, END_MS);
		if (nfs3_silent_ms(l->n) == 0 && record_read(l, &r, &fh) == 0 &&
		    strcmp(r.holder, l->mine.holder) == 0)
			nfs3_remove(l->n, nfs3_root(l->n), LEASE_FILE);
	}
	close(l->dirfd);
	pthread_cond_destroy(&l->moved);
	pthread_mutex_destroy(&l->mu);
	free(l->url);
	free(l);
}
