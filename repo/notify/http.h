/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http: a few pages that are made when they are asked for; libmicrohttpd's
 * only user.  One thread of its own, few connections: whoever floods it keeps
 * only others from reading these pages.
 */
#ifndef REPO_NOTIFY_HTTP_H
#define REPO_NOTIFY_HTTP_H

#include "proto/base/buf.h"
#include "proto/base/err.h"

enum { HTTP_CONNECTIONS_MAX = 16, HTTP_IDLE_S = 5 };

struct http_page {
	const char *path; /* "/metrics" */
	const char *type; /* of its content */
	/* Append the page; the status, 200 or 503.  http's own thread. */
	int (*make)(void *arg, struct buf *out);
};

struct http;

/** http_start(fd, pages, n, arg, out): serve the listening socket ${fd}, which
 * is taken over, also where this fails; ${pages} are kept.  ERR_SYS.
 * http_stop(h): answers what is being made, then frees.  NULL is nothing. */
int http_start(int fd, const struct http_page *pages, unsigned n, void *arg,
    struct http **out);
void http_stop(struct http *h);

#endif
