/* SPDX-License-Identifier: MIT
 *
 * ingress_internal.h: the ingress from the inside. A port is one address, bound once. On each lane
 * (a data thread with a loop of its own) it has an outlet: an HTTP server with a duplicate of the
 * socket. A port leads to an entry, which can be exchanged at any time without a message to the
 * lane: the lane reads it before each request.
 */
#ifndef SEGUE_INGRESS_INTERNAL_H
#define SEGUE_INGRESS_INTERNAL_H

#include <pthread.h>
#include <time.h>
#include <uv.h>

#include "../http/http.h"
#include "../socket/socket.h"
#include "access_log_writer.h"
#include "ingress.h"

typedef struct segue__worker_thread segue__worker_thread;
typedef struct segue__listener segue__listener;

typedef struct segue__route {
  int refs; /* atomic */
  segue_gate *gate;
  segue__tls_context *tls; /* NULL: plain */
  segue__access_log *log;  /* NULL: none */
  bool generation_header;
  segue__http_limits limits;
  char module[]; /* whose gate it is */
} segue__route;

enum { SEGUE__CLASSES = 6 }; /* of answers: 1xx to 5xx, and those whose client left (0) */

typedef struct segue__thread_listener {
  segue__worker_thread *worker;
  segue__listener *listener; /* a reference */
  segue__socket_lease lease; /* of the thread; released under the lock of the listener */
  segue__http_server *server;
  segue__http_listener *http_listener; /* the lane's; NULL: it is closing, or cannot be watched */
  segue__route *route;                 /* the lane's */
  segue__route *next_route;            /* atomic: to be taken by the lane */
  uint64_t answers[SEGUE__CLASSES];    /* atomic, written by the lane */
  bool closing;                        /* the lane's */
  uint64_t handshakes, crowd;          /* likewise: that failed, that were turned away */
  uint64_t scarce, scarce_reported_ms; /* likewise: lack of descriptors: count, last log line */
  bool begin, end, queued;             /* under the lane's lock: what it is asked to do */
  uint64_t grace_ms;                   /* likewise: for the end */
  struct segue__thread_listener *command_next, *next; /* to do; of the lane */
} segue__thread_listener;

struct segue__listener {
  int refs; /* atomic: counts the ingress, its outlets, and requests whose client left */
  /* Atomic. A request whose client left uses memory until its module has answered it. So it still
   * counts as a connection: otherwise a client that sends requests and resets them has no limit. */
  size_t connections, left; /* left: the part of connections that are only such requests */
  segue__address address;
  segue__socket_lease lease; /* of the control thread, until it is closed */
  char *key;                 /* as normalised from the policy: the port may be 0 there */
  char *module;              /* that it was opened for */
  segue__thread_listener **thread_listeners; /* one for each lane; theirs from begin on */
  size_t thread_listener_count;
  segue__route *route, *staged, *before; /* live; of the next policy; before the flip */
  bool wanted, open, live;
  segue__tls_notice notice;
  segue__listener *next;

  /* Under the lock, like the outlets once it is open: NULL when their lane is done. */
  pthread_mutex_t lock;
};

/* One call from another thread about a request. */
typedef struct segue__answer_chunk {
  struct segue__answer_chunk *next;
  enum { SEGUE__WHOLE, SEGUE__HEAD, SEGUE__DATA } kind;
  int status;
  const char *content_type, *headers, *body; /* in memory */
  size_t len;
  char memory[];
} segue__answer_chunk;

struct segue_request {
  segue_arrival arrival; /* first */
  segue__worker_thread *worker;
  segue__thread_listener *thread_listener; /* NULL: the client left */
  segue__listener *counted;  /* NULL until the client left: then a connection of this port */
  segue__http_request *http; /* NULL: it left while the request waited */
  segue_gate *gate;
  segue__answer_chunk *ready; /* the lane's: taken, but the client is behind */
  bool generation_header, streaming;
  bool gone;                 /* atomic */
  bool apart;                /* atomic: there are pieces */
  segue_request *next;       /* in the pool, or to be looked at */
  int answered;              /* with this status, if it streams */
  uint64_t began_ns;         /* 0: not for a log */
  uint64_t sent;             /* bytes of a stream */
  void (*await)(void *data); /* the lane's: who waits until the client has taken them; or NULL */
  void *await_data;
  void (*left_fn)(void *data); /* the lane's: called when the client has left; or NULL */
  void *left_data;

  /* Under the lane's lock. */
  bool posted, entered, ending, cut; /* cut: ends in the middle */
  int status;                        /* with which it entered */
  segue__answer_chunk *first, *last;
  size_t flight; /* bytes of pieces that the server has not got */
};

/* Each runs on the control thread, once: on_empty after stop, when the last connection is gone;
 * on_end after end, when the thread is. */
typedef struct segue__worker_thread_events {
  void (*on_empty)(void *data);
  void (*on_end)(void *data);
  void *data;
} segue__worker_thread_events;

/* A second, as access logs write it. */
typedef struct segue__stamp {
  time_t at;
  char combined[48], json[32];
} segue__stamp;

