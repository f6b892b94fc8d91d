/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/manifest.h"

static struct manifest m, again;
static struct err e;

static void
fill(void)
{
	m = (struct manifest){ .id = { 1, 2, 3 },
		.vm = "acme/web1",
		.seq = 42,
		.time = 1795289405,
		.agent_time = 1795289400,
		.host = "kvm03",
		.consistency = "offline",
		.unusual = "incompressible",
		.has_parent = true,
		.parent = { 9 },
		.chunk_size = CHUNK_SIZE_DEFAULT,
		.domain = 7,
		.stats = { 1, 2, 3, 4, 5, 6, 7 },
		.nvolumes = 2,
		.volume = { { .name = "vda",
				.kind = "disk",
				.format = "qcow2",
				.cluster_size = 65536,
				.size = (uint64_t)10 << 30,
				.root = { { 0xaa } } },
		    { .name = "vdb", .kind = "disk", .format = "raw" } } };
}

static void
manifest_comes_back_byte_by_byte(void **state)
{
	struct buf a = { 0 }, b = { 0 };

	(void)state;
	fill();
	for (int parent = 0; parent < 2; parent++) {
		a.len = 0;
		b.len = 0;
		m.has_parent = parent == 1;
		manifest_print(&m, &a);
		assert_int_equal(manifest_parse(a.data, a.len, &again, &e), 0);
		manifest_print(&again, &b);
		assert_int_equal(a.len, b.len);
		assert_memory_equal(a.data, b.data, a.len);
		assert_int_equal(again.has_parent, parent);
		assert_string_equal(again.vm, "acme/web1");
		assert_int_equal(again.time, m.time);
		assert_int_equal(again.stats.duration_ms, 7);
		assert_string_equal(again.unusual, "incompressible");
		assert_true(again.volume[0].size == m.volume[0].size);
		assert_true(id_equal(&again.volume[0].root, &m.volume[0].root));
		assert_int_equal(again.nvolumes, 2);
	}
	buf_fini(&a);
	buf_fini(&b);
}

static void
manifest_of_the_most_volumes_comes_back(void **state)
{
	struct buf a = { 0 };

	(void)state;
	fill();
	m.nvolumes = MANIFEST_VOLUMES_MAX;
	for (unsigned i = 0; i < m.nvolumes; i++) {
		m.volume[i] = m.volume[0];
		snprintf(m.volume[i].name, sizeof(m.volume[i].name), "vd%u", i);
	}
	manifest_print(&m, &a);
	assert_int_equal(manifest_parse(a.data, a.len, &again, &e), 0);
	assert_int_equal(manifest_volume_find(&again, "vd63"), 63);
	assert_int_equal(manifest_volume_find(&again, "vd64"), -1);
	buf_fini(&a);
}

/* Parse what comes of replacing one member, within volume 0 if ${volume}; a
 * NULL value takes it out. */
static int
parse_with(bool volume, const char *key, json_t *v)
{
	json_t *j, *at;
	int rc;

	fill();
	j = manifest_to_json(&m);
	at = volume ? json_array_get(json_object_get(j, "volumes"), 0) : j;
	if (v == NULL)
		json_object_del(at, key);
	else
		json_object_set_new(at, key, v);
	rc = manifest_from_json(j, &again, &e);
	json_decref(j);
	return rc;
}

static void
every_member_but_the_parent_must_be_there(void **state)
{
	static const char *const top[] = { "format", "id", "vm", "seq", "time",
		"agent_time", "host", "consistency", "chunk_size", "domain",
		"stats", "volumes" };
	static const char *const vol[] = { "name", "kind", "format",
		"cluster_size", "size", "root" };

	(void)state;
	for (size_t i = 0; i < sizeof(top) / sizeof(*top); i++) {
		assert_int_equal(parse_with(false, top[i], NULL), ERR_PROTO);
		assert_non_null(strstr(e.text, top[i]));
		assert_int_equal(
		    parse_with(false, top[i], json_null()), ERR_PROTO);
	}
	for (size_t i = 0; i < sizeof(vol) / sizeof(*vol); i++) {
		assert_int_equal(parse_with(true, vol[i], NULL), ERR_PROTO);
		assert_int_equal(
		    parse_with(true, vol[i], json_null()), ERR_PROTO);
	}
	assert_int_equal(parse_with(false, "parent", NULL), 0);
	assert_false(again.has_parent);
	assert_int_equal(
	    parse_with(false, "parent", json_string("00")), ERR_PROTO);
	assert_int_equal(parse_with(false, "more", json_integer(1)), 0);
}

