/* SPDX-License-Identifier: MIT
 *
 * One request: it passes the gate of its module, reaches the instance, and becomes an answer. On
 * its worker thread this takes no lock and allocates nothing. A call from another thread stores a
 * copied chunk in the request and posts it; the worker thread delivers it. A request ends when it
 * is answered, also if the client has left.
 */
#include <string.h>

#include "../module/module.h"
#include "../module/worker_threads.h"
#include "../os/fault.h"
#include "ingress_internal.h"

enum { POOL_MAX = 1024, BEHIND_MAX = 1 << 20, HEAD_GUESS = 4096 };
enum { CLIENT_LEFT = 499 }; /* status in access logs for a client that left, as in nginx */

/* ---- Memory ---- */

static segue_request *request_acquire(segue__thread_listener *thread_listener,
                                      segue__http_request *http) {
  segue__worker_thread *worker = thread_listener->worker;
  segue_request *request = worker->pool;
  if (request) {
    worker->pool = request->next;
    worker->pooled--;
  } else if (!(request = segue__calloc(1, sizeof *request))) {
    return NULL;
  }
  worker->out++;
  request->worker = worker;
  request->thread_listener = thread_listener;
  request->http = http;
  return request;
}

static void free_pieces(segue__answer_chunk *chunk) {
  while (chunk) {
    segue__answer_chunk *next = chunk->next;
    segue__free(chunk);
    chunk = next;
  }
}

/* Counts a request whose client left and which its module has not answered. */
static void count_left(segue_request *request) {
  segue__listener *listener = request->thread_listener->listener;
  __atomic_add_fetch(&listener->refs, 1, __ATOMIC_RELAXED);
  __atomic_add_fetch(&listener->left, 1, __ATOMIC_RELAXED);
  __atomic_add_fetch(&listener->connections, 1, __ATOMIC_RELAXED);
  request->counted = listener;
}

static void uncount_left(const segue_request *request) {
  segue__listener *listener = request->counted;
  if (!listener) return;
  __atomic_sub_fetch(&listener->connections, 1, __ATOMIC_RELAXED);
  __atomic_sub_fetch(&listener->left, 1, __ATOMIC_RELAXED);
  segue__listener_unref(listener);
}

static void ingress_request_release(segue_request *request) {
  segue__worker_thread *worker = request->worker;
  uncount_left(request);
  free_pieces(request->ready);
  worker->out--;
  if (worker->pooled >= POOL_MAX) {
    segue__free(request);
    return;
  }
  *request = (segue_request){.next = worker->pool};
  worker->pool = request;
  worker->pooled++;
}

/* ---- Answering, on the worker thread --------------------------------------------------------- */

