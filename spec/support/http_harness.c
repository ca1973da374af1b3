/* SPDX-License-Identifier: MIT
 *
 * The server under test on a thread of its own; a spec talks to it through sockets like any other
 * client, and asks the thread for the rest, one question at a time.
 */
#include "http_harness.h"

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/http/conn.h"

typedef struct job {
  uv_timer_t timer; /* first */
  struct job *next;
  http_harness *h;
  segue__http_request *request;
  int left, every_ms;
} job;

typedef struct harness_listener {
  struct harness_listener *next;
  segue__http_listener *listener;
  segue__socket_lease lease;
} harness_listener;

struct http_harness {
  segue__sockets *sockets;
  harness_listener *listeners;
  uv_loop_t loop;
  segue__poller *poller; /* NULL: the thread runs the loop alone */
  uv_async_t async;
  uv_thread_t thread;
  uv_mutex_t mutex;
  uv_cond_t cond;
  sem_t go;
  void (*ask)(http_harness *h);
  segue__http_server *server;
  job *held;
  int requests, held_count, gone, refused, tls_failures, shortages, ended, open_handles;
  /* of the question */
  segue__http_limits limits;
  const char *address;
  unsigned mode;
  const char *cert, *key, *ca;
  segue__http_listener *listener;
  segue_error *err;
  uint64_t number;
  int result;
};

/* ---- Handlers -------------------------------------------------------------------------------- */

static void count(int *counter, int delta) {
  __atomic_add_fetch(counter, delta, __ATOMIC_SEQ_CST);
}

static void free_job(uv_handle_t *handle) {
  free(handle);
}

static void end_job(job *j) {
  uv_timer_stop(&j->timer);
  uv_close((uv_handle_t *)&j->timer, free_job);
  count(&j->h->held_count, -1);
}

static void unhold(job *j) {
  for (job **at = &j->h->held; *at; at = &(*at)->next)
    if (*at == j) {
      *at = j->next;
      return;
    }
}

static void on_gone(segue__http_request *request) {
  job *j = request->user;
  count(&j->h->gone, 1);
  unhold(j);
  end_job(j);
}

static job *new_job(http_harness *h, segue__http_request *request) {
  job *j = calloc(1, sizeof *j);
  j->h = h;
  j->request = request;
  uv_timer_init(&h->loop, &j->timer);
  count(&h->held_count, 1);
  request->user = j;
  request->on_gone = on_gone;
  return j;
}

static void on_later(uv_timer_t *timer) {
  job *j = (job *)timer;
  segue__http_respond(j->request, 200, "text/plain", NULL, "late\n", 5);
  end_job(j);
}

static void on_drip(uv_timer_t *timer) {
  job *j = (job *)timer;
  if (j->left-- > 0) {
    segue__http_stream_write(j->request, "drop\n", 5);
    return;
  }
  segue__http_stream_end(j->request);
  end_job(j);
}

static void hold(http_harness *h, segue__http_request *request, bool silent) {
  job *j = new_job(h, request);
  if (silent) request->on_gone = NULL;
  j->next = h->held;
  h->held = j;
}

static void inspect(segue__http_request *r) {
  segue__buf out;
  segue__buf_init(&out);
  segue__buf_addf(&out, "method=%.*s\npath=%s\nquery=%.*s\nhost=%.*s\nheaders=%zu\n",
                  (int)r->method.len, r->method.s, r->path, (int)r->query.len,
                  r->query.s ? r->query.s : "", (int)r->host.len, r->host.s ? r->host.s : "",
                  r->header_count);
  const segue__http_text *x = segue__http_header_get(r, "x-TEST");
  segue__buf_addf(&out, "x-test=%.*s\nbody=%.*s\npeer=%s\nlocal=%d\n", x ? (int)x->len : 0,
                  x ? x->s : "", (int)r->body.len, r->body.s, r->peer, r->local);
  if (r->tls) segue__buf_addf(&out, "client=%s\n", r->client ? r->client->names + 1 : "-");
  segue__http_respond(r, 200, "text/plain", "X-Extra: yes\r\n", out.data, out.len);
  segue__buf_deinit(&out);
}

static void send_size(segue__http_request *r, size_t size) {
  char *body = malloc(size + 1);
  for (size_t i = 0; i < size; i++)
    body[i] = (char)('a' + i % 26);
  segue__http_respond(r, 200, "application/octet-stream", NULL, body, size);
  free(body);
}

