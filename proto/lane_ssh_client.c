/* SPDX-License-Identifier: Apache-2.0 */
/* The client's half of the handshake, and pinning a host key. */
#include "proto/lane_ssh.h"

#include <errno.h>
#include <fcntl.h>
#include <libssh/server.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/base/log.h"
#include "proto/lane_ssh_io.h"

static uint64_t
deadline_of(const struct lane_ssh_target *t)
{
	int ms = t->handshake_ms > 0 ? t->handshake_ms : LANE_SSH_HANDSHAKE_MS;

	return now_ms() + (uint64_t)ms;
}

static char *
url_of(const struct lane_ssh_target *t)
{
	return xasprintf(
	    strchr(t->host, ':') != NULL ? "ssh://[%s]:%d" : "ssh://%s:%d",
	    t->host, t->port);
}

/* Connect ${fd} by ${deadline}: 0 or an errno. */
static int
connect_by(int fd, const struct addrinfo *ai, uint64_t deadline)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof(int);
	int error, rc;

	if (connect(fd, ai->ai_addr, ai->ai_addrlen) == 0)
		return 0;
	if (errno != EINPROGRESS && errno != EINTR)
		return errno;
	do {
		uint64_t now = now_ms();

		rc = now >= deadline ? 0 : poll(&p, 1, (int)(deadline - now));
	} while (rc == -1 && errno == EINTR);
	if (rc == 0)
		return ETIMEDOUT;
	if (rc == -1 ||
	    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == -1)
		return errno;
	return error;
}

static int
say_unreachable(int error, struct err *e)
{
	if (error == ECONNREFUSED)
		return err_set(e, ERR_CLOSED,
		    "nothing listens there; is backstayd running?");
	if (error == ETIMEDOUT)
		return err_set(e, ERR_TIMEOUT,
		    "no answer; is the address right, and does a firewall "
		    "let the port through?");
	return err_set(e, ERR_CLOSED, "cannot connect: %s", strerror(error));
}

static int
tcp_connect(
    const struct lane_ssh_target *t, uint64_t deadline, int *out, struct err *e)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *all, *ai;
	char port[16];
	int fd = -1, error = ENOENT, rc;

	snprintf(port, sizeof(port), "%d", t->port);
	rc = getaddrinfo(t->host, port, &hints, &all);
	if (rc != 0)
		return err_set(e, ERR_CLOSED, "the name is not found: %s",
		    rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
	for (ai = all; ai != NULL; ai = ai->ai_next) {
		fd = socket(ai->ai_family,
		    ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
		    ai->ai_protocol);
		error = fd == -1 ? errno : connect_by(fd, ai, deadline);
		if (error == 0)
			break;
		if (fd != -1)
			close(fd);
	}
	freeaddrinfo(all);
	if (error != 0)
		return say_unreachable(error, e);
	*out = fd;
	return 0;
}

/* What the server asks of us, we refuse; or it would pile up. */
static int
refuse_message(ssh_session session, ssh_message message, void *arg)
{
	(void)session;
	(void)message;
	(void)arg;
	return 1;
}

static bool
set_options(ssh_session s, const struct lane_ssh_target *t, int fd)
{
	/*
	 * Files that the library would look into otherwise: the known hosts
	 * are ours to check, and no system file counts.
	 */
	static const struct {
		enum ssh_options_e name;
		const char *value;
	} opts[] = {
		{ SSH_OPTIONS_USER, SSH_USER },
		{ SSH_OPTIONS_KNOWNHOSTS, "/dev/null" },
		{ SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "/dev/null" },
		{ SSH_OPTIONS_SSH_DIR, "/nonexistent" },
		{ SSH_OPTIONS_CIPHERS_C_S, SSH_CIPHERS },
		{ SSH_OPTIONS_CIPHERS_S_C, SSH_CIPHERS },
		{ SSH_OPTIONS_HMAC_C_S, SSH_MACS },
		{ SSH_OPTIONS_HMAC_S_C, SSH_MACS },
		{ SSH_OPTIONS_KEY_EXCHANGE, SSH_KEX_LIST },
		{ SSH_OPTIONS_HOSTKEYS, SSH_KEY_TYPES },
	};

	for (size_t i = 0; i < sizeof(opts) / sizeof(opts[0]); i++)
		if (ssh_options_set(s, opts[i].name, opts[i].value) != SSH_OK)
			return false;
	return ssh_options_set(s, SSH_OPTIONS_HOST, t->host) == SSH_OK &&
	    ssh_options_set(s, SSH_OPTIONS_PORT, &t->port) == SSH_OK &&
	    ssh_options_set(s, SSH_OPTIONS_FD, &fd) == SSH_OK;
}

