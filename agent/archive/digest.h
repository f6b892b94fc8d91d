/* SPDX-License-Identifier: Apache-2.0 */
/* digest: SHA-256 of a member as it goes by, and of the blocks of a raw one.
 * FORMAT.md 10.  One thread. */
#ifndef AGENT_ARCHIVE_DIGEST_H
#define AGENT_ARCHIVE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

enum {
	DIGEST_LEN = 32,
	DIGEST_TEXT = 2 * DIGEST_LEN + 1,
	DIGEST_TEXT_MAX = 2 * 64 + 1,
	DIGEST_BLOCK = 65536
};

struct digest;

struct digest *digest_new(void);

/** digest_named(name): by others' manifests: "SHA1", "SHA256", "SHA512"; NULL:
 * another one.  Its text has up to DIGEST_TEXT_MAX bytes. */
struct digest *digest_named(const char *name);
void digest_add(struct digest *d, const void *data, size_t len);

/** digest_block(d, number, data, len): one of DIGEST_BLOCK bytes, or the short
 * last one; in order.  All-zero ones are passed over, as are those that nobody
 * tells.  digest_blocks(d, off, data, len): all from a multiple of
 * DIGEST_BLOCK on. */
void digest_block(
    struct digest *d, uint64_t number, const void *data, size_t len);
void digest_blocks(
    struct digest *d, uint64_t off, const void *data, size_t len);

/** digest_text(d, out): as hex digits; DIGEST_TEXT bytes.  Once. */
char *digest_text(struct digest *d, char *out);
void digest_free(struct digest *d);

#endif
