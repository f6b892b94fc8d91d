/* SPDX-License-Identifier: Apache-2.0 */
/* standstill: processes that are made to answer nothing. */
#ifndef TESTS_UNIT_STANDSTILL_H
#define TESTS_UNIT_STANDSTILL_H

#include <sys/types.h>

/** standstill(pid): SIGSTOP, and wait until none of its threads runs: on a busy
 * machine they go on for a while behind the signal, and answer. */
void standstill(pid_t pid);

#endif
