/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/live/vm_off.h"

#include "agent/guest/guest.h"
#include "agent/guest/linesock.h"

static int
domain_off(const char *domain, const char *uri, struct err *e)
{
	struct guest *g;
	int rc = guest_open_libvirt(uri, domain, &g, e);

	/* Whoever has no such domain any more may have its disks back. */
	if (rc == ERR_NOENT)
		return 0;
	if (rc != 0)
		return rc;
	if (guest_state(g) != GUEST_OFF)
		rc = err_set(e, ERR_BUSY,
		    "domain %s runs: shut it off first (virsh shutdown %s), or "
		    "restore by a new name to other disks",
		    domain, domain);
	guest_close(g);
	return rc;
}

static int
monitor_off(const char *qmp, struct err *e)
{
	struct linesock *s;
	int rc = linesock_open(qmp, &s, e);

	if (rc == ERR_NOENT)
		return 0;
	if (rc == 0)
		linesock_close(s);
	/* Who lets nobody in has somebody there. */
	if (rc == 0 || rc == ERR_BUSY)
		return err_set(e, ERR_BUSY,
		    "a QEMU listens at %s: the VM runs: shut it off first, or "
		    "restore by a new name to other disks",
		    qmp);
	return rc;
}

int
vm_off(const char *domain, const char *uri, const char *qmp, struct err *e)
{
	int rc = 0;

	if (domain != NULL)
		rc = domain_off(domain, uri, e);
	if (rc == 0 && qmp != NULL)
		rc = monitor_off(qmp, e);
	return rc;
}
