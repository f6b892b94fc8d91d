/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/ram/backends.h"
#include "agent/ram/facts.h"
#include "agent/ram/migrate.h"
#include "agent/ram/ramcopy.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

enum { POLL_MS = 10, PIPE_LEN = 1 << 20 };

static int
open_volume(const char *dir, const char *name, int *out, struct err *e)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	*out = open(path, O_RDONLY | O_CLOEXEC);
	if (*out == -1)
		return err_set(
		    e, errno == ENOENT ? ERR_NOENT : ERR_SYS, "%s: %m", path);
	return 0;
}

/* A guest that is already mapped to the file has it; another's file gets it. */
static int
fill_backend(const struct ram_backend *b, int fd, struct err *e)
{
	struct stat to, from;

	if (!b->share || b->fd == -1) {
		if (b->named)
			return 0; /* mapped privately: it reads our file */
		return err_set(e, ERR_UNSUP,
		    "memory backend %s of the new guest is no file: start it "
		    "with memory-backend-file",
		    b->id);
	}
	if (fstat(b->fd, &to) != 0 || fstat(fd, &from) != 0) {
		log_sys("memory: stat");
		return err_set(e, ERR_SYS, "cannot look at the memory's file");
	}
	if (to.st_ino == from.st_ino && to.st_dev == from.st_dev)
		return 0;
	/* A copy leaves out what is zero. */
	if (fallocate(b->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		(off_t)b->size) != 0) {
		log_sys("memory: empty the new guest's file");
		return err_set(e, ERR_SYS,
		    "the file of memory backend %s cannot be emptied: %m",
		    b->id);
	}
	return ramcopy_copy(fd, b->fd, b->size, RAM_THREADS_MAX, e);
}

static int
fill_backends(
    struct guest *g, const struct ram_facts *f, const char *dir, struct err *e)
{
	struct ram_backends have;
	int fd, rc;

	rc = backends_find(g, true, &have, e);
	for (unsigned i = 0; i < f->nbackends && rc == 0; i++) {
		const struct ram_fact_backend *want = &f->backend[i];
		unsigned k;

		for (k = 0; k < have.n; k++)
			if (strcmp(have.b[k].id, want->id) == 0)
				break;
		if (k == have.n || have.b[k].size != want->size) {
			rc = err_set(e, ERR_UNSUP,
			    "the new guest has no memory backend %s of %llu "
			    "MiB",
			    want->id, (unsigned long long)(want->size >> 20));
			break;
		}
		rc = open_volume(dir, want->volume, &fd, e);
		if (rc != 0)
			break;
		rc = fill_backend(&have.b[k], fd, e);
		close(fd);
	}
	backends_close(&have);
	return rc;
}

/* Writes the stream while QEMU reads it. */
struct feeder {
	const struct ramstream_layout *layout;
	int ram, state, out;
	pthread_t thread;
	int rc;
	struct err e;
};

static void *
feed(void *arg)
{
	struct feeder *f = arg;
	sigset_t set;

	/* A reader that went away is an answer, not a signal. */
	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	f->rc = ramstream_compose(f->layout, f->ram, f->state, f->out, &f->e);
	close(f->out);
	return NULL;
}

/* Until it no longer waits; a QEMU that cannot read it ends. */
static int
wait_loaded(struct guest *g, struct err *e)
{
	struct timespec t = { .tv_nsec = POLL_MS * 1000000 };
	uint64_t since = now_ms();
	bool waits = true;
	int rc;

	for (;;) {
		rc = migrate_waits(g, &waits, e);
		if (rc != 0)
			return err_set(e, rc,
			    "QEMU ended while it loaded the memory; its log "
			    "says why");
		if (!waits)
			return 0;
		rc = migrate_failed(g, e);
		if (rc != 0)
			return rc;
		/* A load has no counter that can be trusted to move. */
		if (now_ms() - since > 60 * (uint64_t)MIGRATE_STALL_MS)
			return err_set(e, ERR_TIMEOUT,
			    "QEMU does not finish loading the memory");
		nanosleep(&t, NULL);
	}
}

static int
load_file(struct guest *g, const char *dir, const char *name, bool seekable,
    struct err *e)
{
	int fd, rc;

	rc = open_volume(dir, name, &fd, e);
	if (rc != 0)
		return rc;
	rc = migrate_incoming(g, fd, seekable, e);
	close(fd);
	return rc == 0 ? wait_loaded(g, e) : rc;
}

static int
load_placed(struct guest *g, const struct ram_facts *facts, const char *dir,
    struct err *e)
{
	struct feeder f = { .layout = &facts->layout };
	int p[2], rc;

	rc = open_volume(dir, "ram0", &f.ram, e);
	if (rc != 0)
		return rc;
	rc = open_volume(dir, "state", &f.state, e);
	if (rc != 0)
		goto err_ram;
	if (pipe2(p, O_CLOEXEC) != 0) {
		log_sys("memory: pipe");
		rc = err_set(e, ERR_SYS, "no pipe: %m");
		goto err_state;
	}
	fcntl(p[1], F_SETPIPE_SZ, PIPE_LEN);
	rc = migrate_incoming(g, p[0], false, e);
	close(p[0]);
	if (rc != 0) {
		close(p[1]);
		goto err_state;
	}
	f.out = p[1];
	if (pthread_create(&f.thread, NULL, feed, &f) != 0) {
		close(p[1]);
		rc = err_set(e, ERR_SYS, "no thread: %m");
		goto err_state;
	}
	rc = wait_loaded(g, e);
	pthread_join(f.thread, NULL);
	/* QEMU does not read what follows the state's end. */
	if (f.rc != 0 && f.rc != ERR_CLOSED)
		rc = err_set(e, f.rc, "%s", f.e.text);
err_state:
	close(f.state);
err_ram:
	close(f.ram);
	return rc;
}

int
ram_load(struct guest *g, const struct ram_facts *facts, const char *dir,
    struct err *e)
{
	struct migrate_caps c = { .ignore_shared = facts->ignore_shared,
		.mapped = facts->form == RAM_FORM_MAPPED };
	int rc, rc2;

	rc = migrate_setup(g, &c, e);
	if (rc != 0)
		return rc;
	switch (facts->form) {
	case RAM_FORM_SHARED:
		rc = fill_backends(g, facts, dir, e);
		if (rc == 0)
			rc = load_file(g, dir, "state", false, e);
		break;
	case RAM_FORM_PLACED: rc = load_placed(g, facts, dir, e); break;
	case RAM_FORM_MAPPED: rc = load_file(g, dir, "ram0", true, e); break;
	case RAM_FORM_RAW: rc = load_file(g, dir, "state", false, e); break;
	}
	rc2 = migrate_restore(g, NULL, rc == 0 ? e : NULL);
	return rc != 0 ? rc : rc2;
}
