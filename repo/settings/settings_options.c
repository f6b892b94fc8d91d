/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/settings/settings_options.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "repo/settings/settings_impl.h"

enum { KEY = 256 /* of the first key of the table */ };

/* An option for each key of [daemon], and the few that are no settings. */
static void
make_table(struct option table[SETTINGS_KEYS_MAX + 3])
{
	unsigned n = 0;

	for (unsigned i = 0; i < settings_nkeys; i++) {
		const struct settings_key *k = &settings_keys[i];

		if (strcmp(k->section, "daemon") != 0)
			continue;
		table[n++] = (struct option){ k->name,
			k->type == SETTING_FLAG ? no_argument
						: required_argument,
			NULL, KEY + (int)i };
	}
	table[n++] = (struct option){ "help", no_argument, NULL, 'h' };
	table[n++] = (struct option){ "version", no_argument, NULL, 'V' };
	table[n] = (struct option){ NULL, 0, NULL, 0 };
}

/* The folder of the index may be said from where one is. */
static const char *
from_here(struct settings_options *o, const char *path)
{
	char *here;

	if (path[0] == '/' || path[0] == 0)
		return path;
	here = getcwd(NULL, 0);
	if (here == NULL)
		return path;
	free(o->index);
	o->index = xasprintf("%s/%s", here, path);
	free(here);
	return o->index;
}

static int
add(struct settings_options *o, const char *name, const char *value,
    struct err *e)
{
	if (o->src.nover == SETTINGS_OPTIONS_MAX)
		return err_set(e, ERR_INVAL, "too many options");
	o->over[o->src.nover++] =
	    (struct settings_override){ .name = name, .value = value };
	return 0;
}

static bool
has(const struct settings_options *o, const char *name)
{
	for (unsigned i = 0; i < o->src.nover; i++)
		if (strcmp(o->over[i].name, name) == 0)
			return true;
	return false;
}

static int
take(struct settings_options *o, const struct settings_key *k, struct err *e)
{
	const char *value = k->type == SETTING_FLAG ? "yes" : optarg;

	if (k->type == SETTING_PATH)
		value = from_here(o, value);
	return add(o, k->name, value, e);
}

int
settings_options_parse(
    int argc, char **argv, struct settings_options *out, struct err *e)
{
	struct option table[SETTINGS_KEYS_MAX + 3];
	int c, rc = 0;

	memset(out, 0, sizeof(*out));
	out->src.over = out->over;
	make_table(table);
	while (rc == 0 &&
	    (c = getopt_long(argc, argv, "tvh", table, NULL)) != -1) {
		switch (c) {
		case 't': out->test = true; break;
		case 'v': rc = add(out, "verbose", "yes", e); break;
		case 'h': out->help = true; return 0;
		case 'V': out->version = true; return 0;
		case '?': return err_set(e, ERR_INVAL, "see the options below");
		default: rc = take(out, &settings_keys[c - KEY], e);
		}
	}
	if (rc != 0)
		return rc;
	if (optind == argc)
		return err_set(e, ERR_INVAL, "which repository?");
	if (optind + 1 != argc)
		return err_set(e, ERR_INVAL, "one repository, not also %s",
		    argv[optind + 1]);
	if (has(out, "no-ssh") && has(out, "listen"))
		return err_set(
		    e, ERR_INVAL, "--no-ssh and --listen exclude each other");
	out->src.dir = argv[optind];
	return 0;
}

void
settings_options_fini(struct settings_options *o)
{
	free(o->index);
	o->index = NULL;
}
