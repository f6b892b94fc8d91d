/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "agent/cmd.h"
#include "agent/serve/serve.h"

#define CMD "serve "

static const char help[] =
    "usage: backstay-agent serve [--config FILE] [--repo URL] [-t]\n"
    "\n"
    "Stay connected to the NAS, tell it which virtual machines this host has,\n"
    "and do the backups and restores that it asks for.  What it may ask for,\n"
    "and how that is done, agent.conf says; see agent.conf(5).\n"
    "\n"
    "  --config FILE   the settings (agent.conf beside this host's key)\n"
    "  -r, --repo URL  ssh://NAS[:PORT] or unix:PATH, in place of what they "
    "say\n"
    "  -t, --test      check the settings, and do nothing else\n"
    "  --sample        print settings with all keys at their defaults\n"
    "\n"
    "SIGHUP has it read them again.  SIGTERM: jobs under way are ended first.\n"
    "\n"
    "Exit code: 0 done, 1 failed, 2 misuse.\n";

enum { OPT_CONFIG = OPT_OWN, OPT_SAMPLE };

static const struct option options[] = { CMD_HELP_OPTION,
	{ "repo", required_argument, NULL, OPT_REPO },
	{ "config", required_argument, NULL, OPT_CONFIG },
	{ "test", no_argument, NULL, 't' },
	{ "sample", no_argument, NULL, OPT_SAMPLE }, { NULL, 0, NULL, 0 } };

static int
print_sample(void)
{
	struct buf b = { 0 };

	conf_sample(&b);
	printf("%s", buf_cstr(&b));
	buf_fini(&b);
	return cmd_done();
}

/* Each fault is a line of its own. */
static int
read_conf(const struct serve_options *o, struct conf **c)
{
	struct buf wrong = { 0 };
	int rc = conf_read(o->conf_path, o->conf_must, c, &wrong);

	if (rc != 0)
		fprintf(stderr, "%s", buf_cstr(&wrong));
	buf_fini(&wrong);
	return rc == 0 ? EXIT_DONE : EXIT_FAILED;
}

static int
test_conf(const struct serve_options *o, struct conf *c)
{
	const char *repo = serve_repo(o, c);
	struct err e = { 0 };
	int rc;

	if (repo == NULL)
		rc = err_set(&e, ERR_INVAL,
		    "no repository: say repo = ssh://NAS in [agent]");
	else
		rc = 0;
	conf_free(c);
	if (rc != 0)
		return cmd_failed(o->conf_path, &e);
	printf("%s: no faults\n", o->conf_path);
	return cmd_done();
}

static int
run(struct serve_options *o, bool test)
{
	struct err e = { 0 };
	struct conf *c;
	int rc = read_conf(o, &c);

	if (rc != EXIT_DONE)
		return rc;
	if (test)
		return test_conf(o, c);
	if (serve_run(o, c, &e) != 0)
		return cmd_failed("cannot serve", &e);
	return EXIT_DONE;
}

int
cmd_serve(int argc, char **argv)
{
	struct serve_options o = { .version = BACKSTAY_VERSION };
	struct identity id = { 0 };
	bool test = false;
	char *path = NULL;
	struct err e = { 0 };
	int opt, rc;

	opterr = 0;
	optind = 1;
	while ((opt = getopt_long(argc, argv, ":hr:t", options, NULL)) != -1)
		switch (opt) {
		case OPT_HELP: printf("%s", help); return cmd_done();
		case OPT_SAMPLE: return print_sample();
		case OPT_REPO: o.repo = optarg; break;
		case OPT_CONFIG: o.conf_path = optarg; break;
		case 't': test = true; break;
		default: return cmd_bad_option(CMD, argv, opt);
		}
	if (optind != argc)
		return cmd_misuse(CMD, "it takes no arguments");
	if (identity_init(&id, &e) != 0)
		return cmd_failed("cannot find this host's key", &e);
	o.id = &id;
	o.conf_must = o.conf_path != NULL;
	if (o.conf_path == NULL)
		o.conf_path = path = xasprintf("%s/" CONF_FILE, id.dir);
	rc = run(&o, test);
	free(path);
	identity_fini(&id);
	return rc;
}
