/* SPDX-License-Identifier: Apache-2.0 */
/* A restore to files on this machine: backstay-agent does the work. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/json.h"
#include "proto/manifest.h"
#include "repo/console/console.h"

struct wish {
	const char *backup;
	const char *to;
	const char *format;
	const char *volume[MANIFEST_VOLUMES_MAX];
	unsigned nvolumes; /* 0: all disks */
	const char *wait;  /* as the agent has it, or NULL */
	bool force;
};

/* A vector for exec. */
struct args {
	char *v[2 * MANIFEST_VOLUMES_MAX + 16];
	unsigned n;
};

static void
add(struct args *a, const char *s)
{
	a->v[a->n++] = xstrdup(s);
}

static int
parse(struct console *c, int argc, char **argv, struct wish *w)
{
	static const struct option options[] = { { "to", required_argument,
						     NULL, 't' },
		{ "format", required_argument, NULL, 'f' },
		{ "volume", required_argument, NULL, 'v' },
		{ "force", no_argument, NULL, 'F' },
		{ "wait", optional_argument, NULL, 'w' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	int o;

	while ((o = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (o) {
		case 't': w->to = optarg; break;
		case 'f':
			w->format = optarg != NULL ? optarg : "";
			if (strcmp(w->format, "qcow2") != 0 &&
			    strcmp(w->format, "raw") != 0)
				return console_misuse(
				    c, "--format is qcow2 or raw");
			break;
		case 'v':
			if (w->nvolumes == MANIFEST_VOLUMES_MAX)
				return console_misuse(c, "too many --volume");
			w->volume[w->nvolumes++] = optarg;
			break;
		case 'F': w->force = true; break;
		case 'w':
			if (console_wait(c, optarg) != 0)
				return EXIT_MISUSE;
			w->wait = optarg != NULL ? optarg : "";
			break;
		case 'h': console_help(c); return -1;
		default: return console_misuse(c, "see the usage");
		}
	}
	if (argc - optind != 1)
		return console_misuse(c, "name one backup");
	if (w->to == NULL)
		return console_misuse(c, "where to?  Say --to FOLDER");
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
choose(const struct wish *w, struct manifest *m, struct err *e)
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
add_disks(const struct wish *w, const struct manifest *m, struct args *a,
    struct err *e)
{
	char folder[PATH_MAX], vm[VM_NAME_MAX + 1];
	struct stat st;

	if (mkdir(w->to, 0777) == -1 && errno != EEXIST)
		return err_set(e, ERR_SYS, "%s: cannot be made: %s", w->to,
		    strerror(errno));
	if (realpath(w->to, folder) == NULL || stat(folder, &st) == -1 ||
	    !S_ISDIR(st.st_mode))
		return err_set(e, ERR_INVAL, "%s is no folder", w->to);
	memcpy(vm, m->vm, sizeof(vm));
	for (char *p = vm; *p != 0; p++)
		if (*p == '/')
			*p = '-';
	for (unsigned i = 0; i < m->nvolumes; i++) {
		char *path = xasprintf(
		    "%s/%s-%s.%s", folder, vm, m->volume[i].name, w->format);
		char *disk = xasprintf("%s=%s", m->volume[i].name, path);
		int rc = 0;

		if (!w->force && lstat(path, &st) == 0)
			rc = err_set(e, ERR_EXIST,
			    "%s is there already; --force overwrites it", path);
		add(a, "--disk");
		add(a, disk);
		free(path);
		free(disk);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* Beside this program if it is there, as after a build; else in PATH. */
static int
run_agent(struct args *a, struct err *e)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *beside, *slash;

	a->v[a->n] = NULL;
	fflush(stdout);
	if (n > 0) {
		self[n] = 0;
		slash = strrchr(self, '/');
		beside =
		    xasprintf("%.*s/backstay-agent", (int)(slash - self), self);
		if (access(beside, X_OK) == 0)
			execv(beside, a->v);
		free(beside);
	}
	execvp("backstay-agent", a->v);
	return err_set(e, ERR_NOENT,
	    "backstay-agent cannot be run: %s; it does the restore: install "
	    "it beside this program or in PATH",
	    strerror(errno));
}

int
cmd_restore(struct console *c, int argc, char **argv)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];
	struct wish w = { .format = "qcow2" };
	struct args a = { .n = 0 };
	struct err e = { 0 };
	struct manifest m;
	char *url, *dir;
	int rc;

	rc = parse(c, argc, argv, &w);
	if (rc != 0)
		return rc == -1 ? EXIT_DONE : rc;
	rc = fetch(c, w.backup, &m, &e);
	if (rc == 0)
		rc = choose(&w, &m, &e);
	if (rc != 0)
		return console_fail(&e);
	dir = realpath(c->dir, NULL);
	url = xasprintf("unix:%s/socket", dir != NULL ? dir : c->dir);
	free(dir);
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
	if (w.wait != NULL) {
		char *wait = w.wait[0] != 0 ? xasprintf("--wait=%s", w.wait)
					    : xstrdup("--wait");

		add(&a, wait);
		free(wait);
	}
	rc = add_disks(&w, &m, &a, &e);
	if (rc == 0) {
		console_close(c);
		run_agent(&a, &e);
	}
	for (unsigned i = 0; i < a.n; i++)
		free(a.v[i]);
	return console_fail(&e);
}
