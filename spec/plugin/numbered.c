/* SPDX-License-Identifier: MIT
 *
 * A module for the numbered client (spec/bench/numbered.c). POST /n/SLOT/NUMBER is one request of
 * many: the module keeps a ledger over all its instances, in which each number of a slot must come
 * many: the module keeps a ledger over all its instances, in which each number of a slot must come
 * once and in order, with the body that belongs to it. The answer contains the value that the
 * instance was made from and, from the request's own snapshot, every copy of the same value, so
 * that a mixture of two generations shows. Some are answered at once, some by a thread of the
 * instance, some of the latter in chunks. GET /ledger returns the counts; any other path returns
 * the value.
 *
 * With `lock` in its configuration an instance makes that file and holds a lock on it from start to
 * stop: two at once fail.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <segue.h>

#include "../bench/numbered.h"

typedef struct job {
  segue_request *request;
  uint32_t number;
  struct job *next;
} job;

enum { NEW, SERVING, STOPPED };

typedef struct service {
  int64_t value;
  char text[32]; /* the value, for who requests nothing else */
  size_t text_len;
  char *lock_path; /* NULL: holds none */
  int lock_fd;
  atomic_int phase;

  pthread_t thread;
  bool threaded;
  pthread_mutex_t lock;
  pthread_cond_t wake;
  job *jobs, **last_job;
  bool over;
} service;

static _Atomic uint32_t last_number[NUMBERED_SLOTS];
static atomic_uint_fast64_t arrived, doubled, disordered, torn, misplaced;

/* ---- Answers ---- */

static void reply(segue_request *request, int status, const char *text, size_t len) {
  segue_answer answer = {.status = status, .content_type = "text/plain", .body = text, .len = len};
  if (segue_request_answer(request, &answer)) abort();
}

static const segue_node *own(const segue_request *request) {
  return segue_node_member(segue_snapshot_root(segue_request_snapshot(request)), "service");
}

static size_t put_first(char *out, size_t size, const service *s, const segue_request *request,
                        uint32_t number) {
  int64_t value = 0;
  segue_node_int(segue_node_member(own(request), "value"), &value);
  return (size_t)snprintf(
      out, size, "number=%" PRIu32 " generation=%" PRIu64 " value=%" PRId64 " instance=%" PRId64,
      number, segue_snapshot_generation(segue_request_snapshot(request)), value, s->value);
}

static size_t put_copies(char *out, size_t size, const segue_request *request, size_t from,
                         size_t to) {
  const segue_node *copies = segue_node_member(own(request), "copies");
  size_t len = 0;
  for (size_t i = from; i < to; i++) {
    int64_t value = 0;
    segue_node_int(segue_node_at(copies, i, NULL), &value);
    len += (size_t)snprintf(out + len, size - len, " %" PRId64, value);
  }
  return len;
}

static void answer_whole(const service *s, segue_request *request, uint32_t number) {
  char text[2048];
  size_t len = put_first(text, sizeof text, s, request, number);
  len += put_copies(text + len, sizeof text - len, request, 0, NUMBERED_COPIES);
  reply(request, 200, text, len);
}

static void answer_in_pieces(const service *s, segue_request *request, uint32_t number) {
  char text[512];
  segue_answer head = {.status = 200, .content_type = "text/plain", .body = text};
  head.len = put_first(text, sizeof text, s, request, number);
  if (segue_request_stream(request, &head)) abort();
  for (size_t i = 0; i < NUMBERED_COPIES; i += 8) {
    size_t len = put_copies(text, sizeof text, request, i, i + 8);
    if (segue_request_write(request, text, len)) break; /* the client left: no one reads the rest */
  }
  segue_request_end(request);
}

/* ---- A thread of the instance's own ---- */

static void *work(void *data) {
  service *s = data;
  pthread_mutex_lock(&s->lock);
  while (!s->over || s->jobs) {
    job *j = s->jobs;
    if (!j) {
      pthread_cond_wait(&s->wake, &s->lock);
      continue;
    }
    s->jobs = j->next;
    if (!s->jobs) s->last_job = &s->jobs;
    pthread_mutex_unlock(&s->lock);
    if (j->number % 2)
      answer_in_pieces(s, j->request, j->number);
    else
      answer_whole(s, j->request, j->number);
    free(j);
    pthread_mutex_lock(&s->lock);
  }
  pthread_mutex_unlock(&s->lock);
  return NULL;
}

/* False: the thread has ended. */
static bool post(service *s, segue_request *request, uint32_t number) {
  job *j = malloc(sizeof *j);
  if (!j) abort();
  *j = (job){request, number, NULL};
  pthread_mutex_lock(&s->lock);
  if (s->over) {
    pthread_mutex_unlock(&s->lock);
    free(j);
    return false;
  }
  *s->last_job = j;
  s->last_job = &j->next;
  pthread_cond_signal(&s->wake);
  pthread_mutex_unlock(&s->lock);
  return true;
}

