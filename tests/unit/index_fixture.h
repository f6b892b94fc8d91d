/* SPDX-License-Identifier: Apache-2.0 */
/* index_fixture: random entries of an index, and how two are compared. */
#ifndef TESTS_UNIT_INDEX_FIXTURE_H
#define TESTS_UNIT_INDEX_FIXTURE_H

#include <stdint.h>

#include "repo/store/index_private.h"

/** rnd_seed(): by SEED or the clock, and printed.  rnd(): the next number. */
void rnd_seed(void);
uint64_t rnd(void);

/** rnd_op(): what a batch may say of an id. */
struct index_entry rnd_op(void);

/** assert_same(a, b): they are printed alike. */
void assert_same(const struct index_entry *a, const struct index_entry *b);

/** print_whole(e, out): in the form that version 1 had, INDEX_ENTRY_LEN bytes.
 */
void print_whole(const struct index_entry *e, uint8_t *out);

#endif
