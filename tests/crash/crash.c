/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash: hit a store at every fault point, and see that it kept its word.
 *
 *   crash [-d DIR] [-j JOBS] [-n HITS] [-s SEED] [PATTERN...]
 *   crash -e URL ...      packs on an NFS export, which has DIR at its top
 *   crash -l              the points, one a line
 *
 * On an export, what the server was sent is not lost by a cut.
 *
 * For each way in which a store was left, for each point that the scenario
 * passes: hit it at its first passage, its last, and HITS - 2 between; then
 * examine what is there.  A point that is never passed is a failure too.
 * PATTERNs choose cases by what is armed: 'pack.sync:*=kill'.
 */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/fault.h"
#include "proto/base/io.h"
#include "tests/crash/cutting_volume.h"
#include "tests/crash/scenario.h"

enum { CASES_MAX = 20000, LIMIT_S = 120, SPEC_MAX = 160 };

struct test {
	enum scenario_left left;
	char spec[SPEC_MAX];
	unsigned seed;
	bool counting;
};

static struct test *tests;
static unsigned ntests;
static char base[64];      /* of all folders */
static const char *export; /* URL; the folder ${base} is at its top */
static unsigned seed;
static unsigned counted[FAULT_POINTS];

static void __attribute__((format(printf, 1, 2))) shell(const char *fmt, ...)
{
	char command[512];
	va_list ap;
	int rc;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	rc = system(command);
	if (rc != 0) {
		fprintf(stderr, "%s: %d\n", command, rc);
		exit(1);
	}
}

static const char *
path(char out[128], const char *folder, const char *name)
{
	snprintf(out, 128, "%s/%s", folder, name);
	return out;
}

static void
begin(struct world *w, const char *folder, char repo[128])
{
	char journal[128];

	world_begin(
	    w, path(repo, folder, "repo"), path(journal, folder, "journal"));
}

/* --- what is done in a process of its own */

static struct cutting cutting;
static char unsynced[128];

/* The packs of the case in ${folder}, on the export, beside its repository. */
static const char *
packs_url(const char *folder, char out[256])
{
	size_t len = export != NULL ? strcspn(export, "?") : 0;

	if (export == NULL)
		return NULL;
	snprintf(out, 256, "%.*s%s/%s/packs%s", (int)len, export,
	    strrchr(base, '/'), strrchr(folder, '/') + 1, export + len);
	return out;
}

static void
save(void *arg)
{
	cutting_save(arg, unsynced);
}

static void
do_prepare(const char *folder, const void *arg)
{
	const enum scenario_left *left = arg;
	struct world w;
	char repo[128], url[256];

	begin(&w, folder, repo);
	w.packs = packs_url(folder, url);
	if (export == NULL) {
		cutting_init(
		    &cutting, repo, path(unsynced, folder, "unsynced"), 0);
		fault_on_cut(save, &cutting);
		w.wrap = cutting_wrap;
		w.wrap_arg = &cutting;
	}
	scenario_prepare(&w, *left);
}

static void
do_run(const char *folder, const void *arg)
{
	const struct test *t = arg;
	struct world w;
	char repo[128];

	begin(&w, folder, repo);
	/* One failure leads to another only once the store is open. */
	if (strchr(t->spec, ',') != NULL)
		w.later = t->spec;
	else if (!fault_arm(t->spec))
		world_wrong("%s: not understood", t->spec);
	if (strstr(t->spec, "=cut") != NULL && export == NULL) {
		cutting_init(&cutting, repo, path(unsynced, folder, "unsynced"),
		    t->seed);
		fault_on_cut(cutting_cut, &cutting);
		w.wrap = cutting_wrap;
		w.wrap_arg = &cutting;
	}
	scenario_run(&w);
}

static void
do_verify(const char *folder, const void *arg)
{
	struct world w;
	char repo[128];

	begin(&w, folder, repo);
	fault_arm(NULL);
	world_verify(&w, *(const uint64_t *)arg);
	_exit(0);
}

