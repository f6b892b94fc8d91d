/* SPDX-License-Identifier: Apache-2.0 */
/* Definitions of machines: what is read from them, and what they become. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/live/live_restore_args.h"
#include "agent/live/live_restore_words.h"
#include "proto/base/buf.h"

static void
expect_get(const char *arg, const char *key, const char *want)
{
	char *got = words_get(arg, key);

	if (want == NULL)
		assert_null(got);
	else
		assert_string_equal(got, want);
	free(got);
}

static void
expect_set(
    const char *arg, const char *key, const char *value, const char *want)
{
	char *got = words_set(arg, key, value);

	assert_string_equal(got, want);
	free(got);
}

static void
values_are_found_by_their_key(void **state)
{
	(void)state;
	expect_get("driver=qcow2,node-name=vda,file=x", "node-name", "vda");
	expect_get("driver=qcow2,node-name=vda", "name", NULL);
	expect_get("virtio-blk-pci,drive=vda", "", "virtio-blk-pci");
	expect_get("drive=vda", "", NULL);
	expect_get("file=/a,,b=c,,,format=raw", "file", "/a,b=c,");
	expect_get("file=/a,,b,format=raw", "format", "raw");
	expect_get("", "file", NULL);
	expect_get("a,", "", "a");
	expect_get("{\"driver\":\"qcow2\",\"file\":{\"filename\":\"/a,b\"}}",
	    "file.filename", "/a,b");
	expect_get("{\"qom-type\":\"memory-backend-file\",\"share\":true}",
	    "share", "on");
	expect_get("{\"qom-type\":\"memory-backend-file\",\"size\":4096}", "",
	    "memory-backend-file");
	expect_get("{broken", "file", NULL);
	expect_get("{\"file\":\"node\"}", "file.filename", NULL);
}

static void
values_are_set_and_nothing_else_changes(void **state)
{
	(void)state;
	expect_set("a,b=1,c=2", "b", "3", "a,b=3,c=2");
	expect_set("a,b=1,c=2", "b", NULL, "a,c=2");
	expect_set("a,b=1", "c", "x,y", "a,b=1,c=x,,y");
	expect_set("a,b=1", "", "z", "z,b=1");
	expect_set("b=1", "b", NULL, "");
	expect_set("file=/a,,b,format=raw", "format", "qcow2",
	    "file=/a,,b,format=qcow2");
	expect_set("{\"file\":{\"filename\":\"/a\"},\"n\":1}", "file.filename",
	    "/b", "{\"file\":{\"filename\":\"/b\"},\"n\":1}");
	expect_set("{\"share\":true}", "share", "off", "{\"share\":false}");
	expect_set("{\"backing\":null,\"n\":1}", "backing", NULL, "{\"n\":1}");
	expect_set("{broken", "a", "b", "{broken");
}

/* A restore that got as far as its definition. */
struct room {
	struct live_restore_options o;
	struct live_restore_result out;
	struct lr r;
};

static struct room *
room_new(void)
{
	struct room *m = xcalloc(1, sizeof(*m));

	m->r.o = &m->o;
	m->r.out = &m->out;
	m->r.ram_fd = -1;
	m->r.home = xstrdup("/new");
	snprintf(m->r.vm, sizeof(m->r.vm), "web");
	return m;
}

static void
room_free(struct room *m)
{
	for (unsigned i = 0; i < m->r.ndisks; i++) {
		free(m->r.disk[i].path);
		free(m->r.disk[i].format);
	}
	for (unsigned i = 0; i < m->r.nfiles; i++)
		free(m->r.file[i].path);
	json_decref(m->r.args);
	xmlFreeDoc(m->r.doc);
	free(m->r.name);
	free(m->r.home);
	free(m->r.ram_tmp);
	free(m->r.qmp);
	free(m);
}

static int
parse(struct room *m, const char *text, bool xml, struct err *e)
{
	struct buf b = { 0 };
	int rc;

	buf_add(&b, text, strlen(text));
	rc = xml ? lr_xml_parse(&m->r, &b, e) : lr_args_parse(&m->r, &b, e);
	buf_fini(&b);
	return rc;
}

/* As if the disk had been restored to ${path}. */
static void
restored(struct room *m, const char *name, const char *path, const char *format)
{
	struct manifest_volume *v =
	    &m->out.restore.manifest.volume[m->r.nfiles];
	struct lr_file *f = &m->r.file[m->r.nfiles++];

	snprintf(v->name, sizeof(v->name), "%s", name);
	f->volume = v;
	f->path = xstrdup(path);
	f->format = format;
}

static void
expect_word(struct room *m, const char *want)
{
	for (size_t i = 0; i < json_array_size(m->r.args); i++)
		if (strcmp(args_word(&m->r, i), want) == 0)
			return;
	fail_msg("no word %s", want);
}

