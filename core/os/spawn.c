/* SPDX-License-Identifier: MIT
 *
 * A running child on the loop: its pidfd and its output pipes are polled, timers bound its life. It
 * is over when it has exited and its output has ended; output that others hold open is given a
 * moment, then cut. The child is reaped last of all and only after its group was killed (where it
 * must be): as long as it is a zombie nobody else can get its process group's number.
 */
#include "spawn.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "error.h"
#include "explain.h"
#include "mem.h"
#include "spawn_exec.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

enum { READ_BYTES = 65536, LAST_READS = 64 };

typedef struct running running;

typedef struct stream {
  running *owner;
  uv_poll_t poll;
  int fd; /* -1: ended */
  segue__buf kept;
  uint64_t total;
} stream;

struct running {
  segue__spawn head; /* first: segue__spawn is what callers hold */
  segue__loop *loop;
  int pidfd;
  uv_poll_t exit_poll;
  stream streams[2];
  segue__timer limit, linger;
  int open_handles;
  bool exited, finishing, stopping, paused;
  uint64_t started_ms, kill_ms, linger_ms;
  int stop_signal;
  size_t capture;
  void (*on_output)(void *, segue__stream, const char *, size_t);
  void (*on_exit)(void *, const segue__spawn_result *);
  void *data;
  segue__spawn_result result;
};

static void finish(running *r);
static void on_linger(segue__timer *timer);
static void on_stream_closed(uv_handle_t *handle);

/* ---- Output ---- */

/* The handle goes first: it takes its descriptor's number out of the poll set, and once that is
 * closed the number may be another child's. */
static void stream_end(stream *s, uv_close_cb cb) {
  if (s->fd < 0) return;
  if (s->poll.data) uv_close((uv_handle_t *)&s->poll, cb);
  close(s->fd);
  s->fd = -1;
}

static void keep(stream *s, const char *bytes, size_t len) {
  s->total += len;
  size_t room = s->owner->capture - s->kept.len;
  segue__buf_add(&s->kept, bytes, len < room ? len : room);
}

/* One read for each turn of the loop: a child that never stops writing must not keep the loop from
 * the rest of the world. Returns false at the end. */
static bool stream_read(stream *s) {
  char bytes[READ_BYTES];
  running *r = s->owner;
  ssize_t n = read(s->fd, bytes, sizeof bytes);
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  if (n == 0) return false;
  keep(s, bytes, (size_t)n);
  if (r->on_output)
    r->on_output(r->data, s == &r->streams[0] ? SEGUE__STDOUT : SEGUE__STDERR, bytes, (size_t)n);
  return true;
}

static bool output_ended(const running *r) {
  return r->streams[0].fd < 0 && r->streams[1].fd < 0;
}

static void on_readable(uv_poll_t *poll, int status, int events) {
  (void)events;
  stream *s = poll->data;
  running *r = s->owner;
  if (s->fd < 0) return;
  if (status < 0 || !stream_read(s)) stream_end(s, on_stream_closed);
  if (r->exited && output_ended(r)) finish(r);
}

/* ---- Stopping ---- */

static void on_kill(segue__timer *timer) {
  running *r = timer->data;
  if (!r->exited) kill(-r->head.pid, SIGKILL);
}

static void stop(segue__spawn *spawn) {
  running *r = (running *)spawn;
  if (r->stopping || r->exited || r->finishing) return;
  r->stopping = true;
  if (!r->result.timed_out) r->result.stopped = true;
  kill(-r->head.pid, r->stop_signal);
  /* A stopped child (SIGSTOP, a terminal's ^Z) could not act on the signal. */
  if (r->stop_signal != SIGKILL) kill(-r->head.pid, SIGCONT);
  /* Re-arms a timer that has a place in the heap, or had one a moment ago; if even that fails the
   * child is killed at once rather than never. */
  if (segue__timer_start(r->loop, &r->limit, r->kill_ms, on_kill)) on_kill(&r->limit);
}

