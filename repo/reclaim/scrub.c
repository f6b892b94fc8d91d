/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/reclaim/scrub.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/cond.h"
#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "repo/reclaim/scrub_pack.h"
#include "repo/store/store_impl.h"

#define STATE_FILE "scrub.json"

enum {
	STATE_MAX = 65536,
	IDLE_MS = 60000,
	PACE_BYTES = 1 << 20, /* a rest is considered so often */
	NICE = 10,
	IOPRIO_IDLE = 3 << 13 /* of linux/ioprio.h */
};

struct scrubber {
	struct store *s;
	struct scrub_options o;
	pthread_t thread;

	pthread_mutex_t file; /* one writes it at a time; before mu */
	pthread_mutex_t mu;
	pthread_cond_t changed; /* anything below */

	/* Guarded by mu. */
	bool stopping;
	bool asked;        /* for a pass */
	uint64_t retry_ms; /* not before, after a failure */
	struct scrub_status st;
	uint32_t next; /* pack; of a pass that runs */

	/* The thread's own. */
	uint64_t unpaid;   /* bytes since the last rest, */
	uint64_t since_ms; /* and when that was */
};

/* A clock that was set back must not put it off for ever. */
static bool
is_due(const struct scrubber *r)
{
	uint64_t now = (uint64_t)time(NULL);

	if (r->st.running || r->asked)
		return true;
	return r->o.interval_s != 0 &&
	    (now < r->st.finished || now - r->st.finished >= r->o.interval_s);
}

static void
save(struct scrubber *r)
{
	struct buf text = { 0 };
	json_t *j = json_object();

	pthread_mutex_lock(&r->file);
	pthread_mutex_lock(&r->mu);
	json_set_bool(j, "running", r->st.running);
	json_set_bool(j, "paused", r->st.paused);
	json_set_u64(j, "next", r->next);
	json_set_u64(j, "began", r->st.began);
	json_set_u64(j, "finished", r->st.finished);
	json_set_u64(j, "read", r->st.read);
	json_set_u64(j, "total", r->st.total);
	json_set_u64(j, "damaged", r->st.damaged);
	json_set_u64(j, "healed", r->st.healed);
	pthread_mutex_unlock(&r->mu);
	json_print(j, &text);
	json_decref(j);
	/* Without it a restart begins the pass anew, no worse. */
	if (file_replace(r->s->dirfd, STATE_FILE, text.data, text.len, 0600) !=
	    0)
		log_info(STATE_FILE ": cannot be written");
	pthread_mutex_unlock(&r->file);
	buf_fini(&text);
}

static void
load(struct scrubber *r)
{
	struct buf text = { 0 };
	uint64_t next = 0;
	struct err e = { 0 };
	json_t *j = NULL;
	int rc;

	rc = file_read(r->s->dirfd, STATE_FILE, STATE_MAX, &text);
	if (rc == ERR_NOENT) {
		r->st.finished = (uint64_t)time(NULL);
		goto out;
	}
	if (rc == 0)
		rc = json_parse(text.data, text.len, &j, &e);
	if (rc != 0 || json_opt_bool(j, "running", &r->st.running, &e) != 0 ||
	    json_opt_bool(j, "paused", &r->st.paused, &e) != 0 ||
	    json_opt_u64(j, "next", &next, &e) != 0 ||
	    json_opt_u64(j, "began", &r->st.began, &e) != 0 ||
	    json_opt_u64(j, "finished", &r->st.finished, &e) != 0 ||
	    json_opt_u64(j, "read", &r->st.read, &e) != 0 ||
	    json_opt_u64(j, "total", &r->st.total, &e) != 0 ||
	    json_opt_u64(j, "damaged", &r->st.damaged, &e) != 0 ||
	    json_opt_u64(j, "healed", &r->st.healed, &e) != 0 ||
	    next > UINT32_MAX) {
		log_info(STATE_FILE ": makes no sense: the store is read anew");
		r->st = (struct scrub_status){ 0 };
		next = 0;
	}
	r->next = (uint32_t)next;
out:
	json_decref(j);
	buf_fini(&text);
}

