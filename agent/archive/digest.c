/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/archive/digest.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <strings.h>

#include "proto/base/buf.h"
#include "proto/base/bytes.h"
#include "proto/base/io.h"

struct digest {
	EVP_MD_CTX *md;
};

static struct digest *
new_of(const EVP_MD *how)
{
	struct digest *d = xcalloc(1, sizeof(*d));

	d->md = EVP_MD_CTX_new();
	if (d->md == NULL || EVP_DigestInit_ex(d->md, how, NULL) != 1)
		abort(); /* these are always there */
	return d;
}

struct digest *
digest_new(void)
{
	return new_of(EVP_sha256());
}

struct digest *
digest_named(const char *name)
{
	if (strcasecmp(name, "SHA256") == 0)
		return new_of(EVP_sha256());
	if (strcasecmp(name, "SHA1") == 0)
		return new_of(EVP_sha1());
	if (strcasecmp(name, "SHA512") == 0)
		return new_of(EVP_sha512());
	return NULL;
}

void
digest_add(struct digest *d, const void *data, size_t len)
{
	if (EVP_DigestUpdate(d->md, data, len) != 1)
		abort();
}

void
digest_block(struct digest *d, uint64_t number, const void *data, size_t len)
{
	uint8_t n[8];

	if (bytes_zero(data, len))
		return;
	put_le64(n, number);
	digest_add(d, n, sizeof(n));
	digest_add(d, data, len);
}

void
digest_blocks(struct digest *d, uint64_t off, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len > 0) {
		size_t n = len < DIGEST_BLOCK ? len : DIGEST_BLOCK;

		digest_block(d, off / DIGEST_BLOCK, p, n);
		p += n;
		off += n;
		len -= n;
	}
}

char *
digest_text(struct digest *d, char *out)
{
	uint8_t sum[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	if (EVP_DigestFinal_ex(d->md, sum, &len) != 1)
		abort();
	return hex(sum, len, out);
}

void
digest_free(struct digest *d)
{
	if (d == NULL)
		return;
	EVP_MD_CTX_free(d->md);
	free(d);
}
