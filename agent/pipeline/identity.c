/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pipeline/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/base/log.h"
#include "proto/lane_ssh.h"
#include "proto/name.h"

enum { PUBLIC_KEY_MAX = 4096 };

int
identity_init(struct identity *id, struct err *e)
{
	const char *dir = getenv("BACKSTAY_AGENT_DIR");
	const char *home = getenv("HOME");
	const struct passwd *pw;

	if (dir != NULL && *dir != 0) {
		id->dir = xstrdup(dir);
	} else if (geteuid() == 0) {
		id->dir = xstrdup("/etc/backstay-agent");
	} else {
		if (home == NULL || *home == 0) {
			pw = getpwuid(geteuid());
			home = pw != NULL ? pw->pw_dir : NULL;
		}
		if (home == NULL)
			return err_set(e, ERR_NOENT,
			    "no home folder for the agent's key: set "
			    "BACKSTAY_AGENT_DIR");
		id->dir = xasprintf("%s/.config/backstay-agent", home);
	}
	id->key = xasprintf("%s/id_ed25519", id->dir);
	id->pub = xasprintf("%s/id_ed25519.pub", id->dir);
	id->known_hosts = xasprintf("%s/known_hosts", id->dir);
	return 0;
}

void
identity_fini(struct identity *id)
{
	free(id->dir);
	free(id->key);
	free(id->pub);
	free(id->known_hosts);
	memset(id, 0, sizeof(*id));
}

static int
make_dir(const char *path, struct err *e)
{
	char *p = xstrdup(path);
	int rc = 0;

	/* Each folder above too; only the last one is private. */
	for (char *at = p + 1; rc == 0; at++) {
		char was = *at;

		if (was != '/' && was != 0)
			continue;
		*at = 0;
		if (mkdir(p, was == 0 ? 0700 : 0755) == -1 && errno != EEXIST)
			rc = err_set(e, errno == EACCES ? ERR_DENIED : ERR_SYS,
			    "cannot make the folder %s: %s", p,
			    strerror(errno));
		*at = was;
		if (was == 0)
			break;
	}
	free(p);
	return rc;
}

void
identity_hostname(char *out, size_t len)
{
	if (gethostname(out, len) == -1)
		out[0] = 0;
	out[len - 1] = 0;
	out[strcspn(out, ".")] = 0;
	if (!name_part_ok(out))
		strncpy(out, "agent", len);
}

int
identity_make(const struct identity *id, const char *comment, struct err *e)
{
	char host[NAME_PART_MAX + 1];
	const struct passwd *pw;
	char *text = NULL;
	int rc;

	rc = make_dir(id->dir, e);
	if (rc != 0)
		return rc;
	if (comment == NULL) {
		pw = getpwuid(geteuid());
		identity_hostname(host, sizeof(host));
		text = xasprintf(
		    "%s@%s", pw != NULL ? pw->pw_name : "backstay", host);
		comment = text;
	}
	rc = lane_ssh_keygen(id->key, comment, e);
	free(text);
	return rc;
}

bool
identity_exists(const struct identity *id)
{
	return access(id->key, F_OK) == 0;
}

int
identity_line(const struct identity *id, char **out, struct err *e)
{
	struct buf b = { 0 };
	int rc;

	rc = file_read(AT_FDCWD, id->pub, PUBLIC_KEY_MAX, &b);
	if (rc == ERR_NOENT)
		rc = err_set(e, rc,
		    "%s: there is no public key; run: backstay-agent keygen",
		    id->pub);
	else if (rc != 0)
		rc = err_set(e, rc, "%s: cannot read the public key", id->pub);
	if (rc == 0) {
		*out = xstrdup(buf_cstr(&b));
		(*out)[strcspn(*out, "\r\n")] = 0;
	}
	buf_fini(&b);
	return rc;
}
