/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/archive/import.h"

int
import_foreign(const struct import_options *o, struct arcin *a,
    struct backup_result *out, struct err *e)
{
	(void)a;
	(void)out;
	return err_set(e, ERR_UNSUP,
	    "%.200s: is no archive that backstay export wrote", o->from);
}
