/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/serve/conf.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/serve/conf_impl.h"
#include "proto/base/inifile.h"
#include "proto/base/io.h"

static void
free_vm(struct conf_vm *v)
{
	for (unsigned i = 0; i < CONF_NKEYS - CONF_NAGENT; i++)
		free(v->text[i]);
	for (unsigned i = 0; i < v->ndisks; i++)
		free(v->disk[i]);
	for (unsigned i = 0; i < v->nexcluded; i++)
		free(v->excluded[i]);
	free(v->said);
}

void
conf_free(struct conf *c)
{
	if (c == NULL)
		return;
	for (unsigned i = 0; i < CONF_NAGENT; i++)
		free(c->text[i]);
	for (unsigned i = 0; i < c->nvms; i++)
		free_vm(&c->vm[i]);
	free(c->vm);
	free(c->path);
	free(c);
}

int
conf_read(const char *path, bool must, struct conf **out, struct buf *wrong)
{
	struct conf *c = xcalloc(1, sizeof(*c));
	struct buf text = { 0 };
	int rc;

	c->path = xstrdup(path);
	for (unsigned i = 0; i < CONF_NAGENT; i++)
		c->text[i] = xstrdup(conf_keys[i].initial);
	rc = file_read(AT_FDCWD, path, CONF_FILE_MAX, &text);
	if (rc == ERR_NOENT && !must)
		rc = 0;
	else if (rc == ERR_NOENT)
		inifile_complain(wrong, "%s: there is no such file", path);
	else if (rc == ERR_LIMIT)
		inifile_complain(
		    wrong, "%s: over %d bytes", path, CONF_FILE_MAX);
	else if (rc != 0)
		inifile_complain(wrong, "%s: cannot be read", path);
	if (rc == 0)
		conf_file_read(c, (const char *)text.data, text.len, wrong);
	if (rc == 0 && wrong->len > 0)
		rc = ERR_INVAL;
	buf_fini(&text);
	if (rc != 0)
		conf_free(c);
	else
		*out = c;
	return rc;
}

const struct conf_vm *
conf_vm_find(const struct conf *c, const char *name)
{
	for (unsigned i = 0; i < c->nvms; i++)
		if (strcmp(c->vm[i].name, name) == 0)
			return &c->vm[i];
	return NULL;
}

bool
conf_name(const struct conf *c, const char *bare, char *out)
{
	const char *space = conf_text(c, CONF_NAMESPACE);
	bool own = *space == 0 || strchr(bare, '/') != NULL;

	if (strlen(bare) + (own ? 0 : strlen(space) + 1) > VM_NAME_MAX)
		return false;
	snprintf(out, VM_NAME_MAX + 1, "%s%s%s", own ? "" : space,
	    own ? "" : "/", bare);
	return vm_name_ok(out);
}

static const char *
quoted(const char *text)
{
	return *text != 0 ? text : "nothing";
}

static const char *
said(const struct conf *c, const char *bare)
{
	for (unsigned i = 0; i < c->nvms; i++)
		if (strcmp(c->vm[i].bare, bare) == 0)
			return quoted(c->vm[i].said);
	return "not there";
}

void
conf_compare(const struct conf *old, struct conf *c, struct buf *changes)
{
	for (unsigned i = 0; i < CONF_NAGENT; i++) {
		const struct conf_key *k = &conf_keys[i];

		if (strcmp(old->text[i], c->text[i]) == 0)
			continue;
		if (k->live) {
			inifile_complain(changes, "%s: %s -> %s", k->name,
			    quoted(old->text[i]), quoted(c->text[i]));
			continue;
		}
		inifile_complain(changes,
		    "%s: stays %s; %s counts from the next start on", k->name,
		    quoted(old->text[i]), quoted(c->text[i]));
		free(c->text[i]);
		c->text[i] = xstrdup(old->text[i]);
	}
	for (unsigned i = 0; i < c->nvms; i++) {
		const char *bare = c->vm[i].bare, *was = said(old, bare);
		const char *is = said(c, bare);

		if (strcmp(was, is) != 0)
			inifile_complain(
			    changes, "[vm %s]: %s -> %s", bare, was, is);
	}
	for (unsigned i = 0; i < old->nvms; i++)
		if (strcmp(said(c, old->vm[i].bare), "not there") == 0)
			inifile_complain(changes, "[vm %s]: %s -> not there",
			    old->vm[i].bare, quoted(old->vm[i].said));
}

static void
add_keys(unsigned from, unsigned to, const char *mark, struct buf *out)
{
	for (unsigned i = from; i < to; i++) {
		const struct conf_key *k = &conf_keys[i];

		buf_u8(out, '\n');
		inifile_comment(k->about, out);
		buf_printf(out, "# Takes %s.%s\n%s%s =%s%s\n", k->takes,
		    k->live ? "" : "  A restart changes it.", mark, k->name,
		    k->initial[0] != 0 ? " " : "", k->initial);
	}
}

void
conf_sample(struct buf *out)
{
	inifile_comment("Settings of backstay-agent serve; see agent.conf(5).  "
			"What is commented out is at its default.  "
			"`backstay-agent serve -t` checks this file, SIGHUP "
			"has the agent read it again.",
	    out);
	buf_printf(out, "\n[agent]\n");
	add_keys(0, CONF_NAGENT, "#", out);
	buf_u8(out, '\n');
	inifile_comment("The machines of this host: a section for each that "
			"libvirt does not know, or that is backed up in "
			"another way than the others.",
	    out);
	buf_printf(out, "#[vm web1]\n");
	add_keys(CONF_NAGENT, CONF_NKEYS, "#", out);
}

/* --- in force */

struct conf_now {
	pthread_mutex_t mu; /* guards the rest, and refs of each reading */
	struct conf *c;
};

struct conf_now *
conf_now_new(struct conf *c)
{
	struct conf_now *n = xcalloc(1, sizeof(*n));

	pthread_mutex_init(&n->mu, NULL);
	c->refs = 1;
	n->c = c;
	return n;
}

/* Locked. */
static void
drop(struct conf *c)
{
	if (--c->refs == 0)
		conf_free(c);
}

void
conf_now_free(struct conf_now *n)
{
	if (n == NULL)
		return;
	drop(n->c);
	pthread_mutex_destroy(&n->mu);
	free(n);
}

const struct conf *
conf_get(struct conf_now *n)
{
	const struct conf *c;

	pthread_mutex_lock(&n->mu);
	n->c->refs++;
	c = n->c;
	pthread_mutex_unlock(&n->mu);
	return c;
}

void
conf_put(struct conf_now *n, const struct conf *c)
{
	pthread_mutex_lock(&n->mu);
	drop((struct conf *)c);
	pthread_mutex_unlock(&n->mu);
}

void
conf_set(struct conf_now *n, struct conf *c)
{
	struct conf *old;

	pthread_mutex_lock(&n->mu);
	old = n->c;
	c->refs = 1;
	n->c = c;
	drop(old);
	pthread_mutex_unlock(&n->mu);
}
