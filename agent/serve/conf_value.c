/* SPDX-License-Identifier: Apache-2.0 */
/* What a person writes behind a key: is it what the key takes? */
#include <stdlib.h>
#include <string.h>

#include "agent/pipeline/repo_url.h"
#include "agent/serve/conf_impl.h"
#include "proto/codec.h"

static int
check_flag(const char *text, uint64_t *n)
{
	static const char *const no[] = { "no", "off", "false" };

	*n = conf_is(text);
	if (*n != 0)
		return 0;
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		if (strcmp(text, no[i]) == 0)
			return 0;
	return ERR_INVAL;
}

/* A bare number says nothing, but for 0. */
static int
check_duration(const struct conf_key *k, const char *text, uint64_t *n)
{
	if (seconds_parse(text, 0, n) != 0)
		return ERR_INVAL;
	return *n < k->min || *n > k->max ? ERR_INVAL : 0;
}

/* 0, or within the limits. */
static int
check_size(const struct conf_key *k, const char *text, uint64_t *n)
{
	if (size_parse(text, n) != 0)
		return ERR_INVAL;
	return *n != 0 && (*n < k->min || *n > k->max) ? ERR_INVAL : 0;
}

static int
check_percent(const char *text)
{
	char *end;
	double v;

	if (*text < '0' || *text > '9')
		return ERR_INVAL;
	v = strtod(text, &end);
	return *end == 0 && v >= 0 && v <= 100 ? 0 : ERR_INVAL;
}

static int
check_word(const struct conf_key *k, const char *text)
{
	for (const char *const *w = k->words; *w != NULL; w++)
		if (strcmp(*w, text) == 0)
			return 0;
	return ERR_INVAL;
}

static int
check_disk(const char *text)
{
	const char *eq = strchr(text, '=');
	char name[NAME_PART_MAX + 1];

	if (eq == NULL || eq[1] == 0 || (size_t)(eq - text) >= sizeof(name))
		return ERR_INVAL;
	memcpy(name, text, (size_t)(eq - text));
	name[eq - text] = 0;
	return name_part_ok(name) ? 0 : ERR_INVAL;
}

static int
check(const struct conf_key *k, const char *text, uint64_t *n)
{
	struct repo_url url;

	switch (k->type) {
	case CONF_FLAG: return check_flag(text, n);
	case CONF_COUNT: return number_parse(text, k->min, k->max, n);
	case CONF_SIZE: return check_size(k, text, n);
	case CONF_DURATION: return check_duration(k, text, n);
	case CONF_PERCENT: return check_percent(text);
	case CONF_WORD: return check_word(k, text);
	case CONF_URL: return repo_url_parse(text, &url, NULL);
	case CONF_PATH: return *text == '/' ? 0 : ERR_INVAL;
	case CONF_NAME:
	case CONF_NAMES: return name_part_ok(text) ? 0 : ERR_INVAL;
	case CONF_DISKS: return check_disk(text);
	case CONF_LEVEL:
		return strcmp(text, "auto") == 0
		    ? 0
		    : number_parse(text, 0, CODEC_LEVEL_MAX, n);
	case CONF_VIRT:
		return strchr(text, ':') != NULL ? 0 : check_flag(text, n);
	case CONF_LINE: return *text != 0 ? 0 : ERR_INVAL;
	}
	return ERR_INVAL;
}

int
conf_check(const struct conf_key *k, const char *text, uint64_t *n)
{
	uint64_t number = 0;

	/* What is nothing by default may be said to be nothing. */
	if ((*text != 0 || k->initial[0] != 0) && check(k, text, &number) != 0)
		return ERR_INVAL;
	if (n != NULL)
		*n = number;
	return 0;
}

bool
conf_is(const char *text)
{
	return strcmp(text, "yes") == 0 || strcmp(text, "on") == 0 ||
	    strcmp(text, "true") == 0;
}

uint64_t
conf_number(const struct conf *c, enum conf_key_id key)
{
	uint64_t n = 0;

	/* It was checked when it was read. */
	(void)conf_check(&conf_keys[key], conf_text(c, key), &n);
	return n;
}
