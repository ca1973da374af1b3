/* SPDX-License-Identifier: MIT
 *
 * A child of a module: readiness, output, end. Each child has a segue__process of its own, because
 * the next one of a module may run beside it. The end is reported when the output is read, a moment
 * after the exit: the last lines are the ones that name the cause.
 */
#include "managed.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "../os/error.h"
#include "../os/mem.h"
#include "../os/output_lines.h"

enum { TAIL_BYTES = 4096, STATUS_BYTES = 200 };

struct segue__managed {
  segue__managed_options options;
  char *module;
  segue__process *process;
  segue__output_lines lines[2];
  segue__buf tail; /* the end of its output */
  segue__server_probe *probe;
  segue__timer limit, watchdog;
  uv_poll_t ready_poll;
  bool polls, poll_closed;
  bool is_ready, late, hung, ended, freed, tail_skips;
  int pid;
  uint64_t started_ms, ready_after_ms, give_up_ms;
  double tokens;
  uint64_t filled_ms, lost, lost_reported;
  segue__child_exit end;
  char status[STATUS_BYTES];
};

static void managed_drop(segue__managed *managed) {
  segue__buf_deinit(&managed->tail);
  segue__free(managed->module);
  segue__free(managed);
}

/* ---- Output ---- */

/* At most lines_per_s on average, and as many at once as one second has. */
static bool managed_may_log(segue__managed *managed) {
  double rate = managed->options.lines_per_s;
  uint64_t now = segue__loop_now_ms(managed->options.loop);
  if (rate <= 0) return true;
  managed->tokens += (double)(now - managed->filled_ms) * rate / 1000;
  if (managed->tokens > rate + 1) managed->tokens = rate + 1;
  managed->filled_ms = now;
  if (managed->tokens < 1) return false;
  managed->tokens -= 1;
  return true;
}

static void managed_report_lost(segue__managed *managed) {
  uint64_t lost = managed->lost - managed->lost_reported;
  if (!lost) return;
  managed->lost_reported = managed->lost;
  SEGUE__LOG(managed->options.log, SEGUE_WARN, "process",
             "the child wrote more lines than the log takes: some were dropped",
             SEGUE__FIELD("module", managed->module), SEGUE__FIELD("pid", managed->pid),
             SEGUE__FIELD("lines", lost));
}

static void managed_log_line(segue__managed *managed, segue__stream stream, const char *line,
                             size_t len, bool cut) {
  if (!managed->options.logs[stream] || !len) return;
  if (!managed_may_log(managed)) {
    managed->lost++;
    return;
  }
  managed_report_lost(managed);
  SEGUE__LOG(managed->options.log, SEGUE_INFO, "process", line,
             SEGUE__FIELD("module", managed->module), SEGUE__FIELD("pid", managed->pid),
             SEGUE__FIELD("stream", stream == SEGUE__STDERR ? "stderr" : "stdout"),
             SEGUE__FIELD("cut", cut));
}

static void managed_set_ready(segue__managed *managed);

static void managed_on_line(segue__managed *managed, segue__stream stream, const char *line,
                            size_t len, bool cut) {
  managed_log_line(managed, stream, line, len, cut);
  const char *wanted = managed->options.ready_line;
  if (managed->options.ready == SEGUE__READY_LINE && !managed->is_ready &&
      memmem(line, len, wanted, strlen(wanted)))
    managed_set_ready(managed);
}

static void managed_on_stdout_line(void *data, const char *line, size_t len, bool cut) {
  managed_on_line(data, SEGUE__STDOUT, line, len, cut);
}

static void managed_on_stderr_line(void *data, const char *line, size_t len, bool cut) {
  managed_on_line(data, SEGUE__STDERR, line, len, cut);
}

static void managed_keep_tail(segue__managed *managed, const char *bytes, size_t len) {
  segue__buf *tail = &managed->tail;
  if (len > TAIL_BYTES) {
    bytes += len - TAIL_BYTES;
    len = TAIL_BYTES;
  }
  if (tail->len + len > 2 * (size_t)TAIL_BYTES) {
    size_t drop = tail->len - TAIL_BYTES;
    memmove(tail->data, tail->data + drop, tail->len - drop);
    tail->len -= drop;
  }
  segue__buf_add(tail, bytes, len);
}

