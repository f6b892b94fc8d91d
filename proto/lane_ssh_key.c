/* SPDX-License-Identifier: Apache-2.0 */
/* Key files, and the file of known hosts. */
#include "proto/lane_ssh.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/base/log.h"
#include "proto/lane_ssh_io.h"

enum {
	KEY_FILE_MAX = 64 << 10,
	KEY_LINE_MAX = 16 << 10,
	KNOWN_HOSTS_MAX = 4 << 20
};

char *
key_fingerprint(ssh_key key)
{
	unsigned char *hash;
	size_t len;
	char *text, *out;

	if (ssh_get_publickey_hash(
		key, SSH_PUBLICKEY_HASH_SHA256, &hash, &len) != 0)
		return xstrdup("SHA256:?");
	text = ssh_get_fingerprint_hash(SSH_PUBLICKEY_HASH_SHA256, hash, len);
	ssh_clean_pubkey_hash(&hash);
	out = xstrdup(text != NULL ? text : "SHA256:?");
	ssh_string_free_char(text);
	return out;
}

char *
key_base64(ssh_key key)
{
	char *text = NULL, *out;

	if (ssh_pki_export_pubkey_base64(key, &text) != SSH_OK)
		return xstrdup("");
	out = xstrdup(text);
	ssh_string_free_char(text);
	return out;
}

int
key_load(const char *path, const char *hint, ssh_key *out, struct err *e)
{
	struct buf text = { 0 };
	struct stat st;
	int rc;

	rc = file_read(AT_FDCWD, path, KEY_FILE_MAX, &text);
	if (rc == ERR_NOENT)
		return err_set(e, rc, "%s: there is no key; %s", path, hint);
	if (rc == ERR_SYS)
		return err_set(e, rc, "%s: cannot read the key", path);
	if (rc == 0 && stat(path, &st) == 0 && (st.st_mode & 077) != 0)
		log_info(
		    "%s: others may read this private key; chmod 600 it", path);
	if (rc != 0 ||
	    ssh_pki_import_privkey_base64(
		buf_cstr(&text), NULL, NULL, NULL, out) != SSH_OK)
		rc = err_set(e, ERR_INVAL,
		    "%s: not a private key without passphrase", path);
	if (text.data != NULL)
		explicit_bzero(text.data, text.cap);
	buf_fini(&text);
	return rc;
}

/* A new file of its own, with the mode from its first moment. */
static int
write_new(const char *path, mode_t mode, const char *text, struct err *e)
{
	size_t len = strlen(text);
	int fd, rc;

	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd == -1 && errno == EEXIST)
		return err_set(e, ERR_EXIST,
		    "%s: there is a key already; it was left alone", path);
	if (fd == -1) {
		err_set(
		    e, ERR_SYS, "%s: cannot create: %s", path, strerror(errno));
		return log_sys("%s: create", path);
	}
	rc = pwrite_full(fd, text, len, 0);
	if (rc == 0)
		rc = fsync(fd);
	if (close(fd) == -1 || rc != 0) {
		err_set(
		    e, ERR_SYS, "%s: cannot write: %s", path, strerror(errno));
		rc = log_sys("%s: write", path);
		unlink(path);
		return rc;
	}
	return 0;
}

int
lane_ssh_keygen(const char *path, const char *comment, struct err *e)
{
	char *priv = NULL, *pub_path, *pub, *base64;
	ssh_key key;
	int rc;

	if (ssh_pki_generate(SSH_KEYTYPE_ED25519, 0, &key) != SSH_OK) {
		log_error("ssh: cannot generate a key");
		return err_set(e, ERR_SYS, "cannot generate a key");
	}
	pub_path = xasprintf("%s.pub", path);
	base64 = key_base64(key);
	pub = xasprintf("ssh-ed25519 %s %s\n", base64, comment);
	if (ssh_pki_export_privkey_base64(key, NULL, NULL, NULL, &priv) !=
	    SSH_OK) {
		log_error("ssh: cannot export a key");
		rc = err_set(e, ERR_SYS, "cannot export a key");
		goto out;
	}
	rc = write_new(path, 0600, priv, e);
	if (rc != 0)
		goto out;
	rc = write_new(pub_path, 0644, pub, e);
	if (rc != 0)
		unlink(path); /* ours: it was created just now */
out:
	if (priv != NULL) {
		explicit_bzero(priv, strlen(priv));
		ssh_string_free_char(priv);
	}
	free(pub);
	free(base64);
	free(pub_path);
	ssh_key_free(key);
	return rc;
}

