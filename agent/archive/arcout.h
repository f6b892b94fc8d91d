/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arcout: an archive that is written once, forward.  The only user of
 * libarchive's writer.  One thread at a time.
 */
#ifndef AGENT_ARCHIVE_ARCOUT_H
#define AGENT_ARCHIVE_ARCOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"

enum arcout_kind {
	ARCOUT_TAR,
	ARCOUT_TAR_ZST,
	ARCOUT_TAR_GZ,
	ARCOUT_TAR_XZ,
	ARCOUT_ZIP,
	/* Tars for those who know no pax headers: with members below 8 GiB, and
	 * with larger ones (GNU's).  No words of users. */
	ARCOUT_USTAR,
	ARCOUT_GNUTAR
};
#define ARCOUT_USTAR_MAX ((UINT64_C(1) << 33) - 1)

/** arcout_kind(name, out): "tar.zst", ...  False: there is none. */
bool arcout_kind(const char *name, enum arcout_kind *out);

/** Where its bytes go: 0, or what ended it. */
typedef int arcout_sink(void *arg, const void *data, size_t len, struct err *e);

struct arcout;

/** arcout_open(kind, sink, arg, out, e): ERR_UNSUP: libarchive has not that
 * compression; what ${sink} says. */
int arcout_open(enum arcout_kind kind, arcout_sink *sink, void *arg,
    struct arcout **out, struct err *e);

/* Stretches of a member that hold data: in order, apart. */
struct arcout_extent {
	uint64_t off;
	uint64_t len;
};

/** arcout_sparse(kind): whether it can leave out holes of a member. */
bool arcout_sparse(enum arcout_kind kind);

/**
 * arcout_begin(o, name, size, mtime, x, nx, e): a member of ${size} bytes.
 * With ${nx} extents all else of it is a hole, where the archive can have
 * holes; a single extent of no length: all is.
 * arcout_data(o, data, len, e), arcout_hole(o, len, e): its bytes in order.
 * arcout_end(o, e): all of them came.
 */
int arcout_begin(struct arcout *o, const char *name, uint64_t size,
    uint64_t mtime, const struct arcout_extent *x, size_t nx, struct err *e);
int arcout_data(struct arcout *o, const void *data, size_t len, struct err *e);
int arcout_hole(struct arcout *o, uint64_t len, struct err *e);
int arcout_end(struct arcout *o, struct err *e);

/** arcout_finish(o, e): the end of the archive; once, after the last member. */
int arcout_finish(struct arcout *o, struct err *e);

/** arcout_free(o): unless it is finished its end is missing, so that it passes
 * for whole nowhere.  NULL is nothing. */
void arcout_free(struct arcout *o);

#endif
