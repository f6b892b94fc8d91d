/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/crash/scenario.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/fault.h"

const char *
scenario_left_name(enum scenario_left left)
{
	static const char *const names[LEFT_WAYS] = { "committing", "unsynced",
		"dead", "poisoned" };

	return names[left];
}

static void
must(int rc, const char *what)
{
	if (rc != 0)
		world_wrong("%s: %s", what, err_name(rc));
}

void
scenario_prepare(struct world *w, enum scenario_left left)
{
	static struct manifest a, b, c;
	struct store_session *x;
	struct err e = { 0 };

	must(store_init(w->dir, CHUNK_SIZE_MIN, false, w->packs, &e), "init");
	must(world_open(w), "open");
	must(world_backup(w, "keep", 900, 100, NULL, &a), "backup");
	must(world_backup(w, "go", 900, 5, NULL, &a), "backup");
	world_close(w);
	must(world_open(w), "open");
	must(world_backup(w, "a", 0, 60, NULL, &a), "backup");
	must(world_backup(w, "b", 30, 60, NULL, &b), "backup");
	must(world_backup(w, "a", 40, 150, NULL, &c), "backup");
	/* Or it may be done before it is known where it is to end. */
	reclaimer_pause(w->reclaimer, true);
	must(world_delete(w, &a), "delete");
	if (left == LEFT_DEAD)
		fault_arm("pack.forgotten=cut");
	reclaimer_pause(w->reclaimer, false);
	must(world_gc(w), "gc");
	must(world_backup(w, "b", 70, 50, NULL, &a), "backup");
	must(store_begin(w->store, 0, &x, &e), "begin");
	for (uint32_t i = 500; i < 520; i++)
		must(world_put(w, x, i, CHUNK_SIZE_MIN), "put");
	if (left == LEFT_POISONED) {
		fault_arm("pack.sync:2=eio,batch.published:2=cut");
		(void)world_commit(w, x, "a", 500, 40, &b, NULL);
		store_end(x);
		/* One that begins while the others are ended ends, too. */
		for (uint32_t i = 1; i < 10; i++)
			(void)world_backup(
			    w, "a", 500 + 20 * i, 40, NULL, NULL);
	} else {
		fault_arm(left == LEFT_UNSYNCED ? "batch.swapped=cut"
						: "batch.write=cut");
		(void)world_commit(w, x, "a", 500, 40, &b, NULL);
	}
	world_wrong("it was to be killed");
}

/* A backup that takes its time: three checkpoints, each in place of the one
 * before, then the commit. */
static void
long_backup(struct world *w)
{
	static struct manifest part[3];
	const struct manifest *last = NULL;
	struct store_session *x;
	struct err e;

	if (store_begin(w->store, 0, &x, &e) != 0)
		return;
	(void)world_ask(w, x, 800, 128);
	for (uint32_t k = 0; k < 3; k++) {
		for (uint32_t i = 0; i < 20; i++)
			(void)world_put(w, x, 800 + 20 * k + i, CHUNK_SIZE_MIN);
		if (world_checkpoint(w, x, last, &part[k]) == 0)
			last = &part[k];
	}
	(void)world_commit(w, x, "long", 800, 70, last, NULL);
	store_end(x);
}

static const struct manifest *
told(struct world *w, const char *vm)
{
	for (unsigned i = 0; i < w->ntold; i++)
		if (strcmp(w->told[i].vm, vm) == 0)
			return &w->told[i];
	return NULL;
}

/* A meta pack in which nothing lives but a tombstone, which is needed for as
 * long as the manifest lies in a pack that stays. */
static void
tombstone_alone(struct world *w)
{
	static struct manifest m;
	const struct manifest *go = told(w, "go");
	bool had;

	reclaimer_pause(w->reclaimer, true);
	had = world_backup(w, "x", 600, 60, NULL, &m) == 0;
	if (go != NULL)
		(void)world_delete(w, go);
	world_close(w);
	if (world_open(w) != 0)
		_exit(WORLD_CANNOT_OPEN);
	if (had)
		(void)world_delete(w, &m);
	(void)world_gc(w);
}

/* What was hit once goes on to work. */
static void
works_again(struct world *w)
{
	static struct manifest m;
	int rc = ERR_SYS;

	fault_disarm();
	for (int i = 0; rc != 0 && i < 3; i++)
		rc = world_backup(w, "last", 300, 40, NULL, &m);
	must(rc, "a backup once nothing fails any more");
	must(world_delete(w, &m), "a delete once nothing fails any more");
	world_close(w);
	if (world_open(w) != 0)
		_exit(WORLD_CANNOT_OPEN);
}

void
scenario_run(struct world *w)
{
	static struct manifest a, b, c;
	bool had_a, had_b;
	struct err e;

	if (world_open(w) != 0)
		_exit(WORLD_CANNOT_OPEN);
	if (w->later != NULL)
		fault_arm(w->later);
	had_a = world_backup(w, "a", 10, 150, NULL, &a) == 0;
	long_backup(w);
	had_b = world_backup(w, "b", 120, 60, had_a ? &a : NULL, &b) == 0;
	if (told(w, "b") != NULL)
		(void)world_delete(w, told(w, "b"));
	(void)world_gc(w);
	for (unsigned i = 0; i < w->ntold; i++)
		(void)world_read(w, &w->told[i], &e);
	if (had_b && world_hide(w, &b) == 0) {
		(void)world_backup(w, "b", 130, 60, NULL, &c);
		(void)world_delete_hidden(w, &b);
	}
	(void)world_gc(w);
	world_close(w);
	if (world_open(w) != 0)
		_exit(WORLD_CANNOT_OPEN);
	tombstone_alone(w);
	if (world_backup(w, "a", 0, 40, NULL, &a) == 0)
		(void)world_delete(w, &a);
	if (told(w, "a") != NULL)
		(void)world_delete(w, told(w, "a"));
	(void)world_gc(w);
	world_close(w);
	if (world_rebuild(w) != 0)
		(void)world_rebuild(w);
	if (world_open(w) != 0)
		_exit(WORLD_CANNOT_OPEN);
	(void)world_backup(w, "b", 20, 50, NULL, &b);
	(void)world_gc(w);
	works_again(w);
	world_close(w);
	_exit(0);
}
