/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index: id -> place, references, stamp; derived from the packs.  The only
 * user of RocksDB.  STORE.md 1 (rule 9), FORMAT.md 5.
 *
 * Reads come from any thread without locks.  Batches are the ledger's alone.
 * A read error is never "missing": ERR_SYS ends the job that met it.
 */
#ifndef REPO_STORE_INDEX_H
#define REPO_STORE_INDEX_H

#include "repo/store/pack.h"

enum {
	INDEX_DAMAGED = 1, /* a read found its record bad; refs stay */
	INDEX_TAIL = 2, /* a node or chunk that is or ends in a short slice */
	/* With INDEX_DAMAGED: a rebuild could not read it, so that its
	 * children's counts lack what it would add. */
	INDEX_UNCOUNTED = 4
};

/* What is known of an id.  Also the operand of the one merge operator. */
struct index_entry {
	struct place place; /* pack 0: this operand brings no place */
	int64_t refs;       /* in an operand: the difference */
	uint64_t stamp;     /* in an operand: the batch; 0: leave it */
	uint8_t kind;       /* RECORD_CHUNK or RECORD_NODE; 0: unknown */
	uint8_t level;      /* of a node */
	uint8_t flags;      /* set; in an operand: to set */
	uint8_t clear;      /* operand only: flags to clear */
};

enum { INDEX_ENTRY_LEN = 40 /* at most */ };

/* The pack of a record that a rebuild found nowhere: no pack. */
#define INDEX_PACK_LOST 0xffffffffu

/**
 * index_merge(into, op): apply the later operand ${op} to ${into}: a place, if
 * it brings one, with kind, level and codec; refs added; stamp the greater;
 * flags cleared, then set.  Associative; used by the store and by RocksDB.
 */
void index_merge(struct index_entry *into, const struct index_entry *op);

/** index_present(e): has a place and no negative count; else it is missing. */
bool index_present(const struct index_entry *e);

/** index_entry_print(e, out): its length. */
size_t index_entry_print(const struct index_entry *e, uint8_t *out);
int index_entry_parse(const uint8_t *in, size_t len, struct index_entry *out);

struct index;

struct index_options {
	uint64_t block_cache; /* bytes */
	uint64_t memtables;   /* bytes */
	bool create;          /* an empty one if none is there */
	bool read_only;
};

/**
 * index_open(path, o, out, e): ERR_NOENT (none there, and no create),
 * ERR_CORRUPT (RocksDB refuses it: rebuild), ERR_UNSUP (a newer program's),
 * ERR_BUSY (another process has it open), ERR_SYS.
 * index_close(x): NULL is nothing.  index_destroy(path): remove it all
 * (only RocksDB's own files).
 */
int index_open(const char *path, const struct index_options *o,
    struct index **out, struct err *e);
void index_close(struct index *x);
int index_destroy(const char *path, struct err *e);

/** index_get(x, id, e): 0; ERR_NOENT (missing, also if !index_present, in
 * which case ${e} holds what is there); ERR_SYS. */
int index_get(struct index *x, const struct id *id, struct index_entry *e);

/** index_get_many(x, ids, n, out): out[i].place.pack is 0 where missing. */
int index_get_many(
    struct index *x, const struct id *ids, size_t n, struct index_entry *out);

/** index_each(x, visit, arg): every entry in order of ids, from a snapshot.
 * A visit's result other than 0 ends it and is returned. */
int index_each(struct index *x,
    int (*visit)(void *arg, const struct id *id, const struct index_entry *e),
    void *arg);

/** index_dying_each(x, from, below, visit, arg): the dying keys with a stamp
 * in [from, below), oldest first.  Starting at the stamp that the last pass
 * ended at spares it what was removed before. */
int index_dying_each(struct index *x, uint64_t from, uint64_t below,
    int (*visit)(void *arg, uint64_t stamp, const struct id *id), void *arg);

/* A manifest that the index knows. */
struct index_backup {
	struct id id; /* as its record's */
	struct place place;
	bool
	    hidden; /* deleted while a job built on it: its roots still count */
	const void *manifest; /* its record's payload; during the visit only */
	size_t len;
};

/** index_damaged_each(x, visit, arg): the ids whose entry is flagged damaged,
 * as index_each. */
int index_damaged_each(
    struct index *x, int (*visit)(void *arg, const struct id *id), void *arg);

/** index_packs_each: the table of packs.  index_backups_each: every manifest.
 * index_backup_get(x, id, b, data): that one; ${data} takes its payload.
 * ERR_NOENT. */
int index_packs_each(struct index *x,
    int (*visit)(void *arg, const struct pack_info *info), void *arg);
int index_backups_each(struct index *x,
    int (*visit)(void *arg, const struct index_backup *b), void *arg);
int index_backup_get(struct index *x, const struct id *id,
    struct index_backup *b, struct buf *data);

/* Numbers that go with the index: 0 if never set. */
enum index_number {
	INDEX_PUBLISHED = 1, /* last published batch */
	INDEX_NUMBERS_END,   /* pack numbers below are used up or granted */
	INDEX_NEEDS_FSCK,    /* a count was seen that cannot be */
	INDEX_SEQUENCE,      /* highest backup sequence given */
	INDEX_UNIQUE_RAW     /* bytes of distinct chunks, before compression */
};
int index_number(struct index *x, enum index_number which, uint64_t *out);

/** index_uuid_get/set: of the repository it belongs to.  ERR_NOENT. */
int index_uuid_get(struct index *x, uint8_t uuid[16]);

struct index_size {
	uint64_t bytes;   /* on disk */
	uint64_t entries; /* estimate */
};
int index_size(struct index *x, struct index_size *out);

/*
 * One WriteBatch over all column families.  Merges and removals of one id
 * apply in the order given.
 */
struct index_batch;

struct index_batch *index_batch_new(struct index *x);
void index_batch_merge(
    struct index_batch *b, const struct id *id, const struct index_entry *op);
void index_batch_remove(struct index_batch *b, const struct id *id);
void index_batch_dying(
    struct index_batch *b, uint64_t stamp, const struct id *id);
void index_batch_undying(
    struct index_batch *b, uint64_t stamp, const struct id *id);
/* Goes with the entry's flag, so that what is damaged is found without reading
 * every entry. */
void index_batch_damaged(
    struct index_batch *b, const struct id *id, bool damaged);
void index_batch_pack(struct index_batch *b, const struct pack_info *info);
void index_batch_pack_remove(struct index_batch *b, uint32_t number);
void index_batch_backup(
    struct index_batch *b, const struct index_backup *backup);
void index_batch_backup_remove(struct index_batch *b, const struct id *id);
void index_batch_number(
    struct index_batch *b, enum index_number which, uint64_t v);
void index_batch_uuid(struct index_batch *b, const uint8_t uuid[16]);

/**
 * index_batch_write(b, sync): all of it or nothing, once.  Durable on return
 * if ${sync}.  ERR_SYS: what is durable is unknown; the daemon must end.
 */
int index_batch_write(struct index_batch *b, bool sync);
void index_batch_free(struct index_batch *b);

#endif
