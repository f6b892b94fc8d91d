/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session whose start moves, twice, beside delete and reclaim.
 *
 * Two chunks: A, which the session finds or puts first, and C, of the parent's
 * tree, which it is answered later.  A node N over A and C is put at the end
 * and committed.  Until then the frontier holds what was answered.  The
 * control lane turns the start, takes the frontier (under the session's gate),
 * commits an incomplete manifest over it, and advances; the second drops the
 * first in its own batch.  An operator deletes the parent, which is held: it
 * is hidden, and its root dropped when the session ends; or it is another's,
 * and dropped at once.
 *
 * Claims: whatever was answered "had" or put stays while the session lives;
 * counts are exact; a complete backup lacks nothing; a hidden parent goes.
 *
 *   -DCRASH    once, at any point; the index is what the last batch wrote
 *   -DBUG_x    takes one rule out
 *
 * Left out: three levels and two lanes of different sessions (ledger.pml),
 * packs (commit.pml).
 */
#define A 0
#define C 1
#define N 2
#define BIT(o) (1 << (o))
#define INF 200
#ifndef MAXPUB
#define MAXPUB 7
#endif

/* The index: refs of A, C and N; what holds them: the parent (its root stands
 * for a tree over C), N, incomplete manifests 1 and 2, the backup. */
bool p[3];
byte refs[3], st[3];
bool parent, hid, backup;
byte inc[3];			/* what manifest 1, 2 holds: bits */
bool minc[3];
byte published = 1, cur = 2;

byte oput, cput;
byte oinc, cinc, oset, cset;	/* an incomplete one to commit, and its ids */
byte oold, cold;		/* the one that goes with it */
bool ocom, ccom, ohide, chide, odrop, cdrop;
byte orem, orems, crem, crems;
bool closing;

byte start = INF, answers;
byte frontier;
byte promised;			/* bits that the session was answered or put */
bool builds;			/* on the parent, which it holds then */
bool safe;			/* something holds what the session stored */
bool begun, ended, released, crashed;

#define ALIVE (start != INF)
#define OWN(o) ((oput | cput) & BIT(o))
#ifdef BUG_NOFRONTIER	/* answers after the turn do not look at it */
#define HELD(o) false
#else
#define HELD(o) (frontier & BIT(o))
#endif
#define HAD(o) ((p[o] && (refs[o] > 0 || st[o] >= answers)) || OWN(o) || \
	HELD(o))
#define HOLDS(k, o) (minc[k] && (inc[k] & BIT(o)))
#define EXACT (refs[A] == HOLDS(1, A) + HOLDS(2, A) + p[N] && \
	refs[C] == HOLDS(1, C) + HOLDS(2, C) + p[N] + parent && \
	refs[N] == backup + HOLDS(1, N) + HOLDS(2, N))
#define WHOLE ((!p[N] || (p[A] && p[C])) && (!backup || p[N]) && \
	(!parent || p[C]) && \
	(!(HOLDS(1, A) || HOLDS(2, A)) || p[A]) && \
	(!(HOLDS(1, C) || HOLDS(2, C)) || p[C]))
#define KEPT(o) (!ALIVE || !(promised & BIT(o)) || p[o] || OWN(o))

inline horizon(h) {
	h = published + 1;
	if :: start < h -> h = start :: else fi
}
inline unref(o) { assert(refs[o] > 0); refs[o]--; st[o] = cur - 1 }
inline put(o) {
	if
	:: (cput & BIT(o)) && p[o] -> st[o] = cur - 1
	:: (cput & BIT(o)) && !p[o] -> p[o] = true; st[o] = cur - 1;
		if :: o == N -> refs[A]++; refs[C]++ :: else fi
	:: else
	fi
}
inline hold(o) {
	if :: cset & BIT(o) -> refs[o]++ :: else fi
}
inline let_go(k, o) {
	if :: inc[k] & BIT(o) -> unref(o) :: else fi
}
inline drop_inc(k) {
	let_go(k, A); let_go(k, C); let_go(k, N); minc[k] = false; inc[k] = 0
}

