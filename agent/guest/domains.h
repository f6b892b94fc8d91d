/* SPDX-License-Identifier: Apache-2.0 */
/* domains: all machines that libvirt has on this host. */
#ifndef AGENT_GUEST_DOMAINS_H
#define AGENT_GUEST_DOMAINS_H

#include "agent/guest/guest.h"

enum { DOMAINS_MAX = 1024 };

struct domain {
	const char *name;
	const char *uuid;
	enum guest_state state;
	unsigned ndisks;
	const struct guest_disk *disk; /* their sizes are 0: see the images */
};

/* One of them; what it points to is gone afterwards. */
typedef void domains_fn(void *arg, const struct domain *d);

/**
 * domains_list(uri, fn, arg, e): each domain, running or not, in the order of
 * their names; ${uri} NULL: libvirt's default.  No QEMU is asked for anything,
 * so one that hangs holds nobody up.  One that went meanwhile is left out.
 * ERR_DENIED, ERR_UNSUP, ERR_TIMEOUT, ERR_LIMIT (over DOMAINS_MAX), ERR_SYS:
 * some may have been told.
 */
int domains_list(const char *uri, domains_fn *fn, void *arg, struct err *e);

#endif
