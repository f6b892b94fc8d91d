/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/live/live_restore_words.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/base/json.h"

/* --- "key=value,key=value"; a comma in a value is doubled */

/* One past the end of the word at ${s}. */
static const char *
word_end(const char *s)
{
	for (; *s != 0; s++) {
		if (*s != ',')
			continue;
		if (s[1] != ',')
			break;
		s++;
	}
	return s;
}

/* Is it "key=...", or without a key, for key ""? */
static bool
has_key(const char *s, const char *end, const char *key, bool first)
{
	size_t n = strlen(key);
	const char *eq = memchr(s, '=', (size_t)(end - s));

	if (n == 0)
		return first && eq == NULL;
	return eq != NULL && (size_t)(eq - s) == n && memcmp(s, key, n) == 0;
}

static char *
unescape(const char *s, const char *end)
{
	char *out = xmalloc((size_t)(end - s) + 1);
	size_t n = 0;

	for (; s < end; s++) {
		out[n++] = *s;
		if (s[0] == ',' && s + 1 < end && s[1] == ',')
			s++;
	}
	out[n] = 0;
	return out;
}

static void
add_word(struct buf *b, const char *key, const char *value)
{
	if (b->len > 0)
		buf_u8(b, ',');
	if (*key != 0)
		buf_printf(b, "%s=", key);
	for (; *value != 0; value++) {
		buf_u8(b, (uint8_t)*value);
		if (*value == ',')
			buf_u8(b, ',');
	}
}

static char *
plain_get(const char *arg, const char *key)
{
	bool first = true;

	for (const char *s = arg, *end; *s != 0; first = false) {
		end = word_end(s);
		if (has_key(s, end, key, first))
			return unescape(
			    *key == 0 ? s : s + strlen(key) + 1, end);
		s = *end == 0 ? end : end + 1;
	}
	return NULL;
}

static char *
plain_set(const char *arg, const char *key, const char *value)
{
	struct buf b = { 0 };
	bool first = true, done = value == NULL;
	char *out;

	for (const char *s = arg, *end; *s != 0; first = false) {
		end = word_end(s);
		if (!has_key(s, end, key, first)) {
			if (b.len > 0)
				buf_u8(&b, ',');
			buf_add(&b, s, (size_t)(end - s));
		} else if (!done) {
			add_word(&b, key, value);
			done = true;
		}
		s = *end == 0 ? end : end + 1;
	}
	if (!done)
		add_word(&b, key, value);
	out = xstrdup(buf_cstr(&b));
	buf_fini(&b);
	return out;
}

/* --- JSON */

/* The object that has the last part of ${key}, which is left in ${last}. */
static json_t *
holder(json_t *j, const char *key, const char **last)
{
	const char *dot;
	char *part;

	while (j != NULL && (dot = strchr(key, '.')) != NULL) {
		part = xasprintf("%.*s", (int)(dot - key), key);
		j = json_object_get(j, part);
		free(part);
		key = dot + 1;
	}
	*last = key;
	return j;
}

/* What the first word of the plain form is called here. */
static const char *
first_key(const json_t *j)
{
	static const char *const keys[] = { "qom-type", "driver", "type" };

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (json_object_get(j, keys[i]) != NULL)
			return keys[i];
	return "driver";
}

static char *
json_get(json_t *j, const char *key)
{
	const char *last;
	json_t *v;

	v = holder(j, *key == 0 ? first_key(j) : key, &last);
	v = json_object_get(v, last);
	if (json_is_string(v))
		return xstrdup(json_string_value(v));
	if (json_is_boolean(v))
		return xstrdup(json_is_true(v) ? "on" : "off");
	if (json_is_integer(v))
		return xasprintf("%lld", (long long)json_integer_value(v));
	return NULL;
}

static char *
json_set(json_t *j, const char *key, const char *value)
{
	struct buf b = { 0 };
	const char *last;
	json_t *v;
	char *out;

	v = holder(j, *key == 0 ? first_key(j) : key, &last);
	if (v != NULL && value == NULL)
		json_object_del(v, last);
	else if (v != NULL &&
	    (strcmp(value, "on") == 0 || strcmp(value, "off") == 0))
		json_set_bool(v, last, strcmp(value, "on") == 0);
	else if (v != NULL)
		json_set_str(v, last, value);
	json_print(j, &b);
	out = xstrdup(buf_cstr(&b));
	buf_fini(&b);
	return out;
}

char *
words_get(const char *arg, const char *key)
{
	char *out;
	json_t *j;

	if (*arg != '{')
		return plain_get(arg, key);
	if (json_parse(arg, strlen(arg), &j, NULL) != 0)
		return NULL;
	out = json_get(j, key);
	json_decref(j);
	return out;
}

bool
words_is(const char *arg, const char *key, const char *value)
{
	char *s = words_get(arg, key);
	bool is = s != NULL && strcmp(s, value) == 0;

	free(s);
	return is;
}

char *
words_set(const char *arg, const char *key, const char *value)
{
	char *out;
	json_t *j;

	if (*arg != '{')
		return plain_set(arg, key, value);
	if (json_parse(arg, strlen(arg), &j, NULL) != 0)
		return xstrdup(arg);
	out = json_set(j, key, value);
	json_decref(j);
	return out;
}
