/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/base/crc32c.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "proto/base/bytes.h"

static uint32_t table[8][256]; /* set once, by prepare */
static bool has_instruction;   /* set once, by prepare */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
prepare(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int k = 0; k < 8; k++)
			c = c >> 1 ^ (0x82f63b78 & (0 - (c & 1)));
		table[0][i] = c;
	}
	for (uint32_t i = 0; i < 256; i++)
		for (int k = 1; k < 8; k++)
			table[k][i] = table[k - 1][i] >> 8 ^
			    table[0][table[k - 1][i] & 255];
#ifdef __x86_64__
	has_instruction = __builtin_cpu_supports("sse4.2");
#endif
}

/* Eight bytes a step, eight look-ups that do not wait for one another. */
static uint32_t
by_table(uint32_t c, const uint8_t *p, size_t len)
{
	for (; len >= 8; p += 8, len -= 8) {
		uint32_t lo = get_le32(p) ^ c, hi = get_le32(p + 4);

		c = table[7][lo & 255] ^ table[6][lo >> 8 & 255] ^
		    table[5][lo >> 16 & 255] ^ table[4][lo >> 24] ^
		    table[3][hi & 255] ^ table[2][hi >> 8 & 255] ^
		    table[1][hi >> 16 & 255] ^ table[0][hi >> 24];
	}
	for (; len > 0; p++, len--)
		c = c >> 8 ^ table[0][(c ^ *p) & 255];
	return c;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t
by_instruction(uint32_t c, const uint8_t *p, size_t len)
{
	uint64_t c64 = c;

	for (; len >= 8; p += 8, len -= 8)
		c64 = __builtin_ia32_crc32di(c64, get_le64(p));
	c = (uint32_t)c64;
	for (; len > 0; p++, len--)
		c = __builtin_ia32_crc32qi(c, *p);
	return c;
}
#endif

uint32_t
crc32c(uint32_t crc, const void *data, size_t len)
{
	pthread_once(&once, prepare);
#ifdef __x86_64__
	if (has_instruction)
		return ~by_instruction(~crc, data, len);
#endif
	return ~by_table(~crc, data, len);
}
