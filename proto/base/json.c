/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/base/json.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/io.h"

/*
 * jansson's own depth limit is fixed at build time and far too high, so count
 * brackets outside of strings before it sees the text.
 */
static bool
too_deep(const char *s, size_t len)
{
	unsigned depth = 0;
	bool quoted = false;

	for (size_t i = 0; i < len; i++) {
		if (quoted) {
			if (s[i] == '\\')
				i++;
			else if (s[i] == '"')
				quoted = false;
		} else if (s[i] == '"') {
			quoted = true;
		} else if (s[i] == '{' || s[i] == '[') {
			if (++depth > JSON_DEPTH_MAX)
				return true;
		} else if ((s[i] == '}' || s[i] == ']') && depth > 0) {
			depth--;
		}
	}
	return false;
}

int
json_parse(const void *data, size_t len, json_t **j, struct err *e)
{
	json_error_t je;

	if (len > JSON_LEN_MAX)
		return err_set(
		    e, ERR_PROTO, "JSON of %zu bytes is too long", len);
	if (too_deep(data, len))
		return err_set(e, ERR_PROTO, "JSON is nested too deeply");
	*j = json_loadb(data, len, JSON_REJECT_DUPLICATES, &je);
	if (*j == NULL)
		return err_set(e, ERR_PROTO, "not JSON: %s", je.text);
	if (!json_is_object(*j)) {
		json_decref(*j);
		*j = NULL;
		return err_set(e, ERR_PROTO, "not a JSON object");
	}
	return 0;
}

void
json_print(const json_t *j, struct buf *out)
{
	char *s = json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS);

	if (s == NULL)
		abort(); /* only lack of memory, or a value that is no JSON */
	buf_add(out, s, strlen(s));
	free(s);
}

static int
wrong(const char *key, const char *want, struct err *e)
{
	return err_set(e, ERR_PROTO, "\"%s\" is not %s", key, want);
}

int
json_get_str(const json_t *j, const char *key, const char **out, struct err *e)
{
	const json_t *v = json_object_get(j, key);

	if (!json_is_string(v) ||
	    strlen(json_string_value(v)) != json_string_length(v))
		return wrong(key, "a string", e);
	*out = json_string_value(v);
	return 0;
}

int
json_get_u64(const json_t *j, const char *key, uint64_t *out, struct err *e)
{
	const json_t *v = json_object_get(j, key);

	if (!json_is_integer(v) || json_integer_value(v) < 0)
		return wrong(key, "a whole number from 0 up", e);
	*out = (uint64_t)json_integer_value(v);
	return 0;
}

int
json_get_bool(const json_t *j, const char *key, bool *out, struct err *e)
{
	const json_t *v = json_object_get(j, key);

	if (!json_is_boolean(v))
		return wrong(key, "true or false", e);
	*out = json_is_true(v);
	return 0;
}

int
json_get_array(const json_t *j, const char *key, json_t **out, struct err *e)
{
	json_t *v = json_object_get(j, key);

	if (!json_is_array(v))
		return wrong(key, "an array", e);
	*out = v;
	return 0;
}

int
json_get_object(const json_t *j, const char *key, json_t **out, struct err *e)
{
	json_t *v = json_object_get(j, key);

	if (!json_is_object(v))
		return wrong(key, "an object", e);
	*out = v;
	return 0;
}

int
json_get_hex(
    const json_t *j, const char *key, uint8_t *out, size_t len, struct err *e)
{
	const char *s;

	if (json_get_str(j, key, &s, e) != 0 || unhex(s, out, len) != 0)
		return wrong(key, "of the right number of hex digits", e);
	return 0;
}

int
json_opt_str(const json_t *j, const char *key, const char **out, struct err *e)
{
	if (json_object_get(j, key) == NULL)
		return 0;
	return json_get_str(j, key, out, e);
}

int
json_opt_u64(const json_t *j, const char *key, uint64_t *out, struct err *e)
{
	if (json_object_get(j, key) == NULL)
		return 0;
	return json_get_u64(j, key, out, e);
}

int
json_opt_bool(const json_t *j, const char *key, bool *out, struct err *e)
{
	if (json_object_get(j, key) == NULL)
		return 0;
	return json_get_bool(j, key, out, e);
}

static void
set(json_t *j, const char *key, json_t *v)
{
	if (v == NULL || json_object_set_new(j, key, v) == -1)
		abort(); /* only lack of memory, or text that is not UTF-8 */
}

void
json_set_str(json_t *j, const char *key, const char *v)
{
	json_t *s = json_string(v);

	/* Text from outside may be no UTF-8; keep what can be kept. */
	if (s == NULL)
		s = json_string("?");
	set(j, key, s);
}

void
json_set_u64(json_t *j, const char *key, uint64_t v)
{
	set(j, key, json_integer((json_int_t)v));
}

void
json_set_bool(json_t *j, const char *key, bool v)
{
	set(j, key, json_boolean(v));
}

void
json_set_hex(json_t *j, const char *key, const uint8_t *v, size_t len)
{
	char *s = xmalloc(2 * len + 1);

	set(j, key, json_string(hex(v, len, s)));
	free(s);
}
