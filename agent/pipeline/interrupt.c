/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pipeline/interrupt.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "proto/base/log.h"

static int fd = -1;       /* set before threads start */
static atomic_bool asked; /* signals are the process's, so this is too */

void
interrupt_init(void)
{
	sigset_t set;

	if (fd != -1)
		return;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd == -1) {
		log_sys("signalfd");
		abort();
	}
}

int
interrupt_fd(void)
{
	return fd;
}

bool
interrupt_pending(void)
{
	struct signalfd_siginfo info;

	if (fd != -1 && read(fd, &info, sizeof(info)) > 0)
		atomic_store(&asked, true);
	return atomic_load(&asked);
}
