/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audited: what the daemon notes in the audit log, and how.
 *
 * What destroys is noted twice: before it is done, which is refused if that
 * cannot be written, and when it has ended.
 */
#ifndef REPO_SERVE_AUDITED_H
#define REPO_SERVE_AUDITED_H

#include "repo/audit/audit.h"
#include "repo/serve/session.h"

/* Refused calls that are noted in a minute: whoever may do nothing shall not
 * fill the disk with it. */
enum { AUDITED_REFUSED_MAX = 60 };

typedef int audited_op(
    struct session *s, const json_t *q, json_t *a, struct err *e);

/** audited_run(s, op, run, q, a, e): run the call of that name, and note it if
 * the table in audited.c says so. */
int audited_run(struct session *s, const char *op, audited_op *run,
    const json_t *q, json_t *a, struct err *e);

/** audited_refused(s, op, q, e): the key may not, as ${e} says. */
void audited_refused(
    struct session *s, const char *op, const json_t *q, const struct err *e);

/** audited_who(s): "uid 0", or the key's name; the caller's. */
char *audited_who(const struct session *s);

/** audited_job_end(srv, j): from serve_let_go. */
void audited_job_end(struct serve *srv, struct job *j);

/** audited_keys(srv, old, now): the keys are others now. */
void audited_keys(
    struct serve *srv, const struct auth *old, const struct auth *now);

/** audited_start(srv): the daemon starts: checks the log, and says on stderr
 * where it is not sound.  audited_stop(srv, why): its end. */
void audited_start(struct serve *srv);
void audited_stop(struct serve *srv, const char *why);

/** audited_note(srv, a, number, e): one line, of whoever else has something to
 * note; without its "what" if that is too long.  Any thread.  As
 * audit_append; nothing where srv->audit is NULL. */
int audited_note(struct serve *srv, const struct audit_entry *a,
    uint64_t *number, struct err *e);

#endif
