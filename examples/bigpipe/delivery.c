/* SPDX-License-Identifier: MIT
 *
 * The dispatcher's thread: libcurl's multi interface, many calls at once. The answer of a target
 * and the rules of this instance's configuration decide how a call ends. The dispatcher reports
 * that to the live queue, which may be a newer one than the queue that the call came from.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#include "dispatcher.h"

enum { IDLE_MS = 1000, AGAIN_MS = 20 };

/* ---- The way back ---- */

void delivery_settled(dispatcher *d, flight *f) {
  segue_op *drain_op = NULL;
  pthread_mutex_lock(&d->lock);
  f->next = d->spare;
  d->spare = f;
  if (--d->unsettled == 0) {
    drain_op = d->drain_op;
    d->drain_op = NULL;
    if (d->stop) curl_multi_wakeup(d->multi);
  }
  pthread_mutex_unlock(&d->lock);
  if (drain_op) segue_op_done(drain_op, 0, NULL);
}

static void tell(flight *f) {
  pipe_queue *queue = f->arrival.pass.instance;
  pipe_call *call = f->call;
  f->call = NULL;
  queue->report(queue, call);
  segue_gate_leave(&f->arrival.pass);
  delivery_settled(f->dispatcher, f);
}

/* The queue failed, or its gate is full: the result is reported again later. */
static void tell_later(flight *f) {
  dispatcher *d = f->dispatcher;
  pthread_mutex_lock(&d->lock);
  f->next = d->unreported;
  d->unreported = f;
  curl_multi_wakeup(d->multi);
  pthread_mutex_unlock(&d->lock);
}

static void give_up(flight *f) {
  pipe_call_unref(f->call);
  f->call = NULL;
  delivery_settled(f->dispatcher, f);
}

/* Where the whole instance ends the queue delivers it again after the next start. */
static void on_gate(segue_arrival *arrival, int status) {
  flight *f = (flight *)arrival;
  if (status == 0)
    tell(f);
  else if (status == SEGUE_ECLOSED)
    give_up(f);
  else
    tell_later(f);
}

static void report(flight *f) {
  f->arrival = (segue_arrival){.cb = on_gate, .bytes = sizeof *f};
  int rc = segue_gate_submit(f->dispatcher->queue, &f->arrival);
  if (rc != SEGUE_QUEUED) on_gate(&f->arrival, rc == SEGUE_RUN ? 0 : rc);
}

static void report_again(dispatcher *d) {
  pthread_mutex_lock(&d->lock);
  flight *f = d->unreported;
  d->unreported = NULL;
  pthread_mutex_unlock(&d->lock);
  while (f) {
    flight *next = f->next;
    report(f);
    f = next;
  }
}

/* ---- What becomes of a call ---- */

static uint32_t pause_for(const dispatcher *d, const pipe_call *call) {
  double pause = (double)d->retry.first_ms;
  for (uint32_t i = 0; i < call->attempts && pause < (double)d->retry.max_ms; i++)
    pause *= d->retry.factor;
  if (pause > (double)d->retry.max_ms) pause = (double)d->retry.max_ms;
  uint32_t spread = (uint32_t)(call->id * 2654435761u) % 1000; /* half of it at least */
  return (uint32_t)(pause * (0.5 + spread / 2000.0)) + 1;
}

static void log_failure(const dispatcher *d, const pipe_call *call) {
  char id[20];
  snprintf(id, sizeof id, "%016llx", (unsigned long long)call->id);
  segue_level level = call->outcome == PIPE_DEAD ? SEGUE_WARN : SEGUE_INFO;
  segue_log_field fields[] = {{"id", id, 0},
                              {"target", call->target, 0},
                              {"attempts", NULL, call->attempts + 1},
                              {"reason", call->reason, 0}};
  (void)segue_log(d->s, level, "call", call->outcome == PIPE_DEAD ? "dead letter" : "not delivered",
                  fields, sizeof fields / sizeof *fields);
}

