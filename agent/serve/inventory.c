/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/serve/inventory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/guest/domains.h"
#include "agent/guest/guest.h"
#include "proto/base/log.h"

struct taking {
	const struct conf *c;
	const struct inventory *old; /* the look before, or NULL */
	struct inventory *v;
	bool has_domain[CONF_VMS_MAX]; /* of a section that names one */
};

static struct inventory_vm *
add_vm(struct inventory *v, const char *name)
{
	struct inventory_vm *m;

	if (v->nvms == INVENTORY_VMS_MAX)
		return NULL;
	v->vm = xrealloc(v->vm, (v->nvms + 1) * sizeof(*v->vm));
	m = &v->vm[v->nvms++];
	memset(m, 0, sizeof(*m));
	snprintf(m->name, sizeof(m->name), "%s", name);
	m->state = "unknown";
	return m;
}

static void
add_disk(struct inventory_vm *m, const char *name, size_t name_len,
    const char *path, const char *format)
{
	struct inventory_disk *d = &m->disk[m->ndisks];
	const char *is = NULL;

	if (m->ndisks == MANIFEST_VOLUMES_MAX)
		return;
	m->ndisks++;
	snprintf(d->name, sizeof(d->name), "%.*s", (int)name_len, name);
	d->format = *format != 0 ? format : "raw";
	if (path == NULL)
		return;
	d->path = xstrdup(path);
	is = image_size(path, format, &d->size);
	if (is != NULL && *format == 0)
		d->format = is;
}

/* "NAME=SOURCE", "NAME=qcow2:PATH" */
static void
add_plain_disk(struct inventory_vm *m, const char *text)
{
	const char *eq = strchr(text, '='), *path = eq + 1;
	const char *format = "";

	if (strncmp(path, "raw:", 4) == 0) {
		format = "raw";
		path += 4;
	} else if (strncmp(path, "qcow2:", 6) == 0) {
		format = "qcow2";
		path += 6;
	}
	add_disk(m, text, (size_t)(eq - text), path, format);
}

static void
add_guest_disks(
    struct inventory_vm *m, const struct guest_disk *disk, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		/* Their formats are constants of theirs. */
		add_disk(m, disk[i].name, strlen(disk[i].name), disk[i].path,
		    disk[i].format);
		if (m->disk[i].size == 0)
			m->disk[i].size = disk[i].size;
	}
}

static const char *
state_name(enum guest_state s)
{
	/* One that is paused has its disks open. */
	return s == GUEST_OFF ? "off" : "running";
}

static void
copy_disks(struct inventory_vm *m, const struct inventory_vm *from)
{
	for (unsigned i = 0; i < from->ndisks; i++) {
		const struct inventory_disk *d = &from->disk[i];

		add_disk(m, d->name, strlen(d->name), d->path, d->format);
		if (m->disk[i].size == 0)
			m->disk[i].size = d->size;
	}
}

/* Its monitor serves one at a time, so it is asked once after each start. */
static void
add_qmp(struct taking *t, const struct conf_vm *section)
{
	const char *path = conf_vm_text(section, CONF_QMP);
	struct inventory_vm *m = add_vm(t->v, section->name);
	const struct inventory_vm *was = NULL;
	const struct guest_disk *disk;
	struct guest *g;
	unsigned n;

	if (m == NULL)
		return;
	if (t->old != NULL)
		was = inventory_find(t->old, section->name);
	m->state = socket_listens(path) ? "running" : "off";
	if (strcmp(m->state, "running") == 0 &&
	    (was == NULL || was->ndisks == 0 ||
		strcmp(was->state, "running") != 0) &&
	    guest_open_qmp(path, NULL, &g, NULL) == 0) {
		disk = guest_disks(g, &n);
		add_guest_disks(m, disk, n);
		guest_close(g);
	} else if (was != NULL) {
		copy_disks(m, was);
	}
}

/* The section that means this domain: by what it says, else by its name. */
static const struct conf_vm *
section_of(struct taking *t, const struct domain *d, const char *name)
{
	const struct conf_vm *v;

	for (unsigned i = 0; i < t->c->nvms; i++) {
		const char *is = conf_vm_text(&t->c->vm[i], CONF_DOMAIN);

		if (*is != 0 &&
		    (strcmp(is, d->name) == 0 || strcmp(is, d->uuid) == 0)) {
			t->has_domain[i] = true;
			return &t->c->vm[i];
		}
	}
	v = name == NULL ? NULL : conf_vm_find(t->c, name);
	/* One of another kind that happens to have the name. */
	if (v != NULL &&
	    (v->ndisks > 0 || *conf_vm_text(v, CONF_QMP) != 0 ||
		*conf_vm_text(v, CONF_DOMAIN) != 0))
		v = NULL;
	return v;
}

