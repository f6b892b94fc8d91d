/* SPDX-License-Identifier: Apache-2.0 */
/* The call "set": what is held to which rate, until the daemon's end. */
#include <inttypes.h>
#include <string.h>

#include "proto/base/json.h"
#include "proto/base/log.h"
#include "repo/serve/sight.h"

static int
take_value(const char *value, struct hours *h, bool *back, struct err *e)
{
	*back = strcmp(value, "settings") == 0 || strcmp(value, "auto") == 0;
	if (*back || hours_parse(value, h) == 0)
		return 0;
	return err_set(e, ERR_INVAL,
	    "\"%.100s\" is no rate: " HOURS_TAKES "; or settings: what those "
	    "say",
	    value);
}

static int
set_key(
    struct session *s, const char *name, const struct hours *h, struct err *e)
{
	struct keyset *keys = keyring_get(s->srv->keyring);
	bool there = auth_find_name(keyset_auth(keys), name) != NULL;

	keyset_put(keys);
	/* One that is gone may be set back. */
	if (!there && h != NULL)
		return err_set(
		    e, ERR_NOENT, "there is no key called %.100s", name);
	if (strlen(name) > NAME_PART_MAX)
		return err_set(e, ERR_INVAL, "that is no name of a key");
	pace_set_key(s->srv->pace, name, h);
	return 0;
}

/* What a key with patterns may set: its own, and jobs of VMs that it sees. */
static int
check_sight(struct session *s, const char *key, uint64_t job, struct err *e)
{
	if (key != NULL && strcmp(key, s->key->name) != 0)
		return sight_need_all(s, "set the rate of another key", e);
	if (key == NULL && job == 0)
		return sight_need_all(s, "set the rate of all agents", e);
	if (job != 0 && !sight_job(s, job))
		return err_set(
		    e, ERR_NOENT, "no job %" PRIu64 " is running", job);
	return 0;
}

static int
set_rate(struct session *s, const json_t *q, const char *value, struct err *e)
{
	const char *key = NULL;
	uint64_t job = 0;
	struct hours h;
	bool back;
	int rc;

	rc = json_opt_str(q, "key_name", &key, e);
	if (rc == 0)
		rc = json_opt_u64(q, "job", &job, e);
	if (rc == 0)
		rc = take_value(value, &h, &back, e);
	if (rc != 0)
		return rc;
	if (key != NULL && job != 0)
		return err_set(e, ERR_INVAL, "of a key or of a job, not both");
	rc = check_sight(s, key, job, e);
	if (rc != 0)
		return rc;
	if (key != NULL)
		rc = set_key(s, key, back ? NULL : &h, e);
	else if (job == 0)
		pace_set_all(s->srv->pace, back ? NULL : &h);
	else if (!pace_set_job(s->srv->pace, job, back ? NULL : &h))
		rc =
		    err_set(e, ERR_NOENT, "no job %" PRIu64 " is running", job);
	if (rc == 0 && job != 0)
		log_info("bwlimit of job %" PRIu64 ": %s", job, value);
	else if (rc == 0)
		log_info("bwlimit%s%s: %s", key != NULL ? " of key " : "",
		    key != NULL ? key : "", value);
	return rc;
}

int
set_call(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	const char *key = NULL, *value = NULL;
	int rc;

	rc = json_opt_str(q, "key", &key, e);
	if (rc == 0)
		rc = json_opt_str(q, "value", &value, e);
	if (rc != 0)
		return rc;
	if (key != NULL && strcmp(key, "bwlimit") != 0)
		return err_set(e, ERR_INVAL,
		    "\"%.60s\" cannot be set while the daemon runs; bwlimit "
		    "can",
		    key);
	if (value != NULL && key == NULL)
		return err_set(e, ERR_INVAL, "a value of what?");
	if (value != NULL)
		rc = set_rate(s, q, value, e);
	if (rc == 0)
		json_object_set_new(a, "bwlimit", sight_rates(s));
	return rc;
}
