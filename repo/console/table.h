/* SPDX-License-Identifier: Apache-2.0 */
/* table: columns that line up, on stdout. */
#ifndef REPO_CONSOLE_TABLE_H
#define REPO_CONSOLE_TABLE_H

#include <stdint.h>

enum { TABLE_COLUMNS_MAX = 12 };

struct table;

/** table_new(heads): heads of columns, with ',' between; one that begins with
 * '>' has its cells at the right. */
struct table *table_new(const char *heads);

/** table_text / table_size / table_number: the next cell, row by row. */
void table_text(struct table *t, const char *text);
void table_size(struct table *t, uint64_t bytes);
void table_number(struct table *t, uint64_t n);

/** table_print(t): and free; nothing but the heads if there are no rows. */
void table_print(struct table *t);

/** table_free(t): without printing. */
void table_free(struct table *t);

#endif
