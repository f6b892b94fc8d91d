/* SPDX-License-Identifier: Apache-2.0 */
/* lane_ssh_io: what the halves of lane_ssh share; nobody else includes it. */
#ifndef PROTO_LANE_SSH_IO_H
#define PROTO_LANE_SSH_IO_H

#include <libssh/callbacks.h>
#include <libssh/libssh.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/lane.h"

#define SSH_SUBSYSTEM "backstay"
#define SSH_USER "backstay"

/*
 * Said by both ends for both directions: the library's own order begins with
 * chacha20-poly1305, which costs a third more.
 */
#define SSH_CIPHERS                                                            \
	"aes128-gcm@openssh.com,aes256-gcm@openssh.com,"                       \
	"chacha20-poly1305@openssh.com,aes256-ctr"
#define SSH_MACS                                                               \
	"hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,"         \
	"hmac-sha2-256,hmac-sha2-512"
/* No group exchange: it would make the library read a system file of primes. */
#define SSH_KEX_LIST                                                           \
	"curve25519-sha256,curve25519-sha256@libssh.org,"                      \
	"ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521"
#define SSH_KEY_TYPES                                                          \
	"ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,"                 \
	"ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256"

/* One end of a connection.  Owner thread only, but for guard_fd. */
struct ssh_end {
	ssh_session session;
	ssh_channel channel;
	ssh_event event;
	/*
	 * A second descriptor of the socket: the library closes its own as soon
	 * as it meets an error, when another thread may be about to shut down
	 * what then has that number.
	 */
	int guard_fd;
	uint32_t granted; /* what the peer may send before we say more */
	struct ssh_counter_struct socket_count;
	struct ssh_channel_callbacks_struct channel_cb;
	struct ssh_server_callbacks_struct server_cb;
	void *greeter; /* of lane_ssh_server.c, during the handshake */
};

/** ssh_end_new(fd): a session, not yet connected, that uses ${fd} later. */
struct ssh_end *ssh_end_new(int fd);

/**
 * ssh_end_tune(end, fd, rekey_bytes, e): options that both ends set, of the
 * session and of the TCP socket.  0 or ERR_SYS.
 */
int ssh_end_tune(
    struct ssh_end *end, int fd, uint64_t rekey_bytes, struct err *e);

/**
 * ssh_end_wait(end, deadline, e): until the socket can be read, or written if
 * something is to be.  0, ERR_TIMEOUT (then with the text), ERR_SYS.
 */
int ssh_end_wait(struct ssh_end *end, uint64_t deadline, struct err *e);

/** ssh_end_listen(end): what comes for the channel is ours from here on. */
void ssh_end_listen(struct ssh_end *end);

/** ssh_end_ready(end, peer, out, e): make a lane of it.  0 or ERR_SYS. */
int ssh_end_ready(
    struct ssh_end *end, const char *peer, struct lane **out, struct err *e);

/** ssh_end_free(end): end the connection, free; NULL is nothing. */
void ssh_end_free(struct ssh_end *end);

/** ssh_end_gone(end): the connection has ended. */
bool ssh_end_gone(const struct ssh_end *end);

/** key_fingerprint(key): "SHA256:...", the caller's (free). */
char *key_fingerprint(ssh_key key);

/** key_base64(key): the public half as in a key file, the caller's (free). */
char *key_base64(ssh_key key);

/**
 * key_load(path, hint, out, e): a private key file.  ERR_NOENT with ${hint}
 * (how to make one); ERR_INVAL: not a key, or one with a passphrase.
 */
int key_load(const char *path, const char *hint, ssh_key *out, struct err *e);

enum known_host { KNOWN_HOST_SAME, KNOWN_HOST_OTHER, KNOWN_HOST_NONE };

/**
 * known_hosts_find(file, host, port, key, how, pinned, e): compare with what
 * ${file} says of the host.  KNOWN_HOST_OTHER sets ${pinned} to a fingerprint,
 * the caller's (free).  0, ERR_SYS, ERR_LIMIT.
 */
int known_hosts_find(const char *file, const char *host, int port, ssh_key key,
    enum known_host *how, char **pinned, struct err *e);

/** known_hosts_add(file, host, port, key, e): 0, ERR_NOSPC, ERR_SYS. */
int known_hosts_add(
    const char *file, const char *host, int port, ssh_key key, struct err *e);

#endif
