/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is durable when: one backup M over one chunk C is made, deleted and
 * moved by compaction, while syncs fail and the daemon is killed or the power
 * goes; then a start that rolls forward, or a rebuild from the packs alone.
 *
 * C lies in a data pack; M and its tombstone T in meta packs 1 to NP, written
 * one after another (a pack and its twin act as one).  A record is appended,
 * then synced; the power takes any part of what is only appended, a kill
 * nothing.  The index is durable with each batch.  A batch: swap (marks what
 * will be known), sync, append M and T, sync, write.
 *
 * Claims: an acknowledged backup is there and whole after every start; a
 * deleted one, or one whose commit failed, never comes back; roots are dropped
 * once; what the index names is synced and on disk.
 *
 *   -DFAIL     syncs and appends may fail, once
 *   -DREBUILD  a start may find no index
 *   -DCRASHES=n
 *   -DBUG_x    takes one rule out
 *
 * Left out: the tree's counts (ledger.pml), reclaiming C, a full disk.
 */
#ifndef NP
#define NP 3
#endif		/* 4 at most */
#ifndef CRASHES
#define CRASHES 1
#endif
#define B(p) (1 << (p))
#define OPEN 0
#define SEALED 1
#define POISONED 2
#define DEAD 3
#define NEVER 4

/* On disk: a bit a pack.  a: appended, s: synced, k: below the known length. */
byte ma, ms, mk, ta, ts, tk;
bool ca, cs, ck, cbad;
byte file;		/* packs that are there */
byte names;		/* packs that T was written with */
/* The index. */
bool ic;
byte im;		/* M's pack; 0: no such backup */
byte refs;		/* of its root */
byte st[5];		/* the table of packs */
/* Memory. */
byte w = 1;		/* the meta pack that is written */
bool wbad;		/* an append to it failed */
byte took;		/* the one that took M or T in this batch */
byte ph;		/* of the closing batch */
bool qc, cc;		/* C's operation in the open, the closing batch */
bool qm, cm;		/* the commit */
byte qd, cd;		/* deletes */
byte qv, cv, vto;	/* a move: from, to */
byte qf, cf;		/* a pack to be marked dead */
bool qe, ce;		/* somebody only waits for the batch */
byte mmk, mtk, mck;	/* marks */
bool made, over;	/* the session put C; it ended */
byte cp, from, to;	/* the compactor */
byte failures, crashes;
bool acked, refused, asked, deleted;

#define NEEDS(p) (ta & B(p))	/* a tombstone is carried ... */
#ifdef BUG_TOMBNOW	/* ... unless the packs that M was in then are gone */
#define CARRY(p) (NEEDS(p) && (names & file & ~B(p)))
#elif defined(BUG_TOMBDROP) /* ... never */
#define CARRY(p) false
#else
#define CARRY(p) NEEDS(p)
#endif

inline check() {
	assert(refs == (im != 0));
	assert(im == 0 || ((file & B(im)) && (ms & B(im)) && ic && cs));
	assert(!acked || asked || im != 0);
	assert(!(deleted || refused) || im == 0)
}

inline next_pack() {
	w++; wbad = false;
	if :: w <= NP -> file = file | B(w); st[w] = OPEN :: else fi
}

/* A failed sync: pending is thrown away as after a crash. */
inline throw_away() {
	if :: st[w] == OPEN -> st[w] = POISONED :: else fi;
	next_pack();
	if :: made && !acked && im == 0 -> over = true :: else fi;
	qc = false; qm = false; qd = 0; qv = 0; qf = 0; qe = false;
	cc = false; cm = false; cd = 0; cv = 0; cf = 0; ce = false;
	took = 0; mmk = 0; mtk = 0; mck = 0;
	if :: cp == 2 || cp == 5 || cp == 7 -> cp = 0; from = 0; to = 0
	:: else fi;
	ph = 0
}

inline forget_memory() {
	qc = false; qm = false; qd = 0; qv = 0; qf = 0; qe = false;
	cc = false; cm = false; cd = 0; cv = 0; cf = 0; ce = false; vto = 0;
	took = 0; mmk = 0; mtk = 0; mck = 0; ph = 0; cp = 0; from = 0; to = 0;
	if :: made -> over = true :: else fi;
	wbad = false
}

