/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transport: a session that never blocks in the library.  All waiting is
 * done here or in a call of the library with a timeout, so that every wait has
 * a deadline and incoming packets are handled while we wait to write.
 */
#include "proto/lane_ssh.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/base/log.h"
#include "proto/lane_ssh_io.h"

enum {
	/* The library encrypts and queues all of a write: bounds that queue. */
	WRITE_MAX = 1 << 20,
	WAIT_MAX_MS = 1 << 30,
	/* A peer that vanished: found by probes when idle, by TCP when not. */
	KEEPALIVE_IDLE_S = 30,
	KEEPALIVE_INTERVAL_S = 10,
	KEEPALIVE_COUNT = 6,
	TCP_GIVE_UP_MS = 90000
};

void
lane_ssh_init(void)
{
	if (ssh_init() != SSH_OK)
		log_error("libssh: initialisation failed");
	ssh_set_log_level(SSH_LOG_NOLOG);
}

static int
left_ms(uint64_t deadline)
{
	uint64_t now = now_ms();

	return now < deadline ? (int)(deadline - now) : 0;
}

struct ssh_end *
ssh_end_new(int fd)
{
	struct ssh_end *end = xcalloc(1, sizeof(*end));

	end->session = ssh_new();
	end->event = ssh_event_new();
	end->guard_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (end->session == NULL || end->event == NULL || end->guard_fd == -1) {
		log_sys("ssh: new session");
		ssh_end_free(end);
		return NULL;
	}
	ssh_set_blocking(end->session, 0);
	return end;
}

static int
tune_tcp(int fd)
{
	static const struct {
		int level, name, value;
	} opts[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S },
		{ IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S },
		{ IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, TCP_GIVE_UP_MS },
	};

	for (size_t i = 0; i < sizeof(opts) / sizeof(opts[0]); i++)
		if (setsockopt(fd, opts[i].level, opts[i].name, &opts[i].value,
			sizeof(opts[i].value)) == -1)
			return log_sys("ssh: socket option %d", opts[i].name);
	return 0;
}

int
ssh_end_tune(struct ssh_end *end, int fd, uint64_t rekey_bytes, struct err *e)
{
	ssh_session s = end->session;
	int no = 0;

	if (tune_tcp(fd) != 0)
		return err_set(e, ERR_SYS, "cannot set socket options");
	if (ssh_options_set(s, SSH_OPTIONS_PROCESS_CONFIG, &no) != SSH_OK ||
	    ssh_options_set(s, SSH_OPTIONS_COMPRESSION_C_S, "none") != SSH_OK ||
	    ssh_options_set(s, SSH_OPTIONS_COMPRESSION_S_C, "none") != SSH_OK ||
	    (rekey_bytes != 0 &&
		ssh_options_set(s, SSH_OPTIONS_REKEY_DATA, &rekey_bytes) !=
		    SSH_OK)) {
		log_error("ssh: options: %s", ssh_get_error(s));
		return err_set(e, ERR_SYS, "ssh options: %s", ssh_get_error(s));
	}
	ssh_set_counters(s, &end->socket_count, NULL);
	return 0;
}

int
ssh_end_wait(struct ssh_end *end, uint64_t deadline, struct err *e)
{
	struct pollfd p = { .fd = end->guard_fd, .events = POLLIN };
	int rc;

	if (ssh_get_status(end->session) & SSH_WRITE_PENDING)
		p.events |= POLLOUT;
	do {
		int wait = left_ms(deadline);

		/* Tested first: a peer may keep the socket readable. */
		rc = wait == 0 ? 0 : poll(&p, 1, wait);
	} while (rc == -1 && errno == EINTR);
	if (rc == 0)
		return err_set(e, ERR_TIMEOUT, "no SSH handshake in time");
	if (rc == -1) {
		err_set(e, ERR_SYS, "cannot wait: %s", strerror(errno));
		return log_sys("ssh: poll");
	}
	return 0;
}

bool
ssh_end_gone(const struct ssh_end *end)
{
	return (ssh_get_status(end->session) &
		   (SSH_CLOSED | SSH_CLOSED_ERROR)) != 0 ||
	    ssh_get_fd(end->session) == -1;
}

/*
 * Data stays with the library until it is read.  Nobody reads the channel's
 * second stream: taken and dropped, or it would pile up.
 */
static int
on_data(ssh_session session, ssh_channel channel, void *data, uint32_t len,
    int is_stderr, void *arg)
{
	(void)session;
	(void)channel;
	(void)data;
	(void)arg;
	return is_stderr ? (int)len : 0;
}

void
ssh_end_listen(struct ssh_end *end)
{
	end->channel_cb.userdata = end;
	end->channel_cb.channel_data_function = on_data;
	ssh_callbacks_init(&end->channel_cb);
	ssh_set_channel_callbacks(end->channel, &end->channel_cb);
}

static int
say_closed(const struct ssh_end *end, struct err *e)
{
	const char *text = ssh_get_error(end->session);

	return err_set(e, ERR_CLOSED, "the connection ended%s%s",
	    *text != '\0' ? ": " : "", text);
}

