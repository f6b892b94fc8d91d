/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/serve/task.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/image/nfsfile.h"
#include "proto/codec.h"

bool
task_token_ok(const char *s)
{
	return strlen(s) == TASK_TOKEN_LEN &&
	    strspn(s, "0123456789abcdef") == TASK_TOKEN_LEN;
}

int
task_parse(const json_t *j, struct task *out, struct err *e)
{
	const char *token, *kind, *vm;
	json_t *options = NULL;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = json_get_str(j, "task", &token, e);
	if (rc == 0 && !task_token_ok(token))
		rc = err_set(e, ERR_PROTO, "a task without a token");
	if (rc != 0)
		return rc;
	memcpy(out->token, token, TASK_TOKEN_LEN + 1);
	rc = json_get_u64(j, "job", &out->job, e);
	if (rc == 0)
		rc = json_get_str(j, "kind", &kind, e);
	if (rc == 0)
		rc = json_get_str(j, "vm", &vm, e);
	if (rc == 0 && json_object_get(j, "options") != NULL)
		rc = json_get_object(j, "options", &options, e);
	if (rc != 0)
		return rc;
	out->restore = strcmp(kind, "restore") == 0;
	if (!out->restore && strcmp(kind, "backup") != 0)
		return err_set(e, ERR_UNSUP,
		    "this agent does not know how to do a \"%.20s\"", kind);
	if (!vm_name_ok(vm))
		return err_set(
		    e, ERR_PROTO, "\"%.100s\" is no name of a VM", vm);
	memcpy(out->vm, vm, strlen(vm) + 1);
	out->options =
	    options != NULL ? json_deep_copy(options) : json_object();
	return 0;
}

void
task_fini(struct task *t)
{
	json_decref(t->options);
	t->options = NULL;
}

void
task_words_fini(struct task_words *w)
{
	while (w->n > 0)
		free(w->word[--w->n]);
}

/* One word; the last that fits stays NULL, and all is refused then. */
__attribute__((format(printf, 2, 3))) static void
add(struct task_words *w, const char *fmt, ...)
{
	va_list ap;
	char *s = NULL;
	int n;

	if (w->n == TASK_WORDS_MAX)
		return;
	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	if (n == -1)
		s = xstrdup("");
	w->word[w->n++] = s;
	w->word[w->n] = NULL;
}

/* --KEY=VALUE, of agent.conf. */
static void
add_setting(struct task_words *w, const struct conf *c, enum conf_key_id key,
    const char *option)
{
	add(w, "--%s=%s", option, conf_text(c, key));
}

/* A number that the daemon says, within bounds, or what agent.conf says. */
static int
add_number(struct task_words *w, const struct task *t, const char *name,
    uint64_t max, const char *mine, struct err *e)
{
	const json_t *j = json_object_get(t->options, name);
	uint64_t n = 0;
	int rc = 0;

	if (j != NULL && json_is_string(j))
		rc = size_parse(json_string_value(j), &n);
	else if (j != NULL)
		rc = json_opt_u64(t->options, name, &n, e);
	if (rc != 0 || n > max)
		return err_set(e, ERR_PROTO, "\"%s\" is no such number", name);
	if (n != 0)
		add(w, "--%s=%llu", name, (unsigned long long)n);
	else if (strcmp(mine, "0") != 0)
		add(w, "--%s=%s", name, mine);
	return 0;
}

/* A word that the daemon says, one of ${words}, or what agent.conf says. */
static int
add_word(struct task_words *w, const struct task *t, const char *name,
    const char *words, const char *mine, struct err *e)
{
	const char *said = mine, *at;
	size_t n;
	int rc = json_opt_str(t->options, name, &said, e);

	if (rc != 0)
		return rc;
	n = strlen(said);
	at = strstr(words, said);
	/* ${words} begins and ends with a blank. */
	if (said != mine &&
	    (n == 0 || strchr(said, ' ') != NULL || at == NULL ||
		at[-1] != ' ' || at[n] != ' '))
		return err_set(e, ERR_PROTO, "\"%s\": \"%.20s\"", name, said);
	if (strcmp(said, "auto") != 0)
		add(w, "--%s=%s", name, said);
	return 0;
}

