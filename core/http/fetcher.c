/* SPDX-License-Identifier: MIT
 *
 * Requests on the loop: libcurl's sockets and its timer, and the delivery of results. libcurl calls
 * back from within its own work, where no request may be added or removed. So results are queued
 * there, and delivered when libcurl has returned.
 */
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fetch_internal.h"

enum {
  IDLE_MS = 3000,
  KEPT_CONNECTIONS = 256,
  SPARE_FILES = 64,
  SILENCE_SURE_MS = 10,
  LEAST_REQUESTS = 64
};

static void fetcher_act(segue__fetcher *fetcher, curl_socket_t fd, int events);
static void fetcher_schedule(segue__fetcher *fetcher);

/* ---- SIGPIPE --------------------------------------------------------------------------------- */

/* OpenSSL writes to sockets without MSG_NOSIGNAL. The signal is blocked in this thread while
 * libcurl works, and a pending one is consumed afterwards: no signal handler of the host is
 * changed. */
typedef struct pipe_guard {
  sigset_t old;
  bool on;
} pipe_guard;

static void guard_begin(const segue__fetcher *fetcher, pipe_guard *guard) {
  sigset_t pipe_only, pending;
  guard->on = false;
  if (!fetcher->tls) return;
  sigpending(&pending);
  if (sigismember(&pending, SIGPIPE)) return; /* the host blocks it, and keeps one */
  sigemptyset(&pipe_only);
  sigaddset(&pipe_only, SIGPIPE);
  guard->on = pthread_sigmask(SIG_BLOCK, &pipe_only, &guard->old) == 0;
}

static void guard_end(const pipe_guard *guard) {
  sigset_t pipe_only;
  struct timespec now = {0, 0};
  if (!guard->on) return;
  sigemptyset(&pipe_only);
  sigaddset(&pipe_only, SIGPIPE);
  while (sigtimedwait(&pipe_only, NULL, &now) == SIGPIPE)
    ;
  pthread_sigmask(SIG_SETMASK, &guard->old, NULL);
}

/* ---- Sockets --------------------------------------------------------------------------------- */

static void fetcher_finish_close(segue__fetcher *fetcher) {
  void (*cb)(void *) = fetcher->closed_cb;
  void *data = fetcher->closed_data;
  if (!fetcher->closing || fetcher->open_handles || fetcher->posted) return;
  segue__free(fetcher->watches);
  segue__free(fetcher);
  if (cb) cb(data);
}

static void on_watch_closed(uv_handle_t *handle) {
  segue__fetch_watch *watch = handle->data;
  segue__fetcher *fetcher = watch->fetcher;
  segue__free(watch);
  fetcher->open_handles--;
  fetcher_finish_close(fetcher);
}

static segue__fetch_watch *find_watch(const segue__fetcher *fetcher, curl_socket_t fd) {
  return fd >= 0 && (size_t)fd < fetcher->watch_slots ? fetcher->watches[fd] : NULL;
}

/* Called before libcurl closes the socket: its number may belong to another file right after. */
static void drop_watch(segue__fetcher *fetcher, curl_socket_t fd) {
  segue__fetch_watch *watch = find_watch(fetcher, fd);
  if (!watch) return;
  fetcher->watches[fd] = NULL;
  uv_poll_stop(&watch->poll);
  uv_close((uv_handle_t *)&watch->poll, on_watch_closed);
}

int segue__fetcher_close_socket(void *data, curl_socket_t fd) {
  drop_watch(data, fd);
  return close(fd);
}

static bool reserve_slot(segue__fetcher *fetcher, curl_socket_t fd) {
  size_t slots = fetcher->watch_slots ? fetcher->watch_slots : 64;
  while (slots <= (size_t)fd)
    slots *= 2;
  if (slots == fetcher->watch_slots) return true;
  segue__fetch_watch **watches = segue__realloc(fetcher->watches, slots * sizeof(*watches));
  if (!watches) return false;
  memset(watches + fetcher->watch_slots, 0, (slots - fetcher->watch_slots) * sizeof(*watches));
  fetcher->watches = watches;
  fetcher->watch_slots = slots;
  return true;
}