static void end_thread(service *s) {
  if (!s->threaded) return;
  pthread_mutex_lock(&s->lock);
  s->over = true;
  pthread_cond_signal(&s->wake);
  pthread_mutex_unlock(&s->lock);
  pthread_join(s->thread, NULL);
  s->threaded = false;
}

/* ---- Requests ---- */

static bool body_is_right(segue_text body, uint32_t slot, uint32_t number) {
  uint32_t mix = numbered_mix(slot, number);
  bool right = body.len == numbered_body_len(slot, number);
  for (size_t i = 0; right && i < body.len; i++)
    right = body.s[i] == numbered_byte(mix, i);
  return right;
}

/* Where reloads come faster than the old instances are left, the oldest is stopped all the same,
 * and still answers who is inside of it; one that is restarted is not. */
static void note(const service *s, segue_text body, uint32_t slot, uint32_t number) {
  uint32_t last = atomic_exchange(&last_number[slot], number);
  atomic_fetch_add(&arrived, 1);
  if (number <= last)
    atomic_fetch_add(&doubled, 1);
  else if (number != last + 1)
    atomic_fetch_add(&disordered, 1);
  if (!body_is_right(body, slot, number)) atomic_fetch_add(&torn, 1);
  int phase = atomic_load(&s->phase);
  if (phase == NEW || (phase == STOPPED && s->lock_path)) atomic_fetch_add(&misplaced, 1);
}

static void tell_ledger(segue_request *request) {
  char text[256];
  int len = snprintf(text, sizeof text,
                     "arrived=%" PRIuFAST64 " doubled=%" PRIuFAST64 " disordered=%" PRIuFAST64
                     " torn=%" PRIuFAST64 " misplaced=%" PRIuFAST64 "\n",
                     arrived, doubled, disordered, torn, misplaced);
  reply(request, 200, text, (size_t)len);
}

static void handle(void *data, segue_request *request) {
  service *s = data;
  const char *path = segue_request_path(request);
  uint32_t slot, number;
  if (strncmp(path, "/n/", 3) != 0 ||
      sscanf(path, "/n/%" SCNu32 "/%" SCNu32, &slot, &number) != 2) {
    if (strcmp(path, "/ledger") == 0)
      tell_ledger(request);
    else
      reply(request, 200, s->text, s->text_len);
  } else if (slot >= NUMBERED_SLOTS) {
    reply(request, 400, "no such slot\n", 13);
  } else {
    note(s, segue_request_body(request), slot, number);
    if (number % 8 < 6 || !post(s, request, number)) answer_whole(s, request, number);
  }
}

/* ---- The life of an instance ---- */

static char *copy_text(const segue_node *node) {
  const char *text;
  size_t len;
  if (!node || segue_node_string(node, &text, &len)) return NULL;
  return strndup(text, len);
}

static void prepare(void *userdata, segue_op *op, const segue_slice *next, const segue_slice *prev,
                    void **out) {
  (void)userdata, (void)prev;
  service *s = calloc(1, sizeof *s);
  *out = s;
  if (!s) abort();
  s->lock_fd = -1;
  s->last_job = &s->jobs;
  pthread_mutex_init(&s->lock, NULL);
  pthread_cond_init(&s->wake, NULL);
  segue_node_int(segue_node_member(next->config, "value"), &s->value);
  s->text_len = (size_t)snprintf(s->text, sizeof s->text, "m%" PRId64 "\n", s->value);
  s->lock_path = copy_text(segue_node_member(next->config, "lock"));
  segue_op_done(op, 0, NULL);
}

static bool take_lock(service *s) {
  s->lock_fd = open(s->lock_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  return s->lock_fd >= 0 && flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0;
}

static void start(void *data, segue_op *op) {
  service *s = data;
  segue_error error = {.message = "two at once"};
  if (s->lock_path && !take_lock(s)) {
    segue_op_done(op, SEGUE_EMODULE, &error);
    return;
  }
  if (pthread_create(&s->thread, NULL, work, s)) abort();
  s->threaded = true;
  atomic_store(&s->phase, SERVING);
  segue_op_done(op, 0, NULL);
}

static void give_up(service *s) {
  atomic_store(&s->phase, STOPPED);
  end_thread(s);
  if (s->lock_fd < 0) return;
  unlink(s->lock_path);
  close(s->lock_fd);
  s->lock_fd = -1;
}

static void stop(void *data, segue_op *op) {
  give_up(data);
  segue_op_done(op, 0, NULL);
}

static void destroy(void *data) {
  service *s = data;
  give_up(s);
  pthread_mutex_destroy(&s->lock);
  pthread_cond_destroy(&s->wake);
  free(s->lock_path);
  free(s);
}

static const segue_module_ops ops = {.size = sizeof ops,
                                     .prepare = prepare,
                                     .start = start,
                                     .stop = stop,
                                     .destroy = destroy,
                                     .handle = handle};

SEGUE_API const segue_module_descriptor segue_module = {.magic = SEGUE_MODULE_MAGIC,
                                                        .abi = SEGUE_MODULE_ABI,
                                                        .size = sizeof(segue_module_descriptor),
                                                        .name = "numbered",
                                                        .version = "1",
                                                        .ops = &ops};
