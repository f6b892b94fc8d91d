/* SPDX-License-Identifier: Apache-2.0 */
/* vm_off: whether a machine of this host is switched off. */
#ifndef AGENT_LIVE_VM_OFF_H
#define AGENT_LIVE_VM_OFF_H

#include "proto/base/err.h"

/**
 * vm_off(domain, uri, qmp, e): 0: the domain of libvirt (${uri}: NULL: its
 * default) is off or there is none of that name, and nobody listens at the
 * monitor's socket ${qmp}.  Each may be NULL: not asked.  ERR_BUSY: it runs;
 * ERR_DENIED, ERR_SYS.
 */
int vm_off(const char *domain, const char *uri, const char *qmp, struct err *e);

#endif