static segue__fetch_watch *add_watch(segue__fetcher *fetcher, curl_socket_t fd) {
  segue__fetch_watch *watch = find_watch(fetcher, fd);
  if (watch) return watch;
  if (!reserve_slot(fetcher, fd)) return NULL;
  watch = segue__calloc(1, sizeof *watch);
  if (!watch) return NULL;
  if (uv_poll_init_socket(segue__loop_uv(fetcher->loop), &watch->poll, fd)) {
    segue__free(watch);
    return NULL;
  }
  watch->poll.data = watch;
  watch->fetcher = fetcher;
  watch->fd = fd;
  fetcher->watches[fd] = watch;
  fetcher->open_handles++;
  return watch;
}

/* A failed poll is reported as readable and writable: libcurl then finds the error by itself. */
static void fetcher_on_poll(uv_poll_t *poll, int status, int events) {
  segue__fetch_watch *watch = poll->data;
  int bits =
      (events & UV_READABLE ? CURL_CSELECT_IN : 0) | (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0);
  if (status < 0) bits = CURL_CSELECT_IN | CURL_CSELECT_OUT;
  fetcher_act(watch->fetcher, watch->fd, bits);
}

/* An error returned from here would make libcurl refuse all further work. So a socket that cannot
 * be watched is no error: its request ends at its time limit. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *unused) {
  segue__fetcher *fetcher = data;
  (void)easy, (void)unused;
  if (what == CURL_POLL_REMOVE) {
    drop_watch(fetcher, fd);
    return 0;
  }
  segue__fetch_watch *watch = add_watch(fetcher, fd);
  int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
  if (watch) uv_poll_start(&watch->poll, events, fetcher_on_poll);
  return 0;
}

static void on_time(segue__timer *timer) {
  fetcher_act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static int fetcher_on_timer(CURLM *multi, long timeout_ms, void *data) {
  segue__fetcher *fetcher = data;
  (void)multi;
  if (timeout_ms < 0)
    segue__timer_stop(fetcher->loop, &fetcher->timer);
  else
    segue__timer_start(fetcher->loop, &fetcher->timer, (uint64_t)timeout_ms, on_time);
  return 0;
}

/* ---- Opening and closing --------------------------------------------------------------------- */

int segue__fetcher_new(segue__fetcher **out, segue__loop *loop) {
  *out = NULL;
  if (!segue__loop_uv(loop)) return UV_ENOTSUP;
  segue__fetcher *fetcher = segue__calloc(1, sizeof *fetcher);
  if (!fetcher) return UV_ENOMEM;
  fetcher->loop = loop;
  fetcher->timer.data = fetcher->idle.data = fetcher;
  *out = fetcher;
  return 0;
}

