/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's half of the handshake.  Whatever has no callback here is
 * refused by the library: other ways to authenticate, shells, commands,
 * terminals, forwarding, a second channel.
 */
#include "proto/lane_ssh.h"

#include <errno.h>
#include <libssh/server.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/base/log.h"
#include "proto/lane_ssh_io.h"

enum { KEYS_MAX = 20 }; /* that one connection may offer */

struct greeter {
	const struct lane_ssh_server *srv;
	struct ssh_end *end;
	char *admitted; /* the key that the check let in, not yet proved */
	void *who;      /* that the check set for it */
	unsigned keys;  /* offered */
	bool refused;   /* one of them at least */
	bool proved;
	bool subsystem;
};

static bool
admit(struct greeter *g, ssh_key key)
{
	char *base64 = key_base64(key);
	void *who = NULL;
	bool in;

	if (g->admitted != NULL && strcmp(g->admitted, base64) == 0) {
		free(base64);
		return true;
	}
	in = ++g->keys <= KEYS_MAX && g->srv->check(g->srv->arg, base64, &who);
	if (!in) {
		g->refused = true;
		free(base64);
		return false;
	}
	free(g->admitted);
	g->admitted = base64;
	g->who = who;
	return true;
}

static int
on_pubkey(ssh_session session, const char *user, struct ssh_key_struct *key,
    char state, void *arg)
{
	struct ssh_end *end = arg;
	struct greeter *g = end->greeter;

	(void)session;
	(void)user;
	if (g == NULL || g->proved ||
	    (state != SSH_PUBLICKEY_STATE_NONE &&
		state != SSH_PUBLICKEY_STATE_VALID) ||
	    !admit(g, key))
		return SSH_AUTH_DENIED;
	if (state == SSH_PUBLICKEY_STATE_VALID)
		g->proved = true;
	return SSH_AUTH_SUCCESS;
}

static int
on_subsystem(
    ssh_session session, ssh_channel channel, const char *name, void *arg)
{
	struct ssh_end *end = arg;
	struct greeter *g = end->greeter;

	(void)session;
	(void)channel;
	if (g == NULL || g->subsystem || strcmp(name, SSH_SUBSYSTEM) != 0)
		return 1;
	g->subsystem = true;
	return 0;
}

static ssh_channel
on_session_channel(ssh_session session, void *arg)
{
	struct ssh_end *end = arg;

	if (end->greeter == NULL || end->channel != NULL)
		return NULL;
	end->channel = ssh_channel_new(session);
	if (end->channel != NULL) {
		end->channel_cb.channel_subsystem_request_function =
		    on_subsystem;
		ssh_end_listen(end);
	}
	return end->channel;
}

/* Give the session its host key, its algorithms and the socket ${fd}. */
static int
bind_session(const struct lane_ssh_server *srv, struct ssh_end *end, int fd,
    struct err *e)
{
	bool no = false;
	ssh_key key;
	ssh_bind b;
	int rc;

	rc = key_load(srv->host_key, "run `backstay init`", &key, e);
	if (rc != 0) {
		log_error("host key: %s", e->text);
		return e->code = ERR_SYS;
	}
	b = ssh_bind_new();
	if (b == NULL) {
		ssh_key_free(key);
		err_set(e, ERR_SYS, "cannot make an SSH server");
		return log_sys("ssh: bind");
	}
	/* The key is the bind's once this succeeded. */
	if (ssh_bind_options_set(b, SSH_BIND_OPTIONS_IMPORT_KEY, key) != 0) {
		ssh_key_free(key);
		goto err_bind;
	}
	if (ssh_bind_options_set(b, SSH_BIND_OPTIONS_PROCESS_CONFIG, &no) ||
	    ssh_bind_options_set(
		b, SSH_BIND_OPTIONS_CIPHERS_C_S, SSH_CIPHERS) ||
	    ssh_bind_options_set(
		b, SSH_BIND_OPTIONS_CIPHERS_S_C, SSH_CIPHERS) ||
	    ssh_bind_options_set(b, SSH_BIND_OPTIONS_HMAC_C_S, SSH_MACS) ||
	    ssh_bind_options_set(b, SSH_BIND_OPTIONS_HMAC_S_C, SSH_MACS) ||
	    ssh_bind_options_set(
		b, SSH_BIND_OPTIONS_KEY_EXCHANGE, SSH_KEX_LIST) ||
	    ssh_bind_options_set(
		b, SSH_BIND_OPTIONS_PUBKEY_ACCEPTED_KEY_TYPES, SSH_KEY_TYPES))
		goto err_bind;
	if (ssh_bind_accept_fd(b, end->session, fd) != SSH_OK)
		goto err_bind;
	ssh_bind_free(b);
	return 0;
err_bind:
	rc = err_set(e, ERR_SYS, "SSH server: %s", ssh_get_error(b));
	log_error("ssh: server: %s", ssh_get_error(b));
	ssh_bind_free(b);
	return rc;
}

