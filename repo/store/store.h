/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: chunks, nodes and manifests in packs, with an index and a ledger.
 * The face of repo/store to the rest of the daemon.  DESIGN.md 2 and 3.
 */
#ifndef REPO_STORE_STORE_H
#define REPO_STORE_STORE_H

#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/manifest.h"
#include "proto/node.h"

/* What init writes once and nothing ever changes: backstay.json. */
enum { STORE_PACKS_MAX = 1500 };

struct store_format {
	uint32_t version; /* 1 */
	uint8_t uuid[16];
	uint32_t chunk_size;
	uint8_t hash;         /* HASH_SHA256 */
	bool dedup_namespace; /* ids keyed by namespace; else one domain */
	uint64_t created;     /* a note */
	char packs[STORE_PACKS_MAX + 1]; /* URL of where they are; "": here */
};

struct volume;

struct store_options {
	/* Bytes a data pack may reach; 0: 512 MiB, or 5 % of the volume. */
	uint64_t data_limit;
	/* Bytes that ingest leaves free; 0: as many. */
	uint64_t reserve;
	uint64_t block_cache;    /* of the index; 0: default */
	unsigned batch_ms;       /* a batch closes after; 0: 2000 */
	unsigned checkpoint_ms;  /* a checkpoint is due after; 0: 60000 */
	unsigned nfs_timeout_ms; /* as volume_nfs_options.patience_ms */
	const char *index;       /* folder of the index; NULL: REPO/index */
	/* Of tests: what stands between the store and its packs; or NULL. */
	struct volume *(*wrap)(void *arg, struct volume *v);
	void *wrap_arg;
};

struct store;

/** store_init(dir, chunk_size, dedup_namespace, packs, e): make a new
 * repository in ${dir}, which is made if need be and must be empty.  ${packs}:
 * the URL of the folder of an export, made likewise, where the packs shall be;
 * or NULL. ERR_EXIST, ERR_INVAL, ERR_NOSPC, ERR_SYS, ERR_TIMEOUT. */
int store_init(const char *dir, uint32_t chunk_size, bool dedup_namespace,
    const char *packs, struct err *e);

/** store_export_memory(): bytes at most that packs on an export keep here. */
uint64_t store_export_memory(void);

/** store_init_may(dir): the folder is there, and empty but for lost+found. */
bool store_init_may(const char *dir);

/** store_format_read(dir, out, e): ERR_NOENT (no repository: the text says to
 * run init), ERR_UNSUP (newer format, with both numbers), ERR_CORRUPT. */
int store_format_read(const char *dir, struct store_format *out, struct err *e);

/**
 * store_open(dir, o, visit, arg, out, e): take the repository's lock, open the
 * index, roll the packs forward (rule 13); ${visit} sees each committed
 * manifest.  ERR_BUSY (another daemon or fsck has it: says its pid), ERR_NOENT,
 * ERR_UNSUP, ERR_CORRUPT (says to run fsck --rebuild-index), ERR_SYS.
 * store_close(s): ends the ledger after its last batch, seals what is open.
 */
int store_open(const char *dir, const struct store_options *o,
    void (*visit)(void *arg, const struct manifest *m), void *arg,
    struct store **out, struct err *e);
void store_close(struct store *s);

const struct store_format *store_format(const struct store *s);

/**
 * A session: one job's standing with the ledger.  Any number of its lanes may
 * use it at once.  It is NOT freed while a call is inside: the job joins its
 * lanes first.
 */
struct store_session;

/** store_begin(s, domain, out, e): ${domain} is that of the VM's namespace.
 * The parent is looked up after this (rule 1).  ERR_LIMIT: too many sessions;
 * ERR_CLOSED: the store is closing or had a failed sync just now. */
int store_begin(struct store *s, uint32_t domain, struct store_session **out,
    struct err *e);

/** store_end(x): without a commit: what it put and no incomplete manifest
 * holds is garbage with a stamp. */
void store_end(struct store_session *x);

/** store_have(x, kind, level, ids, n, bits): which ids may the session rely on
 * (rule 2)?  ${bits} is zeroed and set.  Holes count as had.  ERR_CLOSED (the
 * session is over), ERR_SYS. */
int store_have(struct store_session *x, uint8_t kind, uint8_t level,
    const struct id *ids, unsigned n, uint8_t *bits, struct err *e);

/* One thread's tools for putting and reading: contexts and buffers.  ${key}:
 * of the domain's ids, or NULL. */
