/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of things: the definition first, as it says where disks were and
 * who must not run; then all that can be checked; then the files, all of which
 * are verified before one of them has its name; then the machine, which goes on
 * last of all.
 */
#include "agent/live/live_restore.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/live/live_restore_impl.h"
#include "agent/pipeline/interrupt.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

static const char *const forms[] = {
	[RAM_FORM_SHARED] = "shared",
	[RAM_FORM_PLACED] = "placed",
	[RAM_FORM_MAPPED] = "mapped",
	[RAM_FORM_RAW] = "raw",
};

void
lr_new_uuid(char *out)
{
	uint8_t b[16];
	char h[33];

	random_bytes(b, sizeof(b));
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	hex(b, sizeof(b), h);
	snprintf(out, LR_UUID_LEN + 1, "%.8s-%.4s-%.4s-%.4s-%.12s", h, h + 8,
	    h + 12, h + 16, h + 20);
}

void
lr_new_mac(char *out)
{
	uint8_t b[3];

	random_bytes(b, sizeof(b));
	snprintf(
	    out, LR_MAC_LEN + 1, "52:54:00:%02x:%02x:%02x", b[0], b[1], b[2]);
}

struct lr_disk *
lr_find_disk(struct lr *r, const char *name)
{
	for (unsigned i = 0; i < r->ndisks; i++)
		if (strcmp(r->disk[i].name, name) == 0)
			return &r->disk[i];
	return NULL;
}

/* As a backup makes names of what guests call their disks. */
struct lr_disk *
lr_add_disk(struct lr *r, const char *name)
{
	struct lr_disk *d = &r->disk[r->ndisks];
	char base[NAME_PART_MAX - 3], whole[NAME_PART_MAX + 1];
	size_t n = 0;

	if (r->ndisks == MANIFEST_VOLUMES_MAX)
		return NULL;
	for (; *name != 0 && n < sizeof(base) - 1; name++) {
		if (isalnum((unsigned char)*name) ||
		    (n != 0 && strchr("._-", *name) != NULL))
			base[n++] = *name;
		else if (n != 0)
			base[n++] = '-';
	}
	base[n] = 0;
	snprintf(whole, sizeof(whole), "%s", n == 0 ? "disk" : base);
	for (unsigned i = 2; lr_find_disk(r, whole) != NULL; i++)
		snprintf(
		    whole, sizeof(whole), "%s-%u", n == 0 ? "disk" : base, i);
	memset(d, 0, sizeof(*d));
	memcpy(d->name, whole, sizeof(d->name));
	r->ndisks++;
	return d;
}

char *
lr_moved(const struct lr *r, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash == NULL ? path : slash + 1;

	if (r->o->dir != NULL)
		return xasprintf("%s/%s", r->home, name);
	return xasprintf("%.*s/%s-%s", slash == NULL ? 1 : (int)(slash - path),
	    slash == NULL ? "." : path, r->name, name);
}

/* One small volume, read and gone again. */
static int
fetch_small(struct lr *r, const char *backup, const char *name, struct buf *out,
    struct err *e)
{
	const char *tmp = getenv("TMPDIR");
	char *dir =
	    xasprintf("%s/backstay-restore-XXXXXX", tmp == NULL ? "/tmp" : tmp);
	struct restore_disk disk = { .name = name, .format = "raw" };
	struct restore_options ro = { .job = r->o->job,
		.backup = backup,
		.disk = &disk,
		.ndisks = 1,
		.quiet = true };
	char *path;
	int rc;

	if (mkdtemp(dir) == NULL) {
		rc = err_set(e, log_sys("%s", dir), "%s: %m", dir);
		free(dir);
		return rc;
	}
	path = xasprintf("%s/%s", dir, name);
	disk.path = path;
	ro.job.lanes = 1;
	rc = restore_run(&ro, &r->out->restore, e);
	if (rc == 0)
		rc = lr_read(path, DEFINITION_MAX, out, e);
	unlink(path);
	rmdir(dir);
	free(path);
	free(dir);
	return rc;
}

static int
fetch_definition(struct lr *r, struct err *e)
{
	const struct manifest *m = &r->out->restore.manifest;
	struct buf text = { 0 };
	const char *format;
	int rc;

	rc = fetch_small(r, r->o->backup, "definition", &text, e);
	if (rc == ERR_NOENT && m->nvolumes > 0)
		rc = err_set(e, ERR_UNSUP,
		    "%s is of disks alone, and does not say what machine they "
		    "belong to: restore them with --disk",
		    r->o->backup);
	if (rc != 0)
		goto done;
	snprintf(r->vm, sizeof(r->vm), "%s", m->vm);
	format = m->volume[manifest_volume_find(m, "definition")].format;
	if (strcmp(format, "libvirt-xml") == 0)
		rc = lr_xml_parse(r, &text, e);
	else if (strcmp(format, "qemu-args") == 0)
		rc = lr_args_parse(r, &text, e);
	else
		rc = err_set(e, ERR_UNSUP,
		    "a machine's definition of kind \"%s\"", format);
	r->ram = rc == 0 && !r->o->no_ram &&
	    manifest_volume_find(m, "ram-facts") != -1;
done:
	buf_fini(&text);
	return rc;
}

