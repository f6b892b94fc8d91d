/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pack: append-only files of records.  STORE.md's rules 10 to 16 in parts.
 *
 * A pack set holds what is known of every pack of a repository, writes new
 * ones and reads any.  The table of packs is derived from the index and kept
 * there by the ledger; the set itself never touches the index.
 */
#ifndef REPO_STORE_PACK_H
#define REPO_STORE_PACK_H

#include "proto/base/buf.h"
#include "repo/store/record.h"
#include "repo/store/volume.h"

enum {
	PACK_DATA_LIMIT = 512 << 20, /* sealed when full; a setting */
	PACK_META_LIMIT = 64 << 20
};

/* Where a record lies.  pack 0: nowhere. */
struct place {
	uint32_t pack;
	uint32_t off; /* of its header */
	uint32_t stored_len;
	uint32_t raw_len;
	uint8_t codec;
};

enum pack_state {
	PACK_OPEN,     /* being written, or left so by a crash */
	PACK_SEALED,   /* has its footer */
	PACK_POISONED, /* a sync failed: good up to ${durable} only */
	PACK_DEAD      /* nothing in it lives; may be unlinked already */
};

struct pack_info {
	uint32_t number;
	uint32_t mirror;
	enum pack_type type;
	enum pack_state state;
	uint32_t domain;
	uint64_t tag;
	uint64_t
	    known; /* bytes that are synced and in the index; sealed: all */
	uint64_t durable; /* bytes that were synced: at least known */
	int64_t live;     /* bytes of records that entries name; ledger only */
};

struct pack_set;
struct pack_writer;

struct pack_options {
	uint8_t uuid[16];
	uint32_t chunk_size;
	uint8_t hash;
	uint64_t data_limit; /* bytes a data pack may reach */
	uint64_t reserve;    /* bytes of the volume that ingest leaves free */
};

/**
 * packs_new(v, o): ${v} stays the caller's and outlives the set.
 * packs_free(s): closes everything; nothing is sealed or synced.
 */
struct pack_set *packs_new(struct volume *v, const struct pack_options *o);
void packs_free(struct pack_set *s);

/** packs_add(s, info): before start and by fsck: a pack that is there. */
void packs_add(struct pack_set *s, const struct pack_info *info);

/** packs_get(s, number, &info): any thread.  ERR_NOENT. */
int packs_get(struct pack_set *s, uint32_t number, struct pack_info *out);

/** packs_update(s, info): ledger only: replace state, known, durable and live.
 */
void packs_update(struct pack_set *s, const struct pack_info *info);

/** packs_remove(s, number): no entry names it any more: forget it, end its
 * handles (a read that runs finishes), unlink it, durably.  ERR_NOENT, ERR_SYS.
 */
int packs_remove(struct pack_set *s, uint32_t number);

/** packs_room(s, &avail, &reserve): bytes free on the volume, and how many of
 * them ingest leaves for deletes.  ERR_SYS. */
int packs_room(struct pack_set *s, uint64_t *avail, uint64_t *reserve);

/** packs_each(s, visit, arg): every pack by number; the set is locked. */
void packs_each(struct pack_set *s,
    void (*visit)(void *arg, const struct pack_info *info), void *arg);

/** packs_number_from(s, first, end): numbers in [first, end) are for new
 * packs; the ledger moves this on, ahead of use. */
void packs_number_from(struct pack_set *s, uint32_t first, uint32_t end);

/** packs_numbers_left(s): how many new numbers are still granted. */
uint32_t packs_numbers_left(struct pack_set *s);

/*
 * Writers.  A meta writer writes two packs of the same records at the same
 * offsets (rule 16); places name the first.  A writer may be used by any
 * number of threads; appends are in order.
 */

/**
 * pack_writer_new(s, type, domain, out, e): the file is made at the first
 * append.  pack_writer_free(w): closes the files; what is open stays open for
 * the next start to seal.
 */
struct pack_writer *pack_writer_new(
    struct pack_set *s, enum pack_type type, uint32_t domain);
void pack_writer_free(struct pack_writer *w);

/**
 * pack_append(w, r, payload, out): add a record; sets its payload_crc.  A full
 * pack is left for pack_sync to seal and a new one is begun.  The record may
 * not be named in the index before pack_sync covers it.  ERR_NOSPC, ERR_LIMIT
 * (no numbers are granted) and ERR_CLOSED (after pack_finish): nothing
 * happened, the writer is still good.  ERR_SYS: the writer is bad; what it
 * took before is good and may be synced.
 *
 * pack_append_reserved: the same, and may take what ingest leaves free: for
 * what is needed to give space back, and to end what was begun.
 */
int pack_append(struct pack_writer *w, struct record *r, const void *payload,
    struct place *out);
