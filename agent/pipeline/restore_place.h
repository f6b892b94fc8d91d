/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restore_place: where the volumes of a restore go that swaps disks, and
 * whether what is there is what was backed up.  Main thread.
 */
#ifndef AGENT_PIPELINE_RESTORE_PLACE_H
#define AGENT_PIPELINE_RESTORE_PLACE_H

#include "agent/pipeline/restore.h"
#include "agent/pipeline/restore_lane.h"

/**
 * places_choose(o, out, e): the places of all disks that are asked for, or of
 * all there are, into ${out}, whose manifest is there.  What an interrupted
 * restore left of them is brought to its end first.  ERR_NOENT (no such disk;
 * the backup does not say where it was), ERR_DENIED (it was at a place that is
 * not among ${own}), ERR_INVAL, ERR_UNSUP, and as swap_recover.
 */
int places_choose(
    const struct restore_options *o, struct restore_result *out, struct err *e);

/**
 * places_check(o, m, p, s, e): what is there, which ${s} has locked, is the
 * disk that was backed up, or was named.  ERR_EXIST: it is another; ERR_SYS.
 */
int places_check(const struct restore_options *o, const struct manifest *m,
    struct restore_place *p, const struct sink *s, struct err *e);

/**
 * places_room(r, out, e): there is room for all that may be written beside the
 * old disks.  That is found from the upper levels of the trees, and so may be
 * more than is written in the end.  ERR_NOSPC; what the lane says.
 */
int places_room(
    struct restore *r, const struct restore_result *out, struct err *e);

#endif
