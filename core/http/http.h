/* SPDX-License-Identifier: MIT
 *
 * http.h: one HTTP/1.1 server (RFC 9112) for the admin API and the ingress. It belongs to one libuv
 * loop and is used on that loop's thread only. It owns every time limit and every buffer: a request
 * is handed over complete (head and body) and answered whenever the handler likes. SIGPIPE must be
 * ignored, or blocked on that thread.
 */
#ifndef SEGUE_HTTP_HTTP_H
#define SEGUE_HTTP_HTTP_H

#include "../os/error.h"
#include "../os/mem.h"
#include "tls.h"

struct uv_loop_s;

#define SEGUE__HTTP_HEAD_BYTES 16384
#define SEGUE__HTTP_BODY_BYTES (1 << 20)
#define SEGUE__HTTP_HEAD_MS 10000
#define SEGUE__HTTP_BODY_MS 30000
#define SEGUE__HTTP_IDLE_MS 75000
#define SEGUE__HTTP_WRITE_MS 30000

/* Zero fields mean the default: one above, or that in brackets. Times cover the whole of a thing,
 * never one read. */
typedef struct segue__http_limits {
  uint32_t head_bytes;   /* request line and headers -> 431 */
  uint32_t header_count; /* [100] -> 431 */
  uint64_t body_bytes;   /* -> 413 */
  /* [1024], past it 503 and close. Unix sockets have a limit of the same size of their own: clients
   * that crowd the ports do not lock the operator out. */
  uint32_t connections;
  uint32_t requests_per_connection; /* [0 = no limit] */
  /* Accepting pauses while fewer than one in this many file descriptors of the process is free;
   * unix sockets leave half as many free [0 = none are kept free] */
  uint32_t spare_share;
  uint64_t head_ms;         /* first byte to end of head -> 408 */
  uint64_t body_ms;         /* end of head to end of body -> 408 */
  uint64_t idle_ms;         /* between requests */
  uint64_t write_ms;        /* a client that does not read its answer */
  uint32_t write_bytes;     /* most bytes waiting for a slow client of a stream [1 MiB] */
  bool half_closed_streams; /* a stream continues when its client shuts its side; else it ends */
} segue__http_limits;

typedef struct segue__http_server segue__http_server;
typedef struct segue__http_listener segue__http_listener;
typedef struct segue__http_request segue__http_request;

typedef struct segue__http_text {
  const char *s; /* not terminated */
  size_t len;
} segue__http_text;

typedef struct segue__http_header {
  segue__http_text name, value; /* value trimmed of white space */
} segue__http_header;

/* A request: everything borrowed until it is answered. */
struct segue__http_request {
  segue__http_text method; /* "GET" */
  const char *path;        /* decoded but for %2F and %25, normalised (target.c), terminated */
  segue__http_text query;  /* raw, without "?" */
  const segue__http_header *headers;
  size_t header_count;
  segue__http_text host; /* the one Host header, or authority of an absolute target */
  segue__http_text body;
  char peer[64]; /* "127.0.0.1:53412", "unix:pid=71,uid=0" */
  int minor;     /* HTTP/1.0 or HTTP/1.1 */
  bool local;    /* came in on a unix socket */
  bool tls;
  segue__tls_client *client; /* by its certificate; NULL: it showed none */
  void *auth;                /* of the listener it came in by: segue__http_listener_set */
  char who[128];  /* empty before; the handler writes the client's name, as far as it is known */
  uint64_t about; /* 0 before; the handler writes the reload that its answer reports */
  void *user;     /* the handler's */
  /* Set before on_gone or on_left: the status that the server sent in the place of its handler, and
   * how many bytes of a body; 0: it sent nothing. */
  int cut;
  size_t cut_bytes;
  /* Set by the handler before it returns if it answers later: the client left, or the server
   * closes. Called from the loop, never inside another call. After it the request is gone and must
   * not be answered. A client that only shut its writing side (FIN) has not left. Without it the
   * answer to a client that left is dropped. */
  void (*on_gone)(segue__http_request *request);
  /* Where on_gone is not set, may be: the client left; the request stays until it is answered, also
   * when the server is gone by then, and may be answered on any thread from now on. */
  void (*on_left)(segue__http_request *request);
  /* Of a stream, may be: the client has taken everything that was written. */
  void (*on_drained)(segue__http_request *request);
};

/* Header by name (case does not matter), or NULL. */
const segue__http_text *segue__http_header_get(const segue__http_request *request,
                                               const char *name);
/* Query parameter, percent-decoded into buf; false if absent or too long. */
bool segue__http_query_get(const segue__http_request *request, const char *name, char *buf,
                           size_t size);

/* Sends the answer; exactly once, during the handler or later on the same thread. content_type
 * NULL: none. headers: extra lines "Name: value\r\n...", or NULL. HEAD gets no body. Copies the
 * data that it cannot send at once. */
void segue__http_respond(segue__http_request *request, int status, const char *content_type,
                         const char *headers, const void *body, size_t len);
/* Responds with the buffer and frees it; 500 if the buffer ran out of memory. */
void segue__http_respond_buf(segue__http_request *request, int status, const char *content_type,
                             const char *headers, segue__buf *body);
/* Returns whether the client prefers JSON to text. by_default: the answer for a client without a
 * preference. */
bool segue__http_prefers_json(const segue__http_request *request, bool by_default);
bool segue__http_text_is(segue__http_text text, const char *s); /* letters in either case */
bool segue__http_method_is(const segue__http_request *request, const char *method);
/* Returns false for a status whose answer has no body. */
bool segue__http_has_body(int status);
/* Makes the coming answer the last one on its connection. If the client has sent more requests
 * already, call it for those too. */
