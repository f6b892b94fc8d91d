/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/archive/form.h"

int
member_put(struct member *m, const void *data, size_t len, struct err *e)
{
	if (!m->blocks)
		digest_add(m->digest, data, len);
	return arcout_data(m->out, data, len, e);
}

int
member_hole(struct member *m, uint64_t len, struct err *e)
{
	return arcout_hole(m->out, len, e);
}

void
form_free(struct form *f)
{
	if (f != NULL)
		f->ops->free(f);
}

int
form_plan(struct form *f, uint64_t *len, struct err *e)
{
	uint64_t region = 0;
	int rc = 0;

	while (rc == 0) {
		rc = walk_next(f->walk, region, e);
		if (rc == 0)
			rc = f->ops->plan(f, e);
		region = f->walk->region + 1;
		if (rc == 0 && job_stopped(f->walk->now.lane->job))
			rc = err_set(e, ERR_CLOSED, "stopped");
	}
	return rc == ERR_NOENT ? f->ops->size(f, len, e) : rc;
}

/* Where region ${n} begins in the volume, or its end. */
static uint64_t
begin_of(const struct walk *w, uint64_t n)
{
	uint64_t at = n * WALK_REGION;

	return at < w->size ? at : w->size;
}

struct told {
	struct form *f;
	form_done *done;
	void *arg;
	uint64_t at; /* all before was told of */
};

static int
write_slice(
    void *arg, unsigned i, const uint8_t *data, uint32_t len, struct err *e)
{
	struct told *t = arg;
	struct walk *w = t->f->walk;
	uint64_t off = (walk_first(w) + i) * w->chunk_size;

	t->done(t->arg, off - t->at, false);
	t->done(t->arg, len, true);
	t->at = off + len;
	return t->f->ops->slice(t->f, i, data, len, e);
}

int
form_write(
    struct form *f, struct member *m, form_done *done, void *arg, struct err *e)
{
	struct told t = { .f = f, .done = done, .arg = arg };
	uint64_t region = 0;
	int rc;

	f->member = m;
	rc = f->ops->head(f, e);
	while (rc == 0) {
		rc = walk_next(f->walk, region, e);
		if (rc != 0)
			break;
		region = f->walk->region + 1;
		rc = f->ops->region(f, e);
		if (rc == 0)
			rc = walk_read(f->walk, write_slice, &t, e);
		if (rc == 0)
			rc = f->ops->region_end(f, e);
		if (rc == 0 && begin_of(f->walk, region) > t.at) {
			done(arg, begin_of(f->walk, region) - t.at, false);
			t.at = begin_of(f->walk, region);
		}
	}
	walk_idle(f->walk);
	if (rc != ERR_NOENT)
		return rc;
	done(arg, f->walk->size - t.at, false);
	return f->ops->end(f, e);
}
