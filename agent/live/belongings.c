/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/live/belongings.h"

#include <stdio.h>
#include <string.h>

#include "agent/source/source_mem.h"

static void
say(struct belongings *b, const char *name, const char *what)
{
	size_t at = strlen(b->note);

	snprintf(b->note + at, sizeof(b->note) - at, "%s%s %s",
	    at == 0 ? "" : "; ", name, what);
}

/* A machine that was never started has no NVRAM yet, and a TPM puts down what
 * it is in the middle of, and takes it away again. */
static bool
may_be_missing(const struct guest *g, const struct guest_file *f)
{
	return guest_state(g) == GUEST_OFF ||
	    (strcmp(f->kind, "tpm") == 0 &&
		strstr(f->path, ".permall") == NULL);
}

int
belongings_take(struct guest *g, void *arg, struct err *e)
{
	struct belongings *b = arg;
	struct err why = { 0 };
	unsigned n;
	const struct guest_file *f = guest_files(g, &n);
	int rc;

	for (unsigned i = 0; i < n; i++) {
		struct source *s;
		bool whole;

		if (b->n == BELONGINGS_MAX)
			return err_set(e, ERR_LIMIT,
			    "more than %d files belong to the machine",
			    BELONGINGS_MAX);
		rc = source_file_copy(
		    f[i].path, "raw", BELONGING_MAX, &whole, &s, &why);
		if (rc == ERR_NOENT && may_be_missing(g, &f[i])) {
			say(b, f[i].name, "is not in the backup: no such file");
			continue;
		}
		if (rc != 0)
			return err_set(e, rc, "%s: %s", f[i].name, why.text);
		if (!whole)
			say(b, f[i].name, "was written to while it was read");
		b->one[b->n].name = f[i].name;
		b->one[b->n].kind = f[i].kind;
		b->one[b->n++].source = s;
	}
	return 0;
}

void
belongings_close(struct belongings *b)
{
	for (unsigned i = 0; i < b->n; i++)
		source_close(b->one[i].source);
	b->n = 0;
}