static bool
has_word(struct room *m, const char *word)
{
	for (size_t i = 0; i < json_array_size(m->r.args); i++)
		if (strstr(args_word(&m->r, i), word) != NULL)
			return true;
	return false;
}

static const char machine[] =
    "[\"qemu\",\"-name\",\"guest=web,debug-threads=on\",\"-machine\","
    "\"q35,memory-backend=m\",\"-object\","
    "\"memory-backend-memfd,id=m,size=64M,share=on,hugetlb=on\","
    "\"-blockdev\",\"driver=file,node-name=f,filename=/old/a.qcow2\","
    "\"-blockdev\",\"driver=qcow2,node-name=a,file=f,backing=b\","
    "\"-device\",\"virtio-blk-pci,drive=a,id=vda\","
    "\"-blockdev\",\"{\\\"driver\\\":\\\"raw\\\",\\\"node-name\\\":\\\"c\\\","
    "\\\"file\\\":{\\\"driver\\\":\\\"nbd\\\",\\\"export\\\":\\\"x\\\"}}\","
    "\"-drive\",\"if=pflash,format=raw,readonly=on,file=/code.fd\","
    "\"-drive\",\"if=pflash,format=raw,file=/old/vars.fd\","
    "\"-drive\",\"if=virtio,format=raw,file=/old/b.raw\","
    "\"-netdev\",\"user,id=n\",\"-device\","
    "\"virtio-net-pci,netdev=n,mac=52:54:00:00:00:01\","
    "\"-qmp\",\"unix:/old/qmp.sock,server=on,wait=off\","
    "\"-chardev\",\"socket,id=s,path=/old/ga.sock,server=on\","
    "\"-daemonize\",\"-incoming\",\"tcp:0:1\",\"-S\",\"-pidfile\",\"/old/"
    "pid\"]";

static void
a_command_line_tells_its_disks_as_backups_call_them(void **state)
{
	struct room *m = room_new();
	struct err e;
	struct lr_disk *d;

	(void)state;
	assert_int_equal(parse(m, machine, false, &e), 0);
	assert_int_equal(m->r.ndisks, 3);
	d = lr_find_disk(&m->r, "vda");
	assert_string_equal(d->path, "/old/a.qcow2");
	assert_string_equal(d->format, "qcow2");
	assert_true(d->writable);
	d = lr_find_disk(&m->r, "nvram");
	assert_string_equal(d->path, "/old/vars.fd");
	assert_true(d->nvram);
	d = lr_find_disk(&m->r, "virtio0");
	assert_string_equal(d->path, "/old/b.raw");
	room_free(m);
}

static void
a_clones_command_line_shares_nothing_with_the_original(void **state)
{
	struct room *m = room_new();
	struct err e;

	(void)state;
	m->o.clone = "twin";
	m->o.dir = "/new";
	assert_int_equal(parse(m, machine, false, &e), 0);
	assert_int_equal(lr_args_identity(&m->r, &e), 0);
	assert_string_equal(m->r.qmp, "/new/qmp.sock");
	expect_word(m, "guest=twin,debug-threads=on");
	expect_word(m, "unix:/new/qmp.sock,server=on,wait=off");
	expect_word(m, "socket,id=s,path=/new/ga.sock,server=on");
	expect_word(m, "/new/pid");
	assert_false(has_word(m, "52:54:00:00:00:01"));
	assert_true(has_word(m, "mac=52:54:00:"));
	assert_false(has_word(m, "-daemonize"));
	assert_false(has_word(m, "tcp:0:1"));
	restored(m, "vda", "/new/a.raw", "raw");
	restored(m, "nvram", "/new/vars.fd", "raw");
	restored(m, "virtio0", "/new/b.raw", "raw");
	assert_int_equal(lr_args_finish(&m->r, &e), 0);
	assert_false(has_word(m, "/old/"));
	assert_false(has_word(m, "backing=b"));
	expect_word(m, "driver=raw,node-name=a,file=f");
	room_free(m);
}

static void
saved_memory_is_mapped_privately_unless_asked(void **state)
{
	static const char *const want[] = {
		"memory-backend-file,id=m,size=64M,share=off,mem-path=/r/ram0",
		"memory-backend-file,id=m,size=64M,share=on,mem-path=/r/ram0",
	};
	struct err e;

	(void)state;
	for (unsigned shared = 0; shared < 2; shared++) {
		struct room *m = room_new();
		struct ram_facts *f = &m->r.facts;

		m->o.ram_shared = shared == 1;
		m->r.ram = true;
		m->r.ram_tmp = xstrdup("/r");
		f->nbackends = 1;
		snprintf(f->backend[0].id, sizeof(f->backend[0].id), "m");
		snprintf(
		    f->backend[0].volume, sizeof(f->backend[0].volume), "ram0");
		snprintf(f->machine, sizeof(f->machine), "pc-q35-7.2");
		assert_int_equal(parse(m, machine, false, &e), 0);
		assert_int_equal(lr_args_identity(&m->r, &e), 0);
		assert_int_equal(lr_args_finish(&m->r, &e), 0);
		expect_word(m, want[shared]);
		/* The same machine, whatever version that is run by. */
		expect_word(m, "pc-q35-7.2,memory-backend=m");
		expect_word(m, "defer");
		room_free(m);
	}
}

