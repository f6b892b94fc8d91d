/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/nfs_room.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/standstill.h"

/* Four ports from there on are the server's, others for each process; below
 * those that the system gives to whoever asks for any. */
enum { PORT_BASE = 12000, PORT_SPAN = 5000, PORTS = 4 };

static void
script(struct nfs_room *r, const char *before, const char *what)
{
	char cmd[320];
	FILE *p;

	snprintf(cmd, sizeof(cmd), "%s tests/nfs/server.sh %s %s %d", before,
	    what, r->dir, r->port);
	p = popen(cmd, "r");
	assert_non_null(p);
	if (fgets(r->url, sizeof(r->url), p) != NULL)
		r->url[strcspn(r->url, "\n")] = 0;
	if (pclose(p) != 0)
		fail_msg("%s failed: nfs-ganesha, nfs-ganesha-vfs and rpcbind "
			 "must be installed (make deps), and this be root",
		    cmd);
}

/* Two servers may well listen at one port, and answer in turns. */
static bool
is_free(int port)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool is = fd != -1 && bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0;

	if (fd != -1)
		close(fd);
	return is;
}

void
nfs_room_open(struct nfs_room *r)
{
	int slot = (int)getpid();

	strcpy(r->dir, "/tmp/test_nfs.XXXXXX");
	assert_non_null(mkdtemp(r->dir));
	do
		r->port = PORT_BASE + slot++ % PORT_SPAN * PORTS;
	while (!is_free(r->port) || !is_free(r->port + 1));
	nfs_room_start(r);
}

void
nfs_room_start(struct nfs_room *r)
{
	script(r, "", "start");
}

void
nfs_room_kill(struct nfs_room *r)
{
	char keep[sizeof(r->url)];

	memcpy(keep, r->url, sizeof(keep));
	script(r, "SIG=KILL", "stop");
	memcpy(r->url, keep, sizeof(keep));
}

void
nfs_room_signal(struct nfs_room *r, int sig)
{
	char name[96];
	FILE *f;
	int pid = 0;

	snprintf(name, sizeof(name), "%s/ganesha.pid", r->dir);
	f = fopen(name, "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%d", &pid), 1);
	fclose(f);
	if (sig == SIGSTOP)
		standstill(pid);
	else
		assert_int_equal(kill(pid, sig), 0);
}

void
nfs_room_close(struct nfs_room *r)
{
	char cmd[96];

	script(r, "", "end");
	snprintf(cmd, sizeof(cmd), "rm -rf %s", r->dir);
	assert_int_equal(system(cmd), 0);
}
