/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/catalog/domain.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/name.h"

#define DOMAINS_FILE "domains.json"
enum { DOMAINS_VERSION = 1 };

struct entry {
	char namespace[NAME_PART_MAX + 1];
	struct domain domain;
};

struct domains {
	int keysfd;
	bool by_namespace;
	pthread_mutex_t mu;
	struct entry *entry; /* guarded by mu */
	size_t n;            /* guarded by mu */
};

static int
bad(struct err *e)
{
	return err_prefix(e, "keys/" DOMAINS_FILE);
}

static int
read_entry(struct domains *d, const json_t *j, struct err *e)
{
	struct entry *x = &d->entry[d->n];
	const char *name;
	uint64_t number;

	memset(x, 0, sizeof(*x));
	if (json_get_str(j, "namespace", &name, e) != 0 ||
	    json_get_u64(j, "domain", &number, e) != 0 ||
	    json_get_hex(j, "key", x->domain.key, HASH_KEY_LEN, e) != 0)
		return ERR_CORRUPT;
	if (*name != 0 && !name_part_ok(name))
		return err_set(e, ERR_CORRUPT, "\"%s\" is no namespace", name);
	if (number == 0 || number > DOMAINS_MAX)
		return err_set(e, ERR_CORRUPT, "a domain's number is wrong");
	for (size_t i = 0; i < d->n; i++)
		if (strcmp(d->entry[i].namespace, name) == 0 ||
		    d->entry[i].domain.number == number)
			return err_set(
			    e, ERR_CORRUPT, "namespace \"%s\" is twice", name);
	memcpy(x->namespace, name, strlen(name) + 1);
	x->domain.number = (uint32_t)number;
	x->domain.keyed = true;
	d->n++;
	return 0;
}

static int
read_file(struct domains *d, struct err *e)
{
	json_t *j = NULL, *list;
	struct buf text = { 0 };
	uint64_t version;
	int rc;

	rc = file_read(d->keysfd, DOMAINS_FILE, JSON_LEN_MAX, &text);
	if (rc == ERR_NOENT)
		return 0;
	if (rc != 0) {
		err_set(e, rc, "cannot be read");
		goto out;
	}
	rc = ERR_CORRUPT;
	if (json_parse(text.data, text.len, &j, e) != 0 ||
	    json_get_u64(j, "version", &version, e) != 0 ||
	    json_get_array(j, "domains", &list, e) != 0)
		goto out;
	if (version != DOMAINS_VERSION) {
		rc = err_set(e, ERR_UNSUP, "its version is %u, not %d",
		    (unsigned)version, DOMAINS_VERSION);
		goto out;
	}
	if (json_array_size(list) > DOMAINS_MAX) {
		err_set(e, rc, "too many domains");
		goto out;
	}
	rc = 0;
	for (size_t i = 0; rc == 0 && i < json_array_size(list); i++)
		rc = read_entry(d, json_array_get(list, i), e);
out:
	json_decref(j);
	if (text.data != NULL)
		explicit_bzero(text.data, text.cap);
	buf_fini(&text);
	if (rc == 0)
		return 0;
	bad(e);
	e->code = rc;
	return rc;
}

int
domains_open(int keysfd, bool by_namespace, struct domains **out, struct err *e)
{
	struct domains *d = xcalloc(1, sizeof(*d));
	struct err local;
	int rc = 0;

	d->keysfd = keysfd;
	d->by_namespace = by_namespace;
	pthread_mutex_init(&d->mu, NULL);
	if (by_namespace) {
		/* Allocated for good: DOMAINS_MAX entries are 0.5 MB. */
		d->entry = xcalloc(DOMAINS_MAX, sizeof(*d->entry));
		rc = read_file(d, e != NULL ? e : &local);
	}
	if (rc != 0) {
		domains_close(d);
		return rc;
	}
	*out = d;
	return 0;
}

void
domains_close(struct domains *d)
{
	if (d == NULL)
		return;
	if (d->entry != NULL)
		explicit_bzero(d->entry, DOMAINS_MAX * sizeof(*d->entry));
	free(d->entry);
	pthread_mutex_destroy(&d->mu);
	free(d);
}

static int
write_file(struct domains *d, struct err *e)
{
	json_t *j = json_object(), *list = json_array();
	struct buf text = { 0 };
	int rc;

	for (size_t i = 0; i < d->n; i++) {
		const struct entry *x = &d->entry[i];
		json_t *o = json_object();

		json_set_str(o, "namespace", x->namespace);
		json_set_u64(o, "domain", x->domain.number);
		json_set_hex(o, "key", x->domain.key, HASH_KEY_LEN);
		json_array_append_new(list, o);
	}
	json_set_u64(j, "version", DOMAINS_VERSION);
	json_object_set_new(j, "domains", list);
	json_print(j, &text);
	json_decref(j);
	rc = file_replace(d->keysfd, DOMAINS_FILE, text.data, text.len, 0600);
	explicit_bzero(text.data, text.cap);
	buf_fini(&text);
	if (rc != 0)
		return err_set(e, rc,
		    "keys/" DOMAINS_FILE
		    ": the key of a new namespace cannot be "
		    "written");
	return 0;
}

/* ${d} is locked. */
static int
add_entry(struct domains *d, const char *name, struct err *e)
{
	struct entry *x = &d->entry[d->n];
	uint32_t number = 0;
	int rc;

	if (d->n == DOMAINS_MAX)
		return err_set(e, ERR_LIMIT,
		    "the repository has %d namespaces already", DOMAINS_MAX);
	/* The greatest is never given again, so count on from it. */
	for (size_t i = 0; i < d->n; i++)
		if (d->entry[i].domain.number > number)
			number = d->entry[i].domain.number;
	memset(x, 0, sizeof(*x));
	memcpy(x->namespace, name, strlen(name) + 1);
	x->domain.number = number + 1;
	x->domain.keyed = true;
	random_bytes(x->domain.key, HASH_KEY_LEN);
	d->n++;
	rc = write_file(d, e);
	if (rc != 0) {
		d->n--;
		explicit_bzero(x, sizeof(*x));
	}
	return rc;
}

int
domains_for(
    struct domains *d, const char *vm, struct domain *out, struct err *e)
{
	char name[NAME_PART_MAX + 1];
	int rc = 0;
	size_t i;

	memset(out, 0, sizeof(*out));
	if (!d->by_namespace)
		return 0;
	vm_namespace(vm, name);
	pthread_mutex_lock(&d->mu);
	for (i = 0; i < d->n; i++)
		if (strcmp(d->entry[i].namespace, name) == 0)
			break;
	if (i == d->n)
		rc = add_entry(d, name, e);
	if (rc == 0)
		*out = d->entry[i].domain;
	pthread_mutex_unlock(&d->mu);
	return rc;
}

int
domains_get(
    struct domains *d, uint32_t number, struct domain *out, struct err *e)
{
	int rc = ERR_CORRUPT;

	memset(out, 0, sizeof(*out));
	if (number == 0)
		return 0;
	pthread_mutex_lock(&d->mu);
	for (size_t i = 0; i < d->n && rc != 0; i++)
		if (d->entry[i].domain.number == number) {
			*out = d->entry[i].domain;
			rc = 0;
		}
	pthread_mutex_unlock(&d->mu);
	if (rc != 0)
		err_set(e, rc,
		    "the key of domain %u is not in keys/" DOMAINS_FILE
		    "; bring that file back from a copy",
		    (unsigned)number);
	return rc;
}
