/* SPDX-License-Identifier: Apache-2.0 */
/* The mount protocol: once, by a connection of its own. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include <nfsc/libnfs.h>
#include <nfsc/libnfs-raw.h>
#include <nfsc/libnfs-raw-mount.h>

#include "proto/base/io.h"
#include "proto/base/log.h"
#include "proto/nfs/nfs3_impl.h"

enum { TRY_MS = 10000, TICK_MS = 200, AGAIN_MS = 500 };

struct mounting {
	const char *path;
	struct nfs3_fh *out;
	bool done;   /* the server has answered: */
	bool broken; /* or will not over this connection */
	int status;
	char why[160];
};

static void
mounted(struct rpc_context *rpc, int status, void *data, void *arg)
{
	struct mounting *m = arg;
	const mountres3 *r = data;

	(void)rpc;
	if (status != RPC_STATUS_SUCCESS) {
		m->broken = true;
		if (status == RPC_STATUS_ERROR && data != NULL)
			snprintf(
			    m->why, sizeof(m->why), "%s", (const char *)data);
		return;
	}
	m->done = true;
	m->status = (int)r->fhs_status;
	if (r->fhs_status != MNT3_OK)
		return;
	m->out->len = r->mountres3_u.mountinfo.fhandle.fhandle3_len;
	if (m->out->len > NFS3_FH_MAX)
		m->out->len = 0; /* the protocol has no longer ones */
	memcpy(m->out->data, r->mountres3_u.mountinfo.fhandle.fhandle3_val,
	    m->out->len);
}

static void
connected(struct rpc_context *rpc, int status, void *data, void *arg)
{
	struct mounting *m = arg;

	if (status == RPC_STATUS_SUCCESS &&
	    rpc_mount3_mnt_async(rpc, mounted, (char *)(uintptr_t)m->path, m) ==
		0)
		return;
	m->broken = true;
	if (status == RPC_STATUS_ERROR && data != NULL)
		snprintf(m->why, sizeof(m->why), "%s", (const char *)data);
}

/* One connection; ${m} says what came of it. */
static void
try(const struct nfs3_url *u, struct mounting *m, uint64_t until)
{
	struct nfs_context *ctx;
	struct rpc_context *rpc;
	struct pollfd p;
	int rc;

	snprintf(m->why, sizeof(m->why), "no answer to a mount");
	m->broken = false;
	pthread_mutex_lock(&nfs3_libnfs_mu);
	ctx = nfs_init_context();
	if (ctx == NULL) {
		pthread_mutex_unlock(&nfs3_libnfs_mu);
		return;
	}
	nfs_set_autoreconnect(ctx, 0);
	rpc = nfs_get_rpc_context(ctx);
	if (u->uid != -1)
		rpc_set_uid(rpc, u->uid);
	if (u->gid != -1)
		rpc_set_gid(rpc, u->gid);
	rc = u->mountport != 0
	    ? rpc_connect_port_async(rpc, u->host, u->mountport, MOUNT_PROGRAM,
		  MOUNT_V3, connected, m)
	    : rpc_connect_program_async(
		  rpc, u->host, MOUNT_PROGRAM, MOUNT_V3, connected, m);
	pthread_mutex_unlock(&nfs3_libnfs_mu);
	if (rc != 0) {
		snprintf(m->why, sizeof(m->why), "%s", rpc_get_error(rpc));
		m->broken = true;
	}
	while (!m->done && !m->broken && now_ms() < until) {
		p.fd = rpc_get_fd(rpc);
		p.events = (short)rpc_which_events(rpc);
		if (poll(&p, 1, TICK_MS) > 0 &&
		    rpc_service(rpc, p.revents) != 0 && !m->broken)
			m->broken = true;
	}
	/* What is under way comes back broken, to ${m}. */
	nfs_destroy_context(ctx);
}

int
nfs3_mount(struct nfs3 *n, const char *path, struct nfs3_fh *out, struct err *e)
{
	struct mounting m = { .path = path, .out = out };
	uint64_t until = nfs3_deadline(n), now;

	for (;;) {
		now = now_ms();
		try(&n->url, &m, now + TRY_MS < until ? now + TRY_MS : until);
		if (m.done || now_ms() + AGAIN_MS >= until)
			break;
		nanosleep(
		    &(struct timespec){ .tv_nsec = AGAIN_MS * 1000000L }, NULL);
	}
	if (!m.done)
		return err_set(e, ERR_TIMEOUT,
		    "nfs://%s%s: the server does not answer: %s", n->url.host,
		    n->url.path, m.why);
	switch (m.status) {
	case MNT3_OK:
		if (out->len > 0)
			return 0;
		break;
	case MNT3ERR_NOENT:
	case MNT3ERR_NOTDIR:
		return err_set(e, ERR_NOENT,
		    "nfs://%s%s: the server has no such export or folder",
		    n->url.host, n->url.path);
	case MNT3ERR_ACCES:
	case MNT3ERR_PERM:
		return err_set(e, ERR_DENIED,
		    "nfs://%s%s: the server does not export it to this host",
		    n->url.host, n->url.path);
	default: break;
	}
	return err_set(e, ERR_SYS,
	    "nfs://%s%s: the server cannot mount it (status %d)", n->url.host,
	    n->url.path, m.status);
}
