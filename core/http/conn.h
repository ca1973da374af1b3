/* SPDX-License-Identifier: MIT
 *
 * conn.h: the inside of the server, shared by its files only. A connection is small and owns no
 * buffer. The memory of one request (input buffer, header array, body) is an exchange, acquired
 * from the server's pool when the first byte arrives and released when the answer is sent. So an
 * idle connection costs one struct, and a busy server allocates nothing per request.
 */
#ifndef SEGUE_HTTP_CONN_H
#define SEGUE_HTTP_CONN_H

#include <sys/types.h>
#include <time.h>
#include <uv.h>

#include "../os/poller.h"
#include "parse.h"

typedef struct segue__http_conn segue__http_conn;
typedef struct segue__http_exchange segue__http_exchange;

/* The event that a connection waits for. Every connection is in exactly one queue; all entries of a
 * queue have the same time limit, so its order of arrival is its order of expiry, and one timer for
 * the whole server suffices. */
typedef enum segue__http_queue {
  SEGUE__HTTP_IDLE,   /* the first byte of a request; idle_ms */
  SEGUE__HTTP_HEAD,   /* the rest of a head; head_ms */
  SEGUE__HTTP_BODY,   /* the rest of a body; body_ms */
  SEGUE__HTTP_WRITE,  /* the client to read; write_ms */
  SEGUE__HTTP_LINGER, /* the client to close, after our last word */
  SEGUE__HTTP_LEAVE,  /* the same, where it had requested nothing */
  SEGUE__HTTP_PEEK,   /* the handler, while nothing is read: looks for a reset now and then */
  SEGUE__HTTP_BUSY,   /* the handler; no limit */
  SEGUE__HTTP_READY,  /* its turn: bytes of the next request are here already; no limit */
  SEGUE__HTTP_QUEUES
} segue__http_queue;

typedef enum segue__http_state {
  SEGUE__HTTP_IN_HEAD,   /* before or inside a head */
  SEGUE__HTTP_IN_BODY,   /* inside a body */
  SEGUE__HTTP_HANDLED,   /* the handler has the request */
  SEGUE__HTTP_FLUSHING,  /* answered; bytes are still queued */
  SEGUE__HTTP_LINGERING, /* our side is shut; further input is discarded */
  SEGUE__HTTP_CLOSED     /* the handle is closing */
} segue__http_state;

enum {
  SEGUE__HTTP_INPUT = 4096,      /* first size of an input buffer */
  SEGUE__HTTP_BODY_KEEP = 16384, /* body buffers up to this size stay in the pool */
  SEGUE__HTTP_POOL_MAX = 32,     /* exchanges that stay in the pool */
  SEGUE__HTTP_REFUSED_MAX = 64,  /* past the limit, being answered 503; more wait in the kernel */
  SEGUE__HTTP_LINGER_MS = 3000,
  SEGUE__HTTP_PEEK_MS = 250,
  SEGUE__HTTP_ACCEPT_RETRY_MS = 100, /* after accepting was paused */
  SEGUE__HTTP_QUIET_MS = 250,        /* for the next request while closing */
  SEGUE__HTTP_SILENT_MS = 1000, /* time without a byte after which no further request is expected */
  SEGUE__HTTP_BEHIND_MAX = 100, /* pipelined requests that are answered behind the last one */
  SEGUE__HTTP_PROGRESS = 65536  /* bytes a slow client must take per write_ms */
};

typedef struct segue__http_link {
  struct segue__http_link *prev, *next;
} segue__http_link;

struct segue__http_conn {
  segue__http_link link; /* first: a link is its connection */
  union {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
    segue__polled polled; /* while the poller has the descriptor */
  } uv;
  segue__http_server *server;
  segue__http_listener *http_listener; /* that it came in by; stays as long as it has connections */
  segue__tls *tls;                     /* NULL: plain */
  segue__http_exchange *exchange;      /* NULL while idle */
  uint64_t due_ms, since_ms;           /* since: in its queue */
  uint64_t queued;                     /* bytes ever handed to uv_write ... */
  uint64_t taken_mark;                 /* ... and how many were gone when the write limit started */
  uint32_t requests;
  int fd;
  uint8_t state, queue, behind_last; /* the last: requests that were sent behind it */
  bool watched;                      /* uv has the descriptor */
  bool polled;                       /* the server's poller has it */
  bool paused;                       /* reading is stopped: the input buffer is full */
  bool eof;                          /* the client has shut its side */
  bool close_after;                  /* this answer is the last */
  bool said_close;                   /* because the client requested that */
  bool unframed;                     /* and its body ends with the connection */
  bool linger; /* the client may still be sending: give it time to read the answer */
  bool in_handler;
  bool refused;   /* past the connection limit */
  bool tls_begun; /* at least one byte came, and it was no plain HTTP */
  bool is_unix;
  char peer[64];
};

struct segue__http_exchange {
  segue__http_request request; /* first: a request is its exchange */
  segue__http_conn *conn;      /* NULL: the client left */
  segue__http_server *server;  /* NULL: the server does not need this exchange any more */
  segue__http_exchange *next;  /* in the pool, or in the list of requests whose client left */
  segue__http_head head;
  char *in;
  size_t in_cap, in_len;
  size_t scanned; /* see segue__http_head_ready */
  size_t used;    /* bytes of the current request at the start of in */
  char *body;     /* where the body does not fit into in */
  size_t body_cap, body_len;
  segue__http_chunked chunked;
  bool body_apart; /* the body is in body */
  bool answered, streaming, silent, chunked_out;
  segue__http_header headers[];
};

