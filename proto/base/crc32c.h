/* SPDX-License-Identifier: Apache-2.0 */
/* crc32c: CRC-32C (Castagnoli), as pack records carry it. */
#ifndef PROTO_BASE_CRC32C_H
#define PROTO_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/** crc32c(crc, data, len): extend ${crc} (0 to begin).  Any thread. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

#endif
