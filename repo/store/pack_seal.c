/* SPDX-License-Identifier: Apache-2.0 */
/* Sealing what a crash left open. */
#include "proto/base/fault.h"
#include "repo/store/pack_private.h"

struct tail {
	struct buf entries;
	uint64_t end;
};

static int
collect(void *arg, const struct record *r, const struct place *p,
    const uint8_t *payload, bool sound)
{
	struct tail *t = arg;
	struct pack_entry e = {
		.id = r->id,
		.kind = r->kind,
		.codec = r->codec,
		.flags = r->flags,
		.off = p->off,
		.raw_len = r->raw_len,
		.stored_len = r->stored_len,
	};

	(void)payload;
	/* A footer vouches for what it lists. */
	if (sound &&
	    (uint64_t)p->off + RECORD_HEADER_LEN + p->stored_len <= t->end &&
	    t->entries.len < (size_t)PACK_ENTRIES_MAX * PACK_ENTRY_LEN)
		pack_entry_print(&e, buf_extend(&t->entries, PACK_ENTRY_LEN));
	return 0;
}

int
pack_seal_tail(struct pack_set *s, uint32_t number, uint64_t end)
{
	struct tail t = { .end = end };
	struct pack_scan scan;
	struct volume_file *f;
	uint64_t len;
	int rc;

	fault_pass(FAULT_TAIL_SEAL);
	rc = pack_scan(s, number, 0, PACK_SCAN_NO_FOOTER, collect, &t, &scan);
	if (rc != 0)
		goto out;
	rc = volume_open(s->v, number, true, &f);
	if (rc != 0)
		goto out;
	if (scan.sealed) {
		rc = volume_sync(f);
		goto out_close;
	}
	/* What is there must be safe before anything else is tried. */
	rc = volume_size(f, &len);
	if (rc == 0 && (end < PACK_HEADER_LEN || end > len))
		rc = ERR_CORRUPT;
	if (rc == 0)
		rc = volume_cut(f, end);
	if (rc == 0)
		rc = volume_sync(f);
	if (rc != 0)
		goto out_close;
	fault_pass(FAULT_TAIL_CUT);
	len = end + pack_footer_len(t.entries.len / PACK_ENTRY_LEN);
	rc = volume_reserve(f, len);
	if (rc == 0)
		rc = pack_footer_write(f, scan.header.tag, &t.entries, end);
	if (rc == ERR_NOSPC) {
		rc = volume_cut(f, end);
		if (rc == 0)
			rc = ERR_NOSPC;
		goto out_close;
	}
	if (rc == 0)
		rc = volume_sync(f);
out_close:
	volume_file_close(f);
out:
	buf_fini(&t.entries);
	return rc;
}
