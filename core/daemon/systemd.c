/* SPDX-License-Identifier: MIT
 *
 * Reports to the service manager. A run that a client or a signal requested is RELOADING from its
 * first step on, because a manager that sent the signal waits for that; an automatic one (a poll, a
 * watch) only after a change was found. READY is sent at the end of each run, for each outcome: the
 * daemon continues to serve, and the outcome is in STATUS and in the exit code of `segue reload`. A
 * timer of the loop feeds the watchdog, so that the manager notices a loop that hangs.
 */
#include "systemd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../admin/render.h"
#include "../config/printable.h"
#include "../config/utf8.h"

/* How long a start, reload or stop may report nothing, how often it requests more time, how much.
 */
enum { PATIENCE_FIRST_MS = 1000, PATIENCE_MS = 5000, MORE_USEC = 20000000, AGAIN_MS = 50 };
enum { STATUS_CUT = 400 };

static void systemd_warn(const segue__systemd *s, const char *message) {
  segue_log_entry entry = {.level = SEGUE_WARN, .group = "systemd", .message = message};
  if (entry.level <= s->sink->level) segue__sink_write(s->sink, &entry);
}

/* ---- Sending --------------------------------------------------------------------------------- */

static void systemd_again(uv_timer_t *timer) {
  segue__systemd *s = timer->data;
  if (segue__notify_flush(s->socket) == 0) uv_timer_stop(timer);
}

/* Sends a report. keep: a report that is not repeated must arrive, even late, so it is sent again
 * while the socket is full. */
static void systemd_report(segue__systemd *s, const char *text, bool keep) {
  int rc = segue__notify_send(s->socket, text, keep);
  if (rc == UV_EAGAIN && keep) {
    uv_timer_start(&s->again, systemd_again, AGAIN_MS, AGAIN_MS);
  } else if (rc < 0 && rc != UV_EAGAIN && !s->complained) {
    char message[160];
    s->complained = true;
    snprintf(message, sizeof message, "cannot report to the service manager at $NOTIFY_SOCKET: %s",
             segue_strerror(rc));
    systemd_warn(s, message);
  }
}

static void report_status(segue__systemd *s, const char *state) {
  char text[sizeof s->status + 128];
  snprintf(text, sizeof text, "%s%sSTATUS=%s", state, *state ? "\n" : "", s->status);
  systemd_report(s, text, true);
}

static void on_watchdog(uv_timer_t *timer) {
  systemd_report(timer->data, "WATCHDOG=1", false);
}

static void on_patience(uv_timer_t *timer) {
  char text[64];
  snprintf(text, sizeof text, "EXTEND_TIMEOUT_USEC=%d", MORE_USEC);
  systemd_report(timer->data, text, false);
}

static void be_patient(segue__systemd *s) {
  uv_timer_start(&s->patience, on_patience, PATIENCE_FIRST_MS, PATIENCE_MS);
}

/* ---- Words ----------------------------------------------------------------------------------- */

/* Stores one line of valid UTF-8 of limited length: the manager discards anything else. */
static void set_status(segue__systemd *s, const char *text, size_t len) {
  size_t used = 0;
  while (len && used < STATUS_CUT) {
    size_t n = segue__utf8_next(text, len);
    uint32_t code;
    bool odd = segue__printable_odd(text, len, &code) > 0;
    if (odd)
      s->status[used++] = n ? ' ' : '?';
    else
      for (size_t i = 0; i < n; i++)
        s->status[used++] = text[i];
    text += n ? n : 1;
    len -= n ? n : 1;
  }
  s->status[used] = 0;
}

/* Makes the status of a run that has ended: "rejected: generation 2 stays live (reload 3, 0.2 ms):
 * config.yaml:13:1: ...". */
static void systemd_describe(segue__systemd *s, const segue__result *result) {
  bool good = result->outcome == SEGUE__APPLIED || result->outcome == SEGUE__UNCHANGED;
  int64_t stale = good ? 0 : segue__engine_stale_since(s->instance->engine);
  segue__buf line;
  segue__buf_init(&line);
  if (stale) {
    segue__buf_adds(&line, "stale since ");
    segue__render_clock(&line, stale);
    segue__buf_adds(&line, "; ");
  }
  segue__render_result_text(&line, result);
  char *end = line.failed ? NULL : strchr(line.data, '\n');
  if (end) {
    line.len = (size_t)(end - line.data);
    if (result->errors.count) {
      segue__buf_adds(&line, ": ");
      segue__render_error_text(&line, &result->errors.items[0]);
    }
  }
  if (!line.failed) set_status(s, line.data, line.len);
  segue__buf_deinit(&line);
}

static void systemd_say(segue__systemd *s, const char *text) {
  set_status(s, text, strlen(text));
}

/* ---- Runs ------------------------------------------------------------------------------------ */

static bool began_by_itself(segue__trigger trigger) {
  static const bool automatic[] = {
#define X(name, text, is_automatic) is_automatic,
      SEGUE__TRIGGERS(X)
#undef X
  };
  return automatic[trigger];
}

/* RELOADING=1 must carry the monotonic time (sd_notify(3)): for Type=notify-reload the manager
 * ignores one that is older than its signal. */
