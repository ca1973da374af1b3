/* SPDX-License-Identifier: MIT
 *
 * A host whose module answers HTTP requests. Arguments: policy, lock file. An instance holds a lock
 * on the file from start to stop if the configuration requests it, and prints "two at once" if it
 * cannot get it. The path of a request decides its answer. Ends by SIGTERM.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <segue.h>

typedef struct service {
  int64_t value; /* of the configuration */
  bool exclusive;
  int fd;
} service;

/* An answer of pieces, written as fast as the client reads. */
typedef struct stream {
  segue_request *request;
  int at, pieces;
  int status; /* of the wait for the client */
  bool later; /* a thread of the host writes it, else the worker thread */
} stream;

/* Requests that are answered by a thread of the host's, in the order in which they came. */
typedef struct job {
  segue_request *request;
  stream *stream; /* it continues; NULL: the request is new */
  int64_t value;
  struct job *next;
} job;

static segue *instance;
static const char *lock_path;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER, unblock = PTHREAD_COND_INITIALIZER;
static job *jobs, **last_job = &jobs;
static bool released, over;
static int handled; /* atomic */
static int stopped;

/* ---- Answers ---- */

static void say(segue_request *request, int status, const char *text) {
  segue_answer answer = {
      .status = status, .content_type = "text/plain", .body = text, .len = strlen(text)};
  if (segue_request_answer(request, &answer)) abort();
}

/* Answers with the configuration, the request, and the generation of the answer. */
static void echo(segue_request *request, int64_t value) {
  static const char number[] = "X-Number";
  segue_text method = segue_request_method(request), query = segue_request_query(request);
  segue_text body = segue_request_body(request), n = segue_request_header(request, number);
  segue_header headers[] = {{{number, sizeof number - 1}, n}};
  if (!n.s) n.len = 0;
  size_t size = body.len + query.len + strlen(segue_request_path(request)) + 256;
  char *text = malloc(size);
  if (!text) abort();
  int len =
      snprintf(text, size, "value=%" PRId64 " generation=%" PRIu64 " %.*s %s?%.*s %s\n%.*s", value,
               segue_snapshot_generation(segue_request_snapshot(request)), (int)method.len,
               method.s, segue_request_path(request), (int)query.len, query.s ? query.s : "",
               segue_request_peer(request), (int)body.len, body.s ? body.s : "");
  segue_answer answer = {.status = 200,
                         .content_type = "text/plain",
                         .headers = headers,
                         .header_count = n.s ? 1 : 0,
                         .body = text,
                         .len = (size_t)len};
  if (segue_request_answer(request, &answer)) abort();
  free(text);
}

/* Headers that are not allowed are refused, and the request can still be answered. */
static void misuse(segue_request *request) {
  segue_header bad[] = {
      {{"X-A", 3}, {"a\r\nX-B: b", 9}}, {{"X A", 3}, {"a", 1}}, {{"content-length", 14}, {"7", 1}}};
  int refused = 0;
  for (int i = 0; i < 3; i++) {
    segue_answer answer = {.status = 200, .headers = &bad[i], .header_count = 1};
    refused += segue_request_answer(request, &answer) == SEGUE_EUSAGE;
    refused += segue_request_stream(request, &answer) == SEGUE_EUSAGE;
  }
  refused += segue_request_answer(request, &(segue_answer){.status = 99}) == SEGUE_EUSAGE;
  refused += segue_request_answer(
                 request, &(segue_answer){.status = 200, .content_type = "a\nb"}) == SEGUE_EUSAGE;
  say(request, 200, refused == 8 ? "all refused\n" : "taken\n");
}

/* By which names the client is known. */
static void name_client(segue_request *request) {
  char text[1024];
  size_t at =
      (size_t)snprintf(text, sizeof text, "%s", segue_request_tls(request) ? "tls" : "plain");
  const char *name;
  for (size_t i = 0; (name = segue_request_client(request, i)) && at < sizeof text; i++)
    at += (size_t)snprintf(text + at, sizeof text - at, " %s:%s",
                           segue_request_client_kind(request, i), name);
  say(request, 200, text);
}