static void
take_domain(void *arg, const struct domain *d)
{
	struct taking *t = arg;
	char name[VM_NAME_MAX + 1];
	bool named = conf_name(t->c, d->name, name);
	const struct conf_vm *v = section_of(t, d, named ? name : NULL);
	struct inventory_vm *m;

	if (v != NULL)
		snprintf(name, sizeof(name), "%s", v->name);
	if ((v != NULL && conf_is(conf_vm_text(v, CONF_IGNORE))) ||
	    (v == NULL && !named) || inventory_find(t->v, name) != NULL)
		return;
	/* Not asked for as a whole: only those that sections name. */
	if (strcmp(conf_text(t->c, CONF_LIBVIRT), "no") == 0 &&
	    (v == NULL || *conf_vm_text(v, CONF_DOMAIN) == 0))
		return;
	m = add_vm(t->v, name);
	if (m == NULL)
		return;
	m->state = state_name(d->state);
	m->domain = xstrdup(d->uuid);
	add_guest_disks(m, d->disk, d->ndisks);
}

static void
take_libvirt(struct taking *t, struct err *e)
{
	const char *all = conf_text(t->c, CONF_LIBVIRT);
	bool any = strcmp(all, "no") != 0;

	for (unsigned i = 0; i < t->c->nvms; i++)
		any |= *conf_vm_text(&t->c->vm[i], CONF_DOMAIN) != 0 &&
		    *conf_vm_text(&t->c->vm[i], CONF_CONNECT) == 0;
	if (any)
		(void)domains_list(
		    strchr(all, ':') != NULL ? all : NULL, take_domain, t, e);
	/* Those elsewhere, and those that could not be found just now. */
	for (unsigned i = 0; i < t->c->nvms; i++) {
		const struct conf_vm *v = &t->c->vm[i];

		if (*conf_vm_text(v, CONF_DOMAIN) != 0 && !t->has_domain[i] &&
		    !conf_is(conf_vm_text(v, CONF_IGNORE)))
			(void)add_vm(t->v, v->name);
	}
}

static int
by_name(const void *a, const void *b)
{
	const struct inventory_vm *x = a, *y = b;

	return strcmp(x->name, y->name);
}

struct inventory *
inventory_take(const struct conf *c, const struct inventory *old, struct err *e)
{
	struct taking *t = xcalloc(1, sizeof(*t));
	struct inventory *v = xcalloc(1, sizeof(*v));

	t->c = c;
	t->v = v;
	t->old = old;
	e->code = 0;
	for (unsigned i = 0; i < c->nvms; i++) {
		const struct conf_vm *s = &c->vm[i];
		struct inventory_vm *m = NULL;

		if (conf_is(conf_vm_text(s, CONF_IGNORE)))
			continue;
		if (s->ndisks > 0)
			m = add_vm(v, s->name);
		for (unsigned k = 0; m != NULL && k < s->ndisks; k++)
			add_plain_disk(m, s->disk[k]);
		if (*conf_vm_text(s, CONF_QMP) != 0)
			add_qmp(t, s);
	}
	take_libvirt(t, e);
	free(t);
	if (v->nvms > 0)
		qsort(v->vm, v->nvms, sizeof(v->vm[0]), by_name);
	return v;
}

void
inventory_free(struct inventory *v)
{
	if (v == NULL)
		return;
	for (unsigned i = 0; i < v->nvms; i++) {
		for (unsigned k = 0; k < v->vm[i].ndisks; k++)
			free(v->vm[i].disk[k].path);
		free(v->vm[i].domain);
	}
	free(v->vm);
	free(v);
}

const struct inventory_vm *
inventory_find(const struct inventory *v, const char *name)
{
	for (unsigned i = 0; i < v->nvms; i++)
		if (strcmp(v->vm[i].name, name) == 0)
			return &v->vm[i];
	return NULL;
}

bool
inventory_has_path(const struct inventory *v, const char *path)
{
	for (unsigned i = 0; i < v->nvms; i++)
		for (unsigned k = 0; k < v->vm[i].ndisks; k++) {
			const char *p = v->vm[i].disk[k].path;

			if (p != NULL && strcmp(p, path) == 0)
				return true;
		}
	return false;
}

static json_t *
vm_json(const struct inventory_vm *m)
{
	json_t *j = json_object(), *disks = json_array();

	for (unsigned k = 0; k < m->ndisks; k++) {
		const struct inventory_disk *d = &m->disk[k];
		json_t *one = json_object();

		json_set_str(one, "name", d->name);
		if (d->path != NULL && strlen(d->path) <= INVENTORY_PATH_MAX)
			json_set_str(one, "path", d->path);
		json_set_u64(one, "size", d->size);
		json_set_str(one, "format", d->format);
		json_array_append_new(disks, one);
	}
	json_set_str(j, "vm", m->name);
	json_set_str(j, "state", m->state);
	json_object_set_new(j, "disks", disks);
	return j;
}

json_t *
inventory_json(const struct inventory *v, unsigned *ntold)
{
	json_t *vms = json_array(), *j;
	struct buf text = { 0 };
	unsigned ndisks = 0, i;

	for (i = 0; i < v->nvms; i++) {
		ndisks += v->vm[i].ndisks;
		j = vm_json(&v->vm[i]);
		json_print(j, &text);
		buf_u8(&text, ',');
		if (ndisks > INVENTORY_DISKS_MAX ||
		    text.len > INVENTORY_JSON_MAX) {
			json_decref(j);
			break;
		}
		json_array_append_new(vms, j);
	}
	buf_fini(&text);
	*ntold = i;
	return vms;
}