static void
what_is_no_command_line_is_refused(void **state)
{
	static const char *const bad[] = { "", "{}", "[]", "[1]", "[\"a\", 1]",
		"[\"qemu\"" };
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct room *m = room_new();

		assert_int_equal(parse(m, bad[i], false, &e), ERR_PROTO);
		room_free(m);
	}
}

static void
a_qemu_that_was_given_open_files_is_refused(void **state)
{
	struct room *m = room_new();
	struct err e;

	(void)state;
	assert_int_equal(
	    parse(
		m, "[\"qemu\",\"-chardev\",\"socket,id=a,fd=10\"]", false, &e),
	    ERR_UNSUP);
	room_free(m);
}

static const char domain[] =
    "<domain type='qemu' id='3'><name>web</name>"
    "<uuid>5a1b1c1d-0000-4000-8000-000000000001</uuid>"
    "<os><type>hvm</type><nvram>/old/vars.fd</nvram></os><devices>"
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
    "<source file='/old/a.qcow2' index='1'/><backingStore type='file'>"
    "<source file='/old/base'/></backingStore><target dev='vda'/></disk>"
    "<disk type='network' device='disk'><driver name='qemu' type='raw'/>"
    "<source protocol='rbd' name='p/i'><host name='h'/></source>"
    "<target dev='vdb'/></disk>"
    "<disk type='file' device='cdrom'><target dev='sda'/></disk>"
    "<interface type='user'><mac address='52:54:00:00:00:01'/></interface>"
    "<serial type='file'><source path='/old/serial'/></serial>"
    "<graphics type='vnc' port='5901' autoport='no'/></devices></domain>";

static void
a_domain_becomes_another_one(void **state)
{
	struct room *m = room_new();
	struct err e;
	char *text;

	(void)state;
	m->o.clone = "a<b";
	m->o.dir = "/new";
	assert_int_equal(parse(m, domain, true, &e), 0);
	assert_int_equal(m->r.ndisks, 3);
	assert_string_equal(lr_find_disk(&m->r, "vda")->path, "/old/a.qcow2");
	assert_null(lr_find_disk(&m->r, "vdb")->path);
	assert_true(lr_find_disk(&m->r, "nvram")->nvram);
	lr_xml_identity(&m->r);
	restored(m, "vda", "/new/a&b.raw", "raw");
	restored(m, "vdb", "/new/b.raw", "raw");
	restored(m, "nvram", "/new/vars.fd", "raw");
	lr_xml_finish(&m->r);
	text = lr_xml_text(&m->r, true);
	assert_null(strstr(text, "/old/"));
	assert_null(strstr(text, "rbd"));
	assert_null(strstr(text, "000000000001"));
	assert_null(strstr(text, "52:54:00:00:00:01"));
	assert_null(strstr(text, "5901"));
	assert_non_null(strstr(text, "<name>a&lt;b</name>"));
	assert_non_null(strstr(text, "file=\"/new/a&amp;b.raw\""));
	assert_non_null(strstr(text, "<nvram>/new/vars.fd</nvram>"));
	assert_non_null(strstr(text, "<source path=\"/new/serial\"/>"));
	assert_non_null(strstr(text, "<qemu:arg value=\"defer\"/>"));
	xmlFree((xmlChar *)text);
	/* What is kept of it does not wait for anything. */
	text = lr_xml_text(&m->r, false);
	assert_null(strstr(text, "defer"));
	xmlFree((xmlChar *)text);
	room_free(m);
}

static void
what_is_no_domain_is_refused(void **state)
{
	static const char *const bad[] = { "", "<domain", "<pool/>",
		"<domain><name>a</name></domain>",
		"<domain><devices/></domain>" };
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct room *m = room_new();

		assert_int_equal(parse(m, bad[i], true, &e), ERR_PROTO);
		room_free(m);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_found_by_their_key),
		cmocka_unit_test(values_are_set_and_nothing_else_changes),
		cmocka_unit_test(
		    a_command_line_tells_its_disks_as_backups_call_them),
		cmocka_unit_test(
		    a_clones_command_line_shares_nothing_with_the_original),
		cmocka_unit_test(saved_memory_is_mapped_privately_unless_asked),
		cmocka_unit_test(what_is_no_command_line_is_refused),
		cmocka_unit_test(a_qemu_that_was_given_open_files_is_refused),
		cmocka_unit_test(a_domain_becomes_another_one),
		cmocka_unit_test(what_is_no_domain_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
