/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipeline: backups to and restores from a daemon that breaks its word, which
 * no real one can be made to do.  It keeps chunks and nodes in memory and
 * speaks the protocol over a local socket; ${fault} says what it does wrong.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/pipeline/backup.h"
#include "agent/pipeline/restore.h"
#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/codec.h"
#include "proto/lane_unix.h"
#include "proto/msg.h"

enum fault {
	FAULT_NONE,
	FAULT_LOSE_ONCE,      /* says once that a leaf's chunks are missing */
	FAULT_LOSE_ALWAYS,    /* and goes on saying so */
	FAULT_LOSE_INNER,     /* says that leaves are missing */
	FAULT_PARENT_DAMAGED, /* TREE of the parent fails */
	FAULT_NO_SPACE,       /* PUT fails */
	FAULT_WRONG_ANSWER,   /* HAVE to nothing that was asked */
	FAULT_BYTE,           /* one byte of one DATA is another */
	FAULT_TWICE,          /* each DATA comes twice, and counts once */
	FAULT_BOTH_PARTS,     /* each DATA is in all parts */
	FAULT_NOT_SENT,       /* a DATA does not come */
	FAULT_NO_PART,        /* a DATA comes only if it is asked for alone */
	FAULT_OTHER_SLICE,    /* a DATA comes that was not asked for */
	FAULT_OTHER_NODE,     /* a node is another one */
	FAULT_HANGUP,         /* the lane ends after some READs */
	FAULT_ENDED,          /* progress says that the job was ended */
	FAULT_LANES           /* only one lane may attach */
};

enum { CS = CHUNK_SIZE_MIN, KEPT_MAX = 4096, LANES_MAX = 64, NAME_LEN = 64 };

struct kept {
	struct id id;
	uint8_t codec;
	uint32_t raw_len;
	uint32_t len;
	uint8_t *data;
};

static struct {
	pthread_mutex_t mu; /* guards all below but ${fault} */
	struct kept chunk[KEPT_MAX];
	unsigned nchunks;
	struct kept node[KEPT_MAX];
	unsigned nnodes;
	struct manifest backup;
	bool has_backup;
	unsigned nattached;
	unsigned nputs; /* chunks that came */
	unsigned nnode_frames;
	unsigned nlost;
	unsigned nreads;
	atomic_int fault;
	atomic_bool ending;
	int fd;
	char dir[NAME_LEN];
	char socket[NAME_LEN + 16];
	pthread_t listener;
	pthread_t lane[LANES_MAX];
	unsigned nlanes; /* the listener's */
} d;

static struct kept *
find(struct kept *list, unsigned n, const struct id *id)
{
	for (unsigned i = 0; i < n; i++)
		if (id_equal(&list[i].id, id))
			return &list[i];
	return NULL;
}

static void
keep(struct kept *list, unsigned *n, const struct kept *k)
{
	if (find(list, *n, &k->id) != NULL)
		return;
	assert_true(*n < KEPT_MAX);
	list[*n] = *k;
	list[*n].data = xmalloc(k->len);
	memcpy(list[(*n)++].data, k->data, k->len);
}

static void
serve_query(struct lane *l, const struct frame *f)
{
	struct msg_have have = { .leaf = false };
	uint32_t request = f->request;
	struct msg_query q;

	assert_int_equal(msg_query_parse(f->payload, f->len, &q, NULL), 0);
	have.leaf =
	    !id_is_hole(q.leaf) && find(d.node, d.nnodes, q.leaf) != NULL;
	for (unsigned i = 0; i < q.n; i++)
		if (have.leaf || find(d.chunk, d.nchunks, &q.id[i]) != NULL)
			have.bits[i / 8] |= (uint8_t)(1u << i % 8);
	if (d.fault == FAULT_WRONG_ANSWER)
		request ^= 1;
	msg_have_print(lane_begin(l, MSG_HAVE, request), q.n, &have);
	lane_end(l, NULL);
}

static void
say_error(struct lane *l, uint32_t request, int code, const char *text)
{
	struct err e;

	err_set(&e, code, "%s", text);
	msg_error_print(lane_begin(l, MSG_ERROR, request), &e);
	lane_end(l, NULL);
}