static int open_multi(segue__fetcher *fetcher, segue_error *err) {
  if (!fetcher->curl) fetcher->curl = segue__curl_load(err);
  if (!fetcher->curl) return UV_ENOSYS;
  if (fetcher->multi) return 0;
  const segue__curl *curl = fetcher->curl;
  fetcher->multi = curl->multi_init();
  if (!fetcher->multi) return segue__errorf(err, UV_ENOMEM, "out of memory for requests");
  curl->multi_setopt(fetcher->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
  curl->multi_setopt(fetcher->multi, CURLMOPT_SOCKETDATA, fetcher);
  curl->multi_setopt(fetcher->multi, CURLMOPT_TIMERFUNCTION, fetcher_on_timer);
  curl->multi_setopt(fetcher->multi, CURLMOPT_TIMERDATA, fetcher);
  curl->multi_setopt(fetcher->multi, CURLMOPT_MAXCONNECTS, (long)KEPT_CONNECTIONS);
  curl->multi_setopt(fetcher->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
  return 0;
}

static void close_multi(segue__fetcher *fetcher) {
  pipe_guard guard;
  if (!fetcher->multi) return;
  segue__timer_stop(fetcher->loop, &fetcher->timer);
  guard_begin(fetcher, &guard);
  fetcher->curl->multi_cleanup(fetcher->multi);
  guard_end(&guard);
  fetcher->multi = NULL;
  segue__timer_stop(fetcher->loop, &fetcher->timer); /* it may have been set once more */
}

/* Connections are kept for reuse for a few seconds after the last request. Closing the multi handle
 * closes them, so that an idle instance holds no connections. */
static void fetcher_on_idle(segue__timer *timer) {
  segue__fetcher *fetcher = timer->data;
  if (!fetcher->count) close_multi(fetcher);
}

void segue__fetcher_close(segue__fetcher *fetcher, void (*cb)(void *data), void *data) {
  if (!fetcher) {
    if (cb) cb(data);
    return;
  }
  while (fetcher->all)
    segue__fetch_cancel(fetcher->all);
  close_multi(fetcher);
  segue__timer_stop(fetcher->loop, &fetcher->idle);
  for (size_t fd = 0; fd < fetcher->watch_slots; fd++)
    drop_watch(fetcher, (curl_socket_t)fd);
  fetcher->closing = true;
  fetcher->closed_cb = cb;
  fetcher->closed_data = data;
  fetcher_finish_close(fetcher);
}

/* ---- Silence --------------------------------------------------------------------------------- */

/* The loop runs timers before it looks at sockets. After a time in which the process did not run,
 * such as a stop by job control, the bytes of the server wait there: they are read first. */
static void fetcher_on_silence(segue__timer *timer) {
  segue__fetch *f = timer->data;
  if (f->done) return;
  if (!f->asked) {
    f->asked = true;
    segue__timer_start(f->fetcher->loop, &f->idle, SILENCE_SURE_MS, fetcher_on_silence);
    return;
  }
  f->done = f->silent = true;
  f->code = CURLE_OPERATION_TIMEDOUT;
  segue__fetch_queue(f);
  fetcher_schedule(f->fetcher);
}

/* While the caller has an unread part, libcurl may be paused: that is no silence of the server. */
void segue__fetch_restart_idle(segue__fetch *f) {
  if (!f->idle_ms || f->done || f->waiting) return;
  f->asked = false;
  segue__timer_start(f->fetcher->loop, &f->idle, f->idle_ms, fetcher_on_silence);
}

/* ---- Delivery -------------------------------------------------------------------------------- */

void segue__fetch_queue(segue__fetch *f) {
  segue__fetcher *fetcher = f->fetcher;
  if (f->queued) return;
  f->queued = true;
  f->ready_next = NULL;
  f->ready_prev = fetcher->ready_last;
  if (fetcher->ready_last)
    fetcher->ready_last->ready_next = f;
  else
    fetcher->ready = f;
  fetcher->ready_last = f;
}

static void fetcher_unqueue(segue__fetch *f) {
  if (!f->queued) return;
  f->queued = false;
  if (f->ready_prev)
    f->ready_prev->ready_next = f->ready_next;
  else
    f->fetcher->ready = f->ready_next;
  if (f->ready_next)
    f->ready_next->ready_prev = f->ready_prev;
  else
    f->fetcher->ready_last = f->ready_prev;
}

static void fetcher_dispose(segue__fetch *f) {
  segue__fetcher *fetcher = f->fetcher;
  pipe_guard guard;
  fetcher_unqueue(f);
  segue__timer_stop(fetcher->loop, &f->idle);
  if (f->prev)
    f->prev->next = f->next;
  else
    fetcher->all = f->next;
  if (f->next) f->next->prev = f->prev;
  guard_begin(fetcher, &guard);
  fetcher->curl->multi_remove(fetcher->multi, f->easy);
  segue__fetch_free(f);
  guard_end(&guard);
  if (--fetcher->count) return;
  segue__timer_start(fetcher->loop, &fetcher->idle, IDLE_MS, fetcher_on_idle);
}

void segue__fetch_cancel(segue__fetch *f) {
  if (!f) return;
  f->gone = true;
  if (!f->busy) fetcher_dispose(f);
}

static void fetcher_conclude(segue__fetch *f) {
  segue_error err;
  segue__fetch_answer answer = {.total_bytes = f->total};
  long status = 0;
  int rc = 0;
  if (f->code == CURLE_OK) {
    segue__buf_add(&f->headers, "", 0);
    segue__buf_add(&f->content, "", 0);
    if (f->headers.failed || f->content.failed) f->code = CURLE_OUT_OF_MEMORY;
  }
  if (f->code != CURLE_OK) {
    rc = segue__fetch_report(f, &err);
  } else {
    f->fetcher->curl->getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
    answer.status = (int)status;
    answer.headers = f->headers.data;
    answer.body = f->content.data;
    answer.len = f->content.len;
    answer.duration_ms = segue__loop_now_ms(f->fetcher->loop) - f->started_ms;
  }
  f->on_done(f->data, rc, rc ? NULL : &answer, rc ? &err : NULL);
  f->gone = true;
}

static void deliver_head(segue__fetch *f) {
  long status = 0;
  f->fetcher->curl->getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
  segue__buf_add(&f->headers, "", 0); /* fails only where the transfer fails, too */
  f->head_due = false;
  f->waiting = true;
  segue__timer_stop(f->fetcher->loop, &f->idle);
  f->on_head(f->data, (int)status, f->headers.data);
}

static void deliver_data(segue__fetch *f) {
  segue__buf chunk = f->content;
  segue__buf_init(&f->content);
  f->waiting = true;
  segue__timer_stop(f->fetcher->loop, &f->idle);
  f->on_data(f->data, chunk.data, chunk.len);
  segue__buf_deinit(&chunk);
}

/* libcurl delivers the bytes that it had kept, if there is room again. It calls on_body from here,
 * perhaps for a whole decoded answer. An error of on_body is the result of this call only, and the
 * transfer itself may still succeed. So the request ends here. */
static void fetcher_release(segue__fetch *f) {
  if (!f->held || f->waiting || f->content.len) return;
  pipe_guard guard;
  f->held = false;
  guard_begin(f->fetcher, &guard);
  CURLcode code = f->fetcher->curl->pause(f->easy, CURLPAUSE_CONT);
  guard_end(&guard);
  if (code == CURLE_OK) return;
  f->done = true;
  f->code = code;
  if (!f->content.len) return;
  segue__fetch_queue(f);
}

/* The callbacks may cancel this request or start others. While `busy` is set a cancel only marks it
 * as cancelled, and it is freed at the end. */
static void deliver_one(segue__fetch *f) {
  f->busy = true;
  if (f->head_due && !f->waiting) deliver_head(f);
  if (!f->gone && f->on_data && f->content.len && !f->waiting) deliver_data(f);
  if (!f->gone) fetcher_release(f);
  if (!f->gone && f->done && !f->waiting && !f->head_due && !(f->on_data && f->content.len))
    fetcher_conclude(f);
  f->busy = false;
  if (f->gone)
    fetcher_dispose(f);
  else if (f->on_data && f->content.len && !f->waiting)
    segue__fetch_queue(f);
}

static void fetcher_harvest(segue__fetcher *fetcher) {
  int left;
  for (CURLMsg *m = fetcher->curl->multi_read(fetcher->multi, &left); m;
       m = fetcher->curl->multi_read(fetcher->multi, &left)) {
    segue__fetch *f = NULL;
    if (m->msg != CURLMSG_DONE) continue;
    CURLcode code = m->data.result;
    fetcher->curl->getinfo(m->easy_handle, CURLINFO_PRIVATE, &f);
    if (f->done) continue; /* it ended with an error in release() */
    f->done = true;
    f->code = code;
    segue__fetch_queue(f);
  }
}

/* Delivers one round: a result that is queued meanwhile waits for the next turn of the loop, so
 * that an endless stream does not starve the other handles of the loop. */
static void fetcher_deliver(segue__fetcher *fetcher) {
  if (fetcher->delivering) return;
  fetcher->delivering = true;
  if (fetcher->multi) fetcher_harvest(fetcher);
  size_t rounds = fetcher->count;
  while (fetcher->ready && rounds--) {
    segue__fetch *f = fetcher->ready;
    fetcher_unqueue(f);
    deliver_one(f);
  }
  fetcher->delivering = false;
  if (fetcher->ready) fetcher_schedule(fetcher);
}

static void fetcher_on_message(segue__message *message) {
  segue__fetcher *fetcher = (segue__fetcher *)((char *)message - offsetof(segue__fetcher, message));
  fetcher->posted = false;
  if (fetcher->closing)
    fetcher_finish_close(fetcher);
  else
    fetcher_deliver(fetcher);
}

static void fetcher_schedule(segue__fetcher *fetcher) {
  if (fetcher->posted || fetcher->delivering) return;
  fetcher->posted = true;
  fetcher->message.fn = fetcher_on_message;
  segue__post(fetcher->loop, &fetcher->message);
}

static void fetcher_act(segue__fetcher *fetcher, curl_socket_t fd, int events) {
  int running = 0;
  pipe_guard guard;
  guard_begin(fetcher, &guard);
  fetcher->curl->multi_action(fetcher->multi, fd, events, &running);
  guard_end(&guard);
  fetcher_deliver(fetcher);
}

/* ---- Requests -------------------------------------------------------------------------------- */

/* Leaves twice SPARE_FILES descriptors to the rest of the process. Without this limit requests
 * would use the last ones, and the files of a reload could not be opened. */
static int check_room(const segue__fetcher *fetcher, segue_error *err) {
  struct rlimit files = {.rlim_cur = 1024};
  getrlimit(RLIMIT_NOFILE, &files);
  size_t most = files.rlim_cur > 2 * SPARE_FILES + LEAST_REQUESTS
                    ? (size_t)files.rlim_cur - 2 * SPARE_FILES
                    : LEAST_REQUESTS;
  if (fetcher->count < most) return 0;
  return segue__errorf(err, SEGUE_ELIMIT,
                       "%zu requests are under way, which is all that the limit of open files "
                       "allows: wait for some of them, or raise it (LimitNOFILE=, ulimit -n)",
                       fetcher->count);
}

static void link_fetch(segue__fetcher *fetcher, segue__fetch *f) {
  f->next = fetcher->all;
  if (fetcher->all) fetcher->all->prev = f;
  fetcher->all = f;
  fetcher->count++;
  segue__timer_stop(fetcher->loop, &fetcher->idle);
}

int segue__fetch_start(segue__fetcher *fetcher, const segue__fetch_options *options,
                       segue__fetch **out, segue_error *err) {
  *out = NULL;
  int rc = check_room(fetcher, err);
  if (!rc) rc = open_multi(fetcher, err);
  if (rc) return rc;
  segue__fetch *f = segue__calloc(1, sizeof *f);
  if (!f) return segue__errorf(err, UV_ENOMEM, "out of memory for a request");
  f->fetcher = fetcher;
  f->started_ms = segue__loop_now_ms(fetcher->loop);
  f->idle.data = f;
  rc = segue__fetch_set(f, options, err);
  if (!rc && fetcher->curl->multi_add(fetcher->multi, f->easy) != CURLM_OK)
    rc = segue__errorf(err, UV_ENOMEM, "out of memory for a request to %s", f->shown);
  if (rc) {
    segue__fetch_free(f);
    return rc;
  }
  fetcher->tls = fetcher->tls || f->secure || options->redirects;
  link_fetch(fetcher, f);
  segue__fetch_restart_idle(f);
  *out = f;
  return 0;
}

void segue__fetch_resume(segue__fetch *f) {
  if (!f->waiting) return;
  f->waiting = false;
  segue__fetch_restart_idle(f);
  segue__fetch_queue(f);
  fetcher_schedule(f->fetcher);
}
