/* SPDX-License-Identifier: Apache-2.0 */
/* Editing of REPO/authorized_agents. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/owner.h"
#include "proto/lane_ssh.h"
#include "repo/console/console.h"
#include "repo/console/noted.h"
#include "repo/console/table.h"
#include "repo/serve/auth.h"

enum { KEY_FILE_MAX = 64 << 10 };

/* The file, while nobody else edits it. */
struct file {
	const char *dir;
	int dirfd;
	int lockfd;
	struct buf text;
	struct auth auth;
};

static void
file_close(struct file *f)
{
	auth_fini(&f->auth);
	buf_fini(&f->text);
	if (f->lockfd != -1)
		close(f->lockfd);
	if (f->dirfd != -1)
		close(f->dirfd);
}

static int
file_open(const char *dir, struct file *f, struct err *e)
{
	char *name;
	int rc;

	*f = (struct file){ .dir = dir, .dirfd = -1, .lockfd = -1 };
	rc = owner_become(dir, e);
	if (rc != 0)
		return rc;
	f->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->dirfd == -1 ||
	    faccessat(f->dirfd, "backstay.json", F_OK, 0) == -1) {
		rc = err_set(e, ERR_NOENT,
		    "%s: there is no repository (%s); `backstay init` makes "
		    "one",
		    dir, strerror(errno));
		goto err;
	}
	f->lockfd = openat(
	    f->dirfd, AUTH_FILE ".lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (f->lockfd == -1 || flock(f->lockfd, LOCK_EX) == -1) {
		rc = err_set(e, ERR_SYS, "%s/" AUTH_FILE ".lock: %s", dir,
		    strerror(errno));
		goto err;
	}
	rc = file_read(f->dirfd, AUTH_FILE, AUTH_FILE_MAX, &f->text);
	if (rc != 0 && rc != ERR_NOENT) {
		err_set(e, rc, "%s/" AUTH_FILE ": cannot be read", dir);
		goto err;
	}
	name = xasprintf("%s/" AUTH_FILE, dir);
	rc = auth_parse(
	    (const char *)f->text.data, f->text.len, name, &f->auth, e);
	free(name);
	if (rc == 0)
		return 0;
err:
	file_close(f);
	return rc;
}

/* The text that was changed takes the place of the file, if it is sound. */
static int
file_write(struct file *f, const struct buf *text, struct err *e)
{
	struct auth a = { 0 };
	int rc;

	rc = auth_parse((const char *)text->data, text->len, AUTH_FILE, &a, e);
	auth_fini(&a);
	if (rc != 0)
		return rc;
	rc = file_replace(f->dirfd, AUTH_FILE, text->data, text->len, 0600);
	if (rc != 0)
		err_set(e, rc, "%s/" AUTH_FILE ": cannot be written", f->dir);
	return rc;
}

static int
read_stdin(struct buf *out)
{
	ssize_t n;

	do {
		if (out->len > KEY_FILE_MAX)
			return ERR_LIMIT;
		n = read(STDIN_FILENO, buf_extend(out, 4096), 4096);
		out->len -= 4096 - (size_t)(n > 0 ? n : 0);
	} while (n > 0 || (n == -1 && errno == EINTR));
	return n == 0 ? 0 : ERR_SYS;
}

/* The one line of a public key file; ${path} "-" is stdin. */
static int
read_key(
    const char *path, struct auth_key *k, char **fingerprint, struct err *e)
{
	char *type, *base64, *comment = NULL;
	struct buf text = { 0 };
	char *line;
	int rc;

	if (strcmp(path, "-") == 0) {
		path = "stdin";
		rc = read_stdin(&text);
	} else {
		rc = file_read(AT_FDCWD, path, KEY_FILE_MAX, &text);
	}
	if (rc != 0) {
		rc = err_set(e, rc, "%s: %s", path,
		    rc == ERR_NOENT       ? "there is no such file"
			: rc == ERR_LIMIT ? "that is no public key"
					  : "cannot be read");
		goto out;
	}
	line = (char *)(uintptr_t)buf_cstr(&text);
	if (strstr(line, "PRIVATE KEY") != NULL) {
		rc = err_set(e, ERR_INVAL,
		    "%s: that is a PRIVATE key, which must not leave its "
		    "host; give the public one (%s.pub)",
		    path, path);
		goto out;
	}
	line += strspn(line, " \t\r\n");
	line[strcspn(line, "\r\n")] = 0;
	rc = lane_ssh_pubkey(line, &type, &base64, fingerprint, &comment, e);
	if (rc != 0) {
		err_prefix(e, "%s", path);
		goto out;
	}
	snprintf(k->type, sizeof(k->type), "%s", type);
	k->base64 = base64;
	free(type);
	free(comment);
out:
	if (text.data != NULL)
		explicit_bzero(text.data, text.cap);
	buf_fini(&text);
	return rc;
}

