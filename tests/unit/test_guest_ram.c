/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that is saved at the point in time: the guest goes on in any case. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/io.h"
#include "tests/unit/plain_guest.h"

static int
save_ram(struct guest *g, void *arg, struct err *e)
{
	uint64_t until = now_ms() + PATIENCE_MS;
	const char *s = "";
	json_t *j = NULL;
	char state[32];
	int fd, rc;

	assert_string_equal(qemu_status(&qemu, state, sizeof(state)), "paused");
	fd = open(arg, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_not_equal(fd, -1);
	rc = guest_monitor(
	    g, "getfd", json_pack("{s:s}", "fdname", "ram"), fd, NULL, e);
	if (rc == 0)
		rc = guest_monitor(g, "migrate",
		    json_pack("{s:s}", "uri", "fd:ram"), -1, NULL, e);
	while (rc == 0 && strcmp(s, "completed") != 0 && now_ms() < until) {
		json_decref(j);
		rc = guest_monitor(g, "query-migrate", NULL, -1, &j, e);
		if (rc == 0)
			rc = json_get_str(j, "status", &s, e);
		poll(NULL, 0, 5);
	}
	json_decref(j);
	close(fd);
	assert_string_equal(
	    qemu_status(&qemu, state, sizeof(state)), "postmigrate");
	return rc;
}

static int
still_stopped(struct guest *g, void *arg, struct err *e)
{
	char s[32];

	(void)g;
	(void)e;
	assert_string_not_equal(qemu_status(&qemu, s, sizeof(s)), "running");
	*(bool *)arg = true;
	return 0;
}

static void
a_guest_whose_ram_was_saved_goes_on(void **state)
{
	struct guest *g = plain_backed_up();
	struct guest_view_options o = plain_options(g, TAG2, TAG1);
	bool point = false;
	char ram[96], s[32];
	struct guest_view v;
	struct stat st;

	(void)state;
	snprintf(ram, sizeof(ram), "%s/ram", qemu.dir);
	o.frozen = save_ram;
	o.frozen_arg = ram;
	o.point = still_stopped;
	o.point_arg = &point;
	qemu_write(&qemu, VDA, 7, 0, K64);
	plain_begin(g, &o, &v);
	assert_string_equal(v.consistency, "ram");
	assert_true(v.pause_us > 0);
	assert_string_equal(qemu_status(&qemu, s, sizeof(s)), "running");
	assert_int_equal(guest_state(g), GUEST_RUNNING);
	assert_int_equal(stat(ram, &st), 0);
	assert_true(st.st_size > 1 << 16);
	assert_true(point);
	qemu_write(&qemu, VDA, 8, 0, 2 * K64);
	assert_int_equal(plain_byte(&v.disk[0], 0, K64), 7);
	assert_int_equal(plain_byte(&v.disk[0], K64, K64), 0);
	/* The record came through being put into the image and out again. */
	assert_non_null(v.disk[0].dirty);
	assert_int_equal(plain_dirty(&v.disk[0], QEMU_VDA).dirty, K64);
	plain_end(g, true);
	assert_true(qemu_is_clean(&qemu));
	guest_close(g);
}

static int
save_and_fail(struct guest *g, void *arg, struct err *e)
{
	int rc = save_ram(g, arg, e);

	return rc != 0 ? rc : err_set(e, ERR_NOSPC, "no room for the RAM");
}

static void
a_guest_whose_ram_could_not_be_saved_goes_on(void **state)
{
	struct guest *g = plain_open(NULL);
	struct guest_view_options o = plain_options(g, TAG1, NULL);
	struct err e = { 0 };
	char ram[96], s[32];
	struct guest_view v;

	(void)state;
	snprintf(ram, sizeof(ram), "%s/ram", qemu.dir);
	o.frozen = save_and_fail;
	o.frozen_arg = ram;
	assert_int_equal(guest_view_begin(g, &o, &v, &e), ERR_NOSPC);
	assert_string_equal(e.text, "no room for the RAM");
	assert_string_equal(qemu_status(&qemu, s, sizeof(s)), "running");
	assert_true(qemu_is_clean(&qemu));
	guest_close(g);
}

static int
save_and_die(struct guest *g, void *arg, struct err *e)
{
	save_ram(g, arg, e);
	kill(0, SIGKILL);
	return 0;
}

/* Nobody reads what is saved: it does not end by itself. */
static int
begin_saving_and_die(struct guest *g, void *arg, struct err *e)
{
	int fd[2];

	assert_int_equal(pipe(fd), 0);
	*(int *)arg = fd[0];
	guest_monitor(
	    g, "getfd", json_pack("{s:s}", "fdname", "ram"), fd[1], NULL, e);
	guest_monitor(
	    g, "migrate", json_pack("{s:s}", "uri", "fd:ram"), -1, NULL, e);
	kill(0, SIGKILL);
	return 0;
}

static void
killed_while_saving(guest_frozen_fn *frozen, void *arg)
{
	struct guest_view_options o;
	struct guest_view v;
	struct guest *g;
	int status;
	pid_t pid = fork();

	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		setpgid(0, 0);
		g = plain_open(NULL);
		o = plain_options(g, TAG2, TAG1);
		o.frozen = frozen;
		o.frozen_arg = arg;
		guest_view_begin(g, &o, &v, NULL);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void
a_guest_goes_on_if_who_saves_its_ram_is_killed(void **state)
{
	char ram[96], names[512];
	int fd;

	(void)state;
	guest_close(plain_backed_up());
	snprintf(ram, sizeof(ram), "%s/ram", qemu.dir);
	killed_while_saving(save_and_die, ram);
	plain_wait_clean("saved RAM");
	guest_close(plain_open_locked());
	killed_while_saving(begin_saving_and_die, &fd);
	plain_wait_clean("RAM half saved");
	guest_close(plain_open_locked());
	qemu_write(&qemu, VDA, 1, 0, K64);
	assert_string_equal(
	    qemu_bitmaps(&qemu, "disk", names, sizeof(names)), BITMAP1);
}

int
main(int argc, char **argv)
{
#define RUNNING(test)                                                          \
	cmocka_unit_test_setup_teardown(                                       \
	    test, plain_setup_running, plain_teardown)
	const struct CMUnitTest tests[] = {
		RUNNING(a_guest_whose_ram_was_saved_goes_on),
		RUNNING(a_guest_whose_ram_could_not_be_saved_goes_on),
		RUNNING(a_guest_goes_on_if_who_saves_its_ram_is_killed),
	};
	int rc = guard_main(argc, argv);

	if (rc != -1)
		return rc;
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
