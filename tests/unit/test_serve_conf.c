/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/serve/conf_impl.h"
#include "proto/base/io.h"
#include "tests/unit/etc_fixture.h"

static char file[64];
static struct buf wrong;
static struct conf *c;

static int
set_up(void **state)
{
	int fd;

	(void)state;
	snprintf(file, sizeof(file), "/tmp/backstay-conf.XXXXXX");
	fd = mkstemp(file);
	return fd == -1 ? -1 : close(fd);
}

static int
tear_down(void **state)
{
	(void)state;
	conf_free(c);
	c = NULL;
	buf_fini(&wrong);
	return unlink(file);
}

static int
reads(const char *text)
{
	int fd = open(file, O_WRONLY | O_TRUNC | O_CLOEXEC);

	assert_int_equal(pwrite_full(fd, text, strlen(text), 0), 0);
	close(fd);
	conf_free(c);
	c = NULL;
	wrong.len = 0;
	return conf_read(file, true, &c, &wrong);
}

/* ${says} begins behind "FILE:". */
static void
refuses(const char *text, const char *says)
{
	char *all;

	assert_int_equal(reads(text), ERR_INVAL);
	assert_null(c);
	all = xasprintf("%s:%s", file, says);
	if (strstr(buf_cstr(&wrong), all) == NULL)
		fail_msg("\"%s\" lacks \"%s\"", buf_cstr(&wrong), all);
	free(all);
}

static void
no_file_is_all_defaults_unless_it_was_named(void **state)
{
	(void)state;
	assert_int_equal(
	    conf_read("/nonexistent/agent.conf", false, &c, &wrong), 0);
	assert_string_equal(conf_text(c, CONF_JOBS), "2");
	assert_int_equal(conf_number(c, CONF_JOBS), 2);
	assert_int_equal(conf_number(c, CONF_SCAN), 30);
	assert_int_equal(c->nvms, 0);
	conf_free(c);
	c = NULL;
	assert_int_equal(
	    conf_read("/nonexistent/agent.conf", true, &c, &wrong), ERR_NOENT);
	assert_non_null(strstr(buf_cstr(&wrong), "no such file"));
}

static void
all_of_a_host_is_read(void **state)
{
	const struct conf_vm *v;

	(void)state;
	assert_int_equal(reads("[agent]\nrepo = ssh://nas:7000\n"
			       "jobs-per-host = 5\nlibvirt = qemu:///session\n"
			       "namespace = prod\nbwlimit = 100M\nwait = 0\n"
			       "[vm web1]\n disk = vda=/a\n\tdisk = vdb=raw:/b "
			       "; a comment\n"
			       "[vm other/db1]\ndomain = database\n"
			       "exclude = vdb\nexclude = vdc\nram = yes\n"),
	    0);
	assert_string_equal(conf_text(c, CONF_REPO), "ssh://nas:7000");
	assert_int_equal(conf_number(c, CONF_JOBS), 5);
	assert_int_equal(conf_number(c, CONF_BWLIMIT), 100 << 20);
	assert_int_equal(conf_number(c, CONF_WAIT), 0);
	v = conf_vm_find(c, "prod/web1");
	assert_non_null(v);
	assert_int_equal(v->ndisks, 2);
	assert_string_equal(v->disk[1], "vdb=raw:/b");
	assert_null(conf_vm_find(c, "web1"));
	v = conf_vm_find(c, "other/db1");
	assert_non_null(v);
	assert_int_equal(v->nexcluded, 2);
	assert_true(conf_is(conf_vm_text(v, CONF_RAM)));
	assert_string_equal(conf_vm_text(v, CONF_DOMAIN), "database");
	assert_string_equal(conf_vm_text(v, CONF_QUIESCE), "auto");
}

static void
what_is_no_key_is_named_with_the_one_that_was_meant(void **state)
{
	(void)state;
	refuses("[agent]\njob-per-host = 2\n",
	    "2: [agent] has no key \"job-per-host\": is it jobs-per-host?");
	refuses("[agent]\nfrobnicate = 2\n",
	    "2: [agent] has no key \"frobnicate\": agent.conf(5) has");
	refuses("[agent]\ndisk = vda=/a\n",
	    "2: disk belongs to [vm NAME], and this is [agent]");
	refuses("[vm a]\ndisk = vda=/a\nlanes = 4\n",
	    "3: lanes belongs to [agent], and this is [vm]");
	refuses("[daemon]\n", "1: there is no section [daemon]");
	refuses("repo = ssh://nas\n", "1: \"repo\" stands in no section");
	refuses("[agent\nlanes = 3\n", "1: a section is [agent] or [vm NAME]");
	refuses("[agent]\nwhat is this\n", "2: neither a [section] nor KEY");
}

