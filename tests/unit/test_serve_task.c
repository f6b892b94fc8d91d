/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/serve/conf_impl.h"
#include "agent/serve/task.h"
#include "proto/base/io.h"

#define TOKEN "0123456789abcdef0123456789abcdef"

static char dir[64];
static struct conf *c;
static struct inventory *v;
static struct task task;
static char words[4096];
static struct err e;

static int
set_up(void **state)
{
	(void)state;
	memset(&task, 0, sizeof(task));
	memset(&e, 0, sizeof(e));
	snprintf(dir, sizeof(dir), "/tmp/backstay-task.XXXXXX");
	return mkdtemp(dir) == NULL;
}

static int
tear_down(void **state)
{
	char *cmd = xasprintf("rm -rf %s", dir);
	int rc = system(cmd);

	(void)state;
	free(cmd);
	conf_free(c);
	c = NULL;
	inventory_free(v);
	v = NULL;
	task_fini(&task);
	return rc;
}

/* A host with these settings, and what it finds there. */
static void
host(const char *text)
{
	struct buf wrong = { 0 };
	struct conf *conf = xcalloc(1, sizeof(*conf));

	conf_free(c);
	inventory_free(v);
	conf->path = xstrdup("agent.conf");
	for (unsigned i = 0; i < CONF_NAGENT; i++)
		conf->text[i] = xstrdup(conf_keys[i].initial);
	conf_file_read(conf, text, strlen(text), &wrong);
	if (wrong.len > 0)
		fail_msg("%s", buf_cstr(&wrong));
	c = conf;
	v = inventory_take(c, NULL, &e);
	assert_int_equal(e.code, 0);
}

/* What is run for a task; words with a blank between. */
static int
runs(const char *kind, const char *vm, const char *options)
{
	char *text =
	    xasprintf("{\"task\": \"" TOKEN "\", \"job\": 7, \"kind\": \"%s\", "
		      "\"vm\": \"%s\", \"options\": %s}",
		kind, vm, options);
	struct task_words w = { 0 };
	json_t *j;
	int rc;

	assert_int_equal(json_parse(text, strlen(text), &j, NULL), 0);
	free(text);
	task_fini(&task);
	rc = task_parse(j, &task, &e);
	json_decref(j);
	if (rc != 0)
		return rc;
	rc = task_command(&task, c, "ssh://nas", v, &w, &e);
	words[0] = 0;
	for (unsigned i = 0; i < w.n; i++) {
		size_t at = strlen(words);

		snprintf(words + at, sizeof(words) - at, "%s%s",
		    i > 0 ? " " : "", w.word[i]);
	}
	assert_null(w.word[w.n]);
	task_words_fini(&w);
	return rc;
}

static void
has(const char *part)
{
	if (strstr(words, part) == NULL)
		fail_msg("\"%s\" lacks \"%s\"", words, part);
}

static void
lacks(const char *part)
{
	if (strstr(words, part) != NULL)
		fail_msg("\"%s\" has \"%s\"", words, part);
}

static void
a_backup_of_plain_disks_is_as_the_host_says(void **state)
{
	(void)state;
	host("[vm web1]\ndisk = vda=/a\ndisk = vdb=raw:/b\n");
	assert_int_equal(runs("backup", "web1", "{}"), 0);
	assert_string_equal(words,
	    "backstay-agent backup --quiet --repo=ssh://nas --wait=600 "
	    "--lanes=4 --stall-timeout=120 --compression=auto "
	    "--disk=vda=/a --disk=vdb=raw:/b web1");
	host("[agent]\nlanes = 2\nbwlimit = 1M\ncompression = 3\nwait = 0\n"
	     "namespace = n\n[vm web1]\ndisk = vda=/a\n");
	assert_int_equal(
	    runs("backup", "n/web1",
		"{\"full\": true, \"ram\": true, \"quiesce\": \"no\"}"),
	    0);
	assert_string_equal(words,
	    "backstay-agent backup --quiet --repo=ssh://nas --lanes=2 "
	    "--bwlimit=1M --stall-timeout=120 --compression=3 --full "
	    "--disk=vda=/a n/web1");
	assert_int_equal(task.job, 7);
	assert_string_equal(task.token, TOKEN);
}

static void
a_guest_is_backed_up_as_its_section_says(void **state)
{
	(void)state;
	host("[agent]\nscratch-max = 5G\n[vm q]\nqmp = /run/q\nga = /run/g\n"
	     "ram = yes\nram-method = mapped\nquiesce = require\n"
	     "exclude = vdb\n[vm d]\ndomain = dom\nconnect = test:///none\n");
	assert_int_equal(runs("backup", "q", "{}"), 0);
	has(" --qmp=/run/q --ga=/run/g --exclude=vdb --quiesce=require --ram "
	    "--ram-method=mapped --scratch-dir=/var/tmp --scratch-max=5G "
	    "--verify-clean=0.5 q");
	assert_int_equal(
	    runs("backup", "q",
		"{\"ram\": false, \"quiesce\": \"no\", \"compression\": 1, "
		"\"bwlimit\": 1048576, \"lanes\": 1}"),
	    0);
	has(" --quiesce=no");
	has(" --compression=1");
	has(" --bwlimit=1048576");
	has(" --lanes=1");
	lacks("--ram");
	assert_int_equal(runs("backup", "d", "{}"), 0);
	has(" --domain=dom --connect=test:///none --scratch-dir=");
	lacks("--quiesce");
}

