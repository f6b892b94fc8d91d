/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/io.h"
#include "proto/base/owner.h"
#include "proto/chunk.h"
#include "proto/lane_ssh.h"
#include "proto/name.h"
#include "repo/console/console.h"
#include "repo/console/noted.h"
#include "repo/console/unit.h"
#include "repo/serve/auth.h"
#include "repo/settings/settings.h"
#include "repo/store/store.h"

/* Bytes of index for each chunk, measured. */
enum { INDEX_ENTRY_BYTES = 73 };

static int
say_sys(const char *dir, const char *what, struct err *e)
{
	return err_set(e, ERR_SYS, "%s/%s: cannot be made: %s", dir, what,
	    strerror(errno));
}

/* ${path} is the private key's, whose public half lies beside it. */
static int
fingerprint_of(const char *path, char **out, struct err *e)
{
	char *pub = xasprintf("%s.pub", path);
	char *type = NULL, *base64 = NULL, *comment = NULL;
	struct buf text = { 0 };
	int rc;

	rc = file_read(AT_FDCWD, pub, 4096, &text);
	if (rc != 0) {
		err_set(e, rc, "%s: cannot be read", pub);
	} else {
		buf_cstr(&text);
		text.data[strcspn((char *)text.data, "\r\n")] = 0;
		rc = lane_ssh_pubkey(
		    (const char *)text.data, &type, &base64, out, &comment, e);
	}
	buf_fini(&text);
	free(type);
	free(base64);
	free(comment);
	free(pub);
	return rc;
}

/* What the daemon needs beside the store itself. */
static int
make_keys(const char *dir, char **fingerprint, struct err *e)
{
	static const char head[] =
	    "# Who may back up and restore: one key a line, as\n"
	    "#   [OPTION,...] TYPE KEY NAME\n"
	    "# Options: role=backup|restore|delete|admin, vm=\"PATTERN\",\n"
	    "# bwlimit=RATE, lanes=N, jobs=N.  `backstay key add` writes "
	    "them.\n";
	char *path;
	int dirfd, rc;

	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd == -1)
		return say_sys(dir, "keys", e);
	if (mkdirat(dirfd, "keys", 0700) == -1) {
		rc = say_sys(dir, "keys", e);
		goto out;
	}
	path = xasprintf("%s/keys/host_ed25519", dir);
	rc = lane_ssh_keygen(path, "backstay", e);
	if (rc == 0)
		rc = fingerprint_of(path, fingerprint, e);
	free(path);
	if (rc != 0)
		goto out;
	rc = file_replace(dirfd, AUTH_FILE, head, sizeof(head) - 1, 0600);
	if (rc != 0)
		err_set(e, rc, "%s/" AUTH_FILE ": cannot be made", dir);
out:
	close(dirfd);
	return rc;
}

/*
 * Whose it will be, and so who this process is from here on.  A folder that is
 * there and another's stays theirs.
 */
static int
take_owner(const char *dir, const char *user, struct err *e)
{
	struct stat st;
	bool made;
	int rc;

	if (geteuid() != 0)
		return user == NULL ? 0
				    : err_set(e, ERR_DENIED,
					  "--user %s: only root can give the "
					  "repository to a user",
					  user);
	made = mkdir(dir, 0700) == 0;
	if (!made && (stat(dir, &st) == -1 || !store_init_may(dir)))
		return 0; /* store_init says what is wrong with it */
	if (user == NULL && !made && st.st_uid != 0)
		rc = owner_become(dir, e);
	else if (user == NULL && !owner_known(UNIT_USER))
		rc = 0;
	else
		rc = owner_give(dir, user != NULL ? user : UNIT_USER, e);
	if (rc != 0 && made)
		rmdir(dir);
	return rc;
}

static int
make_settings(const char *dir, struct err *e)
{
	struct buf text = { 0 };
	int dirfd, rc;

	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd == -1)
		return say_sys(dir, SETTINGS_FILE, e);
	settings_sample(&text);
	rc = file_replace(dirfd, SETTINGS_FILE, text.data, text.len, 0600);
	if (rc != 0)
		err_set(e, rc, "%s/" SETTINGS_FILE ": cannot be made", dir);
	buf_fini(&text);
	close(dirfd);
	return rc;
}

