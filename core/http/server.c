/* SPDX-License-Identifier: MIT
 *
 * The server: its queues of waiting connections and the one timer that serves them all, the list of
 * requests whose client left, and an orderly end.
 *
 * All connections of a queue have the same time limit and join at its end, so the first one is due
 * first. The timer is armed for the earliest of these firsts; no connection has a timer of its own.
 */
#include <unistd.h>

#include "conn.h"

#include <string.h>

static const uint64_t NEVER = UINT64_MAX;

static uint64_t server_least(uint64_t a, uint64_t b) {
  return a < b ? a : b;
}

/* ---- Queues and the timer -------------------------------------------------------------------- */

static void server_on_timer(uv_timer_t *timer);
static void set_spans(segue__http_server *server);

void segue__http_timer_arm(segue__http_server *server, uint64_t due_ms) {
  if (due_ms >= server->timer_due || server->finished) return;
  uint64_t now = uv_now(server->loop);
  server->timer_due = due_ms;
  uv_timer_start(&server->timer, server_on_timer, due_ms > now ? due_ms - now : 0, 0);
}

void segue__http_queue_leave(segue__http_conn *conn) {
  segue__http_link *link = &conn->link;
  if (link->next) {
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->next = link->prev = NULL;
  }
}

void segue__http_queue_set(segue__http_conn *conn, segue__http_queue queue) {
  segue__http_server *server = conn->server;
  segue__http_link *link = &conn->link, *end = &server->queues[queue];
  segue__http_queue_leave(conn);
  link->next = end;
  link->prev = end->prev;
  end->prev->next = link;
  end->prev = link;
  conn->queue = (uint8_t)queue;
  if (queue == SEGUE__HTTP_WRITE) conn->taken_mark = conn->queued - segue__http_unwritten(conn);
  uint64_t span = server->span_ms[queue];
  if (queue != SEGUE__HTTP_IDLE && span != NEVER)
    uv_update_time(server->loop); /* a handler may have taken long; idle time is not that exact */
  conn->since_ms = uv_now(server->loop);
  conn->due_ms = span == NEVER ? NEVER : conn->since_ms + span;
  segue__http_timer_arm(server, conn->due_ms);
}

static segue__http_conn *server_first(segue__http_server *server, segue__http_queue queue) {
  segue__http_link *end = &server->queues[queue];
  return end->next == end ? NULL : (segue__http_conn *)end->next;
}

/* Ends the connections that are left. The first call answers clients that wait with a refusal and
 * gives them a moment to read it; the second call closes. */
static void server_close_all(segue__http_server *server) {
  void (*end)(segue__http_conn * conn) = server->cut ? segue__http_conn_lost : segue__http_cut;
  for (int queue = 0; queue < SEGUE__HTTP_QUEUES; queue++) {
    segue__http_link *link = server->queues[queue].next, *next;
    for (; link != &server->queues[queue]; link = next) {
      next = link->next;
      end((segue__http_conn *)link);
    }
  }
  server->close_due = server->cut ? NEVER : uv_now(server->loop) + SEGUE__HTTP_QUIET_MS;
  server->cut = true;
}

/* Returns false for a client that is still connecting and had no time to send a request. If a TLS
 * handshake comes first, a client that has sent nothing for a second is not connecting, it only
 * occupies a connection. */
static bool is_settled(const segue__http_conn *conn) {
  return conn->requests || (conn->tls && !segue__tls_established(conn->tls));
}

/* Lets clients in a TLS handshake continue, under the time limit of a head. A handshake needs two
 * round trips and some CPU time on both sides, more than the moment that idle clients get. */
static void spare_handshakes(segue__http_server *server) {
  uint64_t now = uv_now(server->loop);
  segue__http_link *end = &server->queues[SEGUE__HTTP_IDLE], *next;
  for (segue__http_link *l = end->next; l != end; l = next) {
    segue__http_conn *conn = (segue__http_conn *)l;
    next = l->next;
    if (conn->tls && !segue__tls_established(conn->tls) &&
        now - conn->since_ms < SEGUE__HTTP_SILENT_MS)
      segue__http_queue_set(conn, SEGUE__HTTP_HEAD);
  }
}

