/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/auth.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/bytes.h"

static const struct {
	const char *name;
	unsigned role;
} roles[] = {
	{ "backup", ROLE_BACKUP },
	{ "restore", ROLE_RESTORE },
	{ "delete", ROLE_DELETE },
	{ "admin", ROLE_ADMIN },
};
enum { NROLES = sizeof(roles) / sizeof(roles[0]) };

static const char *const types[] = { "ssh-ed25519", "ecdsa-sha2-nistp256",
	"ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa" };
enum { NTYPES = sizeof(types) / sizeof(types[0]) };

unsigned
auth_role(const char *name)
{
	for (unsigned i = 0; i < NROLES; i++)
		if (strcmp(roles[i].name, name) == 0)
			return roles[i].role;
	return 0;
}

const char *
auth_role_name(unsigned role)
{
	for (unsigned i = 0; i < NROLES; i++)
		if (roles[i].role == role)
			return roles[i].name;
	return "none";
}

void
auth_key_fini(struct auth_key *k)
{
	for (unsigned i = 0; i < k->npatterns; i++)
		free(k->pattern[i]);
	free(k->pattern);
	free(k->base64);
	memset(k, 0, sizeof(*k));
}

void
auth_fini(struct auth *a)
{
	for (size_t i = 0; i < a->n; i++)
		auth_key_fini(&a->key[i]);
	free(a->key);
	memset(a, 0, sizeof(*a));
}

/* One line, NUL-terminated; words are cut off its front. */
struct cursor {
	char *p;
};

static bool
is_space(char c)
{
	return c == ' ' || c == '\t';
}

static void
skip_space(struct cursor *c)
{
	while (is_space(*c->p))
		c->p++;
}

/* The next word, ended with a NUL; "" at the end. */
static char *
word(struct cursor *c)
{
	char *start;

	skip_space(c);
	start = c->p;
	while (*c->p != 0 && !is_space(*c->p))
		c->p++;
	if (*c->p != 0)
		*c->p++ = 0;
	return start;
}

static int
set_number(const char *name, const char *value, uint64_t max, unsigned *out,
    struct err *e)
{
	uint64_t n;

	if (*out != 0)
		return err_set(e, ERR_INVAL, "%s= is given twice", name);
	if (number_parse(value, 1, max, &n) != 0)
		return err_set(e, ERR_INVAL, "%s=%.40s is not from 1 to %u",
		    name, value, (unsigned)max);
	*out = (unsigned)n;
	return 0;
}

static int
add_pattern(struct auth_key *k, const char *value, struct err *e)
{
	if (k->npatterns == AUTH_PATTERNS_MAX)
		return err_set(e, ERR_INVAL, "more than %d vm= in one line",
		    AUTH_PATTERNS_MAX);
	if (strlen(value) > AUTH_PATTERN_LEN || !vm_pattern_ok(value))
		return err_set(e, ERR_INVAL,
		    "vm=\"%.140s\" is no pattern of VM names (such as \"web*\" "
		    "or \"db/**\")",
		    value);
	k->pattern =
	    xrealloc(k->pattern, (k->npatterns + 1) * sizeof(*k->pattern));
	k->pattern[k->npatterns++] = xstrdup(value);
	return 0;
}

static int
set_option(
    struct auth_key *k, const char *name, const char *value, struct err *e)
{
	if (strcmp(name, "role") == 0) {
		unsigned role = auth_role(value);

		if (role == 0)
			return err_set(e, ERR_INVAL,
			    "role=%.40s is none of backup, restore, delete, "
			    "admin",
			    value);
		k->roles |= role;
		return 0;
	}
	if (strcmp(name, "vm") == 0)
		return add_pattern(k, value, e);
	if (strcmp(name, "bwlimit") == 0) {
		if (k->bwlimit.n != 0)
			return err_set(e, ERR_INVAL, "bwlimit= is given twice");
		if (hours_parse(value, &k->bwlimit) != 0)
			return err_set(e, ERR_INVAL,
			    "bwlimit=%.40s is no rate from 1K a second up "
			    "(such as 200M)",
			    value);
		return 0;
	}
	if (strcmp(name, "lanes") == 0)
		return set_number(name, value, AUTH_LANES_MAX, &k->lanes, e);
	if (strcmp(name, "jobs") == 0)
		return set_number(name, value, AUTH_JOBS_MAX, &k->jobs, e);
	return err_set(e, ERR_INVAL, "unknown option \"%.40s\"", name);
}

