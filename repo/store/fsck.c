/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/store/fsck_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/bytes.h"
#include "proto/base/fault.h"

enum {
	SAY_MAX = 100, /* lines; the rest is counted */
	BLOCK_CACHE = 32 << 20,
	MEMTABLES = 64 << 20
};

bool
fsck_clean(const struct fsck_report *r)
{
	return r->damaged + r->no_record + r->wrong_refs + r->missing +
	    r->wrong_live + r->hit_backups ==
	    0;
}

void
fsck_tell(struct fsck *f, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	if (++f->lines > SAY_MAX)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	f->say(f->arg,
	    f->lines < SAY_MAX ? line
			       : "... and more; the totals count them all");
}

const char *
fsck_short_id(const struct id *id, char out[17])
{
	snprintf(out, 17, "%016llx", (unsigned long long)get_be64(id->b));
	return out;
}

/* The new index in place of the old.  A kill between the two renames leaves no
 * index at all, and the next start says what to do. */
static int
put_in_place(struct fsck *f)
{
	char *old = xasprintf("%s.old", f->index_path);
	int rc;

	rc = index_destroy(old, f->e);
	if (rc != 0)
		goto out;
	if ((fault_fails(FAULT_REBUILD_ASIDE) ||
		rename(f->index_path, old) == -1) &&
	    errno != ENOENT) {
		rc = err_set(f->e, ERR_SYS, "%s: rename: %s", f->index_path,
		    strerror(errno));
		goto out;
	}
	if (fault_fails(FAULT_REBUILD_SWAP) ||
	    rename(f->scratch_path, f->index_path) == -1) {
		rc = err_set(f->e, ERR_SYS, "%s: rename: %s", f->scratch_path,
		    strerror(errno));
		goto out;
	}
	if (fault_fails(FAULT_REBUILD_SYNC) || fsync(f->dirfd) == -1) {
		rc = err_set(
		    f->e, ERR_SYS, "%s: sync: %s", f->dir, strerror(errno));
		goto out;
	}
	fault_pass(FAULT_REBUILD_DESTROY);
	rc = index_destroy(old, f->e);
out:
	free(old);
	return rc;
}

static int
run(struct fsck *f)
{
	struct index_options xo = { .block_cache = BLOCK_CACHE,
		.memtables = MEMTABLES,
		.create = true };
	struct index_options ro = { .block_cache = BLOCK_CACHE,
		.memtables = MEMTABLES,
		.read_only = true };
	int rc;

	rc = index_destroy(f->scratch_path, f->e);
	if (rc != 0)
		return rc;
	if (!f->o->rebuild) {
		rc = index_open(f->index_path, &ro, &f->index, f->e);
		if (rc != 0)
			return rc == ERR_NOENT
			    ? err_set(f->e, ERR_CORRUPT,
				  "%s has no index: run `backstay fsck "
				  "--rebuild-index`",
				  f->dir)
			    : rc;
	}
	rc = index_open(f->scratch_path, &xo, &f->scratch, f->e);
	if (rc != 0)
		goto close_index;
	if ((rc = fsck_find_packs(f)) == 0 && (rc = fsck_scan(f)) == 0 &&
	    (rc = fsck_count(f)) == 0)
		rc = f->o->rebuild ? fsck_settle(f) : fsck_compare(f);
	index_close(f->scratch);
	if (rc == 0 && f->o->rebuild)
		rc = put_in_place(f);
close_index:
	index_close(f->index);
	index_destroy(f->scratch_path, NULL);
	return rc;
}

int
fsck(const char *dir, const struct fsck_options *o,
    void (*say)(void *arg, const char *line), void *arg,
    struct fsck_report *out, struct err *e)
{
	struct fsck f = {
		.o = o, .dir = dir, .say = say, .arg = arg, .out = out, .e = e
	};
	struct pack_options po = { .hash = HASH_SHA256,
		.data_limit = PACK_DATA_LIMIT };
	struct kept *k;
	size_t at = 0;
	int rc;

	*out = (struct fsck_report){ 0 };
	e->code = 0;
	rc = store_format_read(dir, &f.format, e);
	if (rc != 0)
		return rc;
	f.dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f.dirfd == -1)
		return err_set(e, ERR_SYS, "%s: %s", dir, strerror(errno));
	rc = store_lock(dir, f.dirfd, &f.lockfd, e);
	if (rc != 0)
		goto close_dir;
	rc = store_volume_open(f.dirfd, &f.format, 0, &f.volume, e);
	if (rc != 0)
		goto close_lock;
	memcpy(po.uuid, f.format.uuid, sizeof(po.uuid));
	po.chunk_size = f.format.chunk_size;
	f.packs = packs_new(f.volume, &po);
	f.index_path =
	    o->index != NULL ? xstrdup(o->index) : xasprintf("%s/index", dir);
	f.scratch_path = xasprintf("%s.fsck", f.index_path);
	idmap_init(&f.backups, sizeof(struct kept));
	idmap_init(&f.tombs, sizeof(uint64_t));
	idmap_init(&f.lot, sizeof(struct index_entry));
	pack_counts_init(&f.live);
	rc = run(&f);
	while ((k = idmap_next(&f.backups, &at, NULL)) != NULL)
		free(k->data);
	pack_counts_fini(&f.live);
	idmap_fini(&f.lot);
	idmap_fini(&f.tombs);
	idmap_fini(&f.backups);
	buf_fini(&f.payload);
	free(f.scratch_path);
	free(f.index_path);
	free(f.pack);
	packs_free(f.packs);
	volume_close(f.volume);
close_lock:
	close(f.lockfd);
close_dir:
	close(f.dirfd);
	return rc;
}
