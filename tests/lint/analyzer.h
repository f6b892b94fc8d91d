/* SPDX-License-Identifier: Apache-2.0 */
/*
 * analyzer: what clang-tidy reads before each file.  It sees one file at a
 * time, and so cannot know that these return what they were given: it would
 * take every failure for a success, too, and find uninitialised results.
 */
#ifndef TESTS_LINT_ANALYZER_H
#define TESTS_LINT_ANALYZER_H

#include "proto/base/err.h"
#include "proto/base/log.h"

#define err_set(e, code, ...) ((void)(err_set)(e, code, __VA_ARGS__), (code))
#define err_prefix(e, ...)                                                     \
	({                                                                     \
		int analyzer_code = (e)->code;                                 \
		(void)(err_prefix)(e, __VA_ARGS__);                            \
		analyzer_code;                                                 \
	})
#define log_sys(...) ((void)(log_sys)(__VA_ARGS__), ERR_SYS)

#endif
