/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ingest beside delete and reclaim, batch by batch as the ledger does it:
 * lanes and requests queue in the open batch; one thread swaps, syncs, appends
 * manifests and tombstones, syncs them, decides over index and batch, writes
 * the index and publishes.  What is written is durable; a crash leaves the
 * index, what was synced, and any part of what was not.
 *
 * Three levels: manifest -> inner node R -> leaf L -> chunk X; L and X are
 * shared by all.  Session 0 has two lanes and may lose one; session 1 builds
 * on what it finds or sends the same.  It begins with an old backup, or with
 * what was left of one.
 *
 * Claims: counts are exact; no backup lacks anything; a child is there when it
 * is counted; an id that was had stays so; what was told is true after a crash.
 *
 *   -DONE      session 1 alone           -DNOCRASH  no crash
 *   -DKILL     somebody ends session 1   -DFLAT  the old backup's root is L
 *   -DMAXPUB=n batches                   -DCARELESS an agent that does not ask
 *   -DBUG_x    takes one rule out; the comment beside it says which
 *
 * Left out: starts that move (advance.pml), failed syncs, compaction, rebuild
 * (commit.pml), damage (damage.pml), more than one chunk, two volumes.
 */
#define X 0
#define L 1
#define R(k) (2 + (k)) /* the root of backup k */
#ifdef FLAT
#define ROOT0 L
#else
#define ROOT0 2
#endif
#define BIT(o) (1 << (o))
#define INF 200
#ifndef MAXPUB
#define MAXPUB 4
#endif

typedef Index {
	bool p[5];	/* it has a place */
	byte refs[5];
	byte st[5];
	bool m[3]	/* backups; 1 and 2 are those of sessions 0 and 1 */
}
Index idx, nx;

byte published = 1, cur = 2;
byte oput[2], cput[2];	/* puts of a session in the open and closing batch */
byte ocom, ccom;	/* commits, a bit a backup */
byte odrop, cdrop;	/* deletes */
byte orem, orems;	/* what the reclaimer asks: object + 1, stamp */
byte crem, crems;
byte phase;		/* 0: none closes; 1 swapped, 2 synced, 3 manifests
			   appended, 4 synced, 5 decided, 6 written */
byte early, under;	/* BUG_KNOWN: records called known too soon */
byte start[2] = INF;
byte told, gone;	/* backups that an agent, an operator was told of */
bool leafdone, begun;
byte done;

#define ALIVE(s) (start[s] != INF)
#ifdef BUG_LATE		/* a lane puts after its session has ended */
#define MAY(s) true
#else
#define MAY(s) ALIVE(s)
#endif

/* Rule 2. */
#define OWN(s, o) ((oput[s] | cput[s]) & BIT(o))
#ifdef BUG_HAVE		/* what is there is had */
#define SEEN(s, o) (idx.p[o])
#else
#define SEEN(s, o) (idx.p[o] && (idx.refs[o] > 0 || idx.st[o] >= start[s]))
#endif
#define HAVE(s, o) (SEEN(s, o) || OWN(s, o))

#ifdef FLAT
#define FLAT0(s) s.m[0]
#else
#define FLAT0(s) 0
#endif
#define CHAIN(s, k) (!s.m[k] || (s.p[R(k)] && s.p[L] && s.p[X]))
#define EXACT(s) (s.refs[X] == s.p[L] && \
	s.refs[L] == s.p[2] + s.p[3] + s.p[4] + FLAT0(s) && \
	s.refs[2] == s.m[0] - FLAT0(s) && s.refs[3] == s.m[1] && s.refs[4] == s.m[2])
#define WHOLE(s) ((!s.p[L] || s.p[X]) && \
	(!(s.p[2] || s.p[3] || s.p[4]) || s.p[L]))
#define SOUND(s) (WHOLE(s) && (!s.m[0] || s.p[ROOT0] && s.p[L]) && CHAIN(s, 1) && CHAIN(s, 2) && EXACT(s))

inline copy(d, s) {
	d.p[0] = s.p[0]; d.p[1] = s.p[1]; d.p[2] = s.p[2]; d.p[3] = s.p[3];
	d.p[4] = s.p[4];
	d.refs[0] = s.refs[0]; d.refs[1] = s.refs[1]; d.refs[2] = s.refs[2];
	d.refs[3] = s.refs[3]; d.refs[4] = s.refs[4];
	d.st[0] = s.st[0]; d.st[1] = s.st[1]; d.st[2] = s.st[2];
	d.st[3] = s.st[3]; d.st[4] = s.st[4];
	d.m[0] = s.m[0]; d.m[1] = s.m[1]; d.m[2] = s.m[2]
}

