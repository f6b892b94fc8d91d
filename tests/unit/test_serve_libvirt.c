/* SPDX-License-Identifier: Apache-2.0 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/guest/guard.h"
#include "agent/serve/conf_impl.h"
#include "agent/serve/lookout.h"
#include "agent/serve/task.h"
#include "proto/base/io.h"
#include "tests/unit/libvirt_guest.h"

static struct conf *c;
static struct inventory *v;

static struct conf *
conf_of(const char *agent, const char *vms)
{
	struct conf *conf = xcalloc(1, sizeof(*conf));
	char *text = xasprintf("[agent]\n%s\n%s\n", agent, vms);
	struct buf wrong = { 0 };

	conf->path = xstrdup("agent.conf");
	for (unsigned i = 0; i < CONF_NAGENT; i++)
		conf->text[i] = xstrdup(conf_keys[i].initial);
	conf_file_read(conf, text, strlen(text), &wrong);
	if (wrong.len > 0)
		fail_msg("%s", buf_cstr(&wrong));
	free(text);
	return conf;
}

/* ${agent}, with libvirt = the room's. */
static char *
with_libvirt(const char *agent)
{
	return xasprintf("libvirt = %s\n%s", room->uri, agent);
}

static void
host(const char *agent, const char *vms)
{
	struct inventory *old = v;

	conf_free(c);
	c = conf_of(agent, vms);
	v = inventory_take(c, old, &e);
	if (e.code != 0)
		fail_msg("%s", e.text);
	inventory_free(old);
}

static int
tear_down(void **state)
{
	(void)state;
	conf_free(c);
	c = NULL;
	inventory_free(v);
	v = NULL;
	return 0;
}

static void
domains_are_offered_by_their_names_with_their_disks(void **state)
{
	char *agent = with_libvirt("namespace = n");
	const struct inventory_vm *m;

	(void)state;
	for (unsigned on = 0; on < 2; on++) {
		if (on == 0)
			room_power_off(room);
		else
			room_start(room);
		host(agent, "");
		assert_int_equal(v->nvms, 1);
		m = inventory_find(v, "n/d");
		assert_non_null(m);
		assert_string_equal(m->state, on == 0 ? "off" : "running");
		assert_string_equal(m->domain, room->uuid);
		assert_string_equal(m->disk[VDA].name, "vda");
		assert_string_equal(m->disk[VDA].format, "qcow2");
		assert_int_equal(m->disk[VDA].size, ROOM_VDA);
		assert_int_equal(m->disk[VDB].size, ROOM_VDB);
	}
	free(agent);
}

static void
a_section_means_a_domain_by_name_or_says_which(void **state)
{
	char *agent = with_libvirt(""), *vms;

	(void)state;
	host(agent, "[vm d]\nram = yes\n");
	assert_int_equal(v->nvms, 1);
	assert_non_null(inventory_find(v, "d"));
	host(agent, "[vm d]\nignore = yes\n");
	assert_int_equal(v->nvms, 0);
	vms = xasprintf("[vm web1]\ndomain = %s\n", room->uuid);
	host(agent, vms);
	assert_int_equal(v->nvms, 1);
	assert_non_null(inventory_find(v, "web1"));
	free(vms);
	/* A VM of other disks that happens to have the name stays that. */
	host(agent, "[vm d]\ndisk = vda=/nonexistent\n");
	assert_int_equal(v->nvms, 1);
	assert_null(inventory_find(v, "d")->domain);
	/* Found or not, it is offered: who backs it up is told more. */
	host(agent, "[vm gone]\ndomain = gone\n");
	assert_int_equal(v->nvms, 2);
	assert_string_equal(inventory_find(v, "gone")->state, "unknown");
	free(agent);
}

static void
a_domain_is_backed_up_by_its_identity(void **state)
{
	char *agent = with_libvirt(""), *expect, words[4096] = "";
	struct task t = { .job = 1, .vm = "d" };
	struct task_words w;

	(void)state;
	host(agent, "");
	t.options = json_object();
	OK(task_command(&t, c, "ssh://nas", v, &w, &e));
	for (unsigned i = 0; i < w.n; i++) {
		size_t at = strlen(words);

		snprintf(words + at, sizeof(words) - at, "%s ", w.word[i]);
	}
	expect = xasprintf(" --domain=%s --connect=%s ", room->uuid, room->uri);
	assert_non_null(strstr(words, expect));
	task_words_fini(&w);
	task_fini(&t);
	free(expect);
	free(agent);
}

