/* SPDX-License-Identifier: Apache-2.0 */
/* All keys.  agent.conf(5) has each of them, too; a test compares. */
#include <string.h>

#include "agent/serve/conf_impl.h"
#include "proto/base/inifile.h"

#define YES_OR_NO "yes or no"

static const char *const restores[] = { "any", "own", "no", NULL };
static const char *const ram_methods[] = { "auto", "shared", "snapshot",
	"mapped", "stream", NULL };
static const char *const quiesces[] = { "auto", "require", "no", NULL };

const struct conf_key conf_keys[CONF_NKEYS] = {
	[CONF_REPO] = { .section = "agent",
	    .name = "repo",
	    .type = CONF_URL,
	    .initial = "",
	    .takes = "ssh://NAS[:PORT] or unix:PATH",
	    .about = "The NAS's daemon.  Needed, here or by --repo or "
		     "BACKSTAY_AGENT_REPO." },
	[CONF_JOBS] = { .section = "agent",
	    .name = "jobs-per-host",
	    .type = CONF_COUNT,
	    .initial = "2",
	    .live = true,
	    .min = 1,
	    .max = CONF_JOBS_MAX,
	    .takes = "a number from 1 to 64",
	    .about = "How many backups and restores run here at a time; the "
		     "rest waits on the NAS." },
	[CONF_LIBVIRT] = { .section = "agent",
	    .name = "libvirt",
	    .type = CONF_VIRT,
	    .initial = "no",
	    .live = true,
	    .takes = "yes, no, or an address such as qemu:///system",
	    .about = "Offer all domains of libvirt, running or not, by their "
		     "names.  New ones are noticed." },
	[CONF_NAMESPACE] = { .section = "agent",
	    .name = "namespace",
	    .type = CONF_NAME,
	    .initial = "",
	    .live = true,
	    .takes = "letters, digits, '.', '_' and '-', or nothing",
	    .about = "Put before names that have none: web1 is NAMESPACE/web1 "
		     "on the NAS." },
	[CONF_SCAN] = { .section = "agent",
	    .name = "scan",
	    .type = CONF_DURATION,
	    .initial = "30s",
	    .live = true,
	    .min = 1,
	    .max = 86400,
	    .takes = "a time from 1s to 1d",
	    .about = "How often to look for new machines, and which of them "
		     "run." },
	[CONF_RESTORES] = { .section = "agent",
	    .name = "restores",
	    .type = CONF_WORD,
	    .initial = "any",
	    .live = true,
	    .words = restores,
	    .takes = "any, own or no",
	    .about = "What the NAS may have this host write: any file, only "
		     "the disks of this host's own machines, or nothing." },
	[CONF_LANES] = { .section = "agent",
	    .name = "lanes",
	    .type = CONF_COUNT,
	    .initial = "4",
	    .live = true,
	    .min = 1,
	    .max = 64,
	    .takes = "a number from 1 to 64",
	    .about = "Connections of each job." },
	[CONF_BWLIMIT] = { .section = "agent",
	    .name = "bwlimit",
	    .type = CONF_SIZE,
	    .initial = "0",
	    .live = true,
	    .min = 64 << 10,
	    .max = (uint64_t)1 << 40,
	    .takes = "bytes a second such as 200M, from 64K, or 0",
	    .about = "Bytes a second that each job sends or receives.  0: no "
		     "limit." },
	[CONF_COMPRESSION] = { .section = "agent",
	    .name = "compression",
	    .type = CONF_LEVEL,
	    .initial = "auto",
	    .live = true,
	    .takes = "a number from 0 to 19, or auto",
	    .about = "How hard backups are compressed: 0 not, 1 fast, 19 "
		     "smallest; auto: more while the wire is slow." },
	[CONF_STALL] = { .section = "agent",
	    .name = "stall-timeout",
	    .type = CONF_DURATION,
	    .initial = "120s",
	    .live = true,
	    .min = 1,
	    .max = 86400,
	    .takes = "a time from 1s to 1d",
	    .about = "A backup ends if nothing moves for so long." },
	[CONF_NFS_TIMEOUT] = { .section = "agent",
	    .name = "nfs-timeout",
	    .type = CONF_DURATION,
	    .initial = "100s",
	    .live = true,
	    .min = 1,
	    .max = 86400,
	    .takes = "a time from 1s to 1d",
	    .about = "How long a backup waits for an NFS server of its disks "
		     "that is gone." },
	[CONF_WAIT] = { .section = "agent",
	    .name = "wait",
	    .type = CONF_DURATION,
	    .initial = "10m",
	    .live = true,
	    .max = 86400,
	    .takes = "a time from 0 to 1d",
	    .about = "How long a job waits for another one that has the VM." },
	[CONF_SCRATCH_DIR] = { .section = "agent",
	    .name = "scratch-dir",
	    .type = CONF_PATH,
	    .initial = "/var/tmp",
	    .live = true,
	    .takes = "the whole path of a folder",
	    .about = "Where a running guest's writes are kept while it is "
		     "backed up." },
	[CONF_SCRATCH_MAX] = { .section = "agent",
	    .name = "scratch-max",
	    .type = CONF_SIZE,
	    .initial = "0",
	    .live = true,
	    .min = 1,
	    .max = (uint64_t)1 << 60,
	    .takes = "a size such as 20G, or 0",
	    .about = "What they may take there, by each job.  0: four fifths "
		     "of what is free." },
	[CONF_VERIFY_CLEAN] = { .section = "agent",
	    .name = "verify-clean",
	    .type = CONF_PERCENT,
	    .initial = "0.5",
	    .live = true,
	    .takes = "a percentage from 0 to 100",
	    .about = "Of what is known to be as before, how much is read at "
		     "random to see whether it is." },
	[CONF_VERBOSE] = { .section = "agent",
	    .name = "verbose",
	    .type = CONF_FLAG,
	    .initial = "no",
	    .live = true,
	    .takes = YES_OR_NO,
	    .about = "Log each command that is run." },

	[CONF_DISK] = { .section = "vm",
	    .name = "disk",
	    .type = CONF_DISKS,
	    .initial = "",
	    .live = true,
	    .takes = "NAME=SOURCE, once for each disk",
	    .about = "A disk that nobody writes to: a file or block device, or "
		     "nfs://HOST/EXPORT/PATH; raw:PATH and qcow2:PATH say the "
		     "format." },
	[CONF_DOMAIN] = { .section = "vm",
	    .name = "domain",
	    .type = CONF_LINE,
	    .initial = "",
	    .live = true,
	    .takes = "the name or UUID of a domain",
	    .about = "The machine is that domain of libvirt; needed where its "
		     "name is another." },
	[CONF_CONNECT] = { .section = "vm",
	    .name = "connect",
	    .type = CONF_LINE,
	    .initial = "",
	    .live = true,
	    .takes = "an address of libvirt's",
	    .about = "Where that domain is, if not where libvirt = says." },
	[CONF_QMP] = { .section = "vm",
	    .name = "qmp",
	    .type = CONF_PATH,
	    .initial = "",
	    .live = true,
	    .takes = "the whole path of a socket",
	    .about = "The machine is a QEMU without libvirt: the socket of its "
		     "monitor." },
	[CONF_GA] = { .section = "vm",
	    .name = "ga",
	    .type = CONF_PATH,
	    .initial = "",
	    .live = true,
	    .takes = "the whole path of a socket",
	    .about = "The socket of that QEMU's guest agent." },
	[CONF_RAM] = { .section = "vm",
	    .name = "ram",
	    .type = CONF_FLAG,
	    .initial = "no",
	    .live = true,
	    .takes = YES_OR_NO,
	    .about = "Save memory and devices with each backup, too." },
	[CONF_RAM_METHOD] = { .section = "vm",
	    .name = "ram-method",
	    .type = CONF_WORD,
	    .initial = "auto",
	    .live = true,
	    .words = ram_methods,
	    .takes = "auto, shared, snapshot, mapped or stream",
	    .about = "How; auto: what holds the guest least." },
	[CONF_QUIESCE] = { .section = "vm",
	    .name = "quiesce",
	    .type = CONF_WORD,
	    .initial = "auto",
	    .live = true,
	    .words = quiesces,
	    .takes = "auto, require or no",
	    .about = "Freeze the guest's file systems for the point in time: "
		     "if it can be, always, or never." },
	[CONF_EXCLUDE] = { .section = "vm",
	    .name = "exclude",
	    .type = CONF_NAMES,
	    .initial = "",
	    .live = true,
	    .takes = "the name of a disk, once for each",
	    .about = "Leave that disk of the machine out." },
	[CONF_IGNORE] = { .section = "vm",
	    .name = "ignore",
	    .type = CONF_FLAG,
	    .initial = "no",
	    .live = true,
	    .takes = YES_OR_NO,
	    .about = "Do not offer this machine, though libvirt has it." },
};

enum conf_key_id
conf_key_find(const char *section, const char *name)
{
	unsigned i;

	for (i = 0; i < CONF_NKEYS; i++)
		if (strcmp(conf_keys[i].section, section) == 0 &&
		    strcmp(conf_keys[i].name, name) == 0)
			break;
	return (enum conf_key_id)i;
}

const char *
conf_key_near(const char *section, const char *name)
{
	const char *found = NULL;
	unsigned least = 4;

	for (unsigned i = 0; i < CONF_NKEYS; i++) {
		const struct conf_key *k = &conf_keys[i];
		unsigned d = inifile_distance(k->name, name);

		if (strcmp(k->section, section) == 0 && d < least) {
			least = d;
			found = k->name;
		}
	}
	return found;
}