struct segue__worker_thread {
  segue__loop *control; /* where its end is told */
  const segue__logger *log;
  pthread_t thread;
  uv_loop_t uv;
  segue__loop *loop; /* on uv: for whoever else works on this thread */
  uv_async_t async;
  segue__thread_listener *thread_listeners;
  segue_request *pool;
  size_t pooled, out;     /* requests: to be had, in use */
  segue_request *handled; /* its handler runs, and has not answered it */
  segue__buf headers;     /* of the answer that is being written */
  segue__buf line;        /* of an access log, that is being made */
  segue__stamp stamp;     /* in it */
  segue__ring *ring;      /* set before the first entry that has a log */
  segue__message message, empty_message;
  bool reported_empty;
  segue__worker_thread_events events;
  const segue_gate *inside; /* atomic: of the module whose handle runs; NULL: none does */

  /* Does the thread come back? Of the control thread, but for `said`, which is atomic. */
  segue__message question;
  uint64_t asked_ms;
  bool asked, said; /* asked and not said: the question is posted */
  bool is_reported; /* as busy, since it was asked */
  bool is_empty, stuck;

  pthread_mutex_t lock;
  segue__thread_listener *command, *last_command;
  segue_request *inbox, *last;
  uint64_t stop_grace_ms;
  bool stop, over, closed; /* closed: nobody looks into the inbox any more */
  size_t orphans;          /* once closed: requests that are not answered */
  bool disowned;           /* the ingress is gone: the last orphan frees it */
};

struct segue__ingress {
  segue__ingress_options options;
  segue__worker_thread **workers;
  size_t worker_count, workers_empty, workers_ended, workers_stuck;
  segue__timer watch; /* do the lanes come back? */
  uint64_t patience_ms;
  segue__listener *listeners;
  segue__access_log_writer *log_writer; /* NULL: there was no access log yet */
  segue__listener *leaving;             /* closed, but lanes may not have got to it */
  bool closing;
  void (*cb)(void *data);
  void *data;
};

/* validate.c: "http://HOST:PORT"; tls: it is "https://...". */
int segue__listen_parse(const char *url, segue__address *out, bool *tls, segue_error *err);

/* ingress.c */
void segue__listener_unref(segue__listener *listener);
/* On a lane: it has closed its listener. */
void segue__listener_left(segue__listener *listener, segue__thread_listener *thread_listener);
void segue__listener_done(segue__listener *listener,
                          const segue__thread_listener *thread_listener); /* which is freed next */
void segue__route_unref(segue__route *route);

/* stuck_threads.c: from now on a worker thread that does not return from a module is reported once
 * to on_busy. */
int segue__worker_threads_watch_calls(segue__ingress *ingress);
/* Instead: from now on lanes that are silent for longer than this, and a little more, are given up;
 * until the timer is stopped, which is before they are told to end. */
void segue__worker_threads_watch(segue__ingress *ingress, uint64_t grace_ms);

/* worker_thread.c */
int segue__worker_thread_start(segue__worker_thread **out, segue__loop *control,
                               const segue__logger *log, const segue__worker_thread_events *events);
void segue__worker_thread_stop(segue__worker_thread *worker, uint64_t grace_ms);
void segue__worker_thread_end(segue__worker_thread *worker);  /* stopped, and empty */
void segue__worker_thread_free(segue__worker_thread *worker); /* ended; requests may still be out */
/* Asks the lane for a begin or an end; the outlet is the lane's from the first on. */
void segue__thread_listener_begin(segue__thread_listener *thread_listener);
void segue__thread_listener_end(segue__thread_listener *thread_listener, uint64_t grace_ms);
void segue__thread_listener_enter_by(segue__thread_listener *thread_listener,
                                     segue__route *route); /* takes a reference */
void segue__thread_listener_drop(
    segue__thread_listener *thread_listener); /* one that did not begin; NULL allowed */
segue__route *
segue__thread_listener_entry(segue__thread_listener *thread_listener); /* on the lane */
bool segue__worker_thread_is_here(const segue__worker_thread *worker);
/* With the lock held, which it gives back: the lane looks at the request soon. False: there is no
 * lane any more, and nothing happened. */
bool segue__worker_thread_post_unlock(segue_request *request);

/* request.c, on the lane */
void segue__ingress_request_arrived(void *thread_listener, segue__http_request *http);
void segue__ingress_request_look(segue_request *request); /* it was posted */
void segue__ingress_request_orphaned(segue_request *request);

/* access.c, on the lane: one line, where the outlet's entry has a log. */
typedef struct segue__access {
  const char *peer, *module;
  int status;
  uint64_t bytes, took_ns, generation; /* of the body; 0: it met none */
} segue__access;
void segue__access_note(segue__thread_listener *thread_listener, const segue__http_request *http,
                        const segue__access *access); /* http NULL: it was no request */

/* headers.c. check: 0 or SEGUE_EUSAGE. lines: "Name: value\r\n" of each header, and of the
 * generation unless that is 0; 0 or UV_ENOMEM. */
int segue__answer_check(const segue_answer *answer);
int segue__answer_lines(const segue_answer *answer, uint64_t generation, segue__buf *lines);

#endif
