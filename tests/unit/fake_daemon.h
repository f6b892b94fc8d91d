/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_daemon: a daemon that breaks its word, which no real one can be made to
 * do.  It keeps chunks and nodes in memory and speaks the protocol over a local
 * socket; ${fault} says what it does wrong.  One at a time.
 */
#ifndef TESTS_UNIT_FAKE_DAEMON_H
#define TESTS_UNIT_FAKE_DAEMON_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/chunk.h"
#include "proto/manifest.h"
#include "proto/node.h"

enum fault {
	FAULT_NONE,
	FAULT_LOSE_ONCE,   /* says once that a leaf's chunks are missing */
	FAULT_LOSE_ALWAYS, /* and goes on saying so */
	FAULT_LOSE_INNER,  /* says that leaves are missing */
	FAULT_LOSE_INNER_ONCE,
	FAULT_PARENT_DAMAGED, /* TREE of the parent fails */
	FAULT_TREE_PLACE,     /* TREE at or below one place fails */
	FAULT_TREE_TAIL,      /* a node of TREE is wrong about its end */
	FAULT_SILENT,         /* no answer to QUERY */
	FAULT_NO_SPACE,       /* PUT fails */
	FAULT_WRONG_ANSWER,   /* HAVE to nothing that was asked */
	FAULT_BYTE,           /* one byte of one DATA is another */
	FAULT_TWICE,          /* each DATA comes twice, and counts once */
	FAULT_BOTH_PARTS,     /* each DATA is in all parts */
	FAULT_NOT_SENT,       /* a DATA does not come */
	FAULT_NO_PART,        /* a DATA comes only if it is asked for alone */
	FAULT_OTHER_SLICE,    /* a DATA comes that was not asked for */
	FAULT_OTHER_NODE,     /* a node is another one */
	FAULT_HANGUP,         /* the lane ends after some READs */
	FAULT_ENDED,          /* progress says that the job was ended */
	FAULT_LANES           /* only one lane may attach */
};

enum { CS = CHUNK_SIZE_MIN, KEPT_MAX = 49152, LANES_MAX = 1024, NAME_LEN = 64 };

struct kept {
	struct id id;
	uint8_t codec;
	uint32_t raw_len;
	uint32_t len;
	uint8_t *data;
};

struct kept_list {
	struct kept kept[KEPT_MAX];
	unsigned n;
	uint16_t slot[4 * KEPT_MAX]; /* by id: number + 1 */
};

struct fake_daemon {
	pthread_mutex_t mu;  /* guards all below but ${fault} */
	uint32_t cs;         /* set between jobs, as the next */
	const char *damaged; /* of the parent's volumes, as in begin */
	uint64_t bad_first;  /* FAULT_TREE_PLACE: slices that it is about */
	uint64_t bad_end;
	unsigned bad_level; /* and up to which level */
	struct kept_list chunks;
	struct kept_list nodes;
	struct manifest backup;
	struct manifest coming; /* what begin asked for */
	bool has_backup;
	bool mute; /* knows no "prepare" */
	unsigned nattached;
	unsigned nprepared;
	unsigned nprogress; /* calls */
	unsigned nputs;     /* chunks that came */
	unsigned nnode_frames;
	unsigned ntrees; /* TREE frames */
	unsigned nlost;
	unsigned nreads;
	atomic_int fault;
	atomic_bool ending;
	int fd;
	char dir[NAME_LEN];
	char socket[NAME_LEN + 16];
	pthread_t listener;
	pthread_t lane[LANES_MAX];
	unsigned nlanes; /* the listener's */
};

extern struct fake_daemon d;

/** fake_start(state), fake_stop(state): set up and tear down of a case.  It
 * fails if anything but "disk" and "out" is left in the folder. */
int fake_start(void **state);
int fake_stop(void **state);

/** fake_in_dir(name): of a file in the case's folder; static. */
char *fake_in_dir(const char *name);

#endif
