/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/store/volume_names.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PER_FOLDER = 1024 };

const char *
volume_folder(uint32_t number, char *out)
{
	snprintf(out, VOLUME_FOLDER_LEN, "%04" PRIx32, number / PER_FOLDER);
	return out;
}

const char *
volume_file_name(const struct volume_name *name, char *out)
{
	snprintf(out, VOLUME_FILE_LEN, "%08" PRIx32 ".%s", name->number,
	    name->poisoned ? "poisoned" : "pack");
	return out;
}

/* What a name begins with; that all of it is right is tested by printing. */
static uint32_t
leading_hex(const char *s)
{
	size_t n = strspn(s, "0123456789abcdef");

	return n <= 8 ? (uint32_t)strtoul(s, NULL, 16) : 0;
}

bool
volume_folder_ok(const char *s)
{
	char expect[VOLUME_FOLDER_LEN];
	uint32_t n = leading_hex(s);

	return n <= UINT32_MAX / PER_FOLDER &&
	    strcmp(volume_folder(n * PER_FOLDER, expect), s) == 0;
}

bool
volume_file_parse(const char *folder, const char *s, struct volume_name *out)
{
	char expect[VOLUME_FILE_LEN], in[VOLUME_FOLDER_LEN];

	out->number = leading_hex(s);
	out->poisoned = strstr(s, ".poisoned") != NULL;
	return out->number != 0 &&
	    strcmp(volume_file_name(out, expect), s) == 0 &&
	    strcmp(volume_folder(out->number, in), folder) == 0;
}
