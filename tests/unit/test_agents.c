/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/buf.h"
#include "proto/base/json.h"
#include "repo/dispatch/agents.h"

static struct err e;

static json_t *
parse(const char *text)
{
	json_t *j;

	assert_int_equal(json_parse(text, strlen(text), &j, &e), 0);
	return j;
}

static int
says(const char *text, bool (*sees)(void *arg, const char *vm),
    struct agent_says *out)
{
	json_t *j = parse(text);
	int rc = agent_says_parse(j, sees, NULL, out, &e);

	json_decref(j);
	return rc;
}

static bool
sees_web(void *arg, const char *vm)
{
	(void)arg;
	return strncmp(vm, "web", 3) == 0;
}

static void
what_it_says_is_taken_whole(void **state)
{
	struct agent_says s;
	const struct agent_vm *v;
	struct agent g = { .ntasks = 0 };

	(void)state;
	assert_int_equal(
	    says("{\"host\":\"h1\",\"version\":\"0.1\",\"jobs\":3,\"vms\":["
		 "{\"vm\":\"web2\",\"state\":\"off\",\"disks\":[]},"
		 "{\"vm\":\"web1\",\"state\":\"running\",\"disks\":["
		 "{\"name\":\"vda\",\"path\":\"/x.qcow2\",\"size\":10,"
		 "\"format\":\"qcow2\"},{\"name\":\"vdb\"}]}],"
		 "\"running\":[\"000102030405060708090a0b0c0d0e0f\"]}",
		NULL, &s),
	    0);
	assert_string_equal(s.host, "h1");
	assert_int_equal(s.jobs, 3);
	assert_int_equal(s.nvms, 2);
	assert_true(s.told_running);
	assert_int_equal(s.nrunning, 1);
	assert_int_equal(s.running[0][15], 15);
	g.says = s;
	v = agent_vm_find(&g, "web1");
	assert_non_null(v);
	assert_int_equal(v->state, VM_RUNNING);
	assert_int_equal(v->ndisks, 2);
	assert_string_equal(v->disk[0].path, "/x.qcow2");
	assert_string_equal(v->disk[1].path, "");
	assert_int_equal(agent_vm_find(&g, "web2")->state, VM_OFF);
	assert_null(agent_vm_find(&g, "web"));
	agent_says_fini(&s);
}

static void
vms_that_its_key_may_not_see_are_left_out(void **state)
{
	struct agent_says s;

	(void)state;
	assert_int_equal(says("{\"host\":\"h\",\"vms\":[{\"vm\":\"db1\"},"
			      "{\"vm\":\"web1\"},{\"vm\":\"db2\"}]}",
			     sees_web, &s),
	    0);
	assert_int_equal(s.nvms, 1);
	assert_string_equal(s.vm[0].name, "web1");
	assert_int_equal(s.hidden, 2);
	assert_int_equal(s.jobs, 1);
	assert_false(s.told_running);
	agent_says_fini(&s);
}

static void
what_makes_no_sense_is_refused_and_leaves_nothing(void **state)
{
	static const char *const bad[] = { "{\"vms\":[]}", "{\"host\":\"h\"}",
		"{\"host\":\"h\",\"vms\":[1]}",
		"{\"host\":\"h\",\"vms\":[{\"vm\":\"../x\"}]}",
		"{\"host\":\"h\",\"vms\":[{\"vm\":\"a\"},{\"vm\":\"a\"}]}",
		"{\"host\":\"h\",\"vms\":[{\"vm\":\"a\",\"disks\":[1]}]}",
		"{\"host\":\"h\",\"vms\":[{\"vm\":\"a\",\"disks\":["
		"{\"name\":\"ok\",\"path\":\"/p\"},{\"name\":\"/\"}]}]}",
		"{\"host\":\"h\",\"jobs\":0,\"vms\":[]}",
		"{\"host\":\"h\",\"jobs\":65,\"vms\":[]}",
		"{\"host\":\"a\\nb\",\"vms\":[]}",
		"{\"host\":\"h\",\"vms\":[],\"running\":[\"00\"]}",
		"{\"host\":\"h\",\"vms\":[],\"running\":{}}" };
	struct agent_says s;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		e.text[0] = 0;
		if (says(bad[i], NULL, &s) == 0)
			fail_msg("taken: %s", bad[i]);
		assert_true(e.text[0] != 0);
	}
}

