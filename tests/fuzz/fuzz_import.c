/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as an archive: members are walked in bounded time and memory, no
 * name leads out, no member gives more than it says, and what is kept of it has
 * the bytes that were read.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/archive/arcin.h"
#include "agent/archive/disk_name.h"
#include "agent/archive/head.h"
#include "agent/archive/ova.h"
#include "agent/archive/spool.h"
#include "proto/base/buf.h"
#include "proto/base/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	INPUT_MAX = 1 << 16,
	MEMBERS_MAX = 32,
	READ_MAX = 4 << 20,
	WINDOW = 65536
};

static void
check_name(const struct arcin_member *m)
{
	char name[NAME_PART_MAX + 1];
	const char *p = m->name;

	if (*p == 0 || *p == '/')
		abort();
	for (; *p != 0; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			abort();
	for (p = m->name; p != NULL; p = strchr(p + 1, '/')) {
		const char *part = *p == '/' ? p + 1 : p;

		if (strncmp(part, "..", 2) == 0 &&
		    (part[2] == '/' || part[2] == 0))
			abort();
	}
	disk_name("ns/vm", m->name, name, sizeof(name));
	if (name[0] != 0 && !name_part_ok(name))
		abort();
}

/* By its map, as a spool does it; some of it.  False: it ended with an error.
 */
static bool
read_member(struct arcin *a)
{
	static uint8_t window[WINDOW];
	const struct arcin_member *m = arcin_member(a);
	uint64_t off = 0, got = 0, len;
	struct err e = { 0 };
	bool hole;

	while (got < READ_MAX && (!m->has_size || off < m->size)) {
		if (arcin_map(a, off, &len, &hole, &e) != 0)
			return false;
		if (len == 0)
			abort();
		if (m->has_size && len > m->size - off)
			len = m->size - off;
		if (!hole) {
			len = len < WINDOW ? len : WINDOW;
			if (arcin_read(a, window, (size_t)len, off, &e) != 0)
				return false;
			got += len;
		} else {
			got++;
		}
		off += len;
	}
	return true;
}

/* Small ones come out of the spool as they were. */
static bool
keep_member(struct arcin *a)
{
	struct err e = { 0 };
	struct source *s;
	struct spool sp;
	bool ok;

	spool_init(&sp, "/tmp");
	ok = spool_member(&sp, a, "vda", &e) == 0;
	if (ok && spool_open(&sp, 0, DISK_NAME_RAW, &s, &e) == 0) {
		if (s->size != arcin_member(a)->size)
			abort();
		source_close(s);
	} else if (ok) {
		abort();
	}
	if (!ok && e.text[0] == 0)
		abort();
	spool_fini(&sp);
	return ok;
}

static void
read_head(struct arcin *a)
{
	static struct head h;
	struct buf text = { 0 };
	struct err e;

	if (arcin_text(a, HEAD_LEN_MAX, &text, &e) == 0 &&
	    head_parse(text.data, text.len, &h, &e) == 0 &&
	    h.n > MANIFEST_VOLUMES_MAX)
		abort();
	buf_fini(&text);
}

/* What is of an OVA. */
struct others {
	struct ova ova;
	struct spool disks;
};

/* Neither: it is for the others.  1: taken; -1: refused. */
static int
take_other(struct others *o, struct arcin *a)
{
	const struct arcin_member *m = arcin_member(a);
	char name[NAME_PART_MAX + 1];
	enum disk_name_kind kind =
	    disk_name("ns/vm", m->name, name, sizeof(name));
	struct err e = { 0 };
	int rc;

	if (kind >= DISK_NAME_OVF)
		rc = ova_member(&o->ova, a, kind, &e);
	else if (kind == DISK_NAME_VMDK && m->has_size && m->size <= INPUT_MAX)
		rc = spool_member(&o->disks, a, name, &e);
	else
		return 0;
	if (rc != 0 && e.text[0] == 0)
		abort();
	return rc == 0 ? 1 : -1;
}

static void
check_others(struct others *o)
{
	struct err e = { 0 };

	if (ova_check(&o->ova, &o->disks, &e) != 0 && e.text[0] == 0)
		abort();
	ova_fini(&o->ova);
	spool_fini(&o->disks);
}

static void
walk_with(struct arcin *a, struct others *o)
{
	struct err e = { 0 };

	for (int i = 0; i < MEMBERS_MAX && arcin_next(a, &e) == 0; i++) {
		const struct arcin_member *m = arcin_member(a);
		int other;

		check_name(m);
		other = take_other(o, a);
		if (other < 0)
			break;
		if (other > 0)
			continue;
		if (strcmp(m->name, HEAD_FIRST) == 0)
			read_head(a);
		else if (m->has_size && m->size > 0 && m->size <= INPUT_MAX) {
			if (!keep_member(a))
				break;
		} else if (!read_member(a)) {
			break;
		}
		/* What is left of it would be read to its end. */
		if (arcin_member(a)->has_size &&
		    arcin_member(a)->size > READ_MAX)
			break;
	}
}

static void
walk(struct arcin *a)
{
	static struct others o;

	memset(&o, 0, sizeof(o));
	spool_init(&o.disks, "/tmp");
	walk_with(a, &o);
	check_others(&o);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arcin *a;
	struct err e;
	int fd;

	if (size > INPUT_MAX)
		return -1;
	fd = memfd_create("archive", MFD_CLOEXEC);
	if (fd == -1 || pwrite_full(fd, data, size, 0) == -1)
		abort();
	if (arcin_open(fd, "archive", &a, &e) == 0 && a != NULL) {
		walk(a);
		arcin_close(a);
	}
	close(fd);
	return 0;
}
