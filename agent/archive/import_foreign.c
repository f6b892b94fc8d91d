/* SPDX-License-Identifier: Apache-2.0 */
/* Images as they are, and archives that hold such. */
#include "agent/archive/import.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/archive/disk_name.h"
#include "agent/archive/ova.h"
#include "agent/archive/spool.h"
#include "agent/image/imgfile.h"
#include "agent/image/vmdk.h"
#include "agent/source/source_mem.h"
#include "proto/base/buf.h"

enum { DEFINITION_MAX = 1 << 20 };

/* What is to be sent; the sources are its own until then. */
struct foreign {
	const struct import_options *o;
	struct backup_input in[MANIFEST_VOLUMES_MAX];
	unsigned n;
	uint64_t changed; /* of the images, the last */
	struct spool spool;
	struct buf definition;
	bool has_definition;
	struct ova ova;
};

/* Files that a raw disk is taken for where nobody says what they are. */
static const struct {
	const char *magic;
	size_t len;
	const char *what;
} magics[] = {
	{ "\x1f\x8b", 2, "compressed with gzip" },
	{ "\x28\xb5\x2f\xfd", 4, "compressed with zstd" },
	{ "\xfd"
	  "7zXZ",
	    5, "compressed with xz" },
	{ "BZh", 3, "compressed with bzip2" },
	{ "7z\xbc\xaf\x27\x1c", 6, "a 7z archive" },
	{ "PK\x03\x04", 4, "a zip archive" },
	{ "Rar!", 4, "a rar archive" },
	{ "KDMV", 4, "a VMDK image" },
	{ "COWD", 4, "a VMDK image" },
	{ "# Disk DescriptorFile", 21, "a VMDK image" },
	{ "vhdxfile", 8, "a VHDX image" },
	{ "conectix", 8, "a VHD image" },
	{ "<<< ", 4, "a VDI image" },
	{ "!<arch>\n", 8, "an ar archive" },
	{ "070701", 6, "a cpio archive" },
	{ "QED\0", 4, "a QED image" },
};

static bool
is_packed(const char *name)
{
	static const char *const ends[] = { ".tar", ".tgz", ".zip", ".ova",
		".gz", ".xz", ".zst", ".bz2", ".7z", ".tzst", ".txz" };
	size_t n = strlen(name);

	for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		size_t len = strlen(ends[i]);

		if (n > len && strcasecmp(name + n - len, ends[i]) == 0)
			return true;
	}
	return false;
}

/* Nobody says that it is raw: it has to look like a disk. */
static int
refuse_other_kinds(struct source *s, const char *name, struct err *e)
{
	uint8_t start[32];
	size_t n = s->size < sizeof(start) ? (size_t)s->size : sizeof(start);
	int rc = source_read(s, start, n, 0, e);

	for (unsigned i = 0; rc == 0 && i < sizeof(magics) / sizeof(magics[0]);
	     i++)
		if (n >= magics[i].len &&
		    memcmp(start, magics[i].magic, magics[i].len) == 0)
			rc = err_set(e, ERR_UNSUP,
			    "%s: is %s, and would be taken for a raw disk: "
			    "make it a raw or qcow2 image; raw:FILE is taken "
			    "as it is",
			    name, magics[i].what);
	if (rc == 0 && (is_packed(name) || s->size % 512 != 0))
		rc = err_set(e, ERR_UNSUP,
		    "%s: is no archive that can be read, and no disk by its "
		    "%s; raw:FILE is taken as it is",
		    name, is_packed(name) ? "name" : "size");
	return rc;
}

static int
add(struct foreign *f, const char *name, const char *kind, struct source *s,
    const char *of, struct err *e)
{
	if (f->n == MANIFEST_VOLUMES_MAX) {
		source_close(s);
		return err_set(e, ERR_LIMIT, "a backup has at most %d volumes",
		    MANIFEST_VOLUMES_MAX);
	}
	if (s->size == 0) {
		source_close(s);
		return err_set(e, ERR_INVAL, "%.200s: is empty", of);
	}
	f->in[f->n++] =
	    (struct backup_input){ .name = name, .kind = kind, .source = s };
	return 0;
}