/* mu is held; it is given up while waiting. */
static void
wait_ms(struct scrubber *r, uint64_t ms)
{
	cond_wait_until(&r->changed, &r->mu, now_ms() + ms);
}

static bool
pace(void *arg, uint64_t read)
{
	struct scrubber *r = arg;
	uint64_t due_ms;
	bool go;

	r->unpaid += read;
	pthread_mutex_lock(&r->mu);
	r->st.read += read;
	while (r->unpaid >= PACE_BYTES && !r->stopping && !r->st.paused) {
		uint64_t now = now_ms();

		due_ms = r->since_ms + r->unpaid * 1000 / r->st.rate;
		if (now >= due_ms) {
			r->unpaid = 0;
			r->since_ms = now;
			break;
		}
		wait_ms(r, due_ms - now);
	}
	go = !r->stopping && !r->st.paused;
	pthread_mutex_unlock(&r->mu);
	return go;
}

/* The pack with the lowest number from ${next} on. */
struct choice {
	uint32_t next;
	bool any;
	struct pack_info info;
	uint64_t total;
};

static void
see_pack(void *arg, const struct pack_info *info)
{
	struct choice *c = arg;

	if (info->state != PACK_DEAD)
		c->total += info->known;
	if (info->number < c->next || info->state == PACK_DEAD ||
	    (c->any && info->number > c->info.number))
		return;
	c->any = true;
	c->info = *info;
}

/* The second of two twins was read with the first. */
static bool
was_read(struct scrubber *r, const struct pack_info *p)
{
	struct pack_info twin;

	return p->mirror != 0 && p->mirror < p->number &&
	    packs_get(r->s->packs, p->mirror, &twin) == 0 &&
	    twin.state != PACK_DEAD;
}

static int
one_pack(struct scrubber *r, const struct pack_info *p)
{
	struct scrub_pack_options o = { .pace = pace, .arg = r };
	struct scrub_pack_result out = { 0 };
	uint8_t key[HASH_KEY_LEN];
	bool keyed = false;
	int rc;

	o.hash = p->type == PACK_DATA &&
	    r->o.key(r->o.arg, p->domain, key, &keyed) == 0;
	o.key = keyed ? key : NULL;
	rc = scrub_pack(r->s, p, &o, &out);
	explicit_bzero(key, sizeof(key));
	pthread_mutex_lock(&r->mu);
	r->st.damaged += out.damaged;
	r->st.healed += out.healed;
	pthread_mutex_unlock(&r->mu);
	return rc;
}

static void
begin(struct scrubber *r, uint64_t total)
{
	pthread_mutex_lock(&r->mu);
	r->asked = false;
	if (!r->st.running) {
		r->next = 0;
		r->st.running = true;
		r->st.began = (uint64_t)time(NULL);
		r->st.read = r->st.damaged = r->st.healed = 0;
		r->st.total = total;
		log_info("scrub: a pass over the store begins");
	}
	r->since_ms = now_ms();
	r->unpaid = 0;
	pthread_mutex_unlock(&r->mu);
	save(r);
}

static void
finish(struct scrubber *r)
{
	ledger_settle(r->s->ledger); /* whoever sees the end sees the flags */
	pthread_mutex_lock(&r->mu);
	r->st.running = false;
	r->st.finished = (uint64_t)time(NULL);
	log_info("scrub: a pass has ended: %llu records were damaged, of which "
		 "%llu had a good copy",
	    (unsigned long long)r->st.damaged,
	    (unsigned long long)r->st.healed);
	pthread_mutex_unlock(&r->mu);
	save(r);
}

