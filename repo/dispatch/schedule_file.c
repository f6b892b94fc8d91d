/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/dispatch/schedule_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/crc32c.h"
#include "proto/base/json.h"

enum { VERSION = 1, HEAD_MAX = 80 };

static void
set_time(json_t *j, const char *key, uint64_t t)
{
	char text[TIME_TEXT_LEN + 1];

	if (t != 0)
		json_set_str(j, key, time_print(t, text));
}

static void
set_text(json_t *j, const char *key, const char *text)
{
	if (*text != 0)
		json_set_str(j, key, text);
}

static void
print_vm(const struct schedule_vm *v, struct buf *out)
{
	json_t *j = json_object();

	json_set_str(j, "vm", v->vm);
	set_text(j, "rule", v->rule);
	set_time(j, "handled", v->handled);
	set_time(j, "due", v->due);
	json_set_u64(j, "tries", v->tries);
	set_time(j, "began", v->began);
	set_time(j, "again", v->again);
	set_time(j, "late_from", v->late_from);
	set_time(j, "told", v->told);
	json_set_str(j, "outcome", schedule_outcome_name(v->outcome));
	set_time(j, "last_due", v->last_due);
	set_time(j, "last_began", v->last_began);
	set_time(j, "last_ended", v->last_ended);
	set_text(j, "text", v->text);
	set_time(j, "pruned", v->pruned);
	json_set_u64(j, "removed", v->removed);
	set_text(j, "stopped", v->stopped);
	json_print(j, out);
	buf_add(out, "\n", 1);
	json_decref(j);
}

/* With a CRC of what stands before it, and of the body. */
static int
print_head(char out[HEAD_MAX], const void *body, size_t len)
{
	int n = snprintf(out, HEAD_MAX, "backstay-schedule %d %llu ", VERSION,
	    (unsigned long long)len);
	uint32_t crc = crc32c(crc32c(0, out, (size_t)n), body, len);

	return n +
	    snprintf(out + n, HEAD_MAX - (size_t)n, "%08x\n", (unsigned)crc);
}

void
schedule_file_print(
    const struct schedule_vm *const *v, size_t n, struct buf *out)
{
	struct buf body = { 0 };
	char head[HEAD_MAX];
	int len;

	for (size_t i = 0; i < n; i++)
		print_vm(v[i], &body);
	len = print_head(head, body.data, body.len);
	out->len = 0;
	buf_add(out, head, (size_t)len);
	buf_add(out, body.data, body.len);
	buf_fini(&body);
}

static int
get_time(const json_t *j, const char *key, uint64_t *out, struct err *e)
{
	const char *text = NULL;
	int rc = json_opt_str(j, key, &text, e);

	if (rc == 0 && text != NULL && time_parse(text, out) != 0)
		rc = err_set(e, ERR_PROTO, "\"%s\" is not a time", key);
	return rc;
}

static int
get_text(
    const json_t *j, const char *key, char *out, size_t size, struct err *e)
{
	const char *text = "";
	int rc = json_opt_str(j, key, &text, e);

	if (rc == 0 && strlen(text) >= size)
		rc = err_set(e, ERR_PROTO, "\"%s\" is too long", key);
	if (rc == 0)
		memcpy(out, text, strlen(text) + 1);
	return rc;
}

static int
get_outcome(const json_t *j, enum schedule_outcome *out, struct err *e)
{
	const char *text;
	int rc = json_get_str(j, "outcome", &text, e);

	if (rc != 0)
		return rc;
	for (*out = OUTCOME_NONE; *out <= OUTCOME_MISSED; ++*out)
		if (strcmp(text, schedule_outcome_name(*out)) == 0)
			return 0;
	return err_set(e, ERR_PROTO, "\"outcome\" is none");
}