static int
append_key(const char *dir, const struct auth_key *k, struct err *e)
{
	const struct auth_key *o;
	struct file f;
	int rc;

	rc = file_open(dir, &f, e);
	if (rc != 0)
		return rc;
	o = auth_find_blob(&f.auth, k->base64);
	if (o != NULL)
		rc = err_set(e, ERR_EXIST,
		    "this key is there already: it is that of %s", o->name);
	else if (auth_find_name(&f.auth, k->name) != NULL)
		rc = err_set(e, ERR_EXIST,
		    "there is a key called %s; `backstay key remove %s` "
		    "first, or use another name",
		    k->name, k->name);
	if (rc == 0) {
		if (f.text.len > 0 && f.text.data[f.text.len - 1] != '\n')
			buf_u8(&f.text, '\n');
		auth_print_key(k, &f.text);
		rc = file_write(&f, &f.text, e);
	}
	file_close(&f);
	return rc;
}

static int
set_limit(const struct console *c, const char *what, const char *text,
    uint64_t max, unsigned *out)
{
	uint64_t n;

	if (number_parse(text, 1, max, &n) != 0)
		return console_misuse(c, "--%s is from 1 to %u, not %s", what,
		    (unsigned)max, text);
	*out = (unsigned)n;
	return 0;
}

static int
take_option(const struct console *c, int o, struct auth_key *k)
{
	unsigned role;

	switch (o) {
	case 'r':
		role = auth_role(optarg);
		if (role == 0)
			return console_misuse(c, "there is no role %s", optarg);
		k->roles |= role;
		return 0;
	case 'v':
		if (!vm_pattern_ok(optarg))
			return console_misuse(
			    c, "\"%s\" is no pattern of VMs", optarg);
		k->pattern = xrealloc(
		    k->pattern, (k->npatterns + 1) * sizeof(*k->pattern));
		k->pattern[k->npatterns++] = xstrdup(optarg);
		return 0;
	case 'b':
		if (hours_parse(optarg, &k->bwlimit) != 0)
			return console_misuse(c, "%s is no rate", optarg);
		return 0;
	case 'l':
		return set_limit(c, "lanes", optarg, AUTH_LANES_MAX, &k->lanes);
	case 'j': return set_limit(c, "jobs", optarg, AUTH_JOBS_MAX, &k->jobs);
	default: return console_misuse(c, "see the usage");
	}
}

static json_t *
key_to_json(const struct auth_key *k, const char *fingerprint)
{
	json_t *o = json_object(), *roles = json_array(), *vms = json_array();
	struct buf rate = { 0 };

	json_set_str(o, "name", k->name);
	json_set_str(o, "type", k->type);
	json_set_str(o, "fingerprint", fingerprint);
	for (unsigned r = ROLE_BACKUP; r <= ROLE_ADMIN; r <<= 1)
		if (k->roles & r)
			json_array_append_new(
			    roles, json_string(auth_role_name(r)));
	for (unsigned i = 0; i < k->npatterns; i++)
		json_array_append_new(vms, json_string(k->pattern[i]));
	json_object_set_new(o, "roles", roles);
	json_object_set_new(o, "vm", vms);
	hours_print(&k->bwlimit, &rate);
	json_set_str(o, "bwlimit", buf_cstr(&rate));
	buf_fini(&rate);
	json_set_u64(o, "lanes", k->lanes);
	json_set_u64(o, "jobs", k->jobs);
	return o;
}

