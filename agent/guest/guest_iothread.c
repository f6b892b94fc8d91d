/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU before 9.0 takes leave of NBD clients in the thread of the disk that
 * they read; where that is not its main thread, 7.2 with later fixes ends by an
 * assertion (nbd_blockdev_client_closed), and the guest with it.  No reader can
 * promise never to hang up, so such disks are not exported at all.
 */
#include <string.h>

#include "agent/guest/guest_impl.h"

enum { QEMU_IS_GOOD = 9, BUSES_MAX = 4, QOM_PATH_MAX = 512 };

static int
qom_get(struct guest *g, const char *path, const char *property, char *out,
    size_t len)
{
	json_t *j;
	int rc;

	rc = g->ops->monitor(g, "qom-get",
	    json_pack("{s:s,s:s}", "path", path, "property", property), -1, &j,
	    NULL);
	if (rc != 0)
		return rc;
	snprintf(out, len, "%s", json_is_string(j) ? json_string_value(j) : "");
	json_decref(j);
	return 0;
}

/* The device's own, or that of the controller on whose bus it is. */
static bool
has_iothread(struct guest *g, const char *qdev)
{
	char path[QOM_PATH_MAX], value[QOM_PATH_MAX], *end;

	/* An id alone may be that of another object, too. */
	snprintf(path, sizeof(path), "%s%s",
	    qdev[0] == '/' ? "" : "/machine/peripheral/", qdev);
	for (unsigned i = 0; i < BUSES_MAX; i++) {
		if (qom_get(g, path, "iothread", value, sizeof(value)) == 0 &&
		    value[0] != 0)
			return true;
		if (qom_get(g, path, "parent_bus", value, sizeof(value)) != 0)
			return false;
		end = strrchr(value, '/');
		if (end == NULL || end == value)
			return false;
		*end = 0;
		memcpy(path, value, sizeof(path));
	}
	return false;
}

static int
check_blocks(struct guest *g, struct err *e)
{
	const char *qdev;
	json_t *list, *block;
	size_t i;
	int rc;

	rc = g->ops->monitor(g, "query-block", NULL, -1, &list, e);
	if (rc != 0)
		return rc;
	json_array_foreach(list, i, block)
	{
		qdev = json_string_value(json_object_get(block, "qdev"));
		if (rc == 0 && qdev != NULL && has_iothread(g, qdev))
			rc = err_set(e, ERR_UNSUP,
			    "a disk of the guest (%.100s) has an iothread, "
			    "and this QEMU may crash when a reader of such a "
			    "disk hangs up: use QEMU 9.0 or newer, take the "
			    "iothread away, or back up the guest while it is "
			    "off",
			    qdev);
	}
	json_decref(list);
	return rc;
}

int
guest_check_iothreads(struct guest *g, struct err *e)
{
	const json_t *major;
	json_t *j;
	int rc;

	/* libvirt knows of all of them, and does not like its monitor used. */
	if (g->no_iothreads)
		return 0;
	rc = g->ops->monitor(g, "query-version", NULL, -1, &j, e);
	if (rc != 0)
		return rc;
	major = json_object_get(json_object_get(j, "qemu"), "major");
	if (json_integer_value(major) < QEMU_IS_GOOD)
		rc = check_blocks(g, e);
	json_decref(j);
	return rc;
}
