/* SPDX-License-Identifier: Apache-2.0 */
/* facts: what a restore must know about saved memory: volume "ram-facts". */
#ifndef AGENT_RAM_FACTS_H
#define AGENT_RAM_FACTS_H

#include "agent/ram/ram.h"
#include "agent/ram/ramstream.h"

enum { RAM_TEXT_MAX = 64, RAM_FACTS_LEN_MAX = 1 << 16 };

/* How the state volume is fed to QEMU. */
enum ram_form {
	RAM_FORM_SHARED, /* a stream; memory lies in the backends' files */
	RAM_FORM_PLACED, /* a stream around the pages that lie in "ram0" */
	RAM_FORM_MAPPED, /* "ram0" is QEMU's file with everything */
	RAM_FORM_RAW     /* a stream with everything in it */
};

struct ram_fact_backend {
	char id[RAM_TEXT_MAX];
	uint64_t size;
	char volume[NAME_PART_MAX + 1];
};

struct ram_facts {
	enum ram_form form;
	char qemu[RAM_TEXT_MAX];    /* version */
	char machine[RAM_TEXT_MAX]; /* with its version: "pc-q35-7.2" */
	bool ignore_shared;         /* the capability that the stream wants */
	unsigned nbackends;         /* of form SHARED */
	struct ram_fact_backend backend[RAM_BACKENDS_MAX];
	struct ramstream_layout layout; /* of form PLACED */
};

/** ram_facts_print(f, out): append it as JSON. */
void ram_facts_print(const struct ram_facts *f, struct buf *out);

/** ram_facts_parse(data, len, out, e): every field checked.  ERR_PROTO,
 * ERR_UNSUP (a newer form). */
int ram_facts_parse(
    const void *data, size_t len, struct ram_facts *out, struct err *e);

#endif
