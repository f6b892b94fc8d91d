/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/console/history_view.h"

#include <stdio.h>
#include <string.h>

#include "proto/base/json.h"
#include "proto/name.h"
#include "repo/catalog/unusual.h"
#include "repo/console/console.h"
#include "repo/console/words.h"

/* Where columns end, or begin. */
enum {
	TIME_COL = 2,
	TOOK_END = 31,
	CHANGED_END = 42,
	NEW_END = 53,
	STORED_END = 64,
	BAR_COL = 66,
	BAR_MAX = 60
};

static struct unusual_facts
facts_of(const json_t *b)
{
	const json_t *s = json_object_get(b, "stats");
	struct manifest_stats stats = { .holes = answer_u64(s, "holes"),
		.unchanged = answer_u64(s, "unchanged"),
		.deduplicated = answer_u64(s, "deduplicated"),
		.stored = answer_u64(s, "stored") };
	struct unusual_facts f = { .full = json_is_true(
				       json_object_get(b, "full")) };

	unusual_count(answer_u64(b, "size"), &stats, &f);
	return f;
}

static bool
flagged(const json_t *b)
{
	return *answer_str(b, "unusual") != 0;
}

unsigned
history_rows(const json_t *list)
{
	unsigned n = (unsigned)json_array_size(list) + 1, told = 0;

	for (size_t i = 0; i < json_array_size(list); i++)
		if (flagged(json_array_get(list, i)))
			told++;
	return told > 0 ? n + 1 + told : n;
}

/* What the longest bar stands for: full ones would dwarf all others. */
static uint64_t
scale_of(const json_t *list)
{
	uint64_t most = 0;

	for (size_t i = 0; i < json_array_size(list); i++) {
		struct unusual_facts f = facts_of(json_array_get(list, i));

		if (!f.full && f.changed > most)
			most = f.changed;
	}
	for (size_t i = 0; most == 0 && i < json_array_size(list); i++)
		most = facts_of(json_array_get(list, i)).changed;
	return most;
}

/* What changed, and of it what was stored. */
static void
draw_bar(struct canvas *c, unsigned row, const struct unusual_facts *f,
    uint64_t scale, enum canvas_look look)
{
	unsigned room = c->cols > BAR_COL ? c->cols - BAR_COL : 0, width, full;
	uint64_t changed = f->changed < scale ? f->changed : scale;

	if (room > BAR_MAX)
		room = BAR_MAX;
	if (scale == 0 || f->changed == 0 || room == 0)
		return;
	width = (unsigned)((double)changed / (double)scale * room + 0.5);
	full = (unsigned)((double)(f->stored < scale ? f->stored : scale) /
		(double)scale * room +
	    0.5);
	if (width == 0)
		width = 1;
	canvas_bar(c, row, BAR_COL, width, full, width);
	if (full > 0)
		canvas_paint(c, row, BAR_COL, full, look);
	if (f->changed > scale)
		canvas_text(c, row, BAR_COL + room - 1, LOOK_BOLD, ">");
}

static void
draw_one(struct canvas *c, unsigned row, const json_t *b, uint64_t scale)
{
	const json_t *s = json_object_get(b, "stats");
	enum canvas_look look = flagged(b) ? LOOK_BAD : LOOK_PLAIN;
	struct unusual_facts f = facts_of(b);
	char text[WORDS_LEN], size[16];

	if (flagged(b))
		canvas_text(c, row, 0, LOOK_BAD, "!");
	canvas_text(c, row, TIME_COL, look, answer_str(b, "time"));
	canvas_right(c, row, TOOK_END, LOOK_DIM,
	    words_time(answer_u64(s, "duration_ms") / 1000, text));
	canvas_right(c, row, CHANGED_END, look, size_print(f.changed, size));
	canvas_right(c, row, NEW_END, look, size_print(f.fresh, size));
	canvas_right(c, row, STORED_END, look, size_print(f.stored, size));
	draw_bar(c, row, &f, scale, flagged(b) ? LOOK_BAD : LOOK_BAR);
}

static void
draw_note(struct canvas *c, unsigned row, const json_t *b)
{
	struct unusual_facts f = facts_of(b);
	const char *word = answer_str(b, "unusual");
	char a[16];

	if (strcmp(word, "incompressible") == 0)
		canvas_printf(c, row, 0, LOOK_BAD,
		    "! %s  %s of new data does not compress: as if encrypted",
		    answer_str(b, "time"), size_print(f.dense, a));
	else
		canvas_printf(c, row, 0, LOOK_BAD,
		    "! %s  %s of new data: a large part of the disks",
		    answer_str(b, "time"), size_print(f.fresh, a));
}

void
history_draw(struct canvas *c, const json_t *list)
{
	uint64_t scale = scale_of(list);
	size_t n = json_array_size(list);
	unsigned row = 0;

	canvas_text(c, row, TIME_COL, LOOK_DIM, "TIME");
	canvas_right(c, row, TOOK_END, LOOK_DIM, "TOOK");
	canvas_right(c, row, CHANGED_END, LOOK_DIM, "CHANGED");
	canvas_right(c, row, NEW_END, LOOK_DIM, "NEW");
	canvas_right(c, row, STORED_END, LOOK_DIM, "STORED");
	row++;
	for (size_t i = 0; i < n; i++)
		draw_one(c, row++, json_array_get(list, i), scale);
	row++;
	for (size_t i = 0; i < n; i++)
		if (flagged(json_array_get(list, i)))
			draw_note(c, row++, json_array_get(list, i));
}

json_t *
history_to_json(const json_t *list)
{
	json_t *all = json_array();

	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *b = json_array_get(list, i);
		struct unusual_facts f = facts_of(b);
		json_t *o = json_object();

		json_set_str(o, "time", answer_str(b, "time"));
		json_set_u64(o, "duration_ms",
		    answer_u64(json_object_get(b, "stats"), "duration_ms"));
		json_set_bool(o, "full", f.full);
		json_set_u64(o, "used", f.used);
		json_set_u64(o, "changed", f.changed);
		json_set_u64(o, "deduplicated", f.changed - f.fresh);
		json_set_u64(o, "new", f.fresh);
		json_set_u64(o, "stored", f.stored);
		json_set_u64(o, "incompressible", f.dense);
		json_set_str(o, "unusual", answer_str(b, "unusual"));
		json_array_append_new(all, o);
	}
	return all;
}