static int
say_failed(struct ssh_end *end, const char *what, struct err *e)
{
	return err_set(
	    e, ERR_CLOSED, "%s: %s", what, ssh_get_error(end->session));
}

/* TCP and key exchange; the host key is known then, but not checked. */
static int
start(const struct lane_ssh_target *t, uint64_t deadline, struct ssh_end **out,
    ssh_key *host_key, struct err *e)
{
	struct ssh_end *end;
	int fd = -1, rc;

	rc = tcp_connect(t, deadline, &fd, e);
	if (rc != 0)
		return rc;
	end = ssh_end_new(fd);
	if (end == NULL) {
		close(fd);
		return err_set(e, ERR_SYS, "cannot make an SSH session");
	}
	rc = ssh_end_tune(end, fd, t->rekey_bytes, e);
	if (rc == 0 && !set_options(end->session, t, fd)) {
		log_error("ssh: options: %s", ssh_get_error(end->session));
		rc = err_set(
		    e, ERR_SYS, "ssh options: %s", ssh_get_error(end->session));
	}
	if (rc != 0) {
		close(fd); /* the session takes it when it connects */
		goto err_end;
	}
	ssh_set_message_callback(end->session, refuse_message, NULL);
	for (;;) {
		rc = ssh_connect(end->session);
		if (rc == SSH_OK)
			break;
		if (rc != SSH_AGAIN) {
			rc = say_failed(end, "no SSH connection", e);
			goto err_end;
		}
		rc = ssh_end_wait(end, deadline, e);
		if (rc != 0)
			goto err_end;
	}
	if (ssh_get_server_publickey(end->session, host_key) != SSH_OK) {
		rc = say_failed(end, "no host key", e);
		goto err_end;
	}
	*out = end;
	return 0;
err_end:
	ssh_end_free(end);
	return rc;
}

static int
say_changed(const struct lane_ssh_target *t, const char *pinned,
    const char *seen, struct err *e)
{
	return err_set(e, ERR_DENIED,
	    "the host key CHANGED: known is %s, seen was %s; somebody may be "
	    "in between.  If the NAS was set up anew, remove its line from %s "
	    "and enroll again",
	    pinned, seen, t->known_hosts);
}

static int
check_host_key(const struct lane_ssh_target *t, ssh_key key, struct err *e)
{
	enum known_host how;
	char *pinned, *seen;
	int rc;

	rc = known_hosts_find(
	    t->known_hosts, t->host, t->port, key, &how, &pinned, e);
	if (rc != 0 || how == KNOWN_HOST_SAME)
		return rc;
	seen = key_fingerprint(key);
	if (how == KNOWN_HOST_OTHER)
		rc = say_changed(t, pinned, seen, e);
	else
		rc = err_set(e, ERR_DENIED,
		    "host key %s is not known; run `backstay-agent enroll "
		    "ssh://%s:%d`",
		    seen, t->host, t->port);
	free(seen);
	free(pinned);
	return rc;
}

static int
authenticate(const struct lane_ssh_target *t, struct ssh_end *end, ssh_key key,
    uint64_t deadline, struct err *e)
{
	char *fingerprint;
	int rc;

	for (;;) {
		rc = ssh_userauth_publickey(end->session, NULL, key);
		if (rc == SSH_AUTH_SUCCESS)
			return 0;
		if (rc != SSH_AUTH_AGAIN)
			break;
		rc = ssh_end_wait(end, deadline, e);
		if (rc != 0)
			return rc;
	}
	if (rc == SSH_AUTH_ERROR)
		return say_failed(end, "no authentication", e);
	fingerprint = key_fingerprint(key);
	rc = err_set(e, ERR_DENIED,
	    "the key of this host, %s, is not admitted; on the NAS run "
	    "`backstay key add NAME KEYFILE` with %s.pub",
	    fingerprint, t->key);
	free(fingerprint);
	return rc;
}

