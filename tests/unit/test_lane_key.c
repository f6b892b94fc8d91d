/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/io.h"
#include "proto/lane_ssh.h"

static char dir[] = "/tmp/test_lane_key.XXXXXX", id_key[64];
static char *id_base64;

/* The status of ssh-keygen that prints the public half. */
static int
ssh_keygen_reads(const char *key)
{
	pid_t pid = fork();
	int status, null;

	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		null = open("/dev/null", O_RDWR);
		dup2(null, 0);
		dup2(null, 1);
		dup2(null, 2);
		execlp("ssh-keygen", "ssh-keygen", "-y", "-f", key, NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void
a_new_key_is_private_and_replaces_nothing(void **state)
{
	struct buf before = { 0 }, after = { 0 };
	struct stat st;
	struct err e;

	(void)state;
	assert_int_equal(stat(id_key, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(file_read(AT_FDCWD, id_key, 4096, &before), 0);
	assert_int_equal(lane_ssh_keygen(id_key, "x", &e), ERR_EXIST);
	assert_int_equal(file_read(AT_FDCWD, id_key, 4096, &after), 0);
	assert_string_equal(buf_cstr(&before), buf_cstr(&after));
	buf_fini(&before);
	buf_fini(&after);
	assert_int_equal(ssh_keygen_reads(id_key), 0);
}

static void
a_public_key_line_is_taken_apart_and_checked(void **state)
{
	static const char *const bad[] = { "", "ssh-ed25519", "hello world",
		"ssh-ed25519 AAAA", "ssh-ed25519 !!!!",
		"-----BEGIN OPENSSH PRIVATE KEY-----",
		"ssh-dss AAAAB3NzaC1kc3M",
		("ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIJL9jfVPjKXBQe0z/VMTHuOu6Gri"
		 "kBr6sKZWMZy0BluO") };
	char *type, *base64, *fingerprint, *comment, line[512];
	struct err e;

	(void)state;
	snprintf(
	    line, sizeof(line), "  ssh-ed25519 %s  of a host \n", id_base64);
	assert_int_equal(
	    lane_ssh_pubkey(line, &type, &base64, &fingerprint, &comment, &e),
	    0);
	assert_string_equal(type, "ssh-ed25519");
	assert_string_equal(base64, id_base64);
	assert_string_equal(comment, "of a host");
	assert_int_equal(strncmp(fingerprint, "SHA256:", 7), 0);
	free(type);
	free(base64);
	free(fingerprint);
	free(comment);
	snprintf(line, sizeof(line), "ssh-ed25519 %s", id_base64);
	assert_int_equal(
	    lane_ssh_pubkey(line, &type, &base64, &fingerprint, &comment, &e),
	    0);
	assert_null(comment);
	free(type);
	free(base64);
	free(fingerprint);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(lane_ssh_pubkey(bad[i], &type, &base64,
				     &fingerprint, &comment, &e),
		    ERR_INVAL);
	/* One byte more, inside: still well-formed base64. */
	snprintf(line, sizeof(line), "ssh-ed25519 %sAAAA", id_base64);
	assert_int_equal(
	    lane_ssh_pubkey(line, &type, &base64, &fingerprint, &comment, &e),
	    ERR_INVAL);
}

static int
setup(void **state)
{
	char *type, *fingerprint, *comment, path[80];
	struct buf pub = { 0 };
	struct err e;

	(void)state;
	lane_ssh_init();
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(id_key, sizeof(id_key), "%s/id", dir);
	snprintf(path, sizeof(path), "%s.pub", id_key);
	if (lane_ssh_keygen(id_key, "id", &e) != 0 ||
	    file_read(AT_FDCWD, path, 4096, &pub) != 0 ||
	    lane_ssh_pubkey(buf_cstr(&pub), &type, &id_base64, &fingerprint,
		&comment, &e) != 0)
		return -1;
	free(type);
	free(fingerprint);
	free(comment);
	buf_fini(&pub);
	return 0;
}

static int
teardown(void **state)
{
	char path[80];

	(void)state;
	free(id_base64);
	snprintf(path, sizeof(path), "%s.pub", id_key);
	unlink(path);
	unlink(id_key);
	return rmdir(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_key_is_private_and_replaces_nothing),
		cmocka_unit_test(a_public_key_line_is_taken_apart_and_checked),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
