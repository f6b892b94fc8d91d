/* SPDX-License-Identifier: Apache-2.0 */
/* A restore to files on this machine, by backstay-agent, or onto a host, by the
 * agent that is connected there. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/base/buf.h"
#include "proto/base/json.h"
#include "proto/manifest.h"
#include "proto/nfs/nfs3.h"
#include "repo/console/restore.h"
#include "repo/console/run_agent.h"

/* A vector for exec. */
struct args {
	char *v[2 * MANIFEST_VOLUMES_MAX + 18];
	unsigned n;
};

static void
add(struct args *a, const char *s)
{
	a->v[a->n++] = xstrdup(s);
}

static int
add_word(struct console *c, const char **list, unsigned *n)
{
	if (*n == MANIFEST_VOLUMES_MAX)
		return console_misuse(c, "too many disks");
	list[(*n)++] = optarg;
	return 0;
}

static int
take_option(struct console *c, struct restore_wish *w, int o)
{
	switch (o) {
	case 't': w->to = optarg; break;
	case 'H': w->host = optarg; break;
	case 'f':
		w->format = optarg;
		if (strcmp(w->format, "qcow2") != 0 &&
		    strcmp(w->format, "raw") != 0)
			return console_misuse(c, "--format is qcow2 or raw");
		break;
	case 'v': return add_word(c, w->volume, &w->nvolumes);
	case 'd': return add_word(c, w->disk, &w->ndisks);
	case 'o': w->onto = optarg; break;
	case 'a': w->as = optarg; break;
	case 'k': w->keep_old = true; break;
	case 'l': w->later = true; break;
	case 'n': w->no_wait = true; break;
	case 'T': w->nfs_timeout = optarg; break;
	case 'q': w->quiet = true; break;
	case 'j': w->json = true; break;
	case 'F': w->force = true; break;
	case 'w':
		if (console_wait(c, optarg) != 0)
			return EXIT_MISUSE;
		w->wait = optarg != NULL ? optarg : "";
		break;
	default: return console_misuse(c, "see the usage");
	}
	return 0;
}

/* Nothing is left aside in silence. */
static int
check_target(struct console *c, const struct restore_wish *w)
{
	bool folder = w->format != NULL || w->nvolumes > 0 || w->wait != NULL ||
	    w->nfs_timeout != NULL;
	bool host = w->ndisks > 0 || w->onto != NULL || w->as != NULL ||
	    w->keep_old || w->later || w->no_wait || w->json;

	if (w->to == NULL && w->host == NULL)
		return console_misuse(
		    c, "where to?  Say --to FOLDER, or --host AGENT");
	if (w->to != NULL && w->host != NULL)
		return console_misuse(
		    c, "to a folder or onto a host: not both");
	if (w->to != NULL && host)
		return console_misuse(c,
		    "--disk, --onto, --as, --keep-old, --later, --no-wait and "
		    "--json need --host");
	if (w->host != NULL && folder)
		return console_misuse(c,
		    "--format, --volume, --wait and --nfs-timeout need --to");
	return 0;
}

