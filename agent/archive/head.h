/* SPDX-License-Identifier: Apache-2.0 */
/* head: the first and the last member of an archive, which say what it holds:
 * backstay.json and manifest.json.  FORMAT.md 10.  Pure. */
#ifndef AGENT_ARCHIVE_HEAD_H
#define AGENT_ARCHIVE_HEAD_H

#include "agent/archive/digest.h"
#include "proto/manifest.h"

#define HEAD_FIRST "backstay.json"
#define HEAD_LAST "manifest.json"
enum { HEAD_NAME_MAX = 255, HEAD_LEN_MAX = 1 << 20 };

enum head_form { HEAD_QCOW2, HEAD_RAW, HEAD_FILE, HEAD_VMDK };

struct head_member {
	unsigned volume; /* its number in the manifest */
	char name[HEAD_NAME_MAX + 1];
	enum head_form form;
	uint64_t size; /* of the member */
	/* An overlay: only what differs from the volume that has this root. */
	bool overlay;
	struct id since_root;
	char sum[DIGEST_TEXT]; /* known at the end; "": not yet */
};

struct head {
	struct manifest manifest;
	bool since; /* it needs another backup of the VM */
	uint8_t since_id[BACKUP_ID_LEN];
	uint64_t since_time;
	unsigned n;
	struct head_member member[MANIFEST_VOLUMES_MAX];
};

/** head_blocks(f): its sum is that of blocks (digest_block). */
bool head_blocks(enum head_form f);

/** head_word(f): "qcow2". */
const char *head_word(enum head_form f);

/** head_print(h, out), head_last_print(h, out): the text of the first, and of
 * the last. */
void head_print(const struct head *h, struct buf *out);
void head_last_print(const struct head *h, struct buf *out);

/**
 * head_parse(data, len, out, e): checks all of it.  ERR_PROTO; ERR_UNSUP: of
 * another version.
 * head_last_check(h, data, len, e): the sums that the last member has are
 * those of ${h}, which are those of what came.  ERR_PROTO, ERR_CORRUPT.
 */
int head_parse(const void *data, size_t len, struct head *out, struct err *e);
int head_last_check(
    const struct head *h, const void *data, size_t len, struct err *e);

#endif
