/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/address.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/log.h"
#include "proto/name.h"

enum { BACKLOG = 64 };

static int
say_form(const char *text, struct err *e)
{
	return err_set(e, ERR_INVAL,
	    "\"%.100s\" is no address to listen at: write ADDR:PORT, "
	    "[ADDR]:PORT or PORT",
	    text);
}

/* Take ${text} apart; ${host} is "" for every address. */
static int
split(const char *text, char host[256], char port[8], struct err *e)
{
	const char *colon = strrchr(text, ':'), *p = text;
	size_t n = 0;
	uint64_t number;

	if (colon != NULL) {
		n = (size_t)(colon - text);
		p = colon + 1;
	}
	if (number_parse(p, 0, UINT16_MAX, &number) != 0)
		return say_form(text, e);
	if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
		text++;
		n -= 2;
	} else if (memchr(text, ':', n) != NULL) {
		return say_form(text, e);
	}
	if (n >= 256)
		return say_form(text, e);
	memcpy(host, text, n);
	host[n] = 0;
	snprintf(port, 8, "%u", (unsigned)number);
	return 0;
}

static int
bind_to(const struct addrinfo *ai, bool both)
{
	int fd, on = 1, off = 0;

	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
	    ai->ai_protocol);
	if (fd == -1)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1 ||
	    (ai->ai_family == AF_INET6 &&
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, both ? &off : &on,
		    sizeof(on)) == -1) ||
	    bind(fd, ai->ai_addr, ai->ai_addrlen) == -1 ||
	    listen(fd, BACKLOG) == -1) {
		int error = errno;

		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

static uint16_t
port_of(int fd)
{
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} sa = { .in6 = { 0 } };
	socklen_t len = sizeof(sa);

	if (getsockname(fd, &sa.any, &len) == -1)
		return 0;
	return ntohs(
	    sa.any.sa_family == AF_INET6 ? sa.in6.sin6_port : sa.in.sin_port);
}

int
address_listen(const char *text, int *fd, uint16_t *port, struct err *e)
{
	/* One socket for both families where there are both. */
	static const char *const every[] = { "::", "0.0.0.0" };
	struct addrinfo hints = { .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
		.ai_socktype = SOCK_STREAM },
			*ai;
	char host[256], service[8];
	bool all;
	int rc;

	rc = split(text, host, service, e);
	if (rc != 0)
		return rc;
	all = host[0] == 0;
	for (int i = 0; i < (all ? 2 : 1); i++) {
		rc = getaddrinfo(all ? every[i] : host, service, &hints, &ai);
		if (rc != 0)
			return err_set(
			    e, ERR_INVAL, "%s: %s", text, gai_strerror(rc));
		*fd = bind_to(ai, all);
		rc = errno;
		freeaddrinfo(ai);
		if (*fd != -1) {
			*port = port_of(*fd);
			return 0;
		}
		if (rc == EADDRINUSE)
			return err_set(e, ERR_BUSY,
			    "%s: another program listens there", text);
	}
	errno = rc;
	err_set(e, ERR_SYS, "%s: cannot listen: %s", text, strerror(rc));
	return log_sys("%s: listen", text);
}

char *
address_print(int fd, char *out)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	char host[48], port[8];

	if (getsockname(fd, (struct sockaddr *)&sa, &len) == -1 ||
	    getnameinfo((struct sockaddr *)&sa, len, host, sizeof(host), port,
		sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		snprintf(out, 64, "an unknown address");
	else
		snprintf(out, 64,
		    strchr(host, ':') != NULL ? "[%s]:%s" : "%s:%s", host,
		    port);
	return out;
}
