/* SPDX-License-Identifier: Apache-2.0 */
/* nfs_room: a real NFS server for tests, in a folder of its own.  As root. */
#ifndef TESTS_UNIT_NFS_ROOM_H
#define TESTS_UNIT_NFS_ROOM_H

struct nfs_room {
	char dir[64]; /* what is exported is dir/export */
	char url[160];
	int port;
};

/** nfs_room_open(r): a server runs; ends the test with what to install if it
 * cannot. */
void nfs_room_open(struct nfs_room *r);
void nfs_room_close(struct nfs_room *r);

/** nfs_room_start(r), nfs_room_kill(r): kill as a crash does. */
void nfs_room_start(struct nfs_room *r);
void nfs_room_kill(struct nfs_room *r);

/** nfs_room_signal(r, sig): SIGSTOP, which has taken effect; SIGCONT. */
void nfs_room_signal(struct nfs_room *r, int sig);

#endif