static void
another_format_is_refused_with_both_numbers(void **state)
{
	(void)state;
	assert_int_equal(
	    parse_with(false, "format", json_integer(2)), ERR_UNSUP);
	assert_non_null(strstr(e.text, "2"));
	assert_non_null(strstr(e.text, "1"));
}

static json_t *
text_of(size_t len)
{
	char s[300];

	memset(s, 'x', len);
	s[len] = 0;
	return json_string(s);
}

static void
names_and_words_are_checked(void **state)
{
	(void)state;
	assert_int_equal(
	    parse_with(false, "vm", json_string("a/../b")), ERR_PROTO);
	assert_int_equal(parse_with(false, "vm", json_string("")), ERR_PROTO);
	assert_int_equal(parse_with(true, "name", text_of(64)), 0);
	assert_int_equal(parse_with(true, "name", text_of(65)), ERR_PROTO);
	assert_int_equal(
	    parse_with(true, "name", json_string("../x")), ERR_PROTO);
	assert_int_equal(
	    parse_with(true, "name", json_string("vdb")), ERR_PROTO);
	assert_int_equal(parse_with(true, "kind", text_of(15)), 0);
	assert_int_equal(parse_with(true, "kind", text_of(16)), ERR_PROTO);
	assert_int_equal(
	    parse_with(true, "format", json_string("Raw")), ERR_PROTO);
	assert_int_equal(parse_with(false, "host", text_of(255)), 0);
	assert_int_equal(parse_with(false, "host", text_of(256)), ERR_PROTO);
	assert_int_equal(
	    parse_with(false, "host", json_string("a\x1b[0m")), ERR_PROTO);
	assert_null(strchr(e.text, 0x1b));
	assert_int_equal(
	    parse_with(false, "consistency", json_string("a b")), ERR_PROTO);
}

static void
sizes_are_checked(void **state)
{
	(void)state;
	assert_int_equal(parse_with(true, "size", json_integer(1ll << 60)), 0);
	assert_int_equal(
	    parse_with(true, "size", json_integer((1ll << 60) + 1)), ERR_PROTO);
	assert_int_equal(parse_with(true, "size", json_integer(-1)), ERR_PROTO);
	/* An empty volume has no tree. */
	assert_int_equal(parse_with(true, "size", json_integer(0)), ERR_PROTO);
	assert_int_equal(
	    parse_with(true, "cluster_size", json_integer(1000)), ERR_PROTO);
	assert_int_equal(
	    parse_with(true, "cluster_size", json_integer(4 << 20)), ERR_PROTO);
	assert_int_equal(
	    parse_with(true, "cluster_size", json_integer(1ll << 32)),
	    ERR_PROTO);
	assert_int_equal(
	    parse_with(false, "chunk_size", json_integer(65537)), ERR_PROTO);
	assert_int_equal(
	    parse_with(false, "chunk_size", json_integer((1ll << 32) + 65536)),
	    ERR_PROTO);
	assert_int_equal(
	    parse_with(false, "domain", json_integer(1ll << 32)), ERR_PROTO);
	assert_int_equal(
	    parse_with(false, "time", json_string("2026-02-30T00:00:00Z")),
	    ERR_PROTO);
}

static void
too_many_volumes_or_none_that_is_an_object_are_refused(void **state)
{
	json_t *a = json_array(), *b = json_array();

	(void)state;
	for (unsigned i = 0; i <= MANIFEST_VOLUMES_MAX; i++)
		json_array_append_new(a, json_object());
	assert_int_equal(parse_with(false, "volumes", a), ERR_PROTO);
	assert_non_null(strstr(e.text, "65"));
	json_array_append_new(b, json_integer(1));
	assert_int_equal(parse_with(false, "volumes", b), ERR_PROTO);
}

static json_t *
path_of(size_t len)
{
	char s[2000];

	memset(s, 'x', len);
	s[0] = '/';
	s[len] = 0;
	return json_string(s);
}

static void
where_a_disk_was_comes_back_and_need_not_be_there(void **state)
{
	static const char path[] = "/var/lib/libvirt/images/web 1.qcow2";
	struct buf a = { 0 }, b = { 0 };

	(void)state;
	fill();
	assert_int_equal(
	    manifest_set_origin(&m, &m.volume[0], path, "file:12:3.4", &e), 0);
	manifest_print(&m, &a);
	assert_int_equal(manifest_parse(a.data, a.len, &again, &e), 0);
	assert_string_equal(manifest_path(&again, &again.volume[0]), path);
	assert_string_equal(
	    manifest_identity(&again, &again.volume[0]), "file:12:3.4");
	/* As all backups were before. */
	assert_string_equal(manifest_path(&again, &again.volume[1]), "");
	assert_string_equal(manifest_identity(&again, &again.volume[1]), "");
	manifest_print(&again, &b);
	assert_int_equal(a.len, b.len);
	assert_memory_equal(a.data, b.data, a.len);
	buf_fini(&a);
	buf_fini(&b);
}

