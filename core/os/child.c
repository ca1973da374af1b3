/* SPDX-License-Identifier: MIT
 *
 * A running child on the loop: its pidfd, its output pipes and its notify socket are polled. It is
 * closed when it has exited and its output has ended; output that other processes hold open is read
 * for a moment longer, then cut.
 *
 * Order at the exit: the messages that wait are read, then the rest of the group is killed (where
 * it must be), then the child is reaped. As long as it is a zombie its process id, which is also
 * the number of its session and group, cannot be used again: afterwards a signal could meet
 * strangers, and a message could not be attributed.
 */
#include "child.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "child_exec.h"
#include "error.h"
#include "fault.h"
#include "mem.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

enum { READ_BYTES = 65536, LAST_READS = 64, NOTICES_AT_ONCE = 64, ADDRESS_BYTES = 112 };

typedef struct live_child live_child;

typedef struct child_stream {
  live_child *owner;
  uv_poll_t poll;
  int fd; /* -1: ended */
} child_stream;

struct live_child {
  segue__child head; /* first: segue__child is what callers hold */
  segue__loop *loop;
  int pidfd;
  uv_poll_t exit_poll, notify_poll;
  child_stream streams[2];
  segue__notice_reader *notices; /* NULL: no notify socket */
  segue__timer kill_timer, linger_timer;
  int open_handles;
  bool exited, closing, paused, output_cut;
  bool silent; /* the child could not be watched: no callback runs */
  uint64_t started_ms, kill_ms, linger_ms;
  int stop_signal;
  bool kill_rest, stop_alone;
  segue__child_options callbacks; /* only on_x and data */
  segue__child_exit result;
};

static void child_close(live_child *c);
static void on_linger(segue__timer *timer);
static void child_on_handle_closed(uv_handle_t *handle);

static live_child *child_of(segue__child *child) {
  return (live_child *)child; /* its first member */
}

/* ---- Output ---- */

/* The handle is closed first: that removes the number of its descriptor from the poll set. Once the
 * descriptor is closed, the number may belong to another child. */
static void stream_end(child_stream *s) {
  if (s->fd < 0) return;
  if (s->poll.data) uv_close((uv_handle_t *)&s->poll, child_on_handle_closed);
  close(s->fd);
  s->fd = -1;
}

/* One read for each turn of the loop: a child that never stops writing must not keep the loop from
 * its other work. Returns false at the end. */
static bool stream_read(child_stream *s, bool *more) {
  char bytes[READ_BYTES];
  live_child *c = s->owner;
  ssize_t n = read(s->fd, bytes, sizeof bytes);
  *more = n > 0;
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  if (n == 0) return false;
  if (c->callbacks.on_output)
    c->callbacks.on_output(c->callbacks.data, s == &c->streams[0] ? SEGUE__STDOUT : SEGUE__STDERR,
                           bytes, (size_t)n);
  return true;
}

static bool output_ended(const live_child *c) {
  return c->streams[0].fd < 0 && c->streams[1].fd < 0;
}

static void child_on_readable(uv_poll_t *poll, int status, int events) {
  (void)events;
  live_child *c = poll->data;
  child_stream *s = &c->streams[poll == &c->streams[1].poll];
  bool more;
  if (s->fd < 0) return;
  if (status < 0 || !stream_read(s, &more)) stream_end(s);
  if (c->exited && output_ended(c)) child_close(c);
}

/* Reads the rest of the output. The loop may have been busy with other work since: output that was
 * written in time is in the pipe, and its reader may pause it. */
static void stream_read_rest(child_stream *s) {
  bool more = true;
  for (int n = 0; n < LAST_READS && more && s->fd >= 0 && !s->owner->paused; n++)
    if (!stream_read(s, &more)) stream_end(s);
}

/* The bytes in the pipes are read before the child is closed. While reading is paused, the timer
 * that waits for the end of the output must not run, so it starts when reading continues. */
static void end_or_linger(live_child *c) {
  if (c->paused && !output_ended(c)) return;
  if (output_ended(c) || segue__timer_start(c->loop, &c->linger_timer, c->linger_ms, on_linger))
    child_close(c);
}

static void on_linger(segue__timer *timer) {
  live_child *c = timer->data;
  for (int i = 0; i < 2; i++)
    stream_read_rest(&c->streams[i]);
  if (c->paused && !output_ended(c)) return;
  c->output_cut = !output_ended(c);
  child_close(c);
}

static void child_pause(segue__child *child, bool paused) {
  live_child *c = child_of(child);
  if (c->closing || c->paused == paused) return;
  c->paused = paused;
  for (int i = 0; i < 2; i++) {
    child_stream *s = &c->streams[i];
    if (s->fd < 0) continue;
    if (paused)
      uv_poll_stop(&s->poll);
    else if (uv_poll_start(&s->poll, UV_READABLE, child_on_readable))
      stream_end(s);
  }
  if (paused)
    segue__timer_stop(c->loop, &c->linger_timer);
  else if (c->exited)
    end_or_linger(c);
}

