/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/damage.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"

enum {
	RUNS_MAX = 8192, /* of a volume that are told: bounds the answer */
	HITS_MAX = 1000, /* backups, likewise */
	HIT_RUNS_MAX = 16,
	CALL_MS = 30000,
	ENOUGH = 1000 /* a visit's way to end; no code of err.h */
};

static int
add_run(void *arg, uint64_t slice, uint64_t n)
{
	json_t *list = arg, *run;

	if (json_array_size(list) == RUNS_MAX)
		return ENOUGH;
	run = json_array();
	json_array_append_new(run, json_integer((json_int_t)slice));
	json_array_append_new(run, json_integer((json_int_t)n));
	json_array_append_new(list, run);
	return 0;
}

json_t *
damage_of_volume(struct store *s, struct store_lane *l,
    const struct manifest_volume *v, uint64_t until_ms)
{
	json_t *list = json_array();
	struct err e = { 0 };

	if (store_damage(
		s, l, &v->root, v->size, until_ms, add_run, list, &e) == 0)
		return list;
	log_info("volume %s: %s", v->name,
	    e.text[0] != 0 ? e.text : "too much of it is damaged to tell");
	json_decref(list);
	return NULL;
}

/* The runs of one volume of a backup, as bytes. */
struct hit {
	json_t *runs;
	uint32_t chunk_size;
	uint64_t size;  /* of the volume */
	uint64_t bytes; /* hit in all */
};

static int
add_bytes(void *arg, uint64_t slice, uint64_t n)
{
	struct hit *h = arg;
	uint64_t from = slice * h->chunk_size, to = (slice + n) * h->chunk_size;

	if (to > h->size)
		to = h->size;
	h->bytes += to - from;
	if (json_array_size(h->runs) < HIT_RUNS_MAX) {
		json_t *run = json_object();

		json_set_u64(run, "from", from);
		json_set_u64(run, "len", to - from);
		json_array_append_new(h->runs, run);
	}
	return 0;
}

/* *out: NULL where the backup is not hit. */
static int
look_at(struct serve *srv, const struct manifest *m, uint64_t until_ms,
    json_t **out, struct err *e)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];
	json_t *volumes = json_array();
	struct store_lane *l;
	struct domain d;
	int rc;

	*out = NULL;
	rc = domains_get(srv->domains, m->domain, &d, e);
	if (rc != 0) {
		json_decref(volumes);
		return rc;
	}
	l = store_lane_new(srv->store, domain_key(&d));
	for (unsigned i = 0; rc == 0 && i < m->nvolumes; i++) {
		const struct manifest_volume *v = &m->volume[i];
		struct hit h = { .runs = json_array(),
			.chunk_size = m->chunk_size,
			.size = v->size };
		json_t *o;

		rc = store_damage(srv->store, l, &v->root, v->size, until_ms,
		    add_bytes, &h, e);
		if (rc != 0 || h.bytes == 0) {
			json_decref(h.runs);
			continue;
		}
		o = json_object();
		json_set_str(o, "volume", v->name);
		json_set_u64(o, "bytes", h.bytes);
		json_object_set_new(o, "runs", h.runs);
		json_array_append_new(volumes, o);
	}
	store_lane_free(l);
	explicit_bzero(&d, sizeof(d));
	if (rc != 0 || json_array_size(volumes) == 0) {
		json_decref(volumes);
		return rc;
	}
	*out = json_object();
	json_set_str(*out, "backup", manifest_name(m, name));
	json_object_set_new(*out, "volumes", volumes);
	return 0;
}

json_t *
damage_to_json(struct serve *srv, const struct auth_key *key, unsigned most_ms)
{
	struct catalog_cursor cur = { .seq = 0 };
	struct manifest *m = xmalloc(sizeof(*m));
	uint64_t n = store_ndamaged(srv->store);
	uint64_t until_ms = now_ms() + most_ms;
	json_t *o = json_object(), *hits = json_array(), *hit;
	struct err e = { 0 };
	bool complete = true;
	int rc;

	while (n > 0 && complete && catalog_next(srv->catalog, &cur, m) == 0) {
		if (!auth_sees(key, m->vm))
			continue;
		rc = look_at(srv, m, until_ms, &hit, &e);
		if (rc != 0 || json_array_size(hits) == HITS_MAX)
			complete = false;
		if (hit != NULL && complete)
			json_array_append_new(hits, hit);
		else
			json_decref(hit);
	}
	json_set_u64(o, "damaged", n);
	json_object_set_new(o, "hit", hits);
	json_set_bool(o, "complete", complete);
	if (e.text[0] != 0)
		json_set_str(o, "text", e.text);
	free(m);
	return o;
}

int
damage_call(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	(void)q;
	(void)e;
	store_damage_settle(s->srv->store);
	json_object_set_new(
	    a, "damage", damage_to_json(s->srv, s->key, CALL_MS));
	return 0;
}

json_t *
scrub_to_json(struct serve *srv)
{
	char when[TIME_TEXT_LEN + 1];
	struct scrub_status st;
	json_t *o = json_object();

	scrubber_status(srv->scrubber, &st);
	json_set_str(o, "state",
	    st.paused        ? "paused"
		: st.running ? "running"
			     : "idle");
	json_set_u64(o, "rate", st.rate);
	json_set_u64(o, "interval_s", st.interval_s);
	if (st.began != 0)
		json_set_str(o, "began", time_print(st.began, when));
	if (st.finished != 0)
		json_set_str(o, "finished", time_print(st.finished, when));
	json_set_u64(o, "read", st.read);
	json_set_u64(o, "total", st.total);
	json_set_u64(o, "found", st.damaged);
	json_set_u64(o, "healed", st.healed);
	json_set_str(o, "last", st.code == 0 ? "done" : err_name(st.code));
	return o;
}

int
scrub_call(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	struct scrubber *r = s->srv->scrubber;
	const char *action = "status";
	uint64_t rate = UINT64_MAX;
	int rc;

	rc = json_opt_str(q, "action", &action, e);
	if (rc == 0)
		rc = json_opt_u64(q, "rate", &rate, e);
	if (rc != 0)
		return rc;
	if (rate != UINT64_MAX)
		scrubber_rate(r, rate);
	if (strcmp(action, "start") == 0)
		scrubber_begin(r);
	else if (strcmp(action, "pause") == 0)
		scrubber_pause(r, true);
	else if (strcmp(action, "resume") == 0)
		scrubber_pause(r, false);
	else if (strcmp(action, "status") != 0)
		return err_set(e, ERR_INVAL,
		    "\"action\" is start, pause, resume or status");
	json_object_set_new(a, "scrub", scrub_to_json(s->srv));
	json_object_set_new(
	    a, "damage", damage_to_json(s->srv, s->key, CALL_MS));
	return 0;
}
