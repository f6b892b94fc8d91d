/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a pack from one end to the other, whatever state it is in.  The
 * payloads are what guests wrote: only a header with the pack's tag, which no
 * guest knows, makes a record.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/crc32c.h"
#include "proto/base/log.h"
#include "repo/store/pack_private.h"

enum {
	READ_PAYLOADS = 1 << 20, /* read at a time: all of the pack */
	READ_HEADERS = 4096,     /* only headers, payloads are skipped */
	FORGET_EVERY = 32 << 20  /* so much more is cached meanwhile */
};

struct scan {
	struct volume_file *f;
	struct pack_scan *out;
	int (*visit)(void *arg, const struct record *r, const struct place *p,
	    const uint8_t *payload, bool sound);
	void *arg;
	uint32_t number;
	uint64_t limit; /* nothing is read behind it */
	int flags;
	bool payloads;      /* read and check them */
	struct buf buf;     /* a stretch of the file, */
	uint64_t at;        /* from here */
	uint64_t forgotten; /* the cache need not keep what lies before */
};

/* ${len} bytes at ${off} in memory; NULL with *rc 0 if the pack ends before. */
static const uint8_t *
bytes_at(struct scan *s, uint64_t off, size_t len, size_t chunk, int *rc)
{
	size_t want = len > chunk ? len : chunk, got = 0;

	*rc = 0;
	if (off >= s->at && off + len <= s->at + s->buf.len)
		return s->buf.data + (off - s->at);
	if (off > s->limit || s->limit - off < len)
		return NULL;
	if (s->limit - off < want)
		want = (size_t)(s->limit - off);
	if ((s->flags & PACK_SCAN_FORGET) != 0 &&
	    off - s->forgotten >= FORGET_EVERY && off > s->forgotten) {
		volume_forget(s->f);
		s->forgotten = off;
	}
	s->buf.len = 0;
	s->at = off;
	*rc = volume_read(s->f, buf_extend(&s->buf, want), want, off, &got);
	s->buf.len = *rc == 0 ? got : 0;
	return *rc == 0 && got >= len ? s->buf.data : NULL;
}

static const uint8_t *
header_at(struct scan *s, uint64_t off, int *rc)
{
	return bytes_at(s, off, RECORD_HEADER_LEN,
	    s->payloads ? READ_PAYLOADS : READ_HEADERS, rc);
}

/* Is a record's header, and room for its payload, at ${off}? */
static bool
record_here(
    const struct scan *s, const uint8_t *at, uint64_t off, struct record *r)
{
	if (record_parse(at, s->out->header.tag, r) == ERR_CORRUPT)
		return false;
	return r->stored_len <= s->limit - off - RECORD_HEADER_LEN;
}

/* The first record from ${off} on, in ${off}; ERR_NOENT if none follows. */
static int
resync(struct scan *s, uint64_t *off)
{
	struct record r;
	int rc;

	for (;;) {
		const uint8_t *p, *end;

		/* At least a header, and as much more as is there. */
		p = bytes_at(s, *off, RECORD_HEADER_LEN, READ_PAYLOADS, &rc);
		if (p == NULL)
			return rc != 0 ? rc : ERR_NOENT;
		end = s->buf.data + s->buf.len - RECORD_HEADER_LEN + 1;
		while (p < end) {
			const uint8_t *hit = memchr(p, 'B', (size_t)(end - p));

			if (hit == NULL)
				break;
			*off = s->at + (uint64_t)(hit - s->buf.data);
			if (record_here(s, hit, *off, &r))
				return 0;
			p = hit + 1;
		}
		*off = s->at + (uint64_t)(end - s->buf.data);
	}
}

/* A data pack tells chunks, a meta pack all else; nothing tells the footer. */
static int
tell(struct scan *s, const struct record *r, uint64_t off,
    const uint8_t *payload, bool sound)
{
	struct place place = {
		.pack = s->number,
		.off = (uint32_t)off,
		.stored_len = r->stored_len,
		.raw_len = r->raw_len,
		.codec = r->codec,
	};

	if ((r->kind == RECORD_CHUNK) != (s->out->header.type == PACK_DATA))
		return 0;
	return s->visit(s->arg, r, &place,
	    (s->flags & PACK_SCAN_PAYLOAD) != 0 ? payload : NULL, sound);
}

/* Record by record, from ${off}. */
static int
scan_records(struct scan *s, uint64_t off)
{
	uint64_t gaps = 0, damaged = 0; /* since the last valid record */
	int rc;

	for (;;) {
		const uint8_t *at = header_at(s, off, &rc), *payload = NULL;
		struct record r;
		bool known, sound = true;

		if (at == NULL && rc != 0)
			return rc;
		if (at == NULL)
			break;
		if (!record_here(s, at, off, &r)) {
			off++;
			gaps++;
			rc = resync(s, &off);
			if (rc == ERR_NOENT)
				break;
			if (rc != 0)
				return rc;
			continue;
		}
		/* Behind a footer nothing was ever appended. */
		if (r.kind == RECORD_FOOTER)
			break;
		known = record_parse(at, s->out->header.tag, &r) == 0;
		if (s->payloads) {
			payload = bytes_at(s, off,
			    RECORD_HEADER_LEN + (size_t)r.stored_len,
			    READ_PAYLOADS, &rc);
			if (payload == NULL)
				return rc != 0 ? rc : ERR_CORRUPT;
			payload += RECORD_HEADER_LEN;
			sound =
			    crc32c(0, payload, r.stored_len) == r.payload_crc;
		}
		if (known) {
			rc = tell(s, &r, off, payload, sound);
			if (rc != 0)
				return rc;
		}
		off += RECORD_HEADER_LEN + (uint64_t)r.stored_len;
		damaged += sound ? 0 : 1;
		/* A torn last record does not count, nor what led to it. */
		if (sound) {
			s->out->end = off;
			s->out->gaps += gaps;
			s->out->damaged += damaged;
			gaps = damaged = 0;
		}
	}
	/* But where a footer says that there were records, it does. */
	if (s->out->sealed) {
		s->out->gaps += gaps;
		s->out->damaged += damaged;
	}
	return 0;
}