static void
tell(const char *dir, uint32_t chunk_size, bool by_namespace, const char *packs,
    const char *fingerprint)
{
	const struct passwd *pw = getpwuid(geteuid());
	char chunk[16], memory[16];
	struct buf start = { 0 };

	printf("%s: a new repository\n\n", dir);
	printf("belongs to      %s\n", pw != NULL ? pw->pw_name : "you");
	printf("chunk size      %s\n", size_print(chunk_size, chunk));
	printf("data is shared  %s\n",
	    by_namespace ? "within each namespace" : "by all VMs");
	if (packs != NULL)
		printf("packs           %s\n", packs);
	printf("host key        %s\n", fingerprint);
	printf("index           about %s for each TB of different data; on an "
	       "SSD if there will be over 4 TB\n",
	    size_print(UINT64_C(1000000000000) / chunk_size * INDEX_ENTRY_BYTES,
		memory));
	unit_start(dir, true, &start);
	printf("\nNext:\n\n"
	       "  %s\n"
	       "  backstay-agent enroll ssh://THIS-HOST        "
	       "(on each host; it shows the host key above)\n"
	       "  backstay -r %s key add HOST -    "
	       "(what enroll printed there: it lets the host in)\n"
	       "  backstay-agent backup --repo ssh://THIS-HOST VM "
	       "--disk NAME=IMAGE\n",
	    buf_cstr(&start), dir);
	buf_fini(&start);
}

int
cmd_init(struct console *c, int argc, char **argv)
{
	static const struct option options[] = {
		{ "chunk-size", required_argument, NULL, 'c' },
		{ "dedup", required_argument, NULL, 'd' },
		{ "packs", required_argument, NULL, 'p' },
		{ "user", required_argument, NULL, 'u' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 }
	};
	uint64_t chunk_size = CHUNK_SIZE_DEFAULT;
	bool by_namespace = false;
	char *fingerprint = NULL;
	struct err e = { 0 };
	const char *dir, *user = NULL, *packs = NULL;
	int o, rc;

	while ((o = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (o) {
		case 'c':
			if (size_parse(optarg, &chunk_size) != 0 ||
			    !chunk_size_ok(chunk_size))
				return console_misuse(c,
				    "a chunk size is a power of two from 64K "
				    "to 4M, not %s",
				    optarg);
			break;
		case 'd':
			by_namespace = strcmp(optarg, "namespace") == 0;
			if (!by_namespace && strcmp(optarg, "repository") != 0)
				return console_misuse(c,
				    "--dedup is repository or namespace, not "
				    "%s",
				    optarg);
			break;
		case 'p': packs = optarg; break;
		case 'u': user = optarg; break;
		case 'h': return console_help(c);
		default: return console_misuse(c, "see the usage");
		}
	}
	if (argc - optind > 1)
		return console_misuse(c, "what is \"%s\"?", argv[optind + 1]);
	dir = optind < argc ? argv[optind] : c->dir;
	if (dir == NULL)
		return console_misuse(c, "which folder?");
	rc = take_owner(dir, user, &e);
	if (rc != 0)
		return console_fail(&e);
	lane_ssh_init();
	rc = store_init(dir, (uint32_t)chunk_size, by_namespace, packs, &e);
	if (rc == 0) {
		rc = make_keys(dir, &fingerprint, &e);
		if (rc == 0)
			rc = make_settings(dir, &e);
		if (rc == 0)
			rc = noted(dir, "init", NULL, "done", &e);
		if (rc != 0)
			err_prefix(&e,
			    "%s is not complete; remove it and start over",
			    dir);
	}
	if (rc != 0)
		return console_fail(&e);
	tell(dir, (uint32_t)chunk_size, by_namespace, packs, fingerprint);
	free(fingerprint);
	return EXIT_DONE;
}
