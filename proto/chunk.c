/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/chunk.h"

#include <stdlib.h>

#include <openssl/evp.h>

#include "proto/base/buf.h"
#include "proto/base/log.h"

enum { BLOCK_SHA256 = 64, BLOCK_SHA512 = 128 };

/*
 * One digest; with a key, the HMAC of RFC 2104 from contexts that have taken
 * in the padded key already.  EVP_MAC would re-initialise through its provider
 * for each chunk; copying a digest context is a memcpy.
 */
struct digest {
	EVP_MD *md;
	EVP_MD_CTX *work;
	EVP_MD_CTX *inner; /* NULL: no key */
	EVP_MD_CTX *outer;
};

struct hasher {
	struct digest chunk;
	struct digest node;
};

bool
chunk_size_ok(uint64_t size)
{
	return size >= CHUNK_SIZE_MIN && size <= CHUNK_SIZE_MAX &&
	    (size & (size - 1)) == 0;
}

uint64_t
chunk_nslices(uint64_t size, uint32_t chunk_size)
{
	return size / chunk_size + (size % chunk_size != 0);
}

uint32_t
chunk_len(uint64_t size, uint32_t chunk_size, uint64_t slice)
{
	uint64_t left = size - slice * chunk_size;

	return left < chunk_size ? (uint32_t)left : chunk_size;
}

static void
must(bool ok, const char *what)
{
	if (ok)
		return;
	log_error("libcrypto: %s failed", what);
	abort();
}

static EVP_MD_CTX *
keyed_new(EVP_MD *md, const uint8_t *key, size_t block, uint8_t pad)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	uint8_t k[BLOCK_SHA512];

	memset(k, pad, sizeof(k));
	for (size_t i = 0; i < HASH_KEY_LEN; i++)
		k[i] ^= key[i];
	must(c != NULL && EVP_DigestInit_ex2(c, md, NULL) == 1 &&
		EVP_DigestUpdate(c, k, block) == 1,
	    "keying a digest");
	return c;
}

static void
digest_init(
    struct digest *d, const char *name, size_t block, const uint8_t *key)
{
	d->md = EVP_MD_fetch(NULL, name, NULL);
	d->work = EVP_MD_CTX_new();
	must(d->md != NULL && d->work != NULL, name);
	if (key != NULL) {
		d->inner = keyed_new(d->md, key, block, 0x36);
		d->outer = keyed_new(d->md, key, block, 0x5c);
	}
}

static void
digest_run(struct digest *d, const void *data, size_t len, struct id *out)
{
	if (d->inner == NULL) {
		must(EVP_DigestInit_ex2(d->work, d->md, NULL) == 1 &&
			EVP_DigestUpdate(d->work, data, len) == 1 &&
			EVP_DigestFinal_ex(d->work, out->b, NULL) == 1,
		    "a digest");
		return;
	}
	must(EVP_MD_CTX_copy_ex(d->work, d->inner) == 1 &&
		EVP_DigestUpdate(d->work, data, len) == 1 &&
		EVP_DigestFinal_ex(d->work, out->b, NULL) == 1 &&
		EVP_MD_CTX_copy_ex(d->work, d->outer) == 1 &&
		EVP_DigestUpdate(d->work, out->b, ID_LEN) == 1 &&
		EVP_DigestFinal_ex(d->work, out->b, NULL) == 1,
	    "a keyed digest");
}

static void
digest_fini(struct digest *d)
{
	EVP_MD_CTX_free(d->work);
	EVP_MD_CTX_free(d->inner);
	EVP_MD_CTX_free(d->outer);
	EVP_MD_free(d->md);
}

struct hasher *
hasher_new(const uint8_t *key)
{
	struct hasher *h = xcalloc(1, sizeof(*h));

	digest_init(&h->chunk, "SHA256", BLOCK_SHA256, key);
	digest_init(&h->node, "SHA512-256", BLOCK_SHA512, key);
	return h;
}

void
hasher_chunk(struct hasher *h, const void *data, size_t len, struct id *out)
{
	digest_run(&h->chunk, data, len, out);
}

void
hasher_node(struct hasher *h, const void *body, size_t len, struct id *out)
{
	digest_run(&h->node, body, len, out);
}

void
hasher_free(struct hasher *h)
{
	if (h == NULL)
		return;
	digest_fini(&h->chunk);
	digest_fini(&h->node);
	free(h);
}