static void
serve_put(struct lane *l, const struct frame *f)
{
	struct rd r = rd_over(f->payload, f->len);
	struct msg_put_done done = { 0 };
	struct msg_chunk c;

	if (d.fault == FAULT_NO_SPACE) {
		say_error(l, f->request, ERR_NOSPC, "the store is full");
		return;
	}
	while (r.left > 0) {
		struct kept k;

		assert_int_equal(msg_put_next(&r, &c, NULL), 0);
		k = (struct kept){ c.id, c.codec, c.raw_len, c.stored_len,
			(uint8_t *)(uintptr_t)c.data };
		keep(d.chunk, &d.nchunks, &k);
		d.nputs++;
		done.nstored++;
		done.stored += c.stored_len;
	}
	msg_put_done_print(lane_begin(l, MSG_PUT_DONE, f->request), &done);
	lane_end(l, NULL);
}

static void
serve_node(struct lane *l, const struct frame *f)
{
	struct msg_node_done done = { .taken = true };
	struct kept k = { .len = (uint32_t)f->len,
		.data = (uint8_t *)(uintptr_t)f->payload };
	struct hasher *h = hasher_new(NULL);
	struct node n;
	bool lose;

	d.nnode_frames++;
	assert_int_equal(node_parse(f->payload, f->len, &n, NULL), 0);
	hasher_node(h, f->payload, f->len, &k.id);
	hasher_free(h);
	for (unsigned i = 0; i < n.n; i++) {
		struct kept *c = n.level == 0
		    ? find(d.chunk, d.nchunks, &n.child[i])
		    : find(d.node, d.nnodes, &n.child[i]);

		/* A parent never comes before its children; where a PUT
		 * fails the leaf behind it is on its way already. */
		assert_true(id_is_hole(&n.child[i]) || c != NULL ||
		    d.fault == FAULT_NO_SPACE);
	}
	lose = n.level == 0 ? d.fault == FAULT_LOSE_ALWAYS ||
		(d.fault == FAULT_LOSE_ONCE && d.nlost == 0)
			    : d.fault == FAULT_LOSE_INNER;
	if (lose) {
		done.taken = false;
		/* NOLINTNEXTLINE: a node that parsed has a child */
		done.missing[(n.n - 1u) / 8] = (uint8_t)(1u << (n.n - 1) % 8);
		d.nlost++;
	} else {
		keep(d.node, &d.nnodes, &k);
	}
	msg_node_done_print(lane_begin(l, MSG_NODE_DONE, f->request), &done);
	lane_end(l, NULL);
}

/* The node at a place, by walking down; NULL: a hole. */
static struct kept *
walk(unsigned volume, unsigned level, uint64_t index)
{
	const struct manifest_volume *v = &d.backup.volume[volume];
	uint64_t nslices = chunk_nslices(v->size, CS);
	struct id id = v->root;
	struct node n;

	for (unsigned at = node_root_level(nslices);; at--) {
		struct kept *k;

		if (id_is_hole(&id))
			return NULL;
		k = find(d.node, d.nnodes, &id);
		assert_non_null(k);
		if (at == level)
			return k;
		node_parse(k->data, k->len, &n, NULL);
		id = n.child[(index >> 7 * (at - 1 - level)) % NODE_FANOUT];
	}
}

static void
serve_tree(struct lane *l, const struct frame *f)
{
	struct msg_tree q;
	struct kept *k;

	assert_int_equal(msg_tree_parse(f->payload, f->len, &q, NULL), 0);
	if (d.fault == FAULT_PARENT_DAMAGED) {
		say_error(l, f->request, ERR_CORRUPT, "bad bytes in pack 1");
		return;
	}
	k = walk(q.volume, q.level, q.index);
	if (d.fault == FAULT_OTHER_NODE)
		k = &d.node[0];
	lane_send(l, MSG_TREE_NODE, f->request, k != NULL ? k->data : NULL,
	    k != NULL ? k->len : 0, NULL);
}

static void
send_data(struct lane *l, uint32_t request, uint64_t slice,
    const struct kept *c, bool flip)
{
	struct msg_data m = { .slice = slice,
		.codec = c->codec,
		.raw_len = c->raw_len,
		.data = c->data,
		.len = c->len };

	if (flip)
		c->data[c->len / 2] ^= 1;
	msg_data_print(lane_begin(l, MSG_DATA, request), &m);
	lane_end(l, NULL);
	if (flip)
		c->data[c->len / 2] ^= 1;
}

