/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pipeline/repo_url.h"

#include <stdbool.h>
#include <string.h>

#include "proto/lane_ssh.h"
#include "proto/name.h"

static int
wrong(const char *s, const char *why, struct err *e)
{
	return err_set(e, ERR_INVAL,
	    "repository \"%.200s\": %s; say ssh://HOST, ssh://HOST:PORT or "
	    "unix:PATH",
	    s, why);
}

/* Nothing that could be taken for an option, a path or a second host. */
static bool
host_ok(const char *h)
{
	if (*h == 0 || *h == '-')
		return false;
	for (; *h != 0; h++)
		if (!(*h >= 'a' && *h <= 'z') && !(*h >= 'A' && *h <= 'Z') &&
		    !(*h >= '0' && *h <= '9') && strchr("._:%-", *h) == NULL)
			return false;
	return true;
}

static int
parse_ssh(const char *s, const char *rest, struct repo_url *out, struct err *e)
{
	char text[REPO_URL_HOST_MAX + 16];
	char *host = text, *end, *port = NULL;
	uint64_t n = LANE_SSH_PORT;

	if (strlen(rest) >= sizeof(text))
		return wrong(s, "the host's name is too long", e);
	memcpy(text, rest, strlen(rest) + 1);
	end = text + strlen(text);
	if (end > text && end[-1] == '/')
		*--end = 0;
	if (strchr(text, '@') != NULL)
		host = strchr(text, '@') + 1;
	if (*host == '[') {
		host++;
		end = strchr(host, ']');
		if (end == NULL || (end[1] != 0 && end[1] != ':'))
			return wrong(s, "the brackets do not match", e);
		*end++ = 0;
		port = *end == ':' ? end + 1 : NULL;
	} else if (strchr(host, ':') != NULL) {
		port = strchr(host, ':');
		*port++ = 0;
		if (strchr(port, ':') != NULL)
			return wrong(s, "an IPv6 address needs brackets", e);
	}
	if (port != NULL && number_parse(port, 1, 65535, &n) != 0)
		return wrong(s, "no port has that number", e);
	if (!host_ok(host) || strlen(host) > REPO_URL_HOST_MAX)
		return wrong(s, "no host has that name", e);
	memcpy(out->host, host, strlen(host) + 1);
	out->port = (int)n;
	return 0;
}

int
repo_url_parse(const char *s, struct repo_url *out, struct err *e)
{
	memset(out, 0, sizeof(*out));
	if (strncmp(s, "ssh://", 6) == 0)
		return parse_ssh(s, s + 6, out, e);
	if (strncmp(s, "unix:", 5) != 0)
		return wrong(s, "not a kind of address that is known", e);
	s += 5;
	if (*s == 0)
		return wrong("unix:", "the path is missing", e);
	if (strlen(s) > REPO_URL_PATH_MAX)
		return wrong("unix:...", "the path is too long", e);
	memcpy(out->path, s, strlen(s) + 1);
	return 0;
}