int pack_append_reserved(struct pack_writer *w, struct record *r,
    const void *payload, struct place *out);

/** pack_mark(w): what has been appended so far is what the next pack_sync will
 * call known: the caller makes sure that the index learns of all of it, and no
 * more, with that sync.  Packs begun later are known up to their header. */
void pack_mark(struct pack_writer *w);

/**
 * pack_sync(w): everything appended before the call is durable on return, in
 * both packs of a meta writer; packs that are full or that pack_finish asked
 * for are sealed.  One caller at a time.  A failure is final: ERR_SYS,
 * ERR_NOSPC; pack_poison must follow.
 */
int pack_sync(struct pack_writer *w);

/** pack_synced(w, visit, arg): for every pack of this writer that changed since
 * the last call: its info as the last pack_sync or pack_poison left it (state,
 * known; live is 0).  Ledger only. */
void pack_synced(struct pack_writer *w,
    void (*visit)(void *arg, const struct pack_info *info), void *arg);

/** pack_current(w): the number of the pack being written, or 0. */
uint32_t pack_current(struct pack_writer *w);

/** pack_finish(w): no more appends: the next pack_sync seals what is open. */
void pack_finish(struct pack_writer *w);

/** pack_poison(w): after a failed sync: rename every pack that was not wholly
 * synced; their infos say PACK_POISONED and their last synced length. */
int pack_poison(struct pack_writer *w);

/** pack_unsynced(w): bytes appended since the last sync began. */
uint64_t pack_unsynced(struct pack_writer *w);

/* Reading: any thread; read handles are cached. */

/**
 * pack_read(s, p, kind, id, out): the stored payload of the record at ${p}
 * into ${out} (content replaced), after its header (tag, kind, id, lengths,
 * codec) and both CRCs were checked.  A meta record that is bad is read from
 * the mirror.  ERR_CORRUPT; ERR_NOENT (no such pack); ERR_SYS.
 */
int pack_read(struct pack_set *s, const struct place *p, uint8_t kind,
    const struct id *id, struct buf *out);

/** pack_read_one(s, pack, p, kind, id, out): the same of one of two twins. */
int pack_read_one(struct pack_set *s, uint32_t pack, const struct place *p,
    uint8_t kind, const struct id *id, struct buf *out);

/**
 * pack_read_range(s, pack, off, iov, n): raw bytes into all parts, for joined
 * reads; check each record in them with pack_check.  At most IOV_MAX parts,
 * which are used up.  ERR_CORRUPT if the bytes are not all there.
 */
int pack_read_range(
    struct pack_set *s, uint32_t pack, uint64_t off, struct iovec *iov, int n);

/** pack_check(s, p, kind, id, at): the record whose header and payload lie at
 * ${at} is that one and sound.  0, ERR_CORRUPT, ERR_NOENT. */
int pack_check(struct pack_set *s, const struct place *p, uint8_t kind,
    const struct id *id, const uint8_t *at);

/*
 * Scanning, for start and fsck.
 */
struct pack_scan {
	struct pack_header header;
	bool sealed;      /* a good footer was there */
	uint64_t end;     /* behind the last valid record before the footer */
	uint64_t damaged; /* payloads whose CRC is wrong (when checked) */
	uint64_t gaps;    /* stretches without a valid header */
};

enum {
	PACK_SCAN_PAYLOAD = 1,   /* read payloads and check their CRC */
	PACK_SCAN_NO_FOOTER = 2, /* record by record even if there is one */
	PACK_SCAN_FORGET = 4     /* leave the cache as it is */
};

/**
 * pack_scan(s, number, from, flags, visit, arg, out): every record from offset
 * ${from} (0: the first) on, in order; from the footer where there is a good
 * one.  ${payload} is NULL unless PACK_SCAN_PAYLOAD; ${sound} says if its CRC
 * is right.  An unsealed pack ends at its last valid record.  In a data pack
 * only chunks, in a meta pack all but chunks are told.  ERR_CORRUPT (header of
 * the pack), ERR_UNSUP, ERR_NOENT, ERR_SYS, or what the visit returned.
 */
int pack_scan(struct pack_set *s, uint32_t number, uint64_t from, int flags,
    int (*visit)(void *arg, const struct record *r, const struct place *p,
	const uint8_t *payload, bool sound),
    void *arg, struct pack_scan *out);

/**
 * pack_seal_tail(s, number, end): after a crash: cut an unsealed pack at
 * ${end}, the end of its last valid record, write its footer, sync.  ERR_NOSPC
 * (it stays unsealed, synced up to ${end}), ERR_CORRUPT (it is shorter than
 * that, or no pack), ERR_SYS.
 */
int pack_seal_tail(struct pack_set *s, uint32_t number, uint64_t end);

#endif
