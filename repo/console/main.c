/* SPDX-License-Identifier: Apache-2.0 */
/* backstay: the console of a repository: a table of commands. */
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "repo/console/console.h"

static const struct command commands[] = {
	{ "init",
	    "REPO [--chunk-size SIZE] [--dedup repository|namespace]\n"
	    "                    [--user NAME] [--packs "
	    "nfs://HOST/EXPORT/FOLDER]",
	    "make a new repository",
	    "  --chunk-size SIZE   64K (default) to 4M, a power of two, for\n"
	    "                      good: small chunks find more that is the\n"
	    "                      same, large ones need less memory\n"
	    "  --packs URL         keep the packs on an NFS export (version "
	    "3),\n"
	    "                      without a mount; a port as in\n"
	    "                      nfs://nas/export/vm?nfsport=2049\n"
	    "  --dedup namespace   the VMs of each namespace share their data\n"
	    "                      with one another only, so that owners "
	    "cannot\n"
	    "                      learn of each other's data; default:\n"
	    "                      repository, all share with all\n"
	    "  --user NAME         whose it will be, and so who runs the "
	    "daemon;\n"
	    "                      as root, default: who owns the folder, or "
	    "else\n"
	    "                      the user backstay, where there is one\n",
	    cmd_init },
	{ "key",
	    "add NAME KEYFILE|- [--role R]... [--vm PATTERN]... [--bwlimit "
	    "RATE]\n"
	    "                    [--lanes N] [--jobs N]\n"
	    "       backstay key list [--json] | remove NAME",
	    "say which hosts may back up and restore",
	    "KEYFILE is the public key that `backstay-agent keygen` printed.\n"
	    "\n"
	    "  --role R        backup, restore, delete, admin; again for more\n"
	    "                  (default: backup and restore)\n"
	    "  --vm PATTERN    the VMs that the key may see, such as \"web*\"\n"
	    "                  or \"db/**\"; again for more (default: all)\n"
	    "  --bwlimit RATE  bytes a second, such as 200M\n"
	    "  --lanes N, --jobs N   how many at a time (default: 32, 16)\n"
	    "\n"
	    "A running daemon takes notice at once.\n",
	    cmd_key },
	{ "list", "[VM] [--incomplete] [--json]", "list backups",
	    "  --incomplete   what interrupted and running backups stored, "
	    "and\n"
	    "                 the next backup of the VM will not send again\n",
	    cmd_list },
	{ "history", "VM [--json]", "show what each backup of a VM changed",
	    "CHANGED is what was not as in the backup before, NEW what of it "
	    "the\n"
	    "store had not, STORED what that came to.  A backup with far more "
	    "new\n"
	    "data than is usual for the VM is marked with !, above all where "
	    "it does\n"
	    "not compress: that is what encrypted files look like.\n",
	    cmd_history },
	{ "show", "VM@BACKUP [--json]", "show one backup",
	    "VM@BACKUP is VM@TIME as `list` shows it, VM@latest, or VM@-1 for\n"
	    "the one before the latest.\n",
	    cmd_show },
	{ "status", "[--json]", "show what the repository holds", NULL,
	    cmd_status },
	{ "jobs", "[--follow] [--json]", "show what runs, and what ran last",
	    "  -f, --follow   go on: on a terminal the table as it changes, "
	    "elsewhere\n"
	    "                 a line for each job that comes, does something "
	    "else or\n"
	    "                 ends; with --json as JSON\n",
	    cmd_jobs },
	{ "watch", "JOB [--json]", "watch a job until it ends",
	    "Ends with 0 if the job was done, with 1 if not.\n"
	    "\n"
	    "  --json   nothing until then, and then the job as JSON\n",
	    cmd_watch },
	{ "top", "", "watch all that goes on, on one screen",
	    "Keys: arrows choose a job, c cancels it, l limits its rate, L "
	    "that of\n"
	    "all, p pauses giving space back, ? shows them all, q quits.\n",
	    cmd_top },
	{ "agents", "[--json]", "show the hosts that are connected",
	    "Those where `backstay-agent serve` runs, with their VMs and what "
	    "they\n"
	    "do now.\n",
	    cmd_agents },
	{ "backup", "VM [--host AGENT] [--full] [--wait] [--later] [--json]",
	    "have a connected host back up a VM now",
	    "Queues it and prints the number of the job: see jobs, cancel.\n"
	    "\n"
	    "  --host AGENT   that host, and no other; else where the VM "
	    "runs, or\n"
	    "                 a host that has it\n"
	    "  --full         read all of it, and build on no earlier one\n"
	    "  --wait         until it has ended, well or not; prints the "
	    "name of\n"
	    "                 the backup\n"
	    "  --later        also where no connected host has the VM: it "
	    "waits for\n"
	    "                 one\n"
	    "  -q, --quiet    no progress\n",
	    cmd_backup },
	{ "cancel", "JOB [--json]", "end a job that waits or runs",
	    "What an interrupted backup has stored is kept for the next one.\n",
	    cmd_cancel },
	{ "restore",
	    "VM@BACKUP --host AGENT [--disk NAME[=PATH]]... [--as NEW | --onto "
	    "VM]\n"
	    "                    [--keep-old] [--force] [--later] [--no-wait] "
	    "[-q]\n"
	    "                    [--json]\n"
	    "       backstay restore VM@BACKUP --to FOLDER [--format "
	    "qcow2|raw]\n"
	    "                    [--volume NAME]... [--force] "
	    "[--nfs-timeout S]\n"
	    "                    [--wait[=SECONDS]]\n"
	    "       backstay restore",
	    "write the disks of a backup onto a host, or to files",
	    "With nothing named, on a terminal: choose from lists.\n"
	    "\n"
	    "Onto a host: the agent there writes the disks beside those of "
	    "the\n"
	    "VM, which must be shut off; these stay as they are until all is\n"
	    "verified and synced, and then are swapped.\n"
	    "\n"
	    "  --host AGENT    one of `backstay agents`\n"
	    "  --disk NAME=PATH  where a disk goes that is not to go where it "
	    "was,\n"
	    "                  or though it is another by now; --disk NAME: "
	    "only\n"
	    "                  this one, and others so named\n"
	    "  --as NEW        for a new VM, each disk with its --disk "
	    "NAME=PATH\n"
	    "  --onto VM       in place of another VM's disks, likewise\n"
	    "  --keep-old      keep the old disks, as PATH.old-TIME\n"
	    "  --force         block devices, too, in place; and begin though "
	    "room\n"
	    "                  may not suffice\n"
	    "  --later         also while the agent is not connected\n"
	    "  --no-wait       print the job's number, and end\n"
	    "\n"
	    "To files: writes FOLDER/VM-VOLUME.qcow2 for each volume; runs\n"
	    "backstay-agent, which lies beside this program or in PATH.\n"
	    "FOLDER may be "
	    "nfs://HOST/EXPORT/PATH[?nfsport=N&mountport=N&uid=N\n"
	    "&gid=N]: on an NFS export, without a mount.\n"
	    "\n"
	    "  --format F      qcow2 (default) or raw\n"
	    "  --volume NAME   only this one; again for more\n"
	    "  --force         overwrite what is there\n"
	    "  --nfs-timeout S  wait so long for an NFS server that is gone\n"
	    "                  (100)\n"
	    "  --wait[=S]      while it is being deleted; else for ever\n",
	    cmd_restore },
	{ "export",
	    "VM@BACKUP --to FILE|- [--archive KIND] [--format "
	    "qcow2|raw|ova]\n"
	    "                    [--since VM@BACKUP] [--volume NAME]... "
	    "[--force]\n"
	    "                    [--wait[=SECONDS]] [-q] [--json]",
	    "write a whole backup as one archive",
	    "Its disks, memory and definition, with checksums; `import` takes "
	    "it\n"
	    "back, here or elsewhere.  Runs backstay-agent.\n"
	    "\n"
	    "  --to FILE|-     -: the standard output\n"
	    "  --archive KIND  tar, tar.zst, tar.gz, tar.xz or zip; as FILE "
	    "ends\n"
	    "  --format F      of its disks: qcow2 (default) or raw; ova: for "
	    "other\n"
	    "                  hypervisors, an OVF with VMDK disks\n"
	    "  --since VM@B    only what changed since that backup; import "
	    "needs it\n"
	    "  --volume NAME   only this one; again for more\n"
	    "  --force         overwrite what is there\n"
	    "  --wait[=S]      while it is being deleted; else for ever\n",
	    cmd_export },
	{ "import",
	    "VM FILE|- [--time TIME] [--wait[=SECONDS]] [-q] [--json]\n"
	    "           --cloudstack DIR [--namespace NS] [--instance NAME]... "
	    "[--dry-run]",
	    "make a backup out of an archive, or of CloudStack's",
	    "Of one that `export` wrote: the backup has the time that it had "
	    "there.\n"
	    "Runs backstay-agent; `backstay-agent import --help` tells what "
	    "else it\n"
	    "takes.\n"
	    "\n"
	    "  --time TIME     the backup's time, such as "
	    "2026-11-21T19:30:05Z\n"
	    "  --wait[=S]      while the VM is being backed up; else for "
	    "ever\n"
	    "\n"
	    "Of all that CloudStack's NAS backup plugin wrote: each of its "
	    "points in\n"
	    "time becomes a backup of VM INSTANCE with its own time; what is "
	    "there\n"
	    "already is passed over, so it can be stopped and run again.\n"
	    "\n"
	    "  --cloudstack DIR  where INSTANCE/YYYY.MM.DD.HH.MM.SS lie, of "
	    "local time (TZ)\n"
	    "  --namespace NS  into VMs NS/INSTANCE\n"
	    "  --instance NAME only this one, and others so named\n"
	    "  --dry-run       tell what would come in\n",
	    cmd_import },
	{ "delete", "VM@BACKUP... [--dry-run] [--wait[=SECONDS]] [--json]",
	    "delete backups",
	    "They are gone when the command ends; the space that only they\n"
	    "need comes back soon after, beside all that runs: see gc.\n"
	    "\n"
	    "  --dry-run       delete nothing; tell what it would free\n"
	    "  --wait[=S]      while one of them is being restored; else for\n"
	    "                  ever\n",
	    cmd_delete },
	{ "prune",
	    "[VM|PATTERN] [--keep-last N] [--keep-hourly N] [--keep-daily N]\n"
	    "           [--keep-weekly N] [--keep-monthly N] [--keep-yearly "
	    "N]\n"
	    "           [--keep-within TIME] [--min-age TIME] [--dry-run] "
	    "[--force]\n"
	    "           [--wait[=SECONDS]] [--json]",
	    "delete the backups that no rule keeps",
	    "By the rules of the settings, or by those that are said here.\n"
	    "\n"
	    "  --keep-last N       the newest N\n"
	    "  --keep-hourly N     the newest one of each of N hours; -daily, "
	    "...\n"
	    "                      likewise; each only looks at what is older "
	    "than\n"
	    "                      what those before it keep\n"
	    "  --keep-within TIME  and all so near to the newest (12h, 7d, "
	    "...)\n"
	    "  --min-age TIME      nothing that is younger goes, or counts\n"
	    "  --dry-run           show what keeps each, and what would be "
	    "freed\n"
	    "  --force             also more than half of a VM's backups, and "
	    "while\n"
	    "                      the clock is wrong; never what is "
	    "protected,\n"
	    "                      locked or too young\n",
	    cmd_prune },
	{ "protect", "VM@BACKUP... [--note TEXT] [--json] | --mend",
	    "keep backups until they are unprotected",
	    "  --note TEXT     why\n"
	    "  --mend          what was protected cannot be read any more: "
	    "protect\n"
	    "                      all that is there\n",
	    cmd_protect },
	{ "unprotect", "VM@BACKUP... [--json]", "end that", NULL,
	    cmd_unprotect },
	{ "lock", "VM@BACKUP... --until TIME [--json]",
	    "let nobody delete backups before a time",
	    "  --until TIME    such as 2027-01-31 or 2027-01-31T12:00:00Z; it "
	    "can be\n"
	    "                      made later, and never be taken back\n",
	    cmd_lock },
	{ "schedule", "[VM] [--json] | --check TIMES [--json]",
	    "show when VMs are backed up, and how that went",
	    "VM is a name or a pattern.\n"
	    "\n"
	    "  --check TIMES   the next five of such times as the settings "
	    "have "
	    "them,\n"
	    "                  such as 'Mon..Fri 02:30; Sat *-*~7/1 "
	    "03:00'\n",
	    cmd_schedule },
	{ "gc",
	    "[pause|resume|status] [--rate RATE] [--wait[=SECONDS]] [--json]",
	    "give space back now, and see how far that is",
	    "It is done by itself after each delete.\n"
	    "\n"
	    "  pause, resume   pauses last until the daemon ends\n"
	    "  --rate RATE     rewrite at most so many bytes a second, such "
	    "as\n"
	    "                  50M; 0: as fast as it goes\n"
	    "  --wait[=S]      until nothing more can be given back\n",
	    cmd_gc },
	{ "hold", "[--for TIME] [--json] | --release",
	    "keep all packs as they are, to copy them",
	    "  --for TIME    90s, 30m, 2h (default: 1h), at most 30d\n"
	    "  --release     end it\n",
	    cmd_hold },
	{ "set", "[bwlimit RATE|settings] [--key NAME | --job N] [--json]",
	    "change a rate while the daemon runs, or show all of them",
	    "  RATE           bytes a second, such as 50M; 0: no limit; also "
	    "by "
	    "the\n"
	    "                 hour: \"200M, Mon-Fri 08:00-18:00 50M\"\n"
	    "  settings       what the settings say counts again\n"
	    "  --key NAME     of the agents with that key, together\n"
	    "  --job N        of that job\n"
	    "\n"
	    "Without --key and --job: of all agents together.  It lasts until "
	    "the\n"
	    "daemon ends, that of a job as long as the job.\n",
	    cmd_set },
	{ "verify",
	    "[VM@BACKUP]... [--json] [--quiet]\n"
	    "       backstay verify --damage [--json]",
	    "read backups back and check all of them",
	    "Of all backups where none is named; what backups share is read\n"
	    "once.  Ends with 3 where something is damaged.\n"
	    "\n"
	    "  --damage        read nothing: which backups are hit by damage\n"
	    "                  that is known already\n"
	    "  -q, --quiet     no progress\n",
	    cmd_verify },
	{ "scrub", "[start|pause|resume|status] [--rate RATE] [--json]",
	    "read all that is stored, slowly, in the background",
	    "It is done by itself every 30 days (`backstayd "
	    "--scrub-interval`).\n"
	    "`status`, also where nothing is said, ends with 3 while "
	    "something\n"
	    "is damaged.\n"
	    "\n"
	    "  --rate RATE     read at most so many bytes a second (50M)\n",
	    cmd_scrub },
	{ "audit", "[--since TIME] [--json] | --check [--witness HASH]",
	    "show who did what, or check that none of it was changed",
	    "  --since TIME     2026-11-21T19:30:05Z, 2026-11-21, or how long "
	    "ago:\n"
	    "                   90s, 30m, 2h, 7d\n"
	    "  --check          check the chain of hashes: says which line "
	    "was\n"
	    "                   changed, or where some are missing\n"
	    "  --witness HASH   some line must have that hash, which you "
	    "noted\n"
	    "                   elsewhere: each start of the daemon logs one\n"
	    "\n"
	    "Reads REPO/audit.log; no daemon is needed.  Ends with 3 where it "
	    "is\n"
	    "not sound.\n",
	    cmd_audit },
	{ "notify", "[--json] | --test [--json]",
	    "show how events were told to the hook, or try it",
	    "  --test   post an event, and tell how the hook of the settings "
	    "took it;\n"
	    "           ends with 1 where it failed, or none is set\n",
	    cmd_notify },
	{ "fsck", "[--rebuild-index] [--data] [--index DIR] [--json]",
	    "check packs and index against each other",
	    "The daemon must not run.  Counts every reference anew, from the\n"
	    "backups down, and compares; writes nothing.  Ends with 3 where\n"
	    "something is wrong.\n"
	    "\n"
	    "  --rebuild-index   make the index anew from the packs alone\n"
	    "  --data            also read all data and check its CRCs\n"
	    "  --index DIR       where the index lies, if not in REPO/index\n",
	    cmd_fsck },
};
enum { NCOMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void
print_usage(FILE *f)
{
	fputs("usage: backstay [-r REPO] COMMAND [OPTION]...\n"
	      "       backstay --help | --version | COMMAND --help\n"
	      "\n"
	      "REPO is the folder of the repository; BACKSTAY_REPO in the\n"
	      "environment stands for it where -r is left out.\n"
	      "\n",
	    f);
	for (unsigned i = 0; i < NCOMMANDS; i++)
		fprintf(f, "  %-9s  %s\n", commands[i].name, commands[i].about);
}

int
console_misuse(const struct console *c, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "backstay %s: ", c->command->name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nusage: backstay %s %s\n", c->command->name,
	    c->command->args);
	return EXIT_MISUSE;
}

