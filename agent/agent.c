/* SPDX-License-Identifier: Apache-2.0 */
/* backstay-agent: the table of its commands. */
#include <signal.h>
#include <string.h>

#include "agent/cmd.h"
#include "agent/guest/guard.h"
#include "proto/base/io.h"
#include "proto/lane_ssh.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *what;
} commands[] = {
	{ "keygen", cmd_keygen, "make this host's key" },
	{ "enroll", cmd_enroll, "get to know a repository, and it this host" },
	{ "backup", cmd_backup,
	    "back up disks, or a virtual machine as it is now" },
	{ "restore", cmd_restore, "write disks of a backup" },
	{ "export", cmd_export, "write a whole backup as one archive" },
	{ "list", cmd_list, "list backups" },
	{ "delete", cmd_delete, "delete backups" },
	{ "import", cmd_import, "make backups out of archives and images" },
	{ "serve", cmd_serve, "stay, and do what the NAS asks for" },
};

enum { NCOMMANDS = sizeof(commands) / sizeof(commands[0]) };

static int
usage(void)
{
	printf("usage: backstay-agent COMMAND [OPTION]... [ARGUMENT]...\n\n");
	for (unsigned i = 0; i < NCOMMANDS; i++)
		printf("  %-9s %s\n", commands[i].name, commands[i].what);
	printf("\nbackstay-agent COMMAND --help tells more of each; "
	       "--version tells the version.\n");
	return cmd_done();
}

int
main(int argc, char **argv)
{
	int rc;

	std_fds_keep();
	/* A peer that hangs up is an error of a call, not the end. */
	signal(SIGPIPE, SIG_IGN);
	rc = guard_main(argc, argv);
	if (rc != -1)
		return rc;
	if (argc < 2)
		return cmd_misuse("", "no command");
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0)
		return usage();
	if (strcmp(argv[1], "--version") == 0) {
		printf("backstay-agent %s\n", BACKSTAY_VERSION);
		return cmd_done();
	}
	for (unsigned i = 0; i < NCOMMANDS; i++)
		if (strcmp(argv[1], commands[i].name) == 0) {
			lane_ssh_init();
			return commands[i].run(argc - 1, argv + 1);
		}
	return cmd_misuse("", "there is no command \"%.40s\"", argv[1]);
}
