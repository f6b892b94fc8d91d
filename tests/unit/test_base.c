/* SPDX-License-Identifier: Apache-2.0 */
/* base: bytes, buf, err, io, json, cond, crc32c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/base/bytes.h"
#include "proto/base/buf.h"
#include "proto/base/cond.h"
#include "proto/base/err.h"
#include "proto/base/io.h"
#include "proto/base/json.h"

/* The source itself: its two ways to compute are not exported. */
#include "proto/base/crc32c.c"

static void
integers_come_back_from_bytes(void **state)
{
	uint8_t b[8];

	(void)state;
	put_le64(b, 0x0102030405060708);
	assert_int_equal(b[0], 8);
	assert_int_equal(b[7], 1);
	assert_true(get_le64(b) == 0x0102030405060708);
	assert_int_equal(get_le16(b), 0x0708);
	assert_int_equal(get_be32(b), 0x08070605);
	put_be64(b, 0x0102030405060708);
	assert_int_equal(b[0], 1);
	assert_true(get_be64(b) == 0x0102030405060708);
	put_be16(b, 0x0102);
	assert_int_equal(b[0], 1);
	put_le32(b, 0xfffefdfc);
	assert_true(get_le32(b) == 0xfffefdfc);
}

static void
zero_test_sees_a_bit_at_every_place(void **state)
{
	uint8_t b[40] = { 0 };

	(void)state;
	for (size_t len = 0; len <= sizeof(b); len++) {
		assert_true(bytes_zero(b, len));
		for (size_t i = 0; i < sizeof(b); i++) {
			b[i] = 1;
			assert_int_equal(bytes_zero(b, len), i >= len);
			b[i] = 0;
		}
	}
}

static void
cursor_past_the_end_yields_zero_and_stays_bad(void **state)
{
	static const uint8_t p[] = { 1, 2, 3, 4, 5 };
	struct rd r = rd_over(p, sizeof(p));

	(void)state;
	assert_int_equal(rd_u32(&r), 0x04030201);
	assert_false(rd_done(&r));
	assert_int_equal(rd_u16(&r), 0);
	assert_true(r.bad);
	assert_int_equal(rd_u8(&r), 0);
	assert_null(rd_bytes(&r, 1));
	assert_false(rd_done(&r));
	r = rd_over(p, sizeof(p));
	assert_ptr_equal(rd_bytes(&r, 5), p);
	assert_true(rd_done(&r));
}

static void
buffer_grows_and_keeps_its_bytes(void **state)
{
	struct buf b = { 0 };

	(void)state;
	for (unsigned i = 0; i < 5000; i++)
		buf_u32(&b, i);
	buf_printf(&b, "%s-%d", "x", 7);
	assert_int_equal(b.len, 20003);
	for (unsigned i = 0; i < 5000; i++)
		assert_int_equal(get_le32(b.data + 4 * i), i);
	assert_string_equal(buf_cstr(&b) + 20000, "x-7");
	assert_int_equal(b.len, 20003);
	buf_fini(&b);
	assert_int_equal(b.cap, 0);
}

static void
error_texts_are_cut_to_their_room_and_prefixed(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(err_set(&e, ERR_NOSPC, "%0500d", 1), ERR_NOSPC);
	assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
	err_set(&e, ERR_BUSY, "held");
	assert_int_equal(err_prefix(&e, "web%d", 1), ERR_BUSY);
	assert_string_equal(e.text, "web1: held");
	assert_int_equal(err_set(NULL, ERR_INVAL, "nobody reads"), ERR_INVAL);
	assert_string_equal(err_name(ERR_MISSING), "missing");
	assert_string_equal(err_name(ERR_MAX), "unknown");
	assert_string_equal(err_name(-1), "unknown");
}

