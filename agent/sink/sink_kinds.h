/* SPDX-License-Identifier: Apache-2.0 */
/* sink_kinds: how each kind of sink is opened; only for sink.c. */
#ifndef AGENT_SINK_SINK_KINDS_H
#define AGENT_SINK_SINK_KINDS_H

#include "agent/sink/sink.h"

/* All as sink_open, and sink.c has set nothing yet. */
int sink_raw_open(
    const struct sink_options *o, struct sink **out, struct err *e);
int sink_device_open(
    const struct sink_options *o, struct sink **out, struct err *e);
int sink_qcow2_open(
    const struct sink_options *o, struct sink **out, struct err *e);

#endif
