/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, closing and asking about a store. */
#include "repo/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "proto/base/fault.h"
#include "proto/base/io.h"
#include "proto/base/log.h"
#include "repo/store/store_impl.h"

enum {
	BLOCK_CACHE = 32 << 20,
	MEMTABLES = 32 << 20,
	CHECKPOINT_MS = 60000,
	RESERVE_MAX = PACK_DATA_LIMIT,
	PACKS_SMALL = 8 << 20, /* the least that a pack is filled up to */
	RESERVE_SHARE = 20     /* at most this fraction of the volume */
};

int
store_lock(const char *dir, int dirfd, int *out, struct err *e)
{
	char pid[32];
	int fd, n;

	fd = openat(dirfd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd == -1)
		return err_set(e, ERR_SYS, "%s/lock: %s", dir, strerror(errno));
	if (fault_fails(FAULT_START_LOCK) ||
	    flock(fd, LOCK_EX | LOCK_NB) == -1) {
		ssize_t len = pread_full(fd, pid, sizeof(pid) - 1, 0);

		close(fd);
		pid[len > 0 ? len : 0] = 0;
		pid[strspn(pid, "0123456789")] = 0;
		return err_set(e, ERR_BUSY,
		    "%s is in use by process %s: one program at a time owns a "
		    "repository",
		    dir, pid[0] != 0 ? pid : "(unknown)");
	}
	n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
	if (ftruncate(fd, 0) == -1 ||
	    pwrite_full(fd, pid, (size_t)n, 0) == -1) {
		/* The pid is a courtesy; a full disk must not stop a start. */
		log_info("%s/lock: the pid could not be noted", dir);
	}
	*out = fd;
	return 0;
}

static uint64_t
reserve_default(struct volume *v)
{
	uint64_t avail, total;

	if (volume_space(v, &avail, &total) != 0)
		return RESERVE_MAX;
	return total / RESERVE_SHARE < RESERVE_MAX ? total / RESERVE_SHARE
						   : RESERVE_MAX;
}

static int
index_check(struct index *x, const struct store_format *f, struct err *e)
{
	uint8_t uuid[sizeof(f->uuid)];
	uint64_t marked;

	if (index_uuid_get(x, uuid) != 0 ||
	    memcmp(uuid, f->uuid, sizeof(uuid)) != 0)
		return err_set(e, ERR_CORRUPT,
		    "the index is of another repository: run `backstay fsck "
		    "--rebuild-index`");
	if (index_number(x, INDEX_NEEDS_FSCK, &marked) != 0)
		return err_set(e, ERR_SYS, "the index cannot be read");
	if (marked != 0)
		return err_set(e, ERR_CORRUPT,
		    "the index has a wrong count: run `backstay fsck "
		    "--rebuild-index`");
	return 0;
}

struct tell {
	void (*visit)(void *arg, const struct manifest *m);
	void *arg;
	struct manifest *m;
	struct err *e;
};

static int
tell_backup(void *arg, const struct index_backup *b)
{
	struct tell *t = arg;
	int rc;

	rc = manifest_parse(b->manifest, b->len, t->m, t->e);
	if (rc == 0 && memcmp(t->m->id, b->id.b, sizeof(t->m->id)) != 0)
		rc = err_set(t->e, ERR_CORRUPT, "its id is another's");
	if (rc != 0) {
		err_prefix(t->e, "a manifest in the index");
		return rc;
	}
	t->visit(t->arg, t->m);
	return 0;
}

int
store_open(const char *dir, const struct store_options *o,
    void (*visit)(void *arg, const struct manifest *m), void *arg,
    struct store **out, struct err *e)
{
	struct index_options xo = { .memtables = MEMTABLES };
	struct pack_options po = { .hash = HASH_SHA256 };
	struct tell tell = { .visit = visit, .arg = arg, .e = e };
	struct store *s = xcalloc(1, sizeof(*s));
	char *path;
	int rc;

