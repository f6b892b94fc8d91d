/* SPDX-License-Identifier: Apache-2.0 */
/* words: figures as views show them.  Pure; ${out} has WORDS_LEN bytes. */
#ifndef REPO_CONSOLE_WORDS_H
#define REPO_CONSOLE_WORDS_H

#include <stdint.h>

enum { WORDS_LEN = 24 };

/** words_time(s, out): "0:07", "12:34", "1:02:03", "3d 04h". */
char *words_time(uint64_t s, char *out);

/** words_eta(s, out): the same, or "-" for FEED_NO_ETA and what never ends. */
char *words_eta(uint64_t s, char *out);

/** words_rate(n, out): "88.2 MiB/s"; "-" for 0. */
char *words_rate(uint64_t n, char *out);

/** words_percent(part, whole, out): "52 %"; 100 only when all is there; "-"
 * where there is no whole. */
char *words_percent(uint64_t part, uint64_t whole, char *out);

/** words_clock(time, out): "07:12:05" of "2026-11-21T07:12:05Z" (UTC). */
char *words_clock(const char *time, char *out);

#endif