static void
what_no_key_takes_is_refused(void **state)
{
	static const struct {
		const char *line, *says;
	} bad[] = { { "repo = nas", "repo takes ssh://NAS" },
		{ "jobs-per-host = 0", "jobs-per-host takes a number from 1" },
		{ "jobs-per-host = 65", "jobs-per-host takes" },
		{ "libvirt = maybe", "libvirt takes yes, no, or an address" },
		{ "namespace = a/b", "namespace takes letters" },
		{ "scan = 0", "scan takes a time from 1s" },
		{ "scan = 30", "scan takes a time from 1s" },
		{ "scan = 2d", "scan takes a time from 1s" },
		{ "restores = all", "restores takes any, own or no" },
		{ "bwlimit = 1K", "bwlimit takes bytes a second" },
		{ "compression = 20", "compression takes a number from 0" },
		{ "scratch-dir = tmp", "scratch-dir takes the whole path" },
		{ "verify-clean = 101", "verify-clean takes a percentage" },
		{ "verify-clean = nan", "verify-clean takes a percentage" },
		{ "verbose = maybe", "verbose takes yes or no" },
		{ "verbose =", "verbose takes yes or no" } };
	char text[200], says[200];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), "[agent]\n%s\n", bad[i].line);
		snprintf(says, sizeof(says), "2: %s", bad[i].says);
		refuses(text, says);
	}
	refuses("[vm a]\ndisk = /a\n", "2: disk takes NAME=SOURCE");
	refuses("[vm a]\ndisk = x/y=/a\n", "2: disk takes NAME=SOURCE");
	refuses("[vm a]\ndisk = vda=\n", "2: disk takes NAME=SOURCE");
	refuses("[vm a]\nqmp = sock\n", "2: qmp takes the whole path");
	refuses("[vm a]\nexclude =\n", "2: exclude takes the name of a disk");
}

static void
what_is_there_twice_is_refused(void **state)
{
	(void)state;
	refuses("[agent]\nlanes = 1\nlanes = 2\n",
	    "3: lanes is there already, in line 2");
	refuses("[vm a]\ndisk = vda=/a\n[vm a]\ndisk = vda=/a\n",
	    "3: [vm a] is there already, in line 1");
	refuses("[vm a]\ndisk = vda=/a\ndisk = vda=/b\n",
	    "3: disk vda is there already");
	refuses("[agent]\nnamespace = x\n[vm a]\ndisk = vda=/a\n"
		"[vm x/a]\ndisk = vda=/b\n",
	    "5: [vm a] and [vm x/a] are one");
	/* In each section anew. */
	assert_int_equal(reads("[vm a]\nqmp = /a\nram = yes\n"
			       "[vm b]\nqmp = /b\nram = yes\n"),
	    0);
}

static void
a_machine_must_be_one_thing(void **state)
{
	(void)state;
	refuses("[vm a]\n", "1: [vm a]: say what it is, by disk, domain");
	refuses("[vm a]\ndisk = vda=/a\nqmp = /q\n",
	    "1: [vm a]: say one of disk, domain and qmp");
	refuses("[vm a]\ndomain = d\nga = /q\n", "1: [vm a]: ga needs qmp");
	refuses("[vm a]\ndisk = vda=/a\nram = yes\n",
	    "1: [vm a]: exclude and ram need domain or qmp");
	refuses("[vm a b]\n", "1: \"a b\" is no name of a VM");
	assert_int_equal(
	    reads("[agent]\nlibvirt = yes\n[vm a]\nram = on\n"), 0);
	assert_int_equal(reads("[vm a]\nignore = yes\n"), 0);
}