static int
open_channel(struct ssh_end *end, uint64_t deadline, struct err *e)
{
	bool opened = false;
	int rc;

	end->channel = ssh_channel_new(end->session);
	if (end->channel == NULL)
		return err_set(e, ERR_SYS, "cannot make an SSH channel");
	ssh_end_listen(end);
	for (;;) {
		rc = opened
		    ? ssh_channel_request_subsystem(end->channel, SSH_SUBSYSTEM)
		    : ssh_channel_open_session(end->channel);
		if (rc == SSH_OK) {
			if (opened)
				return 0;
			opened = true;
			continue;
		}
		if (rc != SSH_AGAIN)
			return say_failed(end, "backstayd is not there", e);
		rc = ssh_end_wait(end, deadline, e);
		if (rc != 0)
			return rc;
	}
}

int
lane_ssh_connect(
    const struct lane_ssh_target *t, struct lane **out, struct err *e)
{
	uint64_t deadline = deadline_of(t);
	char *url = url_of(t);
	ssh_key key, host_key;
	struct ssh_end *end;
	struct err local;
	int rc;

	if (e == NULL)
		e = &local;
	rc = key_load(t->key, "run `backstay-agent keygen`", &key, e);
	if (rc != 0)
		goto out_url;
	rc = start(t, deadline, &end, &host_key, e);
	if (rc != 0)
		goto out_key;
	rc = check_host_key(t, host_key, e);
	if (rc == 0)
		rc = authenticate(t, end, key, deadline, e);
	if (rc == 0)
		rc = open_channel(end, deadline, e);
	if (rc == 0 &&
	    ssh_event_add_session(end->event, end->session) != SSH_OK)
		rc = err_set(e, ERR_SYS, "cannot wait for SSH events");
	if (rc == 0)
		rc = ssh_end_ready(end, url, out, e);
	if (rc != 0)
		ssh_end_free(end);
	ssh_key_free(host_key);
out_key:
	ssh_key_free(key);
	if (rc != 0)
		err_prefix(e, "%s", url);
out_url:
	free(url);
	return rc;
}

/* ${seen} is the host key's fingerprint. */
static int
pin(const struct lane_ssh_target *t, ssh_key key, const char *expect,
    const char *seen, struct err *e)
{
	enum known_host how;
	char *pinned;
	int rc;

	if (expect != NULL && strcmp(expect, seen) != 0)
		return err_set(e, ERR_DENIED,
		    "the host key is %s, not %s; nothing was pinned", seen,
		    expect);
	rc = known_hosts_find(
	    t->known_hosts, t->host, t->port, key, &how, &pinned, e);
	if (rc != 0 || how == KNOWN_HOST_SAME)
		return rc;
	if (how == KNOWN_HOST_NONE)
		return known_hosts_add(
		    t->known_hosts, t->host, t->port, key, e);
	rc = say_changed(t, pinned, seen, e);
	free(pinned);
	return rc;
}

int
lane_ssh_pin(const struct lane_ssh_target *t, const char *expect,
    char **fingerprint, struct err *e)
{
	struct ssh_end *end;
	struct err local;
	ssh_key key;
	char *url, *seen;
	int rc;

	if (e == NULL)
		e = &local;
	url = url_of(t);
	rc = start(t, deadline_of(t), &end, &key, e);
	if (rc == 0) {
		seen = key_fingerprint(key);
		rc = pin(t, key, expect, seen, e);
		ssh_key_free(key);
		ssh_end_free(end);
		if (rc == 0)
			*fingerprint = seen;
		else
			free(seen);
	}
	if (rc != 0)
		err_prefix(e, "%s", url);
	free(url);
	return rc;
}