static void
what_the_daemon_says_is_checked_word_by_word(void **state)
{
	static const char *const bad[] = { "{\"quiesce\": \"never\"}",
		"{\"quiesce\": \"\"}", "{\"quiesce\": \" \"}",
		"{\"quiesce\": \"o\"}", "{\"quiesce\": 1}", "{\"lanes\": 65}",
		"{\"lanes\": \"x\"}", "{\"lanes\": -1}",
		"{\"bwlimit\": \"--help\"}", "{\"compression\": 20}",
		"{\"compression\": \"--full\"}", "{\"full\": 1}",
		"{\"ram\": \"yes\"}" };

	(void)state;
	host("[vm q]\nqmp = /run/q\n");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (runs("backup", "q", bad[i]) != ERR_PROTO)
			fail_msg("%s: %s", bad[i], words);
	assert_int_equal(runs("backup", "--help", "{}"), ERR_PROTO);
	assert_int_equal(runs("backup", "r", "{}"), ERR_NOENT);
	assert_non_null(strstr(e.text, "no VM r"));
	assert_int_equal(runs("dance", "q", "{}"), ERR_UNSUP);
}

static void
a_restore_swaps_disks_and_never_more_than_was_asked_for(void **state)
{
	(void)state;
	host("[vm q]\nqmp = /run/q\n[vm p]\ndisk = vda=/a\n");
	assert_int_equal(runs("restore", "q", "{\"backup\": \"q@latest\"}"), 0);
	assert_string_equal(words,
	    "backstay-agent restore --quiet --repo=ssh://nas --wait=600 "
	    "--lanes=4 --swap --qmp=/run/q q@latest");
	assert_int_equal(
	    runs("restore", "p",
		"{\"backup\": \"q@-1\", \"onto\": \"p\", \"keep_old\": true, "
		"\"force\": true, \"disks\": [{\"name\": \"vda\"}, "
		"{\"name\": \"vdb\", \"path\": \"raw:/b\"}]}"),
	    0);
	has(" --swap --keep-old --force --onto=p --disk=vda --disk=vdb=raw:/b "
	    "q@-1");
	lacks("--qmp");
	assert_int_equal(
	    runs("restore", "new",
		"{\"backup\": \"q@-1\", \"onto\": \"new\", \"as_new\": true, "
		"\"disks\": [{\"name\": \"vda\", \"path\": \"/n\"}]}"),
	    0);
	has(" --swap --as=new --disk=vda=/n q@-1");
	lacks("--onto");
}

static void
a_restore_that_makes_no_sense_is_refused(void **state)
{
	static const struct {
		const char *options;
		int rc;
	} bad[] = { { "{}", ERR_PROTO }, { "{\"backup\": \"q\"}", ERR_INVAL },
		{ "{\"backup\": \"q@latest\", \"check\": true}", ERR_UNSUP },
		{ "{\"backup\": \"q@latest\", \"as_new\": true}", ERR_PROTO },
		{ "{\"backup\": \"q@latest\", \"onto\": \"-x\"}", ERR_PROTO },
		{ "{\"backup\": \"q@latest\", \"disks\": {}}", ERR_PROTO },
		{ "{\"backup\": \"q@latest\", \"disks\": [{\"name\": "
		  "\"--force\"}]}",
		    ERR_PROTO },
		{ "{\"backup\": \"q@latest\", \"disks\": [{\"name\": \"a\", "
		  "\"path\": \"b\"}]}",
		    ERR_INVAL } };

	(void)state;
	host("[vm q]\nqmp = /run/q\n");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (runs("restore", "q", bad[i].options) != bad[i].rc)
			fail_msg("%s: %s", bad[i].options, words);
}

static void
a_host_says_what_may_be_written_there(void **state)
{
	static const char own[] = "[agent]\nrestores = own\n"
				  "[vm p]\ndisk = vda=/a\n";
	static const char to[] = "{\"backup\": \"p@latest\", \"disks\": "
				 "[{\"name\": \"vda\", \"path\": \"%s\"}]}";
	char options[200];

	(void)state;
	host("[agent]\nrestores = no\n[vm p]\ndisk = vda=/a\n");
	assert_int_equal(
	    runs("restore", "p", "{\"backup\": \"p@latest\"}"), ERR_DENIED);
	assert_int_equal(runs("backup", "p", "{}"), 0);
	host(own);
	assert_int_equal(runs("restore", "p", "{\"backup\": \"p@latest\"}"), 0);
	/* Not wherever the backup says that its disks were. */
	has(" --swap --own=/a ");
	snprintf(options, sizeof(options), to, "raw:/a");
	assert_int_equal(runs("restore", "p", options), 0);
	snprintf(options, sizeof(options), to, "/etc/passwd");
	assert_int_equal(runs("restore", "p", options), ERR_DENIED);
	assert_int_equal(
	    runs("restore", "x", "{\"backup\": \"p@latest\"}"), ERR_DENIED);
	assert_int_equal(
	    runs("restore", "x",
		"{\"backup\": \"p@latest\", \"onto\": \"x\", \"as_new\": "
		"true}"),
	    ERR_DENIED);
}

