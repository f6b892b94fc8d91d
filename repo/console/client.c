/* SPDX-License-Identifier: Apache-2.0 */
/* Calls to the daemon over the repository's socket. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/json.h"
#include "proto/lane_unix.h"
#include "proto/msg.h"
#include "proto/name.h"
#include "repo/console/console.h"
#include "repo/console/unit.h"

enum { CALL_MS = 60000, WAIT_S_MAX = 1000000 };

static int
call(struct console *c, json_t *ask, json_t **answer, struct err *e)
{
	struct frame f;
	int rc;

	json_print(ask, lane_begin(c->lane, MSG_CALL, ++c->request));
	json_decref(ask);
	rc = lane_end(c->lane, e);
	if (rc == 0)
		rc = lane_recv(
		    c->lane, c->wait_ms < 0 ? -1 : CALL_MS + c->wait_ms, &f, e);
	if (rc != 0)
		return rc;
	if (f.type == MSG_ERROR) {
		rc = msg_error_parse(f.payload, f.len, e);
		return rc != 0 ? rc : e->code;
	}
	if (f.type != MSG_RESULT || f.request != c->request)
		return err_set(e, ERR_PROTO, "%s: answered with a %s",
		    lane_peer(c->lane), msg_name(f.type));
	return json_parse(f.payload, f.len, answer, e);
}

static int
greet(struct console *c, const char *dir, struct err *e)
{
	json_t *ask = console_op("hello"), *answer;
	struct buf start = { 0 };
	char *path;
	int rc;

	path = xasprintf("%s/socket", dir);
	rc = lane_unix_connect(path, &c->lane, e);
	free(path);
	if (rc == ERR_NOENT) {
		unit_start(dir, false, &start);
		err_set(e, rc,
		    "%s: the daemon is not running (start it with `%s`)", dir,
		    buf_cstr(&start));
		buf_fini(&start);
	}
	if (rc != 0) {
		json_decref(ask);
		return rc;
	}
	json_set_u64(ask, "version", PROTOCOL_VERSION);
	json_set_str(ask, "program", "backstay " BACKSTAY_VERSION);
	json_object_set_new(ask, "features", json_array());
	rc = call(c, ask, &answer, e);
	if (rc == 0)
		json_decref(answer);
	return rc;
}

int
console_call(struct console *c, json_t *ask, json_t **answer, struct err *e)
{
	int rc = 0;

	if (c->lane == NULL)
		rc = greet(c, c->dir, e);
	if (rc != 0) {
		json_decref(ask);
		return rc;
	}
	if (c->wait_ms != 0)
		json_object_set_new(ask, "wait", json_integer(c->wait_ms));
	return call(c, ask, answer, e);
}

int
console_wait(struct console *c, const char *text)
{
	uint64_t s;

	c->wait_ms = -1;
	if (text == NULL)
		return 0;
	if (number_parse(text, 0, WAIT_S_MAX, &s) != 0)
		return console_misuse(c,
		    "--wait=%s: a number of seconds, at most %d", text,
		    WAIT_S_MAX);
	c->wait_ms = (int)s * 1000;
	return 0;
}

void
console_close(struct console *c)
{
	lane_close(c->lane);
	c->lane = NULL;
}

void
console_print_json(const json_t *j)
{
	char *s = json_dumps(j, JSON_INDENT(2) | JSON_SORT_KEYS);

	if (s == NULL)
		abort(); /* only lack of memory */
	puts(s);
	free(s);
}

int
console_pages(struct console *c, json_t *ask, const char *key, json_t *all,
    json_t **last, struct err *e)
{
	json_t *answer = NULL, *page;
	const char *next = "";
	int rc;

	do {
		json_decref(answer);
		answer = NULL;
		rc = console_call(c, json_copy(ask), &answer, e);
		if (rc == 0)
			rc = json_get_array(answer, key, &page, e);
		if (rc != 0)
			break;
		json_array_extend(all, page);
		next = answer_str(answer, "next");
		json_set_str(ask, "after", next);
	} while (*next != 0);
	json_decref(ask);
	if (rc == 0 && last != NULL)
		*last = answer;
	else
		json_decref(answer);
	return rc;
}

int
console_list(struct console *c, const char *vm, bool incomplete, json_t **out,
    struct err *e)
{
	json_t *all = json_array(), *ask = console_op("list");
	int rc;

	if (vm != NULL)
		json_set_str(ask, "vm", vm);
	json_set_bool(ask, "incomplete", incomplete);
	rc = console_pages(c, ask, "backups", all, NULL, e);
	if (rc != 0) {
		json_decref(all);
		return rc;
	}
	*out = all;
	return 0;
}