static void ingress_request_count(segue__thread_listener *thread_listener, int class) {
  if (!thread_listener) return;
  uint64_t *counter = &thread_listener->answers[class];
  __atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

/* Writes the line of the access log. It must be called before the answer is complete, because the
 * request may be freed then. */
static void request_note(const segue_request *request, int status, uint64_t bytes) {
  segue__thread_listener *thread_listener = request->thread_listener;
  if (!thread_listener || !thread_listener->route->log) return;
  const segue_snapshot *snapshot = request->arrival.pass.snapshot;
  bool head = request->http->method.len == 4 && memcmp(request->http->method.s, "HEAD", 4) == 0;
  segue__access_note(
      thread_listener, request->http,
      &(segue__access){.peer = request->http->peer,
                       .module = thread_listener->route->module,
                       .status = status,
                       .bytes = head || !segue__http_has_body(status) ? 0 : bytes,
                       .took_ns = request->began_ns ? uv_hrtime() - request->began_ns : 0,
                       .generation = snapshot ? segue_snapshot_generation(snapshot) : 0});
}

/* Leaves the gate after the answer: a drain ends when the module has handed over all answers and
 * the worker thread has left its code. A request that is answered inside the handler leaves the
 * gate when the handler returns. */
static void ingress_request_finish(segue_request *request) {
  segue__worker_thread *worker = request->worker;
  if (worker->handled == request)
    worker->handled = NULL;
  else
    segue_gate_leave(&request->arrival.pass);
  ingress_request_release(request);
}

static void send_whole(segue_request *request, const segue_answer *answer, const char *lines) {
  ingress_request_count(request->thread_listener, answer->status / 100);
  request_note(request, answer->status, answer->len);
  segue__http_respond(request->http, answer->status, answer->content_type, lines, answer->body,
                      answer->len);
  ingress_request_finish(request);
}

static void send_head(segue_request *request, const segue_answer *answer, const char *lines) {
  ingress_request_count(request->thread_listener, answer->status / 100);
  request->streaming = true;
  request->answered = answer->status;
  request->sent = answer->len;
  segue__http_stream_begin(request->http, answer->status, answer->content_type, lines);
  if (answer->len) (void)segue__http_stream_write(request->http, answer->body, answer->len);
}

static int write_on(segue_request *request, const void *data, size_t len) {
  int rc = segue__http_stream_write(request->http, data, len);
  if (rc == 0) request->sent += len;
  return rc;
}

static void request_refuse(segue_request *request) {
  static const char text[] = "the service cannot take this request now: try again\n";
  segue_answer answer = {.status = 503,
                         .content_type = "text/plain; charset=utf-8",
                         .body = text,
                         .len = sizeof text - 1};
  send_whole(request, &answer, "Retry-After: 1\r\n");
}

/* Answers 500 for a module that ended the request without an answer. */
static void request_abandon(segue_request *request) {
  static const char text[] = "the service did not answer\n";
  segue_answer answer = {.status = 500,
                         .content_type = "text/plain; charset=utf-8",
                         .body = text,
                         .len = sizeof text - 1};
  send_whole(request, &answer, NULL);
}

static void request_end(segue_request *request) {
  if (!request->streaming) {
    request_abandon(request);
    return;
  }
  request_note(request, request->answered, request->sent);
  if (request->cut)
    segue__http_stream_abort(request->http);
  else
    segue__http_stream_end(request->http);
  ingress_request_finish(request);
}

static bool would_block(const segue_request *request, size_t len) {
  size_t behind = segue__http_stream_behind(request->http);
  return behind && behind + len > BEHIND_MAX;
}

/* ---- Through the gate ---- */

static void request_orphaned(segue_request *request);
static void request_flow(segue_request *request);

static void report_await(const segue__await *await, int status) {
  if (await->cb) await->cb(await->data, status);
}

/* Calls the function that waits for the client to read, because the answer ends before that. */
static void cancel_await(segue_request *request) {
  pthread_mutex_lock(&request->worker->lock);
  segue__await await = request->await;
  request->await = (segue__await){0};
  pthread_mutex_unlock(&request->worker->lock);
  report_await(&await, SEGUE_ECANCELLED);
}

/* Logs and counts a request that its module did not answer: the client left, or the server sent an
 * answer of its own at the end. */
static void note_unanswered(const segue_request *request) {
  int cut = request->http->cut;
  request_note(request,
               request->streaming ? request->answered
               : cut              ? cut
                                  : CLIENT_LEFT,
               cut ? request->http->cut_bytes : request->sent);
  ingress_request_count(request->thread_listener, cut / 100);
}

/* The module that holds the request answers it later; that frees the request. */
static void request_on_left(segue__http_request *http) {
  segue_request *request = http->user;
  note_unanswered(request);
  count_left(request);
  request->thread_listener = NULL;
  __atomic_store_n(&request->gone, true, __ATOMIC_RELEASE);
  if (request->left_fn) request->left_fn(request->left_data);
  request_flow(request);
}

/* The client left while the request waits at the gate. If the cancel fails, the control thread has
 * taken the request from the queue already and on_gate is about to run or has run: then the request
 * is released when that message arrives (request_enter_late, without http). */
static void request_on_gone(segue__http_request *http) {
  segue_request *request = http->user;
  note_unanswered(request);
  request->thread_listener = NULL;
  request->http = NULL;
  if (segue_gate_cancel(request->gate, &request->arrival)) ingress_request_release(request);
}

static void request_call(const segue_module_ops *ops, void *instance, segue_request *request) {
  segue__worker_thread *worker = request->worker;
  const segue_gate *outer = worker->inside;
  __atomic_store_n(&worker->inside, request->gate, __ATOMIC_RELAXED);
  ops->handle(instance, request);
  __atomic_store_n(&worker->inside, outer, __ATOMIC_RELAXED);
}

/* From here on the module owns the request: a client that leaves does not free it any more.
 * worker->handled shows whether the handler answered inside the call: then the request is freed
 * already, and the gate is left here by the copy of the pass. */
static void request_handle(segue_request *request) {
  segue__worker_thread *worker = request->worker;
  segue_request *outer = worker->handled;
  segue_pass pass = request->arrival.pass;
  const segue_module_ops *ops = segue__pass_ops(&pass);
  request->http->on_gone = NULL;
  request->http->on_left = request_on_left;
  worker->handled = request;
  if (ops->handle)
    request_call(ops, pass.instance, request);
  else
    request_refuse(request);
  bool answered = !worker->handled;
  worker->handled = outer;
  if (answered) segue_gate_leave(&pass);
}

/* Runs on the control thread when the gate opens or refuses. The request belongs to a worker
 * thread, so only the result is stored, under the lock, and the request is posted. */
static void on_gate(segue_arrival *arrival, int status) {
  segue_request *request = (segue_request *)arrival;
  pthread_mutex_lock(&request->worker->lock);
  request->entered = true;
  request->status = status;
  if (!segue__worker_thread_post_unlock(request)) request_orphaned(request);
}

static void on_misdirected(segue__thread_listener *thread_listener, const segue__http_request *http,
                           size_t bytes) {
  if (thread_listener->route->log)
    segue__access_note(thread_listener, http,
                       &(segue__access){.peer = http->peer,
                                        .module = thread_listener->route->module,
                                        .status = 421,
                                        .bytes = bytes});
}

/* Rejects a request on a connection from before the listener required a client certificate. 421
 * makes a client repeat the request on a new connection (RFC 9110 15.5.20), where the handshake
 * requests the certificate. */
static void send_back(segue__thread_listener *thread_listener, segue__http_request *http) {
  static const char text[] = "this address requires a client certificate now: connect again\n";
  ingress_request_count(thread_listener, 4);
  on_misdirected(thread_listener, http, sizeof text - 1);
  segue__http_last(http);
  segue__http_respond(http, 421, "text/plain; charset=utf-8", NULL, text, sizeof text - 1);
}

void segue__ingress_request_arrived(void *data, segue__http_request *http) {
  segue__thread_listener *thread_listener = data;
  const segue__route *route = segue__thread_listener_entry(thread_listener);
  if (route->tls && !http->client && segue__tls_context_asks(route->tls)) {
    send_back(thread_listener, http);
    return;
  }
  segue_request *request = request_acquire(thread_listener, http);
  if (!request) {
    segue__http_respond(http, 503, "text/plain; charset=utf-8", "Retry-After: 1\r\n",
                        "out of memory\n", 14);
    return;
  }
  http->user = request;
  request->gate = route->gate;
  request->generation_header = route->generation_header;
  if (route->log) request->began_ns = uv_hrtime();
  request->arrival.cb = on_gate;
  request->arrival.bytes = HEAD_GUESS + http->body.len;
  int rc = segue_gate_submit(route->gate, &request->arrival);
  if (rc == SEGUE_QUEUED)
    http->on_gone = request_on_gone;
  else if (rc < 0)
    request_refuse(request);
  else
    request_handle(request);
}

static void request_enter_late(segue_request *request, int status) {
  if (!request->http)
    ingress_request_finish(request);
  else if (status < 0)
    request_refuse(request);
  else
    request_handle(request);
}

/* ---- Chunks from other threads --------------------------------------------------------------- */

static void request_deliver(segue_request *request, const segue__answer_chunk *chunk) {
  segue_answer answer = {.status = chunk->status,
                         .content_type = chunk->content_type,
                         .body = chunk->body,
                         .len = chunk->len};
  if (chunk->kind == SEGUE__WHOLE)
    send_whole(request, &answer, chunk->headers);
  else if (chunk->kind == SEGUE__HEAD)
    send_head(request, &answer, chunk->headers);
  else
    write_on(request, chunk->body, chunk->len);
}

static void on_drained(segue__http_request *http) {
  request_flow(http->user);
}

void segue__ingress_request_await(segue_request *request, void (*cb)(void *data, int status),
                                  void *data) {
  pthread_mutex_lock(&request->worker->lock);
  request->await = (segue__await){cb, data};
  pthread_mutex_unlock(&request->worker->lock);
  if (cb && request->http) request->http->on_drained = on_drained;
}

void segue__request_on_left(segue_request *request, void (*fn)(void *data), void *data) {
  request->left_fn = fn;
  request->left_data = data;
}

/* Returns whether the server has bytes of the stream that the client has not read. Before a stream
 * on_drained is not called, so a callback must not wait for it. */
static bool is_behind(const segue_request *request) {
  return request->streaming && segue__http_stream_behind(request->http) > 0;
}

/* The connection may be lost although request_on_left did not run yet: then nothing is behind, but
 * the stream is not writable. */
static int await_status(const segue_request *request) {
  if (segue__http_is_lost(request->http)) return UV_ECONNRESET;
  return request->ending ? SEGUE_ECANCELLED : 0;
}

/* Removes the delivered chunks, and takes the callback that waits if its wait is over. Returns true
 * if the request ends here. If it was posted again meanwhile, the worker thread still has it in its
 * inbox, and it ends when that is processed: so `apart` stays set too, or the callback could end
 * (and free) a request that is in the inbox. */
static bool take_off(segue_request *request, size_t delivered, segue__await *await, int *status) {
  bool sent_all = !request->ready && !is_behind(request);
  pthread_mutex_lock(&request->worker->lock);
  request->flight -= delivered;
  bool ends = request->ending && !request->posted && !request->first && !request->ready;
  *status = await_status(request);
  *await = request->await;
  if (ends || (sent_all && !request->first))
    request->await = (segue__await){0};
  else
    await->cb = NULL;
  if (!request->first && !request->ready && !request->posted && !request->await.cb)
    __atomic_store_n(&request->apart, false, __ATOMIC_RELEASE);
  pthread_mutex_unlock(&request->worker->lock);
  return ends;
}

/* Writes as many chunks as the client reads. The callback comes last, because it may end the
 * request; if the request ends here, the callback comes first, because it may use the module. */
static void request_flow(segue_request *request) {
  size_t delivered = 0;
  while (request->ready) {
    segue__answer_chunk *chunk = request->ready;
    if (chunk->kind == SEGUE__DATA && would_block(request, chunk->len)) break;
    request->ready = chunk->next;
    delivered += chunk->len;
    bool last = chunk->kind == SEGUE__WHOLE;
    if (last) cancel_await(request);
    request_deliver(request, chunk);
    segue__free(chunk);
    if (last) return;
  }
  if (request->ready || is_behind(request)) request->http->on_drained = on_drained;
  (void)SEGUE_FAULT("ingress.delivered");
  segue__await await;
  int status;
  bool ends = take_off(request, delivered, &await, &status);
  report_await(&await, status);
  if (ends) request_end(request);
}

void segue__ingress_request_look(segue_request *request) {
  pthread_mutex_lock(&request->worker->lock);
  request->posted = false;
  bool entered = request->entered;
  int status = request->status;
  request->entered = false;
  segue__answer_chunk **end_of_ready = &request->ready;
  while (*end_of_ready)
    end_of_ready = &(*end_of_ready)->next;
  *end_of_ready = request->first;
  request->first = request->last = NULL;
  pthread_mutex_unlock(&request->worker->lock);
  if (entered)
    request_enter_late(request, status);
  else
    request_flow(request);
}

/* Runs on the thread that calls about the request, after its worker thread has ended: no other
 * thread has the request, and its client is gone. The last orphan frees the worker thread's memory,
 * if the ingress was freed before. */
static void request_orphaned(segue_request *request) {
  segue__worker_thread *worker = request->worker;
  bool over = request->entered || request->ending;
  for (const segue__answer_chunk *chunk = request->first; chunk; chunk = chunk->next)
    over = over || chunk->kind == SEGUE__WHOLE;
  free_pieces(request->first);
  request->first = request->last = NULL;
  if (!over) return;
  if (request->http) segue__http_stream_end(request->http);
  segue_gate_leave(&request->arrival.pass);
  free_pieces(request->ready);
  uncount_left(request);
  segue__free(request);
  pthread_mutex_lock(&worker->lock);
  worker->orphans--;
  bool free_worker = worker->disowned && worker->orphans == 0;
  pthread_mutex_unlock(&worker->lock);
  if (!free_worker) return;
  pthread_mutex_destroy(&worker->lock);
  segue__free(worker);
}

static char *request_put(char **at, const void *data, size_t len) {
  char *to = *at;
  if (len) memcpy(to, data, len);
  to[len] = 0;
  *at += len + 1;
  return to;
}

static segue__answer_chunk *piece_new(int kind, const segue_answer *answer,
                                      const segue__buf *lines) {
  size_t type = answer->content_type ? strlen(answer->content_type) : 0;
  size_t head = lines ? lines->len : 0;
  segue__answer_chunk *chunk = segue__malloc(sizeof *chunk + type + head + answer->len + 3);
  if (!chunk) return NULL;
  char *at = chunk->memory;
  chunk->next = NULL;
  chunk->kind = kind;
  chunk->status = answer->status;
  chunk->content_type = answer->content_type ? request_put(&at, answer->content_type, type) : NULL;
  chunk->headers = head ? request_put(&at, lines->data, head) : NULL;
  chunk->body = request_put(&at, answer->body, answer->len);
  chunk->len = answer->len;
  return chunk;
}

/* The limit on bytes that are not sent yet holds for chunks in flight too: a thread that writes
 * faster than the client reads gets UV_EAGAIN, and does not fill the memory. One chunk is always
 * taken, or a chunk longer than the limit could never be sent. */
static int post_piece(segue_request *request, segue__answer_chunk *chunk) {
  if (!chunk) return UV_ENOMEM;
  pthread_mutex_lock(&request->worker->lock);
  if (chunk->kind == SEGUE__DATA && request->flight && request->flight + chunk->len > BEHIND_MAX) {
    pthread_mutex_unlock(&request->worker->lock);
    segue__free(chunk);
    return UV_EAGAIN;
  }
  if (request->last)
    request->last->next = chunk;
  else
    request->first = chunk;
  request->last = chunk;
  request->flight += chunk->len;
  __atomic_store_n(&request->apart, true, __ATOMIC_RELEASE);
  if (!segue__worker_thread_post_unlock(request)) request_orphaned(request);
  return 0;
}

/* ---- Functions that a module calls to answer ------------------------------------------------- */

/* Returns whether the caller may write directly: it is on the worker thread, and no chunk of
 * another thread is on its way, which this write would overtake. */
static bool at_once(const segue_request *request) {
  return segue__worker_thread_is_here(request->worker) &&
         !__atomic_load_n(&request->apart, __ATOMIC_ACQUIRE);
}

static uint64_t generation_of(const segue_request *request) {
  return request->generation_header ? segue_snapshot_generation(request->arrival.pass.snapshot) : 0;
}

static int ingress_request_begin(segue_request *request, const segue_answer *answer, int kind) {
  int rc = segue__answer_check(answer);
  if (rc < 0) return rc;
  if (segue__gate_in_child(request->gate)) return SEGUE_ECLOSED; /* the parent answers */
  bool now = at_once(request);
  segue__buf own, *lines = now ? &request->worker->headers : &own;
  segue__buf_init(&own);
  uint64_t generation = generation_of(request);
  bool any = answer->header_count || generation;
  if (any) rc = segue__answer_lines(answer, generation, lines);
  if (rc == 0 && !now)
    rc = post_piece(request, piece_new(kind, answer, any ? lines : NULL));
  else if (rc == 0 && kind == SEGUE__WHOLE)
    send_whole(request, answer, any ? lines->data : NULL);
  else if (rc == 0)
    send_head(request, answer, any ? lines->data : NULL);
  segue__buf_deinit(&own);
  return rc;
}

int segue_request_answer(segue_request *request, const segue_answer *answer) {
  return ingress_request_begin(request, answer, SEGUE__WHOLE);
}

int segue_request_stream(segue_request *request, const segue_answer *head) {
  return ingress_request_begin(request, head, SEGUE__HEAD);
}

int segue_request_write(segue_request *request, const void *data, size_t len) {
  if (segue__gate_in_child(request->gate)) return SEGUE_ECLOSED;
  if (segue_request_gone(request)) return UV_ECONNRESET;
  if (!len) return 0;
  if (!at_once(request))
    return post_piece(request,
                      piece_new(SEGUE__DATA, &(segue_answer){.body = data, .len = len}, NULL));
  if (would_block(request, len)) return UV_EAGAIN;
  return write_on(request, data, len) < 0 ? UV_ECONNRESET : 0;
}

/* The callback is always reported from the loop of the worker thread, never inside a call of the
 * host: `apart` makes an end or an answer that comes before it a message too, also on the worker
 * thread. */
int segue_request_on_writable(segue_request *request, void (*cb)(void *data, int status),
                              void *data) {
  if (segue__gate_in_child(request->gate)) return SEGUE_ECLOSED;
  if (!cb) return SEGUE_EUSAGE;
  if (segue_request_gone(request)) return UV_ECONNRESET;
  pthread_mutex_lock(&request->worker->lock);
  if (request->await.cb) {
    pthread_mutex_unlock(&request->worker->lock);
    return SEGUE_EUSAGE;
  }
  request->await = (segue__await){cb, data};
  __atomic_store_n(&request->apart, true, __ATOMIC_RELEASE);
  if (segue__worker_thread_post_unlock(request)) return 0;
  request->await = (segue__await){0}; /* the worker thread has ended: no client is left */
  return UV_ECONNRESET;
}

static void end_somehow(segue_request *request, bool cut) {
  if (segue__gate_in_child(request->gate)) return;
  if (at_once(request)) {
    request->cut = cut;
    request_end(request);
    return;
  }
  pthread_mutex_lock(&request->worker->lock);
  request->ending = true;
  request->cut = cut;
  __atomic_store_n(&request->apart, true, __ATOMIC_RELEASE);
  if (!segue__worker_thread_post_unlock(request)) request_orphaned(request);
}

void segue_request_end(segue_request *request) {
  end_somehow(request, false);
}

void segue_request_abort(segue_request *request) {
  end_somehow(request, true);
}

/* ---- Data of a request ----------------------------------------------------------------------- */

static segue_text request_text_of(segue__http_text text) {
  return (segue_text){text.s, text.len};
}

segue_text segue_request_method(const segue_request *request) {
  return request_text_of(request->http->method);
}

const char *segue_request_path(const segue_request *request) {
  return request->http->path;
}

segue_text segue_request_query(const segue_request *request) {
  return request_text_of(request->http->query);
}

bool segue_request_parameter(const segue_request *request, const char *name, char *buf,
                             size_t size) {
  return segue__http_query_get(request->http, name, buf, size);
}

segue_text segue_request_header(const segue_request *request, const char *name) {
  const segue__http_text *value = segue__http_header_get(request->http, name);
  return value ? request_text_of(*value) : (segue_text){NULL, 0};
}

bool segue_request_header_at(const segue_request *request, size_t index, segue_header *out) {
  if (index >= request->http->header_count) return false;
  const segue__http_header *header = &request->http->headers[index];
  *out = (segue_header){request_text_of(header->name), request_text_of(header->value)};
  return true;
}

segue_text segue_request_body(const segue_request *request) {
  return request_text_of(request->http->body);
}

const char *segue_request_peer(const segue_request *request) {
  return request->http->peer;
}

bool segue_request_tls(const segue_request *request) {
  return request->http->tls;
}

static bool client_name(const segue_request *request, size_t index, segue__tls_name *name) {
  *name = (segue__tls_name){.text = NULL};
  while (segue__tls_name_next(request->http->client, name))
    if (index-- == 0) return true;
  return false;
}

const char *segue_request_client(const segue_request *request, size_t index) {
  segue__tls_name name;
  return client_name(request, index, &name) ? name.text : NULL;
}

const char *segue_request_client_kind(const segue_request *request, size_t index) {
  segue__tls_name name;
  return client_name(request, index, &name) ? segue__name_kind_text(name.kind) : NULL;
}

const segue_snapshot *segue_request_snapshot(const segue_request *request) {
  return request->arrival.pass.snapshot;
}

const segue_pass *segue_request_pass(const segue_request *request) {
  return &request->arrival.pass;
}

bool segue_request_gone(const segue_request *request) {
  return __atomic_load_n(&request->gone, __ATOMIC_ACQUIRE);
}