static void run_begins(segue__systemd *s, const segue__result *result) {
  struct timespec now;
  char state[96], doing[256];
  clock_gettime(CLOCK_MONOTONIC, &now);
  snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
           (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
  snprintf(doing, sizeof doing, "reload %" PRIu64 " (%.150s); generation %" PRIu64 " is live",
           result->id, result->cause,
           segue__engine_live(s->instance->engine)
               ? segue_snapshot_generation(segue__engine_live(s->instance->engine))
               : 0);
  systemd_say(s, doing);
  report_status(s, state);
  s->reloading = true;
  be_patient(s);
}

static void run_ends(segue__systemd *s, const segue__result *result) {
  bool idle = result->skipped || (result->outcome == SEGUE__UNCHANGED && !s->reloading);
  if (result->deferred)
    systemd_say(s, "postponed: the reload runs later");
  else if (!idle)
    systemd_describe(s, result);
  if (s->reloading) {
    s->reloading = false;
    uv_timer_stop(&s->patience);
    report_status(s, "READY=1");
  } else if (s->ready && !idle) {
    report_status(s, "");
  }
}

static void systemd_on_phase(segue__observer *observer, const segue__result *result,
                             segue__phase phase) {
  segue__systemd *s = observer->data;
  if (result->plan_only || s->stopping) return;
  if (phase == SEGUE__PHASE_SETTLED)
    run_ends(s, result);
  else if (s->ready && !s->reloading &&
           (phase != SEGUE__PHASE_COLLECT || !began_by_itself(result->trigger)))
    run_begins(s, result);
}

void segue__systemd_watch(segue__systemd *s, segue *instance) {
  if (!s->socket) return;
  s->instance = instance;
  s->observer = (segue__observer){.on_phase = systemd_on_phase, .data = s};
  segue__engine_observe(instance->engine, &s->observer);
}

static void describe_stale(segue__systemd *s, int64_t since_wall_ms) {
  segue__buf text;
  segue__buf_init(&text);
  segue__buf_adds(&text, "stale since ");
  segue__render_clock(&text, since_wall_ms);
  segue__buf_adds(&text, ": the last good generation is live, the sources deliver nothing good");
  if (!text.failed) set_status(s, text.data, text.len);
  segue__buf_deinit(&text);
}

/* A start that the policy postponed counts as ready: triggers and the admin API work, and a unit
 * must not time out because its policy waits. */
void segue__systemd_started(segue__systemd *s, int status) {
  if (!s->socket || s->stopping) return;
  int64_t stale = segue__engine_stale_since(s->instance->engine);
  if (status == SEGUE_EDEFERRED)
    systemd_say(s, "waiting: the policy postponed the first load");
  else if (stale)
    describe_stale(s, stale);
  uv_timer_stop(&s->patience);
  s->ready = true;
  report_status(s, "READY=1");
}

/* The reason of a failed start stays the last status. */
void segue__systemd_stopping(segue__systemd *s) {
  if (!s->socket || s->stopping) return;
  s->stopping = true;
  if (s->ready) systemd_say(s, "stopping");
  report_status(s, "STOPPING=1");
  be_patient(s);
}

/* ---- Open and close -------------------------------------------------------------------------- */

/* Returns half of the time that the manager waits, in milliseconds, as sd_watchdog_enabled(3)
 * recommends; 0 if it does not watch this process. */
static uint64_t watchdog_ms(const char *usec, const char *pid) {
  char *end = NULL;
  if (!usec || *usec < '0' || *usec > '9') return 0;
  if (pid && *pid && strtoll(pid, NULL, 10) != getpid()) return 0;
  errno = 0;
  unsigned long long limit = strtoull(usec, &end, 10);
  if (errno || *end || !limit) return 0;
  return limit / 2000 ? limit / 2000 : 1;
}

static void add_timer(segue__systemd *s, uv_loop_t *loop, uv_timer_t *timer) {
  uv_timer_init(loop, timer); /* cannot fail */
  timer->data = s;
}

/* The variables are removed, so that a command of a policy cannot report in the daemon's name. */
void segue__systemd_open(segue__systemd *s, uv_loop_t *loop, const segue__sink *sink) {
  segue_error err;
  const char *address = getenv("NOTIFY_SOCKET");
  uint64_t watchdog = watchdog_ms(getenv("WATCHDOG_USEC"), getenv("WATCHDOG_PID"));
  *s = (segue__systemd){.sink = sink};
  if (address && *address && segue__notify_open(&s->socket, address, &err) < 0)
    systemd_warn(s, err.message);
  unsetenv("NOTIFY_SOCKET");
  unsetenv("WATCHDOG_USEC");
  unsetenv("WATCHDOG_PID");
  if (!s->socket) return;
  add_timer(s, loop, &s->watchdog);
  add_timer(s, loop, &s->patience);
  add_timer(s, loop, &s->again);
  if (watchdog) uv_timer_start(&s->watchdog, on_watchdog, watchdog, watchdog);
  systemd_say(s, "the first load");
  report_status(s, "");
  be_patient(s);
}

void segue__systemd_close(segue__systemd *s) {
  if (!s->socket) return;
  uv_close((uv_handle_t *)&s->watchdog, NULL);
  uv_close((uv_handle_t *)&s->patience, NULL);
  uv_close((uv_handle_t *)&s->again, NULL);
  segue__notify_close(s->socket);
  s->socket = NULL;
}
