/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lane_ssh: lanes over SSH connections.  The only user of libssh.
 *
 * One connection, one session channel, subsystem "backstay", one thread.
 * Public keys only; no compression; AES-GCM first; no user ssh configuration.
 */
#ifndef PROTO_LANE_SSH_H
#define PROTO_LANE_SSH_H

#include <stdbool.h>

#include "proto/lane.h"

enum {
	LANE_SSH_PORT = 7722,
	LANE_SSH_HANDSHAKE_MS = 10000 /* until authenticated, both ends */
};

/** lane_ssh_init(): once in each program, before threads start. */
void lane_ssh_init(void);

/**
 * lane_ssh_keygen(path, e): a new ed25519 key in ${path} (mode 0600) and its
 * public half with ${comment} in ${path}.pub.  ERR_EXIST if one is there.
 */
int lane_ssh_keygen(const char *path, const char *comment, struct err *e);

/**
 * lane_ssh_pubkey(line, &type, &base64, &fingerprint, &comment, e): take one
 * line of a public key file apart ("ssh-ed25519 AAAA... comment") and check
 * it.  The strings are the caller's (free); comment may come out NULL,
 * fingerprint is "SHA256:...".  ERR_INVAL says what is wrong with it.
 */
int lane_ssh_pubkey(const char *line, char **type, char **base64,
    char **fingerprint, char **comment, struct err *e);

struct lane_ssh_target {
	const char *host;
	int port;
	const char *key;         /* private key file */
	const char *known_hosts; /* file in OpenSSH's format */
	uint64_t rekey_bytes;    /* 0: the library's default */
	int handshake_ms;        /* 0: LANE_SSH_HANDSHAKE_MS */
};

/**
 * lane_ssh_connect(t, out, e): connect, check the host key against
 * ${t->known_hosts}, authenticate, open the channel; bounded by
 * LANE_SSH_HANDSHAKE_MS.  ERR_DENIED (unknown or changed host key: the text
 * says which, with both fingerprints and what to do; or our key was refused),
 * ERR_CLOSED, ERR_TIMEOUT, ERR_NOENT (no key file), ERR_SYS.
 */
int lane_ssh_connect(
    const struct lane_ssh_target *t, struct lane **out, struct err *e);

/**
 * lane_ssh_pin(t, expect, &fingerprint, e): fetch the host key of ${t} and
 * write it to ${t->known_hosts}.  ${expect}: the fingerprint it must have, or
 * NULL to trust what is seen.  The key that is pinned already is success;
 * another pinned key is ERR_DENIED and nothing is changed.  ${fingerprint} is
 * the caller's (free).
 */
int lane_ssh_pin(const struct lane_ssh_target *t, const char *expect,
    char **fingerprint, struct err *e);

/*
 * Asked once a public key, with the base64 of its blob, by the thread that
 * serves the connection.  True lets it in; it then must also prove that it
 * holds the private half.  What ${who} was set to is handed on.
 */
typedef bool lane_ssh_check(void *arg, const char *base64, void **who);

struct lane_ssh_server {
	const char *host_key; /* private key file */
	lane_ssh_check *check;
	void *arg;
	uint64_t rekey_bytes; /* 0: the library's default */
	int handshake_ms;     /* 0: LANE_SSH_HANDSHAKE_MS */
};

/**
 * lane_ssh_serve(srv, fd, out, &who, e): take the accepted TCP socket ${fd}
 * through key exchange, authentication and channel within
 * LANE_SSH_HANDSHAKE_MS.  ${fd} is closed on failure too.  ${who} is what the
 * check set for the key that was proved.  Any thread; the lane is then that
 * thread's.  ERR_TIMEOUT, ERR_DENIED, ERR_CLOSED, ERR_PROTO, ERR_SYS.
 */
int lane_ssh_serve(const struct lane_ssh_server *srv, int fd, struct lane **out,
    void **who, struct err *e);

#endif
