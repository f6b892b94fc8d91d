/* SPDX-License-Identifier: Apache-2.0 */
/* err: the results of every function that can fail, and what a person reads. */
#ifndef PROTO_BASE_ERR_H
#define PROTO_BASE_ERR_H

/*
 * A function that can fail returns 0 or one of these.  ERR_SYS is a surprise
 * of the system, logged once where it happened.  Every other code is an
 * answer: the callee is silent and the caller decides.  The numbers travel on
 * the wire (PROTOCOL.md 6): never renumber.
 */
enum {
	ERR_SYS = 1,      /* the system failed us; see the log */
	ERR_NOENT = 2,    /* there is no such thing */
	ERR_EXIST = 3,    /* it is there already */
	ERR_CORRUPT = 4,  /* stored bytes are not what was stored */
	ERR_PROTO = 5,    /* the peer broke the protocol */
	ERR_LIMIT = 6,    /* a named limit is exceeded */
	ERR_DENIED = 7,   /* the key may not do that */
	ERR_BUSY = 8,     /* somebody else holds it */
	ERR_NOSPC = 9,    /* the store is full */
	ERR_CLOSED = 10,  /* the peer or the session is gone */
	ERR_TIMEOUT = 11, /* no answer in time */
	ERR_INVAL = 12,   /* the request makes no sense */
	ERR_UNSUP = 13,   /* a version, feature or format we do not know */
	ERR_MISSING = 14, /* children of a node are not in the store */
	ERR_MAX = 15
};

enum { ERR_TEXT_MAX = 400 };

/* A failure with its explanation: what failed, on what, why, what to do. */
struct err {
	int code;
	char text[ERR_TEXT_MAX];
};

/** err_name(code): a short constant name ("nospc"); "unknown" for others. */
const char *err_name(int code);

/**
 * err_set(e, code, fmt, ...): write the explanation into ${e} (which may be
 * NULL) and return ${code}, so that one can `return err_set(...)`.
 */
int err_set(struct err *e, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/**
 * err_prefix(e, fmt, ...): put "fmt: " before the text that is there, to say
 * on what the failure was.  Returns e->code.
 */
int err_prefix(struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
