/* SPDX-License-Identifier: Apache-2.0 */
/* What people read of the settings: the sample, and the manual pages. */
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

#include "proto/base/io.h"
#include "repo/settings/settings_impl.h"
#include "tests/unit/etc_fixture.h"

/* Of a file with that text; it has no fault. */
static struct settings *
read_text(const char *text)
{
	char dir[] = "/tmp/backstay-settings.XXXXXX";
	struct settings_source src = { .dir = dir };
	struct buf wrong = { 0 };
	struct settings *s;
	int fd;

	assert_non_null(mkdtemp(dir));
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(
	    file_replace(fd, SETTINGS_FILE, text, strlen(text), 0600), 0);
	if (settings_read(&src, &s, &wrong) != 0)
		fail_msg("%s", buf_cstr(&wrong));
	assert_int_equal(unlinkat(fd, SETTINGS_FILE, 0), 0);
	assert_int_equal(rmdir(dir), 0);
	close(fd);
	buf_fini(&wrong);
	return s;
}

/* The text with each "#key = " and "#[section]" in force. */
static char *
uncommented(const struct buf *sample)
{
	char *out = xmalloc(sample->len + 1);
	size_t n = 0;

	for (size_t i = 0; i < sample->len; i++) {
		bool first = i == 0 || sample->data[i - 1] == '\n';

		if (first && sample->data[i] == '#' &&
		    sample->data[i + 1] != ' ')
			continue;
		out[n++] = (char)sample->data[i];
	}
	out[n] = 0;
	return out;
}

static void
the_sample_has_each_key_at_its_default(void **state)
{
	struct settings *plain, *s;
	struct buf sample = { 0 };
	char *text;

	(void)state;
	settings_sample(&sample);
	plain = read_text(buf_cstr(&sample));
	assert_int_equal(plain->nvms, 0);
	text = uncommented(&sample);
	s = read_text(text);
	assert_int_equal(s->nvms, 1);
	for (unsigned i = 0; i < settings_nkeys; i++) {
		const struct settings_key *k = &settings_keys[i];
		char *line = xasprintf("\n#%s = %s\n", k->name, k->initial);

		if (strstr(buf_cstr(&sample), line) == NULL)
			fail_msg("the sample lacks %s", k->name);
		if (strcmp(k->section, "daemon") == 0)
			assert_string_equal(s->text[i], plain->text[i]);
		else if ((s->vm[0].policy.set & k->set) == 0)
			fail_msg("[vm] of the sample lacks %s", k->name);
		free(line);
	}
	assert_int_equal(settings_vm(s, "web1").set, 0);
	settings_free(plain);
	settings_free(s);
	buf_fini(&sample);
	free(text);
}

static void
the_manual_has_each_key_and_its_default(void **state)
{
	struct buf conf = { 0 }, daemon = { 0 };

	(void)state;
	etc_read("backstayd.conf.5", &conf);
	etc_read("backstayd.8", &daemon);
	for (unsigned i = 0; i < settings_nkeys; i++) {
		const struct settings_key *k = &settings_keys[i];
		char *item = xasprintf("\n.It Ic %s No = Ar ", k->name);
		char *initial = xasprintf("Default: %s.",
		    k->initial[0] != 0 ? k->initial : "nothing");
		char *option = xasprintf("\n.It Fl -%s", k->name);
		const char *at = strstr(buf_cstr(&conf), item), *next = NULL;

		if (at == NULL)
			fail_msg("backstayd.conf(5) lacks \"%s\"", item + 1);
		if (at != NULL) {
			next = strstr(at + 1, "\n.It ");
			at = strstr(at, initial);
		}
		if (at == NULL || (next != NULL && at > next))
			fail_msg("backstayd.conf(5): %s: no \"%s\"", k->name,
			    initial);
		if (strcmp(k->section, "daemon") == 0 &&
		    strstr(buf_cstr(&daemon), option) == NULL)
			fail_msg("backstayd(8) lacks --%s", k->name);
		free(item);
		free(initial);
		free(option);
	}
	buf_fini(&conf);
	buf_fini(&daemon);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_sample_has_each_key_at_its_default),
		cmocka_unit_test(the_manual_has_each_key_and_its_default),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