static int
add_common(struct task_words *w, const struct task *t, const struct conf *c,
    const char *repo, struct err *e)
{
	uint64_t wait = conf_number(c, CONF_WAIT);
	int rc;

	add(w, "backstay-agent");
	add(w, "%s", t->restore ? "restore" : "backup");
	add(w, "--quiet");
	add(w, "--repo=%s", repo);
	if (wait > 0)
		add(w, "--wait=%llu", (unsigned long long)wait);
	rc = add_number(w, t, "lanes", 64, conf_text(c, CONF_LANES), e);
	if (rc == 0)
		rc = add_number(w, t, "bwlimit", (uint64_t)1 << 40,
		    conf_text(c, CONF_BWLIMIT), e);
	return rc;
}

/* How the guest is found, if the VM is one; false: it is plain disks. */
static bool
add_guest(struct task_words *w, const struct conf *c, const struct conf_vm *s,
    const struct inventory_vm *m)
{
	const char *uri = conf_text(c, CONF_LIBVIRT);
	const char *domain = m != NULL ? m->domain : NULL;

	if (s != NULL && *conf_vm_text(s, CONF_QMP) != 0) {
		add(w, "--qmp=%s", conf_vm_text(s, CONF_QMP));
		return true;
	}
	if (s != NULL && *conf_vm_text(s, CONF_DOMAIN) != 0) {
		if (domain == NULL)
			domain = conf_vm_text(s, CONF_DOMAIN);
		if (*conf_vm_text(s, CONF_CONNECT) != 0)
			uri = conf_vm_text(s, CONF_CONNECT);
	}
	if (domain == NULL)
		return false;
	add(w, "--domain=%s", domain);
	if (strchr(uri, ':') != NULL)
		add(w, "--connect=%s", uri);
	return true;
}

static int
add_guest_backup(struct task_words *w, const struct task *t,
    const struct conf *c, const struct conf_vm *s, struct err *e)
{
	bool ram = s != NULL && conf_is(conf_vm_text(s, CONF_RAM));
	const char *quiesce = "auto", *method = "auto";
	int rc;

	if (s != NULL) {
		quiesce = conf_vm_text(s, CONF_QUIESCE);
		method = conf_vm_text(s, CONF_RAM_METHOD);
		if (*conf_vm_text(s, CONF_GA) != 0)
			add(w, "--ga=%s", conf_vm_text(s, CONF_GA));
		for (unsigned i = 0; i < s->nexcluded; i++)
			add(w, "--exclude=%s", s->excluded[i]);
	}
	rc = json_opt_bool(t->options, "ram", &ram, e);
	if (rc == 0)
		rc = add_word(w, t, "quiesce", " auto require no ", quiesce, e);
	if (rc != 0)
		return rc;
	if (ram)
		add(w, "--ram");
	if (ram && strcmp(method, "auto") != 0)
		add(w, "--ram-method=%s", method);
	add_setting(w, c, CONF_SCRATCH_DIR, "scratch-dir");
	if (conf_number(c, CONF_SCRATCH_MAX) != 0)
		add_setting(w, c, CONF_SCRATCH_MAX, "scratch-max");
	add_setting(w, c, CONF_VERIFY_CLEAN, "verify-clean");
	return 0;
}

