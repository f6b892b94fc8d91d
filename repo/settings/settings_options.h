/* SPDX-License-Identifier: Apache-2.0 */
/* settings_options: the command line of backstayd.  The file's keys of [daemon]
 * are options of the same names. */
#ifndef REPO_SETTINGS_SETTINGS_OPTIONS_H
#define REPO_SETTINGS_SETTINGS_OPTIONS_H

#include "repo/settings/settings.h"

enum { SETTINGS_OPTIONS_MAX = 64 };

struct settings_options {
	bool help, version;
	bool test; /* -t: check the settings and end */
	struct settings_source src;
	struct settings_override over[SETTINGS_OPTIONS_MAX];
	char *index; /* as seen from everywhere */
};

/**
 * settings_options_parse(argc, argv, out, e): ERR_INVAL says what is not
 * understood; getopt has spoken where the text is empty.  Values are not
 * checked yet.  ${out} refers to ${argv} and to itself: it stays in place,
 * until settings_options_fini.
 */
int settings_options_parse(
    int argc, char **argv, struct settings_options *out, struct err *e);
void settings_options_fini(struct settings_options *o);

#endif
