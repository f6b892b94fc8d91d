/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/etc_fixture.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/base/err.h"
#include "proto/base/io.h"

void
etc_read(const char *name, struct buf *out)
{
	const char *at[] = { "etc", "../etc", "../../etc", "../../../etc" };
	int rc = ERR_NOENT;

	for (size_t i = 0; rc != 0 && i < sizeof(at) / sizeof(at[0]); i++) {
		char *path = xasprintf("%s/%s", at[i], name);

		rc = file_read(AT_FDCWD, path, 1 << 20, out);
		free(path);
	}
	if (rc != 0)
		fail_msg("etc/%s: run the test in the source tree", name);
}