static void stream_205(segue__http_request *r) {
  segue__http_stream_begin(r, 205, "text/plain", NULL);
  (void)segue__http_stream_write(r, "too much\n", 9);
  segue__http_stream_end(r);
}

static void stream(http_harness *h, segue__http_request *r, int pieces, int size) {
  char *piece = malloc((size_t)size);
  memset(piece, 's', (size_t)size);
  int code = 0;
  segue__http_stream_begin(r, 200, "text/plain", NULL);
  for (int i = 0; i < pieces && code == 0; i++)
    code = segue__http_stream_write(r, piece, (size_t)size);
  if (code) __atomic_store_n(&h->refused, code, __ATOMIC_SEQ_CST);
  segue__http_stream_end(r);
  free(piece);
}

/* Leaves the refused stream open: on_gone must come. */
static void flood(http_harness *h, segue__http_request *r) {
  static const char piece[65536];
  job *j = new_job(h, r);
  int code = 0;
  (void)j;
  segue__http_stream_begin(r, 200, NULL, NULL);
  while (code == 0)
    code = segue__http_stream_write(r, piece, sizeof piece);
  __atomic_store_n(&h->refused, code, __ATOMIC_SEQ_CST);
}

static void drip(http_harness *h, segue__http_request *r, int pieces, int every_ms) {
  job *j = new_job(h, r);
  j->left = pieces;
  segue__http_stream_begin(r, 200, "text/event-stream", NULL);
  uv_timer_start(&j->timer, on_drip, (uint64_t)every_ms, (uint64_t)every_ms);
}

static void stall(http_harness *h, segue__http_request *r) {
  while (sem_wait(&h->go) != 0)
    ;
  segue__http_respond(r, 200, NULL, NULL, "gone on\n", 8);
}

static void harness_close_listener(http_harness *h, const segue__http_listener *listener) {
  harness_listener **at = &h->listeners;
  while (*at && (*at)->listener != listener)
    at = &(*at)->next;
  harness_listener *item = *at;
  if (!item) return;
  *at = item->next;
  segue__socket_leave(&item->lease);
  segue__http_listener_close(item->listener);
  segue__socket_release(&item->lease);
  free(item);
}

static void close_listener(http_harness *h, segue__http_request *r) {
  harness_close_listener(h, h->listener);
  segue__http_respond(r, 200, NULL, NULL, "closed\n", 7);
}

static void on_request(void *data, segue__http_request *r) {
  http_harness *h = data;
  int a = 0, b = 0;
  count(&h->requests, 1);
  if (sscanf(r->path, "/later/%d", &a) == 1)
    uv_timer_start(&new_job(h, r)->timer, on_later, (uint64_t)a, 0);
  else if (sscanf(r->path, "/size/%d", &a) == 1)
    send_size(r, (size_t)a);
  else if (sscanf(r->path, "/status/%d", &a) == 1)
    segue__http_respond(r, a, "text/plain", NULL, "status\n", 7);
  else if (sscanf(r->path, "/stream/%d/%d", &a, &b) == 2)
    stream(h, r, a, b);
  else if (sscanf(r->path, "/drip/%d/%d", &a, &b) == 2)
    drip(h, r, a, b);
  else if (strcmp(r->path, "/stream205") == 0)
    stream_205(r);
  else if (strcmp(r->path, "/flood") == 0)
    flood(h, r);
  else if (strcmp(r->path, "/hold") == 0 || strcmp(r->path, "/silent") == 0)
    hold(h, r, r->path[1] == 's');
  else if (strcmp(r->path, "/stall") == 0)
    stall(h, r);
  else if (strcmp(r->path, "/unlisten") == 0)
    close_listener(h, r);
  else if (strcmp(r->path, "/echo") == 0)
    segue__http_respond(r, 200, NULL, NULL, r->body.s, r->body.len);
  else
    inspect(r);
}

/* ---- The thread and its questions ------------------------------------------------------------ */

static void on_async(uv_async_t *async) {
  http_harness *h = async->data;
  uv_mutex_lock(&h->mutex);
  if (h->ask) h->ask(h);
  h->ask = NULL;
  uv_cond_broadcast(&h->cond);
  uv_mutex_unlock(&h->mutex);
}