inline wipe(d) {
	d.p[0] = 0; d.p[1] = 0; d.p[2] = 0; d.p[3] = 0; d.p[4] = 0;
	d.refs[0] = 0; d.refs[1] = 0; d.refs[2] = 0; d.refs[3] = 0;
	d.refs[4] = 0;
	d.st[0] = 0; d.st[1] = 0; d.st[2] = 0; d.st[3] = 0; d.st[4] = 0;
	d.m[0] = 0; d.m[1] = 0; d.m[2] = 0
}

inline horizon(h) {
#ifdef BUG_INF		/* no bound when nobody ingests */
	h = INF;
#else
	h = published + 1;
#endif
	if :: start[0] < h -> h = start[0] :: else fi;
	if :: start[1] < h -> h = start[1] :: else fi
}

inline unref(o, no) {
	assert(nx.refs[o] > 0);
	nx.refs[o]--;
#ifndef BUG_NOSTAMP	/* a decrement stamps */
	nx.st[o] = no
#endif
}

inline count_child(o) {
	if
	:: o == L -> nx.refs[X]++
	:: o > L -> nx.refs[L]++
	:: else
	fi
}

/* A put against the index. */
inline resolve(o, no) {
	if
	:: ((cput[0] | cput[1]) & BIT(o)) && idx.p[o] ->
		nx.st[o] = no;
#ifdef BUG_PUTRESET	/* a put resets the count */
		nx.refs[o] = 0;
#endif
#ifdef BUG_RECOUNT	/* children of a node that was there are counted */
		count_child(o);
#endif
		skip
	:: ((cput[0] | cput[1]) & BIT(o)) && !idx.p[o] ->
		nx.p[o] = true; nx.st[o] = no;
		count_child(o)
	:: else
	fi
}

inline commit_one(k, no) {
	if
	:: ccom & BIT(k) ->
		assert(nx.p[R(k)]);
		nx.refs[R(k)]++; nx.m[k] = true
	:: else
	fi
}

inline drop_one(k, root, no) {
	if
	:: (cdrop & BIT(k)) && idx.m[k] -> nx.m[k] = false; unref(root, no)
	:: else
	fi
}

/* Rule 4: over index and batch, after all that the batch references. */
#ifdef BUG_STALE	/* what was found is removed, without a second look */
#define DUE(c, no) nx.p[c]
#elif defined(BUG_BEFORE) /* tested before the batch's own puts */
#define DUE(c, no) (idx.p[c] && idx.refs[c] == 0 && idx.st[c] == crems && \
	idx.st[c] < h)
#else
#define DUE(c, no) (idx.p[c] && idx.refs[c] == 0 && idx.st[c] == crems && \
	idx.st[c] < h && nx.refs[c] == 0 && nx.st[c] != no)
#endif

inline remove_one(no) {
	if
	:: crem && DUE(crem - 1, no) ->
		nx.p[crem - 1] = false; nx.st[crem - 1] = 0;
		if
		:: crem - 1 == L -> unref(X, no)
		:: crem - 1 > L -> unref(L, no)
		:: else
		fi
	:: else
	fi
}

proctype closer() {
	byte h; byte n;
	do
	/* Swap: under the gate, which lanes hold over append and queue. */
	:: d_step { phase == 0 && n < MAXPUB &&
		(oput[0] || oput[1] || ocom || odrop || orem) ->
		cput[0] = oput[0]; cput[1] = oput[1]; oput[0] = 0; oput[1] = 0;
		ccom = ocom; ocom = 0; cdrop = odrop; odrop = 0;
		crem = orem; crems = orems; orem = 0; orems = 0;
#ifdef NOCRASH		/* what the steps between leave matters to a crash alone */
		cur++; n++; phase = 4 }
#else
		cur++; n++; phase = 1 }
	:: d_step { phase == 1 ->
#ifdef BUG_KNOWN	/* known is what was synced, not what was marked */
		early = oput[0] | oput[1];
#endif
		phase = 2 }
	:: d_step { phase == 2 -> phase = 3 }
	:: d_step { phase == 3 -> phase = 4 }
#endif
	:: d_step { phase == 4 ->
		copy(nx, idx);
		horizon(h);
		resolve(X, cur - 1); resolve(L, cur - 1);
		resolve(R(1), cur - 1); resolve(R(2), cur - 1);
		commit_one(1, cur - 1); commit_one(2, cur - 1);
		drop_one(0, ROOT0, cur - 1); drop_one(1, R(1), cur - 1);
		drop_one(2, R(2), cur - 1);
		remove_one(cur - 1);
		h = 0;
		assert(SOUND(nx));
		phase = 5 }
	:: d_step { phase == 5 -> copy(idx, nx); wipe(nx);
		under = early; early = 0; phase = 6 }
	:: d_step { phase == 6 ->
		published = cur - 1;
#ifndef NOCRASH
		told = (told | ccom) & ~cdrop; gone = gone | cdrop;
#endif
		cput[0] = 0; cput[1] = 0; ccom = 0; cdrop = 0; crem = 0;
		crems = 0; phase = 0 }