static void
until_version(struct lookout *l, uint64_t version)
{
	uint64_t until = now_ms() + WAIT_MS;

	while (lookout_version(l) < version && now_ms() < until)
		(void)lookout_wait(l, 10);
	assert_int_equal(lookout_version(l), version);
}

static void
what_changes_is_noticed_and_what_does_not_is_not(void **state)
{
	char *agent = with_libvirt("scan = 1s");
	struct conf_now *n = conf_now_new(conf_of(agent, ""));
	const struct inventory *look;
	struct lookout *l;
	uint64_t until;

	(void)state;
	l = lookout_new(n);
	assert_true(lookout_wait(l, WAIT_MS));
	assert_int_equal(lookout_version(l), 1);
	room_power_off(room);
	until_version(l, 2);
	/* libvirt's daemon goes: what it had is offered as before. */
	room_daemon_stop(room);
	lookout_again(l);
	until = now_ms() + 1500;
	while (now_ms() < until)
		(void)poll(NULL, 0, 10);
	assert_int_equal(lookout_version(l), 2);
	look = lookout_get(l);
	assert_non_null(inventory_find(look, "d"));
	lookout_put(l, look);
	room_daemon_start(room);
	room->dom = virDomainLookupByName(room->conn, "d");
	assert_non_null(room->dom);
	assert_true(lookout_free(l));
	conf_now_free(n);
	free(agent);
}

/* What a power cut left of a restore to that disk, before it had begun. */
static char *
leave_journal(const char *name)
{
	static const char text[] =
	    "{\"format\": 1, \"id\": \"000102030405060708090a0b0c0d0e0f\", "
	    "\"disks\": [{\"dir\": \"%s\", \"name\": \"first\", \"new\": 1, "
	    "\"old\": 2}, {\"dir\": \"%s\", \"name\": \"%s\", \"new\": 3, "
	    "\"old\": 4}]}";
	char *path = xasprintf("%s/.%s.swap", room->dir, name);
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fprintf(f, text, room->dir, room->dir, name) > 0);
	assert_int_equal(fclose(f), 0);
	return path;
}

/* As at boot: the agent may be there before libvirt is. */
static void
an_interrupted_swap_is_ended_when_libvirt_tells_of_the_disk(void **state)
{
	char *agent = with_libvirt("scan = 1s"), *journal;
	struct conf_now *n = conf_now_new(conf_of(agent, ""));
	uint64_t until = now_ms() + WAIT_MS;
	struct lookout *l;

	(void)state;
	room_power_off(room);
	journal = leave_journal("vdb.raw");
	room_daemon_stop(room);
	l = lookout_new(n);
	/* Before there is a list, nothing is told. */
	while (lookout_version(l) == 0 && now_ms() < until)
		(void)lookout_wait(l, 10);
	assert_int_equal(access(journal, F_OK), 0);
	room_daemon_start(room);
	room->dom = virDomainLookupByName(room->conn, "d");
	assert_non_null(room->dom);
	while (access(journal, F_OK) == 0 && now_ms() < until)
		(void)poll(NULL, 0, 10);
	assert_int_equal(access(journal, F_OK), -1);
	assert_true(lookout_free(l));
	conf_now_free(n);
	free(journal);
	free(agent);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, libvirt_fresh, tear_down)

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(domains_are_offered_by_their_names_with_their_disks),
		TEST(a_section_means_a_domain_by_name_or_says_which),
		TEST(a_domain_is_backed_up_by_its_identity),
		TEST(what_changes_is_noticed_and_what_does_not_is_not),
		TEST(
		    an_interrupted_swap_is_ended_when_libvirt_tells_of_the_disk),
	};
	int rc = guard_main(argc, argv);

	if (rc != -1)
		return rc;
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(
	    tests, libvirt_room_setup, libvirt_room_teardown);
}