static void run(void *data) {
  http_harness *h = data;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  if (h->poller)
    segue__poller_run(h->poller);
  else
    uv_run(&h->loop, UV_RUN_DEFAULT);
  segue__poller_free(h->poller);
  h->open_handles = uv_loop_close(&h->loop) ? 1 : 0;
  uv_mutex_lock(&h->mutex);
  h->ended = 1;
  uv_cond_broadcast(&h->cond);
  uv_mutex_unlock(&h->mutex);
}

static void ask(http_harness *h, void (*question)(http_harness *h)) {
  uv_mutex_lock(&h->mutex);
  h->ask = question;
  uv_async_send(&h->async);
  while (h->ask && !h->ended)
    uv_cond_wait(&h->cond, &h->mutex);
  uv_mutex_unlock(&h->mutex);
}

static void on_tls_failure(void *data, const char *peer, void *auth, const char *why) {
  http_harness *h = data;
  (void)peer, (void)auth, (void)why;
  count(&h->tls_failures, 1);
}

static void on_scarce(void *data) {
  count(&((http_harness *)data)->shortages, 1);
}

static bool uses_poller;

void http_harness_use_poller(bool yes) {
  uses_poller = yes;
}

int http_harness_new(http_harness **out, const segue__http_limits *limits) {
  http_harness *h = calloc(1, sizeof *h);
  uv_loop_init(&h->loop);
  uv_async_init(&h->loop, &h->async, on_async);
  h->async.data = h;
  uv_mutex_init(&h->mutex);
  uv_cond_init(&h->cond);
  sem_init(&h->go, 0, 0);
  int r = segue__sockets_new(&h->sockets, NULL);
  if (r == 0) r = segue__http_server_new(&h->server, &h->loop, limits, on_request, h);
  if (r == 0 && uses_poller) {
    if (segue__poller_new(&h->poller, &h->loop) != 0) abort();
    segue__http_server_poll(h->server, h->poller);
  }
  if (r) {
    segue__sockets_free(h->sockets);
    uv_close((uv_handle_t *)&h->async, NULL);
    uv_run(&h->loop, UV_RUN_DEFAULT);
    uv_loop_close(&h->loop);
    free(h);
    return r;
  }
  segue__http_server_watch(
      h->server, &(segue__http_events){.on_tls_failure = on_tls_failure, .on_scarce = on_scarce});
  uv_thread_create(&h->thread, run, h);
  *out = h;
  return 0;
}

static void do_listen(http_harness *h) {
  segue__address address;
  const segue__socket_wish wish = {.address = &address, .mode = h->mode, .user = "this spec"};
  harness_listener *item = calloc(1, sizeof *item);
  int rc = segue__address_parse(h->address, &address, h->err);
  if (rc == 0) rc = segue__socket_acquire(h->sockets, &wish, &item->lease, h->err);
  int fd = rc == 0 ? segue__socket_share(&item->lease) : rc;
  bool is_local = address.type == SEGUE__SOCKET_UNIX;
  if (fd >= 0) rc = segue__http_listener_new(&item->listener, fd, is_local, 0);
  if (fd >= 0 && rc == 0) rc = segue__http_listener_begin(item->listener, h->server);
  h->result = fd < 0 ? fd : rc;
  if (h->result < 0) {
    segue__socket_release(&item->lease);
    free(item);
    return;
  }
  h->listener = item->listener;
  item->next = h->listeners;
  h->listeners = item;
}

int http_harness_listen(http_harness *h, const char *address, unsigned mode,
                        segue__http_listener **listener, segue_error *err) {
  h->address = address;
  h->mode = mode;
  h->err = err;
  h->listener = NULL;
  ask(h, do_listen);
  *listener = h->listener;
  return h->result;
}

static segue__tls_file pem(const char *name, const char *text) {
  return (segue__tls_file){name, text, text ? strlen(text) : 0};
}

static void do_set_tls(http_harness *h) {
  segue__tls_context *tls;
  segue__tls_options options = {.size = sizeof options,
                                .cert = pem("cert.pem", h->cert),
                                .key = pem("key.pem", h->key),
                                .client_ca = pem("ca.pem", h->ca)};
  h->result = segue__tls_context_new(&tls, &options, h->err);
  if (h->result < 0) return;
  segue__http_listener_set(h->listener, tls, NULL, NULL);
  segue__tls_context_unref(tls);
}