static void
hex_digits_come_back_and_others_are_refused(void **state)
{
	static const uint8_t b[] = { 0x00, 0x9f, 0xff };
	uint8_t again[3];
	char s[7];

	(void)state;
	assert_string_equal(hex(b, 3, s), "009fff");
	assert_int_equal(unhex(s, again, 3), 0);
	assert_memory_equal(b, again, 3);
	assert_int_equal(unhex("009fF0", again, 3), ERR_INVAL);
	assert_int_equal(unhex("009ff", again, 3), ERR_INVAL);
	assert_int_equal(unhex("009ff00", again, 3), ERR_INVAL);
	assert_int_equal(unhex("009fg0", again, 3), ERR_INVAL);
}

static void
file_is_replaced_whole_and_read_within_its_limit(void **state)
{
	char dir[] = "/tmp/test_base.XXXXXX";
	struct buf b = { 0 };
	int fd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	fd = open(dir, O_RDONLY | O_DIRECTORY);
	assert_true(fd >= 0);
	assert_int_equal(file_read(fd, "f", 10, &b), ERR_NOENT);
	assert_int_equal(file_replace(fd, "f", "first one", 9, 0600), 0);
	assert_int_equal(file_replace(fd, "f", "second", 6, 0600), 0);
	assert_int_equal(file_read(fd, "f", 6, &b), 0);
	assert_int_equal(b.len, 6);
	assert_memory_equal(b.data, "second", 6);
	assert_int_equal(file_read(fd, "f", 5, &b), ERR_LIMIT);
	assert_int_equal(faccessat(fd, "f.tmp", F_OK, 0), -1);
	assert_int_equal(unlinkat(fd, "f", 0), 0);
	close(fd);
	assert_int_equal(rmdir(dir), 0);
	buf_fini(&b);
}

static int
parse(const char *s, json_t **j)
{
	struct err e;

	*j = NULL;
	return json_parse(s, strlen(s), j, &e);
}

static void
json_that_is_no_single_object_is_refused(void **state)
{
	static const char *const bad[] = { "", "[]", "1", "\"x\"", "null", "{",
		"{}x", "{} {}", "{\"a\":}", "{'a':1}", "{\"a\":1,}",
		"{\"a\":\"\\u0000\"}", "{\"a\":\"\xff\"}",
		"{\"a\":99999999999999999999}" };
	json_t *j;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(parse(bad[i], &j), ERR_PROTO);
	assert_int_equal(parse(" {} ", &j), 0);
	json_decref(j);
}

static void
json_with_a_key_twice_is_refused(void **state)
{
	json_t *j;

	(void)state;
	assert_int_equal(parse("{\"a\":1,\"a\":2}", &j), ERR_PROTO);
	assert_int_equal(parse("{\"b\":{\"a\":1,\"a\":1}}", &j), ERR_PROTO);
	assert_int_equal(parse("{\"a\":{\"a\":1}}", &j), 0);
	json_decref(j);
}

/* {"a":[[[...]]]} with ${depth} levels in all. */
static int
parse_nested(unsigned depth)
{
	struct buf b = { 0 };
	struct err e;
	json_t *j = NULL;
	int rc;

	buf_printf(&b, "{\"a\":");
	for (unsigned i = 1; i < depth; i++)
		buf_u8(&b, '[');
	for (unsigned i = 1; i < depth; i++)
		buf_u8(&b, ']');
	buf_u8(&b, '}');
	rc = json_parse(b.data, b.len, &j, &e);
	json_decref(j);
	buf_fini(&b);
	return rc;
}

static void
json_nested_over_the_limit_is_refused(void **state)
{
	json_t *j;

	(void)state;
	assert_int_equal(parse_nested(JSON_DEPTH_MAX), 0);
	assert_int_equal(parse_nested(JSON_DEPTH_MAX + 1), ERR_PROTO);
	assert_int_equal(parse_nested(100000), ERR_PROTO);
	/* Brackets within a string are text. */
	assert_int_equal(
	    parse("{\"a\":\"[[[[[[[[[[[[[[[[[[[[\\\"[[[[[[\"}", &j), 0);
	json_decref(j);
}

