/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/settings/settings.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/inifile.h"
#include "proto/base/io.h"
#include "repo/settings/settings_impl.h"

enum { PATTERN_NAMES = VM_NAME_MAX + 1 /* fits better than any pattern */ };

int
settings_set(struct settings *s, const struct settings_key *k, const char *dir,
    const char *text)
{
	unsigned i = (unsigned)(k - settings_keys);
	int rc;

	rc = settings_take(k, dir, text, s);
	if (rc != 0)
		return rc;
	free(s->text[i]);
	s->text[i] = xstrdup(text);
	return 0;
}

void
settings_free(struct settings *s)
{
	if (s == NULL)
		return;
	while (s->nlisten > 0)
		free(s->listen[--s->nlisten]);
	for (unsigned i = 0; i < SETTINGS_KEYS_MAX; i++)
		free(s->text[i]);
	for (unsigned i = 0; i < s->nvms; i++)
		free(s->vm[i].said);
	free(s->vm);
	free(s->index);
	free(s->hook);
	free(s->http);
	free(s);
}

static struct settings *
settings_initial(const char *dir)
{
	struct settings *s = xcalloc(1, sizeof(*s));

	for (unsigned i = 0; i < settings_nkeys; i++) {
		const struct settings_key *k = &settings_keys[i];

		/* A default that is none is our own mistake; tests look. */
		if (strcmp(k->section, "daemon") == 0 &&
		    settings_set(s, k, dir, k->initial) != 0)
			abort();
	}
	return s;
}

static int
read_file(struct settings *s, const char *dir, struct buf *wrong)
{
	struct buf text = { 0 };
	int dirfd, rc;

	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd == -1)
		return 0; /* whoever opens the repository knows more */
	rc = file_read(dirfd, SETTINGS_FILE, SETTINGS_FILE_MAX, &text);
	close(dirfd);
	if (rc == 0)
		settings_file_read(
		    s, dir, (const char *)text.data, text.len, wrong);
	else if (rc == ERR_LIMIT)
		inifile_complain(wrong, "%s/" SETTINGS_FILE ": over %d bytes",
		    dir, SETTINGS_FILE_MAX);
	else if (rc != ERR_NOENT)
		inifile_complain(
		    wrong, "%s/" SETTINGS_FILE ": cannot be read", dir);
	buf_fini(&text);
	return rc == ERR_NOENT || rc == 0 ? 0 : rc;
}

/* All values of the command line for that key, or NULL. */
static char *
given(const struct settings_source *src, const char *name)
{
	char *all = NULL;

	for (unsigned i = 0; i < src->nover; i++) {
		char *longer;

		if (strcmp(src->over[i].name, name) != 0)
			continue;
		/* Of other keys than listen the last word counts. */
		longer = all != NULL && strcmp(name, "listen") == 0
		    ? xasprintf("%s %s", all, src->over[i].value)
		    : xstrdup(src->over[i].value);
		free(all);
		all = longer;
	}
	return all;
}

static void
override(
    struct settings *s, const struct settings_source *src, struct buf *wrong)
{
	for (unsigned i = 0; i < settings_nkeys; i++) {
		const struct settings_key *k = &settings_keys[i];
		char *text;

		if (strcmp(k->section, "daemon") != 0)
			continue;
		text = given(src, k->name);
		if (text != NULL && settings_set(s, k, src->dir, text) != 0)
			inifile_complain(wrong, "--%s takes %s, not %.140s",
			    k->name, k->takes, text);
		free(text);
	}
}

int
settings_read(
    const struct settings_source *src, struct settings **out, struct buf *wrong)
{
	struct settings *s = settings_initial(src->dir);
	int rc;

	rc = read_file(s, src->dir, wrong);
	override(s, src, wrong);
	if (rc == 0 && wrong->len > 0)
		rc = ERR_INVAL;
	if (rc != 0) {
		settings_free(s);
		return rc;
	}
	*out = s;
	return 0;
}

size_t
settings_fit(const struct settings_section *v, const char *vm)
{
	if (strcmp(v->pattern, vm) == 0)
		return PATTERN_NAMES;
	return vm_pattern_match(v->pattern, vm) ? strlen(v->pattern) : 0;
}

/* Copy the field of ${k}; false: it is 0. */
static bool
copy_field(const struct settings_key *k, const struct retain_policy *from,
    struct retain_policy *to)
{
	const void *f = (const char *)from + k->off;
	void *t = (char *)to + k->off;

	if (k->type == SETTING_COUNT) {
		*(unsigned *)t = *(const unsigned *)f;
		return *(const unsigned *)f != 0;
	}
	*(uint64_t *)t = *(const uint64_t *)f;
	return *(const uint64_t *)f != 0;
}

struct retain_policy
settings_vm(const struct settings *s, const char *vm)
{
	struct retain_policy p = { 0 };

	for (unsigned i = 0; i < settings_nkeys; i++) {
		const struct settings_key *k = &settings_keys[i];
		const struct settings_section *best = NULL;
		size_t most = 0;

		for (unsigned v = 0; k->set != 0 && !k->plan && v < s->nvms;
		     v++) {
			size_t n = settings_fit(&s->vm[v], vm);

			if (n > most && (s->vm[v].policy.set & k->set) != 0) {
				most = n;
				best = &s->vm[v];
			}
		}
		if (best != NULL && copy_field(k, &best->policy, &p))
			p.set |= k->set;
	}
	return p;
}

int
settings_rule(
    const char *name, const char *text, struct retain_policy *p, struct err *e)
{
	const struct settings_key *k = settings_key_find("vm", name);

	if (k == NULL || k->plan)
		return err_set(e, ERR_INVAL, "there is no rule %s", name);
	if (settings_take(k, "", text, p) != 0)
		return err_set(e, ERR_INVAL, "%s takes %s, not \"%.40s\"", name,
		    k->takes, text);
	p->set |= k->set;
	return 0;
}