static bool
serve_read(struct lane *l, const struct frame *f)
{
	uint32_t ndata = 0;
	bool spared = false;
	struct msg_read q;

	assert_int_equal(msg_read_parse(f->payload, f->len, &q, NULL), 0);
	d.nreads++;
	if (d.fault == FAULT_HANGUP && d.nreads > 1)
		return false;
	/* Backwards: any order will do. */
	for (uint64_t s = q.slice + q.n; s-- > q.slice;) {
		struct kept *k = walk(q.volume, 0, s / NODE_FANOUT), *c;
		struct node n;

		if (k == NULL)
			continue;
		node_parse(k->data, k->len, &n, NULL);
		if (id_is_hole(&n.child[s % NODE_FANOUT]))
			continue;
		c = find(d.chunk, d.nchunks, &n.child[s % NODE_FANOUT]);
		assert_non_null(c);
		if (d.fault != FAULT_BOTH_PARTS && s % q.nparts != q.part)
			continue;
		if (ndata == 0 && !spared &&
		    (d.fault == FAULT_NOT_SENT ||
			(d.fault == FAULT_NO_PART && q.n > 1))) {
			spared = true;
			continue;
		}
		ndata++;
		send_data(l, f->request,
		    s + (d.fault == FAULT_OTHER_SLICE ? 1000 : 0), c,
		    d.fault == FAULT_BYTE && ndata == 3);
		if (d.fault == FAULT_TWICE)
			send_data(l, f->request, s, c, false);
	}
	msg_read_done_print(lane_begin(l, MSG_READ_DONE, f->request), ndata);
	lane_end(l, NULL);
	return true;
}

static void
begin(const json_t *q, json_t *a)
{
	json_t *list = json_object_get(q, "volumes"), *parent, *old;

	if (d.has_backup) {
		parent = json_object();
		old = json_array();
		for (unsigned i = 0; i < d.backup.nvolumes; i++) {
			json_t *v = json_object();

			json_set_u64(v, "size", d.backup.volume[i].size);
			json_set_hex(
			    v, "root", d.backup.volume[i].root.b, ID_LEN);
			json_array_append_new(old, v);
		}
		json_set_str(parent, "time", "2026-01-01T00:00:00Z");
		json_object_set_new(parent, "volumes", old);
		json_object_set_new(a, "parent", parent);
	}
	/* Trees are looked at by the parent's sizes only if there is one. */
	d.backup.nvolumes = (unsigned)json_array_size(list);
	for (unsigned i = 0; i < d.backup.nvolumes; i++) {
		struct manifest_volume *v = &d.backup.volume[i];
		const json_t *j = json_array_get(list, i);
		const char *name;

		json_get_str(j, "name", &name, NULL);
		strcpy(v->name, name);
		strcpy(v->kind, "disk");
		strcpy(v->format, "raw");
		json_get_u64(j, "size", &v->size, NULL);
	}
}

static void
commit(const json_t *q, json_t *a)
{
	for (unsigned i = 0; i < d.backup.nvolumes; i++) {
		const char *root = json_string_value(
		    json_array_get(json_object_get(q, "roots"), i));

		assert_int_equal(
		    unhex(root, d.backup.volume[i].root.b, ID_LEN), 0);
	}
	d.has_backup = true;
	json_set_str(a, "backup", "vm@2026-01-01T00:00:00Z");
	json_set_str(a, "id", "00");
	json_set_u64(a, "seq", 1);
}

static void
serve_call(struct lane *l, const struct frame *f)
{
	json_t *q, *a = json_object();
	const char *op;

	assert_int_equal(json_parse(f->payload, f->len, &q, NULL), 0);
	json_get_str(q, "op", &op, NULL);
	if (strcmp(op, "hello") == 0) {
		json_set_u64(a, "version", 1);
		json_set_u64(a, "chunk_size", CS);
		json_set_str(a, "hash", "sha256");
	} else if (strcmp(op, "begin") == 0 || strcmp(op, "restore") == 0) {
		json_set_str(a, "token", "00");
		if (*op == 'b')
			begin(q, a);
		else
			json_object_set_new(
			    a, "manifest", manifest_to_json(&d.backup));
	} else if (strcmp(op, "commit") == 0) {
		commit(q, a);
	}
	if ((strcmp(op, "attach") == 0 && d.nattached++ > 0 &&
		d.fault == FAULT_LANES) ||
	    (strcmp(op, "progress") == 0 && d.fault == FAULT_ENDED))
		say_error(l, f->request, *op == 'a' ? ERR_LIMIT : ERR_CLOSED,
		    "not any more");
	else {
		json_print(a, lane_begin(l, MSG_RESULT, f->request));
		lane_end(l, NULL);
	}
	json_decref(a);
	json_decref(q);
}