proctype ledger() {
	byte h, n;
	do
	:: d_step { !closing && n < MAXPUB && (oput || oinc || oold || ocom ||
		ohide || odrop || orem) ->
		cput = oput; cinc = oinc; cset = oset; cold = oold; ccom = ocom;
		chide = ohide; cdrop = odrop; crem = orem; crems = orems;
		oput = 0; oinc = 0; oset = 0; oold = 0; ocom = false;
		ohide = false; odrop = false; orem = 0; orems = 0;
		cur++; n++; closing = true }
	/* Decided, written; published in a step of its own. */
	:: d_step { closing && cur - 1 > published && crems != 255 ->
		put(A); put(C); put(N);
		if
		:: cinc -> hold(A); hold(C); hold(N); minc[cinc] = true;
			inc[cinc] = cset
		:: else
		fi;
		if :: ccom -> refs[N]++; backup = true :: else fi;
		if :: cold -> drop_inc(cold) :: else fi;
		if
		:: chide -> hid = true;
#ifdef BUG_HELD		/* a held parent's roots are dropped at once */
			if :: parent -> parent = false; unref(C) :: else fi
#else
			skip
#endif
		:: else
		fi;
		if
		:: cdrop && parent -> parent = false; unref(C)
		:: else
		fi;
		horizon(h);
		if
		:: crem && p[crem - 1] && refs[crem - 1] == 0 &&
			st[crem - 1] == crems && st[crem - 1] < h ->
			p[crem - 1] = false;
			if :: crem - 1 == N -> unref(A); unref(C) :: else fi;
			st[crem - 1] = 0
		:: else
		fi;
		h = 0; cput = 0; cset = 0; ccom = false; cold = 0;
		chide = false; crem = 0; crems = 255;
		assert(EXACT && WHOLE);
		assert(KEPT(A) && KEPT(C));
		/* An interrupted backup does not begin anew. */
		safe = safe || minc[1];
		assert(!safe || minc[1] || minc[2] || backup) }
	:: d_step { closing && crems == 255 ->
		published = cur - 1; crems = 0; cinc = 0; cdrop = false;
		closing = false }
	:: !closing && ended && released && n >= MAXPUB -> break
	od
}

#define ASKED (promised & BIT(A))
inline answer(o) {
	atomic { ALIVE ->
		if
		:: HAD(o) -> skip
		:: !HAD(o) -> oput = oput | BIT(o)
		fi;
		promised = promised | BIT(o);
#ifdef BUG_ANSWERED	/* the frontier takes what was put, not what was had */
		if :: oput & BIT(o) -> frontier = frontier | BIT(o) :: else fi
#else
		frontier = frontier | BIT(o)
#endif
	}
}

/* A lane: A, later C, then the node over both, and the backup. */
proctype lane() {
	atomic { start = published + 1; answers = start; begun = true };
	if :: answer(A) :: !ALIVE -> goto quit fi;
	if
	:: atomic { !builds && ALIVE -> skip }; answer(C)
	/* An agent that builds on its parent need not ask before the node. */
	:: atomic { builds && ALIVE -> promised = promised | BIT(C) }
	:: !ALIVE -> goto quit
	fi;
	if
	:: atomic { ALIVE ->
		assert(HAD(A));
		assert(HAD(C));
		oput = oput | BIT(N);
		promised = BIT(N); frontier = (frontier & ~3) | BIT(N) }
	:: !ALIVE -> goto quit
	fi;
	if
	:: atomic { ALIVE && HAD(N) -> ocom = true };
		if :: backup :: !ALIVE fi
	:: atomic { ALIVE -> skip }
	:: !ALIVE
	fi;
quit:	atomic { start = INF; ended = true; frontier = 0; promised = 0 }
}