/* As far as it gets: 0, ERR_CLOSED (paused, or to stop), or what failed. */
static int
pass(struct scrubber *r)
{
	struct choice c = { .next = 0 };
	int rc = 0;

	packs_each(r->s->packs, see_pack, &c);
	begin(r, c.total);
	for (;;) {
		c = (struct choice){ .next = r->next };
		packs_each(r->s->packs, see_pack, &c);
		if (!c.any)
			break;
		if (!was_read(r, &c.info))
			rc = one_pack(r, &c.info);
		if (rc != 0)
			return rc;
		pthread_mutex_lock(&r->mu);
		r->next = c.info.number + 1;
		pthread_mutex_unlock(&r->mu);
		save(r);
	}
	finish(r);
	return 0;
}

static void *
scrubber_main(void *arg)
{
	struct scrubber *r = arg;
	int rc;

	/* Of this thread only; a courtesy to all others. */
	setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
	syscall(SYS_ioprio_set, 1, 0, IOPRIO_IDLE);
	pthread_mutex_lock(&r->mu);
	while (!r->stopping) {
		if (r->st.paused || !is_due(r) ||
		    (r->retry_ms != 0 && now_ms() < r->retry_ms)) {
			wait_ms(r, IDLE_MS);
			continue;
		}
		r->retry_ms = 0;
		pthread_mutex_unlock(&r->mu);
		rc = pass(r);
		pthread_mutex_lock(&r->mu);
		r->st.code = rc == ERR_CLOSED ? 0 : rc;
		if (rc != 0 && rc != ERR_CLOSED) {
			r->retry_ms = now_ms() + SCRUB_RETRY_MS;
			log_error("scrub: stopped: %s; it goes on in %d "
				  "minutes",
			    err_name(rc), SCRUB_RETRY_MS / 60000);
		}
		/* What a closing ledger says must not turn the thread. */
		if (rc == ERR_CLOSED && !r->stopping && !r->st.paused)
			wait_ms(r, 1000);
	}
	pthread_mutex_unlock(&r->mu);
	return NULL;
}

int
scrubber_start(
    struct store *s, const struct scrub_options *o, struct scrubber **out)
{
	struct scrubber *r = xcalloc(1, sizeof(*r));

	r->s = s;
	r->o = *o;
	load(r);
	r->st.rate = o->rate != 0 ? o->rate : SCRUB_RATE;
	r->st.interval_s = o->interval_s;
	pthread_mutex_init(&r->file, NULL);
	pthread_mutex_init(&r->mu, NULL);
	cond_init(&r->changed);
	if (r->st.finished != 0 && r->st.began == 0)
		save(r); /* the time of the first pass counts from here */
	errno = pthread_create(&r->thread, NULL, scrubber_main, r);
	if (errno != 0) {
		pthread_cond_destroy(&r->changed);
		pthread_mutex_destroy(&r->mu);
		pthread_mutex_destroy(&r->file);
		free(r);
		return log_sys("scrub: start its thread");
	}
	*out = r;
	return 0;
}

void
scrubber_stop(struct scrubber *r)
{
	if (r == NULL)
		return;
	pthread_mutex_lock(&r->mu);
	r->stopping = true;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->mu);
	pthread_join(r->thread, NULL);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->mu);
	pthread_mutex_destroy(&r->file);
	free(r);
}

void
scrubber_begin(struct scrubber *r)
{
	pthread_mutex_lock(&r->mu);
	r->asked = !r->st.running;
	r->st.paused = false;
	r->retry_ms = 0;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->mu);
}

void
scrubber_pause(struct scrubber *r, bool on)
{
	pthread_mutex_lock(&r->mu);
	r->st.paused = on;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->mu);
	save(r);
}

void
scrubber_rate(struct scrubber *r, uint64_t rate)
{
	pthread_mutex_lock(&r->mu);
	r->st.rate = rate != 0 ? rate : SCRUB_RATE;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->mu);
}

void
scrubber_interval(struct scrubber *r, uint64_t seconds)
{
	pthread_mutex_lock(&r->mu);
	r->o.interval_s = seconds;
	r->st.interval_s = seconds;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->mu);
}

void
scrubber_status(struct scrubber *r, struct scrub_status *out)
{
	pthread_mutex_lock(&r->mu);
	*out = r->st;
	out->running |= r->asked;
	pthread_mutex_unlock(&r->mu);
}