static void managed_on_output(void *data, segue__stream stream, const char *bytes, size_t len) {
  segue__managed *managed = data;
  managed_keep_tail(managed, bytes, len);
  segue__output_lines_add(&managed->lines[stream], bytes, len);
}

/* ---- Readiness ---- */

static void managed_poll_closed(uv_handle_t *handle) {
  segue__managed *managed = handle->data;
  managed->polls = false;
  if (managed->freed && managed->ended) managed_drop(managed);
}

static void managed_end_poll(segue__managed *managed) {
  if (managed->options.ready_fd < 0) return;
  if (managed->polls) uv_close((uv_handle_t *)&managed->ready_poll, managed_poll_closed);
  close(managed->options.ready_fd);
  managed->options.ready_fd = -1;
}

static void managed_end_wait(segue__managed *managed) {
  segue__timer_stop(managed->options.loop, &managed->limit);
  segue__server_probe_free(managed->probe);
  managed->probe = NULL;
  managed_end_poll(managed);
}

/* ---- The watchdog ---- */

static void managed_on_hung(segue__timer *timer) {
  segue__managed *managed = timer->data;
  managed->hung = true;
  segue__process_kill(managed->process);
}

static void managed_feed(segue__managed *managed) {
  if (managed->options.watchdog_ms && managed->is_ready && !managed->hung)
    (void)segue__timer_start(managed->options.loop, &managed->watchdog,
                             managed->options.watchdog_ms, managed_on_hung);
}

static void managed_set_ready(segue__managed *managed) {
  if (managed->is_ready || managed->late || !segue__process_runs(managed->process)) return;
  managed->is_ready = true;
  managed->ready_after_ms = segue__loop_now_ms(managed->options.loop) - managed->started_ms + 1;
  managed_end_wait(managed);
  managed_feed(managed);
  managed->options.on_ready(managed->options.data);
}

static void managed_on_probe(void *data) {
  managed_set_ready(data);
}

/* A newline makes it ready. A child that closes its end without one is not ready: the limit
 * decides. */
static void managed_on_readable(uv_poll_t *poll, int status, int events) {
  segue__managed *managed = poll->data;
  char bytes[256];
  (void)events;
  ssize_t n = status < 0 ? 0 : read(managed->options.ready_fd, bytes, sizeof bytes);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n > 0 && memchr(bytes, '\n', (size_t)n))
    managed_set_ready(managed);
  else if (n <= 0)
    managed_end_poll(managed);
}

static void managed_on_limit(segue__timer *timer) {
  segue__managed *managed = timer->data;
  if (managed->options.ready == SEGUE__READY_EXEC) {
    managed_set_ready(managed);
    return;
  }
  managed->late = true;
  segue__process_stop(managed->process);
}

/* A child that is still at work may request more time, up to a limit of its own. */
static void managed_extend(segue__managed *managed, uint64_t usec) {
  uint64_t now = segue__loop_now_ms(managed->options.loop);
  uint64_t until =
      now +
      (usec / 1000 < managed->options.ready_most_ms ? usec / 1000 : managed->options.ready_most_ms);
  if (managed->is_ready || managed->late) return;
  if (until > managed->give_up_ms) until = managed->give_up_ms;
  (void)segue__timer_start(managed->options.loop, &managed->limit, until > now ? until - now : 0,
                           managed_on_limit);
}

static void managed_on_notice(void *data, const segue__notice *notice) {
  segue__managed *managed = data;
  if (notice->status) {
    size_t len = strnlen(notice->status, STATUS_BYTES - 1);
    memcpy(managed->status, notice->status, len);
    managed->status[len] = 0;
  }
  if (notice->watchdog) managed_feed(managed);
  if (notice->watchdog_trigger && managed->is_ready) managed_on_hung(&managed->watchdog);
  if (notice->extend_timeout_usec) managed_extend(managed, notice->extend_timeout_usec);
  const bool was_ready = managed->is_ready;
  if (notice->ready && managed->options.ready == SEGUE__READY_NOTIFY) managed_set_ready(managed);
  if (was_ready && managed->options.on_notice)
    managed->options.on_notice(managed->options.data, notice);
}

