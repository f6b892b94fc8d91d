/* SPDX-License-Identifier: Apache-2.0 */
/* scrub_pack: read one pack, and do what is to be done about it. */
#ifndef REPO_RECLAIM_SCRUB_PACK_H
#define REPO_RECLAIM_SCRUB_PACK_H

#include "repo/store/pack.h"
#include "repo/store/store.h"

struct scrub_pack_options {
	const uint8_t *key; /* of its ids, or NULL */
	bool hash;          /* the key is known: check ids, too */
	/* After each record.  false: stop now. */
	bool (*pace)(void *arg, uint64_t read);
	void *arg;
};

struct scrub_pack_result {
	uint64_t damaged;
	uint64_t healed;
};

/**
 * scrub_pack(s, info, o, out): every record in it that an entry names; of a
 * meta pack, both it and its twin.  ${out} is added to.  0, whatever was found;
 * ERR_CLOSED: told to stop; ERR_NOSPC (nothing could be healed), ERR_SYS.
 */
int scrub_pack(struct store *s, const struct pack_info *info,
    const struct scrub_pack_options *o, struct scrub_pack_result *out);

#endif