/* Gives idle and new clients a short time. A client that just got an answer may be sending its next
 * request at this moment, and a new client will send its first. The answer to that request
 * announces the end of the connection. */
static void server_hush(segue__http_server *server) {
  uint64_t now = uv_now(server->loop);
  segue__http_link *end = &server->queues[SEGUE__HTTP_IDLE];
  spare_handshakes(server);
  set_spans(server);
  for (segue__http_link *l = end->next; l != end; l = l->next) {
    segue__http_conn *conn = (segue__http_conn *)l;
    bool silent = is_settled(conn) && now - conn->since_ms >= SEGUE__HTTP_SILENT_MS;
    conn->due_ms =
        silent ? now : server_least(conn->due_ms, now + server->span_ms[SEGUE__HTTP_IDLE]);
  }
  if (end->next != end) segue__http_timer_arm(server, ((segue__http_conn *)end->next)->due_ms);
}

static void resume_accepting(segue__http_server *server) {
  server->accept_due = NEVER;
  server->crowded = false;
  for (segue__http_listener *l = server->listeners; l; l = l->next)
    if (l->paused) segue__http_listener_resume(l);
}

/* Expiring a connection puts it at the end of a queue, due later than now, or closes it: so each
 * loop ends. */
static void server_on_timer(uv_timer_t *timer) {
  segue__http_server *server = timer->data;
  uint64_t now = uv_now(server->loop), due = NEVER;
  server->timer_due = 0; /* the functions called here must not arm the timer: it is armed below */
  for (int queue = 0; queue < SEGUE__HTTP_QUEUES; queue++)
    for (segue__http_conn *conn;
         (conn = server_first(server, (segue__http_queue)queue)) && conn->due_ms <= now;)
      segue__http_conn_expired(conn);
  if (server->accept_due <= now) resume_accepting(server);
  if (server->linger_due <= now) {
    segue__http_listeners_end(server, now);
    if (server->closing) server_hush(server);
    if (server->cut) server->close_due = now + SEGUE__HTTP_QUIET_MS; /* for the new ones */
  }
  if (server->close_due <= now) server_close_all(server);
  for (int queue = 0; queue < SEGUE__HTTP_QUEUES; queue++) {
    segue__http_conn *conn = server_first(server, (segue__http_queue)queue);
    due = conn ? server_least(due, conn->due_ms) : due;
  }
  due = server_least(due, server_least(server->accept_due, server->close_due));
  due = server_least(due, server->linger_due);
  server->timer_due = NEVER;
  if (due != NEVER) segue__http_timer_arm(server, due);
}

/* ---- Requests whose client left, connections that are ready ---------------------------------- */

/* Runs from the idle handle, so that on_gone is never called inside a call that the handler itself
 * made. A request without on_gone stays with its handler: it was detached from the server and is
 * freed by its answer. */
static void report_gone(segue__http_server *server) {
  segue__http_exchange *exchange = server->left;
  server->left = exchange->next;
  if (!exchange->answered && !exchange->request.on_gone) {
    exchange->server = NULL; /* its handler answers sooner or later; that frees it */
    if (exchange->request.on_left) exchange->request.on_left(&exchange->request);
    return;
  }
  if (!exchange->answered) {
    if (server->events.on_answer)
      server->events.on_answer(server->data, &exchange->request, exchange->request.cut);
    exchange->request.on_gone(&exchange->request);
  }
  segue__http_exchange_release(exchange);
}

