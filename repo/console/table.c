/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/console/table.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/name.h"

struct table {
	unsigned ncolumns;
	bool right[TABLE_COLUMNS_MAX];
	char **cell; /* the heads first */
	size_t n;
};

static void
add(struct table *t, char *text)
{
	/* Grown in powers of two. */
	if ((t->n & (t->n - 1)) == 0)
		t->cell = xrealloc(
		    t->cell, (t->n == 0 ? 1 : 2 * t->n) * sizeof(*t->cell));
	t->cell[t->n++] = text;
}

struct table *
table_new(const char *heads)
{
	struct table *t = xcalloc(1, sizeof(*t));

	while (t->ncolumns < TABLE_COLUMNS_MAX) {
		size_t n = strcspn(heads, ",");

		t->right[t->ncolumns] = *heads == '>';
		if (*heads == '>') {
			heads++;
			n--;
		}
		add(t, xasprintf("%.*s", (int)n, heads));
		t->ncolumns++;
		if (heads[n] == 0)
			break;
		heads += n + 1;
	}
	return t;
}

void
table_text(struct table *t, const char *text)
{
	char *s = xstrdup(text);

	/* What a guest or an agent named shall not steer a terminal. */
	for (char *p = s; *p != 0; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	add(t, s);
}

void
table_size(struct table *t, uint64_t bytes)
{
	char text[16];

	add(t, xstrdup(size_print(bytes, text)));
}

void
table_number(struct table *t, uint64_t n)
{
	add(t, xasprintf("%" PRIu64, n));
}

void
table_print(struct table *t)
{
	int width[TABLE_COLUMNS_MAX] = { 0 };

	for (size_t i = 0; i < t->n; i++) {
		int n = (int)strlen(t->cell[i]);

		if (width[i % t->ncolumns] < n)
			width[i % t->ncolumns] = n;
	}
	for (size_t i = 0; i < t->n; i++) {
		unsigned k = (unsigned)(i % t->ncolumns);
		bool last = k == t->ncolumns - 1;

		if (t->right[k])
			printf("%*s", width[k], t->cell[i]);
		else
			printf("%-*s", last ? 0 : width[k], t->cell[i]);
		fputs(last ? "\n" : "  ", stdout);
	}
	table_free(t);
}

void
table_free(struct table *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->cell[i]);
	free(t->cell);
	free(t);
}
