/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What parses as a record's header, a pack's header, a footer's entry or a
 * trailer prints to the same bytes.  The first byte says which it is.
 *
 * Checksums are made right first: behind them nothing would be reached.
 */
#include <stdlib.h>
#include <string.h>

#include "proto/base/bytes.h"
#include "proto/base/crc32c.h"
#include "repo/store/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
same(const void *a, const void *b, size_t len)
{
	if (memcmp(a, b, len) != 0)
		abort();
}

static void
fuzz_record(uint8_t *in)
{
	uint8_t out[RECORD_HEADER_LEN];
	uint64_t tag = get_le64(in + 8);
	struct record r;
	int rc;

	put_le32(in + 60, crc32c(0, in, 60));
	rc = record_parse(in, tag, &r);
	if (rc == ERR_CORRUPT)
		return;
	if (r.stored_len > PACK_ENTRIES_MAX * PACK_ENTRY_LEN)
		abort();
	record_print(&r, tag, out);
	same(in, out, sizeof(out));
	if (record_parse(in, ~tag, &r) != ERR_CORRUPT)
		abort();
}

static void
fuzz_header(uint8_t *in)
{
	uint8_t out[PACK_HEADER_LEN];
	struct pack_header h;
	struct err e;

	put_le32(in + 124, crc32c(0, in, 124));
	if (pack_header_parse(in, &h, &e) != 0)
		return;
	pack_header_print(&h, out);
	same(in, out, sizeof(out));
}

static void
fuzz_entry(const uint8_t *in)
{
	uint8_t out[PACK_ENTRY_LEN];
	struct pack_entry p;

	if (pack_entry_parse(in, &p) == ERR_CORRUPT)
		return;
	if (p.off > PACK_OFF_MAX)
		abort();
	pack_entry_print(&p, out);
	same(in, out, sizeof(out));
}

static void
fuzz_trailer(uint8_t *in)
{
	uint8_t out[PACK_TRAILER_LEN];
	struct pack_trailer t;

	put_le32(in + 28, crc32c(0, in, 28));
	if (pack_trailer_parse(in, &t) != 0)
		return;
	pack_trailer_print(&t, out);
	same(in, out, sizeof(out));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t in[PACK_HEADER_LEN] = { 0 };

	if (size < 1)
		return 0;
	memcpy(in, data + 1, size - 1 < sizeof(in) ? size - 1 : sizeof(in));
	switch (data[0]) {
	case 0: fuzz_record(in); break;
	case 1: fuzz_header(in); break;
	case 2: fuzz_entry(in); break;
	case 3: fuzz_trailer(in); break;
	}
	return 0;
}
