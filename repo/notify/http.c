/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/notify/http.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/log.h"

enum {
	MEMORY_MAX = 16 << 10 /* of a connection: a request with its headers */
};

struct http {
	const struct http_page *pages;
	unsigned npages;
	void *arg;
	struct MHD_Daemon *daemon;
};

static enum MHD_Result
answer(struct MHD_Connection *c, int status, const char *type, const void *data,
    size_t len)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(
	    len, (void *)(uintptr_t)data, MHD_RESPMEM_MUST_COPY);
	enum MHD_Result rc;

	if (r == NULL)
		return MHD_NO;
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	rc = MHD_queue_response(c, (unsigned)status, r);
	MHD_destroy_response(r);
	return rc;
}

static enum MHD_Result
say(struct MHD_Connection *c, int status, const char *text)
{
	return answer(
	    c, status, "text/plain; charset=utf-8", text, strlen(text));
}

static enum MHD_Result
make(struct http *h, struct MHD_Connection *c, const struct http_page *p)
{
	struct buf page = { 0 };
	int status = p->make(h->arg, &page);
	enum MHD_Result rc =
	    answer(c, status, p->type, buf_cstr(&page), page.len);

	buf_fini(&page);
	return rc;
}

static enum MHD_Result
handle(void *arg, struct MHD_Connection *c, const char *path,
    const char *method, const char *version, const char *data, size_t *len,
    void **state)
{
	static int seen;
	struct http *h = arg;

	(void)version;
	(void)data;
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 &&
	    strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return say(c, MHD_HTTP_METHOD_NOT_ALLOWED,
		    "only GET and HEAD are understood\n");
	/* First the headers only; then a body, which nobody wants. */
	if (*state == NULL) {
		*state = &seen;
		return MHD_YES;
	}
	if (*len > 0) {
		*len = 0;
		return MHD_YES;
	}
	for (unsigned i = 0; i < h->npages; i++)
		if (strcmp(path, h->pages[i].path) == 0)
			return make(h, c, &h->pages[i]);
	return say(c, MHD_HTTP_NOT_FOUND, "there are /metrics and /healthz\n");
}

int
http_start(int fd, const struct http_page *pages, unsigned n, void *arg,
    struct http **out)
{
	struct http *h = xcalloc(1, sizeof(*h));

	h->pages = pages;
	h->npages = n;
	h->arg = arg;
	h->daemon = MHD_start_daemon(
	    MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ITC, 0,
	    NULL, NULL, handle, h, MHD_OPTION_LISTEN_SOCKET, fd,
	    MHD_OPTION_CONNECTION_LIMIT, (unsigned)HTTP_CONNECTIONS_MAX,
	    MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)HTTP_IDLE_S,
	    MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY_MAX,
	    MHD_OPTION_END);
	if (h->daemon == NULL) {
		close(fd);
		free(h);
		return log_sys("http: start");
	}
	*out = h;
	return 0;
}

void
http_stop(struct http *h)
{
	if (h == NULL)
		return;
	MHD_stop_daemon(h->daemon);
	free(h);
}
