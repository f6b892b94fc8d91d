/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hours: a rate that depends on the hour.  Pure.
 *
 *	200M
 *	200M, Mon-Fri 08:00-18:00 50M, Sat-Sun 0
 *
 * Parts, with commas between: [DAYS] [FROM-TO] RATE.  DAYS: Mon, Mon-Fri, or
 * Mon..Fri; hours from 00:00 to 24:00, also over midnight (22:00-06:00), and
 * what comes after it belongs to the day before.  RATE: bytes a second, such as
 * 50M; 0: no limit.  Of the parts that fit the last one counts; where none does
 * there is no limit.
 */
#ifndef REPO_SETTINGS_HOURS_H
#define REPO_SETTINGS_HOURS_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"

#define HOURS_TAKES                                                            \
	"bytes a second from 1K to 1T such as 200M, or 0; others at some "     \
	"hours with commas: 200M, Mon-Fri 08:00-18:00 50M"
#define HOURS_RATE_MAX ((uint64_t)1 << 40)

enum { HOURS_PARTS_MAX = 16, HOURS_RATE_MIN = 1024 };

struct hours_part {
	uint64_t rate; /* 0: no limit */
	uint8_t days;  /* bit 0: Monday */
	uint16_t from; /* minutes; both 0: all day */
	uint16_t to;
};

struct hours {
	unsigned n; /* 0: no limit, ever */
	struct hours_part part[HOURS_PARTS_MAX];
};

/** hours_parse(text, out): ERR_INVAL: it is no HOURS_TAKES; ${out} is as it
 * was. */
int hours_parse(const char *text, struct hours *out);

/** hours_print(h, out): append it, so that it parses as the same. */
void hours_print(const struct hours *h, struct buf *out);

/** hours_at(h, day, minute): the rate of that minute of the day (0: Monday);
 * 0: none. */
uint64_t hours_at(const struct hours *h, unsigned day, unsigned minute);

/** hours_now(h): that of the wall clock, in local time.  Any thread. */
uint64_t hours_now(const struct hours *h);

bool hours_equal(const struct hours *a, const struct hours *b);

#endif