static void release_all(void) {
  pthread_mutex_lock(&lock);
  released = true;
  pthread_cond_signal(&wake);
  pthread_cond_broadcast(&unblock);
  pthread_mutex_unlock(&lock);
}

static void post(segue_request *request, stream *continued, int64_t value) {
  job *j = malloc(sizeof *j);
  if (!j) abort();
  *j = (job){request, continued, value, NULL};
  pthread_mutex_lock(&lock);
  *last_job = j;
  last_job = &j->next;
  pthread_cond_signal(&wake);
  pthread_mutex_unlock(&lock);
}

static bool path_is(const segue_request *request, const char *path) {
  return strcmp(segue_request_path(request), path) == 0;
}

/* ---- Streams ---- */

static void stream_go_on(stream *s);

static void stream_on_writable(void *data, int status) {
  stream *s = data;
  s->status = status;
  if (s->later)
    post(s->request, s, 0);
  else
    stream_go_on(s);
}

/* Another thread may have freed the stream as soon as it waits. */
static void stream_go_on(stream *s) {
  char piece[1001];
  int rc = s->status;
  while (rc == 0 && s->at < s->pieces) {
    snprintf(piece, sizeof piece, "%0999d\n", s->at);
    rc = segue_request_write(s->request, piece, 1000);
    if (rc == 0) s->at++;
  }
  if (rc == -EAGAIN) {
    rc = segue_request_on_writable(s->request, stream_on_writable, s);
    if (rc == 0) return;
  }
  if (rc < 0) fprintf(stderr, "stream ended: %s\n", segue_error_name(rc));
  segue_request_end(s->request);
  free(s);
}

/* ?pieces=n of 1000 bytes each. */
static void stream_begin(segue_request *request, bool later) {
  char text[16];
  stream *s = calloc(1, sizeof *s);
  segue_answer head = {.status = 200, .content_type = "text/plain", .body = "begin\n", .len = 6};
  if (!s || segue_request_stream(request, &head)) abort();
  s->request = request;
  s->pieces = segue_request_parameter(request, "pieces", text, sizeof text) ? atoi(text) : 3;
  s->later = later;
  stream_go_on(s);
}

/* ---- Waits for the client, each logged with its result ---- */

static void writable_on_result(void *data, int status) {
  fprintf(stderr, "writable: %s\n", segue_error_name(status));
  if (status == SEGUE_ECANCELLED) return;
  if (status == 0) segue_request_write(data, "writable\n", 9);
  segue_request_end(data);
}

static void writable_wait(segue_request *request) {
  int rc = segue_request_on_writable(request, writable_on_result, request);
  fprintf(stderr, "waits: %s\n", segue_error_name(rc));
  if (rc < 0) segue_request_end(request);
}

/* Calls that must not start a wait, and one that does. */
static void writable_misuse(segue_request *request) {
  int none = segue_request_on_writable(request, NULL, request);
  int first = segue_request_on_writable(request, writable_on_result, request);
  int second = segue_request_on_writable(request, writable_on_result, NULL);
  fprintf(stderr, "misuse: %s %s %s\n", segue_error_name(none), segue_error_name(first),
          segue_error_name(second));
}

/* One piece that is longer than the buffers of the kernel: a client has to read it. */
static void writable_fill(segue_request *request) {
  enum { FULL = 8 << 20 };
  char *piece = malloc(FULL);
  if (!piece) abort();
  memset(piece, 'x', FULL);
  if (segue_request_write(request, piece, FULL)) abort();
  free(piece);
}

/* The callback may have ended the request when writable_wait returns, so its path is read before.
 */
