/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/retain.h"

#include <string.h>

#include "proto/base/json.h"
#include "proto/base/log.h"
#include "repo/serve/sight.h"

static void
set_time(json_t *j, const char *key, uint64_t seconds)
{
	char text[TIME_TEXT_LEN + 1];

	json_set_str(j, key, time_print(seconds, text));
}

static struct retain_policy
policy_of(void *arg, const char *vm)
{
	struct serve *srv = arg;
	const struct settings *s = settings_get(srv->settings);
	struct retain_policy p = settings_vm(s, vm);

	settings_put(srv->settings, s);
	return p;
}

struct guard *
retain_open(struct serve *srv, int dirfd, uint64_t jump_s)
{
	return guard_open(&(struct guard_options){ .dirfd = dirfd,
	    .catalog = srv->catalog,
	    .jump_s = jump_s,
	    .policy = policy_of,
	    .arg = srv });
}

void
retain_face(struct serve *srv, const struct manifest *m, json_t *o)
{
	struct mark x;
	json_t *p;

	guard_look(srv->guard, m, &x);
	if (x.is_protected) {
		p = json_object();
		json_set_str(p, "by", x.by);
		json_set_str(p, "note", x.note);
		if (x.at != 0)
			set_time(p, "at", x.at);
		json_object_set_new(o, "protected", p);
	}
	if (x.locked_until > guard_now(srv->guard))
		set_time(o, "locked_until", x.locked_until);
}

json_t *
retain_to_json(struct serve *srv)
{
	struct repotime *t = guard_time(srv->guard);
	json_t *j = json_object();
	char why[ERR_TEXT_MAX];

	set_time(j, "time", repotime_now(t));
	json_object_set_new(j, "clock_ahead", json_integer(repotime_off(t)));
	json_set_bool(j, "clock_off", repotime_is_off(t));
	if (guard_doubt(srv->guard, why))
		json_set_str(j, "doubt", why);
	return j;
}

/* The backup that the call is about, as it stands. */
static int
subject(struct session *s, const json_t *q, struct manifest *out, struct err *e)
{
	struct backup_ref ref;
	const char *name;
	int rc;

	rc = json_get_str(q, "backup", &name, e);
	if (rc == 0)
		rc = backup_ref_parse(name, &ref, e);
	if (rc != 0)
		return rc;
	if (!auth_sees(s->key, ref.vm))
		return err_set(
		    e, ERR_NOENT, "there is no backup of %s", ref.vm);
	return catalog_find(s->srv->catalog, &ref, out, e);
}

static void
answer(struct session *s, const struct manifest *m, json_t *a)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];

	json_set_str(a, "backup", manifest_name(m, name));
	retain_face(s->srv, m, a);
}

static int
mend(struct session *s, json_t *a, struct err *e)
{
	unsigned n;
	int rc = sight_need_all(s, "mend the marks", e);

	if (rc == 0)
		rc = guard_mend(s->srv->guard, s->key->name, &n, e);

	if (rc != 0)
		return rc;
	log_info("marks were mended by %s: %u backups are protected now",
	    s->key->name, n);
	json_set_u64(a, "mended", n);
	return 0;
}

int
protect_call(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];
	bool on = true, mending = false;
	const char *note = "";
	struct manifest m;
	int rc;

	rc = json_opt_bool(q, "mend", &mending, e);
	if (rc == 0)
		rc = json_opt_bool(q, "on", &on, e);
	if (rc == 0)
		rc = json_opt_str(q, "note", &note, e);
	if (rc == 0 && mending)
		return mend(s, a, e);
	if (rc == 0)
		rc = subject(s, q, &m, e);
	if (rc == 0)
		rc =
		    guard_protect(s->srv->guard, &m, on, note, s->key->name, e);
	if (rc != 0)
		return rc;
	log_info("%s: %s by %s", manifest_name(&m, name),
	    on ? "protected" : "no longer protected", s->key->name);
	answer(s, &m, a);
	return 0;
}

int
lock_call(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];
	const char *text;
	struct manifest m;
	uint64_t until;
	int rc;

	rc = json_get_str(q, "until", &text, e);
	if (rc == 0 && time_parse(text, &until) != 0)
		rc = err_set(e, ERR_INVAL,
		    "\"%.40s\" is not a time: write 2026-11-21T19:30:05Z",
		    text);
	if (rc == 0)
		rc = subject(s, q, &m, e);
	if (rc == 0)
		rc = guard_lock(s->srv->guard, &m, until, e);
	if (rc != 0)
		return rc;
	log_info("%s: locked until %s by %s", manifest_name(&m, name), text,
	    s->key->name);
	answer(s, &m, a);
	return 0;
}