static void server_on_idle(uv_idle_t *idle) {
  segue__http_server *server = idle->data;
  while (server->left)
    report_gone(server);
  segue__http_link *end = &server->queues[SEGUE__HTTP_READY];
  size_t turns = 0; /* only the connections that are ready now: one turn each */
  for (segue__http_link *l = end->next; l != end; l = l->next)
    turns++;
  for (segue__http_conn *conn; turns && (conn = server_first(server, SEGUE__HTTP_READY)); turns--) {
    segue__http_queue_set(conn, SEGUE__HTTP_HEAD);
    segue__http_conn_turn(conn);
  }
  if (!server->left && !server_first(server, SEGUE__HTTP_READY)) uv_idle_stop(idle);
  segue__http_server_check(server);
}

void segue__http_wake(segue__http_server *server) {
  uv_idle_start(&server->idle, server_on_idle);
}

/* ---- Life ------------------------------------------------------------------------------------ */

static void server_set_limits(segue__http_limits *l) {
  l->head_bytes = l->head_bytes ? l->head_bytes : SEGUE__HTTP_HEAD_BYTES;
  l->header_count = l->header_count ? l->header_count : 100;
  l->body_bytes = l->body_bytes ? l->body_bytes : SEGUE__HTTP_BODY_BYTES;
  l->connections = l->connections ? l->connections : 1024;
  l->head_ms = l->head_ms ? l->head_ms : SEGUE__HTTP_HEAD_MS;
  l->body_ms = l->body_ms ? l->body_ms : SEGUE__HTTP_BODY_MS;
  l->idle_ms = l->idle_ms ? l->idle_ms : SEGUE__HTTP_IDLE_MS;
  l->write_ms = l->write_ms ? l->write_ms : SEGUE__HTTP_WRITE_MS;
  l->write_bytes = l->write_bytes ? l->write_bytes : 1048576;
}

static void set_spans(segue__http_server *server) {
  uint64_t idle = server->limits.idle_ms;
  server->span_ms[SEGUE__HTTP_IDLE] =
      server->closing ? server_least(idle, SEGUE__HTTP_QUIET_MS) : idle;
  server->span_ms[SEGUE__HTTP_HEAD] = server->limits.head_ms;
  server->span_ms[SEGUE__HTTP_BODY] = server->limits.body_ms;
  server->span_ms[SEGUE__HTTP_WRITE] = server->limits.write_ms;
  server->span_ms[SEGUE__HTTP_LINGER] = SEGUE__HTTP_LINGER_MS;
  server->span_ms[SEGUE__HTTP_LEAVE] = SEGUE__HTTP_QUIET_MS;
  server->span_ms[SEGUE__HTTP_PEEK] = SEGUE__HTTP_PEEK_MS;
}

static void set_queues(segue__http_server *server) {
  for (int i = 0; i < SEGUE__HTTP_QUEUES; i++) {
    server->queues[i].next = server->queues[i].prev = &server->queues[i];
    server->span_ms[i] = NEVER;
  }
  set_spans(server);
}
int segue__http_server_make(segue__http_server **out, const segue__http_limits *limits,
                            void (*on_request)(void *data, segue__http_request *request),
                            void *data) {
  segue__http_server *server = segue__calloc(1, sizeof *server);
  *out = server;
  if (!server) return UV_ENOMEM;
  if (limits) server->limits = *limits;
  server->on_request = on_request;
  server->data = data;
  server->total = &server->own_total;
  server->timer_due = server->accept_due = server->linger_due = server->close_due = NEVER;
  server_set_limits(&server->limits);
  set_queues(server);
  segue__http_descriptors_look(server);
  return 0;
}

void segue__http_server_begin(segue__http_server *server, struct uv_loop_s *loop) {
  server->loop = loop;
  uv_timer_init(loop, &server->timer);
  uv_idle_init(loop, &server->idle);
  server->timer.data = server->idle.data = server;
  server->handles = 2;
}