static int
say_ended(const struct greeter *g, struct err *e)
{
	const char *text = ssh_get_error(g->end->session);

	if (g->refused && !g->proved)
		return err_set(e, ERR_DENIED, "no key of this peer is known");
	return err_set(e, ERR_CLOSED, "the peer left during the handshake%s%s",
	    *text != '\0' ? ": " : "", text);
}

/* Key exchange, authentication, channel and subsystem. */
static int
greet(struct greeter *g, uint64_t deadline, struct err *e)
{
	struct ssh_end *end = g->end;
	int rc;

	for (;;) {
		rc = ssh_handle_key_exchange(end->session);
		if (rc == SSH_OK)
			break;
		if (rc != SSH_AGAIN || ssh_end_gone(end))
			return err_set(e, ERR_PROTO, "key exchange: %s",
			    ssh_get_error(end->session));
		rc = ssh_end_wait(end, deadline, e);
		if (rc != 0)
			return rc;
	}
	if (ssh_event_add_session(end->event, end->session) != SSH_OK)
		return err_set(e, ERR_SYS, "cannot wait for SSH events");
	while (!g->subsystem) {
		rc = ssh_end_wait(end, deadline, e);
		if (rc != 0)
			return g->refused && !g->proved
			    ? err_set(
				  e, ERR_DENIED, "no key of this peer is known")
			    : rc;
		if (ssh_event_dopoll(end->event, 0) == SSH_ERROR ||
		    ssh_end_gone(end))
			return say_ended(g, e);
		if (g->keys > KEYS_MAX)
			return err_set(e, ERR_DENIED,
			    "the peer offered more than %d keys", KEYS_MAX);
	}
	return 0;
}

static char *
name_of_peer(int fd)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	char host[NI_MAXHOST], port[NI_MAXSERV];

	if (getpeername(fd, (struct sockaddr *)&sa, &len) == -1 ||
	    getnameinfo((struct sockaddr *)&sa, len, host, sizeof(host), port,
		sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return xstrdup("a peer that left");
	return xasprintf(
	    strchr(host, ':') != NULL ? "[%s]:%s" : "%s:%s", host, port);
}

int
lane_ssh_serve(const struct lane_ssh_server *srv, int fd, struct lane **out,
    void **who, struct err *e)
{
	struct greeter g = { .srv = srv };
	char *peer = name_of_peer(fd);
	struct err local;
	uint64_t deadline;
	int rc;

	if (e == NULL)
		e = &local;
	deadline = now_ms() +
	    (uint64_t)(srv->handshake_ms > 0 ? srv->handshake_ms
					     : LANE_SSH_HANDSHAKE_MS);
	g.end = ssh_end_new(fd);
	if (g.end == NULL) {
		close(fd);
		free(peer);
		return err_set(e, ERR_SYS, "cannot make an SSH session");
	}
	rc = ssh_end_tune(g.end, fd, srv->rekey_bytes, e);
	if (rc == 0)
		rc = bind_session(srv, g.end, fd, e);
	if (rc != 0) {
		/* The session has the socket only if binding went that far. */
		if (ssh_get_fd(g.end->session) != fd)
			close(fd);
		goto out;
	}
	g.end->greeter = &g;
	g.end->server_cb.userdata = g.end;
	g.end->server_cb.auth_pubkey_function = on_pubkey;
	g.end->server_cb.channel_open_request_session_function =
	    on_session_channel;
	ssh_callbacks_init(&g.end->server_cb);
	ssh_set_server_callbacks(g.end->session, &g.end->server_cb);
	ssh_set_auth_methods(g.end->session, SSH_AUTH_METHOD_PUBLICKEY);
	rc = greet(&g, deadline, e);
	g.end->greeter = NULL;
	if (rc == 0)
		rc = ssh_end_ready(g.end, peer, out, e);
out:
	if (rc == 0) {
		*who = g.who;
	} else {
		err_prefix(e, "%s", peer);
		ssh_end_free(g.end);
	}
	free(g.admitted);
	free(peer);
	return rc;
}