/* How it ended. */
static int
in_child(const char *folder, void (*what)(const char *folder, const void *arg),
    const void *arg)
{
	char log[128];
	int status, fd;
	pid_t pid = fork();

	if (pid == -1) {
		perror("fork");
		exit(1);
	}
	if (pid == 0) {
		fd = open(path(log, folder, "log"),
		    O_WRONLY | O_CREAT | O_APPEND, 0600);
		if (fd == -1)
			_exit(1);
		dup2(fd, 2);
		alarm(LIMIT_S);
		what(folder, arg);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
		;
	return status;
}

/* --- one case */

static bool
killed(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static bool
exited(int status, int code)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == code;
}

/* May a scenario end so?  By the hit; with 1: the daemon ends by design; a
 * start that was hit may say that it cannot. */
static bool
ended_well(const char *spec, int status)
{
	if (exited(status, 0) || exited(status, 1))
		return true;
	if (strstr(spec, "=kill") != NULL || strstr(spec, "=cut") != NULL ||
	    strstr(spec, "=tear") != NULL)
		return killed(status);
	return exited(status, WORLD_CANNOT_OPEN);
}

static void
template_of(enum scenario_left left, char out[128])
{
	path(out, base, scenario_left_name(left));
}

static void
show(const char *folder)
{
	fflush(stdout);
	shell("tail -n 25 %s/log | sed 's/^/        | /'", folder);
}

/*
 * The copy of a template has packs and a name of its own.  The template's lease
 * would be taken for another's.
 */
static void
move_packs(const char *from, const char *folder)
{
	shell("rm %s/packs/lease && sed -i 's,%s/packs,%s/packs,' "
	      "%s/repo/backstay.json",
	    folder, strrchr(from, '/'), strrchr(folder, '/'), folder);
}

/* Whether it went well; *fired whether anything happened at all. */
static bool
one(const struct test *t, const char *folder, bool *fired)
{
	uint64_t upto = UINT64_MAX;
	char from[128];
	int run, examined = 0;

	template_of(t->left, from);
	shell("rm -rf %s", folder);
	shell("cp -a %s %s", from, folder);
	if (export != NULL)
		move_packs(from, folder);
	run = in_child(folder, do_run, t);
	*fired = fault_fired();
	for (int p = 0; t->counting && p < FAULT_POINTS; p++)
		counted[p] = fault_hits((enum fault_point)p);
	if (ended_well(t->spec, run))
		examined = in_child(folder, do_verify, &upto);
	if (ended_well(t->spec, run) && exited(examined, 0))
		return true;
	printf("not ok - %s %s seed %u: status %x, examined %x\n",
	    scenario_left_name(t->left), t->spec, t->seed, (unsigned)run,
	    (unsigned)examined);
	show(folder);
	fflush(stdout);
	return false;
}

/* --- which cases */

static void __attribute__((format(printf, 2, 3)))
add(enum scenario_left left, const char *fmt, ...)
{
	struct test *t;
	va_list ap;

	if (ntests == CASES_MAX)
		exit(1);
	t = &tests[ntests];
	t->left = left;
	t->seed = seed + ntests;
	ntests++;
	va_start(ap, fmt);
	vsnprintf(t->spec, sizeof(t->spec), fmt, ap);
	va_end(ap);
}

/* At the first passage, the last, and some between. */
static void
add_spread(enum scenario_left left, const char *name, const char *what,
    unsigned hits, unsigned most)
{
	unsigned last = 0;

	if (most > hits)
		most = hits;
	for (unsigned i = 0; i < most; i++) {
		unsigned at = most == 1 ? 1 : 1 + i * (hits - 1) / (most - 1);

		if (at != last)
			add(left, "%s:%u=%s", name, at, what);
		last = at;
	}
}

static unsigned most_hits = 4; /* a point is hit so often */

static void
add_point(enum scenario_left left, enum fault_point p, unsigned hits)
{
	static const char *const fails[] = { "eio", "enospc", "short", "tear" };
	const char *name = fault_name(p);
	/* The other ways differ in what a start finds. */
	unsigned most = left == LEFT_COMMITTING
	    ? most_hits
	    : (most_hits > 8 ? most_hits : 1);

	add_spread(left, name, "kill", hits, most);
	add_spread(left, name, "cut", hits, most);
	if (left != LEFT_COMMITTING)
		return;
	for (size_t i = 0; i < sizeof(fails) / sizeof(fails[0]); i++)
		if (fault_can(p, fails[i]))
			add_spread(left, name, fails[i], hits, most);
	if (fault_can(p, "enospc")) /* and stays so: a full disk */
		add(left, "%s:%u+=enospc", name, hits / 2 + 1);
}

/* What is passed only when something failed before. */
static void
add_second(void)
{
	/* The second of the two is the sync of a commit: its manifest must not
	 * come back. */
	static const struct {
		enum fault_point p;
		unsigned sync;
	} second[] = { { FAULT_SYNC_FAILED, 2 }, { FAULT_PACK_POISON, 2 },
		{ FAULT_PACK_POISONED, 2 }, { FAULT_SYNC_FAILED, 15 },
		{ FAULT_TOMBSTONE_APPEND, 15 } };
	static const char *const whats[] = { "kill", "cut", "eio" };

	for (size_t i = 0; i < sizeof(second) / sizeof(second[0]); i++)
		for (size_t k = 0; k < 3; k++)
			if (fault_can(second[i].p, whats[k]))
				add(LEFT_COMMITTING, "pack.sync:%u=eio,%s=%s",
				    second[i].sync, fault_name(second[i].p),
				    whats[k]);
}

static bool
wanted(const char *spec, char **patterns)
{
	if (*patterns == NULL)
		return true;
	for (; *patterns != NULL; patterns++)
		if (fnmatch(*patterns, spec, 0) == 0)
			return true;
	return false;
}

static bool
behind_a_failure(enum fault_point p)
{
	return p == FAULT_SYNC_FAILED || p == FAULT_PACK_POISON ||
	    p == FAULT_PACK_POISONED;
}

/* The folder of a case.  A server remembers names: there each has its own. */
static const char *
fresh(char out[128], const char *what, unsigned n)
{
	snprintf(out, 128, "%s/%s%u", base, what, n);
	return out;
}

/* How often each point is passed, and with it the cases.  The number of points
 * that are never passed. */
static unsigned
find_cases(void)
{
	unsigned never = 0, total[FAULT_POINTS] = { 0 };

	for (int left = 0; left < LEFT_WAYS; left++) {
		struct test none = { .left = (enum scenario_left)left };
		char folder[128];
		bool fired;

		template_of(none.left, folder);
		shell("mkdir %s", folder);
		if (!killed(in_child(folder, do_prepare, &none.left))) {
			printf("not ok - a store left %s\n",
			    scenario_left_name(none.left));
			show(folder);
			exit(1);
		}
		none.counting = true;
		if (!one(&none, fresh(folder, "count", (unsigned)left), &fired))
			exit(1);
		for (int p = 0; p < FAULT_POINTS; p++) {
			unsigned hits = counted[p];

			total[p] += hits;
			if (hits > 0)
				add_point(none.left, (enum fault_point)p, hits);
		}
	}
	for (int p = 0; p < FAULT_POINTS; p++) {
		if (total[p] > 0 || behind_a_failure((enum fault_point)p))
			continue;
		/* A server syncs its folders by itself. */
		if (export != NULL &&
		    (p == FAULT_FOLDER_SYNC || p == FAULT_FOLDER_SYNCED))
			continue;
		printf("not ok - %s is never passed\n",
		    fault_name((enum fault_point)p));
		never++;
	}
	add_second();
	return never;
}

/* Every ${jobs}-th case from ${first} on; how many went wrong. */
static unsigned
run_share(unsigned first, unsigned jobs, char **patterns)
{
	unsigned failed = 0, ran = 0, missed = 0;
	char folder[128];
	bool fired;

	fresh(folder, "", first);
	for (unsigned i = first; i < ntests; i += jobs) {
		if (!wanted(tests[i].spec, patterns))
			continue;
		if (export != NULL)
			fresh(folder, "", i);
		failed += !one(&tests[i], folder, &fired);
		if (export != NULL)
			shell("rm -rf %s", folder);
		missed += !fired;
		ran++;
	}
	printf("# %u cases, %u of them came too late, %u failed\n", ran, missed,
	    failed);
	fflush(stdout);
	return failed;
}

static int
run_all(unsigned jobs, char **patterns)
{
	unsigned failed;
	int status;

	fault_arm(NULL); /* shared by all from here on */
	failed = find_cases();
	printf("# %u cases, seed %u\n", ntests, seed);
	fflush(stdout);
	for (unsigned i = 0; i < jobs; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(run_share(i, jobs, patterns) != 0 ? 1 : 0);
	}
	while (wait(&status) > 0)
		failed += !exited(status, 0);
	shell("rm -rf %s", base);
	if (failed == 0)
		printf("ok - a store keeps its word at every point\n");
	return failed != 0;
}

int
main(int argc, char **argv)
{
	unsigned jobs = 2;
	int opt;

	seed = (unsigned)getpid();
	snprintf(base, sizeof(base), "/tmp/backstay-crash-XXXXXX");
	while ((opt = getopt(argc, argv, "d:e:j:ln:s:")) != -1) {
		switch (opt) {
		case 'd':
			snprintf(base, sizeof(base), "%s/backstay-crash-XXXXXX",
			    optarg);
			break;
		case 'e': export = optarg; break;
		case 'j': jobs = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'l':
			for (int p = 0; p < FAULT_POINTS; p++)
				puts(fault_name((enum fault_point)p));
			return 0;
		case 'n':
			most_hits = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 's': seed = (unsigned)strtoul(optarg, NULL, 10); break;
		default:
			fprintf(stderr,
			    "usage: crash [-d DIR] [-e URL] [-j JOBS] [-l] "
			    "[-n HITS] [-s SEED] [PATTERN...]\n");
			return 2;
		}
	}
	tests = xcalloc(CASES_MAX, sizeof(*tests));
	if (mkdtemp(base) == NULL) {
		perror(base);
		return 1;
	}
	return run_all(jobs, argv + optind);
}
