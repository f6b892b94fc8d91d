/* SPDX-License-Identifier: Apache-2.0 */
/* address: listening TCP sockets from what a person writes. */
#ifndef REPO_SERVE_ADDRESS_H
#define REPO_SERVE_ADDRESS_H

#include <stdint.h>

#include "proto/base/err.h"

/**
 * address_listen(text, fd, port, e): "ADDR:PORT", "[ADDR]:PORT", or "PORT" or
 * ":PORT" for every address of this machine.  Port 0: a free one.  ${port} is
 * the one it became.  ERR_INVAL, ERR_BUSY (somebody has it), ERR_SYS.
 */
int address_listen(const char *text, int *fd, uint16_t *port, struct err *e);

/** address_print(fd, out): where that socket listens; room for 64 bytes. */
char *address_print(int fd, char *out);

#endif
