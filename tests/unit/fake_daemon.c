/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/fake_daemon.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/codec.h"
#include "proto/lane_unix.h"
#include "proto/msg.h"

struct fake_daemon d;

static uint16_t *
slot_of(struct kept_list *l, const struct id *id)
{
	unsigned at;

	memcpy(&at, id->b, sizeof(at));
	for (;; at++) {
		uint16_t *slot = &l->slot[at % (4 * KEPT_MAX)];

		if (*slot == 0 || id_equal(&l->kept[*slot - 1].id, id))
			return slot;
	}
}

static struct kept *
find(struct kept_list *l, const struct id *id)
{
	uint16_t slot = *slot_of(l, id);

	return slot != 0 ? &l->kept[slot - 1] : NULL;
}

static void
keep(struct kept_list *l, const struct kept *k)
{
	uint16_t *slot = slot_of(l, &k->id);

	if (*slot != 0)
		return;
	assert_true(l->n < KEPT_MAX);
	l->kept[l->n] = *k;
	l->kept[l->n].data = xmalloc(k->len);
	memcpy(l->kept[l->n].data, k->data, k->len);
	*slot = (uint16_t)++l->n;
}

static void
serve_query(struct lane *l, const struct frame *f)
{
	struct msg_have have = { .leaf = false };
	uint32_t request = f->request;
	struct msg_query q;

	assert_int_equal(msg_query_parse(f->payload, f->len, &q, NULL), 0);
	have.leaf = !id_is_hole(q.leaf) && find(&d.nodes, q.leaf) != NULL;
	for (unsigned i = 0; i < q.n; i++)
		if (have.leaf || find(&d.chunks, &q.id[i]) != NULL)
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
		keep(&d.chunks, &k);
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
		struct kept *c = n.level == 0 ? find(&d.chunks, &n.child[i])
					      : find(&d.nodes, &n.child[i]);

		/* A parent never comes before its children; where a PUT
		 * fails the leaf behind it is on its way already. */
		assert_true(id_is_hole(&n.child[i]) || c != NULL ||
		    d.fault == FAULT_NO_SPACE);
	}
	lose = n.level == 0 ? d.fault == FAULT_LOSE_ALWAYS ||
		(d.fault == FAULT_LOSE_ONCE && d.nlost == 0)
			    : d.fault == FAULT_LOSE_INNER ||
		(d.fault == FAULT_LOSE_INNER_ONCE && d.nlost == 0);
	if (lose) {
		done.taken = false;
		/* NOLINTNEXTLINE: a node that parsed has a child */
		done.missing[(n.n - 1u) / 8] = (uint8_t)(1u << (n.n - 1) % 8);
		d.nlost++;
	} else {
		keep(&d.nodes, &k);
	}
	msg_node_done_print(lane_begin(l, MSG_NODE_DONE, f->request), &done);
	lane_end(l, NULL);
}

/* The node at a place, by walking down; NULL: a hole. */
static struct kept *
walk(unsigned volume, unsigned level, uint64_t index)
{
	const struct manifest_volume *v = &d.backup.volume[volume];
	uint64_t nslices = chunk_nslices(v->size, d.cs);
	struct id id = v->root;
	struct node n;

	for (unsigned at = node_root_level(nslices);; at--) {
		struct kept *k;

		if (id_is_hole(&id))
			return NULL;
		k = find(&d.nodes, &id);
		assert_non_null(k);
		if (at == level)
			return k;
		node_parse(k->data, k->len, &n, NULL);
		id = n.child[(index >> 7 * (at - 1 - level)) % NODE_FANOUT];
	}
}

/* Whether the node lies in the bad place, or above it. */
static bool
bad_place(const struct msg_tree *q)
{
	uint64_t from = q->index * node_span(q->level);

	return q->level <= d.bad_level && from < d.bad_end &&
	    from + node_span(q->level) > d.bad_first;
}

