/* SPDX-License-Identifier: Apache-2.0 */
/* damage: how the commands show what is damaged. */
#ifndef REPO_CONSOLE_DAMAGE_H
#define REPO_CONSOLE_DAMAGE_H

#include <jansson.h>

/** damage_print(d): the "damage" of an answer, on stdout. */
void damage_print(const json_t *d);

#endif
