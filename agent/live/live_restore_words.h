/* SPDX-License-Identifier: Apache-2.0 */
/*
 * words: one option of QEMU's command line, "driver=file,node-name=x" or the
 * same as a JSON object.  Keys are dotted: "file.filename".  Pure.
 */
#ifndef AGENT_LIVE_LIVE_RESTORE_WORDS_H
#define AGENT_LIVE_LIVE_RESTORE_WORDS_H

#include <stdbool.h>

/** words_get(arg, key): the caller's, or NULL if there is none.  Key "" is the
 * first word where that has no key: "virtio-blk-pci" of a device. */
char *words_get(const char *arg, const char *key);

/** words_is(arg, key, value): does it have that value? */
bool words_is(const char *arg, const char *key, const char *value);

/** words_set(arg, key, value): a new option, the caller's, where ${key} has
 * that value instead or besides; NULL: where it is not.  ${arg} itself if
 * that is no option of this kind. */
char *words_set(const char *arg, const char *key, const char *value);

#endif
