/* SPDX-License-Identifier: Apache-2.0 */
/* summary: what a job did, at its end. */
#ifndef AGENT_SUMMARY_H
#define AGENT_SUMMARY_H

#include <stdint.h>

#include "proto/base/json.h"
#include "proto/manifest.h"

/** summary_speed(size, ms, out): "4.0 GiB in 12.3 s (333.0 MiB/s)"; 64 bytes.
 */
char *summary_speed(uint64_t size, uint64_t ms, char *out);

/** summary_line(what, n): one line on stdout, "  read  1.2 GiB". */
void summary_line(const char *what, uint64_t n);

/** summary_notes(notes): an array of its lines, the caller's. */
json_t *summary_notes(const char *notes);

#endif
