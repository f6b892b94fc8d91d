/* SPDX-License-Identifier: Apache-2.0 */
/* export_out: where the bytes of an archive go: a file that has no name until
 * it is whole, or the standard output.  One thread at a time. */
#ifndef AGENT_ARCHIVE_EXPORT_OUT_H
#define AGENT_ARCHIVE_EXPORT_OUT_H

#include <stdbool.h>

#include "agent/sink/target.h"

struct export_out {
	bool to_file;
	struct target target;
	int fd; /* of the standard output, without waiting if it can be */
	bool reopened, small;
	uint64_t written;
	/* Asked while nobody takes anything: not 0 ends it. */
	int (*wait)(void *arg, struct err *e);
	void *arg;
};

/** export_out_open(o, path, force, e): "-": the standard output.  As
 * target_open; ERR_INVAL: that is a terminal. */
int export_out_open(
    struct export_out *o, const char *path, bool force, struct err *e);

/** export_out_write(o, data, len, e): an arcout_sink.  ERR_NOSPC, ERR_CLOSED:
 * nobody reads it any more; ERR_SYS. */
int export_out_write(void *o, const void *data, size_t len, struct err *e);

/** export_out_finish(o, e): as target_finish. */
int export_out_finish(struct export_out *o, struct err *e);

/** export_out_close(o): unless finished, the file goes. */
void export_out_close(struct export_out *o);

#endif
