/* SPDX-License-Identifier: Apache-2.0 */
/* measure: what the daemon tells by HTTP: numbers, and whether it is well. */
#ifndef REPO_SERVE_MEASURE_H
#define REPO_SERVE_MEASURE_H

#include "repo/serve/serve.h"

enum {
	HEALTH_LEDGER_MS = 120000, /* a change waits for longer */
	HEALTH_SCRUBS = 2          /* intervals without a scrub */
};

/** measure_health(srv, out): append a line for each thing that is wrong; 0:
 * all is well.  Any thread; waits for nothing. */
unsigned measure_health(struct serve *srv, struct buf *out);

/** measure_metrics(srv, out): append all that is measured (metrics.h). */
void measure_metrics(struct serve *srv, struct buf *out);

/** measure_start(srv, address, out, e): serve both at that address.  ERR_INVAL,
 * ERR_BUSY, ERR_SYS.  Where ${address} is "", ${out} is NULL.
 * measure_stop(h): NULL is nothing. */
struct http;
int measure_start(
    struct serve *srv, const char *address, struct http **out, struct err *e);
void measure_stop(struct http *h);

#endif
