/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "proto/base/json.h"
#include "proto/base/owner.h"
#include "repo/console/console.h"
#include "repo/console/noted.h"
#include "repo/settings/settings.h"
#include "repo/store/fsck.h"

static void
say(void *arg, const char *line)
{
	(void)arg;
	fprintf(stderr, "backstay: %s\n", line);
}

static const struct count {
	const char *name;
	size_t off;
	const char *about;
} counts[] = {
#define COUNT(name, about)                                                     \
	{                                                                      \
#name, offsetof(struct fsck_report, name), about               \
	}
	COUNT(packs, "packs read"),
	COUNT(records, "records in them"),
	COUNT(entries, "entries of the index"),
	COUNT(backups, "backups"),
	COUNT(damaged, "records that are damaged"),
	COUNT(no_record, "entries that point at no valid record"),
	COUNT(wrong_refs, "entries with a wrong reference count"),
	COUNT(missing, "chunks and nodes that are lost"),
	COUNT(wrong_live, "packs with a wrong count of live bytes"),
	COUNT(hit_backups, "backups that lack something"),
#undef COUNT
};

static uint64_t
count_of(const struct fsck_report *r, const struct count *c)
{
	return *(const uint64_t *)(const void *)((const char *)r + c->off);
}

static void
print(const struct fsck_report *r, bool json)
{
	size_t n = sizeof(counts) / sizeof(counts[0]);
	json_t *j;

	if (!json) {
		for (size_t i = 0; i < n; i++)
			printf("%12" PRIu64 "  %s\n", count_of(r, &counts[i]),
			    counts[i].about);
		return;
	}
	j = json_object();
	for (size_t i = 0; i < n; i++)
		json_set_u64(j, counts[i].name, count_of(r, &counts[i]));
	json_set_bool(j, "clean", fsck_clean(r));
	console_print_json(j);
	json_decref(j);
}

/* As the daemon has it; a fault in its settings is the daemon's to say. */
static const char *
index_of(const char *dir, struct settings **s)
{
	struct settings_source src = { .dir = dir };
	struct buf wrong = { 0 };
	int rc = settings_read(&src, s, &wrong);

	buf_fini(&wrong);
	return rc == 0 ? (*s)->index : NULL;
}

static int
note_rebuild(const char *dir, int rc, struct err *e)
{
	char *text = rc != 0 ? xasprintf("failed: %s", e->text) : NULL;
	struct err why = { 0 };

	/* Why the rebuild failed is more than that nobody noted it. */
	if (noted(dir, "fsck --rebuild-index", NULL,
		text != NULL ? text : "done", &why) != 0 &&
	    rc == 0) {
		*e = why;
		rc = why.code;
	}
	free(text);
	return rc;
}

int
cmd_fsck(struct console *c, int argc, char **argv)
{
	enum { REBUILD = 256, DATA, INDEX, JSON };
	static const struct option options[] = { { "rebuild-index", no_argument,
						     NULL, REBUILD },
		{ "data", no_argument, NULL, DATA },
		{ "index", required_argument, NULL, INDEX },
		{ "json", no_argument, NULL, JSON },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	struct fsck_options o = { .rebuild = false };
	struct fsck_report r;
	struct err e = { 0 };
	bool json = false;
	struct settings *s = NULL;
	int opt, rc;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (opt) {
		case REBUILD: o.rebuild = true; break;
		case DATA: o.data = true; break;
		case INDEX: o.index = optarg; break;
		case JSON: json = true; break;
		case 'h': return console_help(c);
		default: return console_misuse(c, "see the usage");
		}
	}
	if (optind < argc)
		return console_misuse(c, "what is \"%s\"?", argv[optind]);
	if (console_dir(c) == NULL)
		return EXIT_MISUSE;
	if (owner_become(c->dir, &e) != 0)
		return console_fail(&e);
	if (o.index == NULL)
		o.index = index_of(c->dir, &s);
	rc = fsck(c->dir, &o, say, NULL, &r, &e);
	settings_free(s);
	if (o.rebuild)
		rc = note_rebuild(c->dir, rc, &e);
	if (rc != 0) {
		console_fail(&e);
		return e.code == ERR_CORRUPT ? EXIT_DAMAGE : EXIT_FAILED;
	}
	print(&r, json);
	if (!fsck_clean(&r))
		return EXIT_DAMAGE;
	if (!json)
		printf("%s\n",
		    o.rebuild ? "The index was made anew from the packs."
			      : "The repository is clean.");
	return EXIT_DONE;
}