int
console_fail(const struct err *e)
{
	fprintf(stderr, "backstay: %s\n",
	    e->text[0] != 0 ? e->text : err_name(e->code));
	return EXIT_FAILED;
}

int
console_help(const struct console *c)
{
	printf("usage: backstay %s %s\n\n%c%s.\n", c->command->name,
	    c->command->args, c->command->about[0] - 'a' + 'A',
	    c->command->about + 1);
	if (c->command->help != NULL)
		printf("\n%s", c->command->help);
	return EXIT_DONE;
}

const char *
console_dir(const struct console *c)
{
	if (c->dir == NULL)
		console_misuse(c,
		    "which repository?  Say it with `backstay -r REPO ...`, "
		    "or set BACKSTAY_REPO");
	return c->dir;
}

int
console_plain(const struct console *c, int argc, char **argv, int most,
    bool *json, int *status)
{
	static const struct option options[] = { { "json", no_argument, NULL,
						     'j' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	int o;

	*json = false;
	*status = EXIT_MISUSE;
	while ((o = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (o == 'h') {
			*status = console_help(c);
			return -1;
		}
		if (o != 'j') {
			console_misuse(c, "see the usage");
			return -1;
		}
		*json = true;
	}
	if (argc - optind > most) {
		console_misuse(c, "what is \"%s\"?", argv[optind + most]);
		return -1;
	}
	if (console_dir(c) == NULL)
		return -1;
	return argc - optind;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = { { "repo", required_argument,
						     NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' }, { NULL, 0, NULL, 0 } };
	struct console c = { .dir = getenv("BACKSTAY_REPO") };
	int o, status;

	std_fds_keep();
	/* "+": options behind the command's name are the command's. */
	while ((o = getopt_long(argc, argv, "+r:h", options, NULL)) != -1) {
		switch (o) {
		case 'r': c.dir = optarg; break;
		case 'h': print_usage(stdout); return EXIT_DONE;
		case 'V': puts("backstay " BACKSTAY_VERSION); return EXIT_DONE;
		default: print_usage(stderr); return EXIT_MISUSE;
		}
	}
	if (c.dir != NULL && c.dir[0] == 0)
		c.dir = NULL;
	for (unsigned i = 0; optind < argc && i < NCOMMANDS; i++)
		if (strcmp(argv[optind], commands[i].name) == 0)
			c.command = &commands[i];
	if (c.command == NULL) {
		if (optind < argc)
			fprintf(stderr, "backstay: there is no command %s\n\n",
			    argv[optind]);
		print_usage(stderr);
		return EXIT_MISUSE;
	}
	signal(SIGPIPE, SIG_IGN);
	argc -= optind;
	argv += optind;
	optind = 0; /* glibc's way to start over */
	status = c.command->run(&c, argc, argv);
	console_close(&c);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fputs("backstay: cannot write to stdout\n", stderr);
		return status != EXIT_DONE ? status : EXIT_FAILED;
	}
	return status;
}