static int
key_add(struct console *c, int argc, char **argv)
{
	static const struct option options[] = { { "role", required_argument,
						     NULL, 'r' },
		{ "vm", required_argument, NULL, 'v' },
		{ "bwlimit", required_argument, NULL, 'b' },
		{ "lanes", required_argument, NULL, 'l' },
		{ "jobs", required_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	struct auth_key k = { .lanes = AUTH_LANES_DEFAULT,
		.jobs = AUTH_JOBS_DEFAULT };
	char *fingerprint = NULL;
	struct err e = { 0 };
	int o, status = EXIT_DONE;

	while (status == EXIT_DONE &&
	    (o = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (o == 'h') {
			auth_key_fini(&k);
			return console_help(c);
		}
		status = take_option(c, o, &k);
	}
	if (status != EXIT_DONE)
		goto out;
	if (console_dir(c) == NULL) {
		status = EXIT_MISUSE;
		goto out;
	}
	if (argc - optind != 2) {
		status = console_misuse(c, "a name and a file are needed");
		goto out;
	}
	if (!name_part_ok(argv[optind])) {
		status = console_misuse(
		    c, "\"%s\" is no name for a key", argv[optind]);
		goto out;
	}
	snprintf(k.name, sizeof(k.name), "%s", argv[optind]);
	if (k.roles == 0)
		k.roles = ROLE_BACKUP | ROLE_RESTORE;
	if (read_key(argv[optind + 1], &k, &fingerprint, &e) != 0 ||
	    append_key(c->dir, &k, &e) != 0 ||
	    noted(c->dir, "key add", key_to_json(&k, fingerprint), "done",
		&e) != 0)
		status = console_fail(&e);
	else
		printf("%s: added %s\n", k.name, fingerprint);
out:
	free(fingerprint);
	auth_key_fini(&k);
	return status;
}

static char *
fingerprint_of(const struct auth_key *k)
{
	char *type = NULL, *base64 = NULL, *print = NULL, *comment = NULL;
	char *line = xasprintf("%s %s %s", k->type, k->base64, k->name);

	if (lane_ssh_pubkey(line, &type, &base64, &print, &comment, NULL) != 0)
		print = xstrdup("(damaged)");
	free(line);
	free(type);
	free(base64);
	free(comment);
	return print;
}

static void
roles_text(const struct auth_key *k, struct buf *out)
{
	for (unsigned r = ROLE_BACKUP; r <= ROLE_ADMIN; r <<= 1)
		if (k->roles & r)
			buf_printf(out, "%s%s", out->len > 0 ? "," : "",
			    auth_role_name(r));
}

static void
print_keys(const struct auth *a, bool json)
{
	struct table *t = table_new("NAME,ROLES,VMS,>BWLIMIT,KEY");
	json_t *all = json_array();

	for (size_t i = 0; i < a->n; i++) {
		const struct auth_key *k = &a->key[i];
		struct buf roles = { 0 }, vms = { 0 }, rate = { 0 };
		char *fingerprint = fingerprint_of(k);

		json_array_append_new(all, key_to_json(k, fingerprint));
		roles_text(k, &roles);
		auth_patterns(k, &vms);
		table_text(t, k->name);
		table_text(t, buf_cstr(&roles));
		table_text(t, buf_cstr(&vms));
		hours_print(&k->bwlimit, &rate);
		table_text(t, k->bwlimit.n > 0 ? buf_cstr(&rate) : "-");
		table_text(t, fingerprint);
		buf_fini(&roles);
		buf_fini(&vms);
		buf_fini(&rate);
		free(fingerprint);
	}
	if (json) {
		console_print_json(all);
		table_free(t);
	} else {
		table_print(t);
	}
	json_decref(all);
}

static int
key_list(struct console *c, int argc, char **argv)
{
	struct err e = { 0 };
	struct file f;
	int status;
	bool json;

	if (console_plain(c, argc, argv, 0, &json, &status) == -1)
		return status;
	if (file_open(c->dir, &f, &e) != 0)
		return console_fail(&e);
	print_keys(&f.auth, json);
	file_close(&f);
	return EXIT_DONE;
}

/* All lines but number ${line}, as they are. */
static void
without_line(const struct buf *text, unsigned line, struct buf *out)
{
	const uint8_t *p = text->data, *end = text->data + text->len;

	for (unsigned n = 1; p < end; n++) {
		const uint8_t *nl = memchr(p, '\n', (size_t)(end - p));
		const uint8_t *next = nl != NULL ? nl + 1 : end;

		if (n != line)
			buf_add(out, p, (size_t)(next - p));
		p = next;
	}
}

static int
key_remove(struct console *c, int argc, char **argv)
{
	const struct auth_key *k;
	char *fingerprint;
	json_t *what;
	struct buf rest = { 0 };
	struct err e = { 0 };
	struct file f;
	int rc;

	if (argc == 2 && strcmp(argv[1], "--help") == 0)
		return console_help(c);
	if (console_dir(c) == NULL)
		return EXIT_MISUSE;
	if (argc != 2)
		return console_misuse(c, "which key?");
	if (file_open(c->dir, &f, &e) != 0)
		return console_fail(&e);
	k = auth_find_name(&f.auth, argv[1]);
	if (k == NULL) {
		rc = err_set(
		    &e, ERR_NOENT, "there is no key called %s", argv[1]);
	} else {
		without_line(&f.text, k->line, &rest);
		what = key_to_json(k, fingerprint = fingerprint_of(k));
		rc = file_write(&f, &rest, &e);
		if (rc == 0)
			rc = noted(c->dir, "key remove", json_incref(what),
			    "done", &e);
		json_decref(what);
		free(fingerprint);
	}
	buf_fini(&rest);
	file_close(&f);
	if (rc != 0)
		return console_fail(&e);
	printf("%s: removed; its backups stay\n", argv[1]);
	return EXIT_DONE;
}

int
cmd_key(struct console *c, int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(struct console *c, int argc, char **argv);
	} verbs[] = { { "add", key_add }, { "list", key_list },
		{ "remove", key_remove } };

	if (argc < 2)
		return console_misuse(c, "add, list or remove?");
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return console_help(c);
	lane_ssh_init();
	for (unsigned i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(argv[1], verbs[i].name) == 0)
			return verbs[i].run(c, argc - 1, argv + 1);
	return console_misuse(c, "there is no `key %s`", argv[1]);
}