/* What the footer lists, from ${from}. */
static int
scan_footer(struct scan *s, const struct buf *entries, uint64_t from)
{
	int rc;

	for (size_t i = 0; i < entries->len; i += PACK_ENTRY_LEN) {
		const uint8_t *at = NULL;
		struct pack_entry p;
		struct record r, on_disk;
		bool sound = true;

		rc = pack_entry_parse(entries->data + i, &p);
		s->out->end =
		    (uint64_t)p.off + RECORD_HEADER_LEN + p.stored_len;
		if (rc != 0 || p.off < from)
			continue;
		r = (struct record){
			.kind = p.kind,
			.codec = p.codec,
			.flags = p.flags,
			.raw_len = p.raw_len,
			.stored_len = p.stored_len,
			.id = p.id,
		};
		if (s->payloads) {
			at = bytes_at(s, p.off,
			    RECORD_HEADER_LEN + (size_t)p.stored_len,
			    READ_PAYLOADS, &rc);
			if (rc != 0)
				return rc;
			sound = at != NULL &&
			    record_parse(at, s->out->header.tag, &on_disk) ==
				0 &&
			    on_disk.kind == r.kind &&
			    on_disk.codec == r.codec &&
			    on_disk.raw_len == r.raw_len &&
			    on_disk.stored_len == r.stored_len &&
			    id_equal(&on_disk.id, &r.id) &&
			    crc32c(0, at + RECORD_HEADER_LEN, r.stored_len) ==
				on_disk.payload_crc;
			if (sound)
				r.payload_crc = on_disk.payload_crc;
			else
				s->out->damaged++;
		}
		rc = tell(s, &r, p.off,
		    at != NULL ? at + RECORD_HEADER_LEN : NULL, sound);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int
read_header(struct pack_set *set, struct scan *s)
{
	uint8_t bytes[PACK_HEADER_LEN];
	struct err e = { 0 };
	size_t got;
	int rc;

	rc = volume_read(s->f, bytes, sizeof(bytes), 0, &got);
	if (rc != 0)
		return rc;
	if (got != sizeof(bytes))
		return ERR_CORRUPT;
	rc = pack_header_parse(bytes, &s->out->header, &e);
	if (rc != 0) {
		log_info("pack %" PRIx32 ": %s", s->number, e.text);
		return rc;
	}
	if (s->out->header.number != s->number ||
	    memcmp(s->out->header.uuid, set->o.uuid, sizeof(set->o.uuid)) !=
		0) {
		log_info("pack %" PRIx32 ": is another repository's or pack's",
		    s->number);
		return ERR_CORRUPT;
	}
	return 0;
}

/* Of two twins whoever visits reads both. */
static void
note_cache(struct pack_set *set, struct scan *s, struct volume_file **twin)
{
	struct pack_info info;

	volume_note_cache(s->f);
	if (packs_get(set, s->number, &info) == 0 && info.mirror != 0 &&
	    volume_open(set->v, info.mirror, false, twin) == 0)
		volume_note_cache(*twin);
	else
		*twin = NULL;
}

int
pack_scan(struct pack_set *set, uint32_t number, uint64_t from, int flags,
    int (*visit)(void *arg, const struct record *r, const struct place *p,
	const uint8_t *payload, bool sound),
    void *arg, struct pack_scan *out)
{
	struct scan s = { .out = out,
		.visit = visit,
		.arg = arg,
		.number = number,
		.flags = flags };
	struct volume_file *twin = NULL;
	struct buf entries = { 0 };
	struct pack_info info;
	uint64_t footer_off;
	int rc;

	memset(out, 0, sizeof(*out));
	from = from > PACK_HEADER_LEN ? from : PACK_HEADER_LEN;
	out->end = from;
	/* Not by the cache of handles: the table need not know this pack. */
	rc = volume_open(set->v, number, false, &s.f);
	if (rc != 0)
		return rc;
	if ((flags & PACK_SCAN_FORGET) != 0)
		note_cache(set, &s, &twin);
	rc = volume_size(s.f, &s.limit);
	if (rc != 0)
		goto out;
	rc = read_header(set, &s);
	if (rc != 0)
		goto out;
	if (packs_get(set, number, &info) == 0 && info.state == PACK_POISONED &&
	    info.durable < s.limit)
		s.limit = info.durable;
	else if ((uint64_t)PACK_OFF_MAX < s.limit)
		s.limit = PACK_OFF_MAX;
	rc = pack_footer_read(
	    s.f, out->header.tag, s.limit, &entries, &footer_off);
	if (rc != 0 && rc != ERR_CORRUPT)
		goto out;
	out->sealed = rc == 0;
	if (out->sealed)
		s.limit = footer_off;
	/* Of what no footer vouches for, the tail may be torn. */
	s.payloads = !out->sealed || (flags & PACK_SCAN_PAYLOAD) != 0;
	if (out->sealed && (flags & PACK_SCAN_NO_FOOTER) == 0)
		rc = scan_footer(&s, &entries, from);
	else
		rc = scan_records(&s, from);
out:
	if ((flags & PACK_SCAN_FORGET) != 0)
		volume_forget(s.f);
	if (twin != NULL)
		volume_forget(twin);
	volume_file_close(twin);
	buf_fini(&entries);
	buf_fini(&s.buf);
	volume_file_close(s.f);
	return rc;
}
