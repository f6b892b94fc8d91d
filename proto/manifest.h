/* SPDX-License-Identifier: Apache-2.0 */
/* manifest: the record of one backup.  FORMAT.md 4. */
#ifndef PROTO_MANIFEST_H
#define PROTO_MANIFEST_H

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/json.h"
#include "proto/chunk.h"
#include "proto/name.h"

enum {
	BACKUP_ID_LEN = 16,
	MANIFEST_VOLUMES_MAX = 64,
	MANIFEST_NOTE_MAX = 255,
	MANIFEST_CHECKPOINT_MAX = 32,
	MANIFEST_PATH_MAX = 1023,
	MANIFEST_IDENTITY_MAX = 127,
	MANIFEST_ORIGINS_MAX = 8192 /* bytes of all of them, with their ends */
};

struct manifest_volume {
	char name[NAME_PART_MAX + 1];
	char kind[16]; /* "disk", "ram", "state", "nvram", "definition", ... */
	char format[16];       /* of the source: "raw", "qcow2" */
	uint32_t cluster_size; /* of a qcow2 source, or 0 */
	uint16_t origin;       /* see manifest_path; 0: none */
	uint64_t size;
	struct id root; /* a node, or the hole of an all-zero or empty volume */
};

/* What the making of a backup cost, in bytes. */
struct manifest_stats {
	uint64_t read;         /* from the source */
	uint64_t holes;        /* zero, never read or sent */
	uint64_t unchanged;    /* as in the parent */
	uint64_t deduplicated; /* in the store already */
	uint64_t sent;         /* over the wire, as encoded */
	uint64_t stored;       /* new in packs */
	uint64_t duration_ms;
};

struct manifest {
	uint8_t id[BACKUP_ID_LEN]; /* random: what a tombstone names */
	char vm[VM_NAME_MAX + 1];
	uint64_t seq;          /* the daemon's; orders a VM's backups */
	uint64_t time;         /* the daemon's, seconds since 1970 */
	uint64_t agent_time;   /* a note */
	uint64_t repo_time;    /* by which it grows old; 0: as ${time} */
	uint64_t locked_until; /* by the same time: nobody deletes it before;
				  0: was never locked */
	char host[MANIFEST_NOTE_MAX + 1]; /* name of the key that made it */
	char consistency[16];             /* "offline", "crash", ... */
	char checkpoint[MANIFEST_CHECKPOINT_MAX + 1]; /* since when the guest
							 notes what changes;
							 "": nothing does */
	bool imported; /* ${time} is its own, and was said by who took it in */
	bool incomplete; /* holds what an unfinished backup stored (STORE.md 8)
			  */
	char
	    unusual[16]; /* what stands out in what it changed, a word; or "" */
	bool has_parent;
	uint8_t parent[BACKUP_ID_LEN];
	uint32_t chunk_size;
	uint32_t domain; /* whose ids */
	struct manifest_stats stats;
	unsigned nvolumes;
	struct manifest_volume volume[MANIFEST_VOLUMES_MAX];
	/* Behind the volumes, so that who keeps many manifests keeps what is
	 * used of both alone. */
	unsigned norigins;
	char origins[MANIFEST_ORIGINS_MAX];
};

/**
 * manifest_from_json(j, out, e): checks every field, names and sizes.
 * ERR_PROTO, ERR_UNSUP (another format number).
 * manifest_to_json(m): the caller's (json_decref).
 */
int manifest_from_json(const json_t *j, struct manifest *out, struct err *e);
json_t *manifest_to_json(const struct manifest *m);

/** manifest_stats_from_json / _to_json: the member "stats" alone, as commit and
 * list have it. */
int manifest_stats_from_json(
    const json_t *j, struct manifest_stats *out, struct err *e);
json_t *manifest_stats_to_json(const struct manifest_stats *s);

/** manifest_parse / manifest_print: the same from and to bytes.  Parsing what
 * was printed and printing it again gives the same bytes. */
int manifest_parse(
    const void *data, size_t len, struct manifest *out, struct err *e);
void manifest_print(const struct manifest *m, struct buf *out);

/** manifest_volume_find(m, name): its number, or -1. */
int manifest_volume_find(const struct manifest *m, const char *name);

/**
 * manifest_path(m, v), manifest_identity(m, v): the file or device that volume
 * ${v} of ${m} was read from on its host, and what tells it from another of
 * that name; "": not recorded.
 * manifest_set_origin(m, v, path, identity, e): ${path} begins with a slash.
 * Once a volume.  ERR_INVAL; ERR_LIMIT: no room is left in ${m}.
 */
const char *manifest_path(
    const struct manifest *m, const struct manifest_volume *v);
const char *manifest_identity(
    const struct manifest *m, const struct manifest_volume *v);
int manifest_set_origin(struct manifest *m, struct manifest_volume *v,
    const char *path, const char *identity, struct err *e);

/** manifest_age_from(m): since when it grows old, by the repository's time. */
uint64_t manifest_age_from(const struct manifest *m);

/** manifest_name(m, out): "VM@TIME"; VM_NAME_MAX + TIME_TEXT_LEN + 2 bytes. */
char *manifest_name(const struct manifest *m, char *out);

#endif