void segue__child_pause(segue__child *child, bool paused) {
  if (child && child->pause) child->pause(child, paused);
}

/* ---- Messages ---- */

/* A bounded number for each turn of the loop: any local process can send to the address. Returns
 * whether one more may wait. */
static bool read_notices(live_child *c) {
  segue__notice notice;
  for (int n = 0; n < NOTICES_AT_ONCE; n++) {
    segue__notice_result result = segue__notice_read(c->notices, &notice);
    if (result == SEGUE__NOTICE_NONE) return false;
    if (result == SEGUE__NOTICE_TAKEN && c->callbacks.on_notice)
      c->callbacks.on_notice(c->callbacks.data, &notice);
    if (result == SEGUE__NOTICE_REFUSED && c->callbacks.on_refused)
      c->callbacks.on_refused(c->callbacks.data, c->notices->why);
  }
  return true;
}

static void on_notify(uv_poll_t *poll, int status, int events) {
  live_child *c = poll->data;
  (void)status, (void)events;
  if (c->notices) read_notices(c);
}

static void notices_end(live_child *c) {
  if (!c->notices) return;
  if (c->notify_poll.data) uv_close((uv_handle_t *)&c->notify_poll, child_on_handle_closed);
  close(c->notices->fd);
  segue__free(c->notices);
  c->notices = NULL;
}

static int notices_begin(live_child *c, bool main_only, char address[ADDRESS_BYTES],
                         segue_error *err) {
  c->notices = segue__calloc(1, sizeof *c->notices);
  if (!c->notices) return segue__errorf(err, UV_ENOMEM, "out of memory");
  c->notices->main_only = main_only;
  int fd = segue__notice_open(address, ADDRESS_BYTES);
  if (fd >= 0) {
    c->notices->fd = fd;
    return 0;
  }
  segue__free(c->notices);
  c->notices = NULL;
  return segue__errorf(err, fd, "no socket for the messages of a child: %s", segue_strerror(fd));
}

/* ---- Signals ---- */

static int child_signal(segue__child *child, int signum, bool group) {
  live_child *c = child_of(child);
  if (c->exited) return UV_ESRCH;
  long rc =
      group ? kill(-child->pid, signum) : syscall(SYS_pidfd_send_signal, c->pidfd, signum, NULL, 0);
  return rc ? -errno : 0;
}

int segue__child_signal(segue__child *child, int signum, bool group) {
  return child->signal(child, signum, group);
}

static void on_kill(segue__timer *timer) {
  live_child *c = timer->data;
  child_signal(&c->head, SIGKILL, true);
}

static void child_stop(segue__child *child) {
  live_child *c = child_of(child);
  if (c->result.stopped || c->exited) return;
  c->result.stopped = true;
  child_signal(child, c->stop_signal, !c->stop_alone);
  /* A stopped child (SIGSTOP, a terminal's ^Z) could not act on the signal. */
  if (c->stop_signal != SIGKILL) child_signal(child, SIGCONT, true);
  /* Without memory for the timer the child is killed at once rather than never. */
  if (segue__timer_start(c->loop, &c->kill_timer, c->kill_ms, on_kill)) on_kill(&c->kill_timer);
}

void segue__child_stop(segue__child *child) {
  if (child) child->stop(child);
}

static void child_set_stop(segue__child *child, int signum, uint64_t kill_ms, bool alone) {
  live_child *c = child_of(child);
  c->stop_signal = signum ? signum : SIGTERM;
  c->kill_ms = kill_ms ? kill_ms : SEGUE__CHILD_KILL_MS;
  c->stop_alone = alone;
}

void segue__child_set_stop(segue__child *child, int signum, uint64_t kill_ms, bool alone) {
  if (child->set_stop) child->set_stop(child, signum, kill_ms, alone);
}

/* ---- Exit ---- */

static void child_reap(live_child *c) {
  siginfo_t info = {0};
  int rc;
  do
    rc = waitid((idtype_t)P_PIDFD, (id_t)c->pidfd, &info, WEXITED | WNOHANG);
  while (rc < 0 && errno == EINTR);
  c->result.exit_code = -1;
  if (rc < 0)
    c->result.status = -errno;
  else if (info.si_code == CLD_EXITED)
    c->result.exit_code = info.si_status;
  else
    c->result.term_signal = info.si_status;
}

static void on_exited(uv_poll_t *poll, int status, int events) {
  (void)status, (void)events;
  live_child *c = poll->data;
  uv_poll_stop(poll);
  if (c->notices) (void)read_notices(c);
  notices_end(c);
  if (c->result.stopped || c->kill_rest) child_signal(&c->head, SIGKILL, true);
  child_reap(c);
  c->exited = true;
  c->result.duration_ms = segue__loop_now_ms(c->loop) - c->started_ms;
  segue__timer_stop(c->loop, &c->kill_timer);
  if (c->callbacks.on_exit) c->callbacks.on_exit(c->callbacks.data, &c->result);
  end_or_linger(c);
}

