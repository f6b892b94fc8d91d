/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ova: what is in an OVA (DSP0243) beside its disks, and whether all of it is
 * there and right: the descriptor names the files, the manifest has their
 * checksums.  One thread.
 */
#ifndef AGENT_ARCHIVE_OVA_H
#define AGENT_ARCHIVE_OVA_H

#include "agent/archive/disk_name.h"
#include "agent/archive/spool.h"
#include "proto/base/buf.h"

enum { OVA_TEXT_MAX = 1 << 20, OVA_ASIDE_MAX = 16 };

struct ova {
	struct buf descriptor, manifest;
	char descriptor_name[ARCIN_NAME_MAX + 1]; /* "": it is no OVA */
	char manifest_name[ARCIN_NAME_MAX + 1];   /* or "" */
	/* Certificates, and VMware's NVRAM: not taken. */
	unsigned naside;
	char aside[OVA_ASIDE_MAX][ARCIN_NAME_MAX + 1];
};

/** ova_fini(o): of one that was all zeroes in the beginning. */
void ova_fini(struct ova *o);

/** ova_member(o, a, kind, e): take the member at which ${a} stands, of one of
 * its kinds.  ERR_INVAL, ERR_LIMIT, and as arcin_text. */
int ova_member(
    struct ova *o, struct arcin *a, enum disk_name_kind kind, struct err *e);

/** ova_check(o, s, e): after the last member, with its disks in ${s}.  0, also
 * where nothing of an OVA was in the archive; ERR_INVAL: a file is missing, or
 * a checksum is another; ERR_UNSUP; ERR_SYS. */
int ova_check(const struct ova *o, const struct spool *s, struct err *e);

#endif
