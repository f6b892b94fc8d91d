/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "proto/base/crc32c.h"
#include "proto/base/fault.h"
#include "proto/codec.h"
#include "repo/store/pack_private.h"

int
pack_footer_write(struct volume_file *f, uint64_t tag,
    const struct buf *entries, uint64_t off)
{
	uint8_t header[RECORD_HEADER_LEN], trailer[PACK_TRAILER_LEN];
	struct iovec iov[3] = {
		{ .iov_base = header, .iov_len = sizeof(header) },
		{ .iov_base = entries->data, .iov_len = entries->len },
		{ .iov_base = trailer, .iov_len = sizeof(trailer) },
	};
	struct record r = {
		.kind = RECORD_FOOTER,
		.codec = CODEC_PLAIN,
		.raw_len = (uint32_t)entries->len,
		.stored_len = (uint32_t)entries->len,
		.payload_crc = crc32c(0, entries->data, entries->len),
	};
	struct pack_trailer t = {
		.footer_off = off,
		.count = (uint32_t)(entries->len / PACK_ENTRY_LEN),
		.tag = tag,
	};

	record_print(&r, tag, header);
	pack_trailer_print(&t, trailer);
	fault_pass(FAULT_FOOTER_WRITE);
	return volume_write(f, iov, 3, off);
}

/* Records in order, none over another, all before the footer. */
static bool
entries_ok(const struct buf *entries, uint64_t footer_off)
{
	uint64_t end = PACK_HEADER_LEN;
	struct pack_entry p;

	for (size_t i = 0; i < entries->len; i += PACK_ENTRY_LEN) {
		if (pack_entry_parse(entries->data + i, &p) == ERR_CORRUPT ||
		    p.off < end)
			return false;
		end = (uint64_t)p.off + RECORD_HEADER_LEN + p.stored_len;
	}
	return end <= footer_off;
}

int
pack_footer_read(struct volume_file *f, uint64_t tag, uint64_t size,
    struct buf *entries, uint64_t *off)
{
	uint8_t header[RECORD_HEADER_LEN], trailer[PACK_TRAILER_LEN];
	struct pack_trailer t;
	struct record r;
	size_t got, len;
	int rc;

	entries->len = 0;
	if (size < PACK_HEADER_LEN + PACK_FOOTER_MIN)
		return ERR_CORRUPT;
	rc = volume_read(
	    f, trailer, sizeof(trailer), size - sizeof(trailer), &got);
	if (rc != 0)
		return rc;
	if (got != sizeof(trailer) || pack_trailer_parse(trailer, &t) != 0 ||
	    t.tag != tag || t.footer_off + pack_footer_len(t.count) != size)
		return ERR_CORRUPT;
	rc = volume_read(f, header, sizeof(header), t.footer_off, &got);
	if (rc != 0)
		return rc;
	len = (size_t)t.count * PACK_ENTRY_LEN;
	if (got != sizeof(header) || record_parse(header, tag, &r) != 0 ||
	    r.kind != RECORD_FOOTER || r.stored_len != len)
		return ERR_CORRUPT;
	rc = volume_read(f, buf_extend(entries, len), len,
	    t.footer_off + sizeof(header), &got);
	if (rc != 0)
		return rc;
	if (got != len || crc32c(0, entries->data, len) != r.payload_crc ||
	    !entries_ok(entries, t.footer_off))
		return ERR_CORRUPT;
	*off = t.footer_off;
	return 0;
}