static void writable(segue_request *request, const char *mode) {
  segue_answer head = {.status = 200, .content_type = "text/plain"};
  bool answers = strcmp(mode, "answer") == 0;
  bool ends = strcmp(mode, "end") == 0 || strcmp(mode, "full/end") == 0;
  if (!answers && segue_request_stream(request, &head)) abort();
  if (strncmp(mode, "full", 4) == 0) writable_fill(request);
  if (strcmp(mode, "misuse") == 0) {
    writable_misuse(request);
    return;
  }
  writable_wait(request);
  if (answers) say(request, 200, "answered\n");
  if (ends) segue_request_end(request);
}

static bool is_writable_path(const segue_request *request) {
  return strncmp(segue_request_path(request), "/writable/", 10) == 0;
}

/* Ends the stream only when all are released: the spec holds the worker thread meanwhile. */
static void stream_end_late(segue_request *request) {
  segue_answer head = {.status = 200, .content_type = "text/plain", .body = "begin\n", .len = 6};
  if (segue_request_stream(request, &head)) abort();
  pthread_mutex_lock(&lock);
  while (!released)
    pthread_cond_wait(&unblock, &lock);
  pthread_mutex_unlock(&lock);
  segue_request_end(request);
  fprintf(stderr, "stream is ended\n");
}

static void work_off(const job *j) {
  if (j->stream)
    stream_go_on(j->stream);
  else if (path_is(j->request, "/who/later"))
    name_client(j->request);
  else if (path_is(j->request, "/hold/writable"))
    writable_wait(j->request);
  else if (is_writable_path(j->request))
    writable(j->request, segue_request_path(j->request) + 10);
  else if (path_is(j->request, "/hold"))
    say(j->request, 200, segue_request_gone(j->request) ? "gone\n" : "released\n");
  else if (path_is(j->request, "/stream/later"))
    stream_begin(j->request, true);
  else if (path_is(j->request, "/stream/end/later"))
    stream_end_late(j->request);
  else
    echo(j->request, j->value);
}

static bool is_held(const segue_request *request) {
  return strncmp(segue_request_path(request), "/hold", 5) == 0;
}

static void *work(void *data) {
  (void)data;
  pthread_mutex_lock(&lock);
  while (!over || jobs) {
    job *j = jobs;
    if (!j || (is_held(j->request) && !released && !over)) {
      pthread_cond_wait(&wake, &lock);
      continue;
    }
    jobs = j->next;
    if (!jobs) last_job = &jobs;
    pthread_mutex_unlock(&lock);
    work_off(j);
    free(j);
    pthread_mutex_lock(&lock);
  }
  pthread_mutex_unlock(&lock);
  return NULL;
}

/* ---- The module ---- */

static void prepare(void *userdata, segue_op *op, const segue_slice *next, const segue_slice *prev,
                    void **out) {
  (void)userdata, (void)prev;
  service *s = calloc(1, sizeof *s);
  *out = s;
  if (!s) abort();
  s->fd = -1;
  segue_node_int(segue_node_member(next->config, "a"), &s->value);
  segue_node_bool(segue_node_member(next->config, "exclusive"), &s->exclusive);
  segue_op_done(op, 0, NULL);
}

static void start(void *data, segue_op *op) {
  service *s = data;
  if (s->exclusive) s->fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  bool two = s->exclusive && (s->fd < 0 || flock(s->fd, LOCK_EX | LOCK_NB));
  if (two) fprintf(stderr, "two at once\n");
  segue_op_done(op, two ? SEGUE_EMODULE : 0, NULL);
}

static void stop(void *data, segue_op *op) {
  service *s = data;
  if (s->fd >= 0) close(s->fd);
  s->fd = -1;
  segue_op_done(op, 0, NULL);
}

static void destroy(void *data) {
  service *s = data;
  if (s->fd >= 0) close(s->fd);
  free(s);
}

/* A mistake that no module should make: the worker thread does nothing else until all are
 * released. */
static void block(segue_request *request) {
  pthread_mutex_lock(&lock);
  while (!released)
    pthread_cond_wait(&unblock, &lock);
  pthread_mutex_unlock(&lock);
  say(request, 200, "unblocked\n");
}

