/* SPDX-License-Identifier: Apache-2.0 */
/*
 * domain: whose ids a VM's chunks have.  In a repository that dedups by
 * namespace each namespace is a domain with a number and a random key, kept in
 * REPO/keys/domains.json; otherwise all VMs are of domain 0, without a key.
 * Any thread.
 */
#ifndef REPO_CATALOG_DOMAIN_H
#define REPO_CATALOG_DOMAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/chunk.h"

enum { DOMAINS_MAX = 4096 };

struct domain {
	uint32_t number;
	bool keyed;
	uint8_t key[HASH_KEY_LEN];
};

/** domain_key(d): its key, or NULL: as the store takes it. */
static inline const uint8_t *
domain_key(const struct domain *d)
{
	return d->keyed ? d->key : 0;
}

struct domains;

/**
 * domains_open(keysfd, by_namespace, out, e): ${keysfd} is the folder
 * REPO/keys; it stays the caller's and outlives the table.  ERR_CORRUPT,
 * ERR_SYS.
 */
int domains_open(
    int keysfd, bool by_namespace, struct domains **out, struct err *e);
void domains_close(struct domains *d);

/** domains_for(d, vm, out, e): of the VM's namespace; a new one is durable
 * before this returns.  ERR_LIMIT, ERR_NOSPC, ERR_SYS. */
int domains_for(
    struct domains *d, const char *vm, struct domain *out, struct err *e);

/** domains_get(d, number, out, e): the one that a manifest names.  ERR_CORRUPT:
 * its key is lost. */
int domains_get(
    struct domains *d, uint32_t number, struct domain *out, struct err *e);

#endif
