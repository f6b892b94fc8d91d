/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nfsfile: an image on an NFS export, by its URL.  What a process has open in
 * one folder goes by one client, whose connections and threads all share.
 * Any thread, but for nfsfile_patience.
 */
#ifndef AGENT_IMAGE_NFSFILE_H
#define AGENT_IMAGE_NFSFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/nfs/nfs3_file.h"

/* Less than the repository waits for a host that says nothing. */
enum { NFSFILE_PATIENCE_S = 100, NFSFILE_PATIENCE_S_MAX = 86400 };

/** nfsfile_patience(s): how long a server is waited for, by all that is opened
 * from here on.  Before threads start. */
void nfsfile_patience(unsigned s);

struct nfsdir;

/**
 * nfsdir_open(url, name, out, e): the folder of the file ${url}, whose name
 * goes to ${name}, of NFS3_NAME_MAX + 1 bytes.  ERR_INVAL, ERR_UNSUP, ERR_LIMIT
 * (no URL that can be used), ERR_NOENT, ERR_DENIED, ERR_CLOSED (the server does
 * not answer), ERR_SYS.
 */
int nfsdir_open(
    const char *url, char *name, struct nfsdir **out, struct err *e);
struct nfs3 *nfsdir_client(const struct nfsdir *d);
void nfsdir_close(struct nfsdir *d);

/** nfsfile_error(e, rc, n, url, what): what a call of nfs3.h answered, for a
 * person.  Returns it, but ERR_CLOSED for ERR_TIMEOUT: nobody is slow here, the
 * server is gone. */
int nfsfile_error(
    struct err *e, int rc, struct nfs3 *n, const char *url, const char *what);

struct nfsfile;

/** nfsfile_open(url, size, out, e): for reading.  As nfsdir_open; ERR_INVAL: no
 * regular file. */
int nfsfile_open(
    const char *url, uint64_t *size, struct nfsfile **out, struct err *e);
void nfsfile_close(struct nfsfile *f);

/** nfsfile_read(f, data, len, off, e): within the file.  ERR_CLOSED, ERR_SYS;
 * ERR_CORRUPT: it has become shorter, or the server cannot read it. */
int nfsfile_read(
    struct nfsfile *f, void *data, size_t len, uint64_t off, struct err *e);

/** nfsfile_still(f, e): nobody has written to it since it was opened; ERR_BUSY:
 * somebody has. */
int nfsfile_still(struct nfsfile *f, struct err *e);

/** nfsfile_same(a, b): both are one file of one server. */
bool nfsfile_same(const struct nfsfile *a, const struct nfsfile *b);

#endif
