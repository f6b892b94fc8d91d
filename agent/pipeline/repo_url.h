/* SPDX-License-Identifier: Apache-2.0 */
/* repo_url: where a repository's daemon is, as a person writes it.  Pure. */
#ifndef AGENT_PIPELINE_REPO_URL_H
#define AGENT_PIPELINE_REPO_URL_H

#include "proto/base/err.h"

enum { REPO_URL_HOST_MAX = 255, REPO_URL_PATH_MAX = 4095 };

struct repo_url {
	int port;                         /* of an ssh URL; 0: a local socket */
	char host[REPO_URL_HOST_MAX + 1]; /* of an ssh URL */
	char path[REPO_URL_PATH_MAX + 1]; /* of a local socket */
};

/**
 * repo_url_parse(s, out, e): "ssh://[USER@]HOST[:PORT]" (an IPv6 address in
 * brackets; a user is accepted and means nothing) or "unix:PATH".  ERR_INVAL.
 */
int repo_url_parse(const char *s, struct repo_url *out, struct err *e);

#endif