/* The power took this one. */
inline lose(a, s, p) {
	if
	:: (a & B(p)) && !(s & B(p)) -> a = a & ~B(p)
	:: true
	fi
}

#define TAIL(a, k, p) ((a & B(p)) && !(k & B(p)) && (file & B(p)) && \
	st[p] == OPEN)

inline bury_dead(p) {
	if
	:: st[p] == DEAD && (file & B(p)) ->
		file = file & ~B(p); ma = ma & ~B(p); ms = ms & ~B(p);
		ta = ta & ~B(p); ts = ts & ~B(p)
	:: else
	fi
}

/* A manifest beyond what is known, that the index does not know. */
#ifdef BUG_ROLLTOMB	/* only tombstones beyond what is known are looked at */
#define BURIED (TAIL(ta, tk, 1) || TAIL(ta, tk, 2) || TAIL(ta, tk, 3) || \
	TAIL(ta, tk, 4))
#else
#define BURIED (ta != 0)
#endif
inline roll_manifest(p) {
	if
	:: TAIL(ma, mk, p) && im == 0 && !BURIED ->
		assert(ic);
		im = p; refs = 1
	:: else
	fi
}

inline settle(p) {
	if
	:: (file & B(p)) && st[p] == OPEN ->
		st[p] = SEALED; mk = mk | (ma & B(p)); tk = tk | (ta & B(p));
#ifndef BUG_ROLLSYNC	/* a start believes what nobody synced */
		ms = ms | (ma & B(p)); ts = ts | (ta & B(p))
#else
		skip
#endif
	:: else
	fi
}

inline start() {
	bury_dead(1); bury_dead(2); bury_dead(3); bury_dead(4);
#ifndef BUG_ROLLSYNC
	if :: !cbad -> cs = ca :: else fi;
#endif
	if :: ca && !ck && !cbad -> ic = true; ck = true :: else fi;
	if
	:: im != 0 && (TAIL(ta, tk, 1) || TAIL(ta, tk, 2) || TAIL(ta, tk, 3) ||
		TAIL(ta, tk, 4)) ->
		im = 0; assert(refs == 1); refs = 0
	:: else
	fi;
	roll_manifest(1); roll_manifest(2); roll_manifest(3);
	roll_manifest(4);
	settle(1); settle(2); settle(3); settle(4)
}

inline rebuild() {
	im = 0; refs = 0;
	/* C's place is taken from what reads well. */
	ic = ca; cs = ca; ck = ca;
	ms = ma & file; ts = ta & file; mk = ma; tk = ta;
	if
	:: ta == 0 && (ma & B(4)) -> im = 4; refs = 1
	:: ta == 0 && !(ma & B(4)) && (ma & B(3)) -> im = 3; refs = 1
	:: ta == 0 && !(ma & (B(4) | B(3))) && (ma & B(2)) -> im = 2; refs = 1
	:: ta == 0 && ma == B(1) -> im = 1; refs = 1
	:: else
	fi;
	if :: st[1] != POISONED && (file & 2) -> st[1] = SEALED :: else fi;
	if :: st[2] != POISONED && (file & 4) -> st[2] = SEALED :: else fi;
	if :: st[3] != POISONED && (file & 8) -> st[3] = SEALED :: else fi;
	if :: st[4] != POISONED && (file & 16) -> st[4] = SEALED :: else fi
}

