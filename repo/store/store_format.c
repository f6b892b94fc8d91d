/* SPDX-License-Identifier: Apache-2.0 */
/* What init makes: the folder, backstay.json, packs, an empty index. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "proto/nfs/nfs3_file.h"
#include "repo/store/lease.h"
#include "repo/store/store_impl.h"

enum { FORMAT_VERSION = 1, FORMAT_FILE_MAX = 65536 };

static const char file_name[] = "backstay.json";

/* Whoever does not know of it would look for the packs in the wrong place. */
static const char feature_packs[] = "packs";

static int
format_write(int dirfd, const struct store_format *f, struct err *e)
{
	char made[TIME_TEXT_LEN + 1];
	struct buf text = { 0 };
	json_t *j = json_object(), *features = json_array();
	int rc;

	json_set_u64(j, "version", f->version);
	json_object_set_new(j, "features", features);
	if (f->packs[0] != 0) {
		json_array_append_new(features, json_string(feature_packs));
		json_set_str(j, "packs", f->packs);
	}
	json_set_hex(j, "uuid", f->uuid, sizeof(f->uuid));
	json_set_u64(j, "chunk_size", f->chunk_size);
	json_set_str(j, "hash", "sha256");
	json_set_str(
	    j, "dedup", f->dedup_namespace ? "namespace" : "repository");
	json_set_str(j, "created", time_print(f->created, made));
	json_print(j, &text);
	buf_u8(&text, '\n');
	rc = file_replace(dirfd, file_name, text.data, text.len, 0600);
	json_decref(j);
	buf_fini(&text);
	if (rc != 0)
		return err_set(e, rc, "%s could not be written%s", file_name,
		    rc == ERR_NOSPC ? ": the disk is full" : "");
	return 0;
}

static int
format_parse(const struct buf *text, struct store_format *f, struct err *e)
{
	const char *hash, *dedup, *created, *packs;
	uint64_t version, chunk_size;
	json_t *j, *features, *feature;
	size_t i;
	int rc;

	rc = json_parse(text->data, text->len, &j, e);
	if (rc != 0)
		return rc;
	rc = json_get_u64(j, "version", &version, e);
	if (rc != 0)
		goto out;
	if (version != FORMAT_VERSION) {
		rc = err_set(e, ERR_UNSUP,
		    "the repository has format %llu and this program knows "
		    "%d: use a newer one",
		    (unsigned long long)version, FORMAT_VERSION);
		goto out;
	}
	if ((rc = json_get_array(j, "features", &features, e)) != 0 ||
	    (rc = json_get_hex(j, "uuid", f->uuid, sizeof(f->uuid), e)) != 0 ||
	    (rc = json_get_u64(j, "chunk_size", &chunk_size, e)) != 0 ||
	    (rc = json_get_str(j, "hash", &hash, e)) != 0 ||
	    (rc = json_get_str(j, "dedup", &dedup, e)) != 0 ||
	    (rc = json_get_str(j, "created", &created, e)) != 0)
		goto out;
	json_array_foreach(features, i, feature)
	{
		if (json_is_string(feature) &&
		    strcmp(json_string_value(feature), feature_packs) == 0)
			continue;
		rc = err_set(e, ERR_UNSUP,
		    "the repository uses features that this program does not "
		    "know: use a newer one");
		goto out;
	}
	f->packs[0] = 0;
	if (json_array_size(features) != 0) {
		rc = json_get_str(j, "packs", &packs, e);
		if (rc != 0)
			goto out;
		snprintf(f->packs, sizeof(f->packs), "%s", packs);
	}
	if (!chunk_size_ok(chunk_size) || strcmp(hash, "sha256") != 0 ||
	    time_parse(created, &f->created) != 0 ||
	    (strcmp(dedup, "namespace") != 0 &&
		strcmp(dedup, "repository") != 0)) {
		rc = err_set(e, ERR_CORRUPT, "a value makes no sense");
		goto out;
	}
	f->version = (uint32_t)version;
	f->chunk_size = (uint32_t)chunk_size;
	f->hash = HASH_SHA256;
	f->dedup_namespace = strcmp(dedup, "namespace") == 0;
out:
	json_decref(j);
	return rc;
}

int
store_format_read(const char *dir, struct store_format *out, struct err *e)
{
	struct buf text = { 0 };
	int dirfd, rc;

	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd == -1 && (errno == ENOENT || errno == ENOTDIR))
		return err_set(e, ERR_NOENT,
		    "%s: %s: make a repository with `backstay init %s`", dir,
		    strerror(errno), dir);
	if (dirfd == -1)
		return err_set(e, errno == EACCES ? ERR_DENIED : ERR_SYS,
		    "%s: %s", dir, strerror(errno));
	rc = file_read(dirfd, file_name, FORMAT_FILE_MAX, &text);
	if (rc == ERR_NOENT)
		rc = err_set(e, ERR_NOENT,
		    "%s is no repository: make one with `backstay init %s`",
		    dir, dir);
	else if (rc != 0)
		err_set(e, rc, "%s/%s cannot be read", dir, file_name);
	else if ((rc = format_parse(&text, out, e)) != 0) {
		if (rc == ERR_PROTO)
			rc = e->code = ERR_CORRUPT;
		err_prefix(e, "%s/%s", dir, file_name);
	}
	buf_fini(&text);
	close(dirfd);
	return rc;
}