static void log_delivered(const dispatcher *d, const pipe_call *call) {
  if (!segue_log_enabled(d->s, SEGUE_DEBUG)) return;
  char id[20];
  snprintf(id, sizeof id, "%016llx", (unsigned long long)call->id);
  segue_log_field fields[] = {{"id", id, 0}, {"target", call->target, 0}};
  (void)segue_log(d->s, SEGUE_DEBUG, "call", "delivered", fields, 2);
}

static void failed(const flight *f, const char *reason) {
  dispatcher *d = f->dispatcher;
  pipe_call *call = f->call;
  snprintf(call->reason, sizeof call->reason, "%s", reason);
  call->outcome = call->attempts + 1 >= d->retry.attempts ? PIPE_DEAD : PIPE_RETRY;
  call->pause_ms = pause_for(d, call);
  log_failure(d, call);
  if (f->target) (void)segue_count(d->s, f->target->retried, 1);
  if (call->outcome != PIPE_DEAD) return;
  (void)segue_count(d->s, f->target ? f->target->dead : "dead_total{target=\"\"}", 1);
}

static void validate(const flight *f, CURLcode code) {
  char reason[48];
  long status = 0;
  double seconds = 0;
  curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
  if (code) {
    failed(f, curl_easy_strerror(code));
  } else if (status < 200 || status > 299) {
    snprintf(reason, sizeof reason, "the target answered %ld", status);
    failed(f, reason);
  } else {
    f->call->outcome = PIPE_DELIVERED;
    curl_easy_getinfo(f->easy, CURLINFO_TOTAL_TIME, &seconds);
    (void)segue_count(f->dispatcher->s, f->target->delivered, 1);
    (void)segue_observe(f->dispatcher->s, "delivery_seconds", seconds);
    log_delivered(f->dispatcher, f->call);
  }
}

/* Room is made before the queue is called, because the queue then pushes the next entry. */
static void landed(flight *f) {
  dispatcher *d = f->dispatcher;
  pthread_mutex_lock(&d->lock);
  d->active--;
  if (f->target) f->target->active--;
  pthread_mutex_unlock(&d->lock);
  report(f);
}

/* ---- Deliveries ---- */

static size_t ignore(char *data, size_t size, size_t n, void *user) {
  (void)data, (void)user;
  return size * n;
}

void flight_free(flight *f) {
  if (f->easy) curl_easy_cleanup(f->easy);
  curl_slist_free_all(f->headers);
  pipe_call_unref(f->call);
  free(f);
}

static bool add_header(flight *f, const char *text) {
  struct curl_slist *more = curl_slist_append(f->headers, text);
  if (more) f->headers = more;
  return more != NULL;
}

static bool set_up(flight *f) {
  dispatcher *d = f->dispatcher;
  const char *payload = f->call->payload;
  if (!f->easy) f->easy = curl_easy_init();
  if (!f->easy) return false;
  curl_slist_free_all(f->headers);
  f->headers = NULL;
  snprintf(f->id_header, sizeof f->id_header, "Call-Id: %016llx", (unsigned long long)f->call->id);
  if (!add_header(f, f->id_header) || !add_header(f, "Content-Type: application/octet-stream") ||
      !add_header(f, "Expect:"))
    return false;
  return !curl_easy_setopt(f->easy, CURLOPT_URL, f->target->url) &&
         !curl_easy_setopt(f->easy, CURLOPT_PROTOCOLS_STR, "http,https") &&
         !curl_easy_setopt(f->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)f->call->len) &&
         !curl_easy_setopt(f->easy, CURLOPT_POSTFIELDS, payload) &&
         !curl_easy_setopt(f->easy, CURLOPT_HTTPHEADER, f->headers) &&
         !curl_easy_setopt(f->easy, CURLOPT_WRITEFUNCTION, ignore) &&
         !curl_easy_setopt(f->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)d->timeout_ms) &&
         !curl_easy_setopt(f->easy, CURLOPT_NOSIGNAL, 1L) &&
         !curl_easy_setopt(f->easy, CURLOPT_PRIVATE, f) &&
         !curl_multi_add_handle(d->multi, f->easy);
}