/* A local one: what is on an NFS export is for those who mount it. */
static bool
is_vmdk(const char *path)
{
	char magic[VMDK_MAGIC_LEN];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	bool is = fd != -1 &&
	    pread(fd, magic, sizeof(magic), 0) == sizeof(magic) &&
	    memcmp(magic, VMDK_MAGIC, sizeof(magic)) == 0;

	if (fd != -1)
		close(fd);
	return is;
}

static int
add_image(struct foreign *f, const char *name, const char *spec, struct err *e)
{
	const char *path = source_path(spec);
	struct source *s;
	struct stat st;
	int rc;

	if (stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
	    st.st_mtime >= (time_t)ARCIN_MTIME_MIN &&
	    (uint64_t)st.st_mtime > f->changed)
		f->changed = (uint64_t)st.st_mtime;
	rc = path == spec && is_vmdk(path) ? source_open_vmdk(path, path, &s, e)
					   : source_open(spec, &s, e);
	if (rc == 0 && path == spec && strcmp(s->format, "raw") == 0 &&
	    !is_vmdk(path)) {
		rc = refuse_other_kinds(s, path, e);
		if (rc != 0)
			source_close(s);
	}
	/* Damage there is not damage of the store. */
	if (rc == ERR_CORRUPT)
		rc = e->code = ERR_INVAL;
	return rc != 0 ? rc : add(f, name, "disk", s, path, e);
}

static int
add_definition(struct foreign *f, const char *path, struct err *e)
{
	char name[NAME_PART_MAX + 1];
	bool ovf = disk_name("", path, name, sizeof(name)) == DISK_NAME_OVF;
	struct source *s;
	bool whole;
	int rc;

	rc = source_file_copy(
	    path, ovf ? "ovf" : "libvirt-xml", DEFINITION_MAX, &whole, &s, e);
	return rc != 0 ? rc : add(f, "definition", "definition", s, path, e);
}

static int
images(struct foreign *f, char *one, struct err *e)
{
	const struct import_options *o = f->o;
	int rc = 0;

	if (o->from != NULL) {
		enum disk_name_kind kind = disk_name(
		    o->backup.vm, source_path(o->from), one, NAME_PART_MAX + 1);

		if (kind >= DISK_NAME_DEFINITION &&
		    source_path(o->from) == o->from)
			return err_set(e, ERR_UNSUP,
			    "%.200s: is no disk by its name: say the disks, "
			    "too",
			    o->from);
		return add_image(f, one[0] != 0 ? one : "vda", o->from, e);
	}
	for (unsigned i = 0; rc == 0 && i < o->ndisks; i++)
		rc = add_image(f, o->disk[i].name, o->disk[i].spec, e);
	if (rc == 0 && o->definition != NULL)
		rc = add_definition(f, o->definition, e);
	return rc;
}

static int
member(struct foreign *f, struct arcin *a, struct err *e)
{
	const struct arcin_member *m = arcin_member(a);
	char name[NAME_PART_MAX + 1];
	enum disk_name_kind kind;
	int rc;

	kind = disk_name(f->o->backup.vm, m->name, name, sizeof(name));
	if (kind >= DISK_NAME_OVF)
		return ova_member(&f->ova, a, kind, e);
	/* Who makes OVAs calls disks as he likes. */
	if (kind == DISK_NAME_VMDK && name[0] == 0)
		snprintf(name, sizeof(name), "disk%u", f->spool.n + 1);
	if (kind == DISK_NAME_DEFINITION) {
		if (f->has_definition)
			return arcin_fail(a, ERR_INVAL, e,
			    "is a second definition of the machine");
		f->has_definition = true;
		return arcin_text(a, DEFINITION_MAX, &f->definition, e);
	}
	if (kind == DISK_NAME_OTHER)
		return arcin_fail(a, ERR_UNSUP, e,
		    "is neither a disk (.qcow2, .raw, .img, .vmdk) nor a "
		    "definition (.xml, .ovf): nothing of this archive is "
		    "taken");
	if (name[0] == 0)
		return arcin_fail(
		    a, ERR_INVAL, e, "no volume can be called like that");
	if (m->mtime > f->changed)
		f->changed = m->mtime;
	rc = spool_member(&f->spool, a, name, e);
	return rc;
}