static bool
folder_empty(int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *d;
	bool empty = true;
	DIR *dir;

	dir = fd != -1 ? fdopendir(fd) : NULL;
	if (dir == NULL) {
		if (fd != -1)
			close(fd);
		return false;
	}
	while ((d = readdir(dir)) != NULL)
		if (strcmp(d->d_name, ".") != 0 &&
		    strcmp(d->d_name, "..") != 0 &&
		    strcmp(d->d_name, "lost+found") != 0)
			empty = false;
	closedir(dir);
	return empty;
}

static int
index_make(const char *dir, const struct store_format *f, struct err *e)
{
	struct index_options o = { .create = true };
	char *path = xasprintf("%s/index", dir);
	struct index_batch *b;
	struct index *x;
	int rc;

	rc = index_open(path, &o, &x, e);
	if (rc != 0)
		goto out;
	b = index_batch_new(x);
	index_batch_uuid(b, f->uuid);
	index_batch_number(b, INDEX_PUBLISHED, 1);
	index_batch_number(b, INDEX_NUMBERS_END, 1);
	rc = index_batch_write(b, true);
	if (rc != 0)
		err_set(e, rc, "%s could not be written", path);
	index_batch_free(b);
	index_close(x);
out:
	free(path);
	return rc;
}

bool
store_init_may(const char *dir)
{
	int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool may = dirfd != -1 && folder_empty(dirfd);

	if (dirfd != -1)
		close(dirfd);
	return may;
}

int
store_volume_open(int dirfd, const struct store_format *f,
    unsigned nfs_timeout_ms, struct volume **out, struct err *e)
{
	struct volume_nfs_options o = { .patience_ms = nfs_timeout_ms };

	return f->packs[0] == 0 ? volume_dir_open(dirfd, out, e)
				: volume_nfs_open(f->packs, dirfd, &o, out, e);
}

static int
any_pack(void *arg, const struct volume_name *name)
{
	(void)name;
	return err_set(arg, ERR_EXIST,
	    "there are packs already, of another repository: name a new or an "
	    "empty folder");
}

/* An empty place for the packs. */
static int
volume_make(int dirfd, const char *packs, struct err *e)
{
	struct volume_nfs_options o = { .make = true };
	struct volume *v;
	int rc;

	if (packs == NULL)
		return volume_dir_init(dirfd, e);
	rc = volume_nfs_open(packs, dirfd, &o, &v, e);
	if (rc != 0)
		return rc;
	rc = volume_each(v, any_pack, e);
	if (rc != 0 && e->code == 0)
		err_set(e, rc, "cannot be listed");
	volume_close(v);
	if (rc != 0) {
		/* The folder is to be as empty as before. */
		unlinkat(dirfd, LEASE_FILE, 0);
		err_prefix(e, "%.200s", packs);
	}
	return rc;
}

int
store_init(const char *dir, uint32_t chunk_size, bool dedup_namespace,
    const char *packs, struct err *e)
{
	struct store_format f = { .version = FORMAT_VERSION,
		.chunk_size = chunk_size,
		.hash = HASH_SHA256,
		.dedup_namespace = dedup_namespace,
		.created = (uint64_t)time(NULL) };
	int dirfd, rc;

	if (!chunk_size_ok(chunk_size))
		return err_set(e, ERR_INVAL,
		    "a chunk size is a power of two from 64K to 4M");
	if (packs != NULL && strlen(packs) > STORE_PACKS_MAX)
		return err_set(
		    e, ERR_LIMIT, "the URL of the packs is too long");
	if (packs != NULL)
		snprintf(f.packs, sizeof(f.packs), "%s", packs);
	if (mkdir(dir, 0700) == -1 && errno != EEXIST)
		return err_set(e, errno == ENOSPC ? ERR_NOSPC : ERR_SYS,
		    "%s: cannot be made: %s", dir, strerror(errno));
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd == -1)
		return err_set(e, ERR_SYS, "%s: %s", dir, strerror(errno));
	if (!folder_empty(dirfd)) {
		rc = err_set(e, ERR_EXIST,
		    faccessat(dirfd, file_name, F_OK, 0) == 0
			? "%s is a repository already"
			: "%s is not empty: name a new or an empty folder",
		    dir);
		goto out;
	}
	if (fchmod(dirfd, 0700) == -1) {
		rc = err_set(e, ERR_SYS, "%s: %s", dir, strerror(errno));
		goto out;
	}
	random_bytes(f.uuid, sizeof(f.uuid));
	/* backstay.json last: it says that all the rest is there. */
	if ((rc = volume_make(dirfd, packs, e)) != 0 ||
	    (rc = index_make(dir, &f, e)) != 0)
		goto out;
	rc = format_write(dirfd, &f, e);
out:
	close(dirfd);
	return rc;
}

uint64_t
store_export_memory(void)
{
	/* What is kept, and libnfs's copies of what is under way. */
	return (uint64_t)NFS3_KEPT_MAX + NFS3_WAY_MAX;
}