static void
where_a_disk_was_is_bounded_and_begins_at_the_root(void **state)
{
	static char path[MANIFEST_PATH_MAX + 1];
	int rc = 0;

	(void)state;
	assert_int_equal(
	    parse_with(true, "path", path_of(MANIFEST_PATH_MAX)), 0);
	assert_int_equal(
	    parse_with(true, "path", path_of(MANIFEST_PATH_MAX + 1)),
	    ERR_PROTO);
	assert_int_equal(
	    parse_with(true, "path", json_string("images/x")), ERR_PROTO);
	assert_int_equal(parse_with(true, "path", json_string("")), ERR_PROTO);
	assert_int_equal(
	    parse_with(true, "path", json_string("/a\nb")), ERR_PROTO);
	assert_int_equal(parse_with(true, "path", json_null()), ERR_PROTO);
	/* Without a path it says nothing. */
	assert_int_equal(parse_with(true, "identity", json_string("x")), 0);
	assert_string_equal(manifest_identity(&again, &again.volume[0]), "");
	fill();
	m.nvolumes = MANIFEST_VOLUMES_MAX;
	memset(path, 'y', MANIFEST_PATH_MAX);
	path[0] = '/';
	for (unsigned i = 0; i < m.nvolumes && rc == 0; i++)
		rc = manifest_set_origin(&m, &m.volume[i], path, "", &e);
	assert_int_equal(rc, ERR_LIMIT);
}

static void
stats_alone_come_back(void **state)
{
	struct manifest_stats s = { 1, 2, 3, 4, 5, 6, INT64_MAX }, t;
	json_t *j = manifest_stats_to_json(&s);

	(void)state;
	assert_int_equal(manifest_stats_from_json(j, &t, &e), 0);
	assert_memory_equal(&s, &t, sizeof(s));
	json_object_del(j, "sent");
	assert_int_equal(manifest_stats_from_json(j, &t, &e), ERR_PROTO);
	json_decref(j);
}

static void
backup_is_named_by_vm_and_time(void **state)
{
	char s[VM_NAME_MAX + TIME_TEXT_LEN + 2];

	(void)state;
	fill();
	assert_string_equal(
	    manifest_name(&m, s), "acme/web1@2026-11-21T19:30:05Z");
	memset(m.vm, 'x', VM_NAME_MAX);
	m.vm[NAME_PART_MAX] = '/';
	assert_int_equal(
	    strlen(manifest_name(&m, s)), VM_NAME_MAX + TIME_TEXT_LEN + 1);
}

static void
times_of_retention_come_back_and_may_be_absent(void **state)
{
	struct buf a = { 0 };
	json_t *j;

	(void)state;
	fill();
	j = manifest_to_json(&m);
	assert_null(json_object_get(j, "repo_time"));
	assert_null(json_object_get(j, "locked_until"));
	json_decref(j);
	assert_int_equal(manifest_age_from(&m), m.time);
	m.repo_time = m.time - 1000;
	m.locked_until = m.time + 86400;
	manifest_print(&m, &a);
	assert_int_equal(manifest_parse(a.data, a.len, &again, &e), 0);
	assert_int_equal(again.repo_time, m.repo_time);
	assert_int_equal(again.locked_until, m.locked_until);
	assert_int_equal(manifest_age_from(&again), m.time - 1000);
	j = manifest_to_json(&m);
	json_set_str(j, "locked_until", "never");
	assert_int_equal(manifest_from_json(j, &again, &e), ERR_PROTO);
	json_decref(j);
	buf_fini(&a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    times_of_retention_come_back_and_may_be_absent),
		cmocka_unit_test(manifest_comes_back_byte_by_byte),
		cmocka_unit_test(manifest_of_the_most_volumes_comes_back),
		cmocka_unit_test(every_member_but_the_parent_must_be_there),
		cmocka_unit_test(another_format_is_refused_with_both_numbers),
		cmocka_unit_test(names_and_words_are_checked),
		cmocka_unit_test(sizes_are_checked),
		cmocka_unit_test(
		    too_many_volumes_or_none_that_is_an_object_are_refused),
		cmocka_unit_test(
		    where_a_disk_was_comes_back_and_need_not_be_there),
		cmocka_unit_test(
		    where_a_disk_was_is_bounded_and_begins_at_the_root),
		cmocka_unit_test(stats_alone_come_back),
		cmocka_unit_test(backup_is_named_by_vm_and_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
