/* SPDX-License-Identifier: Apache-2.0 */
/* What a person writes behind a key, as a value. */
#include <stdlib.h>
#include <string.h>

#include "repo/settings/settings_impl.h"

static int
take_flag(const char *text, bool *out)
{
	static const struct {
		const char *word;
		bool value;
	} words[] = { { "yes", true }, { "no", false }, { "on", true },
		{ "off", false }, { "true", true }, { "false", false } };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(text, words[i].word) == 0) {
			*out = words[i].value;
			return 0;
		}
	return ERR_INVAL;
}

static int
take_duration(const struct settings_key *k, const char *text, uint64_t *out)
{
	uint64_t n;

	if (seconds_parse(text, k->unit, &n) != 0 || n < k->min || n > k->max)
		return ERR_INVAL;
	*out = n;
	return 0;
}

static int
take_size(const struct settings_key *k, const char *text, uint64_t *out)
{
	uint64_t n;

	if (k->type == SETTING_AUTO && strcmp(text, "auto") == 0) {
		*out = 0;
		return 0;
	}
	if (size_parse(text, &n) != 0 || n < k->min || n > k->max)
		return ERR_INVAL;
	*out = n;
	return 0;
}

static int
take_number(const struct settings_key *k, const char *text, void *field)
{
	uint64_t n;

	if (number_parse(text, k->min, k->max, &n) != 0)
		return ERR_INVAL;
	if (k->type == SETTING_COUNT)
		*(unsigned *)field = (unsigned)n;
	else
		*(uint64_t *)field = n;
	return 0;
}

/* Whether it means something shows when it is bound. */
static bool
address_ok(const char *a)
{
	const char *colon = strrchr(a, ':');
	size_t host = colon != NULL ? (size_t)(colon - a) : 0;
	uint64_t port;

	if (number_parse(colon != NULL ? colon + 1 : a, 0, 65535, &port) != 0)
		return false;
	if (memchr(a, ':', host) != NULL)
		return a[0] == '[' && a[host - 1] == ']';
	return true;
}

static int
take_listen(const char *text, struct settings *s)
{
	char *all = xstrdup(text), *rest = all, *word;
	char *found[SETTINGS_LISTEN_MAX];
	unsigned n = 0;
	int rc = 0;

	while (rc == 0 && (word = strsep(&rest, " \t,")) != NULL) {
		if (*word == 0)
			continue;
		if (n == SETTINGS_LISTEN_MAX || !address_ok(word))
			rc = ERR_INVAL;
		else
			found[n++] = xstrdup(word);
	}
	free(all);
	if (rc != 0 || n == 0) {
		while (n > 0)
			free(found[--n]);
		return ERR_INVAL;
	}
	while (s->nlisten > 0)
		free(s->listen[--s->nlisten]);
	memcpy(s->listen, found, n * sizeof(found[0]));
	s->nlisten = n;
	return 0;
}

static int
take_path(const char *dir, const char *text, char **out)
{
	if (*text == 0)
		return ERR_INVAL;
	free(*out);
	*out = *text == '/' ? xstrdup(text) : xasprintf("%s/%s", dir, text);
	return 0;
}

static int
take_percent(const struct settings_key *k, const char *text, uint64_t *out)
{
	size_t len = strcspn(text, " \t%");
	char digits[8];

	if (len >= sizeof(digits))
		return ERR_INVAL;
	memcpy(digits, text, len);
	digits[len] = 0;
	text += len;
	text += strspn(text, " \t");
	if (*text != 0 && strcmp(text, "%") != 0)
		return ERR_INVAL;
	return number_parse(digits, k->min, k->max, out);
}

/* Whether it can be run is asked where that makes sense: not on a machine
 * where somebody only looks at settings. */
static int
take_command(const char *text, char **out)
{
	if (*text != 0 && *text != '/')
		return ERR_INVAL;
	free(*out);
	*out = xstrdup(text);
	return 0;
}

static int
take_address(const char *text, char **out)
{
	/* No address at all would be all of them: that is to be said. */
	if (*text != 0 &&
	    (*text == ':' || strchr(text, ':') == NULL || !address_ok(text)))
		return ERR_INVAL;
	free(*out);
	*out = xstrdup(text);
	return 0;
}

int
settings_take(
    const struct settings_key *k, const char *dir, const char *text, void *base)
{
	void *field = (char *)base + k->off;

	switch (k->type) {
	case SETTING_FLAG: return take_flag(text, field);
	case SETTING_NUMBER:
	case SETTING_COUNT: return take_number(k, text, field);
	case SETTING_SIZE:
	case SETTING_AUTO: return take_size(k, text, field);
	case SETTING_DURATION: return take_duration(k, text, field);
	case SETTING_PATH: return take_path(dir, text, field);
	case SETTING_PERCENT: return take_percent(k, text, field);
	case SETTING_COMMAND: return take_command(text, field);
	case SETTING_ADDRESS: return take_address(text, field);
	case SETTING_LISTEN: return take_listen(text, base);
	case SETTING_HOURS: return hours_parse(text, field);
	case SETTING_TIMES:
	case SETTING_WINDOWS: break; /* settings_plan_take has them */
	}
	return ERR_INVAL;
}