static void take_off(flight *f) {
  dispatcher *d = f->dispatcher;
  f->deadline_ms = 0;
  f->sent = 0;
  f->prev = NULL;
  f->next = d->flying;
  if (f->next) f->next->prev = f;
  d->flying = f;
}

static void leave_sky(flight *f) {
  if (f->prev)
    f->prev->next = f->next;
  else
    f->dispatcher->flying = f->next;
  if (f->next) f->next->prev = f->prev;
}

static void depart(flight *f) {
  if (!f->target)
    failed(f, "no target has this name");
  else if (!set_up(f))
    failed(f, "out of memory");
  else {
    take_off(f);
    return;
  }
  landed(f);
}

static void depart_all(dispatcher *d) {
  pthread_mutex_lock(&d->lock);
  flight *f = d->inbox;
  d->inbox = d->last = NULL;
  pthread_mutex_unlock(&d->lock);
  while (f) {
    flight *next = f->next;
    depart(f);
    f = next;
  }
}

static void end_flight(flight *f, CURLcode code) {
  curl_multi_remove_handle(f->dispatcher->multi, f->easy);
  leave_sky(f);
  validate(f, code);
  landed(f);
}

static void land_all(dispatcher *d) {
  int left;
  for (CURLMsg *m; (m = curl_multi_info_read(d->multi, &left));) {
    flight *f = NULL;
    CURLcode code = m->data.result;
    if (m->msg != CURLMSG_DONE) continue;
    curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&f);
    end_flight(f, code);
  }
}

/* ---- The time limit of a delivery ---- */

static uint64_t clock_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* libcurl sends a request again by itself if a kept connection turns out to be closed: that
 * restarts the time limit. */
static void set_deadline(flight *f) {
  long sent = 0;
  curl_easy_getinfo(f->easy, CURLINFO_REQUEST_SIZE, &sent);
  if (sent == f->sent) return;
  f->sent = sent;
  f->deadline_ms = clock_ms() + f->dispatcher->timeout_ms;
}

/* Ends the flights whose limit was over at looked_ms, a time before curl_multi_perform() last read
 * the sockets. Returns how many ms the next flight has left, at most IDLE_MS.
 *
 * The limit is not CURLOPT_TIMEOUT_MS, because libcurl looks at the clock before it looks at the
 * socket. If this thread gets no processor for longer than the limit (a busy machine, a log that
 * waits for its disk), libcurl drops answers that arrived long ago, and the calls are delivered
 * twice. Here a flight ends only after its socket was read later than its deadline. For the same
 * reason the limit begins when the request has been sent: a request that this thread sends late
 * still has all of its time. */
static uint64_t end_overdue(dispatcher *d, uint64_t looked_ms) {
  uint64_t next_ms = looked_ms + IDLE_MS;
  for (flight *f = d->flying, *next; f; f = next) {
    next = f->next;
    set_deadline(f);
    if (f->deadline_ms && f->deadline_ms <= looked_ms)
      end_flight(f, CURLE_OPERATION_TIMEDOUT);
    else if (f->deadline_ms && f->deadline_ms < next_ms)
      next_ms = f->deadline_ms;
  }
  uint64_t now = clock_ms();
  return next_ms > now ? next_ms - now : 0;
}

static bool is_over(dispatcher *d, bool *again) {
  pthread_mutex_lock(&d->lock);
  bool over = d->stop && !d->unsettled;
  *again = d->unreported != NULL;
  pthread_mutex_unlock(&d->lock);
  return over;
}

/* Each call ends by its time limit at the latest, and then this does. */
void *dispatcher_work(void *instance) {
  dispatcher *d = instance;
  int running;
  for (bool again; !is_over(d, &again);) {
    depart_all(d);
    uint64_t looked_ms = clock_ms();
    curl_multi_perform(d->multi, &running);
    land_all(d);
    uint64_t wait_ms = end_overdue(d, looked_ms);
    if (again && wait_ms > AGAIN_MS) wait_ms = AGAIN_MS;
    curl_multi_poll(d->multi, NULL, 0, (int)wait_ms, NULL);
    report_again(d);
  }
  segue_op *op = d->stop_op;
  if (op) segue_op_done(op, 0, NULL);
  return NULL;
}
