/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/base/owner.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/log.h"

/* Once, before any thread: that this process was root's. */
static bool was_root;

static const struct passwd *
find(const char *name)
{
	/* cppcheck-suppress getpwnamCalled ; there is one thread yet */
	return getpwnam(name);
}

static int
say_sys(const char *path, const char *what, struct err *e)
{
	err_set(e, ERR_SYS, "%s: %s: %s", path, what, strerror(errno));
	return log_sys("%s: %s", path, what);
}

static int
become(const char *path, uid_t uid, gid_t gid, struct err *e)
{
	const struct passwd *pw = getpwuid(uid);
	int rc;

	if (pw != NULL) {
		gid = pw->pw_gid;
		rc = initgroups(pw->pw_name, gid);
	} else {
		rc = setgroups(1, &gid);
	}
	if (rc == -1 || setresgid(gid, gid, gid) == -1 ||
	    setresuid(uid, uid, uid) == -1)
		return say_sys(path, "its owner cannot be become", e);
	was_root = true;
	return 0;
}

int
owner_become(const char *path, struct err *e)
{
	struct stat st;

	if (geteuid() != 0 || stat(path, &st) == -1 || !S_ISDIR(st.st_mode) ||
	    st.st_uid == 0)
		return 0;
	return become(path, st.st_uid, st.st_gid, e);
}

/* Tried, since groups and lists have their say, too.  What was root's besides
 * its number is gone after this. */
static bool
reaches(const char *path, uid_t uid, gid_t gid)
{
	bool there;

	if (setgroups(1, &gid) == -1 || setegid(gid) == -1)
		return false;
	if (seteuid(uid) == -1)
		return false;
	there = faccessat(AT_FDCWD, path, F_OK, AT_EACCESS) == 0;
	if (seteuid(0) == -1 || setegid(0) == -1)
		abort(); /* root may */
	return there;
}

int
owner_give(const char *path, const char *name, struct err *e)
{
	const struct passwd *pw = find(name);
	uid_t uid;
	gid_t gid;
	int fd, rc;

	if (pw == NULL)
		return err_set(e, ERR_NOENT, "there is no user \"%s\"", name);
	uid = pw->pw_uid;
	gid = pw->pw_gid;
	if (!reaches(path, uid, gid))
		return err_set(e, ERR_DENIED,
		    "%s: the user %s cannot reach it: not all may enter the "
		    "folders above",
		    path, name);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd == -1)
		return say_sys(path, "open", e);
	rc = fchown(fd, uid, gid);
	if (rc == -1)
		say_sys(path, "cannot be given to its user", e);
	close(fd);
	if (rc == -1)
		return ERR_SYS;
	return uid == geteuid() ? 0 : become(path, uid, gid, e);
}

bool
owner_known(const char *name)
{
	return find(name) != NULL;
}

bool
owner_is(const char *path, const char *name)
{
	const struct passwd *pw = find(name);
	struct stat st;

	return pw != NULL && stat(path, &st) == 0 && st.st_uid == pw->pw_uid;
}

uid_t
owner_before(void)
{
	return was_root ? 0 : getuid();
}
