/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/qcow2/names.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/nfs/nfs3.h"

/* As QEMU sees it: a colon before any slash ends a protocol's name. */
static size_t
protocol_len(const char *name)
{
	size_t n = strcspn(name, ":/");

	return name[n] == ':' ? n : 0;
}

/* Hosts that mount the export have paths of their own for it, and a URL has no
 * ".." and no links: only a name relative to the image is one here, too. */
static int
resolve_on_nfs(const char *url, const char *name, const char *what, char **out,
    struct err *e)
{
	size_t len = strcspn(url, "?"), host = strcspn(url + 6, "/?") + 6;
	char *copy, *at, *part, *path;

	if (name[0] == '/' || strchr(name, '?') != NULL)
		return err_set(e, ERR_UNSUP,
		    "%.*s: its %s \"%.200s\" is a path of some host, or has a "
		    "?: "
		    "over NFS name it relative to the image: qemu-img rebase "
		    "-u -F FORMAT -b NAME IMAGE",
		    (int)len, url, what, name);
	path = xasprintf("%.*s", (int)len, url);
	*strrchr(path, '/') = 0;
	at = copy = xstrdup(name);
	while ((part = strsep(&at, "/")) != NULL) {
		char *slash = strrchr(path, '/');

		if (*part == 0 || strcmp(part, ".") == 0)
			continue;
		if (strcmp(part, "..") == 0) {
			if (slash >= path + host)
				*slash = 0;
			continue;
		}
		slash = xasprintf("%s/%s", path, part);
		free(path);
		path = slash;
	}
	*out = xasprintf("%s%s", path, url + len);
	free(copy);
	free(path);
	return 0;
}

int
names_resolve(const char *image, const char *name, const char *what, char **out,
    struct err *e)
{
	const char *slash = strrchr(image, '/');
	size_t n;

	if (strncmp(name, "file:", 5) == 0)
		name += 5;
	n = protocol_len(name);
	if (n != 0)
		return err_set(e, ERR_UNSUP,
		    "%s: its %s \"%.200s\" is reached by %.*s: which is not "
		    "supported; only plain paths are",
		    image, what, name, n < 32 ? (int)n : 32, name);
	if (nfs3_is_url(image))
		return resolve_on_nfs(image, name, what, out, e);
	if (name[0] == '/' || slash == NULL)
		*out = xstrdup(name);
	else
		*out = xasprintf("%.*s/%s", (int)(slash - image), image, name);
	return 0;
}

int
names_format(const char *image, const char *format, bool *raw, struct err *e)
{
	*raw = strcmp(format, "raw") == 0;
	if (*raw || strcmp(format, "qcow2") == 0)
		return 0;
	if (format[0] == 0)
		return err_set(e, ERR_INVAL,
		    "%s: does not tell the format of its backing file, and "
		    "guessing it would let a guest escape: qemu-img rebase -u "
		    "-F raw|qcow2 -b BACKING IMAGE",
		    image);
	return err_set(e, ERR_UNSUP,
	    "%s: its backing file has the format \"%s\"; only raw and qcow2 "
	    "are supported",
	    image, format);
}
