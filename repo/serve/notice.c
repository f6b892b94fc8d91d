/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/notice.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/json.h"
#include "proto/base/log.h"

void
notice_judge(struct serve *srv, struct manifest *m, struct notice *out)
{
	struct unusual_history *h;
	struct manifest *one;
	struct catalog_cursor cur = { .seq = 0 };

	memset(out, 0, sizeof(*out));
	if (m->imported)
		return; /* what was new then is long known */
	h = xcalloc(1, sizeof(*h));
	one = xcalloc(1, sizeof(*one));
	unusual_facts(m, &out->facts);
	memcpy(cur.vm, m->vm, sizeof(cur.vm));
	while (catalog_next(srv->catalog, &cur, one) == 0 &&
	    strcmp(one->vm, m->vm) == 0) {
		struct unusual_facts f;

		unusual_facts(one, &f);
		unusual_add(h, &f, out->facts.ram);
	}
	out->unusual = unusual_judge(h, &out->facts, &out->usual);
	strncpy(m->unusual, unusual_word(out->unusual), sizeof(m->unusual) - 1);
	free(one);
	free(h);
}

void
notice_tell(struct serve *srv, const struct manifest *m, const struct notice *n)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2], a[16], b[16];
	bool dense = n->unusual == UNUSUAL_INCOMPRESSIBLE;
	json_t *facts;
	char *text;

	if (n->unusual == UNUSUAL_NOT)
		return;
	text = xasprintf("%s has %s of new data%s, where %s are usual: look "
			 "whether that was meant%s",
	    manifest_name(m, name),
	    size_print(dense ? n->facts.dense : n->facts.fresh, a),
	    dense ? " that does not compress" : "", size_print(n->usual, b),
	    dense ? ", or somebody has encrypted the guest's files" : "");
	log_error("unusual: %s", text);
	facts = json_object();
	json_set_str(facts, "vm", m->vm);
	json_set_str(facts, "outcome", "unusual");
	json_set_str(facts, "text", text);
	json_set_str(facts, "backup", name);
	json_set_str(facts, "unusual", m->unusual);
	json_set_u64(facts, "changed", n->facts.changed);
	json_set_u64(facts, "new", n->facts.fresh);
	json_set_u64(facts, "stored", n->facts.stored);
	json_set_u64(facts, "usual", n->usual);
	event_post(srv->events, EVENT_UNUSUAL_CHANGE, facts);
	free(text);
}
