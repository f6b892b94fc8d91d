/* SPDX-License-Identifier: Apache-2.0 */
/*
 * interrupt: SIGINT and SIGTERM as something to look at.  Before
 * interrupt_init they end the process, and there is nothing to clean up.
 */
#ifndef AGENT_PIPELINE_INTERRUPT_H
#define AGENT_PIPELINE_INTERRUPT_H

#include <stdbool.h>

/** interrupt_init(): the main thread, before others start: block them. */
void interrupt_init(void);

/** interrupt_fd(): readable when one came; -1 before interrupt_init. */
int interrupt_fd(void);

/** interrupt_pending(): one came, now or earlier.  Any thread. */
bool interrupt_pending(void);

#endif