static void *
serve(void *arg)
{
	struct lane *l = arg;
	struct frame f;
	bool go = true;
	int rc;

	while (go) {
		rc = lane_recv(l, 100, &f, NULL);
		if (rc == ERR_TIMEOUT && !d.ending)
			continue;
		if (rc != 0)
			break;
		/* Held still, so that the job is ended from elsewhere. */
		if (d.fault == FAULT_ENDED && f.type == MSG_QUERY)
			continue;
		pthread_mutex_lock(&d.mu);
		switch (f.type) {
		case MSG_QUERY: serve_query(l, &f); break;
		case MSG_PUT: serve_put(l, &f); break;
		case MSG_NODE: serve_node(l, &f); break;
		case MSG_TREE: serve_tree(l, &f); break;
		case MSG_READ: go = serve_read(l, &f); break;
		default: serve_call(l, &f);
		}
		pthread_mutex_unlock(&d.mu);
	}
	lane_close(l);
	return NULL;
}

static void *
listener(void *arg)
{
	struct pollfd p = { .fd = d.fd, .events = POLLIN };
	struct lane *l;
	uid_t uid;
	int fd;

	(void)arg;
	while (!d.ending && d.nlanes < LANES_MAX) {
		if (poll(&p, 1, 50) <= 0)
			continue;
		fd = accept(d.fd, NULL, NULL);
		if (fd != -1 && lane_unix_serve(fd, &uid, &l, NULL) == 0)
			pthread_create(&d.lane[d.nlanes++], NULL, serve, l);
	}
	return NULL;
}

static int
start(void **state)
{
	struct err e;

	(void)state;
	memset(&d, 0, sizeof(d));
	pthread_mutex_init(&d.mu, NULL);
	strcpy(d.dir, "/tmp/backstay-pipeline-XXXXXX");
	if (mkdtemp(d.dir) == NULL)
		return -1;
	snprintf(d.socket, sizeof(d.socket), "%s/socket", d.dir);
	d.backup.chunk_size = CS;
	strcpy(d.backup.vm, "vm");
	if (lane_unix_listen(d.socket, &d.fd, &e) != 0)
		return -1;
	return pthread_create(&d.listener, NULL, listener, NULL);
}

static void
drop(struct kept *list, unsigned n)
{
	while (n > 0)
		free(list[--n].data);
}

static int
stop(void **state)
{
	char path[NAME_LEN + 32];
	static const char *const names[] = { "socket", "disk", "out" };

	(void)state;
	d.ending = true;
	pthread_join(d.listener, NULL);
	while (d.nlanes > 0)
		pthread_join(d.lane[--d.nlanes], NULL);
	close(d.fd);
	drop(d.chunk, d.nchunks);
	drop(d.node, d.nnodes);
	for (unsigned i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%s", d.dir, names[i]);
		unlink(path);
	}
	/* Fails if a temporary file was left behind. */
	return rmdir(d.dir);
}

static char *
in_dir(const char *name)
{
	static char path[NAME_LEN + 32];

	snprintf(path, sizeof(path), "%s/%s", d.dir, name);
	return path;
}

/* A disk of 20 MiB and a bit: three leaves, with holes and chunks that occur
 * twice. */
enum { DISK_LEN = (20 << 20) + 1000, NCHUNKS = 160 };

static void
make_disk(unsigned first)
{
	int fd = open(in_dir("disk"), O_CREAT | O_WRONLY | O_TRUNC, 0600);
	uint8_t *data = xcalloc(1, CS);

	assert_int_not_equal(fd, -1);
	assert_int_equal(ftruncate(fd, DISK_LEN), 0);
	for (unsigned i = 0; i < NCHUNKS; i++) {
		memset(data, 0, CS);
		snprintf((char *)data, CS, "chunk %u", first + i / 2);
		assert_int_equal(
		    pwrite_full(fd, data, CS, (uint64_t)i * 2 * CS), 0);
	}
	assert_int_equal(pwrite_full(fd, "end", 3, DISK_LEN - 3), 0);
	close(fd);
	free(data);
}

