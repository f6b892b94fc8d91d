/* SPDX-License-Identifier: Apache-2.0 */
/* Letting go of what a policy does not keep: DESIGN.md 12, PROTOCOL.md 6. */
#include <stdlib.h>
#include <string.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "repo/reclaim/freed.h"
#include "repo/serve/delete.h"
#include "repo/serve/retain.h"

enum {
	ROWS_PAGE = 1000,   /* of an answer: no further VM after so many, ... */
	ROWS_VM_MAX = 3000, /* ... and no more of one */
	PAGE_MS = 10000,
	FREED_PRUNE_MS = 50, /* as in a delete */
	FREED_DRY_MS = 60000,
	TOGETHER_MAX = 2000 /* backups in one question for what they free */
};

struct wish {
	const char *pattern; /* or NULL: all */
	const char *after;   /* or NULL */
	bool own;            /* rules were said in the call */
	struct retain_policy policy;
	bool dry_run;
	bool force;
	int wait_ms;
};

/* A VM's backups, oldest first. */
struct history {
	char vm[VM_NAME_MAX + 1];
	struct keep_backup *keep;
	uint8_t (*id)[BACKUP_ID_LEN];
	uint64_t *time; /* as they are called */
	size_t n;
	size_t ngoing;
	struct retain_policy policy;
	uint64_t now;
};

static int
count(const json_t *q, const char *key, unsigned *out, bool *own, struct err *e)
{
	uint64_t n = 0;
	int rc;

	if (json_object_get(q, key) == NULL)
		return 0;
	rc = json_get_u64(q, key, &n, e);
	if (rc == 0 && n > UINT32_MAX)
		rc = err_set(e, ERR_INVAL, "\"%s\" is too large", key);
	*out = (unsigned)n;
	*own = true;
	return rc;
}

static int
parse(const json_t *q, struct wish *w, struct err *e)
{
	struct retain_policy *p = &w->policy;
	int rc;

	*w = (struct wish){ .own = json_object_get(q, "keep_within") != NULL };
	rc = json_opt_str(q, "vm", &w->pattern, e);
	if (rc == 0)
		rc = json_opt_str(q, "after", &w->after, e);
	if (rc == 0)
		rc = json_opt_bool(q, "dry_run", &w->dry_run, e);
	if (rc == 0)
		rc = json_opt_bool(q, "force", &w->force, e);
	if (rc == 0)
		rc = session_wait_ms(q, &w->wait_ms, e);
	if (rc == 0)
		rc = count(q, "keep_last", &p->keep_last, &w->own, e);
	if (rc == 0)
		rc = count(q, "keep_hourly", &p->keep_hourly, &w->own, e);
	if (rc == 0)
		rc = count(q, "keep_daily", &p->keep_daily, &w->own, e);
	if (rc == 0)
		rc = count(q, "keep_weekly", &p->keep_weekly, &w->own, e);
	if (rc == 0)
		rc = count(q, "keep_monthly", &p->keep_monthly, &w->own, e);
	if (rc == 0)
		rc = count(q, "keep_yearly", &p->keep_yearly, &w->own, e);
	if (rc == 0)
		rc = json_opt_u64(q, "keep_within", &p->keep_within, e);
	if (rc == 0)
		rc = json_opt_u64(q, "min_age", &p->min_age, e);
	if (rc == 0 && w->pattern != NULL && !vm_pattern_ok(w->pattern))
		rc = err_set(e, ERR_INVAL,
		    "\"%.140s\" is no name and no pattern for VMs", w->pattern);
	if (rc == 0 && w->after != NULL && !vm_name_ok(w->after))
		rc = err_set(
		    e, ERR_INVAL, "\"after\" is not the \"next\" of an answer");
	return rc;
}

/* What is said in the call stands in place of the settings' rules; min-age of
 * the settings holds for everybody. */
static struct retain_policy
policy_of(struct session *s, const struct wish *w, const char *vm)
{
	struct retain_policy p = guard_policy(s->srv->guard, vm);
	uint64_t min_age = p.min_age;

	if (w->own)
		p = w->policy;
	p.min_age = w->policy.min_age > min_age ? w->policy.min_age : min_age;
	return p;
}

static void
history_fini(struct history *h)
{
	free(h->keep);
	free(h->id);
	free(h->time);
}