/* --- the list */

static void
plain_disks_are_listed_with_size_and_format(void **state)
{
	const struct inventory_vm *m;
	char *raw = xasprintf("%s/raw", dir), *q = xasprintf("%s/q", dir);
	char *text =
	    xasprintf("[agent]\nnamespace = n\n[vm b]\ndisk = vda=%s\n"
		      "disk = vdb=%s\ndisk = vdc=qcow2:%s\n"
		      "disk = vdd=/nonexistent\n[vm a]\ndisk = vda=raw:%s\n"
		      "[vm c]\ndisk = vda=%s\nignore = yes\n",
		raw, q, q, q, raw);
	char *make = xasprintf("truncate -s 5M %s && qemu-img create -q -f "
			       "qcow2 %s 7M",
	    raw, q);
	unsigned n;
	json_t *j;

	(void)state;
	assert_int_equal(system(make), 0);
	host(text);
	assert_int_equal(v->nvms, 2);
	m = inventory_find(v, "n/b");
	assert_non_null(m);
	assert_string_equal(m->state, "unknown");
	assert_int_equal(m->ndisks, 4);
	assert_int_equal(m->disk[0].size, 5 << 20);
	assert_string_equal(m->disk[0].format, "raw");
	assert_int_equal(m->disk[1].size, 7 << 20);
	assert_string_equal(m->disk[1].format, "qcow2");
	assert_int_equal(m->disk[2].size, 7 << 20);
	assert_int_equal(m->disk[3].size, 0);
	/* Said to be raw: it is as long as its file. */
	m = inventory_find(v, "n/a");
	assert_string_equal(m->disk[0].format, "raw");
	assert_int_not_equal(m->disk[0].size, 7 << 20);
	assert_true(inventory_has_path(v, q));
	assert_false(inventory_has_path(v, "/q"));
	j = inventory_json(v, &n);
	assert_int_equal(n, 2);
	assert_int_equal(json_array_size(j), 2);
	assert_string_equal(
	    json_string_value(json_object_get(json_array_get(j, 0), "vm")),
	    "n/a");
	json_decref(j);
	free(raw);
	free(q);
	free(text);
	free(make);
}

static void
a_socket_that_nobody_listens_at_is_a_machine_that_is_off(void **state)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	char *text;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	assert_int_not_equal(fd, -1);
	snprintf(at.sun_path, sizeof(at.sun_path), "%s/qmp", dir);
	assert_false(socket_listens(at.sun_path));
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_false(socket_listens(at.sun_path));
	text = xasprintf("[vm q]\nqmp = %s\n", at.sun_path);
	host(text);
	assert_string_equal(inventory_find(v, "q")->state, "off");
	assert_int_equal(listen(fd, 1), 0);
	assert_true(socket_listens(at.sun_path));
	close(fd);
	assert_false(socket_listens(at.sun_path));
	free(text);
}

static void
a_list_stays_within_what_may_be_told(void **state)
{
	struct buf text = { 0 }, out = { 0 };
	json_t *j, *o = json_object();
	unsigned n;

	(void)state;
	for (unsigned i = 0; i < INVENTORY_VMS_MAX + 10; i++) {
		buf_printf(&text, "[vm machine%u]\n", i);
		for (unsigned k = 0; k < 5; k++)
			buf_printf(&text,
			    "disk = vd%u=/nonexistent/a/long/path/of/a/folder/"
			    "with/many/images/in/it/machine%u-%u.qcow2\n",
			    k, i, k);
	}
	host(buf_cstr(&text));
	assert_int_equal(v->nvms, INVENTORY_VMS_MAX);
	j = inventory_json(v, &n);
	assert_int_equal(json_array_size(j), n);
	assert_true(n > 200);
	assert_true(json_array_size(j) * 5 <= INVENTORY_DISKS_MAX);
	json_object_set_new(o, "vms", j);
	json_print(o, &out);
	assert_true(out.len < 256 << 10);
	json_decref(o);
	buf_fini(&out);
	buf_fini(&text);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_backup_of_plain_disks_is_as_the_host_says),
		TEST(a_guest_is_backed_up_as_its_section_says),
		TEST(what_the_daemon_says_is_checked_word_by_word),
		TEST(a_restore_swaps_disks_and_never_more_than_was_asked_for),
		TEST(a_restore_that_makes_no_sense_is_refused),
		TEST(a_host_says_what_may_be_written_there),
		TEST(plain_disks_are_listed_with_size_and_format),
		TEST(a_socket_that_nobody_listens_at_is_a_machine_that_is_off),
		TEST(a_list_stays_within_what_may_be_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
