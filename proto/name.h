/* SPDX-License-Identifier: Apache-2.0 */
/* name: VMs, backups, volumes, times, sizes: as people write them. */
#ifndef PROTO_NAME_H
#define PROTO_NAME_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"

enum {
	NAME_PART_MAX = 64,
	VM_NAME_MAX = 2 * NAME_PART_MAX + 1, /* without the NUL */
	TIME_TEXT_LEN = 20                   /* 2026-11-21T19:30:05Z */
};

/** name_part_ok(s): [A-Za-z0-9][A-Za-z0-9._-]{0,63}: a volume, key, host. */
bool name_part_ok(const char *s);

/** vm_name_ok(s): [namespace/]name of such parts. */
bool vm_name_ok(const char *s);

/** vm_namespace(vm, out): the part before '/', or "" (room: NAME_PART_MAX+1).
 */
void vm_namespace(const char *vm, char *out);

/**
 * vm_pattern_match(pattern, vm): '*' stands for any run of characters but '/',
 * "**" for any run at all, '?' for one character but '/'.
 * vm_pattern_ok(pattern): only characters of names and those.
 */
bool vm_pattern_match(const char *pattern, const char *vm);
bool vm_pattern_ok(const char *pattern);

/* A backup as a person names it: VM@TIME, VM@latest, VM@-N. */
struct backup_ref {
	char vm[VM_NAME_MAX + 1];
	bool by_time;
	uint64_t time; /* seconds since 1970, if by_time */
	uint32_t back; /* else: how many before the latest */
};

/** backup_ref_parse(s, out, e): ERR_INVAL says what such a name looks like. */
int backup_ref_parse(const char *s, struct backup_ref *out, struct err *e);

/** time_print(seconds, out): UTC, TIME_TEXT_LEN + 1 bytes.  time_parse: 0 or
 * ERR_INVAL. */
char *time_print(uint64_t seconds, char *out);
int time_parse(const char *s, uint64_t *seconds);

/** size_parse(s, out): "4096", "64K", "1.5G", "200M", "2T" (powers of 1024,
 * an ending B or iB allowed).  ERR_INVAL. */
int size_parse(const char *s, uint64_t *out);

/** size_print(n, out): "1.4 GiB", "512 B"; 16 bytes of room. */
char *size_print(uint64_t n, char *out);

/** seconds_parse(s, unit, out): "90s", "30m", "2h", "7d", "4w", "1y"; a bare
 * number is of ${unit} seconds, or, if that is 0, must be 0.  ERR_INVAL. */
int seconds_parse(const char *s, unsigned unit, uint64_t *out);

/** number_parse(s, min, max, out): a whole decimal number.  ERR_INVAL. */
int number_parse(const char *s, uint64_t min, uint64_t max, uint64_t *out);

#endif
