/* SPDX-License-Identifier: Apache-2.0 */
/* volume_names: what packs and their folders are called.  FORMAT.md 1. */
#ifndef REPO_STORE_VOLUME_NAMES_H
#define REPO_STORE_VOLUME_NAMES_H

#include "repo/store/volume.h"

enum {
	VOLUME_FOLDER_LEN = 12, /* "003fffff" and its NUL */
	VOLUME_FILE_LEN = 20    /* "ffffffff.poisoned" and its NUL */
};

/** volume_folder(number, out): the folder of that pack.
 * volume_file_name(name, out): its file in there. */
const char *volume_folder(uint32_t number, char *out);
const char *volume_file_name(const struct volume_name *name, char *out);

/** volume_folder_ok(s): a folder of packs is called so. */
bool volume_folder_ok(const char *s);

/** volume_file_parse(folder, s, out): the pack of a file in a folder; only the
 * one name that a number has is a pack's: else false. */
bool volume_file_parse(
    const char *folder, const char *s, struct volume_name *out);

#endif