struct store_lane;
struct store_lane *store_lane_new(struct store *s, const uint8_t *key);
void store_lane_free(struct store_lane *l);

struct store_put {
	struct id id;
	uint8_t codec;
	uint32_t raw_len;
	uint32_t stored_len;
	const uint8_t *data;
};

/** store_put_chunk(x, l, p, &stored, e): decode, check the id, append unless
 * had, queue for the ledger.  ${stored} is what it added to packs, 0 if it was
 * there.  ERR_PROTO (the bytes are not that chunk), ERR_NOSPC, ERR_LIMIT,
 * ERR_CLOSED, ERR_SYS. */
int store_put_chunk(struct store_session *x, struct store_lane *l,
    const struct store_put *p, uint64_t *stored, struct err *e);

/** store_put_node(x, l, body, len, missing, e): ERR_MISSING sets the bitmap of
 * children that must be put first (rule 5); else as store_put_chunk. */
int store_put_node(struct store_session *x, struct store_lane *l,
    const uint8_t *body, size_t len, uint8_t missing[NODE_FANOUT / 8],
    struct err *e);

/* A backup to let go of, by its random id. */
struct store_drop {
	uint8_t id[BACKUP_ID_LEN];
	bool held; /* a job builds on it: hide it now, ... */
	bool
	    hidden; /* ... and drop it again with this when the job has ended */
};

/** store_commit(x, l, m, d, n, e): check the roots against sizes (rule 18),
 * append the manifest when its whole tree is synced, wait until all is durable;
 * in the same batch the ${n} backups of ${d} are dropped: the VM's incomplete
 * ones.  Sets m->id, seq, chunk_size, and time, unless ${m} is imported: the
 * later of now and what it held.  The session is over in any case.  ERR_PROTO,
 * ERR_MISSING, ERR_NOSPC, ERR_CLOSED, ERR_SYS. */
int store_commit(struct store_session *x, struct store_lane *l,
    struct manifest *m, const struct store_drop *d, unsigned n, struct err *e);

/**
 * An interrupted backup shall not be garbage, nor a long one stop the reclaimer
 * (rule 8): store_checkpoint publishes an incomplete manifest of what the
 * session stored, drops ${d} with it (the session's last one), and moves the
 * session's start on.  ${m} says vm, host, times; it comes out as committed.
 * ERR_NOENT: there is nothing to hold yet, and nothing was done; else as
 * store_commit.  One thread a session.
 * store_checkpoint_due(x, hurry): the time for it has come (${hurry}: within
 * CHECKPOINT_HURRY_MS) or 1 GiB was stored since.  The same thread.
 * store_checkpoint_wanted(x): anything was stored since.
 */
enum { CHECKPOINT_HURRY_MS = 10000 };
int store_checkpoint(struct store_session *x, struct store_lane *l,
    struct manifest *m, const struct store_drop *d, unsigned n, struct err *e);
bool store_checkpoint_due(struct store_session *x, bool hurry);
bool store_checkpoint_wanted(struct store_session *x);

/** store_drop(s, d, n, e): delete them: durable on return, all or none.
 * ERR_NOENT (one is not there), ERR_NOSPC, ERR_CLOSED, ERR_SYS. */
int store_drop(
    struct store *s, const struct store_drop *d, unsigned n, struct err *e);

/** store_read_node(s, l, id, level, out, e): read, verify, parse.  Any lane's
 * own thread.  ERR_NOENT, ERR_CORRUPT, ERR_SYS. */
int store_read_node(struct store *s, struct store_lane *l, const struct id *id,
    unsigned level, struct node *out, struct err *e);

/** store_tree_node(s, l, root, size, level, index, out, e): the node at a
 * place of a volume's tree; out->n is 0 for a hole.  Nodes on the way are kept
 * in ${l}, so neighbours cost one read.  ERR_INVAL (no such place), and as
 * store_read_node. */
int store_tree_node(struct store *s, struct store_lane *l,
    const struct id *root, uint64_t size, unsigned level, uint64_t index,
    struct node *out, struct err *e);

/** store_tree_place(s, size, level, index, &slice, e): the first slice below a
 * place of a volume's tree.  ERR_INVAL: there is no such place. */
int store_tree_place(struct store *s, uint64_t size, unsigned level,
    uint64_t index, uint64_t *slice, struct err *e);

/* A chunk as it is stored; the data is valid during the call only. */
typedef int store_slice_visit(void *arg, uint64_t slice, uint8_t codec,
    uint32_t raw_len, const uint8_t *data, size_t len, struct err *e);