/* name=value,name="value",... up to the blank behind it. */
static int
parse_options(struct cursor *c, struct auth_key *k, struct err *e)
{
	for (;;) {
		char *name = c->p, *value, end;
		int rc;

		c->p += strcspn(c->p, "=, \t\"");
		if (*c->p != '=')
			return err_set(e, ERR_INVAL,
			    "\"%.40s\": neither an option with its value nor "
			    "the type of a key",
			    name);
		*c->p++ = 0;
		if (*c->p == '"') {
			value = ++c->p;
			c->p += strcspn(c->p, "\"");
			if (*c->p == 0)
				return err_set(e, ERR_INVAL,
				    "the value of %.40s has no closing quote",
				    name);
			*c->p++ = 0;
			end = *c->p;
		} else {
			value = c->p;
			c->p += strcspn(c->p, ", \t\"");
			end = *c->p;
			if (end == '"')
				return err_set(e, ERR_INVAL,
				    "the value of %.40s has a quote inside",
				    name);
		}
		if (end != 0 && end != ',' && !is_space(end))
			return err_set(e, ERR_INVAL,
			    "no comma behind the value of %.40s", name);
		if (end != 0)
			*c->p++ = 0;
		rc = set_option(k, name, value, e);
		if (rc != 0 || end != ',')
			return rc;
	}
}

