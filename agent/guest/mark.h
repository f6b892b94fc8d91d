/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mark: a guest's lock on this host, and in the same file what is to be undone
 * if the holder is killed: it was frozen by us, stopped by us, these files are
 * ours.  Whoever gets the lock next reads it there.
 *
 * The folder is /run/backstay-agent, or, without the right to that,
 * $XDG_RUNTIME_DIR/backstay-agent or /tmp/backstay-agent-UID.  Owner thread.
 */
#ifndef AGENT_GUEST_MARK_H
#define AGENT_GUEST_MARK_H

#include <stdbool.h>

#include "proto/base/err.h"

struct mark;

enum { MARK_FILES_MAX = 80 };

/** mark_open(ident, out, e): lock guest ${ident}; does not wait.  ERR_BUSY,
 * ERR_SYS.  The lock ends with mark_close or with the process. */
int mark_open(const char *ident, struct mark **out, struct err *e);
void mark_close(struct mark *m);

/** mark_dir(m): the folder, private to this user; an absolute path. */
const char *mark_dir(const struct mark *m);

/*
 * Setters write at once, before the thing is done; when it is undone, again.
 * ${pid}: of the QEMU concerned: what was marked of another process than that
 * which runs now is void.  ERR_SYS.
 */
int mark_frozen(struct mark *m, int pid, bool frozen);
int mark_stopped(struct mark *m, int pid, bool stopped);
/* An NBD server of ours runs in it. */
int mark_server(struct mark *m, int pid, bool running);
/** mark_file(m, path): a file that is to be removed.  ERR_LIMIT, ERR_SYS. */
int mark_file(struct mark *m, const char *path);

bool mark_is_frozen(const struct mark *m, int pid);
bool mark_is_stopped(const struct mark *m, int pid);
bool mark_has_server(const struct mark *m, int pid);

/** mark_remove_files(m): unlink all of them, forget them.  How many there
 * were. */
unsigned mark_remove_files(struct mark *m);

#endif