#ifdef ONE
	:: phase == 0 && done == 2 -> break
#else
	:: phase == 0 && done == 4 -> break
#endif
	od
}

#ifdef BUG_OPENSTART	/* what closes is not visible yet */
#define NOW cur
#else
#define NOW (published + 1)
#endif

inline queue(s, o) { oput[s] = oput[s] | BIT(o) }
inline end(s) { start[s] = INF }

inline leaf(s, h) {
	d_step { h = HAVE(s, X) };
#ifdef BUG_DROPBYTES	/* bytes of what is there are dropped, though not had */
	d_step { h = h || idx.p[X] };
#endif
	if
	:: h
	:: else ->
		if
		:: atomic { MAY(s) -> queue(s, X) }
		:: !MAY(s) -> goto quit
		fi
	fi;
	d_step { h = HAVE(s, L) };
	if
	:: h
	:: else ->
#ifndef BUG_DROPBYTES
		/* The children are looked for, then the node is put. */
		if
		:: atomic { ALIVE(s) -> h = HAVE(s, X); assert(h); h = 0 }
		:: !ALIVE(s) -> goto quit
		fi;
#endif
		if
		:: atomic { MAY(s) -> queue(s, L) }
		:: !MAY(s) -> goto quit
		fi
	fi;
	h = 0
}

proctype lane1() {
	bool h;
	atomic { start[0] = NOW; begun = true };
	leaf(0, h);
	leafdone = true;
	if
	:: begun
	:: atomic { ALIVE(0) && !((ocom | ccom) & BIT(1)) -> end(0) }
	fi;
quit:	done++
}

inline commit(s) {
	if
	:: atomic { ALIVE(s) -> ocom = ocom | BIT(s + 1) };
		if
		:: atomic { idx.m[s + 1] && !((ocom | ccom) & BIT(s + 1)) ->
			end(s) }
		:: !ALIVE(s)
		fi
	:: atomic { ALIVE(s) -> end(s) }	/* gives up */
	:: !ALIVE(s)
	fi
}

proctype lane2() {
	bool h;
	begun;
	if :: leafdone :: !ALIVE(0) -> goto quit fi;
	if
	:: atomic { ALIVE(0) -> h = HAVE(0, L); assert(h); h = 0 }
	:: !ALIVE(0) -> goto quit
	fi;
	if
	:: atomic { MAY(0) -> queue(0, R(1)) }
	:: !MAY(0) -> goto quit
	fi;
	commit(0);
quit:	atomic { if :: ALIVE(0) -> end(0) :: else fi; done++ }
}

proctype session1() {
	bool h; bool sure = true;
	start[1] = NOW;
	if
#ifdef CARELESS
	:: atomic { ALIVE(1) -> sure = false }
#endif
	:: atomic { ALIVE(1) && HAVE(1, L) -> skip }
	:: atomic { ALIVE(1) -> skip }; leaf(1, h)
	:: !ALIVE(1) -> goto quit
	fi;
	if
	:: atomic { ALIVE(1) -> h = HAVE(1, L) }
	:: !ALIVE(1) -> goto quit
	fi;
	if
	:: h -> h = 0
	:: !h && !sure -> goto quit	/* refused */
	:: else -> assert(false)
	fi;
	if
	:: atomic { MAY(1) -> queue(1, R(2)) }
	:: !MAY(1) -> goto quit
	fi;
	commit(1);
quit:	atomic { if :: ALIVE(1) -> end(1) :: else fi; done++ }
}

#ifdef KILL
proctype killer() {
	if
	:: atomic { ALIVE(1) && !((ocom | ccom) & BIT(2)) -> end(1) }
	fi
}
#endif

/* A delete is asked for, and decided when its batch closes. */
proctype deleter() {
	do
	:: atomic { idx.m[0] && !((odrop | cdrop) & BIT(0)) ->
		odrop = odrop | BIT(0) }
	:: atomic { idx.m[1] && phase == 0 && !(odrop & BIT(1)) ->
		odrop = odrop | BIT(1) }
#ifndef ONE
	:: atomic { idx.m[2] && phase == 0 && !(odrop & BIT(2)) ->
		odrop = odrop | BIT(2) }
#endif
	:: break
	od;
	done++
}

/* Lists what is due, by the horizon of that moment; the node's children are
 * read here, which never change; then asks, and waits for the answer. */
