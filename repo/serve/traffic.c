/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/traffic.h"

#include "proto/base/json.h"

int
traffic_join(struct traffic *t)
{
	for (int i = 0; i < TRAFFIC_LANES_MAX; i++) {
		bool no = false;

		if (!atomic_compare_exchange_strong(
			&t->lane[i].used, &no, true))
			continue;
		atomic_store(&t->lane[i].in, 0);
		atomic_store(&t->lane[i].out, 0);
		return i;
	}
	return -1;
}

void
traffic_leave(struct traffic *t, int lane)
{
	if (lane >= 0)
		atomic_store(&t->lane[lane].used, false);
}

void
traffic_count(struct traffic *t, int lane, uint64_t in, uint64_t out)
{
	if (lane < 0)
		return;
	atomic_fetch_add_explicit(&t->lane[lane].in, in, memory_order_relaxed);
	atomic_fetch_add_explicit(
	    &t->lane[lane].out, out, memory_order_relaxed);
}

json_t *
traffic_to_json(const struct traffic *t)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < TRAFFIC_LANES_MAX; i++) {
		json_t *o;

		if (!atomic_load(&t->lane[i].used))
			continue;
		o = json_object();
		json_set_u64(o, "lane", i);
		json_set_u64(o, "in", atomic_load(&t->lane[i].in));
		json_set_u64(o, "out", atomic_load(&t->lane[i].out));
		json_array_append_new(list, o);
	}
	return list;
}