static int
parse(struct console *c, int argc, char **argv, struct restore_wish *w)
{
	static const struct option options[] = { { "to", required_argument,
						     NULL, 't' },
		{ "format", required_argument, NULL, 'f' },
		{ "volume", required_argument, NULL, 'v' },
		{ "host", required_argument, NULL, 'H' },
		{ "disk", required_argument, NULL, 'd' },
		{ "onto", required_argument, NULL, 'o' },
		{ "as", required_argument, NULL, 'a' },
		{ "keep-old", no_argument, NULL, 'k' },
		{ "later", no_argument, NULL, 'l' },
		{ "no-wait", no_argument, NULL, 'n' },
		{ "nfs-timeout", required_argument, NULL, 'T' },
		{ "quiet", no_argument, NULL, 'q' },
		{ "json", no_argument, NULL, 'j' },
		{ "force", no_argument, NULL, 'F' },
		{ "wait", optional_argument, NULL, 'w' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	int o, rc = 0;

	while ((o = getopt_long(argc, argv, "qh", options, NULL)) != -1) {
		if (o == 'h') {
			console_help(c);
			return -1;
		}
		rc = take_option(c, w, o);
		if (rc != 0)
			return rc;
	}
	if (argc == 1) {
		if (console_dir(c) == NULL)
			return EXIT_MISUSE;
		return restore_pick(c, w);
	}
	if (argc - optind != 1)
		return console_misuse(c, "name one backup");
	rc = check_target(c, w);
	if (rc != 0)
		return rc;
	if (console_dir(c) == NULL)
		return EXIT_MISUSE;
	w->backup = argv[optind];
	return 0;
}

static int
fetch(struct console *c, const char *backup, struct manifest *m, struct err *e)
{
	json_t *ask = console_op("show"), *answer, *j;
	int rc;

	json_set_str(ask, "backup", backup);
	rc = console_call(c, ask, &answer, e);
	if (rc != 0)
		return rc;
	rc = json_get_object(answer, "manifest", &j, e);
	if (rc == 0)
		rc = manifest_from_json(j, m, e);
	json_decref(answer);
	return rc;
}

/* Keep the disks that are wished for; all of them if none is named. */
static int
choose(const struct restore_wish *w, struct manifest *m, struct err *e)
{
	unsigned n = 0;

	for (unsigned i = 0; i < w->nvolumes; i++)
		if (manifest_volume_find(m, w->volume[i]) == -1)
			return err_set(e, ERR_NOENT, "%s has no volume %s",
			    w->backup, w->volume[i]);
	for (unsigned i = 0; i < m->nvolumes; i++) {
		bool wanted =
		    w->nvolumes == 0 && strcmp(m->volume[i].kind, "disk") == 0;

		for (unsigned k = 0; k < w->nvolumes; k++)
			if (strcmp(m->volume[i].name, w->volume[k]) == 0)
				wanted = true;
		if (wanted)
			m->volume[n++] = m->volume[i];
	}
	m->nvolumes = n;
	if (n == 0)
		return err_set(e, ERR_NOENT, "%s has no disks", w->backup);
	return 0;
}

static int
make_folder(const struct restore_wish *w, char *folder, struct err *e)
{
	struct stat st;

	if (mkdir(w->to, 0777) == -1 && errno != EEXIST)
		return err_set(e, ERR_SYS, "%s: cannot be made: %s", w->to,
		    strerror(errno));
	if (realpath(w->to, folder) == NULL || stat(folder, &st) == -1 ||
	    !S_ISDIR(st.st_mode))
		return err_set(e, ERR_INVAL, "%s is no folder", w->to);
	return 0;
}

static int
add_disks(const struct restore_wish *w, const struct manifest *m,
    struct args *a, struct err *e)
{
	bool nfs = nfs3_is_url(w->to);
	char folder[PATH_MAX];
	struct stat st;
	int rc;

	rc = nfs ? restore_nfs_folder(w, m, e) : make_folder(w, folder, e);
	for (unsigned i = 0; i < m->nvolumes && rc == 0; i++) {
		char *path =
		    restore_target(nfs ? w->to : folder, m, i, w->format);
		char *disk = xasprintf("%s=%s", m->volume[i].name, path);

		if (!nfs && !w->force && lstat(path, &st) == 0)
			rc = err_set(e, ERR_EXIST,
			    "%s is there already; --force overwrites it", path);
		add(a, "--disk");
		add(a, disk);
		free(path);
		free(disk);
	}
	return rc;
}

int
cmd_restore(struct console *c, int argc, char **argv)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];
	struct restore_wish w = { .backup = NULL };
	struct args a = { .n = 0 };
	struct err e = { 0 };
	struct manifest m;
	char *url;
	int rc;

	rc = parse(c, argc, argv, &w);
	if (rc != 0)
		return rc == -1 ? EXIT_DONE : rc;
	if (w.host != NULL)
		return restore_host(c, &w);
	if (w.format == NULL)
		w.format = "qcow2";
	rc = fetch(c, w.backup, &m, &e);
	if (rc == 0)
		rc = choose(&w, &m, &e);
	if (rc != 0)
		return console_fail(&e);
	url = agent_url(c->dir);
	add(&a, "backstay-agent");
	add(&a, "restore");
	add(&a, "--repo");
	add(&a, url);
	free(url);
	/* The very backup that was shown: "latest" may become another. */
	add(&a, manifest_name(&m, name));
	add(&a, "--format");
	add(&a, w.format);
	if (w.force)
		add(&a, "--force");
	if (w.nfs_timeout != NULL) {
		add(&a, "--nfs-timeout");
		add(&a, w.nfs_timeout);
	}
	if (w.wait != NULL) {
		char *wait = w.wait[0] != 0 ? xasprintf("--wait=%s", w.wait)
					    : xstrdup("--wait");

		add(&a, wait);
		free(wait);
	}
	rc = add_disks(&w, &m, &a, &e);
	if (rc == 0) {
		console_close(c);
		a.v[a.n] = NULL;
		run_agent(a.v, "restore", &e);
	}
	for (unsigned i = 0; i < a.n; i++)
		free(a.v[i]);
	return console_fail(&e);
}
