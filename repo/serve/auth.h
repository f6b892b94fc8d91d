/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth: who may do what: the file REPO/authorized_agents.  Pure.
 *
 * One key a line, like OpenSSH's authorized_keys; empty lines and those with
 * '#' first are skipped:
 *
 *	[OPTION,...] TYPE BASE64 NAME
 *	role=backup,vm="web*",bwlimit=200M ssh-ed25519 AAAAC3... kvm01
 *
 * role=R (backup, restore, delete, admin; again for more), vm=PATTERN (again
 * for more), bwlimit=RATE (bytes a second; or "RATES" by the hour, as hours.h
 * has them), lanes=N, jobs=N.  Without a role
 * it is backup and restore, without a pattern all VMs.  NAME is what the key
 * goes by and is one word.
 */
#ifndef REPO_SERVE_AUTH_H
#define REPO_SERVE_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/name.h"
#include "repo/settings/hours.h"

#define AUTH_FILE "authorized_agents"

enum {
	AUTH_FILE_MAX = 1 << 20,
	AUTH_LINE_MAX = 16 << 10,
	AUTH_KEYS_MAX = 1024,
	AUTH_PATTERNS_MAX = 64, /* of one key */
	AUTH_PATTERN_LEN = VM_NAME_MAX,
	AUTH_BASE64_MAX = 4096,
	AUTH_LANES_MAX = 60,
	AUTH_LANES_DEFAULT = 32,
	AUTH_JOBS_MAX = 64,
	AUTH_JOBS_DEFAULT = 16
};

enum auth_role {
	ROLE_BACKUP = 1,
	ROLE_RESTORE = 2,
	ROLE_DELETE = 4,
	ROLE_ADMIN = 8 /* everything */
};

struct auth_key {
	char name[NAME_PART_MAX + 1];
	char type[40]; /* "ssh-ed25519" */
	char *base64;  /* of the public key's blob */
	unsigned roles;
	char **pattern;
	unsigned npatterns; /* 0: all VMs */
	struct hours bwlimit;
	unsigned lanes;
	unsigned jobs;
	unsigned line; /* where it was read; 0: nowhere */
};

struct auth {
	struct auth_key *key;
	size_t n;
};

/**
 * auth_parse(text, len, name, out, e): the whole file, called ${name} in
 * messages.  Any fault refuses all of it: ERR_INVAL with "NAME:LINE: what is
 * wrong", also for keys or names that are there twice.
 */
int auth_parse(const char *text, size_t len, const char *name, struct auth *out,
    struct err *e);
void auth_fini(struct auth *a);

/** auth_print_key(k, out): append its line, with what is not the default. */
void auth_print_key(const struct auth_key *k, struct buf *out);

void auth_key_fini(struct auth_key *k);

/** auth_find_blob / auth_find_name: the key, or NULL. */
const struct auth_key *auth_find_blob(const struct auth *a, const char *base64);
const struct auth_key *auth_find_name(const struct auth *a, const char *name);

/** auth_may(k, roles): has one of ${roles}, or is admin. */
bool auth_may(const struct auth_key *k, unsigned roles);

/** auth_sees(k, vm): one of its patterns matches. */
bool auth_sees(const struct auth_key *k, const char *vm);

/** auth_patterns(k, out): append "web*, db*"; "all" where there are none. */
void auth_patterns(const struct auth_key *k, struct buf *out);

/** auth_role(name): 0 if there is none.  auth_role_name(role): one bit. */
unsigned auth_role(const char *name);
const char *auth_role_name(unsigned role);

#endif
