/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <stdio.h>

#include "proto/name.h"
#include "repo/console/console.h"
#include "repo/console/history_view.h"
#include "repo/console/live.h"

/* On a terminal with its looks, elsewhere as plain text. */
static void
print(const json_t *list)
{
	bool live = live_able(), utf8 = live_utf8();
	unsigned rows, cols;
	struct buf out = { 0 };
	struct canvas c;

	live_size(&rows, &cols);
	rows = history_rows(list);
	canvas_init(&c, rows, cols > 1 ? cols - 1 : 1, !utf8);
	history_draw(&c, list);
	for (unsigned i = 0; i < rows; i++) {
		if (live)
			canvas_row_ansi(&c, i, &out);
		else
			canvas_row(&c, i, &out);
		buf_u8(&out, '\n');
	}
	fputs(buf_cstr(&out), stdout);
	buf_fini(&out);
	canvas_fini(&c);
}

int
cmd_history(struct console *c, int argc, char **argv)
{
	struct err e = { 0 };
	json_t *list, *figures;
	int n, status;
	bool json;

	n = console_plain(c, argc, argv, 1, &json, &status);
	if (n == -1)
		return status;
	if (n == 0 || !vm_name_ok(argv[optind]))
		return console_misuse(c, "of which VM?");
	if (console_list(c, argv[optind], false, &list, &e) != 0)
		return console_fail(&e);
	if (json_array_size(list) == 0) {
		json_decref(list);
		err_set(
		    &e, ERR_NOENT, "there is no backup of %s", argv[optind]);
		return console_fail(&e);
	}
	if (json) {
		figures = history_to_json(list);
		console_print_json(figures);
		json_decref(figures);
	} else {
		print(list);
	}
	json_decref(list);
	return EXIT_DONE;
}
