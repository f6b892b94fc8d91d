/* SPDX-License-Identifier: Apache-2.0 */
/* What runs that were killed left in a domain. */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/guest/guest_libvirt.h"
#include "proto/base/io.h"

enum { POLL_MS = 10 };

/* *xml: the job's, or NULL if there is none. */
static int
job_xml(struct lv *lv, char **xml, struct err *e)
{
	*xml = virDomainBackupGetXMLDesc(lv->dom, 0);
	if (*xml != NULL)
		return 0;
	switch (virGetLastErrorCode()) {
	case VIR_ERR_NO_DOMAIN_BACKUP:
	case VIR_ERR_OPERATION_INVALID: /* the domain is off */
	case VIR_ERR_OPERATION_UNSUPPORTED:
	case VIR_ERR_NO_SUPPORT: return 0;
	default: return lv_error(lv, e, "the domain's backup job");
	}
}

static void
remove_files(const struct lv_job *job)
{
	char *dir;

	for (unsigned i = 0; i < job->nscratch; i++) {
		unlink(job->scratch[i]);
		dir = xstrdup(job->scratch[i]);
		*strrchr(dir, '/') = 0;
		if (lv_name_is_ours(dir))
			rmdir(dir); /* as soon as it is empty */
		free(dir);
	}
	if (job->socket != NULL && lv_name_is_ours(job->socket))
		unlink(job->socket);
}

int
lv_job_end(struct lv *lv, bool *found, struct err *e)
{
	uint64_t end = now_ms() + GUEST_SLOW_MS;
	struct lv_job job;
	char *xml;
	int rc;

	*found = false;
	rc = job_xml(lv, &xml, e);
	if (rc != 0 || xml == NULL)
		return rc;
	rc = lv_xml_job(xml, &job, e);
	free(xml);
	if (rc == 0 && !job.ours)
		rc = err_set(e, ERR_BUSY,
		    "another program's backup of the domain is running (virsh "
		    "domjobinfo, virsh backup-dumpxml)");
	if (rc != 0)
		goto done;
	*found = true;
	/* Ended meanwhile, by itself or by somebody: as well. */
	if (virDomainAbortJob(lv->dom) == -1 &&
	    virGetLastErrorCode() != VIR_ERR_OPERATION_INVALID) {
		rc = lv_error(lv, e, "the backup job cannot be ended");
		goto done;
	}
	/* It is gone when QEMU has closed the last file. */
	while ((rc = job_xml(lv, &xml, e)) == 0 && xml != NULL) {
		free(xml);
		if (now_ms() >= end) {
			rc = err_set(
			    e, ERR_TIMEOUT, "the backup job does not end");
			goto done;
		}
		poll(NULL, 0, POLL_MS);
	}
	if (rc == 0)
		remove_files(&job);
done:
	lv_job_fini(&job);
	return rc;
}

static void
found_too(struct buf *what, const char *text)
{
	buf_printf(what, "%s%s", what->len == 0 ? "" : ", ", text);
}

int
lv_release(struct guest *g, const char *repo, const char *keep,
    struct buf *what, struct err *e)
{
	struct lv *lv = g->impl;
	unsigned n = 0;
	bool found;
	int rc, rc2;

	rc = lv_enter(lv, GUEST_SLOW_MS, e);
	if (rc != 0)
		return rc;
	rc = lv_job_end(lv, &found, e);
	if (rc == ERR_BUSY)
		rc = 0; /* nothing of ours */
	if (found)
		found_too(what, "a backup job");
	if (repo != NULL) {
		rc2 =
		    lv_check_delete_old(lv, repo, keep, &n, rc == 0 ? e : NULL);
		rc = rc != 0 ? rc : rc2;
	}
	if (n != 0)
		found_too(what, n == 1 ? "a checkpoint" : "checkpoints");
	lv_leave(lv);
	return rc;
}