static int
digit64(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/*
 * Decode, and only in the one form that encoding gives: keys are compared as
 * text.  ${out} has room for 3 bytes of each 4 letters.
 */
static bool
base64_decode(const char *s, uint8_t *out, size_t *len)
{
	size_t n = strlen(s), pad = 0;
	uint32_t bits = 0;

	if (n == 0 || n % 4 != 0)
		return false;
	while (pad < 2 && s[n - 1 - pad] == '=')
		pad++;
	*len = 0;
	for (size_t i = 0; i < n; i++) {
		int d = i < n - pad ? digit64(s[i]) : 0;

		if (d == -1)
			return false;
		bits = bits << 6 | (uint32_t)d;
		if (i % 4 != 3)
			continue;
		out[(*len)++] = (uint8_t)(bits >> 16);
		out[(*len)++] = (uint8_t)(bits >> 8);
		out[(*len)++] = (uint8_t)bits;
		bits = 0;
	}
	for (size_t i = 0; i < pad; i++)
		/* NOLINTNEXTLINE: n >= 4, so that three bytes are there */
		if (out[--*len] != 0)
			return false;
	return true;
}

/* The blob says its own type first: that must be the one beside it. */
static int
check_blob(const char *type, const char *base64, struct err *e)
{
	uint8_t blob[AUTH_BASE64_MAX / 4 * 3 + 3];
	size_t len, n = strlen(type);

	if (strlen(base64) > AUTH_BASE64_MAX)
		return err_set(e, ERR_INVAL, "the key is too long");
	if (!base64_decode(base64, blob, &len) || len <= 4 + n ||
	    get_be32(blob) != n || memcmp(blob + 4, type, n) != 0)
		return err_set(e, ERR_INVAL,
		    "the key is damaged: its text is not that of a key of "
		    "type %s",
		    type);
	return 0;
}

static bool
is_type(const char *s)
{
	for (unsigned i = 0; i < NTYPES; i++) {
		size_t n = strlen(types[i]);

		if (strncmp(s, types[i], n) == 0 &&
		    (s[n] == 0 || is_space(s[n])))
			return true;
	}
	return false;
}

static int
parse_line(char *line, struct auth_key *k, struct err *e)
{
	struct cursor c = { line };
	const char *type, *base64, *name;
	int rc;

	skip_space(&c);
	if (!is_type(c.p)) {
		rc = parse_options(&c, k, e);
		if (rc != 0)
			return rc;
		skip_space(&c);
		if (!is_type(c.p))
			return err_set(e, ERR_INVAL,
			    "\"%.40s\" is no type of key (ssh-ed25519, "
			    "ecdsa-sha2-nistp256, ssh-rsa, ...)",
			    word(&c));
	}
	type = word(&c);
	base64 = word(&c);
	name = word(&c);
	if (*base64 == 0)
		return err_set(e, ERR_INVAL, "the key is missing");
	rc = check_blob(type, base64, e);
	if (rc != 0)
		return rc;
	if (*name == 0)
		return err_set(e, ERR_INVAL, "the key's name is missing");
	if (!name_part_ok(name))
		return err_set(e, ERR_INVAL,
		    "\"%.70s\" is no name for a key (letters, digits, "
		    "\".\", \"_\", \"-\"; up to %d)",
		    name, NAME_PART_MAX);
	skip_space(&c);
	if (*c.p != 0)
		return err_set(
		    e, ERR_INVAL, "there is more behind the name %s", name);
	memcpy(k->type, type, strlen(type) + 1);
	memcpy(k->name, name, strlen(name) + 1);
	k->base64 = xstrdup(base64);
	if (k->roles == 0)
		k->roles = ROLE_BACKUP | ROLE_RESTORE;
	if (k->lanes == 0)
		k->lanes = AUTH_LANES_DEFAULT;
	if (k->jobs == 0)
		k->jobs = AUTH_JOBS_DEFAULT;
	return 0;
}

static int
add_key(struct auth *a, struct auth_key *k, struct err *e)
{
	const struct auth_key *o;

	if (a->n == AUTH_KEYS_MAX)
		return err_set(
		    e, ERR_INVAL, "more than %d keys", AUTH_KEYS_MAX);
	o = auth_find_name(a, k->name);
	if (o != NULL)
		return err_set(e, ERR_INVAL,
		    "the name %s is taken by the key of line %u", k->name,
		    o->line);
	o = auth_find_blob(a, k->base64);
	if (o != NULL)
		return err_set(e, ERR_INVAL,
		    "this key is there already, in line %u (%s)", o->line,
		    o->name);
	/* Grown in powers of two. */
	if ((a->n & (a->n - 1)) == 0)
		a->key = xrealloc(
		    a->key, (a->n == 0 ? 1 : 2 * a->n) * sizeof(*a->key));
	a->key[a->n++] = *k;
	return 0;
}

static int
take_line(struct auth *a, const char *text, size_t len, unsigned number,
    struct err *e)
{
	struct auth_key k = { .line = number };
	char *line;
	size_t i;
	int rc;

	if (len > AUTH_LINE_MAX)
		return err_set(e, ERR_INVAL, "the line is too long");
	for (i = 0; i < len; i++)
		if (text[i] != '\t' && (text[i] < ' ' || text[i] > '~'))
			return err_set(e, ERR_INVAL,
			    "there is a byte that is no ASCII text (0x%02x)",
			    (unsigned)(unsigned char)text[i]);
	for (i = 0; i < len && is_space(text[i]);)
		i++;
	if (i == len || text[i] == '#')
		return 0;
	line = xmalloc(len + 1);
	memcpy(line, text, len);
	line[len] = 0;
	rc = parse_line(line, &k, e);
	if (rc == 0)
		rc = add_key(a, &k, e);
	if (rc != 0)
		auth_key_fini(&k);
	free(line);
	return rc;
}

int
auth_parse(const char *text, size_t len, const char *name, struct auth *out,
    struct err *e)
{
	struct auth a = { 0 };
	unsigned number = 0;
	struct err local;
	int rc;

	if (e == NULL)
		e = &local;
	if (len > AUTH_FILE_MAX)
		return err_set(e, ERR_INVAL, "%s: the file is too long", name);
	while (len > 0) {
		const char *end = memchr(text, '\n', len);
		size_t n = end != NULL ? (size_t)(end - text) : len;

		rc = take_line(&a, text, n, ++number, e);
		if (rc != 0) {
			auth_fini(&a);
			return err_prefix(e, "%s:%u", name, number);
		}
		n += end != NULL;
		text += n;
		len -= n;
	}
	*out = a;
	return 0;
}

/* In quotes only where they are needed. */
static void
print_rate(const struct hours *h, const char *sep, struct buf *out)
{
	struct buf text = { 0 };
	const char *quote;

	hours_print(h, &text);
	quote = strpbrk(buf_cstr(&text), " ,") != NULL ? "\"" : "";
	buf_printf(out, "%sbwlimit=%s%s%s", sep, quote, buf_cstr(&text), quote);
	buf_fini(&text);
}

void
auth_print_key(const struct auth_key *k, struct buf *out)
{
	const char *sep = "";

	if (k->roles != (ROLE_BACKUP | ROLE_RESTORE))
		for (unsigned i = 0; i < NROLES; i++)
			if (k->roles & roles[i].role) {
				buf_printf(
				    out, "%srole=%s", sep, roles[i].name);
				sep = ",";
			}
	for (unsigned i = 0; i < k->npatterns; i++) {
		buf_printf(out, "%svm=\"%s\"", sep, k->pattern[i]);
		sep = ",";
	}
	if (k->bwlimit.n != 0) {
		print_rate(&k->bwlimit, sep, out);
		sep = ",";
	}
	if (k->lanes != AUTH_LANES_DEFAULT) {
		buf_printf(out, "%slanes=%u", sep, k->lanes);
		sep = ",";
	}
	if (k->jobs != AUTH_JOBS_DEFAULT) {
		buf_printf(out, "%sjobs=%u", sep, k->jobs);
		sep = ",";
	}
	buf_printf(out, "%s%s %s %s\n", *sep != 0 ? " " : "", k->type,
	    k->base64, k->name);
}

const struct auth_key *
auth_find_blob(const struct auth *a, const char *base64)
{
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->key[i].base64, base64) == 0)
			return &a->key[i];
	return NULL;
}

const struct auth_key *
auth_find_name(const struct auth *a, const char *name)
{
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->key[i].name, name) == 0)
			return &a->key[i];
	return NULL;
}

bool
auth_may(const struct auth_key *k, unsigned want)
{
	return (k->roles & (want | ROLE_ADMIN)) != 0;
}

bool
auth_sees(const struct auth_key *k, const char *vm)
{
	for (unsigned i = 0; i < k->npatterns; i++)
		if (vm_pattern_match(k->pattern[i], vm))
			return true;
	return k->npatterns == 0;
}

void
auth_patterns(const struct auth_key *k, struct buf *out)
{
	if (k->npatterns == 0)
		buf_printf(out, "all");
	for (unsigned i = 0; i < k->npatterns; i++)
		buf_printf(out, "%s%s", i > 0 ? ", " : "", k->pattern[i]);
}
