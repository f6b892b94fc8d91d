/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/cmd.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "agent/image/nfsfile.h"
#include "proto/base/json.h"

/*
 * A lane slower than this might not empty its buffers before the other end
 * takes it for dead (LANE_STALL_MS).
 */
enum { LANE_RATE_MIN = 64 << 10, WAIT_S_MAX = 1000000 };

/* Some of it was said by the other end: nothing may steer the terminal. */
static void
say(const char *text)
{
	char line[2 * ERR_TEXT_MAX];
	size_t n;

	snprintf(line, sizeof(line), "backstay-agent: %s", text);
	for (n = 0; line[n] != 0; n++)
		if ((unsigned char)line[n] < ' ' || line[n] == 0x7f)
			line[n] = '?';
	fprintf(stderr, "%s\n", line);
}

int
cmd_misuse(const char *cmd, const char *fmt, ...)
{
	char why[ERR_TEXT_MAX], text[2 * ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	snprintf(
	    text, sizeof(text), "%s; see backstay-agent %s--help", why, cmd);
	say(text);
	return EXIT_MISUSE;
}

int
cmd_bad_option(const char *cmd, char **argv, int how)
{
	const char *what = argv[optind - 1];

	if (how == ':')
		return cmd_misuse(cmd, "%s needs a value", what);
	/* A short one may stand in the middle of a word. */
	if (optopt > 0 && optopt < 256 && what[0] == '-' && what[1] != '-')
		return cmd_misuse(cmd, "there is no option -%c", optopt);
	return cmd_misuse(cmd, "there is no option %s", what);
}

int
cmd_failed(const char *what, const struct err *e)
{
	char text[2 * ERR_TEXT_MAX];

	snprintf(text, sizeof(text), "%s: %s", what,
	    e->text[0] != 0 ? e->text : err_name(e->code));
	say(text);
	return e->code == ERR_CORRUPT ? EXIT_DAMAGE : EXIT_FAILED;
}

int
cmd_done(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return EXIT_DONE;
	say("cannot write to the standard output");
	return EXIT_FAILED;
}

int
cmd_print_json(json_t *j)
{
	struct buf b = { 0 };

	json_print(j, &b);
	json_decref(j);
	printf("%s\n", buf_cstr(&b));
	buf_fini(&b);
	return cmd_done();
}

int
cmd_add_disk(
    const char *cmd, const char *text, struct cmd_disk *disk, unsigned *n)
{
	const char *eq = strchr(text, '=');
	struct cmd_disk *d = &disk[*n];

	if (eq == NULL)
		eq = text + strlen(text);
	if (eq == text || (*eq != 0 && eq[1] == 0))
		return cmd_misuse(cmd, "--disk %.100s: say NAME=PATH", text);
	if (*n == MANIFEST_VOLUMES_MAX)
		return cmd_misuse(
		    cmd, "a backup has at most %d disks", MANIFEST_VOLUMES_MAX);
	if ((size_t)(eq - text) < sizeof(d->name)) {
		memcpy(d->name, text, (size_t)(eq - text));
		d->name[eq - text] = 0;
	}
	if ((size_t)(eq - text) >= sizeof(d->name) || !name_part_ok(d->name))
		return cmd_misuse(cmd,
		    "--disk %.100s: the name of a disk has up to %d letters, "
		    "digits, '.', '_' and '-', and begins with a letter or "
		    "digit",
		    text, NAME_PART_MAX);
	for (unsigned i = 0; i < *n; i++)
		if (strcmp(disk[i].name, d->name) == 0)
			return cmd_misuse(
			    cmd, "--disk %s is there twice", d->name);
	d->rest = *eq != 0 ? eq + 1 : NULL;
	++*n;
	return EXIT_DONE;
}

void
cmd_common_init(struct cmd_common *c)
{
	memset(c, 0, sizeof(*c));
	c->lanes = JOB_LANES_DEFAULT;
	c->repo = getenv("BACKSTAY_AGENT_REPO");
	if (c->repo != NULL && *c->repo == 0)
		c->repo = NULL;
	opterr = 0;
	optind = 1;
}

int
cmd_common_option(
    struct cmd_common *c, const char *cmd, int opt, const char *arg)
{
	uint64_t n;

	switch (opt) {
	case OPT_REPO: c->repo = arg; break;
	case OPT_QUIET: c->quiet = true; break;
	case OPT_JSON: c->json = true; break;
	case OPT_WAIT:
		c->wait_ms = -1;
		if (arg == NULL)
			break;
		if (number_parse(arg, 0, WAIT_S_MAX, &n) != 0)
			return cmd_misuse(cmd,
			    "--wait=%.40s: say a number of seconds, at most %d",
			    arg, WAIT_S_MAX);
		c->wait_ms = (int)n * 1000;
		break;
	case OPT_LANES:
		if (number_parse(arg, 1, JOB_LANES_MAX, &n) != 0)
			return cmd_misuse(cmd,
			    "--lanes %.40s: say a number from 1 to %d", arg,
			    JOB_LANES_MAX);
		c->lanes = (unsigned)n;
		break;
	case OPT_NFS:
		if (number_parse(arg, 1, NFSFILE_PATIENCE_S_MAX, &n) != 0)
			return cmd_misuse(cmd,
			    "--nfs-timeout %.40s: say a number of seconds from "
			    "1 to %d",
			    arg, NFSFILE_PATIENCE_S_MAX);
		nfsfile_patience((unsigned)n);
		break;
	default:
		if (size_parse(arg, &c->bwlimit) != 0 ||
		    c->bwlimit < LANE_RATE_MIN)
			return cmd_misuse(cmd,
			    "--bwlimit %.40s: say bytes a second, as in 200M, "
			    "and at least 64K",
			    arg);
	}
	return EXIT_DONE;
}

int
cmd_common_end(struct cmd_common *c, const char *cmd)
{
	struct err e = { 0 };

	if (c->repo == NULL)
		return cmd_misuse(cmd,
		    "no repository: say --repo URL or set BACKSTAY_AGENT_REPO");
	if (c->bwlimit > 0 && c->lanes > c->bwlimit / LANE_RATE_MIN)
		c->lanes = (unsigned)(c->bwlimit / LANE_RATE_MIN);
	if (repo_url_parse(c->repo, &c->url, &e) != 0)
		return cmd_misuse(cmd, "%s", e.text);
	if (identity_init(&c->id, &e) != 0)
		return cmd_failed("cannot find this host's key", &e);
	return EXIT_DONE;
}

void
cmd_common_fini(struct cmd_common *c)
{
	identity_fini(&c->id);
}

struct job_options
cmd_job_options(const struct cmd_common *c)
{
	return (struct job_options){ .url = &c->url,
		.id = &c->id,
		.lanes = c->lanes,
		.wait_ms = c->wait_ms,
		.bwlimit = c->bwlimit };
}