	rc = store_format_read(dir, &s->format, e);
	if (rc != 0)
		goto err_free;
	s->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dirfd == -1) {
		rc = err_set(e, ERR_SYS, "%s: %s", dir, strerror(errno));
		goto err_free;
	}
	rc = store_lock(dir, s->dirfd, &s->lockfd, e);
	if (rc != 0)
		goto err_dir;
	rc = store_volume_open(
	    s->dirfd, &s->format, o->nfs_timeout_ms, &s->volume, e);
	if (rc != 0)
		goto err_lock;
	if (o->wrap != NULL)
		s->volume = o->wrap(o->wrap_arg, s->volume);
	memcpy(po.uuid, s->format.uuid, sizeof(po.uuid));
	po.chunk_size = s->format.chunk_size;
	po.reserve = reserve_default(s->volume);
	/* The reserve has room for what lives in a pack to be rewritten. */
	po.data_limit = po.reserve > PACKS_SMALL ? po.reserve : PACKS_SMALL;
	if (o->data_limit != 0)
		po.data_limit = o->data_limit;
	if (o->reserve != 0)
		po.reserve = o->reserve;
	atomic_init(&s->ranges_left, STORE_RANGES);
	s->checkpoint_ms =
	    o->checkpoint_ms != 0 ? o->checkpoint_ms : CHECKPOINT_MS;
	s->packs = packs_new(s->volume, &po);
	xo.block_cache = o->block_cache != 0 ? o->block_cache : BLOCK_CACHE;
	path =
	    o->index != NULL ? xstrdup(o->index) : xasprintf("%s/index", dir);
	rc = index_open(path, &xo, &s->index, e);
	free(path);
	if (rc != 0) {
		if (rc == ERR_NOENT)
			rc = err_set(e, ERR_CORRUPT,
			    "%s has no index: run `backstay fsck "
			    "--rebuild-index`",
			    dir);
		goto err_packs;
	}
	if ((rc = index_check(s->index, &s->format, e)) != 0 ||
	    (rc = rollforward(s->index, s->volume, s->packs, &s->format, e)) !=
		0)
		goto err_index;
	tell.m = xmalloc(sizeof(*tell.m));
	rc = index_backups_each(s->index, tell_backup, &tell);
	free(tell.m);
	if (rc != 0)
		goto err_index;
	s->damage = damage_new();
	s->ledger = ledger_new(s->index, s->packs, o->batch_ms);
	rc = ledger_start(s->ledger);
	if (rc != 0) {
		err_set(e, rc, "%s: the ledger could not start", dir);
		goto err_ledger;
	}
	*out = s;
	return 0;
err_ledger:
	ledger_free(s->ledger);
	damage_free(s->damage);
err_index:
	index_close(s->index);
err_packs:
	packs_free(s->packs);
	volume_close(s->volume);
err_lock:
	close(s->lockfd);
err_dir:
	close(s->dirfd);
err_free:
	free(s);
	return rc;
}

void
store_close(struct store *s)
{
	if (s == NULL)
		return;
	ledger_stop(s->ledger);
	ledger_free(s->ledger);
	damage_free(s->damage);
	index_close(s->index);
	packs_free(s->packs);
	volume_close(s->volume);
	close(s->lockfd);
	close(s->dirfd);
	free(s);
}

const struct store_format *
store_format(const struct store *s)
{
	return &s->format;
}

static void
add_pack(void *arg, const struct pack_info *info)
{
	struct store_status *st = arg;
	/* Entries name the first of a meta pair; its twin holds as much. */
	int64_t copies = info->type == PACK_META ? 2 : 1;

	st->npacks++;
	st->stored += info->known;
	if (info->live > 0)
		st->live += (uint64_t)(info->live * copies);
}

int
store_waiting_ms(struct store *s, uint64_t *ms)
{
	return ledger_waiting_ms(s->ledger, ms);
}

int
store_status(struct store *s, struct store_status *out)
{
	struct ledger_status ls;
	struct index_size size;
	int rc;

	*out = (struct store_status){ 0 };
	rc = index_size(s->index, &size);
	if (rc != 0)
		return rc;
	rc = volume_space(s->volume, &out->avail, &out->total);
	if (rc != 0)
		return rc;
	packs_each(s->packs, add_pack, out);
	ledger_status(s->ledger, &ls);
	out->unique_raw = ls.unique_raw;
	out->batches = ls.published;
	out->sessions = ls.nsessions;
	out->index_bytes = size.bytes;
	out->entries = size.entries;
	return 0;
}

int
store_space(
    struct store *s, uint64_t *avail, uint64_t *total, uint64_t *reserve)
{
	int rc = packs_room(s->packs, avail, reserve);

	return rc != 0 ? rc : volume_space(s->volume, avail, total);
}