active proctype daemon() {
	d_step { file = B(1); st[2] = NEVER; st[3] = NEVER; st[4] = NEVER };
	do
	/* A session: its chunk, its commit. */
	:: d_step { !made && w <= NP -> made = true; ca = true; qc = true }
	:: d_step { made && !over && !asked && !acked && !qm && !cm && im == 0 &&
		w <= NP -> qm = true }
	/* Deletes, two at a time. */
	:: d_step { acked && w <= NP && im != 0 && qd < 2 && !deleted ->
		asked = true; qd++ }

	/* The closing of a batch. */
	:: d_step { ph == 0 && w <= NP && (qc || qm || qd || qv || qf || qe) ->
		cc = qc; qc = false; cm = qm; qm = false; cd = qd; qd = 0;
		cv = qv; qv = 0; cf = qf; qf = 0; ce = qe; qe = false;
		mmk = ma; mtk = ta; mck = ca; ph = 1 }
	/* The same, and its meta pack is full, or wanted by the compactor. */
	:: d_step { ph == 0 && w < NP && (qc || qm || qd || qv || qf || qe) &&
		((ma | ta) & B(w)) ->
		cc = qc; qc = false; cm = qm; qm = false; cd = qd; qd = 0;
		cv = qv; qv = 0; cf = qf; qf = 0; ce = qe; qe = false;
		mmk = ma; mtk = ta; mck = ca;
		ms = ms | (ma & B(w)); ts = ts | (ta & B(w));
		st[w] = SEALED; next_pack(); ph = 1 }
#ifdef BUG_EARLYM	/* a manifest is appended before its tree is synced */
	:: d_step { ph == 1 && !wbad ->
		took = w;
		if :: cm -> ma = ma | B(w) :: else fi; ph = 7 }
	:: d_step { ph == 7 && !wbad ->
#else
	:: d_step { ph == 1 && !wbad ->
#endif
		if :: !cbad -> cs = ca :: else fi;
		ms = ms | (ma & B(w)); ts = ts | (ta & B(w)); ph = 2 }
#ifdef FAIL
	:: d_step { ph == 1 && (wbad || failures == 0) ->
		failures = 1;
		if :: cc || qc -> cbad = true :: else fi;
		if :: cm || qm -> refused = true :: else fi;
		throw_away() }
	/* A lane's append to the meta pack failed: the next goes elsewhere. */
	:: d_step { ph >= 1 && ph <= 3 && failures == 0 && w < NP ->
		failures = 1; wbad = true }
#endif
	:: d_step { ph == 2 ->
		if :: wbad -> next_pack() :: else fi;
		took = w;
		if
		:: cm && !over && (ic || cc) -> ma = ma | B(w)
		:: else -> cm = false
		fi;
		/* A delete is decided here: the backup stands. */
		if
		:: cd && im != 0 ->
#ifndef BUG_TOMBLATE	/* tombstone and decrement in one step */
			ta = ta | B(w);
#endif
			names = names | B(im)
		:: else -> cd = 0
		fi;
#ifndef BUG_DROPTWICE	/* both of a batch are believed */
		if :: cd > 1 -> cd = 1 :: else fi;
#endif
		ph = 3 }
	:: d_step { ph == 3 &&
#ifdef BUG_OTHERMETA	/* the pack that is written now is synced, not that
			   which took the manifest */
		true ->
		if :: wbad -> next_pack() :: else fi;
		ms = ms | (ma & B(w)); ts = ts | (ta & B(w));
#elif defined(BUG_EARLYINDEX) /* the index is written first */
		!wbad ->
#else
		!wbad ->
		ms = ms | (ma & B(took)); ts = ts | (ta & B(took));
#endif
		ph = 4 }
#ifdef FAIL
	:: d_step { ph == 3 && (wbad || failures == 0) ->
		failures = 1;
		if
		:: cd -> ph = 9		/* half a delete: the daemon ends */
		:: else -> ph = 8
		fi }
	/* The commit failed.  It must not come back. */
	:: d_step { ph == 8 && w < NP ->
		if
		:: cm ->
#ifndef BUG_NOBURY	/* nothing is written against it */
			ta = ta | B(w + 1); ts = ts | B(w + 1);
			names = names | B(w);
#endif
			refused = true
		:: else
		fi;
		if :: qm -> refused = true :: else fi;
		throw_away() }
#endif
	:: d_step { ph == 4 ->
		if :: cc -> ic = true :: else fi;
		if :: cm -> im = took; refs = 1 :: else fi;
		if
		:: cv && im == cv && !(cm) &&
#ifndef BUG_MOVEDROP	/* a move is applied over a delete of its batch */
			!cd &&
#endif
#ifndef BUG_MOVEPOISONED /* ... or to where a sync failed since */
			st[vto] != POISONED && (ms & B(vto)) &&
#endif
			true ->
#ifdef BUG_MOVEDROP
			if :: cd -> refs = 0; cd = 0; deleted = true :: else fi;
#endif
			im = vto
		:: else
		fi;
		if
		:: cd ->
			assert(refs >= cd);
			im = 0; refs = refs - cd; deleted = true
		:: else
		fi;
		if
		:: cf && im != cf -> st[cf] = DEAD
		:: else
		fi;
		mk = mk | mmk; tk = tk | mtk; ck = ck || mck;
		if :: cm -> acked = true :: else fi;
		if
		:: cp == 2 || cp == 5 || cp == 7 -> cp++
		:: else
		fi;
		check();
		cc = false; cm = false; cd = 0; cv = 0; cf = 0; ce = false;
		took = 0; mmk = 0; mtk = 0; mck = 0; vto = 0;
		ph = 0 }
#ifdef BUG_TOMBLATE
	:: d_step { ph == 0 && deleted && ta == 0 && w <= NP ->
		ta = B(w) }
#endif
#if defined(BUG_EARLYINDEX)
	:: d_step { ph == 0 && w <= NP -> ms = ms | (ma & B(w)) }
#endif

	/* Compaction of a sealed meta pack, as the code's steps go. */
	:: d_step { cp == 0 && st[1] == SEALED && (file & 2) && w <= NP ->
		from = 1; cp = 1 }
	:: d_step { cp == 0 && st[2] == SEALED && (file & 4) && w <= NP ->
		from = 2; cp = 1 }
	:: d_step { cp == 0 && st[3] == SEALED && (file & 8) && w <= NP ->
		from = 3; cp = 1 }
	:: d_step { cp == 1 && im != from -> cp = 3 }
	:: d_step { cp == 1 && im == from && w <= NP -> cp = 10 }
	/* M was looked up; meanwhile it may go. */
	:: d_step { cp == 10 && w <= NP && !wbad ->
		to = w; ma = ma | B(w); cp = 11 }
	:: d_step { cp == 11 && qv == 0 && cv == 0 && w <= NP ->
		qv = from; vto = to; cp = 2 }
#ifdef BUG_UNLINK	/* the pack goes before the batch that leaves it */
	:: d_step { cp == 2 && ph == 0 ->
		file = file & ~B(from); ma = ma & ~B(from); ms = ms & ~B(from);
		check() }
#endif
	:: d_step { cp == 3 && im == from -> cp = 0; from = 0; to = 0 }
	/* One of its records cannot be read: it stays. */
	:: d_step { cp == 3 -> cp = 0; from = 0; to = 0 }
	:: d_step { cp == 3 && im != from && CARRY(from) && w <= NP && !wbad ->
		to = w; ta = ta | B(w); cp = 4 }
	:: d_step { cp == 3 && im != from && !CARRY(from) -> cp = 6 }
	:: d_step { cp == 4 && w <= NP -> qe = true; cp = 5 }
	/* It is looked whether the copy is good. */
	:: d_step { cp == 6 && w <= NP &&
#ifndef BUG_CARRYPOISONED
		(to == 0 || !CARRY(from) || (ts & B(to))) &&
#endif
		true -> qf = from; cp = 7 }
#ifndef BUG_CARRYPOISONED
	:: d_step { cp == 6 && to != 0 && CARRY(from) && !(ts & B(to)) ->
		cp = 0; from = 0; to = 0 }
#endif
	:: d_step { cp == 8 ->
		if
		:: st[from] == DEAD ->
			file = file & ~B(from);
			ma = ma & ~B(from); ms = ms & ~B(from);
			ta = ta & ~B(from); ts = ts & ~B(from)
		:: else
		fi;
		cp = 0; from = 0; to = 0;
		check() }

	/* Killed, or the power goes, or it ended itself. */
	:: atomic { crashes < CRASHES || ph == 9 ->
		if :: ph == 9 :: else -> crashes++ fi;
		if
		:: true		/* killed */
		:: true ->	/* the power */
			lose(ma, ms, 1); lose(ma, ms, 2); lose(ma, ms, 3);
			lose(ma, ms, 4);
			lose(ta, ts, 1); lose(ta, ts, 2); lose(ta, ts, 3);
			lose(ta, ts, 4);
			if :: ca && !cs -> ca = false :: true fi;
			ms = ma; ts = ta; cs = ca
		fi;
		/* Who waited for a commit was told nothing. */
		if
		:: true -> d_step { start() }
#ifdef REBUILD
		:: true -> d_step { rebuild() }
#endif
		fi;
		d_step {
		forget_memory();
#ifndef BUG_ROLLSYNC
		check();
#else
		assert(!acked || asked || (im != 0 && (ma & B(im)) && ca));
#endif
		if :: im != 0 -> acked = true :: else fi;
		if
		:: w <= NP -> next_pack()
		:: else
		fi } }
	:: (ph == 0 && !(qc || qm || qd || qv || qf || qe)) -> break
	od
}
