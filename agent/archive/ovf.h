/* SPDX-License-Identifier: Apache-2.0 */
/* ovf: the descriptor of an OVA, OVF 1.1 (DSP0243).  Pure. */
#ifndef AGENT_ARCHIVE_OVF_H
#define AGENT_ARCHIVE_OVF_H

#include "agent/archive/head.h"

/** ovf_print(h, definition, out): of the members of ${h}, all of them disks;
 * ${definition}: text that describes the machine, or NULL: processors, memory
 * and how many network cards it has are looked for there. */
void ovf_print(const struct head *h, const char *definition, struct buf *out);

#endif
