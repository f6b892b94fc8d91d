/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/catalog/catalog.h"

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"

/*
 * A manifest with room for all its volumes is 10 KB and most have one: what is
 * kept is its head and the volumes that are used.
 */
struct backup {
	uint8_t id[BACKUP_ID_LEN];
	uint64_t seq;
	uint64_t time;
	uint64_t size;
	unsigned holds;
	bool incomplete;
	bool hidden;
	bool leaving; /* its drop is under way, ... */
	bool held;    /* ... or done, as of one that is held */
	size_t len, origins_len;
	uint8_t *bytes; /* the first ${len} of a struct manifest, its origins */
};

struct vm {
	char name[VM_NAME_MAX + 1];
	uint64_t last_time;     /* the greatest that was ever given */
	struct backup **backup; /* by sequence */
	size_t n;
	size_t cap;
};

struct catalog {
	pthread_rwlock_t mu;
	struct vm **vm; /* by name; guarded by mu, with all below */
	size_t n;
	size_t cap;
};

struct catalog *
catalog_new(void)
{
	struct catalog *c = xcalloc(1, sizeof(*c));

	pthread_rwlock_init(&c->mu, NULL);
	return c;
}

static void
backup_free(struct backup *b)
{
	free(b->bytes);
	free(b);
}

void
catalog_free(struct catalog *c)
{
	if (c == NULL)
		return;
	for (size_t i = 0; i < c->n; i++) {
		for (size_t k = 0; k < c->vm[i]->n; k++)
			backup_free(c->vm[i]->backup[k]);
		free(c->vm[i]->backup);
		free(c->vm[i]);
	}
	free(c->vm);
	pthread_rwlock_destroy(&c->mu);
	free(c);
}

uint64_t
manifest_size(const struct manifest *m)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < m->nvolumes; i++)
		sum += m->volume[i].size;
	return sum;
}