void segue__spawn_stop(segue__spawn *spawn) {
  if (spawn) spawn->stop(spawn);
}

static void on_limit(segue__timer *timer) {
  running *r = timer->data;
  r->result.timed_out = true;
  stop(&r->head);
}

/* ---- Exit ---- */

/* What the pipes hold is read before it is over, so the wait for their end begins with the reading
 * where that was paused. */
static void end_or_linger(running *r) {
  if (r->paused && !output_ended(r)) return;
  if (output_ended(r) || segue__timer_start(r->loop, &r->linger, r->linger_ms, on_linger))
    finish(r);
}

static void pause_reading(segue__spawn *spawn, bool paused) {
  running *r = (running *)spawn;
  if (r->finishing || r->paused == paused) return;
  r->paused = paused;
  for (int i = 0; i < 2; i++) {
    stream *s = &r->streams[i];
    if (s->fd < 0) continue;
    if (paused)
      uv_poll_stop(&s->poll);
    else if (uv_poll_start(&s->poll, UV_READABLE, on_readable))
      stream_end(s, on_stream_closed);
  }
  if (paused)
    segue__timer_stop(r->loop, &r->linger);
  else if (r->exited)
    end_or_linger(r);
}

void segue__spawn_pause(segue__spawn *spawn, bool paused) {
  if (spawn && spawn->pause) spawn->pause(spawn, paused);
}

/* Reads the rest of the output. The loop may have been busy with other work since: output that was
 * written in time is in the pipe, and its reader may pause it. */
static void read_rest(stream *s) {
  uint64_t before = s->total + 1;
  for (int n = 0; n < LAST_READS && s->fd >= 0 && !s->owner->paused && s->total != before; n++) {
    before = s->total;
    if (!stream_read(s)) stream_end(s, on_stream_closed);
  }
}

static void on_linger(segue__timer *timer) {
  running *r = timer->data;
  for (int i = 0; i < 2; i++)
    read_rest(&r->streams[i]);
  if (r->paused && !output_ended(r)) return;
  r->result.output_cut = !output_ended(r);
  finish(r);
}

static void reap(running *r) {
  siginfo_t info = {0};
  int rc;
  do
    rc = waitid((idtype_t)P_PIDFD, (id_t)r->pidfd, &info, WEXITED | WNOHANG);
  while (rc < 0 && errno == EINTR);
  r->result.exit_code = -1;
  if (rc < 0)
    r->result.status = -errno;
  else if (info.si_code == CLD_EXITED)
    r->result.exit_code = info.si_status;
  else
    r->result.term_signal = info.si_status;
}

static void on_exited(uv_poll_t *poll, int status, int events) {
  (void)status, (void)events;
  running *r = poll->data;
  uv_poll_stop(poll);
  if (r->stopping) kill(-r->head.pid, SIGKILL); /* what it leaves behind; it is still a zombie */
  reap(r);
  r->exited = true;
  r->result.duration_ms = segue__loop_now_ms(r->loop) - r->started_ms;
  segue__timer_stop(r->loop, &r->limit);
  end_or_linger(r);
}

static void release(running *r) {
  segue__buf_deinit(&r->streams[0].kept);
  segue__buf_deinit(&r->streams[1].kept);
  segue__free(r);
}

static void on_closed(uv_handle_t *handle) {
  running *r = handle->data;
  if (--r->open_handles) return;
  for (int i = 0; i < 2; i++) {
    const stream *s = &r->streams[i];
    r->result.output[i] =
        (segue__spawn_output){s->kept.data ? s->kept.data : "", s->kept.len, s->total};
  }
  r->on_exit(r->data, &r->result);
  release(r);
}

static void on_stream_closed(uv_handle_t *handle) {
  stream *s = handle->data;
  handle->data = s->owner;
  on_closed(handle);
}