/* Bytes that joined reads take: of a lane at least, and of all lanes together
 * beyond that. */
enum { STORE_RANGE_MIN = 4 << 20, STORE_RANGES = 160 << 20 };

/**
 * A plan: in which records the slices of a range are, in the order in which
 * those lie on the volume, so that a restore goes through each pack once and
 * forward.  Fixed once made: any number of lanes read parts of it at once.
 *
 * store_plan_new(s, l, root, size, slice, n, out, e): takes up to 80 bytes a
 * slice. ERR_INVAL (no such slices), and as store_read_node. store_plan_read(s,
 * l, p, part, nparts, visit, arg, e): the part that is number ${part}, from 0
 * on, of ${nparts} alike ones, cut where reads end; as store_read_slices.
 * store_plan_node(p, level, index): a node above these slices, the plan's,
 * without children if it is a hole; NULL: not in there.
 */
struct store_plan;
int store_plan_new(struct store *s, struct store_lane *l, const struct id *root,
    uint64_t size, uint64_t slice, uint32_t n, struct store_plan **out,
    struct err *e);
int store_plan_read(struct store *s, struct store_lane *l,
    const struct store_plan *p, unsigned part, unsigned nparts,
    store_slice_visit *visit, void *arg, struct err *e);
const struct node *store_plan_node(
    const struct store_plan *p, unsigned level, uint64_t index);
void store_plan_free(struct store_plan *p);

/** store_read_slices(s, l, root, size, slice, n, visit, arg, e): the chunks of
 * ${n} slices, sorted by pack and offset and read in joined reads (rule 24),
 * each checked by its record's CRC; holes are not visited.  A visit's failure
 * ends it.  ERR_CORRUPT names slice and pack; as store_read_node. */
int store_read_slices(struct store *s, struct store_lane *l,
    const struct id *root, uint64_t size, uint64_t slice, uint32_t n,
    store_slice_visit *visit, void *arg, struct err *e);

/*
 * Damage (rule 21): chunks and nodes whose record a read found bad.  They stay
 * so until somebody puts them again.
 *
 * store_ndamaged(s): how many there are.  store_damage_settle(s): what reads
 * found before this call counts from here on.
 * store_any_damaged(s, ids, n): is one of them damaged?  True also where that
 * cannot be told.
 */
uint64_t store_ndamaged(struct store *s);
void store_damage_settle(struct store *s);
bool store_any_damaged(struct store *s, const struct id *ids, unsigned n);

/**
 * store_damage(s, l, root, size, until_ms, visit, arg, e): the slices of a
 * volume that lie under damaged ids, as runs in order.  Costs nothing while
 * nothing is damaged, else reads the nodes that no call has read since damage
 * was last found.  ERR_TIMEOUT: now_ms() passed ${until_ms} (0: no bound);
 * ERR_LIMIT: too much is damaged to tell; ERR_SYS, or what the visit returned.
 */
typedef int store_run_visit(void *arg, uint64_t slice, uint64_t n);
int store_damage(struct store *s, struct store_lane *l, const struct id *root,
    uint64_t size, uint64_t until_ms, store_run_visit *visit, void *arg,
    struct err *e);

/** store_suspect(s, id): its record reads well and holds something else:
 * that is damage, too. */
void store_suspect(struct store *s, const struct id *id);

struct store_status {
	uint64_t stored; /* bytes in packs */
	uint64_t live;   /* bytes of records that entries name, meta twice */
	uint64_t unique_raw; /* bytes of distinct chunks before compression */
	uint64_t npacks;
	uint64_t index_bytes;
	uint64_t entries;
	uint64_t avail; /* bytes free on the volume */
	uint64_t total;
	uint64_t batches;
	unsigned sessions; /* backups that run */
};

/** store_space(s, &avail, &total, &reserve): bytes of the volume, free and in
 * all, and how many of the free ones backups leave so.  May be asked often.
 * ERR_SYS. */
int store_space(
    struct store *s, uint64_t *avail, uint64_t *total, uint64_t *reserve);

/** store_status(s, out): unique_raw is kept by the ledger. */
int store_status(struct store *s, struct store_status *out);

/** store_waiting_ms(s, &ms): how long the oldest change waits to become
 * durable; 0: there is none.  Waits for nothing: ERR_BUSY: ask again. */
int store_waiting_ms(struct store *s, uint64_t *ms);

#endif