static void
changes_are_told_and_those_for_a_restart_stay(void **state)
{
	struct buf changes = { 0 };
	struct conf *old;
	const char *text;

	(void)state;
	assert_int_equal(reads("[agent]\nrepo = ssh://a\n[vm x]\ndisk = a=/a\n"
			       "[vm y]\ndisk = a=/a\n"),
	    0);
	old = c;
	c = NULL;
	assert_int_equal(reads("[agent]\nrepo = ssh://b\nlanes = 9\n"
			       "[vm y]\ndisk = a=/b\n[vm z]\ndisk = a=/a\n"),
	    0);
	conf_compare(old, c, &changes);
	text = buf_cstr(&changes);
	assert_non_null(strstr(text,
	    "repo: stays ssh://a; ssh://b counts from the next start on\n"));
	assert_string_equal(conf_text(c, CONF_REPO), "ssh://a");
	assert_non_null(strstr(text, "lanes: 4 -> 9\n"));
	assert_non_null(strstr(text, "[vm y]: disk = a=/a -> disk = a=/b\n"));
	assert_non_null(strstr(text, "[vm z]: not there -> disk = a=/a\n"));
	assert_non_null(strstr(text, "[vm x]: disk = a=/a -> not there\n"));
	changes.len = 0;
	conf_compare(c, c, &changes);
	assert_int_equal(changes.len, 0);
	conf_free(old);
	buf_fini(&changes);
}

static void
what_is_in_force_stays_while_it_is_used(void **state)
{
	const struct conf *was;
	struct conf_now *n;

	(void)state;
	assert_int_equal(reads("[agent]\nlanes = 1\n"), 0);
	n = conf_now_new(c);
	was = conf_get(n);
	c = NULL;
	assert_int_equal(reads("[agent]\nlanes = 2\n"), 0);
	conf_set(n, c);
	c = NULL;
	assert_string_equal(conf_text(was, CONF_LANES), "1");
	conf_put(n, was);
	was = conf_get(n);
	assert_string_equal(conf_text(was, CONF_LANES), "2");
	conf_put(n, was);
	conf_now_free(n);
}

static void
the_sample_has_each_key_at_its_default(void **state)
{
	struct buf sample = { 0 }, etc = { 0 };

	(void)state;
	conf_sample(&sample);
	assert_int_equal(reads(buf_cstr(&sample)), 0);
	assert_int_equal(c->nvms, 0);
	for (unsigned i = 0; i < CONF_NKEYS; i++) {
		const struct conf_key *k = &conf_keys[i];
		char *line = xasprintf("\n#%s =%s%s\n", k->name,
		    k->initial[0] != 0 ? " " : "", k->initial);

		assert_int_equal(conf_check(k, k->initial, NULL), 0);
		if (strstr(buf_cstr(&sample), line) == NULL)
			fail_msg("the sample lacks %s", k->name);
		free(line);
	}
	etc_read("agent.conf", &etc);
	if (strcmp(buf_cstr(&etc), buf_cstr(&sample)) != 0)
		fail_msg("etc/agent.conf is not what `backstay-agent serve "
			 "--sample` prints");
	buf_fini(&etc);
	buf_fini(&sample);
}

static void
the_manual_has_each_key_and_its_default(void **state)
{
	struct buf man = { 0 };

	(void)state;
	etc_read("agent.conf.5", &man);
	for (unsigned i = 0; i < CONF_NKEYS; i++) {
		const struct conf_key *k = &conf_keys[i];
		char *item = xasprintf("\n.It Ic %s No = Ar ", k->name);
		char *initial = xasprintf("Default: %s.",
		    k->initial[0] != 0 ? k->initial : "nothing");
		const char *at = strstr(buf_cstr(&man), item), *next = NULL;

		if (at == NULL)
			fail_msg("agent.conf(5) lacks \"%s\"", item + 1);
		if (at != NULL) {
			next = strstr(at + 1, "\n.It ");
			at = strstr(at, initial);
		}
		if (at == NULL || (next != NULL && at > next))
			fail_msg(
			    "agent.conf(5): %s: no \"%s\"", k->name, initial);
		free(item);
		free(initial);
	}
	buf_fini(&man);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(no_file_is_all_defaults_unless_it_was_named),
		TEST(all_of_a_host_is_read),
		TEST(what_is_no_key_is_named_with_the_one_that_was_meant),
		TEST(what_no_key_takes_is_refused),
		TEST(what_is_there_twice_is_refused),
		TEST(a_machine_must_be_one_thing),
		TEST(changes_are_told_and_those_for_a_restart_stay),
		TEST(what_is_in_force_stays_while_it_is_used),
		TEST(the_sample_has_each_key_at_its_default),
		TEST(the_manual_has_each_key_and_its_default),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