struct segue__http_listener {
  uv_poll_t poll;       /* first */
  segue__polled polled; /* if the server has a poller, which then watches instead of poll */
  segue__http_server *server;
  segue__http_listener *next;
  int fd;
  int accepts;   /* at most, in one turn of the loop */
  bool is_local; /* a unix socket */
  bool is_polled;
  bool paused;               /* out of descriptors, or too many are being refused */
  bool scarce;               /* too few descriptors were left, and since then clients are waiting */
  bool closed;               /* the poll handle is closed; freed with the last connection */
  segue__http_linger linger; /* while it closes; zeroed: it closes at once */
  uint64_t linger_due;
  size_t connections;
  segue__tls_context *tls; /* NULL: plain */
  void *auth;
  void (*free_auth)(void *auth);
};

/* Ends the listeners whose time to linger is over at now_ms. */
void segue__http_listeners_end(segue__http_server *server, uint64_t now_ms);

struct segue__http_server {
  uv_loop_t *loop;
  segue__poller *poller; /* NULL: the loop watches the connections */
  uv_timer_t timer;
  uv_idle_t idle; /* runs while a client has left or a connection is ready */
  segue__http_limits limits;
  void (*on_request)(void *data, segue__http_request *request);
  void *data;
  segue__http_events events;
  segue__http_link queues[SEGUE__HTTP_QUEUES];
  uint64_t span_ms[SEGUE__HTTP_QUEUES];
  uint64_t timer_due, accept_due, linger_due, close_due; /* UINT64_MAX: never */
  uint64_t last_call_ms; /* while closing: a request that arrives earlier is still answered */
  segue__http_listener *listeners, *lingering;
  segue__http_exchange *pool, *left;
  unsigned pooled;
  unsigned handles; /* timer, idle and listeners with a pending close callback */
  size_t connections, refused;
  size_t local;  /* of connections, through unix sockets; without the refused */
  size_t *total; /* atomic: remote connections, also those of servers that share the limit */
  size_t own_total;
  segue__buf out; /* the head of the answer that is being written */
  time_t date_at;
  char date[48];               /* "Date: ...\r\n" */
  int descriptors;             /* the limit of this process; INT_MAX: it does not matter */
  bool crowded;                /* a listener is paused because too many are being refused */
  bool closing, cut, finished; /* cut: clients that still waited have been answered */
  void (*close_cb)(void *data);
  void *close_data;
  char sink[8192]; /* for input that is discarded */
};

/* server.c */
void segue__http_queue_set(segue__http_conn *conn, segue__http_queue queue);
void segue__http_queue_leave(segue__http_conn *conn);
void segue__http_timer_arm(segue__http_server *server, uint64_t due_ms);
void segue__http_wake(segue__http_server *server);         /* runs the idle handle */
void segue__http_server_check(segue__http_server *server); /* finishes a close */

/* exchange.c */
segue__http_exchange *segue__http_exchange_acquire(segue__http_conn *conn);
void segue__http_exchange_release(segue__http_exchange *exchange);
void segue__http_exchange_reset(segue__http_exchange *exchange); /* for the next request */
int segue__http_exchange_grow(segue__http_exchange *exchange, size_t limit);
int segue__http_body_add(segue__http_exchange *exchange, const char *data, size_t len);
int segue__http_body_room(segue__http_exchange *exchange, size_t more);

/* conn.c. open takes the descriptor over, also when it fails. With `early`, a request that is here
 * already comes to its handler within the call. */
int segue__http_conn_open(segue__http_listener *http_listener, int fd, const char *peer,
                          bool early);
/* Gives the descriptor to the poller, or to the loop if the server has none. */
int segue__http_conn_attend(segue__http_conn *conn);
/* Gives the descriptor to the loop. A negative result: segue__http_conn_lost has to be called. */
int segue__http_conn_watch(segue__http_conn *conn);
/* Past the limit, and as many as may be are being refused: the next one waits in the kernel. */
bool segue__http_conn_must_wait(const segue__http_listener *http_listener);
/* The room for the next bytes, and what was read into it: n bytes, 0 for none, or a negative code.
 */
uv_buf_t segue__http_conn_buffer(segue__http_conn *conn);
void segue__http_conn_read(segue__http_conn *conn, ssize_t n, const uv_buf_t *buf);
void segue__http_conn_free(segue__http_conn *conn);
void segue__http_conn_turn(segue__http_conn *conn);
void segue__http_conn_lost(segue__http_conn *conn);
void segue__http_conn_part(
    segue__http_conn *conn); /* from its request: another was answered for it */
/* Its time limit passed: answers a client that waits, then closes. */
void segue__http_cut(segue__http_conn *conn);
/* Closes a connection in order after its last answer: no further answer can be sent. */
void segue__http_conn_hang_up(segue__http_conn *conn);
void segue__http_conn_answered(segue__http_conn *conn);
void segue__http_conn_flushed(segue__http_conn *conn);
void segue__http_conn_wait(segue__http_conn *conn);    /* the queue that fits, while handled */
bool segue__http_conn_pending(segue__http_conn *conn); /* unread bytes in the kernel */
void segue__http_conn_expired(segue__http_conn *conn);

/* write.c */
int segue__http_write(segue__http_conn *conn, const uv_buf_t *bufs, unsigned count);
size_t segue__http_unwritten(const segue__http_conn *conn);
/* Sends the pending bytes of TLS: 0 or as segue__http_write. */
int segue__http_flush_tls(segue__http_conn *conn);

/* respond.c */
void segue__http_refuse(segue__http_conn *conn, int status, const char *reason);

/* listener.c */
void segue__http_descriptors_look(segue__http_server *server);
/* Called when a connection of the listener was freed. */
void segue__http_listener_left(segue__http_listener *http_listener);
void segue__http_listener_resume(segue__http_listener *http_listener);

#endif
