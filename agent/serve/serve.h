/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve: the agent that stays: the main thread has children and signals, one
 * thread the lane to the daemon (control), one looks around (lookout).
 */
#ifndef AGENT_SERVE_SERVE_H
#define AGENT_SERVE_SERVE_H

#include "agent/pipeline/identity.h"
#include "agent/serve/conf.h"

struct serve_options {
	const char *conf_path;
	bool conf_must;   /* it was named: it is an error if it is not there */
	const char *repo; /* of the command line, or NULL */
	const char *version;
	const struct identity *id;
};

/** serve_repo(o, c): the address in force: of the command line, of agent.conf,
 * of BACKSTAY_AGENT_REPO; NULL: none. */
const char *serve_repo(const struct serve_options *o, const struct conf *c);

/** serve_run(o, c, e): until SIGTERM or SIGINT; ${c} is used up.  Once in each
 * process, main thread, before others are there.  0; ERR_INVAL: no address. */
int serve_run(const struct serve_options *o, struct conf *c, struct err *e);

#endif