static int
parse_of_length(size_t len)
{
	uint8_t *p = xmalloc(len);
	json_t *j = NULL;
	struct err e;
	int rc;

	memset(p, ' ', len);
	memcpy(p, "{}", 2);
	rc = json_parse(p, len, &j, &e);
	json_decref(j);
	free(p);
	return rc;
}

static void
json_over_its_length_is_refused(void **state)
{
	(void)state;
	assert_int_equal(parse_of_length(JSON_LEN_MAX), 0);
	assert_int_equal(parse_of_length(JSON_LEN_MAX + 1), ERR_PROTO);
}

static void
json_getters_name_what_is_wrong(void **state)
{
	const char *s = "as it was";
	uint64_t u = 5;
	bool t = false;
	uint8_t id[2];
	struct err e;
	json_t *j, *o;

	(void)state;
	assert_int_equal(parse("{\"n\":-1,\"f\":1.5,\"s\":\"x\",\"u\":7,"
			       "\"t\":true,\"h\":\"0aff\",\"a\":[],\"o\":{}}",
			     &j),
	    0);
	assert_int_equal(json_get_u64(j, "n", &u, &e), ERR_PROTO);
	assert_string_equal(e.text, "\"n\" is not a whole number from 0 up");
	assert_int_equal(json_get_u64(j, "f", &u, &e), ERR_PROTO);
	assert_int_equal(json_get_u64(j, "s", &u, &e), ERR_PROTO);
	assert_int_equal(json_get_u64(j, "none", &u, &e), ERR_PROTO);
	assert_int_equal(json_opt_u64(j, "none", &u, &e), 0);
	assert_int_equal(u, 5);
	assert_int_equal(json_get_u64(j, "u", &u, &e), 0);
	assert_int_equal(u, 7);
	assert_int_equal(json_get_str(j, "u", &s, &e), ERR_PROTO);
	assert_int_equal(json_opt_str(j, "u", &s, &e), ERR_PROTO);
	assert_string_equal(s, "as it was");
	assert_int_equal(json_get_str(j, "s", &s, &e), 0);
	assert_string_equal(s, "x");
	assert_int_equal(json_get_bool(j, "u", &t, &e), ERR_PROTO);
	assert_int_equal(json_opt_bool(j, "t", &t, &e), 0);
	assert_true(t);
	assert_int_equal(json_get_hex(j, "h", id, 2, &e), 0);
	assert_int_equal(id[1], 0xff);
	assert_int_equal(json_get_hex(j, "h", id, 1, &e), ERR_PROTO);
	assert_int_equal(json_get_array(j, "o", &o, &e), ERR_PROTO);
	assert_int_equal(json_get_array(j, "a", &o, &e), 0);
	assert_int_equal(json_get_object(j, "a", &o, &e), ERR_PROTO);
	assert_int_equal(json_get_object(j, "o", &o, &e), 0);
	json_decref(j);
}

static void
json_is_printed_with_sorted_keys(void **state)
{
	static const uint8_t id[] = { 0xab, 0x01 };
	json_t *j = json_object();
	struct buf b = { 0 };

	(void)state;
	json_set_u64(j, "z", INT64_MAX);
	json_set_str(j, "b", "\xff");
	json_set_hex(j, "h", id, 2);
	json_set_bool(j, "a", true);
	json_print(j, &b);
	assert_string_equal(buf_cstr(&b),
	    "{\"a\":true,\"b\":\"?\",\"h\":\"ab01\","
	    "\"z\":9223372036854775807}");
	json_decref(j);
	buf_fini(&b);
}

/* From RFC 3720, B.4, and the check value of the catalogues. */
static void
crc32c_gives_the_known_values(void **state)
{
	uint8_t b[32];

	(void)state;
	assert_int_equal(crc32c(0, "", 0), 0);
	assert_true(crc32c(0, "123456789", 9) == 0xe3069283);
	memset(b, 0, sizeof(b));
	assert_true(crc32c(0, b, sizeof(b)) == 0x8a9136aa);
	memset(b, 0xff, sizeof(b));
	assert_true(crc32c(0, b, sizeof(b)) == 0x62a8ab43);
	for (uint8_t i = 0; i < 32; i++)
		b[i] = i;
	assert_true(crc32c(0, b, sizeof(b)) == 0x46dd794e);
}