static int
back_up(struct backup_result *r, struct err *e)
{
	struct repo_url url = { 0 };
	struct backup_disk disk = { "vda", NULL };
	struct backup_options o = { .job = { .url = &url, .lanes = 3 },
		.vm = "vm",
		.ndisks = 1,
		.disk = &disk,
		.compression = 1,
		.quiet = true };
	char *path = xstrdup(in_dir("disk"));
	int rc;

	disk.spec = path;
	strcpy(url.path, d.socket);
	rc = backup_run(&o, r, e);
	free(path);
	return rc;
}

static int
restore(struct err *e)
{
	struct repo_url url = { 0 };
	struct restore_disk disk = { "vda", NULL, "raw" };
	struct restore_options o = { .job = { .url = &url, .lanes = 3 },
		.backup = "vm@latest",
		.ndisks = 1,
		.disk = &disk,
		.quiet = true };
	struct restore_result *r = xcalloc(1, sizeof(*r));
	char *path = xstrdup(in_dir("out"));
	int rc;

	disk.path = path;
	strcpy(url.path, d.socket);
	rc = restore_run(&o, r, e);
	if (rc != 0)
		assert_int_equal(access(path, F_OK), -1);
	free(path);
	free(r);
	return rc;
}

static void
check_same(void)
{
	struct buf a = { 0 }, b = { 0 };

	assert_int_equal(file_read(AT_FDCWD, in_dir("disk"), DISK_LEN, &a), 0);
	assert_int_equal(file_read(AT_FDCWD, in_dir("out"), DISK_LEN, &b), 0);
	assert_int_equal(a.len, DISK_LEN);
	assert_int_equal(b.len, DISK_LEN);
	assert_memory_equal(a.data, b.data, DISK_LEN);
	buf_fini(&a);
	buf_fini(&b);
}

static void
must(int rc, const struct err *e)
{
	if (rc != 0)
		fail_msg("%s", e->text);
}

static void
a_chunk_that_is_there_twice_in_a_leaf_is_sent_once(void **state)
{
	struct backup_result r;
	struct err e;

	(void)state;
	make_disk(0);
	must(back_up(&r, &e), &e);
	/* Twins lie side by side, and none straddles two leaves. */
	assert_int_equal(d.nputs, NCHUNKS / 2 + 1);
	assert_int_equal(d.nnode_frames, 4);
	assert_int_equal(r.stats.holes + r.stats.unchanged +
		r.stats.deduplicated + d.nputs * CS - CS + 1000,
	    DISK_LEN);
	must(restore(&e), &e);
	check_same();
}

static void
what_did_not_change_is_not_sent_again(void **state)
{
	struct backup_result r;
	struct err e;

	(void)state;
	make_disk(0);
	must(back_up(&r, &e), &e);
	d.nputs = 0;
	d.nnode_frames = 0;
	must(back_up(&r, &e), &e);
	assert_int_equal(d.nputs, 0);
	assert_int_equal(d.nnode_frames, 1); /* the root */
	assert_int_equal(r.stats.unchanged + r.stats.holes, DISK_LEN);
	make_disk(1);
	must(back_up(&r, &e), &e);
	assert_true(d.nputs > 0 && d.nputs <= 4);
	must(restore(&e), &e);
	check_same();
}

static void
chunks_that_the_store_lost_are_sent_again(void **state)
{
	struct backup_result r;
	struct err e;

	(void)state;
	make_disk(0);
	d.fault = FAULT_LOSE_ONCE;
	must(back_up(&r, &e), &e);
	assert_int_equal(d.nputs, NCHUNKS / 2 + 2);
	assert_int_equal(d.nnode_frames, 5);
	must(restore(&e), &e);
	check_same();
}

static void
a_store_that_goes_on_losing_ends_the_backup(void **state)
{
	struct backup_result r;
	struct err e;

	(void)state;
	make_disk(0);
	d.fault = FAULT_LOSE_ALWAYS;
	assert_int_equal(back_up(&r, &e), ERR_MISSING);
	assert_non_null(strstr(e.text, "disk vda at byte"));
	assert_false(d.has_backup);
	d.fault = FAULT_LOSE_INNER;
	assert_int_equal(back_up(&r, &e), ERR_MISSING);
	assert_false(d.has_backup);
}