static int
check_options(const struct lr *r, struct err *e)
{
	const struct live_restore_options *o = r->o;

	if (r->args != NULL && o->save != NULL)
		return err_set(e, ERR_UNSUP,
		    "the backup is of a QEMU without libvirt: of that no save "
		    "image for libvirt can be made");
	if (r->args != NULL && o->uri != NULL)
		return err_set(e, ERR_INVAL,
		    "--connect: the backup is of a QEMU without libvirt");
	if (r->doc != NULL && (o->qmp != NULL || o->program != NULL))
		return err_set(e, ERR_INVAL,
		    "--qmp, --qemu: the backup is of a domain of libvirt");
	if (o->save != NULL && !r->ram)
		return err_set(e, ERR_UNSUP,
		    "the backup has no memory: there is nothing to make a save "
		    "image of");
	return 0;
}

static int
read_facts(struct lr *r, struct err *e)
{
	struct buf b = { 0 };
	char *path;
	int rc;

	if (!r->ram)
		return 0;
	path = xasprintf("%s/ram-facts", r->ram_tmp);
	rc = lr_read(path, RAM_FACTS_LEN_MAX, &b, e);
	if (rc == 0)
		rc = ram_facts_parse(b.data, b.len, &r->facts, e);
	buf_fini(&b);
	free(path);
	return rc;
}

static int
prepare(struct lr *r, struct err *e)
{
	int rc;

	rc = fetch_definition(r, e);
	if (rc == 0)
		rc = check_options(r, e);
	if (rc != 0)
		return rc;
	snprintf(r->out->name, sizeof(r->out->name), "%s", r->name);
	r->out->kind = r->doc != NULL ? "libvirt" : "qemu";
	rc = lr_files_home(r, e);
	if (rc == 0 && r->doc != NULL) {
		lr_xml_identity(r);
		rc = lr_libvirt_check(r, e);
	} else if (rc == 0) {
		rc = lr_args_identity(r, e);
		if (rc == 0)
			rc = lr_qemu_check(r, e);
	}
	return rc != 0 ? rc : lr_files_plan(r, e);
}

static int
set_going(struct lr *r, struct err *e)
{
	int rc;

	rc = read_facts(r, e);
	if (rc == 0 && interrupt_pending())
		rc = err_set(e, ERR_CLOSED, "interrupted");
	if (rc == 0 && r->o->save != NULL)
		rc = lr_save(r, e);
	else if (rc == 0 && r->doc != NULL)
		rc = lr_libvirt_start(r, e);
	else if (rc == 0)
		rc = lr_qemu_start(r, e);
	if (rc != 0)
		return err_prefix(e,
		    "the disks are restored, but the machine %s",
		    r->o->save != NULL ? "cannot be saved" : "does not start");
	if (r->ram)
		r->out->ram = forms[r->facts.form];
	if (r->ram && r->o->clone != NULL && r->o->save == NULL)
		notes_add(r->out->notes,
		    "the clone's memory has the original's addresses: it uses "
		    "them in the network until it is started anew");
	return 0;
}

static void
fini(struct lr *r)
{
	lr_files_drop_ram(r);
	lr_libvirt_close(r);
	for (unsigned i = 0; i < r->ndisks; i++) {
		free(r->disk[i].path);
		free(r->disk[i].format);
	}
	for (unsigned i = 0; i < r->nfiles; i++)
		free(r->file[i].path);
	json_decref(r->args);
	xmlFreeDoc(r->doc);
	free(r->name);
	free(r->home);
	free(r->ram_tmp);
	free(r->qmp);
	free(r);
}

int
live_restore_run(const struct live_restore_options *o,
    struct live_restore_result *out, struct err *e)
{
	struct lr *r = xcalloc(1, sizeof(*r));
	uint64_t begun = now_ms(), there;
	int rc;

	memset(out, 0, sizeof(*out));
	r->o = o;
	r->out = out;
	r->ram_fd = -1;
	rc = prepare(r, e);
	if (rc == 0)
		rc = lr_files_fetch(r, e);
	there = now_ms();
	out->restore_ms = there - begun;
	if (rc == 0) {
		rc = set_going(r, e);
		out->start_ms = now_ms() - there;
	}
	fini(r);
	return rc;
}