static int
parse_members(const json_t *j, struct schedule_vm *v, struct err *e)
{
	const struct {
		const char *key;
		uint64_t *out;
	} times[] = {
		{ "handled", &v->handled },
		{ "due", &v->due },
		{ "began", &v->began },
		{ "again", &v->again },
		{ "late_from", &v->late_from },
		{ "told", &v->told },
		{ "last_due", &v->last_due },
		{ "last_began", &v->last_began },
		{ "last_ended", &v->last_ended },
		{ "pruned", &v->pruned },
	};
	uint64_t tries = 0;
	int rc;

	rc = get_text(j, "vm", v->vm, sizeof(v->vm), e);
	if (rc == 0 && !vm_name_ok(v->vm))
		rc = err_set(e, ERR_PROTO, "\"vm\" is no name of a VM");
	if (rc == 0)
		rc = get_text(j, "rule", v->rule, sizeof(v->rule), e);
	if (rc == 0)
		rc = get_text(j, "text", v->text, sizeof(v->text), e);
	if (rc == 0)
		rc = get_text(j, "stopped", v->stopped, sizeof(v->stopped), e);
	for (size_t i = 0; rc == 0 && i < sizeof(times) / sizeof(times[0]); i++)
		rc = get_time(j, times[i].key, times[i].out, e);
	if (rc == 0)
		rc = json_opt_u64(j, "removed", &v->removed, e);
	if (rc == 0)
		rc = json_opt_u64(j, "tries", &tries, e);
	if (rc == 0 && tries > UINT16_MAX)
		rc = err_set(e, ERR_PROTO, "\"tries\" is too large");
	v->tries = (unsigned)tries;
	return rc != 0 ? rc : get_outcome(j, &v->outcome, e);
}

static int
parse_vm(const char *line, size_t len, struct schedule_vm *v, struct err *e)
{
	json_t *j;
	int rc;

	memset(v, 0, sizeof(*v));
	rc = json_parse(line, len, &j, e);
	if (rc != 0)
		return rc;
	rc = parse_members(j, v, e);
	json_decref(j);
	return rc;
}

static int
check_head(const char *text, size_t len, size_t *body, struct err *e)
{
	const char *nl = len > 0 ? memchr(text, '\n', len) : NULL;
	char head[HEAD_MAX], again[HEAD_MAX];
	unsigned version;
	int n;

	if (nl == NULL || nl - text >= HEAD_MAX - 1)
		return err_set(e, ERR_CORRUPT, "its first line is damaged");
	*body = (size_t)(nl - text) + 1;
	memcpy(head, text, *body);
	head[*body] = 0;
	if (sscanf(head, "backstay-schedule %u ", &version) != 1)
		return err_set(e, ERR_CORRUPT, "its first line is damaged");
	if (version != VERSION)
		return err_set(e, ERR_UNSUP, "its version is %u, not %d",
		    version, VERSION);
	n = print_head(again, text + *body, len - *body);
	if ((size_t)n != *body || memcmp(head, again, *body) != 0)
		return err_set(e, ERR_CORRUPT, "it is damaged");
	return 0;
}

int
schedule_file_parse(const void *data, size_t len, struct schedule_vm **v,
    size_t *n, struct err *e)
{
	const char *text = data, *at, *end = text + len;
	size_t body = 0;
	int rc;

	*v = NULL;
	*n = 0;
	rc = check_head(text, len, &body, e);
	for (at = rc == 0 ? text + body : end; rc == 0 && at < end;) {
		const char *nl = memchr(at, '\n', (size_t)(end - at));
		size_t line = (size_t)((nl != NULL ? nl : end) - at);

		if (*n == SCHEDULE_VMS_MAX) {
			rc = err_set(e, ERR_CORRUPT, "it has over %d VMs",
			    SCHEDULE_VMS_MAX);
			break;
		}
		*v = xrealloc(*v, (*n + 1) * sizeof(**v));
		rc = parse_vm(at, line, &(*v)[*n], e);
		if (rc != 0)
			rc = err_prefix(e, "line %zu", *n + 2);
		++*n;
		at += line + 1;
	}
	if (rc == 0)
		return 0;
	free(*v);
	*v = NULL;
	*n = 0;
	return rc == ERR_UNSUP ? rc : ERR_CORRUPT;
}
