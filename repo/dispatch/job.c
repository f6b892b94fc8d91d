/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/dispatch/job.h"

const char *
job_kind_name(enum job_kind kind)
{
	static const char *const names[] = { "backup", "restore", "delete",
		"verify" };

	return names[kind];
}

const char *
job_state_name(enum job_state state)
{
	static const char *const names[] = { "running", "done", "failed",
		"queued", "cancelled" };

	return names[state];
}