static void
crc32c_in_parts_is_that_of_the_whole(void **state)
{
	uint8_t b[100];
	uint32_t whole;

	(void)state;
	random_bytes(b, sizeof(b));
	whole = crc32c(0, b, sizeof(b));
	for (size_t i = 0; i <= sizeof(b); i++)
		assert_int_equal(
		    crc32c(crc32c(0, b, i), b + i, sizeof(b) - i), whole);
}

static void
crc32c_by_table_and_by_instruction_agree(void **state)
{
	uint8_t b[300];

	(void)state;
	crc32c(0, "", 0);
	random_bytes(b, sizeof(b));
	/* Without the instruction this machine can still test the table. */
	assert_true(
	    ~by_table(~0u, (const uint8_t *)"123456789", 9) == 0xe3069283);
#ifdef __x86_64__
	if (!has_instruction)
		return;
	for (size_t off = 0; off < 9; off++)
		for (size_t len = 0; len < sizeof(b) - off; len++)
			assert_int_equal(by_table(12345, b + off, len),
			    by_instruction(12345, b + off, len));
#endif
}

struct bell {
	pthread_mutex_t mu;
	pthread_cond_t rung;
	bool did;
};

static void *
ring(void *arg)
{
	struct bell *b = arg;

	pthread_mutex_lock(&b->mu);
	b->did = true;
	pthread_cond_signal(&b->rung);
	pthread_mutex_unlock(&b->mu);
	return NULL;
}

static void
a_wait_ends_at_its_time_or_when_it_is_woken(void **state)
{
	struct bell b = { .mu = PTHREAD_MUTEX_INITIALIZER };
	uint64_t until = now_ms() + 30;
	pthread_t t;

	(void)state;
	cond_init(&b.rung);
	pthread_mutex_lock(&b.mu);
	while (cond_wait_until(&b.rung, &b.mu, until))
		;
	assert_true(now_ms() >= until);
	assert_int_equal(pthread_create(&t, NULL, ring, &b), 0);
	until = now_ms() + 60000;
	while (!b.did && cond_wait_until(&b.rung, &b.mu, until))
		;
	assert_true(b.did && now_ms() < until);
	pthread_mutex_unlock(&b.mu);
	pthread_join(t, NULL);
	pthread_cond_destroy(&b.rung);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(integers_come_back_from_bytes),
		cmocka_unit_test(zero_test_sees_a_bit_at_every_place),
		cmocka_unit_test(cursor_past_the_end_yields_zero_and_stays_bad),
		cmocka_unit_test(buffer_grows_and_keeps_its_bytes),
		cmocka_unit_test(
		    error_texts_are_cut_to_their_room_and_prefixed),
		cmocka_unit_test(hex_digits_come_back_and_others_are_refused),
		cmocka_unit_test(
		    file_is_replaced_whole_and_read_within_its_limit),
		cmocka_unit_test(json_that_is_no_single_object_is_refused),
		cmocka_unit_test(json_with_a_key_twice_is_refused),
		cmocka_unit_test(json_nested_over_the_limit_is_refused),
		cmocka_unit_test(json_over_its_length_is_refused),
		cmocka_unit_test(json_getters_name_what_is_wrong),
		cmocka_unit_test(json_is_printed_with_sorted_keys),
		cmocka_unit_test(a_wait_ends_at_its_time_or_when_it_is_woken),
		cmocka_unit_test(crc32c_gives_the_known_values),
		cmocka_unit_test(crc32c_in_parts_is_that_of_the_whole),
		cmocka_unit_test(crc32c_by_table_and_by_instruction_agree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