/* The control lane: two checkpoints. */
inline checkpoint(k) {
	byte t; byte f;
#ifdef BUG_LATETURN	/* the frontier is taken, and then the start turned */
	if :: atomic { ALIVE -> f = frontier } :: !ALIVE -> goto out fi;
	if
	:: atomic { ALIVE -> answers = published + 1; t = answers }
	:: !ALIVE -> goto out
	fi;
#elif defined(BUG_OLDANSWERS) /* answers go on as before the turn */
	if
	:: atomic { ALIVE -> t = published + 1; f = frontier }
	:: !ALIVE -> goto out
	fi;
#else
	if
	:: atomic { ALIVE -> answers = published + 1; t = answers; f = frontier }
	:: !ALIVE -> goto out
	fi;
#endif
#ifdef BUG_EARLY	/* advanced before the manifest is published */
	if :: atomic { ALIVE -> start = t } :: !ALIVE -> goto out fi;
#endif
#ifdef BUG_OLDFIRST	/* the old one is dropped in an earlier batch */
	if
	:: k == 2 && minc[1] ->
		if
		:: atomic { ALIVE -> oold = 1 }; (!minc[1] || !ALIVE)
		:: !ALIVE -> goto out
		fi
	:: else
	fi;
#endif
	if
	:: atomic { ALIVE -> oinc = k; oset = f;
		if :: k == 2 && minc[1] -> oold = 1 :: else fi }
	:: !ALIVE -> goto out
	fi;
	if :: minc[k] && !closing :: !ALIVE -> goto out fi;
	if :: atomic { ALIVE -> start = t } :: !ALIVE -> goto out fi;
	f = 0; t = 0
}

proctype control() {
	begun && ((promised & BIT(A)) || ended);
	checkpoint(1);
	(frontier || ended);
	checkpoint(2);
out:	skip
}

/* Deletes the parent; who held it drops it when the session ends. */
proctype deleter() {
	if
	:: atomic { builds && begun && !ended -> ohide = true };
		hid && !closing;
		ended
	:: !builds
	:: ended
	fi;
	/* What the session left is let go of as well. */
	atomic { parent -> odrop = true };
	!parent && !closing;
	released = true
}

proctype reclaimer() {
	byte c, h;
	do
	:: atomic { orem == 0 && crem == 0 && crems == 0 ->
		horizon(h);
		if
		:: p[0] && refs[0] == 0 && st[0] < h -> c = 0
		:: p[1] && refs[1] == 0 && st[1] < h -> c = 1
		:: p[2] && refs[2] == 0 && st[2] < h -> c = 2
		fi;
		orem = c + 1; orems = st[c]; c = 0; h = 0 }
	od
}

#ifdef CRASH
proctype crash() {
	atomic { begun && !crashed -> crashed = true;
		if
		:: closing && crems == 255 -> published = cur - 1
		:: else
		fi;
		oput = 0; cput = 0; oinc = 0; cinc = 0; oset = 0; cset = 0;
		oold = 0; cold = 0; ocom = false; ccom = false; ohide = false;
		chide = false; odrop = false; cdrop = false; orem = 0;
		orems = 0; crem = 0; crems = 0; closing = false;
		start = INF; frontier = 0; promised = 0;
		/* On open: what is hidden goes. */
		if
		:: hid && parent -> parent = false; refs[C]--;
			st[C] = published + 1
		:: else
		fi;
		published++;
		if :: cur <= published -> cur = published + 1 :: else fi;
		assert(EXACT && WHOLE && !(hid && parent)) }
}
#endif

init {
	atomic {
		p[C] = true; refs[C] = 1; st[C] = 1; parent = true;
		if :: p[A] = true; st[A] = 1 :: true fi;
		if :: builds = true :: builds = false fi;
		run ledger(); run lane(); run control(); run deleter();
		run reclaimer();
#ifdef CRASH
		run crash();
#endif
		skip
	}
}
