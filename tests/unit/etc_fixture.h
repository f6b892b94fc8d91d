/* SPDX-License-Identifier: Apache-2.0 */
/* etc_fixture: the files of etc/, wherever in the tree a test runs. */
#ifndef TESTS_UNIT_ETC_FIXTURE_H
#define TESTS_UNIT_ETC_FIXTURE_H

#include "proto/base/buf.h"

/** etc_read(name, out): append all of it; the case fails if it is not found. */
void etc_read(const char *name, struct buf *out);

#endif