static int
add_compression(struct task_words *w, const struct task *t,
    const struct conf *c, struct err *e)
{
	const json_t *j = json_object_get(t->options, "compression");
	const char *text = conf_text(c, CONF_COMPRESSION);
	uint64_t n;
	int rc;

	if (j == NULL || json_is_string(j)) {
		rc = json_opt_str(t->options, "compression", &text, e);
		if (rc == 0 && strcmp(text, "auto") != 0)
			rc = number_parse(text, 0, CODEC_LEVEL_MAX, &n);
		if (rc == 0)
			add(w, "--compression=%s", text);
	} else {
		rc = json_get_u64(t->options, "compression", &n, e);
		if (rc == 0 && n > CODEC_LEVEL_MAX)
			rc = ERR_INVAL;
		if (rc == 0)
			add(w, "--compression=%llu", (unsigned long long)n);
	}
	if (rc != 0)
		return err_set(e, ERR_PROTO, "\"compression\" is no level");
	return 0;
}

static int
backup_command(struct task_words *w, const struct task *t, const struct conf *c,
    const struct inventory *v, struct err *e)
{
	const struct conf_vm *s = conf_vm_find(c, t->vm);
	const struct inventory_vm *m = inventory_find(v, t->vm);
	bool full = false;
	int rc;

	if (m == NULL)
		return err_set(e, ERR_NOENT,
		    "this host has no VM %s (any more): see agent.conf", t->vm);
	add(w, "--stall-timeout=%llu",
	    (unsigned long long)conf_number(c, CONF_STALL));
	if (conf_number(c, CONF_NFS_TIMEOUT) != NFSFILE_PATIENCE_S)
		add(w, "--nfs-timeout=%llu",
		    (unsigned long long)conf_number(c, CONF_NFS_TIMEOUT));
	rc = json_opt_bool(t->options, "full", &full, e);
	if (rc == 0)
		rc = add_compression(w, t, c, e);
	if (rc != 0)
		return rc;
	if (full)
		add(w, "--full");
	if (add_guest(w, c, s, m)) {
		rc = add_guest_backup(w, t, c, s, e);
	} else if (s != NULL && s->ndisks > 0) {
		for (unsigned i = 0; i < s->ndisks; i++)
			add(w, "--disk=%s", s->disk[i]);
	} else {
		rc = err_set(e, ERR_NOENT,
		    "agent.conf does not say what the VM %s is", t->vm);
	}
	add(w, "%s", t->vm);
	return rc;
}

static int
add_target(struct task_words *w, const json_t *j, bool own,
    const struct inventory *v, struct err *e)
{
	const char *name, *path = NULL, *file;
	int rc = json_get_str(j, "name", &name, e);

	if (rc == 0)
		rc = json_opt_str(j, "path", &path, e);
	if (rc == 0 && !name_part_ok(name))
		rc = err_set(
		    e, ERR_PROTO, "\"%.70s\" is no name of a disk", name);
	if (rc != 0)
		return rc;
	if (path == NULL) {
		add(w, "--disk=%s", name);
		return 0;
	}
	file = path;
	if (strncmp(path, "raw:", 4) == 0)
		file += 4;
	else if (strncmp(path, "qcow2:", 6) == 0)
		file += 6;
	if (*file != '/')
		return err_set(e, ERR_INVAL,
		    "%.200s: say the whole path on the host", file);
	if (own && !inventory_has_path(v, file))
		return err_set(e, ERR_DENIED,
		    "%.200s is no disk of a machine of this host, and its "
		    "agent.conf says restores = own",
		    file);
	add(w, "--disk=%s=%s", name, path);
	return 0;
}

static int
add_targets(struct task_words *w, const struct task *t, bool own,
    const struct inventory *v, struct err *e)
{
	json_t *disks = json_object_get(t->options, "disks"), *j;
	size_t i;
	int rc = 0;

	if (disks == NULL)
		return 0;
	if (!json_is_array(disks) ||
	    json_array_size(disks) > MANIFEST_VOLUMES_MAX)
		return err_set(e, ERR_PROTO, "\"disks\" is no list of disks");
	json_array_foreach(disks, i, j)
	{
		rc = add_target(w, j, own, v, e);
		if (rc != 0)
			break;
	}
	return rc;
}

/* What decides where the restore goes and what it replaces. */
struct restore_asked {
	const char *backup, *onto, *as;
	bool keep_old, force, check;
};