static void managed_on_refused(void *data, const char *why) {
  const segue__managed *managed = data;
  SEGUE__LOG(managed->options.log, SEGUE_WARN, "process", "a message of the child was refused",
             SEGUE__FIELD("module", managed->module), SEGUE__FIELD("pid", managed->pid),
             SEGUE__FIELD("why", why));
}

static int managed_begin_wait(segue__managed *managed) {
  const segue__managed_options *o = &managed->options;
  int rc = 0;
  if (o->ready == SEGUE__READY_PROBE)
    rc = segue__server_probe_start(&managed->probe, o->loop, o->os, managed->module, &o->probe,
                                   managed_on_probe, managed);
  if (!rc && o->ready == SEGUE__READY_FD) {
    rc = uv_poll_init(segue__loop_uv(o->loop), &managed->ready_poll, o->ready_fd);
    managed->polls = !rc;
    managed->ready_poll.data = managed;
    if (!rc) rc = uv_poll_start(&managed->ready_poll, UV_READABLE, managed_on_readable);
  }
  if (!rc)
    rc = segue__timer_start(o->loop, &managed->limit,
                            o->ready == SEGUE__READY_EXEC ? 0 : o->ready_ms, managed_on_limit);
  return rc;
}

/* ---- Its end ---- */

static const char *managed_missing(const segue__managed *managed) {
  switch (managed->options.ready) {
  case SEGUE__READY_NOTIFY:
    return "it sent no READY=1 to $NOTIFY_SOCKET";
  case SEGUE__READY_FD:
    return "it wrote no line to its descriptor for readiness";
  case SEGUE__READY_LINE:
    return "no line of its output has the text that is awaited";
  default:
    return managed->probe && *segue__server_probe_problem(managed->probe)
               ? segue__server_probe_problem(managed->probe)
               : "the probe did not succeed";
  }
}

/* One sentence, and the last lines of the output. */
static void managed_describe(segue__managed *managed, segue_error *out) {
  const char *program = managed->options.argv[0];
  segue__buf text;
  segue__buf_init(&text);
  if (managed->late) {
    segue__buf_addf(&text, "the child %.200s (process %d) was not ready after %g s: %.200s",
                    program, managed->pid, (double)managed->options.ready_ms / 1000,
                    managed_missing(managed));
  } else if (managed->hung) {
    segue__buf_addf(&text,
                    "the child %.200s (process %d) sent no WATCHDOG=1 for %g s and was killed",
                    program, managed->pid, (double)managed->options.watchdog_ms / 1000);
  } else {
    segue__process_describe_end(program, managed->pid, &managed->end, out);
    segue__buf_addf(&text, "%s%s", out->message, managed->is_ready ? "" : ", before it was ready");
  }
  const bool asked = managed->end.stopped && !managed->late;
  if (managed->tail.len && !asked) {
    segue__buf_adds(&text, "; its last output");
    segue__effect_add_lines(&managed->tail, &text);
  }
  segue__errorf(out, SEGUE_EMODULE, "%s", text.failed ? "the child has ended" : text.data);
  segue__buf_deinit(&text);
}

static void managed_on_exit(void *data, const segue__child_exit *end) {
  segue__managed *managed = data;
  segue__timer_stop(managed->options.loop, &managed->watchdog);
  managed->end = *end;
}

static void managed_on_closed(void *data) {
  segue__managed *managed = data;
  segue_error why;
  const segue__child_exit end = managed->end; /* on_end may free the memory of managed */
  managed->ended = true;
  for (int i = 0; i < 2; i++)
    segue__output_lines_end(&managed->lines[i]);
  if (managed->freed) {
    if (!managed->polls) managed_drop(managed);
    return;
  }
  managed_report_lost(managed);
  managed_describe(managed, &why);
  managed_end_wait(managed);
  managed->options.on_end(managed->options.data, &end, &why);
}