static void
its_limits_are_named(void **state)
{
	struct agent_says s;
	json_t *q = json_object(), *vms = json_array(), *disks = json_array();
	char name[16];

	(void)state;
	json_set_str(q, "host", "h");
	json_object_set_new(q, "vms", vms);
	for (int i = 0; i < AGENT_VMS_MAX; i++) {
		json_t *v = json_object();

		snprintf(name, sizeof(name), "vm%d", i);
		json_set_str(v, "vm", name);
		json_array_append_new(vms, v);
	}
	assert_int_equal(agent_says_parse(q, NULL, NULL, &s, &e), 0);
	agent_says_fini(&s);
	for (int i = 0; i < AGENT_DISKS_MAX + 1; i++) {
		json_t *d = json_object();

		json_set_str(d, "name", "vda");
		json_array_append_new(disks, d);
	}
	json_object_set_new(json_array_get(vms, 0), "disks", disks);
	assert_int_equal(agent_says_parse(q, NULL, NULL, &s, &e), ERR_LIMIT);
	json_array_remove(disks, 0);
	assert_int_equal(agent_says_parse(q, NULL, NULL, &s, &e), 0);
	agent_says_fini(&s);
	json_array_append_new(vms, json_pack("{s:s}", "vm", "more"));
	assert_int_equal(agent_says_parse(q, NULL, NULL, &s, &e), ERR_LIMIT);
	json_decref(q);
}

/* A stand-in: only whether there is one counts here. */
static char lane;

static struct agent *
connected(
    struct agents *a, const char *name, const char *vm, const char *vm_state)
{
	struct agent *g = agents_get(a, name);
	struct agent_says s;
	char *text = xasprintf("{\"host\":\"%s\",\"jobs\":1,\"vms\":[{"
			       "\"vm\":\"%s\",\"state\":\"%s\"}]}",
	    name, vm, vm_state);

	assert_int_equal(says(text, NULL, &s), 0);
	free(text);
	g->lane = (struct queue_lane *)(void *)&lane;
	g->may_backup = true;
	agents_says(a, g, &s);
	return g;
}

static void
a_vm_s_backup_goes_where_it_runs_then_where_there_is_a_place(void **state)
{
	struct agents a = { .n = 0 };
	struct agent *off1, *off2, *runs;

	(void)state;
	assert_null(agents_with(&a, "web1"));
	off1 = connected(&a, "b", "web1", "off");
	assert_ptr_equal(agents_with(&a, "web1"), off1);
	assert_null(agents_with(&a, "web"));
	/* The last to say so. */
	off2 = connected(&a, "a", "web1", "unknown");
	assert_ptr_equal(agents_with(&a, "web1"), off2);
	off2->ntasks = 1;
	assert_ptr_equal(agents_with(&a, "web1"), off1);
	runs = connected(&a, "c", "web1", "running");
	runs->ntasks = 1;
	assert_ptr_equal(agents_with(&a, "web1"), runs);
	/* It went over to another host. */
	connected(&a, "b", "web1", "running");
	connected(&a, "c", "web1", "off");
	assert_ptr_equal(agents_with(&a, "web1"), off1);
	off1->lane = NULL;
	agents_changed(&a);
	runs->ntasks = 0;
	assert_ptr_equal(agents_with(&a, "web1"), runs);
	runs->may_backup = false;
	assert_ptr_equal(agents_with(&a, "web1"), off2);
	off2->ntasks = 0;
	agents_fini(&a);
}

static void
they_are_kept_by_name_and_the_one_lost_longest_goes(void **state)
{
	struct agents a = { .n = 0 };
	char name[16];

	(void)state;
	for (int i = 0; i < AGENTS_KEPT; i++) {
		snprintf(name, sizeof(name), "k%d", i);
		agents_get(&a, name)->lost_ms = 1000 - (uint64_t)i;
	}
	for (const struct agent *g = a.first; g->next != NULL; g = g->next)
		assert_true(strcmp(g->name, g->next->name) < 0);
	agents_trim(&a);
	assert_int_equal(a.n, AGENTS_KEPT);
	agents_get(&a, "new")->lane = (struct queue_lane *)(void *)&lane;
	snprintf(name, sizeof(name), "k%d", AGENTS_KEPT - 1);
	agents_find(&a, name)->ntasks = 1;
	agents_trim(&a);
	assert_int_equal(a.n, AGENTS_KEPT);
	assert_non_null(agents_find(&a, name));
	snprintf(name, sizeof(name), "k%d", AGENTS_KEPT - 2);
	assert_null(agents_find(&a, name));
	agents_fini(&a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_it_says_is_taken_whole),
		cmocka_unit_test(vms_that_its_key_may_not_see_are_left_out),
		cmocka_unit_test(
		    what_makes_no_sense_is_refused_and_leaves_nothing),
		cmocka_unit_test(its_limits_are_named),
		cmocka_unit_test(
		    a_vm_s_backup_goes_where_it_runs_then_where_there_is_a_place),
		cmocka_unit_test(
		    they_are_kept_by_name_and_the_one_lost_longest_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