/* The first VM whose name is not before ${name}. */
static size_t
vm_place(const struct catalog *c, const char *name)
{
	size_t lo = 0, hi = c->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (strcmp(c->vm[mid]->name, name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct vm *
vm_find(const struct catalog *c, const char *name)
{
	size_t i = vm_place(c, name);

	if (i < c->n && strcmp(c->vm[i]->name, name) == 0)
		return c->vm[i];
	return NULL;
}

static struct vm *
vm_add(struct catalog *c, const char *name)
{
	size_t i = vm_place(c, name);
	struct vm *v;

	if (i < c->n && strcmp(c->vm[i]->name, name) == 0)
		return c->vm[i];
	if (c->n == c->cap) {
		c->cap = c->cap == 0 ? 16 : 2 * c->cap;
		c->vm = xrealloc(c->vm, c->cap * sizeof(*c->vm));
	}
	v = xcalloc(1, sizeof(*v));
	memcpy(v->name, name, strlen(name) + 1);
	memmove(c->vm + i + 1, c->vm + i, (c->n - i) * sizeof(*c->vm));
	c->vm[i] = v;
	c->n++;
	return v;
}

static struct backup *
backup_by_id(const struct vm *v, const uint8_t *id)
{
	for (size_t i = 0; v != NULL && i < v->n; i++)
		if (memcmp(v->backup[i]->id, id, BACKUP_ID_LEN) == 0)
			return v->backup[i];
	return NULL;
}

static void
copy_out(const struct backup *b, struct manifest *out)
{
	memset(out, 0, sizeof(*out));
	memcpy(out, b->bytes, b->len);
	memcpy(out->origins, b->bytes + b->len, b->origins_len);
	out->norigins = (unsigned)b->origins_len;
}

int
catalog_add(struct catalog *c, const struct manifest *m)
{
	struct backup *b;
	struct vm *v;
	size_t i;

	pthread_rwlock_wrlock(&c->mu);
	v = vm_add(c, m->vm);
	if (backup_by_id(v, m->id) != NULL) {
		pthread_rwlock_unlock(&c->mu);
		return ERR_EXIST;
	}
	b = xcalloc(1, sizeof(*b));
	memcpy(b->id, m->id, sizeof(b->id));
	b->seq = m->seq;
	b->time = m->time;
	b->size = manifest_size(m);
	b->incomplete = m->incomplete;
	b->len = offsetof(struct manifest, volume) +
	    m->nvolumes * sizeof(m->volume[0]);
	b->origins_len = m->norigins;
	b->bytes = xmalloc(b->len + b->origins_len);
	memcpy(b->bytes, m, b->len);
	memcpy(b->bytes + b->len, m->origins, b->origins_len);
	if (v->n == v->cap) {
		v->cap = v->cap == 0 ? 4 : 2 * v->cap;
		v->backup = xrealloc(v->backup, v->cap * sizeof(*v->backup));
	}
	for (i = v->n; i > 0 && v->backup[i - 1]->seq > b->seq; i--)
		v->backup[i] = v->backup[i - 1];
	v->backup[i] = b;
	v->n++;
	if (v->last_time < b->time)
		v->last_time = b->time;
	pthread_rwlock_unlock(&c->mu);
	return 0;
}

static bool
is_shown(const struct backup *b, bool incomplete)
{
	return !b->hidden && b->incomplete == incomplete;
}

/* In the order of the times; what was imported may be older than what has
 * lower sequences. */
static bool
is_older(const struct backup *a, const struct backup *b)
{
	return a->time != b->time ? a->time < b->time : a->seq < b->seq;
}

/* The ${back}th before the newest that is not hidden, or NULL. */
static struct backup *
backup_from_end(const struct vm *v, uint64_t back)
{
	struct backup *last = NULL;

	if (v == NULL)
		return NULL;
	do {
		struct backup *newest = NULL;

		for (size_t i = v->n; i > 0; i--) {
			struct backup *b = v->backup[i - 1];

			if (is_shown(b, false) &&
			    (last == NULL || is_older(b, last)) &&
			    (newest == NULL || is_older(newest, b)))
				newest = b;
		}
		last = newest;
	} while (back-- > 0 && last != NULL);
	return last;
}

static struct backup *
backup_at(const struct vm *v, uint64_t time, bool incomplete)
{
	for (size_t i = v != NULL ? v->n : 0; i > 0; i--)
		if (is_shown(v->backup[i - 1], incomplete) &&
		    v->backup[i - 1]->time == time)
			return v->backup[i - 1];
	return NULL;
}

static int
not_found(const struct vm *v, const struct backup_ref *ref, struct err *e)
{
	const struct backup *newest = backup_from_end(v, 0);
	char have[TIME_TEXT_LEN + 1], want[TIME_TEXT_LEN + 1];

	if (newest == NULL)
		return err_set(
		    e, ERR_NOENT, "there is no backup of %s", ref->vm);
	time_print(newest->time, have);
	if (ref->by_time)
		return err_set(e, ERR_NOENT,
		    "there is no backup %s@%s; the newest is %s@%s", ref->vm,
		    time_print(ref->time, want), ref->vm, have);
	return err_set(e, ERR_NOENT,
	    "%s has no %u backups before its newest, %s@%s", ref->vm,
	    (unsigned)ref->back, ref->vm, have);
}

static int
find(struct catalog *c, const struct backup_ref *ref, bool any,
    struct manifest *out, struct err *e)
{
	const struct backup *b;
	const struct vm *v;
	int rc = 0;

	pthread_rwlock_rdlock(&c->mu);
	v = vm_find(c, ref->vm);
	if (ref->by_time)
		b = backup_at(v, ref->time, false);
	else
		b = backup_from_end(v, ref->back);
	if (b == NULL && any && ref->by_time)
		b = backup_at(v, ref->time, true);
	if (b != NULL)
		copy_out(b, out);
	else
		rc = not_found(v, ref, e);
	pthread_rwlock_unlock(&c->mu);
	return rc;
}

int
catalog_find(struct catalog *c, const struct backup_ref *ref,
    struct manifest *out, struct err *e)
{
	return find(c, ref, false, out, e);
}

int
catalog_find_any(struct catalog *c, const struct backup_ref *ref,
    struct manifest *out, struct err *e)
{
	return find(c, ref, true, out, e);
}

static int
look(struct catalog *c, const char *vm, const uint8_t *id, bool any,
    struct manifest *out)
{
	const struct backup *b;
	int rc = ERR_NOENT;

	pthread_rwlock_rdlock(&c->mu);
	b = backup_by_id(vm_find(c, vm), id);
	if (b != NULL && (any || is_shown(b, false))) {
		copy_out(b, out);
		rc = 0;
	}
	pthread_rwlock_unlock(&c->mu);
	return rc;
}

int
catalog_find_id(struct catalog *c, const char *vm,
    const uint8_t id[BACKUP_ID_LEN], struct manifest *out)
{
	return look(c, vm, id, false, out);
}

int
catalog_look(struct catalog *c, const char *vm, const uint8_t id[BACKUP_ID_LEN],
    struct manifest *out)
{
	return look(c, vm, id, true, out);
}

int
catalog_newest(struct catalog *c, const char *vm, struct manifest *out)
{
	const struct backup *b;

	pthread_rwlock_rdlock(&c->mu);
	b = backup_from_end(vm_find(c, vm), 0);
	if (b != NULL)
		copy_out(b, out);
	pthread_rwlock_unlock(&c->mu);
	return b != NULL ? 0 : ERR_NOENT;
}

uint64_t
catalog_next_time(struct catalog *c, const char *vm, uint64_t now)
{
	const struct vm *v;

	pthread_rwlock_rdlock(&c->mu);
	v = vm_find(c, vm);
	if (v != NULL && v->last_time >= now)
		now = v->last_time + 1;
	pthread_rwlock_unlock(&c->mu);
	return now;
}

int
catalog_next(
    struct catalog *c, struct catalog_cursor *cur, struct manifest *out)
{
	const struct backup *b = NULL;

	pthread_rwlock_rdlock(&c->mu);
	for (size_t i = vm_place(c, cur->vm); i < c->n && b == NULL; i++) {
		const struct vm *v = c->vm[i];
		bool same = strcmp(v->name, cur->vm) == 0;

		for (size_t k = 0; k < v->n && b == NULL; k++)
			if (is_shown(v->backup[k], cur->incomplete) &&
			    (!same || v->backup[k]->seq > cur->seq))
				b = v->backup[k];
	}
	if (b != NULL) {
		copy_out(b, out);
		memcpy(cur->vm, out->vm, sizeof(cur->vm));
		cur->seq = b->seq;
	}
	pthread_rwlock_unlock(&c->mu);
	return b != NULL ? 0 : ERR_NOENT;
}

int
catalog_hold(struct catalog *c, const char *vm, const uint8_t id[BACKUP_ID_LEN])
{
	struct backup *b;

	pthread_rwlock_wrlock(&c->mu);
	b = backup_by_id(vm_find(c, vm), id);
	if (b != NULL && !is_shown(b, false))
		b = NULL;
	if (b != NULL)
		b->holds++;
	pthread_rwlock_unlock(&c->mu);
	return b != NULL ? 0 : ERR_NOENT;
}

/* The VM stays, for the times that it gave. */
static void
forget(struct vm *v, struct backup *b)
{
	size_t i = 0;

	while (v->backup[i] != b)
		i++;
	v->n--;
	memmove(
	    v->backup + i, v->backup + i + 1, (v->n - i) * sizeof(*v->backup));
	backup_free(b);
}

bool
catalog_release(
    struct catalog *c, const char *vm, const uint8_t id[BACKUP_ID_LEN])
{
	bool last = false;
	struct backup *b;
	struct vm *v;

	pthread_rwlock_wrlock(&c->mu);
	v = vm_find(c, vm);
	b = backup_by_id(v, id);
	/* While the delete is under way it is the one to look. */
	if (b != NULL && b->holds > 0)
		last = --b->holds == 0 && b->hidden && !b->leaving;
	if (last)
		forget(v, b);
	pthread_rwlock_unlock(&c->mu);
	return last;
}

int
catalog_hide(struct catalog *c, const char *vm, const uint8_t id[BACKUP_ID_LEN],
    bool *held)
{
	struct backup *b;
	int rc = ERR_NOENT;

	pthread_rwlock_wrlock(&c->mu);
	b = backup_by_id(vm_find(c, vm), id);
	if (b != NULL && !b->hidden) {
		b->hidden = true;
		b->leaving = true;
		b->held = *held = b->holds > 0;
		rc = 0;
	}
	pthread_rwlock_unlock(&c->mu);
	return rc;
}

bool
catalog_hidden(struct catalog *c, const char *vm,
    const uint8_t id[BACKUP_ID_LEN], bool done)
{
	bool again = false;
	struct backup *b;
	struct vm *v;

	pthread_rwlock_wrlock(&c->mu);
	v = vm_find(c, vm);
	b = backup_by_id(v, id);
	if (b != NULL && b->leaving) {
		b->leaving = false;
		b->hidden = done;
		again = done && b->held && b->holds == 0;
		if (done && b->holds == 0)
			forget(v, b);
	}
	pthread_rwlock_unlock(&c->mu);
	return again;
}

void
catalog_totals(struct catalog *c, struct catalog_totals *out)
{
	memset(out, 0, sizeof(*out));
	pthread_rwlock_rdlock(&c->mu);
	for (size_t i = 0; i < c->n; i++) {
		const struct vm *v = c->vm[i];
		uint64_t before = out->nbackups;

		for (size_t k = 0; k < v->n; k++) {
			if (!is_shown(v->backup[k], false)) {
				out->nincomplete +=
				    is_shown(v->backup[k], true);
				continue;
			}
			out->nbackups++;
			/* Volumes of only holes cost nothing: saturate. */
			if (__builtin_add_overflow(out->logical,
				v->backup[k]->size, &out->logical))
				out->logical = UINT64_MAX;
		}
		out->nvms += out->nbackups > before;
	}
	pthread_rwlock_unlock(&c->mu);
}

size_t
catalog_vms(struct catalog *c, struct catalog_vm *out, size_t most)
{
	size_t n = 0;

	pthread_rwlock_rdlock(&c->mu);
	for (size_t i = 0; i < c->n && n < most; i++) {
		const struct vm *v = c->vm[i];
		struct catalog_vm *o = &out[n];

		o->nbackups = 0;
		for (size_t k = 0; k < v->n; k++) {
			if (!is_shown(v->backup[k], false))
				continue;
			o->nbackups++;
			if (o->nbackups > 1 && v->backup[k]->time < o->last)
				continue;
			o->last = v->backup[k]->time;
			o->size = v->backup[k]->size;
		}
		if (o->nbackups == 0)
			continue;
		memcpy(o->name, v->name, sizeof(o->name));
		n++;
	}
	pthread_rwlock_unlock(&c->mu);
	return n;
}
