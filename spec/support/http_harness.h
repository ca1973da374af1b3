/* SPDX-License-Identifier: MIT
 *
 * http_harness.h: an HTTP server on a thread of its own, with handlers that a spec chooses by path:
 *   /echo           the body            /inspect       what the handler saw, a line per field
 *   /size/N         N bytes             /later/MS      "late" after MS
 *   /hold           never, until harness_release answers all that are held
 *   /silent         as /hold, without on_gone
 *   /status/N       that status         /stream/N/SIZE N pieces of SIZE bytes
 *   /flood          pieces until one is refused; the code is kept
 *   /drip/N/MS      N pieces, one every MS
 *   /stall          holds the thread up, until http_harness_go
 *   /unlisten       closes the listener that was opened last
 */
#ifndef SEGUE_SPEC_HTTP_HARNESS_H
#define SEGUE_SPEC_HTTP_HARNESS_H

#include "core/http/http.h"
#include "core/socket/socket.h"

typedef struct http_harness http_harness;

/* Whether the servers that are started from now on have a poller. */
void http_harness_use_poller(bool yes);
/* Starts thread and server, without a listener. limits may be NULL. */
int http_harness_new(http_harness **out, const segue__http_limits *limits);
int http_harness_listen(http_harness *h, const char *address, unsigned mode,
                        segue__http_listener **listener, segue_error *err);
/* The same with TLS: PEM texts; ca NULL: clients show no certificate. */
int http_harness_listen_tls(http_harness *h, const char *address, const char *cert, const char *key,
                            const char *ca, segue__http_listener **listener, segue_error *err);
/* Another certificate for what connects from now on. */
int http_harness_change_tls(http_harness *h, segue__http_listener *listener, const char *cert,
                            const char *key, const char *ca, segue_error *err);
int http_harness_tls_failures(const http_harness *h);
int http_harness_shortages(const http_harness *h); /* of descriptors */
void http_harness_unlisten(http_harness *h, segue__http_listener *listener);
int http_harness_port(http_harness *h, segue__http_listener *listener);
size_t http_harness_connections(http_harness *h);
int http_harness_requests(const http_harness *h); /* handed to a handler so far */
int http_harness_held(const http_harness *h);     /* not answered and not gone */
int http_harness_gone(const http_harness *h);     /* on_gone calls */
int http_harness_refused(const http_harness *h);  /* code of the last stream_write that failed */
void http_harness_release(http_harness *h);
void http_harness_go(http_harness *h);
/* Begins to close; http_harness_free waits for the end, which must come within 10 s. */
void http_harness_close(http_harness *h, uint64_t grace_ms);
int http_harness_free(http_harness *h); /* handles left on the loop, or -1: it does not end */

/* Opens descriptors until there are no more; returns how many. free_fds closes all of them. */
int http_harness_use_fds(unsigned limit);
void http_harness_free_fds(void);
void http_harness_free_fd(void);           /* one of them; the limit stays */
size_t http_harness_connection_size(void); /* of the one block that a connection is */

#endif
