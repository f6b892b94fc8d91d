/* SPDX-License-Identifier: Apache-2.0 */
/* top_keys: what the keys of `top` do.  Pure, but for the call that comes of
 * some. */
#ifndef REPO_CONSOLE_TOP_KEYS_H
#define REPO_CONSOLE_TOP_KEYS_H

#include "repo/console/top_view.h"

/* Keys that are no characters; all others are as typed. */
enum top_key {
	TOP_KEY_UP = 1000,
	TOP_KEY_DOWN,
	TOP_KEY_PAGE_UP,
	TOP_KEY_PAGE_DOWN,
	TOP_KEY_HOME,
	TOP_KEY_END,
	TOP_KEY_ESCAPE,
	TOP_KEY_BACK,
	TOP_KEY_ENTER
};

/* What is to be asked of the daemon. */
struct top_wish {
	json_t *ask; /* the caller's; NULL: nothing */
	char done[TOP_SAID_MAX];
};

/** top_key(d, ui, rows, key, wish): on a screen of ${rows}.  False: quit. */
bool top_key(const struct top_data *d, struct top_ui *ui, unsigned rows,
    int key, struct top_wish *wish);

#endif
