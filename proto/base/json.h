/* SPDX-License-Identifier: Apache-2.0 */
/* json: JSON from outside, strictly; getters that check as they read. */
#ifndef PROTO_BASE_JSON_H
#define PROTO_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"

enum { JSON_DEPTH_MAX = 16, JSON_LEN_MAX = 1 << 20 };

/**
 * json_parse(data, len, &j, e): one JSON object.  Refuses more than
 * JSON_LEN_MAX bytes, nesting over JSON_DEPTH_MAX, duplicate keys, anything
 * that is no object.  The caller owns ${j} (json_decref).  0 or ERR_PROTO.
 */
int json_parse(const void *data, size_t len, json_t **j, struct err *e);

/** json_print(j, out): append ${j} as compact text with sorted keys. */
void json_print(const json_t *j, struct buf *out);

/*
 * Getters: 0, or ERR_PROTO with the key named.  Strings stay ${j}'s.  The
 * _opt forms leave *out as it is where the key is missing.
 */
int json_get_str(
    const json_t *j, const char *key, const char **out, struct err *e);
int json_get_u64(
    const json_t *j, const char *key, uint64_t *out, struct err *e);
int json_get_bool(const json_t *j, const char *key, bool *out, struct err *e);
int json_get_array(
    const json_t *j, const char *key, json_t **out, struct err *e);
int json_get_object(
    const json_t *j, const char *key, json_t **out, struct err *e);
/* Exactly ${len} bytes as hex digits. */
int json_get_hex(
    const json_t *j, const char *key, uint8_t *out, size_t len, struct err *e);
int json_opt_str(
    const json_t *j, const char *key, const char **out, struct err *e);
int json_opt_u64(
    const json_t *j, const char *key, uint64_t *out, struct err *e);
int json_opt_bool(const json_t *j, const char *key, bool *out, struct err *e);

/* Setters that own what they make; they cannot fail. */
void json_set_str(json_t *j, const char *key, const char *v);
void json_set_u64(json_t *j, const char *key, uint64_t v);
void json_set_bool(json_t *j, const char *key, bool v);
void json_set_hex(json_t *j, const char *key, const uint8_t *v, size_t len);

#endif
