/* SPDX-License-Identifier: Apache-2.0 */
/* All keys.  backstayd.conf(5) has each of them, too; a test compares. */
#include <stdlib.h>
#include <string.h>

#include "proto/base/inifile.h"
#include "repo/settings/settings_impl.h"

#define MIB ((uint64_t)1 << 20)
#define DAY ((uint64_t)86400)
#define IN_DAEMON(field) offsetof(struct settings, field)
#define IN_VM(field) offsetof(struct retain_policy, field)
#define IN_PLAN(field) offsetof(struct plan, field)
#define COUNT_MAX 100000
#define COUNT_TAKES "a number from 0 to 100000"
#define AGE_MAX (100 * 366 * DAY)
#define AGE_TAKES "a time such as 12h, 7d, 4w or 1y, or 0"

const struct settings_key settings_keys[] = {
	{ .section = "daemon",
	    .name = "listen",
	    .type = SETTING_LISTEN,
	    .initial = "7722",
	    .takes = "up to 16 of ADDR:PORT, [ADDR]:PORT or PORT, with blanks "
		     "between",
	    .about = "Where agents connect; PORT alone is every address." },
	{ .section = "daemon",
	    .name = "no-ssh",
	    .type = SETTING_FLAG,
	    .initial = "no",
	    .off = IN_DAEMON(no_ssh),
	    .takes = "yes or no",
	    .about = "Serve the local socket only." },
	{ .section = "daemon",
	    .name = "index",
	    .type = SETTING_PATH,
	    .initial = "index",
	    .off = IN_DAEMON(index),
	    .takes = "the name of a folder",
	    .about = "Where the index is, seen from the repository; on an SSD "
		     "if there will be over 4 TB." },
	{ .section = "daemon",
	    .name = "block-cache",
	    .type = SETTING_AUTO,
	    .initial = "auto",
	    .off = IN_DAEMON(block_cache),
	    .min = 32 * MIB,
	    .max = MIB << 20,
	    .takes = "a size from 32M to 1T, or auto",
	    .about = "Memory for the index.  auto: a sixteenth of the "
		     "machine's, from 32M to 1G." },
	{ .section = "daemon",
	    .name = "pack-limit",
	    .type = SETTING_AUTO,
	    .initial = "auto",
	    .off = IN_DAEMON(pack_limit),
	    .min = MIB,
	    .max = 2048 * MIB,
	    .takes = "a size from 1M to 2G, or auto",
	    .about = "Bytes that a pack of data is filled up to.  auto: 512M, "
		     "or 5 % of a small volume." },
	{ .section = "daemon",
	    .name = "live-percent",
	    .type = SETTING_NUMBER,
	    .initial = "50",
	    .live = true,
	    .off = IN_DAEMON(live_percent),
	    .min = 1,
	    .max = 95,
	    .takes = "a number from 1 to 95",
	    .about = "Packs of which less than that lives are rewritten: more "
		     "saves space and costs writing." },
	{ .section = "daemon",
	    .name = "checkpoint",
	    .type = SETTING_DURATION,
	    .initial = "60s",
	    .off = IN_DAEMON(checkpoint),
	    .min = 1,
	    .max = DAY,
	    .unit = 1,
	    .takes = "a time from 1s to 1d",
	    .about = "After so long an interrupted backup does not begin "
		     "anew." },
	{ .section = "daemon",
	    .name = "keep-incomplete",
	    .type = SETTING_DURATION,
	    .initial = "24h",
	    .live = true,
	    .off = IN_DAEMON(keep_incomplete),
	    .max = 365 * DAY,
	    .unit = 3600,
	    .takes = "a time from 0 to 365d",
	    .about = "How long an interrupted backup may be taken up again "
		     "without sending what is stored." },
	{ .section = "daemon",
	    .name = "scrub-interval",
	    .type = SETTING_DURATION,
	    .initial = "30d",
	    .live = true,
	    .off = IN_DAEMON(scrub_interval),
	    .max = 3650 * DAY,
	    .unit = (unsigned)DAY,
	    .takes = "a time from 0 to 3650d",
	    .about = "All that is stored is read and checked so often.  0: "
		     "only when told to." },
	{ .section = "daemon",
	    .name = "clock-jump",
	    .type = SETTING_DURATION,
	    .initial = "30d",
	    .off = IN_DAEMON(clock_jump),
	    .max = AGE_MAX,
	    .unit = (unsigned)DAY,
	    .takes = "a time from 0 to 36600d",
	    .about = "A clock that is further ahead at a start than that is "
		     "not believed: backups do not grow old by it." },
	{ .section = "daemon",
	    .name = "nfs-timeout",
	    .type = SETTING_DURATION,
	    .initial = "5m",
	    .off = IN_DAEMON(nfs_timeout),
	    .min = 1,
	    .max = DAY,
	    .unit = 1,
	    .takes = "a time from 1s to 1d",
	    .about = "How long jobs wait for a server of packs that does not "
		     "answer, before they fail." },
	{ .section = "daemon",
	    .name = "bwlimit",
	    .type = SETTING_HOURS,
	    .initial = "0",
	    .live = true,
	    .off = IN_DAEMON(bwlimit),
	    .takes = HOURS_TAKES,
	    .about = "Bytes a second of all agents together, both ways.  0: no "
		     "limit." },
	{ .section = "daemon",
	    .name = "jobs",
	    .type = SETTING_NUMBER,
	    .initial = "16",
	    .live = true,
	    .off = IN_DAEMON(jobs),
	    .min = 1,
	    .max = 256,
	    .takes = "a number from 1 to 256",
	    .about = "So many jobs of connected agents run at a time, over all "
		     "hosts; the others wait." },
	{ .section = "daemon",
	    .name = "verbose",
	    .type = SETTING_FLAG,
	    .initial = "no",
	    .live = true,
	    .off = IN_DAEMON(verbose),
	    .takes = "yes or no",
	    .about = "Log every lane and why it ended." },
	{ .section = "daemon",
	    .name = "hook",
	    .type = SETTING_COMMAND,
	    .initial = "",
	    .live = true,
	    .off = IN_DAEMON(hook),
	    .takes = "the whole path of a program, words for it behind that, "
		     "or nothing",
	    .about = "Run when a job ends or fails, something is damaged, "
		     "space is low, ...: with kind, VM and outcome as "
		     "arguments and JSON on its standard input.  No shell." },
	{ .section = "daemon",
	    .name = "hook-timeout",
	    .type = SETTING_DURATION,
	    .initial = "60s",
	    .live = true,
	    .off = IN_DAEMON(hook_timeout),
	    .min = 1,
	    .max = 3600,
	    .unit = 1,
	    .takes = "a time from 1s to 1h",
	    .about = "A hook that runs for longer is killed." },
	{ .section = "daemon",
	    .name = "low-space",
	    .type = SETTING_PERCENT,
	    .initial = "10%",
	    .live = true,
	    .off = IN_DAEMON(low_space),
	    .max = 99,
	    .takes = "a percentage from 0 to 99",
	    .about = "Tell the hook when less than that of the volume is "
		     "free.  0: never." },
	{ .section = "daemon",
	    .name = "http",
	    .type = SETTING_ADDRESS,
	    .initial = "",
	    .off = IN_DAEMON(http),
	    .takes = "ADDR:PORT or [ADDR]:PORT, or nothing",
	    .about = "Where /metrics for Prometheus and /healthz are, such as "
		     "127.0.0.1:9722.  Whoever gets there may read them.  "
		     "Nothing: nowhere." },
	{ .section = "daemon",
	    .name = "metrics-vms",
	    .type = SETTING_FLAG,
	    .initial = "yes",
	    .live = true,
	    .off = IN_DAEMON(metrics_vms),
	    .takes = "yes or no",
	    .about = "Whether /metrics has each VM's last backup, of up to "
		     "5000 VMs." },

	{ .section = "vm",
	    .name = "keep-last",
	    .type = SETTING_COUNT,
	    .initial = "0",
	    .live = true,
	    .off = IN_VM(keep_last),
	    .max = COUNT_MAX,
	    .set = RETAIN_LAST,
	    .takes = COUNT_TAKES,
	    .about = "Keep so many of the newest backups." },
	{ .section = "vm",
	    .name = "keep-hourly",
	    .type = SETTING_COUNT,
	    .initial = "0",
	    .live = true,
	    .off = IN_VM(keep_hourly),
	    .max = COUNT_MAX,
	    .set = RETAIN_HOURLY,
	    .takes = COUNT_TAKES,
	    .about = "Keep the last backup of each of so many hours." },
	{ .section = "vm",
	    .name = "keep-daily",
	    .type = SETTING_COUNT,
	    .initial = "0",
	    .live = true,
	    .off = IN_VM(keep_daily),
	    .max = COUNT_MAX,
	    .set = RETAIN_DAILY,
	    .takes = COUNT_TAKES,
	    .about = "Keep the last backup of each of so many days." },
	{ .section = "vm",
	    .name = "keep-weekly",
	    .type = SETTING_COUNT,
	    .initial = "0",
	    .live = true,
	    .off = IN_VM(keep_weekly),
	    .max = COUNT_MAX,
	    .set = RETAIN_WEEKLY,
	    .takes = COUNT_TAKES,
	    .about = "Keep the last backup of each of so many weeks." },
	{ .section = "vm",
	    .name = "keep-monthly",
	    .type = SETTING_COUNT,
	    .initial = "0",
	    .live = true,
	    .off = IN_VM(keep_monthly),
	    .max = COUNT_MAX,
	    .set = RETAIN_MONTHLY,
	    .takes = COUNT_TAKES,
	    .about = "Keep the last backup of each of so many months." },
	{ .section = "vm",
	    .name = "keep-yearly",
	    .type = SETTING_COUNT,
	    .initial = "0",
	    .live = true,
	    .off = IN_VM(keep_yearly),
	    .max = COUNT_MAX,
	    .set = RETAIN_YEARLY,
	    .takes = COUNT_TAKES,
	    .about = "Keep the last backup of each of so many years." },
	{ .section = "vm",
	    .name = "keep-within",
	    .type = SETTING_DURATION,
	    .initial = "0",
	    .live = true,
	    .off = IN_VM(keep_within),
	    .max = AGE_MAX,
	    .set = RETAIN_WITHIN,
	    .takes = AGE_TAKES,
	    .about = "Keep all backups that are at most so much older than the "
		     "newest." },
	{ .section = "vm",
	    .name = "min-age",
	    .type = SETTING_DURATION,
	    .initial = "0",
	    .live = true,
	    .off = IN_VM(min_age),
	    .max = AGE_MAX,
	    .set = RETAIN_MIN_AGE,
	    .takes = AGE_TAKES,
	    .about = "No backup goes that is younger, and none counts for a "
		     "rule." },
	{ .section = "vm",
	    .name = "lock",
	    .type = SETTING_DURATION,
	    .initial = "0",
	    .live = true,
	    .off = IN_VM(lock),
	    .max = AGE_MAX,
	    .set = RETAIN_LOCK,
	    .takes = AGE_TAKES,
	    .about = "New backups are locked for so long: nobody may delete "
		     "them, and nothing shortens that." },
	{ .section = "vm",
	    .name = "schedule",
	    .type = SETTING_TIMES,
	    .initial = "never",
	    .live = true,
	    .plan = true,
	    .set = PLAN_SCHEDULE,
	    .takes = "times such as daily 02:00, Mon..Fri 22:30 or *:0/15, "
		     "with ; right behind each but the last; several lines "
		     "add up; or never",
	    .about = "When the VM is backed up, by the daemon's local time. "
		     "`backstay schedule --check TIME` shows what a time "
		     "means." },
	{ .section = "vm",
	    .name = "window",
	    .type = SETTING_WINDOWS,
	    .initial = "00:00-24:00",
	    .live = true,
	    .plan = true,
	    .set = PLAN_WINDOW,
	    .takes = "hours such as 22:00-06:00 or Mon..Fri 20:00-24:00, with "
		     "; right behind each but the last; several lines add up",
	    .about = "Scheduled backups begin only then; one that is due at "
		     "another time waits for it.  It may run on when the "
		     "window has closed." },
	{ .section = "vm",
	    .name = "retries",
	    .type = SETTING_NUMBER,
	    .initial = "3",
	    .live = true,
	    .plan = true,
	    .off = IN_PLAN(retries),
	    .max = 100,
	    .set = PLAN_RETRIES_SET,
	    .takes = "a number from 0 to 100",
	    .about = "How often a scheduled backup that failed is tried "
		     "again." },
	{ .section = "vm",
	    .name = "retry-wait",
	    .type = SETTING_DURATION,
	    .initial = "5m",
	    .live = true,
	    .plan = true,
	    .off = IN_PLAN(retry_wait),
	    .min = 1,
	    .max = 7 * DAY,
	    .set = PLAN_RETRY_WAIT,
	    .takes = "a time from 1s to 7d",
	    .about = "How long to wait before that; twice as long each "
		     "further time, up to 4h." },
	{ .section = "vm",
	    .name = "catch-up",
	    .type = SETTING_FLAG,
	    .initial = "yes",
	    .live = true,
	    .plan = true,
	    .off = IN_PLAN(catch_up),
	    .set = PLAN_CATCH_UP,
	    .takes = "yes or no",
	    .about = "Make up for times at which the daemon did not run or "
		     "the VM's host was not connected: once, however many "
		     "were missed." },
	{ .section = "vm",
	    .name = "prune",
	    .type = SETTING_FLAG,
	    .initial = "yes",
	    .live = true,
	    .plan = true,
	    .off = IN_PLAN(prune),
	    .set = PLAN_PRUNE,
	    .takes = "yes or no",
	    .about = "After a scheduled backup let go of what the rules above "
		     "do not keep.  no: only `backstay prune` does." },
};

const unsigned settings_nkeys =
    sizeof(settings_keys) / sizeof(settings_keys[0]);

_Static_assert(
    sizeof(settings_keys) / sizeof(settings_keys[0]) <= SETTINGS_KEYS_MAX,
    "struct settings has their texts");

const struct settings_key *
settings_key_find(const char *section, const char *name)
{
	for (unsigned i = 0; i < settings_nkeys; i++)
		if (strcmp(settings_keys[i].section, section) == 0 &&
		    strcmp(settings_keys[i].name, name) == 0)
			return &settings_keys[i];
	return NULL;
}

const char *
settings_key_near(const char *section, const char *name)
{
	const char *found = NULL;
	unsigned least = 4;

	for (unsigned i = 0; i < settings_nkeys; i++) {
		const struct settings_key *k = &settings_keys[i];
		unsigned d = inifile_distance(k->name, name);

		if (strcmp(k->section, section) == 0 && d < least) {
			least = d;
			found = k->name;
		}
	}
	return found;
}
