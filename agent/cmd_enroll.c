/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <stdlib.h>

#include "agent/cmd.h"
#include "proto/lane_ssh.h"

#define CMD "enroll "

static const char help[] =
    "usage: backstay-agent enroll ssh://NAS[:PORT] [--fingerprint SHA256:...]\n"
    "\n"
    "Get to know a repository: make this host's key if there is none, fetch\n"
    "and pin the NAS's host key, and print what to run on the NAS so that it\n"
    "lets this host in.  Run it again to see whether it does.\n"
    "\n"
    "  --fingerprint SHA256:...  the fingerprint that the host key must have\n";

/* Whether the daemon lets us in already. */
static int
try_it(const struct repo_url *url, const struct identity *id, const char *line)
{
	char host[NAME_PART_MAX + 1];
	struct remote r;
	struct err e = { 0 };
	int rc;

	rc = remote_open(url, id, &r, &e);
	if (rc == 0) {
		printf("%s:%d lets this host in as \"%s\".\n", url->host,
		    url->port, r.key);
		remote_close(&r);
		return cmd_done();
	}
	if (rc != ERR_DENIED)
		return cmd_failed("cannot see whether the key is accepted", &e);
	identity_hostname(host, sizeof(host));
	printf("This host's key:\n%s\n", line);
	printf("Let it in by running this on the NAS:\n"
	       "echo '%s' | backstay -r REPO key add %s -\n",
	    line, host);
	return cmd_done();
}

static int
enroll(const struct repo_url *url, const char *expect)
{
	struct lane_ssh_target t = { .host = url->host, .port = url->port };
	struct identity id = { 0 };
	struct err e = { 0 };
	char *fingerprint = NULL, *line = NULL;
	int rc, code;

	rc = identity_init(&id, &e);
	if (rc == 0 && !identity_exists(&id))
		rc = identity_make(&id, NULL, &e);
	if (rc == 0)
		rc = identity_line(&id, &line, &e);
	if (rc != 0) {
		code = cmd_failed("cannot make a key", &e);
		goto out;
	}
	t.key = id.key;
	t.known_hosts = id.known_hosts;
	rc = lane_ssh_pin(&t, expect, &fingerprint, &e);
	if (rc != 0) {
		code = cmd_failed("cannot pin the host key", &e);
		goto out;
	}
	printf("The host key of %s:%d is pinned: %s\n", url->host, url->port,
	    fingerprint);
	code = try_it(url, &id, line);
out:
	free(fingerprint);
	free(line);
	identity_fini(&id);
	return code;
}

int
cmd_enroll(int argc, char **argv)
{
	static const struct option options[] = { CMD_HELP_OPTION,
		{ "fingerprint", required_argument, NULL, OPT_OWN },
		{ NULL, 0, NULL, 0 } };
	const char *expect = NULL;
	struct repo_url url;
	struct err e;
	int opt;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (opt) {
		case OPT_HELP: printf("%s", help); return cmd_done();
		case OPT_OWN: expect = optarg; break;
		default: return cmd_bad_option(CMD, argv, opt);
		}
	}
	if (optind + 1 != argc)
		return cmd_misuse(CMD, "say one repository");
	if (repo_url_parse(argv[optind], &url, &e) != 0)
		return cmd_misuse(CMD, "%s", e.text);
	if (url.port == 0)
		return cmd_misuse(CMD, "a local socket needs no key");
	return enroll(&url, expect);
}
