/* SPDX-License-Identifier: Apache-2.0 */
/* inflate: one compressed qcow2 cluster unpacked.  Pure. */
#ifndef AGENT_QCOW2_INFLATE_H
#define AGENT_QCOW2_INFLATE_H

#include <stddef.h>
#include <stdint.h>

#include "agent/qcow2/header.h"

/**
 * qcow2_inflate(how, packed, packed_len, out, len): exactly ${len} bytes from
 * the beginning of ${packed}, whose rest is padding.  ERR_CORRUPT.
 */
int qcow2_inflate(enum qcow2_compression how, const uint8_t *packed,
    size_t packed_len, uint8_t *out, size_t len);

#endif
