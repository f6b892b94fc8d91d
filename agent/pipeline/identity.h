/* SPDX-License-Identifier: Apache-2.0 */
/* identity: this host's key, and the host keys it trusts. */
#ifndef AGENT_PIPELINE_IDENTITY_H
#define AGENT_PIPELINE_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/err.h"

/*
 * The folder is $BACKSTAY_AGENT_DIR, else /etc/backstay-agent for root, else
 * ~/.config/backstay-agent.
 */
struct identity {
	char *dir;
	char *key;         /* DIR/id_ed25519 */
	char *pub;         /* DIR/id_ed25519.pub */
	char *known_hosts; /* DIR/known_hosts */
};

/** identity_init(id, e): find the names.  ERR_NOENT: no home to be found. */
int identity_init(struct identity *id, struct err *e);
void identity_fini(struct identity *id);

/** identity_make(id, comment, e): the folder (0700) and a new key in it.
 * ${comment} NULL: USER@HOST.  ERR_EXIST, ERR_DENIED, ERR_SYS. */
int identity_make(
    const struct identity *id, const char *comment, struct err *e);

/** identity_exists(id): there is a key. */
bool identity_exists(const struct identity *id);

/** identity_line(id, out, e): the line of the public key, the caller's.
 * ERR_NOENT says how to make one; ERR_SYS. */
int identity_line(const struct identity *id, char **out, struct err *e);

/** identity_hostname(out, len): this host's name, as a key may be called. */
void identity_hostname(char *out, size_t len);

#endif