static void child_on_handle_closed(uv_handle_t *handle) {
  live_child *c = handle->data;
  if (--c->open_handles) return;
  if (!c->silent) c->callbacks.on_closed(c->callbacks.data, c->output_cut);
  segue__free(c);
}

/* The last close callback frees the memory, because libuv uses the handles until then. If no handle
 * was opened it is freed here. */
static void child_close(live_child *c) {
  if (c->closing) return;
  c->closing = true;
  segue__timer_stop(c->loop, &c->kill_timer);
  segue__timer_stop(c->loop, &c->linger_timer);
  bool none = c->open_handles == 0;
  for (int i = 0; i < 2; i++)
    stream_end(&c->streams[i]);
  notices_end(c);
  if (c->exit_poll.data) uv_close((uv_handle_t *)&c->exit_poll, child_on_handle_closed);
  close(c->pidfd);
  if (none) segue__free(c);
}

/* ---- Start ---- */

static int watch_fd(live_child *c, uv_poll_t *poll, int fd, uv_poll_cb cb) {
  int rc = uv_poll_init(segue__loop_uv(c->loop), poll, fd);
  if (rc) return rc;
  poll->data = c;
  c->open_handles++;
  return uv_poll_start(poll, UV_READABLE, cb);
}

static int watch_child(live_child *c, const segue__executed *executed) {
  int rc = SEGUE_FAULT("child.watch");
  c->head.pid = executed->pid;
  c->pidfd = executed->pidfd;
  for (int i = 0; i < 2; i++)
    c->streams[i].fd = executed->output[i];
  for (int i = 0; i < 2 && !rc; i++)
    if (c->streams[i].fd >= 0)
      rc = watch_fd(c, &c->streams[i].poll, c->streams[i].fd, child_on_readable);
  if (c->notices) c->notices->child = executed->pid;
  if (!rc && c->notices) rc = watch_fd(c, &c->notify_poll, c->notices->fd, on_notify);
  if (!rc) rc = watch_fd(c, &c->exit_poll, c->pidfd, on_exited);
  return rc;
}

/* The child runs, but cannot be watched: it must not run on unseen. */
static int fail_watch(live_child *c, int code, const char *name, segue_error *err) {
  siginfo_t info;
  kill(-c->head.pid, SIGKILL);
  while (waitid((idtype_t)P_PIDFD, (id_t)c->pidfd, &info, WEXITED) < 0 && errno == EINTR)
    ;
  c->exited = c->silent = true;
  child_close(c);
  return segue__errorf(err, code, "cannot run %.200s: it cannot be watched: %s", name,
                       segue_strerror(code));
}

static live_child *child_new(segue__loop *loop, const segue__child_options *o) {
  live_child *c = segue__calloc(1, sizeof *c);
  if (!c) return NULL;
  c->head = (segue__child){0, child_stop, child_pause, child_signal, child_set_stop};
  c->loop = loop;
  child_set_stop(&c->head, o->stop_signal, o->kill_ms, o->stop_alone);
  c->linger_ms = o->linger_ms ? o->linger_ms : SEGUE__CHILD_LINGER_MS;
  c->kill_rest = o->kill_rest;
  c->callbacks.on_output = o->on_output;
  c->callbacks.on_notice = o->on_notice;
  c->callbacks.on_refused = o->on_refused;
  c->callbacks.on_exit = o->on_exit;
  c->callbacks.on_closed = o->on_closed;
  c->callbacks.data = o->data;
  c->kill_timer.data = c->linger_timer.data = c;
  for (int i = 0; i < 2; i++)
    c->streams[i] = (child_stream){.owner = c, .fd = -1};
  c->started_ms = segue__loop_now_ms(loop);
  return c;
}

static uint64_t open_files_limit(const segue__loop *loop, const segue__child_options *o) {
  for (size_t i = 0; i < o->limit_count; i++)
    if (o->limits[i].resource == segue__child_limit_find("nofile")) return 0;
  return segue__loop_child_files(loop);
}

int segue__child_start(segue__loop *loop, const segue__child_options *options, segue__child **out,
                       segue_error *err) {
  *out = NULL;
  char address[ADDRESS_BYTES];
  segue__executed executed;
  live_child *c = child_new(loop, options);
  if (!c) return segue__errorf(err, UV_ENOMEM, "out of memory");
  int rc = options->notify ? notices_begin(c, options->notify_main_only, address, err) : 0;
  if (!rc)
    rc = segue__child_execute(options, open_files_limit(loop, options),
                              options->notify ? address : NULL, &executed, err);
  if (rc) {
    notices_end(c);
    segue__free(c);
    return rc;
  }
  rc = watch_child(c, &executed);
  if (rc) return fail_watch(c, rc, options->argv[0], err);
  *out = &c->head;
  return 0;
}