#ifdef BUG_LIST		/* what is due is left to the closing alone */
#define LISTED(c) (idx.p[c] && idx.refs[c] == 0)
#else
#define LISTED(c) (idx.p[c] && idx.refs[c] == 0 && idx.st[c] < h)
#endif
proctype reclaimer() {
	byte h; byte c;
	do
	:: atomic { orem == 0 && crem == 0 ->
		horizon(h);
		if
		:: LISTED(0) -> c = 0
		:: LISTED(1) -> c = 1
		:: LISTED(2) -> c = 2
		:: LISTED(3) -> c = 3
		:: LISTED(4) -> c = 4
		:: else -> c = 9
		fi;
		h = 0;
		if
		:: c < 9 -> h = idx.st[c]
		:: else
		fi };
		atomic {
		if
		:: c < 9 -> orem = c + 1; orems = h
		:: else
		fi;
		c = 0; h = 0 }
	:: phase == 0 && published >= MAXPUB -> break
	od
}

#ifndef NOCRASH
#define TAIL(o) (tail & BIT(o))
/* What is beyond the known length, and not there, is put; children first. */
inline roll(o, child) {
	if
	:: TAIL(o) && !idx.p[o] && (o == X || idx.p[child]) ->
		idx.p[o] = true; idx.st[o] = published + 1;
		if :: o != X -> idx.refs[child]++ :: else fi
	:: else
	fi
}
inline lose(o) {
	if
	:: skip
	:: (tail & BIT(o)) && !(kept & BIT(o)) -> tail = tail & ~BIT(o)
	fi
}
inline roll_manifest(k) {
	if
	:: (ccom & BIT(k)) && !idx.m[k] ->
		assert(idx.p[R(k)]);
		idx.refs[R(k)]++; idx.m[k] = true
	:: else
	fi
}
inline roll_tombstone(k, root) {
	if
	:: (cdrop & BIT(k)) && idx.m[k] ->
		idx.m[k] = false; assert(idx.refs[root] > 0);
		idx.refs[root]--; idx.st[root] = published + 1
	:: else
	fi
}

proctype crash() {
	byte tail; byte kept;
	atomic {
		if
		:: phase == 6 -> published = cur - 1;
			told = told & ~cdrop; cput[0] = 0; cput[1] = 0;
			ccom = 0; cdrop = 0
		:: else
		fi;
		tail = cput[0] | cput[1];
		if :: phase >= 2 -> kept = tail :: else fi;
		tail = (tail | oput[0] | oput[1]) & ~under;
		lose(X); lose(L); lose(R(1)); lose(R(2));
		/* Manifests and tombstones are there once synced. */
		if
		:: phase < 3 -> ccom = 0; cdrop = 0
		:: phase == 3 ->
			if :: ccom = 0 :: skip fi;
			if :: cdrop = 0 :: skip fi
		:: else
		fi;
		roll(X, X); roll(L, X); roll(R(1), L); roll(R(2), L);
		roll_manifest(1); roll_manifest(2);
		roll_tombstone(0, ROOT0); roll_tombstone(1, R(1));
		roll_tombstone(2, R(2));
		assert(SOUND(idx));
		assert(!(told & BIT(0)) || idx.m[0] || (cdrop & BIT(0)));
		assert(!(told & BIT(1)) || idx.m[1] || (cdrop & BIT(1)));
		assert(!(told & BIT(2)) || idx.m[2] || (cdrop & BIT(2)));
		assert(!(gone & BIT(0)) || !idx.m[0]);
		assert(!(gone & BIT(1)) || !idx.m[1]);
		assert(!(gone & BIT(2)) || !idx.m[2]);
		told = 0; gone = 0;
		published++;
		if :: cur <= published -> cur = published + 1 :: else fi;
		oput[0] = 0; oput[1] = 0; cput[0] = 0; cput[1] = 0; ocom = 0;
		ccom = 0; odrop = 0; cdrop = 0; orem = 0; orems = 0; crem = 0;
		crems = 0; early = 0; under = 0; wipe(nx);
		start[0] = INF; start[1] = INF; phase = 0;
		tail = 0; kept = 0 }
}
#endif

init {
	atomic {
		/* An old backup, or what is left of one. */
		idx.p[X] = true; idx.st[X] = 1;
		if
		:: idx.p[L] = true; idx.refs[X] = 1; idx.st[L] = 1;
			if
#ifdef FLAT
			:: idx.refs[L] = 1; idx.m[0] = true; told = 1
#endif
#ifndef FLAT
			:: idx.p[2] = true; idx.refs[L] = 1; idx.refs[2] = 1;
				idx.m[0] = true; told = 1
#endif
			:: skip
			fi
		:: skip
		fi;
#ifndef ONE
		run lane1(); run lane2();
#endif
		run session1(); run deleter(); run reclaimer(); run closer();
#ifdef KILL
		run killer();
#endif
#ifndef NOCRASH
		run crash();
#endif
		skip
	}
}
