/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link: a wire with latency and a rate between two network namespaces, for
 * kernels without netem.
 *
 *   link NEAR FAR DELAY_US MBIT
 *
 * NEAR gets 10.204.1.1 and FAR 10.204.1.2, each a tun device "link0".  A
 * packet leaves when those before it have, at MBIT 10^6 bits a second of
 * packets, and arrives DELAY_US later.  No packet waits longer to leave than
 * two round trips take, as in a router with a queue of that length: it is
 * dropped.  Says "up" when it is, and ends with its input; needs root and
 * /dev/net/tun.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/buf.h"

enum { MTU = 9000, PACKET_MAX = MTU + 64, QUEUE = 4096 };

struct packet {
	uint64_t due_ns;
	ssize_t len;
	char data[PACKET_MAX];
};

struct direction {
	int in, out;
	uint64_t free_ns; /* when the last packet has left; reader only */
	struct packet *queue;
	pthread_mutex_t mu;
	pthread_cond_t more;
	unsigned head, tail; /* guarded by mu */
};

static uint64_t delay_ns, byte_ps, wait_max_ns; /* set before threads start */

static void
die(const char *what)
{
	fprintf(stderr, "link: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void
enter(const char *netns)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "/run/netns/%s", netns);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd == -1 || setns(fd, CLONE_NEWNET) == -1)
		die(path);
	close(fd);
}

static void
set_address(int s, struct ifreq *r, unsigned long what, const char *text)
{
	struct sockaddr_in a = { .sin_family = AF_INET };

	inet_pton(AF_INET, text, &a.sin_addr);
	memcpy(&r->ifr_addr, &a, sizeof(a));
	if (ioctl(s, what, r) == -1)
		die(text);
}

static void
set_up(int s, const char *name)
{
	struct ifreq r = { .ifr_flags = IFF_UP | IFF_RUNNING };

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
	if (ioctl(s, SIOCSIFFLAGS, &r) == -1)
		die(name);
}

/* The end of the wire in the namespace that the process is in. */
static int
device(const char *address, const char *peer)
{
	struct ifreq r = { .ifr_flags = IFF_TUN | IFF_NO_PI };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(r.ifr_name, sizeof(r.ifr_name), "link0");
	if (fd == -1 || s == -1 || ioctl(fd, TUNSETIFF, &r) == -1)
		die("/dev/net/tun");
	set_address(s, &r, SIOCSIFADDR, address);
	set_address(s, &r, SIOCSIFDSTADDR, peer);
	r.ifr_mtu = MTU;
	if (ioctl(s, SIOCSIFMTU, &r) == -1)
		die("mtu");
	r.ifr_qlen = QUEUE;
	if (ioctl(s, SIOCSIFTXQLEN, &r) == -1)
		die("txqueuelen");
	set_up(s, "link0");
	set_up(s, "lo");
	close(s);
	return fd;
}

static void *
take(void *arg)
{
	struct direction *d = arg;
	char dropped[PACKET_MAX] = { 0 };

	for (;;) {
		struct packet *p = &d->queue[d->head % QUEUE];
		bool full;
		uint64_t t;
		ssize_t len;

		pthread_mutex_lock(&d->mu);
		full = d->head - d->tail == QUEUE;
		pthread_mutex_unlock(&d->mu);
		len = read(d->in, full ? dropped : p->data, PACKET_MAX);
		if (len <= 0)
			die("read");
		t = now_ns();
		if (d->free_ns < t)
			d->free_ns = t;
		if (full || d->free_ns - t > wait_max_ns)
			continue;
		d->free_ns += (uint64_t)len * byte_ps / 1000;
		p->len = len;
		p->due_ns = d->free_ns + delay_ns;
		pthread_mutex_lock(&d->mu);
		d->head++;
		pthread_cond_signal(&d->more);
		pthread_mutex_unlock(&d->mu);
	}
	return NULL;
}

static void *
give(void *arg)
{
	struct direction *d = arg;

	for (;;) {
		struct packet *p = &d->queue[d->tail % QUEUE];
		struct timespec t;

		pthread_mutex_lock(&d->mu);
		while (d->head == d->tail)
			pthread_cond_wait(&d->more, &d->mu);
		pthread_mutex_unlock(&d->mu);
		t.tv_sec = (time_t)(p->due_ns / 1000000000);
		t.tv_nsec = (long)(p->due_ns % 1000000000);
		while (p->due_ns > now_ns() &&
		    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) !=
			0)
			;
		/* A packet that the other end does not want is lost. */
		if (write(d->out, p->data, (size_t)p->len) == -1 &&
		    errno != EINVAL && errno != ENOBUFS && errno != EIO)
			die("write");
		pthread_mutex_lock(&d->mu);
		d->tail++;
		pthread_mutex_unlock(&d->mu);
	}
	return NULL;
}

static void
start(struct direction *d, int in, int out)
{
	pthread_t thread;

	d->in = in;
	d->out = out;
	d->queue = xcalloc(QUEUE, sizeof(*d->queue));
	pthread_mutex_init(&d->mu, NULL);
	pthread_cond_init(&d->more, NULL);
	if (pthread_create(&thread, NULL, take, d) != 0 ||
	    pthread_create(&thread, NULL, give, d) != 0)
		die("thread");
}

int
main(int argc, char **argv)
{
	static struct direction there, back;
	char end[16];
	int near, far;

	if (argc != 5 || strtoull(argv[4], NULL, 10) == 0) {
		fprintf(stderr, "usage: link NEAR FAR DELAY_US MBIT\n");
		return 2;
	}
	delay_ns = strtoull(argv[3], NULL, 10) * 1000;
	byte_ps = 8000000 / strtoull(argv[4], NULL, 10);
	wait_max_ns = 4 * delay_ns + 1000000;
	enter(argv[1]);
	near = device("10.204.1.1", "10.204.1.2");
	enter(argv[2]);
	far = device("10.204.1.2", "10.204.1.1");
	prctl(PR_SET_TIMERSLACK, 1000);
	start(&there, near, far);
	start(&back, far, near);
	puts("up");
	fflush(stdout);
	while (read(STDIN_FILENO, end, sizeof(end)) > 0)
		;
	return 0;
}
