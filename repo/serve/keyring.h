/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyring: the keys as the file has them now, and what each is using.
 *
 * The file is read again when it changed, so a key that is added counts at
 * once and one that is removed does no more.  Any thread.
 */
#ifndef REPO_SERVE_KEYRING_H
#define REPO_SERVE_KEYRING_H

#include "repo/serve/auth.h"

struct keyring;

/** keyring_open(dirfd, out, e): ${dirfd} is the repository's folder; it stays
 * the caller's.  ERR_INVAL (file:line: what is wrong), ERR_SYS.  No file is an
 * empty one. */
int keyring_open(int dirfd, struct keyring **out, struct err *e);
void keyring_close(struct keyring *k);

/** keyring_refresh(k): read the file if it changed.  One with a fault is
 * logged and the keys stay as they were.  True if they are others now. */
bool keyring_refresh(struct keyring *k);

/* One reading of the file; never changes. */
struct keyset;

/** keyring_get(k): the keys of now, until keyset_put. */
struct keyset *keyring_get(struct keyring *k);
void keyset_put(struct keyset *s);
const struct auth *keyset_auth(const struct keyset *s);

/** keyset_console(): the key of who comes over the local socket: admin. */
const struct auth_key *keyset_console(void);

/* What a lane counts as: it has not said what it is for, it works, or it is
 * the control lane of an agent, which counts as none of those that work. */
enum lane_use { LANE_FRESH, LANE_WORKS, LANE_SERVES };

/* Control lanes of one key: the one that serves, and others that end. */
enum { KEYRING_SERVES_MAX = 4 };

/**
 * usage: what the key of a name has open.  keyring_lane_begin counts a fresh
 * lane, keyring_lane_use has it count otherwise, keyring_job_begin counts a
 * job: ERR_LIMIT says how many there are.
 */
struct usage;
int keyring_lane_begin(struct keyring *k, const struct auth_key *key,
    struct usage **out, struct err *e);
int keyring_lane_use(struct keyring *k, const struct auth_key *key,
    struct usage *u, enum lane_use from, enum lane_use to, struct err *e);
void keyring_lane_end(struct keyring *k, struct usage *u, enum lane_use use);
int keyring_job_begin(struct keyring *k, const struct auth_key *key,
    struct usage *u, struct err *e);
void keyring_job_end(struct keyring *k, struct usage *u);

#endif
