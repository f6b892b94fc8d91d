/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A save image, as virsh save writes them: a header, the domain's XML, and
 * then what QEMU reads: a stream, or (from libvirt 11 on) mapped memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/image/imgfile.h"
#include "agent/live/live_restore_impl.h"
#include "agent/sink/target.h"
#include "proto/base/bytes.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

enum {
	SAVE_VERSION = 2,
	SAVE_RAW = 0,
	SAVE_SPARSE = 6,
	/* The XML may be edited in place: room to grow. */
	SAVE_ALIGN = 64 << 10,
	COPY = 1 << 20
};

/* In the byte order of the host that writes it; ours are x86. */
struct save_header_disk {
	uint8_t magic[16];
	uint8_t version[4];
	uint8_t data_len[4]; /* of the XML and what is free behind it */
	uint8_t was_running[4];
	uint8_t format[4];
	uint8_t cookie_offset[4];
	uint8_t unused[56];
};
_Static_assert(sizeof(struct save_header_disk) == 92, "libvirt's");

static uint64_t
write_head(struct lr *r, struct target *t, struct err *e)
{
	bool sparse = r->facts.form == RAM_FORM_MAPPED;
	uint64_t align = sparse ? RAM_BLOCK_ALIGN : SAVE_ALIGN;
	struct save_header_disk h = { .magic = "LibvirtQemudSav" };
	char *xml = lr_xml_text(r, false);
	uint64_t len = sizeof(h) + strlen(xml) + 1;
	int rc;

	len = (len + SAVE_ALIGN / 2 + align - 1) / align * align;
	h.magic[15] = 'e';
	put_le32(h.version, SAVE_VERSION);
	put_le32(h.data_len, (uint32_t)(len - sizeof(h)));
	put_le32(h.was_running, r->o->paused ? 0 : 1);
	put_le32(h.format, sparse ? SAVE_SPARSE : SAVE_RAW);
	rc = outfile_resize(&t->out, len, e);
	if (rc == 0)
		rc = outfile_write(&t->out, &h, sizeof(h), 0, e);
	if (rc == 0)
		rc = outfile_write(&t->out, xml, strlen(xml) + 1, sizeof(h), e);
	xmlFree(xml);
	return rc == 0 ? len : 0;
}

static int
open_volume(const struct lr *r, const char *name, int *out, struct err *e)
{
	char *path = xasprintf("%s/%s", r->ram_tmp, name);
	int rc = 0;

	*out = open(path, O_RDONLY | O_CLOEXEC);
	if (*out == -1)
		rc = err_set(e, errno == ENOENT ? ERR_NOENT : ERR_SYS,
		    "the backup's %s: %m", name);
	free(path);
	return rc;
}

static int
copy_all(int from, int to, struct err *e)
{
	uint8_t *b = xmalloc(COPY);
	uint64_t at = 0;
	ssize_t n;
	int rc = 0;

	while ((n = pread_full(from, b, COPY, at)) > 0 && rc == 0) {
		for (ssize_t done = 0, w; done < n && rc == 0; done += w) {
			w = write(to, b + done, (size_t)(n - done));
			if (w <= 0) {
				w = 0;
				rc = imgfile_write_error(e, "save image");
			}
		}
		at += (uint64_t)n;
	}
	if (n == -1)
		rc = err_set(e, log_sys("state: read"), "cannot read: %m");
	free(b);
	return rc;
}

static int
write_memory(struct lr *r, int out, uint64_t at, struct err *e)
{
	int ram = -1, state = -1, rc = 0;

	if (lseek(out, (off_t)at, SEEK_SET) == -1)
		return imgfile_write_error(e, r->o->save);
	if (r->facts.form == RAM_FORM_MAPPED ||
	    r->facts.form == RAM_FORM_PLACED)
		rc = open_volume(r, "ram0", &ram, e);
	if (rc == 0 && r->facts.form != RAM_FORM_MAPPED)
		rc = open_volume(r, "state", &state, e);
	if (rc != 0)
		goto done;
	switch (r->facts.form) {
	case RAM_FORM_MAPPED: rc = lr_mapped_move(ram, out, at, e); break;
	case RAM_FORM_PLACED:
		rc = ramstream_compose(&r->facts.layout, ram, state, out, e);
		break;
	case RAM_FORM_SHARED: rc = lr_plain_compose(r, state, out, e); break;
	case RAM_FORM_RAW:
		/* Its stream says so, and libvirt would not expect that. */
		rc = r->facts.ignore_shared
		    ? err_set(e, ERR_UNSUP,
			  "this memory was saved in a way that libvirt does "
			  "not load; --start does")
		    : copy_all(state, out, e);
		break;
	}
done:
	if (ram != -1)
		close(ram);
	if (state != -1)
		close(state);
	return rc;
}

int
lr_save(struct lr *r, struct err *e)
{
	struct target t;
	uint64_t at;
	int rc;

	lr_xml_finish(r);
	rc = target_open(&t, r->o->save, r->o->force, e);
	if (rc != 0)
		return rc;
	at = write_head(r, &t, e);
	rc = at == 0 ? e->code : write_memory(r, t.fd, at, e);
	if (rc == 0)
		rc = target_finish(&t, e);
	target_close(&t);
	if (rc == 0)
		lr_give_away(r->o->save);
	return rc;
}