int http_harness_change_tls(http_harness *h, segue__http_listener *listener, const char *cert,
                            const char *key, const char *ca, segue_error *err) {
  h->listener = listener;
  h->cert = cert;
  h->key = key;
  h->ca = ca;
  h->err = err;
  ask(h, do_set_tls);
  return h->result;
}

int http_harness_listen_tls(http_harness *h, const char *address, const char *cert, const char *key,
                            const char *ca, segue__http_listener **listener, segue_error *err) {
  int rc = http_harness_listen(h, address, 0, listener, err);
  return rc < 0 ? rc : http_harness_change_tls(h, *listener, cert, key, ca, err);
}

int http_harness_shortages(const http_harness *h) {
  return __atomic_load_n(&h->shortages, __ATOMIC_SEQ_CST);
}

int http_harness_tls_failures(const http_harness *h) {
  return __atomic_load_n(&h->tls_failures, __ATOMIC_SEQ_CST);
}

static void do_unlisten(http_harness *h) {
  harness_close_listener(h, h->listener);
}

void http_harness_unlisten(http_harness *h, segue__http_listener *listener) {
  h->listener = listener;
  ask(h, do_unlisten);
}

int http_harness_port(http_harness *h, segue__http_listener *listener) {
  const harness_listener *item = h->listeners; /* this thread added it, and waited for that */
  while (item->listener != listener)
    item = item->next;
  return segue__socket_address(&item->lease)->port;
}

static void do_connections(http_harness *h) {
  h->number = h->server ? segue__http_connections(h->server) : 0;
}

size_t http_harness_connections(http_harness *h) {
  ask(h, do_connections);
  return (size_t)h->number;
}

static int get(const int *counter) {
  return __atomic_load_n(counter, __ATOMIC_SEQ_CST);
}

int http_harness_requests(const http_harness *h) {
  return get(&h->requests);
}

int http_harness_held(const http_harness *h) {
  return get(&h->held_count);
}

int http_harness_gone(const http_harness *h) {
  return get(&h->gone);
}

int http_harness_refused(const http_harness *h) {
  return get(&h->refused);
}

static void do_release(http_harness *h) {
  while (h->held) {
    job *j = h->held;
    h->held = j->next;
    segue__http_respond(j->request, 200, "text/plain", NULL, "released\n", 9);
    end_job(j);
  }
}

void http_harness_go(http_harness *h) {
  sem_post(&h->go);
}

void http_harness_release(http_harness *h) {
  ask(h, do_release);
}

static void on_server_closed(void *data) {
  http_harness *h = data;
  h->server = NULL;
  do_release(h); /* who is held without on_gone */
  uv_close((uv_handle_t *)&h->async, NULL);
}

static void do_close(http_harness *h) {
  while (h->listeners)
    harness_close_listener(h, h->listeners->listener);
  segue__http_server_close(h->server, h->number, on_server_closed, h);
}

void http_harness_close(http_harness *h, uint64_t grace_ms) {
  h->number = grace_ms;
  ask(h, do_close);
}

int http_harness_free(http_harness *h) {
  int late = 0;
  uv_mutex_lock(&h->mutex);
  while (!h->ended && !late)
    late = uv_cond_timedwait(&h->cond, &h->mutex, 10000000000ull);
  uv_mutex_unlock(&h->mutex);
  if (!h->ended) return -1;
  uv_thread_join(&h->thread);
  int left = h->open_handles;
  uv_mutex_destroy(&h->mutex);
  uv_cond_destroy(&h->cond);
  segue__sockets_free(h->sockets);
  free(h);
  return left;
}

/* ---- The process ----------------------------------------------------------------------------- */

static int taken[65536], taken_count;
static struct rlimit before;

int http_harness_use_fds(unsigned limit) {
  getrlimit(RLIMIT_NOFILE, &before);
  struct rlimit low = {.rlim_cur = limit, .rlim_max = before.rlim_max};
  setrlimit(RLIMIT_NOFILE, &low);
  int fd;
  while (taken_count < 65536 && (fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
    taken[taken_count++] = fd;
  return taken_count;
}

void http_harness_free_fd(void) {
  close(taken[--taken_count]);
}

void http_harness_free_fds(void) {
  if (!taken_count) return;
  while (taken_count)
    close(taken[--taken_count]);
  setrlimit(RLIMIT_NOFILE, &before);
}

size_t http_harness_connection_size(void) {
  return sizeof(segue__http_conn);
}
