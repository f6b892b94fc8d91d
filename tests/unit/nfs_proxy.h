/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nfs_proxy: between a client and a real NFS server, to see each call and each
 * answer, and to lose, change or keep some.
 */
#ifndef TESTS_UNIT_NFS_PROXY_H
#define TESTS_UNIT_NFS_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/unit/nfs_room.h"

/* What becomes of a message. */
enum proxy_fate {
	PROXY_PASS,
	PROXY_LOSE,
	PROXY_BREAK, /* and the connection with it */
	PROXY_KEEP   /* a call: the server gets it when it is let go of */
};

/* ${body} is behind the RPC header: of an answer it begins with nfsstat3.  In
 * the proxy's thread. */
typedef enum proxy_fate proxy_look(
    void *arg, uint32_t proc, bool answer, uint8_t *body, size_t len);

struct nfs_proxy;

/** nfs_proxy_new(r, look, arg, url): for the server of ${r}; ${url}, of
 * ${len} bytes, is its export by way of the proxy. */
struct nfs_proxy *nfs_proxy_new(const struct nfs_room *r, proxy_look *look,
    void *arg, char *url, size_t len);
void nfs_proxy_free(struct nfs_proxy *p);

/** nfs_proxy_let_go(p): the server gets the calls that were kept, by a
 * connection of their own, and has answered them on return: how many. */
unsigned nfs_proxy_let_go(struct nfs_proxy *p);

/** nfs_proxy_limit(p, max): more connections than that are closed at once; 0:
 * as many as there are. */
void nfs_proxy_limit(struct nfs_proxy *p, int max);

/** proxy_u32, proxy_set_u32: big-endian, as on the wire. */
uint32_t proxy_u32(const uint8_t *at);
void proxy_set_u32(uint8_t *at, uint32_t v);

#endif
