/* SPDX-License-Identifier: Apache-2.0 */
/* Files of the log that are full: audit.log.N. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/name.h"
#include "repo/audit/audit_impl.h"

void
audit_files_name(uint64_t last, char name[AUDIT_NAME_MAX])
{
	snprintf(name, AUDIT_NAME_MAX, AUDIT_FILE ".%" PRIu64, last);
}

static int
ascending(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

int
audit_files_list(int dirfd, struct audit_files *out, struct err *e)
{
	static const char before[] = AUDIT_FILE ".";
	const struct dirent *d;
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd != -1 ? fdopendir(fd) : NULL;
	uint64_t n;

	memset(out, 0, sizeof(*out));
	if (dir == NULL) {
		if (fd != -1)
			close(fd);
		return err_set(
		    e, ERR_SYS, AUDIT_FILE ": its folder: %s", strerror(errno));
	}
	while ((d = readdir(dir)) != NULL) {
		if (strncmp(d->d_name, before, sizeof(before) - 1) != 0 ||
		    number_parse(
			d->d_name + sizeof(before) - 1, 1, INT64_MAX, &n) != 0)
			continue;
		out->last =
		    xrealloc(out->last, (out->n + 1) * sizeof(out->last[0]));
		out->last[out->n++] = n;
	}
	closedir(dir);
	if (out->n > 0)
		qsort(out->last, out->n, sizeof(out->last[0]), ascending);
	return 0;
}

void
audit_files_fini(struct audit_files *f)
{
	free(f->last);
}

/* The hash of a line stands at its end. */
static void
last_hash(int fd, char hash[AUDIT_HASH_LEN + 1])
{
	enum { END = AUDIT_HASH_LEN + 3 }; /* HASH"}\n */
	uint8_t bytes[AUDIT_HASH_LEN / 2];
	char text[END];
	struct stat st;

	memcpy(hash, audit_none, AUDIT_HASH_LEN + 1);
	if (fstat(fd, &st) == -1 || st.st_size < END ||
	    pread_full(fd, text, END, (uint64_t)st.st_size - END) != END ||
	    memcmp(text + AUDIT_HASH_LEN, "\"}\n", 3) != 0)
		return;
	text[AUDIT_HASH_LEN] = 0;
	if (unhex(text, bytes, sizeof(bytes)) == 0)
		memcpy(hash, text, AUDIT_HASH_LEN + 1);
}

int
audit_files_end(
    int dirfd, uint64_t *n, char hash[AUDIT_HASH_LEN + 1], struct err *e)
{
	char name[AUDIT_NAME_MAX];
	struct audit_files f;
	int fd, rc;

	*n = 0;
	memcpy(hash, audit_none, AUDIT_HASH_LEN + 1);
	rc = audit_files_list(dirfd, &f, e);
	if (rc != 0 || f.n == 0)
		goto out;
	*n = f.last[f.n - 1];
	audit_files_name(*n, name);
	fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	if (fd == -1) {
		rc = err_set(e, ERR_SYS, "%s: cannot be read: %s", name,
		    strerror(errno));
		goto out;
	}
	last_hash(fd, hash);
	close(fd);
out:
	audit_files_fini(&f);
	return rc;
}
