/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control: the thread that has the lane to the daemon: says what this host has,
 * asks what there is to do, tells what ended; connects again when it is lost.
 */
#ifndef AGENT_SERVE_CONTROL_H
#define AGENT_SERVE_CONTROL_H

#include "agent/pipeline/identity.h"
#include "agent/pipeline/repo_url.h"
#include "agent/serve/desk.h"
#include "agent/serve/lookout.h"

struct control_options {
	const struct repo_url *url;
	const struct identity *id;
	const char *version; /* of this program */
	struct conf_now *now;
	struct lookout *lookout;
	struct desk *desk;
};

struct control;

/** control_new(o): all that ${o} points to outlives it. */
struct control *control_new(const struct control_options *o);

/**
 * control_stop(c): ask for nothing more; end when the daemon was told of all
 * tasks.  Main thread.
 * control_free(c): end now.  False: its thread is held up by the network, and
 * was left behind: the process is to end.
 */
void control_stop(struct control *c);
bool control_free(struct control *c);

/** control_status(c, out, len): for people: connected, since when lost. */
void control_status(struct control *c, char *out, size_t len);

#endif
