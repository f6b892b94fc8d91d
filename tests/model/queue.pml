/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of two jobs of one VM: handing over, loss of the control lane,
 * coming back, cancel, begin, ends, in any order.  repo/DESIGN.md 16.
 *
 * There is one agent with room for both, and another host that has the VM, too,
 * and does at once, and well, what it is given.  Each handing over starts a
 * process, by its task.  A step is what the queue's mutex covers, or one of the
 * agent's.
 *
 * Claims: a job begins once at most, and not after it has ended; it ends once;
 * on the agent's host two processes are never at the VM at once; on two hosts
 * no two jobs that run.
 *
 * Left out: several VMs and agents, limits, the number of tries (here: so many
 * tasks as there are).  That an agent with processes that nobody knows gets
 * nothing ends after a minute in the code; here it does not.
 *
 * With -DRESTART the agent may forget its processes while they go on, as when it
 * is killed without them: all but the claim on two processes still holds.
 *
 * Switches, each of which takes out one rule:
 *	EARLY     the VM is free when the job has ended, not its process
 *	UNCHECKED begin looks only whether the task is known
 *	STRAY     an agent gets more while it has processes that nobody knows
 *	ANSWER    "running" lacks what the call before was answered with
 *	TWICE     a process that ends ends its job, begun or not
 */
#ifndef TASKS
#define TASKS 4
#endif
#define JOBS 2

mtype = { waiting, given, begun, leaving, out };     /* entry */
mtype = { queued, running, ended };                  /* job */
mtype = { nothing, alive, working, cleaning, dead }; /* process */

mtype entry[JOBS] = waiting;
mtype job[JOBS] = queued;
byte begins[JOBS], ends[JOBS];
byte task[JOBS];           /* what the queue knows the job by; 0: none */
bool told[JOBS];           /* the agent was answered with it */
bool last[JOBS];           /* waits; a lost agent may come with task[] */
bool elsewhere;            /* the other host has one */
byte its;                  /* which */
mtype process[TASKS + 1] = nothing;
byte whose[TASKS + 1];      /* whose job the process does */
bool listed[TASKS + 1];    /* the agent has it in "running" */
byte used;                 /* tasks so far */
bool up = true;            /* the control lane */
bool given_up;
byte inflight;             /* an answer that has not arrived */

inline end_job(j) {
	job[j] = ended;
	ends[j]++;
	assert(ends[j] == 1)
}

/* Nobody of the queue's is at the VM. */
#ifdef BUG_EARLY
#define in_way(k) (entry[k] == given || entry[k] == begun)
#else
#define in_way(k) (entry[k] == given || entry[k] == begun || \
	(entry[k] == leaving && !given_up))
#endif
#define vm_free (!in_way(0) && !in_way(1) && !elsewhere)

inline gone(j) { entry[j] = out; task[j] = 0; told[j] = false }

inline back(j, keep) {
	entry[j] = waiting;
	told[j] = false;
	last[j] = keep;
	if
	:: keep -> skip
	:: else -> task[j] = 0
	fi
}

/* The agent says what it has: what else it should have is gone. */
inline reconcile(j) {
	if
	:: entry[j] == waiting && last[j] && task[j] != 0 &&
	   listed[task[j]] && vm_free ->
		entry[j] = given;
		told[j] = true;
		last[j] = false
	:: entry[j] == given && told[j] && !listed[task[j]] -> back(j, false)
	:: entry[j] == leaving && told[j] && !listed[task[j]] -> gone(j)
	:: else -> skip
	fi
}

/* A process that nobody knows keeps the agent from getting more. */
#define known(t) ((task[0] == t && entry[0] != waiting && entry[0] != out) || \
	(task[1] == t && entry[1] != waiting && entry[1] != out))
#define stray(t) (t <= used && listed[t] && !known(t))
#ifdef BUG_STRAY
#define strays false
#elif TASKS > 3
#define strays (stray(1) || stray(2) || stray(3) || stray(4))
#else
#define strays (stray(1) || stray(2) || stray(3))
#endif

inline start_process(t) {
	/* The claim: it alone is at the VM. */
	byte o = 1;

	do
	:: o <= TASKS ->
#ifndef RESTART
		assert(process[o] == nothing || process[o] == dead);
#endif
		o++
	:: else -> break
	od;
	process[t] = alive;
	listed[t] = true
}

