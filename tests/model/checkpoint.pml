/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One disk of two blocks, its guest, and backups that read what its dirty
 * bitmaps show: a bitmap for each checkpoint, named by a tag that is new each
 * time and that the manifest keeps.  Backups commit, fail, or are killed
 * between any two steps; QEMU is shut down, or killed; the newest backup is
 * deleted (or the repository is that of yesterday); a guest that is off is
 * backed up, too.
 *
 * Claims: what is committed is the disk as it was at the point in time.
 *
 * Left out: the sample (it finds bitmaps that lie), libvirt's chain of bitmaps,
 * of which the sum since a checkpoint does what one bitmap does here.
 *
 *   -DBUG_x takes one rule out
 */
#define TAGS 5
#ifndef WRITES
#define WRITES 3
#endif
#ifndef BACKUPS
#define BACKUPS 4
#endif

byte disk[2];			/* the number of the write that it holds */
bool running = true;
bool there[TAGS];		/* the bitmap is there, and whole */
byte dirty[TAGS];		/* what it shows: a bit a block */
byte writes, kills, offs, ntags, ndeleted;

/* Backups by age: tag and content; 1 is the newest.  Tag 0: none. */
byte nbackups, tag[3], content0[3], content1[3];

inline forget_tag(t) { there[t] = false; dirty[t] = 0 }

inline write(b) {
	d_step { running && writes < WRITES ->
		writes++; disk[b] = writes; i = 1;
		do
		:: i < TAGS && there[i] -> dirty[i] = dirty[i] | (1 << b); i++
		:: i < TAGS && !there[i] -> i++
		:: i >= TAGS -> break
		od;
		i = 0 }
}

proctype guest() {
	byte i;
	do
	:: write(0)
	:: write(1)
	/* Shut down: bitmaps are stored. */
	:: d_step { running && offs < 2 -> running = false; offs++ }
	:: d_step { !running -> running = true }
	/* Killed: what was stored earlier is in use, and so not whole. */
	:: d_step { running && kills < 1 -> kills++; running = false; i = 1;
		do
		:: i < TAGS ->
#ifndef BUG_INUSE	/* taken for whole, with what was stored last */
			there[i] = false;
#endif
			dirty[i] = 0; i++
		:: i >= TAGS -> break
		od;
		i = 0 }
	:: break
	od
}

inline commit(t, c0, c1) {
	tag[2] = tag[1]; content0[2] = content0[1]; content1[2] = content1[1];
	tag[1] = t; content0[1] = c0; content1[1] = c1;
	if :: nbackups < 2 -> nbackups++ :: else fi
}

#define CHANGED(b) (!use || (d & (1 << (b))) != 0)

proctype agent() {
	byte k, i, t, n, d, p0, p1, v0, v1, c0, c1;
	bool use, off;
	do
	:: k < BACKUPS -> k++;
		/* The VM is held: its newest backup stays what it is. */
		d_step { use = false; t = 0; p0 = 0; p1 = 0;
			if
			:: nbackups > 0 -> t = tag[1]; p0 = content0[1];
				p1 = content1[1]
			:: else
			fi };
		/* What others left goes. */
		d_step { i = 1;
			do
			:: i < TAGS && i != t ->
#ifndef BUG_ANYNEW
				if :: running -> forget_tag(i) :: else fi;
#endif
				i++
			:: i < TAGS && i == t -> i++
			:: i >= TAGS -> break
			od; i = 0 };
		if
		:: d_step { !running -> off = true };
			/* Whoever holds the image keeps it off. */
			d_step { use = t != 0 && there[t]; d = dirty[t];
				v0 = disk[0]; v1 = disk[1];
				if
				:: !running ->
					c0 = (CHANGED(0) -> v0 : p0);
					c1 = (CHANGED(1) -> v1 : p1);
					assert(c0 == v0 && c1 == v1);
					/* The old bitmap has all since this
					 * backup, too. */
					n = (use -> t : 0);
					commit(n, c0, c1);
					n = 0
				:: else
				fi; off = false }
		:: running && ntags < TAGS - 1 ->
			/* The point in time: one transaction. */
			d_step { ntags++; n = ntags;
				use = t != 0 && there[t]; d = dirty[t];
#ifdef BUG_ANYNEW	/* the newest bitmap, whoever's it is */
				i = n - 1;
				do
				:: i > 0 && there[i] -> use = nbackups > 0;
					d = dirty[i]; break
				:: i > 0 && !there[i] -> i--
				:: i == 0 -> break
				od; i = 0;
#endif
				v0 = disk[0]; v1 = disk[1];
#ifdef BUG_CLEAR	/* the old bitmap begins anew, before the commit */
				dirty[t] = 0;
#endif
#ifndef BUG_LATE	/* the new one begins after the point in time */
				there[n] = running; dirty[n] = 0;
#endif
			};
#ifdef BUG_LATE
			d_step { there[n] = running; dirty[n] = 0 };
#endif
#ifdef BUG_LOOKLATE	/* what is dirty is looked at after it */
			d_step { d = dirty[n] };
#endif
			/* Reading takes its time; scratch keeps the view. */
			d_step { c0 = (CHANGED(0) -> v0 : p0);
				c1 = (CHANGED(1) -> v1 : p1) };
			if
			:: d_step { assert(c0 == v0 && c1 == v1);
				commit(n, c0, c1) };
				if
				:: d_step { if :: t != 0 -> forget_tag(t)
					:: else fi }
				:: true	/* killed before that */
				fi
			:: forget_tag(n)
			:: true		/* killed */
			fi;
			n = 0
		:: running && ntags >= TAGS - 1 -> break
		fi;
		d_step { d = 0; v0 = 0; v1 = 0; c0 = 0; c1 = 0; use = false }
	:: d_step { nbackups == 2 && ndeleted < 1 -> ndeleted++;
		tag[1] = tag[2]; content0[1] = content0[2];
		content1[1] = content1[2]; nbackups = 1 }
	:: break
	od
}

init { atomic { run guest(); run agent() } }
