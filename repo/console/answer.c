/* SPDX-License-Identifier: Apache-2.0 */
/* Questions to our own daemon, and what its answers hold. */
#include "proto/base/json.h"
#include "repo/console/console.h"

json_t *
console_op(const char *name)
{
	json_t *j = json_object();

	json_set_str(j, "op", name);
	return j;
}

const char *
answer_str(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s != NULL ? s : "";
}

uint64_t
answer_u64(const json_t *j, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(j, key));

	return v > 0 ? (uint64_t)v : 0;
}
