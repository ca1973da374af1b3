/* SPDX-License-Identifier: MIT
 *
 * ingress_internal.h: the ingress, internal to this folder. A listener is one address, bound once.
 * On each worker thread (a thread with a loop of its own) it has a thread listener: an HTTP server
 * with a duplicate of the socket. A listener has a route, which can be replaced at any time without
 * a message to the worker threads: they read it before each request.
 */
#ifndef SEGUE_INGRESS_INTERNAL_H
#define SEGUE_INGRESS_INTERNAL_H

#include <pthread.h>
#include <time.h>
#include <uv.h>

#include "../http/http.h"
#include "../os/poller.h"
#include "../socket/socket.h"
#include "access_log_writer.h"
#include "ingress.h"

typedef struct segue__worker_thread segue__worker_thread;
typedef struct segue__listener segue__listener;

typedef struct segue__route {
  int refs; /* atomic */
  segue_gate *gate;
  segue__tls_context *tls; /* NULL: plain */
  segue__access_log *log;  /* NULL: no access log */
  bool generation_header;
  segue__http_limits limits;
  char module[]; /* name of the module behind it */
} segue__route;

enum { SEGUE__CLASSES = 6 }; /* of answers: 1xx to 5xx; 0: the client left */

typedef struct segue__thread_listener {
  segue__worker_thread *worker;
  segue__listener *listener; /* a reference */
  segue__socket_lease lease; /* of the thread; released under the lock of the listener */
  segue__http_server *server;
  segue__http_listener
      *http_listener;       /* of the worker thread; NULL: it is closing, or cannot be watched */
  segue__route *route;      /* of the worker thread */
  segue__route *next_route; /* atomic: the worker thread takes it */
  uint64_t answers[SEGUE__CLASSES];    /* atomic, written by the worker thread */
  bool closing;                        /* of the worker thread */
  uint64_t handshakes, crowd;          /* likewise: failed, and rejected connections */
  uint64_t scarce, scarce_reported_ms; /* likewise: lack of descriptors: count, last log line */
  bool begin, end, queued; /* under the lock of the worker thread: requested operations */
  uint64_t grace_ms;       /* likewise: for the end */
  struct segue__thread_listener *command_next, *next; /* commands; all of the worker thread */
} segue__thread_listener;

struct segue__listener {
  int refs; /* atomic: counts the ingress, the thread listeners, and requests whose client left */
  /* Atomic. A request whose client left uses memory until its module has answered it. So it still
   * counts as a connection: otherwise a client that sends requests and resets them has no limit. */
  size_t connections, left; /* left: the part of connections that are only such requests */
  segue__address address;
  segue__socket_lease lease; /* of the control thread, until it is closed */
  char *key;                 /* normalised address from the policy: its port may be 0 */
  char *module;              /* the module that it was opened for */
  segue__thread_listener *
      *thread_listeners; /* one for each worker thread, which owns it from begin on */
  size_t thread_listener_count;
  segue__route *route, *staged, *before; /* live; of the staged policy; before the flip */
  bool wanted, open, live;
  segue__tls_notice notice;
  segue__listener *next;

  /* Under the lock, like the thread listeners once it is open: NULL when their worker thread is
   * done. */
  pthread_mutex_t lock;
};

/* One call of another thread about a request. */
typedef struct segue__answer_chunk {
  struct segue__answer_chunk *next;
  enum { SEGUE__WHOLE, SEGUE__HEAD, SEGUE__DATA } kind;
  int status;
  const char *content_type, *headers, *body; /* stored behind the struct */
  size_t len;
  char memory[];
} segue__answer_chunk;

/* A function that waits until the client has read everything that was written, or the answer ends.
 */
typedef struct segue__await {
  void (*cb)(void *data, int status); /* NULL: none waits */
  void *data;
} segue__await;

struct segue_request {
  segue_arrival arrival; /* first */
  segue__worker_thread *worker;
  segue__thread_listener *thread_listener; /* NULL: the client left */
  segue__listener
      *counted; /* NULL until the client leaves: then counts as a connection of this listener */
  segue__http_request *http; /* NULL: the client left while the request waited */
  segue_gate *gate;
  segue__answer_chunk *ready; /* of the worker thread: taken from the queue, not yet written */
  bool generation_header, streaming;
  bool gone;           /* atomic */
  bool apart;          /* atomic: it has chunks of other threads */
  segue_request *next; /* in the pool, or in the inbox */
  int answered;        /* status of the answer, for a stream */
  uint64_t began_ns;   /* 0: no access log */
  uint64_t sent;       /* bytes of a stream */
  void (*left_fn)(
      void *data); /* of the worker thread: called when the client has left; may be NULL */
  void *left_data;

  /* Under the lock of the worker thread. */
  bool posted, entered, ending, cut; /* cut: the answer ends in the middle */
  int status;                        /* result of entering the gate */
  segue__answer_chunk *first, *last;
  size_t flight; /* bytes of chunks that the server has not got */
  segue__await await;
};

/* Each runs on the control thread, once: on_empty after stop, when the last connection has closed;
 * on_end after end, when the thread has ended. */
typedef struct segue__worker_thread_events {
  void (*on_empty)(void *data);
  void (*on_end)(void *data);
  void *data;
} segue__worker_thread_events;

/* A second in the format of access logs. */
typedef struct segue__stamp {
  time_t at;
  char combined[48], json[32];
} segue__stamp;

