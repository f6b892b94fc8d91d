/* SPDX-License-Identifier: Apache-2.0 */
/* Archives on this machine: backstay-agent writes and reads them. */
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "repo/console/console.h"
#include "repo/console/run_agent.h"

/* All that is said goes to the agent's command of the same name. */
static int
hand_over(struct console *c, int argc, char **argv)
{
	struct err e = { 0 };
	char **v, *url;

	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--help") == 0 ||
		    strcmp(argv[i], "-h") == 0)
			return console_help(c);
	if (argc < 2)
		return console_misuse(c, "see the usage");
	if (console_dir(c) == NULL)
		return EXIT_MISUSE;
	url = agent_url(c->dir);
	v = xcalloc((size_t)argc + 5, sizeof(*v));
	v[0] = xstrdup("backstay-agent");
	v[1] = argv[0];
	v[2] = xstrdup("--repo");
	v[3] = url;
	for (int i = 1; i < argc; i++)
		v[i + 3] = argv[i];
	run_agent(v, argv[0], &e);
	free(v[0]);
	free(v[2]);
	free(v);
	free(url);
	return console_fail(&e);
}

int
cmd_export(struct console *c, int argc, char **argv)
{
	return hand_over(c, argc, argv);
}

int
cmd_import(struct console *c, int argc, char **argv)
{
	return hand_over(c, argc, argv);
}
