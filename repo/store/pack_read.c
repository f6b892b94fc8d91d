/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "proto/base/crc32c.h"
#include "repo/store/pack_private.h"

/* The bytes at ${off}, all of them or ERR_CORRUPT. */
static int
read_all(struct pack_set *s, uint32_t pack, uint64_t off, struct iovec *iov,
    int n, struct pack_info *info)
{
	struct pack_handle *h;
	size_t got, len = 0;
	int rc;

	for (int i = 0; i < n; i++)
		len += iov[i].iov_len;
	rc = packs_open(s, pack, &h, info);
	if (rc != 0)
		return rc;
	/* What lies behind was never known to be on disk. */
	if (info->state == PACK_POISONED && off + len > info->durable)
		rc = ERR_CORRUPT;
	if (rc == 0)
		rc = volume_readv(h->f, iov, n, off, &got);
	packs_close(s, h);
	if (rc == 0 && got != len)
		rc = ERR_CORRUPT;
	return rc;
}

static int
check(uint64_t tag, const struct place *p, uint8_t kind, const struct id *id,
    const uint8_t *at)
{
	struct record r;

	if (record_parse(at, tag, &r) != 0 || r.kind != kind ||
	    !id_equal(&r.id, id) || r.codec != p->codec ||
	    r.raw_len != p->raw_len || r.stored_len != p->stored_len ||
	    crc32c(0, at + RECORD_HEADER_LEN, r.stored_len) != r.payload_crc)
		return ERR_CORRUPT;
	return 0;
}

static int
read_from(struct pack_set *s, uint32_t pack, const struct place *p,
    uint8_t kind, const struct id *id, struct buf *out)
{
	struct pack_info info;
	struct iovec iov;
	uint8_t *at;
	int rc;

	out->len = 0;
	at = buf_extend(out, RECORD_HEADER_LEN + (size_t)p->stored_len);
	iov = (struct iovec){ .iov_base = at, .iov_len = out->len };
	rc = read_all(s, pack, p->off, &iov, 1, &info);
	if (rc == 0)
		rc = check(info.tag, p, kind, id, at);
	if (rc == 0)
		memmove(at, at + RECORD_HEADER_LEN, p->stored_len);
	out->len = rc == 0 ? p->stored_len : 0;
	return rc;
}

int
pack_read(struct pack_set *s, const struct place *p, uint8_t kind,
    const struct id *id, struct buf *out)
{
	struct pack_info info;
	int rc;

	out->len = 0;
	if (p->stored_len > RECORD_STORED_MAX || p->off > PACK_OFF_MAX)
		return ERR_CORRUPT;
	rc = read_from(s, p->pack, p, kind, id, out);
	if (rc == 0)
		return 0;
	if (packs_get(s, p->pack, &info) != 0 || info.mirror == 0)
		return rc;
	return read_from(s, info.mirror, p, kind, id, out) == 0 ? 0 : rc;
}

int
pack_read_one(struct pack_set *s, uint32_t pack, const struct place *p,
    uint8_t kind, const struct id *id, struct buf *out)
{
	out->len = 0;
	if (p->stored_len > RECORD_STORED_MAX || p->off > PACK_OFF_MAX)
		return ERR_CORRUPT;
	return read_from(s, pack, p, kind, id, out);
}

int
pack_read_range(
    struct pack_set *s, uint32_t pack, uint64_t off, struct iovec *iov, int n)
{
	struct pack_info info;

	return read_all(s, pack, off, iov, n, &info);
}

int
pack_check(struct pack_set *s, const struct place *p, uint8_t kind,
    const struct id *id, const uint8_t *at)
{
	struct pack_info info;

	if (packs_get(s, p->pack, &info) != 0)
		return ERR_NOENT;
	return check(info.tag, p, kind, id, at);
}