struct segue__worker_thread {
  segue__loop *control; /* receives the notice of its end */
  const segue__logger *log;
  pthread_t thread;
  uv_loop_t uv;
  segue__poller *poller; /* in front of uv */
  segue__loop *loop;     /* on libuv; also for modules that run on this thread */
  uv_async_t async;
  segue__thread_listener *thread_listeners;
  segue_request *pool;
  size_t pooled, out;           /* requests: free, in use */
  segue_request *handled;       /* its handler runs and has not answered it */
  segue__buf headers;           /* of the answer that is being written */
  segue__buf line;              /* the line of an access log that is being built */
  segue__stamp stamp;           /* its time */
  segue__line_queue *log_lines; /* set before the first route with an access log */
  segue__message message, empty_message;
  bool reported_empty;
  segue__worker_thread_events events;
  const segue_gate *inside; /* atomic: gate of the module whose handler runs; NULL: none */

  /* Checks whether the thread returns from modules. Fields of the control thread; the flag that the
   * worker thread sets is atomic. */
  segue__message probe;
  uint64_t probed_ms;
  bool probed, answered; /* the first without the second: the message is posted */
  bool is_reported;      /* reported as busy since the message was posted */
  bool is_empty, stuck;

  pthread_mutex_t lock;
  segue__thread_listener *command, *last_command;
  segue_request *inbox, *last;
  uint64_t stop_grace_ms;
  bool stop, over, closed; /* closed: the inbox is not read any more */
  size_t orphans;          /* requests that are not answered after it closed */
  bool disowned;           /* the ingress is freed: the last orphan frees this */
};

struct segue__ingress {
  segue__ingress_options options;
  segue__worker_thread **workers;
  size_t worker_count, workers_empty, workers_ended, workers_stuck;
  segue__timer watch; /* checks whether the worker threads return */
  uint64_t patience_ms;
  segue__listener *listeners;
  segue__access_log_writer *log_writer; /* NULL: no access log yet */
  segue__listener *leaving;             /* closed listeners that worker threads may still have */
  bool closing;
  void (*cb)(void *data);
  void *data;
};

/* validate.c: parses "http://HOST:PORT"; tls: it is "https://...". */
int segue__listen_parse(const char *url, segue__address *out, bool *tls, segue_error *err);

/* ingress.c */
void segue__listener_unref(segue__listener *listener);
/* Worker thread: it has closed its listener. */
void segue__listener_left(segue__listener *listener, segue__thread_listener *thread_listener);
void segue__listener_done(
    segue__listener *listener,
    const segue__thread_listener *thread_listener); /* freed after this call */
void segue__route_unref(segue__route *route);

/* stuck_threads.c: from now on a worker thread that does not return from a module is reported once
 * to on_busy. */
int segue__worker_threads_watch_calls(segue__ingress *ingress);
/* Replaces the watch of calls: abandons worker threads that do not respond for longer than grace_ms
 * and a little more, until the timer is stopped, which is before they are asked to end. */
void segue__worker_threads_watch(segue__ingress *ingress, uint64_t grace_ms);

/* worker_thread.c */
int segue__worker_thread_start(segue__worker_thread **out, segue__loop *control,
                               const segue__logger *log, const segue__worker_thread_events *events);
void segue__worker_thread_stop(segue__worker_thread *worker, uint64_t grace_ms);
void segue__worker_thread_end(
    segue__worker_thread *worker); /* call it when it is stopped and empty */
void segue__worker_thread_free(
    segue__worker_thread *worker); /* call it after its end; requests may still use it */
/* Posts a begin or an end to the worker thread, which owns the thread listener from begin on. */
void segue__thread_listener_begin(segue__thread_listener *thread_listener);
void segue__thread_listener_end(segue__thread_listener *thread_listener, uint64_t grace_ms);
void segue__thread_listener_enter_by(segue__thread_listener *thread_listener,
                                     segue__route *route); /* takes a reference */
void segue__thread_listener_drop(
    segue__thread_listener *thread_listener); /* frees one that did not begin; NULL allowed */
segue__route *
segue__thread_listener_entry(segue__thread_listener *thread_listener); /* worker thread */
bool segue__worker_thread_is_here(const segue__worker_thread *worker);
/* Call it with the lock held; it releases the lock. The worker thread processes the request soon.
 * Returns false if the worker thread has closed; then nothing happens. */
bool segue__worker_thread_post_unlock(segue_request *request);

/* request.c, on the worker thread */
void segue__ingress_request_arrived(void *thread_listener, segue__http_request *http);
void segue__ingress_request_look(segue_request *request); /* it was posted */

/* access.c, on the worker thread: writes one line if the route has an access log. */
typedef struct segue__access {
  const char *peer, *module;
  int status;
  uint64_t bytes, took_ns, generation; /* of the body; generation 0: the request reached none */
} segue__access;
void segue__access_note(segue__thread_listener *thread_listener, const segue__http_request *http,
                        const segue__access *access); /* http NULL: the request was not parsed */

/* headers.c. check: 0 or SEGUE_EUSAGE. lines: "Name: value\r\n" of each header, and of the
 * generation unless that is 0; 0 or UV_ENOMEM. */
int segue__answer_check(const segue_answer *answer);
int segue__answer_lines(const segue_answer *answer, uint64_t generation, segue__buf *lines);

#endif
