/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One chunk that a backup holds, in pack 1, and its damage: a reader, a
 * compactor that copies it to pack 2, a session that may send it again (to
 * pack 3), and the ledger's batches.  Pack 1 may go bad at any moment; it is
 * unlinked when no published entry names it.
 *
 * Claims: the entry is flagged only when its own place is bad; a flagged id is
 * never had; a heal counts nothing, takes the flag away, and leaves a good
 * place; only what cannot be read by a fresh look-up is told as lost; live
 * bytes of each pack are those of the entry.
 *
 *   -DBUG_x takes one rule out
 */
#define GOOD(p) (((p) != 1 || !bad) && !(gone & (1 << (p))))
byte place = 1, refs = 1;	/* the published entry */
bool flag;
bool bad;			/* pack 1's record cannot be read any more */
byte gone;
byte live[4];
/* The open and the closing batch: a put, a move, a report. */
byte oput, cput, omove, cmove, odam, cdam;
bool closing;
bool answered, had;		/* what the session was told, then */
byte n;

/* Puts first, then moves, then reports, each against index and batch. */
inline close() {
	byte np; bool nf; byte was;
	d_step {
		np = place; nf = flag;
		if
#ifdef BUG_NOHEAL	/* what is there is never replaced */
		:: false
#else
		:: cput && flag -> np = cput; nf = false;
			live[place]--; live[np]++
#endif
		:: else
		fi;
#ifdef BUG_HEALCOUNTS	/* a heal is counted as if the id were new */
		if :: cput && flag -> refs = 0 :: else fi;
#endif
		was = np;
		if
		:: cmove &&
#ifndef BUG_MOVE	/* moved whatever it names now */
			place == 1 && np == 1 &&
#endif
			true -> live[1]--; np = 2; live[2]++
		:: else
		fi;
		if
		:: cmove && np == 2 && was == 1 -> nf = false
		:: else
		fi;
		if
		:: cdam &&
#ifndef BUG_FLAG	/* flagged whatever it names now */
			place == cdam && np == cdam &&
#endif
			true -> nf = true
		:: else
		fi;
		place = np; flag = nf;
		cput = 0; cmove = 0; cdam = 0; closing = false;
		assert(!flag || !GOOD(place));
		assert(refs == 1);
		assert(live[1] == (place == 1) && live[2] == (place == 2) &&
			live[3] == (place == 3));
		np = 0; nf = 0; was = 0
	}
}

proctype ledger() {
	do
	:: d_step { !closing && n < 6 && (oput || omove || odam) ->
		cput = oput; cmove = omove; cdam = odam;
		oput = 0; omove = 0; odam = 0; closing = true; n++ }
	:: closing -> close()
	:: n >= 6 && !closing -> break
	od
}

proctype decay() { bad = true }

proctype reader() {
	byte p, q, tries;
	do
	:: tries < 3 ->
		tries++;
		d_step { p = place };
		if
		:: d_step { GOOD(p) -> p = 0; q = 0 }
		:: d_step { !GOOD(p) ->
#ifndef BUG_NORELOOK	/* a failed read is damage without a second look */
			q = place
#else
			q = p
#endif
			};
			if
			:: q == p ->
				/* Told as lost, and to the ledger. */
				d_step { assert(place != p || !GOOD(place));
#ifdef BUG_NORELOOK
				assert(place == p);
#endif
				if :: odam == 0 -> odam = p :: else fi;
				p = 0; q = 0 }
			:: else -> p = 0; q = 0
			fi
		fi
	:: break
	od
}

proctype compactor() {
	byte p;
	d_step { p = place };
	if
	:: p == 1 ->
		if
		/* The copy is made of what could be read. */
#ifdef BUG_BLINDCOPY	/* and of what could not */
		:: true
#else
		:: GOOD(1)
#endif
			-> omove = 2; (omove == 0 && cmove == 0);
#ifdef BUG_BLINDCOPY
			assert(place != 2 || !bad || flag);
#endif
			skip
		:: !GOOD(1)
		fi
	:: else
	fi
}

proctype unlinker() {
#ifdef BUG_UNLINK	/* as soon as a batch that leaves it closes */
	d_step { closing && (cmove || cput) -> gone = gone | 2;
		assert(place != 1) }
#else
	d_step { place != 1 -> gone = gone | 2 }
#endif
}

/* Asks; what is not had it sends. */
proctype session() {
	byte k;
	do
	:: k < 2 -> k++;
		d_step {
#ifdef BUG_HAD		/* what is damaged is had */
			had = (refs > 0);
#else
			had = (refs > 0 && !flag);
#endif
			assert(!had || !flag) };
		if
		:: had
		:: !had -> d_step { if :: oput == 0 -> oput = 3 :: else fi };
			(oput == 0 && cput == 0)
#ifdef BUG_NOHEAL
			; assert(!flag)
#endif
		fi
	:: break
	od
}

init { atomic { live[1] = 1; run ledger(); run decay(); run reader();
	run compactor(); run unlinker(); run session() } }
