/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <stdlib.h>

#include "agent/cmd.h"

#define CMD "keygen "

static const char help[] =
    "usage: backstay-agent keygen [--comment TEXT]\n"
    "\n"
    "Make this host's key and print its public half.  An existing key is\n"
    "never replaced.\n"
    "\n"
    "  --comment TEXT  what the key says of itself (USER@HOST)\n";

int
cmd_keygen(int argc, char **argv)
{
	static const struct option options[] = { CMD_HELP_OPTION,
		{ "comment", required_argument, NULL, OPT_OWN },
		{ NULL, 0, NULL, 0 } };
	struct identity id = { 0 };
	struct err e = { 0 };
	const char *comment = NULL;
	char *line = NULL;
	int opt, rc;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (opt) {
		case OPT_HELP: printf("%s", help); return cmd_done();
		case OPT_OWN: comment = optarg; break;
		default: return cmd_bad_option(CMD, argv, opt);
		}
	}
	if (optind != argc)
		return cmd_misuse(CMD, "what is \"%.40s\"?", argv[optind]);
	rc = identity_init(&id, &e);
	if (rc == 0)
		rc = identity_make(&id, comment, &e);
	if (rc == 0)
		rc = identity_line(&id, &line, &e);
	if (rc == 0) {
		printf("%s\n", line);
		rc = cmd_done();
	} else {
		rc = cmd_failed("cannot make a key", &e);
	}
	free(line);
	identity_fini(&id);
	return rc;
}