/* ---- Its life ---- */

static void managed_set_lines(segue__managed *managed, segue__stream stream,
                              void (*on_line)(void *, const char *, size_t, bool)) {
  segue__output_lines *lines = &managed->lines[stream];
  lines->on_line = on_line;
  lines->data = managed;
  lines->max = managed->options.line_bytes;
  segue__buf_init(&lines->held);
}

static segue__managed *managed_new(const segue__managed_options *options) {
  segue__managed *managed = segue__calloc(1, sizeof *managed);
  if (!managed) return NULL;
  managed->options = *options;
  managed->module = segue__strdup(options->module);
  managed->limit.data = managed->watchdog.data = managed;
  managed->tokens = options->lines_per_s;
  segue__buf_init(&managed->tail);
  managed_set_lines(managed, SEGUE__STDOUT, managed_on_stdout_line);
  managed_set_lines(managed, SEGUE__STDERR, managed_on_stderr_line);
  segue__child_options *child = &managed->options.child;
  child->on_output = managed_on_output;
  child->on_notice = managed_on_notice;
  child->on_refused = managed_on_refused;
  child->data = managed;
  return managed;
}

int segue__managed_start(segue__managed **out, const segue__managed_options *options,
                         segue_error *err) {
  segue__managed *managed = managed_new(options);
  *out = NULL;
  if (!managed || !managed->module) {
    if (options->ready_fd >= 0) close(options->ready_fd);
    if (managed) managed_drop(managed);
    return segue__errorf(err, UV_ENOMEM, "out of memory");
  }
  const segue__process_options process = {.size = sizeof process,
                                          .loop = options->loop,
                                          .os = options->os,
                                          .argv = options->argv,
                                          .child = &managed->options.child,
                                          .on_end = managed_on_exit,
                                          .on_closed = managed_on_closed,
                                          .data = managed};
  managed->started_ms = managed->filled_ms = segue__loop_now_ms(options->loop);
  managed->give_up_ms = managed->started_ms + options->ready_most_ms;
  int rc = segue__process_new(&managed->process, &process);
  if (rc) {
    segue__errorf(err, rc, "out of memory");
  } else {
    rc = segue__process_start(managed->process, options->env, &options->manner, err);
    if (rc) segue__process_free(managed->process);
  }
  if (rc) {
    managed_end_poll(managed);
    managed_drop(managed);
    return rc;
  }
  managed->pid = segue__process_pid(managed->process);
  rc = managed_begin_wait(managed);
  if (rc) {
    segue__errorf(err, rc, "the readiness of the child cannot be awaited: %s", segue_strerror(rc));
    segue__managed_free(managed);
    return rc;
  }
  *out = managed;
  return 0;
}

void segue__managed_set_owner(segue__managed *managed, void *data) {
  managed->options.data = data;
}

void segue__managed_set_manner(segue__managed *managed, const segue__process_manner *manner) {
  segue__process_set_manner(managed->process, manner);
}

void segue__managed_stop(segue__managed *managed) {
  segue__process_stop(managed->process);
}

void segue__managed_kill(segue__managed *managed) {
  segue__process_kill(managed->process);
}

segue__process *segue__managed_process(const segue__managed *managed) {
  return managed->process;
}

int segue__managed_pid(const segue__managed *managed) {
  return managed->pid;
}

bool segue__managed_is_ready(const segue__managed *managed) {
  return managed->is_ready;
}

uint64_t segue__managed_ready_ms(const segue__managed *managed) {
  return managed->ready_after_ms;
}

uint64_t segue__managed_started_ms(const segue__managed *managed) {
  return managed->started_ms;
}

uint64_t segue__managed_lost(const segue__managed *managed) {
  return managed->lost;
}

const char *segue__managed_status(const segue__managed *managed) {
  return managed->status;
}

void segue__managed_free(segue__managed *managed) {
  if (!managed) return;
  managed->freed = true;
  managed_end_wait(managed);
  segue__timer_stop(managed->options.loop, &managed->watchdog);
  segue__process_free(managed->process);
  if (managed->ended && !managed->polls) managed_drop(managed);
}