static void
history_read(
    struct session *s, const struct wish *w, const char *vm, struct history *h)
{
	struct catalog_cursor cur = { .seq = 0 };
	struct manifest m;
	size_t cap = 0;

	*h = (struct history){ .now = guard_now(s->srv->guard) };
	memcpy(h->vm, vm, strlen(vm) + 1);
	memcpy(cur.vm, vm, strlen(vm) + 1);
	h->policy = policy_of(s, w, vm);
	while (catalog_next(s->srv->catalog, &cur, &m) == 0 &&
	    strcmp(m.vm, vm) == 0) {
		struct mark x;

		if (h->n == cap) {
			cap = cap == 0 ? 64 : 2 * cap;
			h->keep = xrealloc(h->keep, cap * sizeof(*h->keep));
			h->id = xrealloc(h->id, cap * sizeof(*h->id));
			h->time = xrealloc(h->time, cap * sizeof(*h->time));
		}
		guard_look(s->srv->guard, &m, &x);
		h->keep[h->n] = (struct keep_backup){
			.time = m.imported ? m.time : manifest_age_from(&m),
			.since = manifest_age_from(&m),
			.seq = m.seq,
			.locked_until = x.locked_until,
			.is_protected = x.is_protected
		};
		memcpy(h->id[h->n], m.id, sizeof(m.id));
		h->time[h->n++] = m.time;
	}
	keep_decide(&h->policy, h->now, h->keep, h->n);
	for (size_t i = 0; i < h->n; i++)
		h->ngoing += h->keep[i].rule == KEEP_NOT;
}

/* Up to ${most} of those that go, from ${*at} on. */
static unsigned
going(struct session *s, const struct history *h, size_t *at, unsigned most,
    struct manifest *m)
{
	unsigned n = 0;

	for (; *at < h->n && n < most; ++*at)
		if (h->keep[*at].rule == KEEP_NOT &&
		    catalog_find_id(
			s->srv->catalog, h->vm, h->id[*at], &m[n]) == 0)
			n++;
	return n;
}

/* Why a person should look first.  STORE.md 28. */
static int
suspicious(struct session *s, const struct history *h, struct err *e)
{
	if (h->ngoing > 0 && repotime_is_off(guard_time(s->srv->guard)))
		return err_set(e, ERR_DENIED,
		    "the clock and the repository's time disagree, see "
		    "`backstay status`; --force goes by the latter");
	if (h->ngoing > h->n - h->ngoing)
		return err_set(e, ERR_DENIED,
		    "%zu of %zu backups would go, more than half; look with "
		    "--dry-run, then say --force",
		    h->ngoing, h->n);
	return 0;
}

/* All that go, oldest first; ${o} is told how far it came. */
static int
let_go(struct session *s, const struct wish *w, const struct history *h,
    json_t *o, struct err *e)
{
	struct manifest *m = xmalloc(DELETE_MAX * sizeof(*m));
	uint64_t bytes, freed = 0, done = 0;
	bool known = true;
	size_t at = 0;
	unsigned n;
	int rc = 0;

	while ((n = going(s, h, &at, DELETE_MAX, m)) > 0) {
		if (freed_within(
			s->srv->store, m, n, FREED_PRUNE_MS, &bytes, NULL) == 0)
			freed += bytes;
		else
			known = false;
		rc = delete_of_vm(s, m, n, w->wait_ms, e);
		if (rc != 0)
			break;
		done += n;
	}
	free(m);
	json_set_u64(o, "removed", done);
	if (rc == 0 && known)
		json_set_u64(o, "freed", freed);
	if (done > 0)
		log_info("%s: prune by %s let go of %llu backups", h->vm,
		    s->key->name, (unsigned long long)done);
	return rc;
}

/* What they free together; what nobody can tell in time is left out. */
static void
together(struct session *s, const struct history *h, uint64_t until, json_t *o)
{
	struct manifest *m;
	uint64_t bytes, now = now_ms();
	size_t at = 0;
	unsigned n;

	json_set_u64(o, "removed", h->ngoing);
	if (h->ngoing > TOGETHER_MAX || now >= until)
		return;
	m = xmalloc(h->ngoing * sizeof(*m) + 1);
	n = going(s, h, &at, (unsigned)h->ngoing, m);
	if (freed_within(s->srv->store, m, n, until - now, &bytes, NULL) == 0)
		json_set_u64(o, "freed", bytes);
	free(m);
}

