/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "proto/base/inifile.h"
#include "repo/settings/settings_impl.h"

static void
add_keys(const char *section, struct buf *out)
{
	for (unsigned i = 0; i < settings_nkeys; i++) {
		const struct settings_key *k = &settings_keys[i];

		if (strcmp(k->section, section) != 0)
			continue;
		buf_u8(out, '\n');
		inifile_comment(k->about, out);
		buf_printf(out, "# Takes %s.%s\n#%s = %s\n", k->takes,
		    k->live ? "" : "  A restart changes it.", k->name,
		    k->initial);
	}
}

void
settings_sample(struct buf *out)
{
	inifile_comment(
	    "Settings of backstayd; see backstayd.conf(5).  What is "
	    "commented out is at its default.  `backstayd -t REPO` "
	    "checks this file, SIGHUP has the daemon read it again.  "
	    "Options of the command line win over it.",
	    out);
	buf_printf(out, "\n[daemon]\n");
	add_keys("daemon", out);
	buf_u8(out, '\n');
	inifile_comment(
	    "What is kept of the backups of VMs: as many sections as "
	    "you like, such as [vm web1], [vm db/*], or [vm **] for "
	    "all.  For each key the section counts that says it and "
	    "fits best: one with the VM's name, then the longest "
	    "pattern, then the first.  While no keep-... is said for a "
	    "VM, all its backups are kept.",
	    out);
	buf_printf(out, "#[vm **]\n");
	add_keys("vm", out);
}