inline begin_job(j) {
	assert(job[j] == queued);
	job[j] = running;
	begins[j]++;
	assert(begins[j] == 1);
	assert(job[1 - j] != running)
}

inline lose(j) {
	if
	:: entry[j] == given && !told[j] -> back(j, false)
	:: else -> skip
	fi
}

inline give_up(j) {
	if
	:: entry[j] == given -> back(j, true)
	:: else -> skip
	fi
}

#define over (entry[0] == out && entry[1] == out)

/* What happens to a job. */
proctype about(byte j) {
	do
	/* It is handed over, */
	:: atomic { entry[j] == waiting && up && vm_free && !strays &&
	   used < TASKS ->
		used++;
		task[j] = used;
		entry[j] = given;
		last[j] = false;
		told[j] = false;
		whose[task[j]] = j
	   }
	/* to the other host, */
	:: atomic { entry[j] == waiting && vm_free ->
		entry[j] = begun;
		elsewhere = true;
		its = j;
		task[j] = 0;
		last[j] = false;
		begin_job(j)
	   }
	/* which has done it, or what is left of it there is gone; */
	:: atomic { elsewhere && its == j ->
		if
		:: job[j] == running -> end_job(j)
		:: else -> skip
		fi;
		elsewhere = false;
		gone(j)
	   }
	/* the agent is told of it; */
	:: atomic { entry[j] == given && !told[j] && up && inflight == 0 ->
		told[j] = true;
		inflight = task[j]
	   }
	/* it is cancelled. */
	:: atomic { job[j] != ended && (entry[j] == waiting ||
	   (entry[j] == given && !told[j])) ->
		end_job(j);
		gone(j)
	   }
	:: atomic { job[j] != ended && !(elsewhere && its == j) &&
	   ((entry[j] == given && told[j]) || entry[j] == begun) ->
		end_job(j);
		entry[j] = leaving
	   }
	:: over -> break
	od
}

/* The control lane, and the agent at its end. */
proctype lane() {
	do
	:: atomic { inflight != 0 && up ->
		start_process(inflight);
		inflight = 0
	   }
#ifdef BUG_ANSWER
	:: atomic { up -> reconcile(0); reconcile(1) }
#else
	:: atomic { up && inflight == 0 -> reconcile(0); reconcile(1) }
#endif
#ifdef RESTART
	:: atomic { !up ->
		byte o = 1;

		do
		:: o <= TASKS -> listed[o] = false; o++
		:: else -> break
		od
	   }
#endif
	:: atomic { up ->
		up = false;
		inflight = 0;
		lose(0);
		lose(1)
	   }
	:: atomic { !up && !given_up ->
		given_up = true;
		give_up(0);
		give_up(1)
	   }
	:: atomic { !up ->
		up = true;
		given_up = false;
		reconcile(0);
		reconcile(1)
	   }
	:: over -> break
	od
}

/* A process on the agent's host, and its `ended`. */
proctype child(byte t) {
	byte j;

	do
	:: atomic { process[t] == alive ->
		j = whose[t];
		if
#ifdef BUG_UNCHECKED
		:: task[j] == t ->
#else
		:: task[j] == t && entry[j] == given && told[j] ->
#endif
			entry[j] = begun;
			begin_job(j);
			process[t] = working
		:: else -> process[t] = cleaning
		fi
	   }
	/* Its work has an outcome, or its lanes are lost. */
	:: atomic { process[t] == working ->
		process[t] = cleaning;
		if
		:: task[j] == t && entry[j] == begun ->
			end_job(j);
			entry[j] = leaving
		:: else -> skip
		fi
	   }
	:: atomic { process[t] == cleaning || process[t] == alive ->
		process[t] = dead
	   }
	:: atomic { process[t] == dead && listed[t] && up && inflight == 0 ->
		listed[t] = false;
		j = whose[t];
		if
		:: task[j] != t || entry[j] == waiting -> skip
#ifdef BUG_TWICE
		:: task[j] == t && entry[j] != waiting ->
			end_job(j);
			gone(j)
#else
		:: task[j] == t && entry[j] == given ->
			end_job(j);
			gone(j)
		:: task[j] == t && entry[j] == leaving -> gone(j)
		:: else -> skip
#endif
		fi
	   }
	:: over -> break
	od
}

init {
	byte t = 1;

	atomic {
		run about(0);
		run about(1);
		run lane();
		do
		:: t <= TASKS -> run child(t); t++
		:: else -> break
		od
	}
}