static void
a_damaged_parent_is_as_none(void **state)
{
	struct backup_result r;
	struct err e;

	(void)state;
	make_disk(0);
	must(back_up(&r, &e), &e);
	d.fault = FAULT_PARENT_DAMAGED;
	must(back_up(&r, &e), &e);
	assert_int_equal(r.stats.unchanged, 0);
	d.fault = FAULT_NONE;
	must(restore(&e), &e);
	check_same();
}

static void
a_full_store_ends_the_backup_in_its_words(void **state)
{
	struct backup_result r;
	struct err e;

	(void)state;
	make_disk(0);
	d.fault = FAULT_NO_SPACE;
	assert_int_equal(back_up(&r, &e), ERR_NOSPC);
	assert_non_null(strstr(e.text, "the store is full"));
}

static void
an_answer_to_nothing_ends_the_backup(void **state)
{
	struct backup_result r;
	struct err e;

	(void)state;
	make_disk(0);
	d.fault = FAULT_WRONG_ANSWER;
	assert_int_equal(back_up(&r, &e), ERR_PROTO);
}

static void
a_job_that_is_ended_elsewhere_ends_here(void **state)
{
	struct backup_result r;
	struct err e;

	(void)state;
	make_disk(0);
	d.fault = FAULT_ENDED;
	assert_int_equal(back_up(&r, &e), ERR_CLOSED);
	assert_non_null(strstr(e.text, "not any more"));
}

static void
one_lane_that_gets_in_is_enough(void **state)
{
	struct backup_result r;
	struct err e;

	(void)state;
	make_disk(0);
	d.fault = FAULT_LANES;
	must(back_up(&r, &e), &e);
	assert_int_equal(back_up(&r, &e), ERR_LIMIT); /* none gets in now */
}

static void
restore_refuses_what_is_not_the_backup(void **state)
{
	static const struct {
		enum fault fault;
		int code;
		const char *text;
	} cases[] = {
		{ FAULT_BYTE, ERR_CORRUPT, "disk vda at byte" },
		{ FAULT_TWICE, ERR_PROTO, "chunks" },
		{ FAULT_NOT_SENT, ERR_PROTO, "did not send" },
		{ FAULT_OTHER_SLICE, ERR_PROTO, "not asked for" },
		{ FAULT_OTHER_NODE, ERR_CORRUPT, "node 0 of level 1" },
		{ FAULT_HANGUP, ERR_CLOSED, "" },
		{ FAULT_PARENT_DAMAGED, ERR_CORRUPT, "bad bytes in pack 1" },
	};
	struct backup_result r;
	struct err e;

	(void)state;
	make_disk(0);
	must(back_up(&r, &e), &e);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		d.fault = cases[i].fault;
		pthread_mutex_lock(&d.mu);
		d.nreads = 0;
		pthread_mutex_unlock(&d.mu);
		assert_int_equal(restore(&e), cases[i].code);
		assert_non_null(strstr(e.text, cases[i].text));
	}
	d.fault = FAULT_NONE;
	must(restore(&e), &e);
	check_same();
}

/* So it is when the packs are compacted between two READs. */
static void
what_moves_between_two_parts_comes_once_all_the_same(void **state)
{
	struct backup_result r;
	struct err e;

	(void)state;
	make_disk(0);
	must(back_up(&r, &e), &e);
	d.fault = FAULT_BOTH_PARTS;
	must(restore(&e), &e);
	check_same();
	assert_int_equal(unlink(in_dir("out")), 0);
	d.fault = FAULT_NO_PART;
	must(restore(&e), &e);
	check_same();
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, start, stop)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_chunk_that_is_there_twice_in_a_leaf_is_sent_once),
		CASE(what_did_not_change_is_not_sent_again),
		CASE(chunks_that_the_store_lost_are_sent_again),
		CASE(a_store_that_goes_on_losing_ends_the_backup),
		CASE(a_damaged_parent_is_as_none),
		CASE(a_full_store_ends_the_backup_in_its_words),
		CASE(an_answer_to_nothing_ends_the_backup),
		CASE(a_job_that_is_ended_elsewhere_ends_here),
		CASE(one_lane_that_gets_in_is_enough),
		CASE(what_moves_between_two_parts_comes_once_all_the_same),
		CASE(restore_refuses_what_is_not_the_backup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