static void
serve_tree(struct lane *l, const struct frame *f)
{
	uint8_t body[NODE_LEN_MAX];
	struct msg_tree q;
	struct kept *k;

	assert_int_equal(msg_tree_parse(f->payload, f->len, &q, NULL), 0);
	d.ntrees++;
	if (d.fault == FAULT_PARENT_DAMAGED ||
	    (d.fault == FAULT_TREE_PLACE && bad_place(&q))) {
		say_error(l, f->request, ERR_CORRUPT, "bad bytes in pack 1");
		return;
	}
	k = walk(q.volume, q.level, q.index);
	if (d.fault == FAULT_OTHER_NODE)
		k = &d.nodes.kept[0];
	if (k != NULL)
		memcpy(body, k->data, k->len);
	if (d.fault == FAULT_TREE_TAIL)
		body[2] = 1;
	lane_send(
	    l, MSG_TREE_NODE, f->request, body, k != NULL ? k->len : 0, NULL);
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
		c = find(&d.chunks, &n.child[s % NODE_FANOUT]);
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

static json_t *
parent(void)
{
	json_t *p = json_object();

	json_set_str(p, "time", "2026-01-01T00:00:00Z");
	if (d.backup.checkpoint[0] != 0)
		json_set_str(p, "checkpoint", d.backup.checkpoint);
	return p;
}

static json_t *
parent_volume(const char *name)
{
	int i = manifest_volume_find(&d.backup, name);
	json_t *v;

	if (i == -1)
		return json_null();
	v = json_object();
	json_set_u64(v, "size", d.backup.volume[i].size);
	json_set_hex(v, "root", d.backup.volume[i].root.b, ID_LEN);
	if (d.damaged != NULL)
		json_object_set_new(
		    v, "damaged", json_loads(d.damaged, 0, NULL));
	return v;
}

static void
take_text(const json_t *q, const char *key, char *out)
{
	const char *text = "";

	assert_int_equal(json_opt_str(q, key, &text, NULL), 0);
	strcpy(out, text);
}

static void
begin(const json_t *q, json_t *a)
{
	json_t *list = json_object_get(q, "volumes"), *p = parent(),
	       *old = json_array();
	struct manifest *m = &d.coming;

	memset(m, 0, sizeof(*m));
	m->chunk_size = d.cs;
	strcpy(m->vm, "vm");
	take_text(q, "checkpoint", m->checkpoint);
	take_text(q, "consistency", m->consistency);
	m->nvolumes = (unsigned)json_array_size(list);
	for (unsigned i = 0; i < m->nvolumes; i++) {
		const json_t *j = json_array_get(list, i);

		take_text(j, "name", m->volume[i].name);
		take_text(j, "kind", m->volume[i].kind);
		take_text(j, "format", m->volume[i].format);
		json_get_u64(j, "size", &m->volume[i].size, NULL);
		json_array_append_new(old, parent_volume(m->volume[i].name));
	}
	json_object_set_new(p, "volumes", old);
	if (d.has_backup && !json_is_true(json_object_get(q, "full")))
		json_object_set(a, "parent", p);
	json_decref(p);
}

static void
commit(const json_t *q, json_t *a)
{
	for (unsigned i = 0; i < d.coming.nvolumes; i++) {
		const char *root = json_string_value(
		    json_array_get(json_object_get(q, "roots"), i));

		assert_int_equal(
		    unhex(root, d.coming.volume[i].root.b, ID_LEN), 0);
	}
	d.backup = d.coming;
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
		json_set_u64(a, "chunk_size", d.cs);
		json_set_str(a, "uuid", "0123456789abcdef0123456789abcdef");
		json_set_str(a, "hash", "sha256");
	} else if (strcmp(op, "begin") == 0 || strcmp(op, "restore") == 0) {
		json_set_str(a, "token", "00");
		if (*op == 'b')
			begin(q, a);
		else
			json_object_set_new(
			    a, "manifest", manifest_to_json(&d.backup));
	} else if (strcmp(op, "prepare") == 0) {
		d.nprepared++;
		if (d.has_backup && !json_is_true(json_object_get(q, "full")))
			json_object_set_new(a, "parent", parent());
	} else if (strcmp(op, "commit") == 0) {
		commit(q, a);
	}
	if (strcmp(op, "progress") == 0)
		d.nprogress++;
	if ((strcmp(op, "attach") == 0 && d.nattached++ > 0 &&
		d.fault == FAULT_LANES) ||
	    (strcmp(op, "progress") == 0 && d.fault == FAULT_ENDED))
		say_error(l, f->request, *op == 'a' ? ERR_LIMIT : ERR_CLOSED,
		    "not any more");
	else if (strcmp(op, "prepare") == 0 && d.mute)
		say_error(l, f->request, ERR_UNSUP, "no such call");
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
		if ((d.fault == FAULT_ENDED || d.fault == FAULT_SILENT) &&
		    f.type == MSG_QUERY)
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

int
fake_start(void **state)
{
	struct err e;

	(void)state;
	memset(&d, 0, sizeof(d));
	pthread_mutex_init(&d.mu, NULL);
	strcpy(d.dir, "/tmp/backstay-pipeline-XXXXXX");
	if (mkdtemp(d.dir) == NULL)
		return -1;
	snprintf(d.socket, sizeof(d.socket), "%s/socket", d.dir);
	d.cs = CS;
	d.backup.chunk_size = CS;
	strcpy(d.backup.vm, "vm");
	if (lane_unix_listen(d.socket, &d.fd, &e) != 0)
		return -1;
	return pthread_create(&d.listener, NULL, listener, NULL);
}

static void
drop(struct kept_list *l)
{
	while (l->n > 0)
		free(l->kept[--l->n].data);
}

int
fake_stop(void **state)
{
	char path[NAME_LEN + 32];
	static const char *const names[] = { "socket", "disk", "out" };

	(void)state;
	d.ending = true;
	pthread_join(d.listener, NULL);
	while (d.nlanes > 0)
		pthread_join(d.lane[--d.nlanes], NULL);
	close(d.fd);
	drop(&d.chunks);
	drop(&d.nodes);
	for (unsigned i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%s", d.dir, names[i]);
		unlink(path);
	}
	/* Fails if a temporary file was left behind. */
	return rmdir(d.dir);
}

char *
fake_in_dir(const char *name)
{
	static char path[NAME_LEN + 32];

	snprintf(path, sizeof(path), "%s/%s", d.dir, name);
	return path;
}