void segue__http_last(segue__http_request *request);
/* Answers piece by piece (chunked; HTTP/1.0 until the connection closes). write returns UV_ENOBUFS
 * once the client is write_bytes behind, or another negative code when it left: the connection is
 * closed, and on_gone is called a little later unless the stream was ended meanwhile. A client that
 * shuts its side (FIN) while a stream is under way has left, unless half_closed_streams. */
void segue__http_stream_begin(segue__http_request *request, int status, const char *content_type,
                              const char *headers);
int segue__http_stream_write(segue__http_request *request, const void *data, size_t len);
/* How much of it the client has still to take; 0 if it left. */
size_t segue__http_stream_behind(const segue__http_request *request);
/* Returns whether the connection of a request is lost. on_gone and on_left report that later. */
bool segue__http_is_lost(const segue__http_request *request);
void segue__http_stream_end(segue__http_request *request);
/* Instead of end: closes the connection in the middle of the answer, so that the client does not
 * take the part for the whole. */
void segue__http_stream_abort(segue__http_request *request);

int segue__http_server_new(segue__http_server **out, struct uv_loop_s *loop,
                           const segue__http_limits *limits,
                           void (*on_request)(void *data, segue__http_request *request),
                           void *data);
/* The same in two steps, for a loop of another thread: make on any thread, begin on that one. One
 * that did not begin is dropped. */
int segue__http_server_make(segue__http_server **out, const segue__http_limits *limits,
                            void (*on_request)(void *data, segue__http_request *request),
                            void *data);
void segue__http_server_begin(segue__http_server *server, struct uv_loop_s *loop);
void segue__http_server_drop(segue__http_server *server);
/* Other limits from now on, but for the count of headers, which stays. */
void segue__http_server_limit(segue__http_server *server, const segue__http_limits *limits);
struct segue__poller;
/* Before its first listener: its thread runs this poller, which then watches the listeners on ports
 * and their connections. */
void segue__http_server_poll(segue__http_server *server, struct segue__poller *poller);
/* Before it begins: the limit of connections counts these of several servers, which outlive them;
 * total is atomic. */
void segue__http_server_share(segue__http_server *server, size_t *total);
/* Closes listeners at once; connections after the answer they wait for, idle ones a moment later if
 * they do not ask again; all at the latest a moment after grace_ms, when the answer is 503; then
 * cb, and the server is freed. Closing again only shortens the time. */
/* In a child after fork: closes the descriptors of all listeners and connections by number, and
 * nothing else: the parent serves them. */
void segue__http_server_abandon(segue__http_server *server);
void segue__http_server_close(segue__http_server *server, uint64_t grace_ms, void (*cb)(void *data),
                              void *data);
size_t segue__http_connections(const segue__http_server *server);
/* Events for logs and metrics; each may be NULL. */
typedef struct segue__http_events {
  /* A request is answered, or begins to be (streams); status 0: its client left before. The request
   * must only be looked at. */
  void (*on_answer)(void *data, const segue__http_request *request, int status);
  /* A handshake failed. auth: of the listener. */
  void (*on_tls_failure)(void *data, const char *peer, void *auth, const char *why);
  /* Received bytes were no request, or more than the limits allow: the server answered this
   * status. */
  void (*on_refusal)(void *data, const char *peer, int status);
  /* A connection is about to be taken up by the listener that it came to. */
  void (*on_connection)(void *data);
  /* Too few descriptors are free: clients wait in the kernel's queue. Called once, until more are
   * free. */
  void (*on_scarce)(void *data);
  /* A connection past the limit is answered 503. */
  void (*on_crowd)(void *data, const char *peer);
} segue__http_events;
void segue__http_server_watch(segue__http_server *server, const segue__http_events *events);

/* A listener accepts on a descriptor of a listening socket (core/socket), which it takes over, also
 * when new fails. Listeners of several servers may have duplicates of one socket, which then share
 * what arrives, `accepts` at a time (0: many). is_local: it is a unix socket. new, on any thread;
 * begin, on the thread of the server's loop, which cannot be repeated if it fails; drop, for one
 * that did not begin. NULL allowed. */
int segue__http_listener_new(segue__http_listener **out, int fd, bool is_local, int accepts);
int segue__http_listener_begin(segue__http_listener *http_listener, segue__http_server *server);
void segue__http_listener_drop(segue__http_listener *http_listener);
/* Accepts the clients that have connected before, which the kernel would reset, and closes the
 * descriptor. Connections continue. NULL allowed. */
void segue__http_listener_close(segue__http_listener *http_listener);
/* How a listener closes: it keeps the descriptor for ms longer, then accepts once more
 * if may_accept returns true, closes the descriptor, and calls on_closed. Call it right before the
 * close; on_closed is called in any case. */
typedef struct segue__http_linger {
  uint64_t ms;
  bool (*may_accept)(void *data);
  void (*on_closed)(void *data);
  void *data;
} segue__http_linger;
void segue__http_listener_linger(segue__http_listener *http_listener,
                                 const segue__http_linger *linger);
/* Sets the TLS context of connections that are accepted from now on (tls NULL: plain HTTP; takes a
 * reference), and the auth data of their requests. All requests get auth, also on connections that
 * are open; free_auth gets it when the listener and its last connection are gone, or when another
 * one replaces it. */
void segue__http_listener_set(segue__http_listener *http_listener, segue__tls_context *tls,
                              void *auth, void (*free_auth)(void *auth));

#endif
