/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plans: what the lanes of a restore read together.  Whoever asks first for a
 * range of slices, or for a node above it, makes its plan, the others wait for
 * it; the last ranges that were asked for are kept.
 */
#ifndef REPO_SERVE_PLANS_H
#define REPO_SERVE_PLANS_H

#include "proto/msg.h"
#include "repo/store/store.h"

struct plans;
struct plan_use;

/** plans_new(), plans_free(p): nobody uses one.  NULL is nothing. */
struct plans *plans_new(void);
void plans_free(struct plans *p);

/** plans_get(p, s, l, v, m, out, e): the plan of volume ${v} and the slices
 * that ${m} asks for, the caller's until plans_put.  Any thread, with a lane
 * of its own.  As store_plan_new. */
int plans_get(struct plans *p, struct store *s, struct store_lane *l,
    const struct manifest_volume *v, const struct msg_read *m,
    struct plan_use **out, struct err *e);

/** plans_node(p, s, l, v, t, out, e): what ${t} asks for, of volume ${v}, whose
 * root is no hole: from the plan of the slices that will be asked for with it;
 * as store_tree_node. */
int plans_node(struct plans *p, struct store *s, struct store_lane *l,
    const struct manifest_volume *v, const struct msg_tree *t, struct node *out,
    struct err *e);
const struct store_plan *plans_plan(const struct plan_use *u);
void plans_put(struct plans *p, struct plan_use *u);

#endif
