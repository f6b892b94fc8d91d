/* SPDX-License-Identifier: Apache-2.0 */
/* notes: lines for a person, about what a job did otherwise than asked. */
#ifndef AGENT_LIVE_NOTES_H
#define AGENT_LIVE_NOTES_H

enum { NOTES_MAX = 2048 };

/** notes_add(notes, fmt, ...): one more line behind those in ${notes}, of
 * NOTES_MAX bytes; what there is no room for is left away. */
void notes_add(char *notes, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
