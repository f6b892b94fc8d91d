/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/name.h"
#include "proto/nfs/nfs3.h"

#define SCHEME "nfs://"

enum { PORT_MAX = 65535 };

bool
nfs3_is_url(const char *text)
{
	return strncmp(text, SCHEME, sizeof(SCHEME) - 1) == 0;
}

static int
take_option(struct nfs3_url *u, const char *word, struct err *e)
{
	const struct {
		const char *name;
		int *out;
		uint64_t min, max;
	} known[] = { { "nfsport", &u->nfsport, 1, PORT_MAX },
		{ "mountport", &u->mountport, 1, PORT_MAX },
		{ "uid", &u->uid, 0, INT32_MAX },
		{ "gid", &u->gid, 0, INT32_MAX } };
	const char *eq = strchr(word, '=');
	uint64_t v;

	if (eq != NULL && strncmp(word, "version=", 8) == 0)
		return strcmp(eq + 1, "3") == 0
		    ? 0
		    : err_set(e, ERR_UNSUP,
			  "%.40s: only version 3 of NFS can be used: the "
			  "library fails on larger writes with 4",
			  word);
	for (size_t i = 0; eq != NULL && i < sizeof(known) / sizeof(known[0]);
	     i++) {
		if (strncmp(word, known[i].name, (size_t)(eq - word)) != 0 ||
		    known[i].name[eq - word] != 0)
			continue;
		if (number_parse(eq + 1, known[i].min, known[i].max, &v) != 0)
			return err_set(e, ERR_INVAL,
			    "%.60s: say a number from %llu to %llu", word,
			    (unsigned long long)known[i].min,
			    (unsigned long long)known[i].max);
		*known[i].out = (int)v;
		return 0;
	}
	return err_set(e, ERR_INVAL,
	    "\"%.40s\": behind the ? of an NFS URL may be nfsport=, "
	    "mountport=, uid=, gid= and version=3, with & between",
	    word);
}

int
nfs3_url_parse(const char *text, struct nfs3_url *out, struct err *e)
{
	const char *host = text + sizeof(SCHEME) - 1, *path, *end;
	char *copy, *at, *word;
	size_t len;
	int rc = 0;

	memset(out, 0, sizeof(*out));
	out->uid = out->gid = -1;
	if (!nfs3_is_url(text))
		return err_set(
		    e, ERR_INVAL, "%.100s: say nfs://HOST/EXPORT/PATH", text);
	path = strchr(host, '/');
	end = host + strcspn(host, "?");
	if (path == NULL || path == host || path > end)
		return err_set(
		    e, ERR_INVAL, "%.100s: say nfs://HOST/EXPORT/PATH", text);
	len = (size_t)(path - host);
	if (len > NFS3_NAME_MAX || memchr(host, ':', len) != NULL)
		return err_set(e, ERR_INVAL,
		    "%.100s: a port is said behind, as in ?nfsport=2049", text);
	memcpy(out->host, host, len);
	while (end > path + 1 && end[-1] == '/')
		end--;
	len = (size_t)(end - path);
	if (len > NFS3_PATH_MAX)
		return err_set(
		    e, ERR_LIMIT, "%.60s...: the path is too long", text);
	memcpy(out->path, path, len);
	if (strstr(out->path, "/../") != NULL ||
	    (len >= 3 && strcmp(out->path + len - 3, "/..") == 0))
		return err_set(e, ERR_INVAL, "%.100s: no .. in a path", text);
	end = strchr(text, '?');
	at = copy = xstrdup(end != NULL ? end + 1 : "");
	while (rc == 0 && (word = strsep(&at, "&")) != NULL)
		if (*word != 0)
			rc = take_option(out, word, e);
	free(copy);
	return rc;
}

int
nfs3_url_split(struct nfs3_url *u, char *name, struct err *e)
{
	char *slash = strrchr(u->path, '/');
	size_t len = strlen(slash + 1);

	if (len == 0 || len > NFS3_NAME_MAX)
		return err_set(
		    e, ERR_INVAL, "nfs://%s%s names no file", u->host, u->path);
	memcpy(name, slash + 1, len + 1);
	slash[slash == u->path ? 1 : 0] = 0;
	return 0;
}