static void close_handles(running *r, uv_close_cb exit_cb, uv_close_cb stream_cb) {
  for (int i = 0; i < 2; i++)
    stream_end(&r->streams[i], stream_cb);
  if (r->exit_poll.data) uv_close((uv_handle_t *)&r->exit_poll, exit_cb);
  close(r->pidfd);
}

static void finish(running *r) {
  if (r->finishing) return;
  r->finishing = true;
  segue__timer_stop(r->loop, &r->limit);
  segue__timer_stop(r->loop, &r->linger);
  close_handles(r, on_closed, on_stream_closed);
}

/* ---- Start ---- */

static int watch_fd(running *r, uv_poll_t *poll, void *data, int fd, uv_poll_cb cb) {
  int rc = uv_poll_init(segue__loop_uv(r->loop), poll, fd);
  if (rc) return rc;
  poll->data = data;
  r->open_handles++;
  return uv_poll_start(poll, UV_READABLE, cb);
}

static int watch_child(running *r, const segue__child *child, uint64_t timeout_ms) {
  int rc = 0;
  for (int i = 0; i < 2; i++)
    r->streams[i].fd = child->output[i];
  for (int i = 0; i < 2 && !rc; i++)
    if (r->streams[i].fd >= 0)
      rc = watch_fd(r, &r->streams[i].poll, &r->streams[i], r->streams[i].fd, on_readable);
  if (!rc) rc = watch_fd(r, &r->exit_poll, r, r->pidfd, on_exited);
  if (!rc && timeout_ms) rc = segue__timer_start(r->loop, &r->limit, timeout_ms, on_limit);
  return rc;
}

static void on_failed_closed(uv_handle_t *handle) {
  running *r = handle->data;
  if (--r->open_handles == 0) release(r);
}

static void on_failed_stream_closed(uv_handle_t *handle) {
  stream *s = handle->data;
  handle->data = s->owner;
  on_failed_closed(handle);
}

/* It runs, but we cannot watch it. */
static int fail_watch(running *r, int code, const char *name, segue_error *err) {
  siginfo_t info;
  kill(-r->head.pid, SIGKILL);
  while (waitid(P_PID, (id_t)r->head.pid, &info, WEXITED) < 0 && errno == EINTR)
    ;
  bool any = r->open_handles > 0;
  close_handles(r, on_failed_closed, on_failed_stream_closed);
  if (!any) release(r);
  return segue__error_set(err, code, "cannot run %.200s: it cannot be watched: %s", name,
                          segue_strerror(code));
}

static void take_options(running *r, const segue__spawn_options *o) {
  r->stop_signal = o->stop_signal ? o->stop_signal : SIGTERM;
  r->kill_ms = o->kill_ms ? o->kill_ms : SEGUE__SPAWN_KILL_MS;
  r->linger_ms = o->linger_ms ? o->linger_ms : SEGUE__SPAWN_LINGER_MS;
  r->capture = o->capture ? o->capture : SEGUE__SPAWN_CAPTURE;
  r->on_output = o->on_output;
  r->on_exit = o->on_exit;
  r->data = o->data;
  r->limit.data = r->linger.data = r;
  for (int i = 0; i < 2; i++)
    r->streams[i] = (stream){.owner = r, .fd = -1};
}

int segue__spawn_start(segue__loop *loop, const segue__spawn_options *options, segue__spawn **out,
                       segue_error *err) {
  *out = NULL;
  segue__child child;
  running *r = segue__calloc(1, sizeof *r);
  if (!r) return segue__error_set(err, UV_ENOMEM, "out of memory");
  r->loop = loop;
  take_options(r, options);
  r->started_ms = segue__loop_now_ms(loop);
  int rc = segue__child_start(options, segue__loop_child_files(loop), &child, err);
  if (rc) {
    release(r);
    return rc;
  }
  r->head = (segue__spawn){child.pid, stop, pause_reading};
  r->pidfd = child.pidfd;
  rc = watch_child(r, &child, options->timeout_ms);
  if (rc) return fail_watch(r, rc, options->argv[0], err);
  *out = &r->head;
  return 0;
}
