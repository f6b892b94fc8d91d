/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/guest/ga.h"

#include <stdlib.h>
#include <string.h>

#include "agent/guest/linesock.h"
#include "proto/base/io.h"

/* Not part of UTF-8: whatever was begun on either side ends with it. */
enum { GA_SENTINEL = 0xff, GA_STATUS_MS = 5000 };

struct ga {
	struct linesock *s;
};

static int
command(
    struct ga *a, const char *name, unsigned ms, json_t **out, struct err *e)
{
	uint64_t deadline = now_ms() + ms;
	const json_t *v;
	struct buf text = { 0 };
	json_t *j;
	int rc;

	buf_printf(&text, "{\"execute\":\"%s\"}\n", name);
	rc = linesock_send(a->s, text.data, text.len, -1, deadline, e);
	buf_fini(&text);
	if (rc == 0)
		rc = linesock_recv(a->s, deadline, &j, e);
	if (rc != 0)
		return rc;
	v = json_object_get(j, "error");
	if (v != NULL) {
		const char *class =
		    json_string_value(json_object_get(v, "class"));
		const char *desc =
		    json_string_value(json_object_get(v, "desc"));

		rc = class != NULL && strcmp(class, "CommandNotFound") == 0
		    ? ERR_UNSUP
		    : ERR_INVAL;
		err_set(e, rc, "the guest's agent refuses %s: %.200s", name,
		    desc == NULL ? "" : desc);
	} else if (json_object_get(j, "return") == NULL) {
		rc = err_set(e, ERR_PROTO,
		    "the guest's agent does not answer to %s", name);
	} else if (out != NULL) {
		*out = json_incref(json_object_get(j, "return"));
	}
	json_decref(j);
	return rc;
}

/* Answers to those who were here before us may still come: skipped. */
static int
sync_with(struct ga *a, uint64_t deadline, struct err *e)
{
	struct buf text = { 0 };
	uint32_t id;
	json_t *j;
	int rc;

	random_bytes(&id, sizeof(id));
	buf_printf(&text,
	    "%c{\"execute\":\"guest-sync-delimited\","
	    "\"arguments\":{\"id\":%u}}\n",
	    GA_SENTINEL, id);
	rc = linesock_send(a->s, text.data, text.len, -1, deadline, e);
	buf_fini(&text);
	while (rc == 0) {
		rc = linesock_skip(a->s, GA_SENTINEL, deadline, e);
		if (rc == 0)
			rc = linesock_recv(a->s, deadline, &j, e);
		if (rc == 0) {
			const json_t *v = json_object_get(j, "return");
			bool ours =
			    json_is_integer(v) && json_integer_value(v) == id;

			json_decref(j);
			if (ours)
				return 0;
		}
	}
	return rc;
}

int
ga_open(const char *path, unsigned ms, struct ga **out, struct err *e)
{
	struct ga *a = xcalloc(1, sizeof(*a));
	struct err why = { 0 };
	int rc;

	rc = linesock_open(path, &a->s, &why);
	if (rc == 0)
		rc = sync_with(a, now_ms() + ms, &why);
	if (rc != 0) {
		ga_close(a);
		return err_set(e, rc == ERR_SYS ? rc : ERR_UNSUP,
		    "no agent answers in the guest (%.200s)", why.text);
	}
	*out = a;
	return 0;
}

void
ga_close(struct ga *a)
{
	if (a == NULL)
		return;
	linesock_close(a->s);
	free(a);
}

static int
is_frozen(struct ga *a, bool *out, struct err *e)
{
	json_t *j = NULL;
	int rc;

	rc = command(a, "guest-fsfreeze-status", GA_STATUS_MS, &j, e);
	if (rc != 0)
		return rc;
	*out = json_is_string(j) && strcmp(json_string_value(j), "frozen") == 0;
	json_decref(j);
	return 0;
}

int
ga_freeze(struct ga *a, unsigned ms, struct err *e)
{
	bool frozen;
	int rc;

	rc = is_frozen(a, &frozen, e);
	if (rc != 0) /* nothing was begun */
		return err_set(e, ERR_UNSUP,
		    "the guest's agent cannot freeze file systems");
	if (frozen)
		return err_set(e, ERR_UNSUP,
		    "somebody else has frozen the guest's file systems");
	return command(a, "guest-fsfreeze-freeze", ms, NULL, e);
}

int
ga_thaw(struct ga *a, unsigned ms, struct err *e)
{
	bool frozen;
	int rc;

	rc = command(a, "guest-fsfreeze-thaw", ms, NULL, e);
	if ((rc == ERR_INVAL || rc == ERR_UNSUP) &&
	    is_frozen(a, &frozen, NULL) == 0 && !frozen)
		rc = 0;
	return rc;
}