static int
read_restore(const struct task *t, struct restore_asked *r, struct err *e)
{
	struct backup_ref ref;
	bool as_new = false;
	int rc;

	memset(r, 0, sizeof(*r));
	rc = json_get_str(t->options, "backup", &r->backup, e);
	if (rc == 0)
		rc = backup_ref_parse(r->backup, &ref, e);
	if (rc == 0)
		rc = json_opt_str(t->options, "onto", &r->onto, e);
	if (rc == 0)
		rc = json_opt_bool(t->options, "as_new", &as_new, e);
	if (rc == 0)
		rc = json_opt_bool(t->options, "keep_old", &r->keep_old, e);
	if (rc == 0)
		rc = json_opt_bool(t->options, "force", &r->force, e);
	if (rc == 0)
		rc = json_opt_bool(t->options, "check", &r->check, e);
	if (rc != 0)
		return rc;
	if ((r->onto != NULL && !vm_name_ok(r->onto)) ||
	    (as_new && r->onto == NULL))
		return err_set(e, ERR_PROTO, "a VM without a name");
	if (as_new)
		r->as = r->onto;
	/* Whoever wants to look only must not get a restore. */
	if (r->check)
		return err_set(e, ERR_UNSUP,
		    "this agent checks when it restores, and not before");
	return 0;
}

/* Where a disk was the backup says, and so the NAS. */
static int
add_own(struct task_words *w, const struct inventory_vm *m, struct err *e)
{
	unsigned n = 0;

	for (unsigned i = 0; i < m->ndisks; i++)
		if (m->disk[i].path != NULL) {
			add(w, "--own=%s", m->disk[i].path);
			n++;
		}
	if (n == 0)
		return err_set(e, ERR_DENIED,
		    "no disk of %s is known here, and agent.conf says "
		    "restores = own",
		    m->name);
	return 0;
}

static int
restore_command(struct task_words *w, const struct task *t,
    const struct conf *c, const struct inventory *v, struct err *e)
{
	const char *may = conf_text(c, CONF_RESTORES);
	bool own = strcmp(may, "own") == 0;
	struct restore_asked r;
	int rc = read_restore(t, &r, e);

	if (rc != 0)
		return rc;
	if (strcmp(may, "no") == 0)
		return err_set(e, ERR_DENIED,
		    "agent.conf of this host says restores = no");
	if (own && (r.as != NULL || inventory_find(v, t->vm) == NULL))
		return err_set(e, ERR_DENIED,
		    "%s is no machine of this host, and its agent.conf says "
		    "restores = own",
		    r.as != NULL ? r.as : t->vm);
	add(w, "--swap");
	if (own)
		rc = add_own(w, inventory_find(v, t->vm), e);
	if (rc != 0)
		return rc;
	if (r.keep_old)
		add(w, "--keep-old");
	if (r.force)
		add(w, "--force");
	if (r.as != NULL)
		add(w, "--as=%s", r.as);
	else if (r.onto != NULL)
		add(w, "--onto=%s", r.onto);
	/* A machine by a new name is not there yet. */
	if (r.as == NULL)
		(void)add_guest(
		    w, c, conf_vm_find(c, t->vm), inventory_find(v, t->vm));
	rc = add_targets(w, t, own, v, e);
	add(w, "%s", r.backup);
	return rc;
}

int
task_command(const struct task *t, const struct conf *c, const char *repo,
    const struct inventory *v, struct task_words *out, struct err *e)
{
	int rc;

	memset(out, 0, sizeof(*out));
	rc = add_common(out, t, c, repo, e);
	if (rc == 0)
		rc = t->restore ? restore_command(out, t, c, v, e)
				: backup_command(out, t, c, v, e);
	if (rc == 0 && out->n == TASK_WORDS_MAX)
		rc = err_set(
		    e, ERR_LIMIT, "a command of over %d words", TASK_WORDS_MAX);
	return rc;
}