static void handle(void *data, segue_request *request) {
  const service *s = data;
  __atomic_add_fetch(&handled, 1, __ATOMIC_RELAXED);
  if (path_is(request, "/release")) {
    release_all();
    say(request, 200, "ok\n");
  } else if (path_is(request, "/later") || is_held(request) || path_is(request, "/stream/later") ||
             path_is(request, "/stream/end/later") || path_is(request, "/who/later") ||
             path_is(request, "/writable/full")) {
    post(request, NULL, s->value);
  } else if (is_writable_path(request)) {
    writable(request, segue_request_path(request) + 10);
  } else if (path_is(request, "/stream")) {
    stream_begin(request, false);
  } else if (path_is(request, "/block")) {
    block(request);
  } else if (path_is(request, "/who")) {
    name_client(request);
  } else if (path_is(request, "/misuse")) {
    misuse(request);
  } else if (strncmp(segue_request_path(request), "/status/", 8) == 0) {
    say(request, atoi(segue_request_path(request) + 8), "body\n");
  } else if (path_is(request, "/nothing")) {
    segue_request_end(request);
  } else {
    echo(request, s->value);
  }
}

static const segue_module_ops ops = {.size = sizeof ops,
                                     .prepare = prepare,
                                     .start = start,
                                     .stop = stop,
                                     .destroy = destroy,
                                     .handle = handle};
static const segue_module_ops deaf = {.size = sizeof deaf};

/* ---- The host ---- */

static void on_start(void *data, int status, const segue_report *report) {
  (void)data;
  printf("started %s %s\n", status ? segue_error_name(status) : "ok",
         report && report->error_count ? report->errors[0].message : "");
  fflush(stdout);
}

static void on_log(void *data, const segue_log_entry *entry) {
  char line[1024];
  size_t at = (size_t)snprintf(line, sizeof line, "log %s %s", entry->group, entry->message);
  (void)data;
  for (size_t i = 0; i < entry->field_count && at < sizeof line - 256; i++)
    at += (size_t)snprintf(line + at, 256, " %s=%.200s", entry->fields[i].key,
                           entry->fields[i].text ? entry->fields[i].text : "#");
  fprintf(stderr, "%s\n", line);
}

/* SIGUSR1: releases held requests. SIGTERM: stops; a second one exits after the stop. */
static void *wait_for_the_end(void *data) {
  int signal = 0;
  while (signal != SIGTERM) {
    sigwait(data, &signal);
    if (signal == SIGUSR1) release_all();
  }
  segue_stop(instance);
  for (; !__atomic_load_n(&stopped, __ATOMIC_SEQ_CST); sigwait(data, &signal))
    if (signal == SIGUSR1) release_all();
  return NULL;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  segue_options options;
  segue_error error;
  pthread_t worker, ender;
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  sigaddset(&term, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &term, NULL);
  segue_options_init(&options);
  options.policy = argv[1];
  options.lua_dir = "lua";
  options.on_start = on_start;
  options.on_log = on_log;
  options.signals = true;
  lock_path = argv[2];
  int rc = segue_new(&instance, &options, &error);
  if (rc == 0) rc = segue_module_register(instance, "service", &ops, NULL);
  if (rc == 0) rc = segue_module_register(instance, "deaf", &deaf, NULL);
  if (rc == 0) rc = segue_start(instance, &error);
  if (rc < 0) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  if (pthread_create(&worker, NULL, work, NULL) ||
      pthread_create(&ender, NULL, wait_for_the_end, &term))
    return 1;
  segue_run(instance);
  __atomic_store_n(&stopped, 1, __ATOMIC_SEQ_CST);
  pthread_kill(ender, SIGUSR1);
  pthread_mutex_lock(&lock);
  over = true;
  pthread_cond_signal(&wake);
  pthread_mutex_unlock(&lock);
  pthread_join(worker, NULL);
  pthread_join(ender, NULL);
  segue_close(instance);
  printf("closed handled=%d\n", handled);
  return 0;
}
