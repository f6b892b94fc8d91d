/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/sight.h"

#include <string.h>

#include "proto/base/json.h"
#include "repo/serve/verify.h"

bool
sight_vm(void *key, const char *vm)
{
	return auth_sees(key, vm);
}

bool
sight_all(const struct auth_key *key)
{
	return key->npatterns == 0;
}

int
sight_need_all(const struct session *s, const char *what, struct err *e)
{
	if (sight_all(s->key))
		return 0;
	return err_set(e, ERR_DENIED,
	    "key %s may not %s, which concerns VMs that it does not see: use a "
	    "key without patterns, or `backstay` on the NAS itself",
	    s->key->name, what);
}

/* A job as `jobs` has it. */
static bool
sees(struct session *s, const json_t *job)
{
	const char *vm = json_string_value(json_object_get(job, "vm"));
	const char *other = json_string_value(json_object_get(job, "other"));

	if (vm == NULL || (other != NULL && !auth_sees(s->key, other)))
		return false;
	if (vm_name_ok(vm))
		return auth_sees(s->key, vm);
	return verifiers_see(s->srv->verifiers,
	    (uint64_t)json_integer_value(json_object_get(job, "job")), s->key);
}

bool
sight_job(struct session *s, uint64_t id)
{
	json_t *list, *one;
	bool yes;

	if (sight_all(s->key))
		return true;
	/* The queue first: what begins meanwhile is then found behind it. */
	list = json_array();
	queue_to_json(s->srv->queue, id, NULL, NULL, list);
	one = json_incref(json_array_get(list, 0));
	if (one == NULL)
		one = jobs_one_to_json(s->srv->jobs, id);
	yes = sees(s, one);
	json_decref(one);
	json_decref(list);
	return yes;
}

void
sight_jobs(struct session *s, json_t *list, bool vm)
{
	if (sight_all(s->key))
		return;
	for (size_t i = json_array_size(list); i-- > 0;) {
		const json_t *o = json_array_get(list, i);
		bool keep;

		if (vm)
			keep = sees(s, o);
		else
			keep = sight_job(s,
			    (uint64_t)json_integer_value(
				json_object_get(o, "job")));
		if (!keep)
			json_array_remove(list, i);
	}
}

json_t *
sight_rates(struct session *s)
{
	json_t *o = pace_to_json(s->srv->pace);
	json_t *keys = json_object_get(o, "keys");

	if (sight_all(s->key))
		return o;
	for (size_t i = json_array_size(keys); i-- > 0;) {
		const char *name = json_string_value(
		    json_object_get(json_array_get(keys, i), "key"));

		if (strcmp(name, s->key->name) != 0)
			json_array_remove(keys, i);
	}
	sight_jobs(s, json_object_get(o, "jobs"), false);
	return o;
}