static bool
readable(const struct ssh_end *end)
{
	struct pollfd p = { .fd = end->guard_fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static int
end_read(
    void *t, void *data, size_t len, int timeout_ms, size_t *got, struct err *e)
{
	struct ssh_end *end = t;
	uint64_t deadline = 0;
	int n, wait;

	if (timeout_ms > 0)
		deadline = now_ms() + (uint64_t)timeout_ms;
	for (;;) {
		/*
		 * The library widens the window to what is asked for.  Ask for
		 * what is granted already until half of it is used: each
		 * widening is a packet.
		 */
		if (end->granted < len / 2)
			end->granted = (uint32_t)len;
		wait = timeout_ms;
		if (timeout_ms > 0)
			wait = left_ms(deadline);
		/* Less than 0 would mean not to wait in this mode. */
		n = ssh_channel_read_timeout(end->channel, data,
		    end->granted < len ? end->granted : (uint32_t)len, 0,
		    wait < 0 ? WAIT_MAX_MS : wait);
		if (n > 0) {
			end->granted -= (uint32_t)n;
			*got = (size_t)n;
			return 0;
		}
		if (n == 0 && ssh_channel_is_eof(end->channel))
			return err_set(
			    e, ERR_CLOSED, "the peer closed the connection");
		if ((n < 0 && n != SSH_AGAIN) || ssh_end_gone(end))
			return say_closed(end, e);
		/* One try of the library's takes 4 KiB, less than a packet. */
		if (wait == 0 && !readable(end))
			return err_set(e, ERR_TIMEOUT, "nothing arrived");
	}
}

/* Wait for whatever happens first, and handle it. */
static int
step(struct ssh_end *end, uint64_t deadline, struct err *e)
{
	int wait = left_ms(deadline);

	if (wait == 0)
		return err_set(e, ERR_TIMEOUT, "the peer took nothing for %d s",
		    LANE_STALL_MS / 1000);
	if (ssh_event_dopoll(end->event, wait) == SSH_ERROR ||
	    ssh_end_gone(end))
		return say_closed(end, e);
	return 0;
}

static int
end_write(void *t, const void *data, size_t len, struct err *e)
{
	struct ssh_end *end = t;
	const uint8_t *p = data;
	uint64_t deadline = now_ms() + LANE_STALL_MS;
	uint64_t sent = end->socket_count.out_bytes;
	int n, rc;

	/*
	 * All of it is with the kernel when this ends, but for what a change
	 * of keys holds up: that leaves while the answer is waited for.
	 */
	for (;;) {
		if (ssh_get_status(end->session) & SSH_WRITE_PENDING) {
			n = 0;
		} else if (len == 0) {
			return 0;
		} else {
			n = ssh_channel_write(end->channel, p,
			    len < WRITE_MAX ? (uint32_t)len : WRITE_MAX);
			if (n < 0)
				return say_closed(end, e);
			p += n;
			len -= (size_t)n;
		}
		if (n > 0 || sent != end->socket_count.out_bytes) {
			sent = end->socket_count.out_bytes;
			deadline = now_ms() + LANE_STALL_MS;
		}
		if (n > 0)
			continue;
		rc = step(end, deadline, e);
		if (rc != 0)
			return rc;
	}
}

static void
end_shutdown(void *t)
{
	struct ssh_end *end = t;

	shutdown(end->guard_fd, SHUT_RDWR);
}

static void
end_linger(void *t, unsigned ms)
{
	struct ssh_end *end = t;

	/*
	 * The end of the channel, not of the connection: the library forgets
	 * what it has not handed out yet when that breaks.
	 */
	if (ssh_channel_close(end->channel) == SSH_OK)
		socket_drain(end->guard_fd, ms);
}

static void
end_close(void *t)
{
	ssh_end_free(t);
}

static const struct lane_ops ssh_ops = { .read = end_read,
	.write = end_write,
	.shutdown = end_shutdown,
	.linger = end_linger,
	.close = end_close };

int
ssh_end_ready(
    struct ssh_end *end, const char *peer, struct lane **out, struct err *e)
{
	/*
	 * The library writes only after poll said that it can; a socket that
	 * blocks would then block until all is taken, and two ends that write
	 * at once would wait for one another.
	 */
	int flags = fcntl(end->guard_fd, F_GETFL);

	if (flags == -1 ||
	    fcntl(end->guard_fd, F_SETFL, flags | O_NONBLOCK) == -1) {
		err_set(e, ERR_SYS, "%s: fcntl: %s", peer, strerror(errno));
		return log_sys("ssh: fcntl");
	}
	*out = lane_new(&ssh_ops, end, peer);
	return 0;
}

void
ssh_end_free(struct ssh_end *end)
{
	if (end == NULL)
		return;
	if (end->event != NULL) {
		if (end->session != NULL)
			ssh_event_remove_session(end->event, end->session);
		ssh_event_free(end->event);
	}
	if (end->session != NULL) {
		/*
		 * No farewell message: the library forgets what it received
		 * and we have not read yet when it meets one.  The end of the
		 * stream says as much.
		 */
		ssh_free(end->session);
	}
	if (end->guard_fd != -1)
		close(end->guard_fd);
	free(end);
}
