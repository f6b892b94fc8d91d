/* SPDX-License-Identifier: Apache-2.0 */
/* history_view: what each backup of a VM changed and stored.  Pure. */
#ifndef REPO_CONSOLE_HISTORY_VIEW_H
#define REPO_CONSOLE_HISTORY_VIEW_H

#include <jansson.h>

#include "repo/console/canvas.h"

/** history_rows(list): rows of ${list}, of the call "list", with its heads and
 * what is said below. */
unsigned history_rows(const json_t *list);

/** history_draw(c, list): oldest first. */
void history_draw(struct canvas *c, const json_t *list);

/** history_to_json(list): the figures alone; the caller's. */
json_t *history_to_json(const json_t *list);

#endif