static void
set_time(json_t *o, const char *key, uint64_t seconds)
{
	char when[TIME_TEXT_LEN + 1];

	json_set_str(o, key, time_print(seconds, when));
}

static json_t *
row(struct session *s, const struct wish *w, const struct history *h, size_t i,
    uint64_t until)
{
	const struct keep_backup *b = &h->keep[i];
	json_t *o = json_object();
	uint64_t bytes, now;
	struct manifest m;

	set_time(o, "time", h->time[i]);
	if (b->rule != KEEP_NOT)
		json_set_str(o, "rule", keep_rule_name(b->rule));
	if (b->rule == KEEP_LOCKED)
		set_time(o, "until", b->locked_until);
	if (b->rule == KEEP_MIN_AGE)
		set_time(o, "until", b->time + h->policy.min_age);
	now = now_ms();
	if (!w->dry_run || b->rule != KEEP_NOT || now >= until ||
	    catalog_find_id(s->srv->catalog, h->vm, h->id[i], &m) != 0)
		return o;
	if (freed_within(s->srv->store, &m, 1, until - now, &bytes, NULL) == 0)
		json_set_u64(o, "freed", bytes);
	return o;
}

static int
prune_vm(struct session *s, const struct wish *w, const char *vm, json_t *list,
    size_t *nrows, struct err *e)
{
	uint64_t until = now_ms() + FREED_DRY_MS;
	json_t *o = json_object(), *rows = json_array();
	struct err why = { 0 };
	struct history h;
	int rc;

	history_read(s, w, vm, &h);
	json_set_str(o, "vm", vm);
	json_object_set_new(o, "backups", rows);
	json_array_append_new(list, o);
	/* Before they are gone. */
	for (size_t i = 0; i < h.n && i < ROWS_VM_MAX; i++)
		json_array_append_new(rows, row(s, w, &h, i, until));
	if (h.n > ROWS_VM_MAX)
		json_set_u64(o, "untold", h.n - ROWS_VM_MAX);
	*nrows += json_array_size(rows);
	rc = w->force ? 0 : suspicious(s, &h, &why);
	if (w->dry_run)
		together(s, &h, until, o);
	else if (rc == 0)
		rc = let_go(s, w, &h, o, &why);
	else
		json_set_u64(o, "removed", 0);
	history_fini(&h);
	if (rc == 0)
		return 0;
	session_explain(&why, rc, "prune");
	/* What keeps one VM's need not keep the others'. */
	if (rc == ERR_DENIED || rc == ERR_BUSY || rc == ERR_NOENT) {
		json_set_str(o, "stopped", why.text);
		return 0;
	}
	return err_set(e, rc, "%s: %s", vm, why.text);
}

size_t
prune_due(struct session *s, const char *vm)
{
	const struct wish w = { .pattern = NULL };
	struct history h;

	history_read(s, &w, vm, &h);
	history_fini(&h);
	return h.ngoing;
}

static bool
wanted(const struct session *s, const struct wish *w, const char *vm)
{
	return auth_sees(s->key, vm) &&
	    (w->pattern == NULL || vm_pattern_match(w->pattern, vm));
}

int
prune_call(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	struct catalog_cursor cur = { .seq = 0 };
	uint64_t until = now_ms() + PAGE_MS;
	json_t *list = json_array();
	struct manifest m;
	size_t nrows = 0;
	struct wish w;
	int rc;

	json_object_set_new(a, "vms", list);
	rc = parse(q, &w, e);
	if (rc == 0 && w.after != NULL) {
		memcpy(cur.vm, w.after, strlen(w.after) + 1);
		cur.seq = UINT64_MAX;
	}
	while (rc == 0 && catalog_next(s->srv->catalog, &cur, &m) == 0) {
		cur.seq = UINT64_MAX;
		if (!wanted(s, &w, m.vm))
			continue;
		rc = session_look(s, e);
		if (rc == 0)
			rc = prune_vm(s, &w, m.vm, list, &nrows, e);
		if (rc == 0 && (nrows >= ROWS_PAGE || now_ms() >= until)) {
			json_set_str(a, "next", m.vm);
			break;
		}
	}
	if (rc == 0 && w.after == NULL && json_array_size(list) == 0 &&
	    w.pattern != NULL && vm_name_ok(w.pattern))
		rc = err_set(
		    e, ERR_NOENT, "there is no backup of %s", w.pattern);
	return rc;
}