static bool
known_type(const char *name)
{
	static const char *const names[] = { "ssh-ed25519",
		"ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384",
		"ecdsa-sha2-nistp521", "ssh-rsa" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/* The next word of ${*p} as the caller's own string, or NULL at the end. */
static char *
take_word(const char **p)
{
	const char *from = *p + strspn(*p, " \t\r\n");
	size_t len = strcspn(from, " \t\r\n");

	*p = from + len;
	return len == 0 ? NULL : xasprintf("%.*s", (int)len, from);
}

/* What is left of a line but for the space around it, or NULL. */
static char *
take_rest(const char *p)
{
	size_t len;

	p += strspn(p, " \t\r\n");
	len = strlen(p);
	while (len > 0 && isspace((unsigned char)p[len - 1]))
		len--;
	return len == 0 ? NULL : xasprintf("%.*s", (int)len, p);
}

int
lane_ssh_pubkey(const char *line, char **type, char **base64,
    char **fingerprint, char **comment, struct err *e)
{
	const char *p = line;
	char *again;
	ssh_key key;
	int rc;

	if (strlen(line) > KEY_LINE_MAX)
		return err_set(e, ERR_INVAL, "too long for a public key");
	if (strstr(line, "PRIVATE KEY") != NULL)
		return err_set(e, ERR_INVAL,
		    "this is a private key; give the file that ends in .pub");
	*type = take_word(&p);
	*base64 = take_word(&p);
	if (*type == NULL || *base64 == NULL) {
		rc = err_set(e, ERR_INVAL,
		    "not a public key; one looks like "
		    "\"ssh-ed25519 AAAA... comment\"");
		goto err_words;
	}
	if (!known_type(*type)) {
		rc = err_set(e, ERR_INVAL,
		    "unknown key type \"%.40s\"; ssh-ed25519, ecdsa-sha2-* "
		    "and ssh-rsa are known",
		    *type);
		goto err_words;
	}
	if (ssh_pki_import_pubkey_base64(
		*base64, ssh_key_type_from_name(*type), &key) != SSH_OK) {
		rc = err_set(e, ERR_INVAL, "damaged %s key", *type);
		goto err_words;
	}
	/*
	 * The library neither looks at the type inside nor at what follows the
	 * key.  Only what it would print itself can match a key offered later.
	 */
	again = key_base64(key);
	if (strcmp(again, *base64) != 0) {
		rc = err_set(e, ERR_INVAL, "damaged %s key", *type);
		free(again);
		goto err_key;
	}
	free(again);
	*fingerprint = key_fingerprint(key);
	*comment = take_rest(p);
	ssh_key_free(key);
	return 0;
err_key:
	ssh_key_free(key);
err_words:
	free(*type);
	free(*base64);
	return rc;
}

/* As OpenSSH names a host in its file. */
static char *
host_name(const char *host, int port)
{
	char *name =
	    port == 22 ? xstrdup(host) : xasprintf("[%s]:%d", host, port);

	for (char *p = name; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	return name;
}

static int
read_known_hosts(const char *file, struct buf *text, struct err *e)
{
	int rc = file_read(AT_FDCWD, file, KNOWN_HOSTS_MAX, text);

	if (rc == ERR_NOENT) {
		text->len = 0;
		return 0;
	}
	if (rc == ERR_LIMIT)
		return err_set(e, rc, "%s: larger than %d MiB", file,
		    KNOWN_HOSTS_MAX >> 20);
	if (rc != 0)
		return err_set(e, rc, "%s: cannot read", file);
	return 0;
}

int
known_hosts_find(const char *file, const char *host, int port, ssh_key key,
    enum known_host *how, char **pinned, struct err *e)
{
	struct ssh_knownhosts_entry *entry;
	struct buf text = { 0 };
	char *name, *line, *save = NULL;
	int rc;

	*how = KNOWN_HOST_NONE;
	*pinned = NULL;
	rc = read_known_hosts(file, &text, e);
	if (rc != 0)
		goto out;
	name = host_name(host, port);
	buf_cstr(&text);
	for (line = strtok_r((char *)text.data, "\r\n", &save); line != NULL;
	     line = strtok_r(NULL, "\r\n", &save)) {
		if (*line == '#' || *line == '@' ||
		    ssh_known_hosts_parse_line(name, line, &entry) != SSH_OK)
			continue;
		if (ssh_key_cmp(key, entry->publickey, SSH_KEY_CMP_PUBLIC) == 0)
			*how = KNOWN_HOST_SAME;
		else if (*how == KNOWN_HOST_NONE) {
			*how = KNOWN_HOST_OTHER;
			*pinned = key_fingerprint(entry->publickey);
		}
		ssh_knownhosts_entry_free(entry);
		if (*how == KNOWN_HOST_SAME)
			break;
	}
	free(name);
	if (*how == KNOWN_HOST_SAME) {
		free(*pinned);
		*pinned = NULL;
	}
out:
	buf_fini(&text);
	return rc;
}

/* Replace ${file}, which is a path, beneath its folder. */
static int
replace_at(const char *file, const struct buf *text, struct err *e)
{
	const char *slash = strrchr(file, '/');
	const char *base = slash != NULL ? slash + 1 : file;
	char *dir = slash != NULL
	    ? xasprintf("%.*s", (int)(slash - file + 1), file)
	    : xstrdup(".");
	int fd, rc;

	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(dir);
	if (fd == -1) {
		err_set(
		    e, ERR_SYS, "%s: its folder: %s", file, strerror(errno));
		return log_sys("%s: open its folder", file);
	}
	rc = file_replace(fd, base, text->data, text->len, 0644);
	close(fd);
	if (rc != 0)
		return err_set(e, rc, "%s: cannot write: %s", file,
		    rc == ERR_NOSPC ? "the disk is full" : "see the log");
	return 0;
}

int
known_hosts_add(
    const char *file, const char *host, int port, ssh_key key, struct err *e)
{
	struct buf text = { 0 };
	char *name, *base64;
	int rc;

	rc = read_known_hosts(file, &text, e);
	if (rc != 0)
		goto out;
	if (text.len != 0 && text.data[text.len - 1] != '\n')
		buf_u8(&text, '\n');
	name = host_name(host, port);
	base64 = key_base64(key);
	buf_printf(&text, "%s %s %s\n", name,
	    ssh_key_type_to_char(ssh_key_type(key)), base64);
	free(base64);
	free(name);
	rc = replace_at(file, &text, e);
out:
	buf_fini(&text);
	return rc;
}