int segue__http_server_new(segue__http_server **out, struct uv_loop_s *loop,
                           const segue__http_limits *limits,
                           void (*on_request)(void *data, segue__http_request *request),
                           void *data) {
  int rc = segue__http_server_make(out, limits, on_request, data);
  if (rc == 0) segue__http_server_begin(*out, loop);
  return rc;
}

/* A queue is in the order of expiry as long as its time limit stays: after the limit became
 * shorter, a connection that is queued already may wait for its old limit. */
void segue__http_server_limit(segue__http_server *server, const segue__http_limits *limits) {
  uint32_t headers = server->limits.header_count; /* the size of pooled arrays */
  server->limits = *limits;
  server->limits.header_count = headers;
  server_set_limits(&server->limits);
  segue__http_descriptors_look(server);
  set_spans(server);
}

void segue__http_server_poll(segue__http_server *server, struct segue__poller *poller) {
  server->poller = poller;
}

void segue__http_server_share(segue__http_server *server, size_t *total) {
  server->total = total;
}

void segue__http_server_drop(segue__http_server *server) {
  segue__free(server);
}

size_t segue__http_connections(const segue__http_server *server) {
  return server->connections;
}

void segue__http_server_watch(segue__http_server *server, const segue__http_events *events) {
  server->events = *events;
}

static void server_destroy(segue__http_server *server) {
  void (*cb)(void *data) = server->close_cb;
  void *data = server->close_data;
  for (segue__http_exchange *e; (e = server->pool);) {
    server->pool = e->next;
    e->server = NULL;
    segue__http_exchange_release(e);
  }
  segue__buf_deinit(&server->out);
  segue__free(server);
  if (cb) cb(data);
}

static void server_on_handle_closed(uv_handle_t *handle) {
  segue__http_server *server = handle->data;
  if (--server->handles == 0) server_destroy(server);
}

/* Finishes a close when all connections and listeners are closed. The timer and the idle handle are
 * closed last, because closing connections uses both. */
void segue__http_server_check(segue__http_server *server) {
  if (!server->closing || server->finished || server->connections || server->left ||
      server->handles > 2)
    return;
  server->finished = true;
  uv_close((uv_handle_t *)&server->timer, server_on_handle_closed);
  uv_close((uv_handle_t *)&server->idle, server_on_handle_closed);
}

static void server_expedite(segue__http_server *server, uint64_t grace_ms) {
  uv_update_time(server->loop);
  server->close_due = server_least(server->close_due, uv_now(server->loop) + grace_ms);
  segue__http_timer_arm(server, server->close_due);
}

void segue__http_server_abandon(segue__http_server *server) {
  for (const segue__http_listener *http_listener = server->listeners; http_listener;
       http_listener = http_listener->next)
    if (http_listener->fd >= 0 && !http_listener->closed) close(http_listener->fd);
  for (const segue__http_listener *http_listener = server->lingering; http_listener;
       http_listener = http_listener->next)
    close(http_listener->fd);
  for (size_t i = 0; i < SEGUE__HTTP_QUEUES; i++) {
    const segue__http_link *queue = &server->queues[i];
    for (const segue__http_link *link = queue->next; link != queue; link = link->next)
      close(((const segue__http_conn *)(const void *)link)->fd);
  }
}

/* Listeners close first: the clients in their queues become connections, which server_hush then
 * gives a moment for a first request. */
void segue__http_server_close(segue__http_server *server, uint64_t grace_ms, void (*cb)(void *data),
                              void *data) {
  if (!server) return;
  if (server->closing) {
    server_expedite(server, grace_ms);
    return;
  }
  server->close_cb = cb;
  server->close_data = data;
  uv_update_time(server->loop);
  while (server->listeners)
    segue__http_listener_close(server->listeners);
  server->closing = true;
  uv_update_time(server->loop);
  server->close_due = uv_now(server->loop) + grace_ms;
  server->last_call_ms = uv_now(server->loop) + grace_ms / 2;
  segue__http_timer_arm(server, server->close_due);
  server_hush(server);
  segue__http_server_check(server);
}