static int
spooled(struct foreign *f, struct err *e)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < f->spool.n; i++) {
		const struct spool_file *s = &f->spool.file[i];
		char name[NAME_PART_MAX + 1];
		enum disk_name_kind kind =
		    disk_name(f->o->backup.vm, s->member, name, sizeof(name));
		struct source *src;

		rc = spool_open(&f->spool, i, kind, &src, e);
		if (rc != 0)
			break;
		if (kind == DISK_NAME_QCOW2 &&
		    strcmp(src->format, "qcow2") != 0)
			rc = err_set(e, ERR_INVAL, "%.200s: is no qcow2 image",
			    s->member);
		else if (kind == DISK_NAME_DISK &&
		    strcmp(src->format, "raw") == 0)
			rc = refuse_other_kinds(src, s->member, e);
		else if (kind == DISK_NAME_RAW && src->size % 512 != 0)
			rc = err_set(e, ERR_INVAL,
			    "%.200s: no disk has %llu bytes", s->member,
			    (unsigned long long)src->size);
		if (rc != 0)
			source_close(src);
		else
			rc = add(f, s->name, "disk", src, s->member, e);
	}
	if (rc == 0 && f->definition.len > 0 && f->ova.descriptor.len > 0)
		rc = err_set(e, ERR_INVAL,
		    "%.200s: has two definitions of the machine", f->o->from);
	if (rc == 0 && f->ova.descriptor.len > 0)
		rc = add(f, "definition", "definition",
		    source_mem_new(
			f->ova.descriptor.data, f->ova.descriptor.len, "ovf"),
		    "the descriptor", e);
	if (rc == 0 && f->definition.len > 0)
		rc = add(f, "definition", "definition",
		    source_mem_new(
			f->definition.data, f->definition.len, "libvirt-xml"),
		    "the definition", e);
	return rc;
}

static int
members(struct foreign *f, struct arcin *a, struct err *e)
{
	int rc;

	do {
		rc = member(f, a, e);
		if (rc == 0)
			rc = arcin_next(a, e);
	} while (rc == 0);
	if (rc != ERR_NOENT)
		return rc;
	if (f->spool.n == 0)
		return err_set(
		    e, ERR_INVAL, "%.200s: has no disks", f->o->from);
	rc = ova_check(&f->ova, &f->spool, e);
	return rc != 0 ? rc : spooled(f, e);
}

static int
send(struct foreign *f, struct backup_result *out, struct err *e)
{
	struct backup_options o = f->o->backup;
	struct backup *b;
	int rc;

	o.time = f->o->time;
	if (o.time == 0 && f->changed <= (uint64_t)time(NULL))
		o.time = f->changed;
	rc = backup_open(&o, &b, e);
	if (rc != 0)
		return rc;
	rc = backup_send(b, f->in, f->n, "", NULL, NULL, out, e);
	f->n = 0;
	backup_close(b);
	return rc;
}

int
import_foreign(const struct import_options *o, struct arcin *a,
    struct backup_result *out, struct err *e)
{
	struct foreign *f = xcalloc(1, sizeof(*f));
	char one[NAME_PART_MAX + 1];
	int rc;

	f->o = o;
	spool_init(&f->spool, o->spool != NULL ? o->spool : SPOOL_DIR);
	rc = a != NULL ? members(f, a, e) : images(f, one, e);
	if (rc == 0)
		rc = send(f, out, e);
	while (f->n > 0)
		source_close(f->in[--f->n].source);
	spool_fini(&f->spool);
	ova_fini(&f->ova);
	buf_fini(&f->definition);
	free(f);
	return rc;
}
