/* SPDX-License-Identifier: MIT
 *
 * Log entries as lines on standard error: text for people, JSON for machines. A line is one write,
 * so that threads and other processes on the same pipe do not cut it. Control characters never
 * reach the terminal: a message may quote the input of an untrusted client. While the daemon
 * serves, a separate thread writes: a stopped terminal or a collector that hangs must not stop the
 * daemon.
 */
#include "sink.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../config/config.h"
#include "../config/printable.h"
#include "../os/log.h"
#include "../os/write.h"

int segue__sink_init(segue__sink *sink, const segue__cli *cli) {
  *sink = (segue__sink){.level = SEGUE_INFO, .colour = segue__cli_colour(2)};
  if (cli->log_level && segue__level_parse(cli->log_level, &sink->level) < 0)
    return segue__cli_fail(SEGUE__EXIT_USAGE,
                           "--log-level LEVEL must be error, warn, info or debug, not \"%s\"",
                           cli->log_level);
  sink->json = cli->log_format && strcmp(cli->log_format, "json") == 0;
  if (cli->log_format && !sink->json && strcmp(cli->log_format, "text") != 0)
    return segue__cli_fail(SEGUE__EXIT_USAGE,
                           "--log-format FORMAT must be text or json, not \"%s\"", cli->log_format);
  return 0;
}

static void add_time(segue__buf *out) {
  struct timespec now;
  struct tm tm;
  char text[32];
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &tm);
  strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
  segue__buf_addf(out, "%s.%03ldZ", text, now.tv_nsec / 1000000);
}

/* Quotes a text that is not one word. */
static void sink_add_word(segue__buf *out, const char *s) {
  if (s[0] && !strpbrk(s, " \"=\\\t\r\n")) {
    segue__printable_add(out, s, strlen(s));
    return;
  }
  segue__buf_addc(out, '"');
  for (size_t n; *s; s += n) {
    n = strcspn(s, "\"\\");
    segue__printable_add(out, s, n);
    if (!s[n]) break;
    segue__buf_addc(out, '\\');
    segue__buf_addc(out, s[n++]);
  }
  segue__buf_addc(out, '"');
}

static void add_text_value(segue__buf *out, const segue_log_field *field) {
  if (field->text)
    sink_add_word(out, field->text);
  else
    segue__buf_addf(out, "%" PRId64, field->number);
}

static void sink_add_text(segue__buf *out, const segue__sink *sink, const segue_log_entry *entry) {
  static const char *const colours[] = {"\033[31m", "\033[33m", "\033[32m", "\033[2m"};
  add_time(out);
  segue__buf_addf(out, " %s%-5s%s %s: ", sink->colour ? colours[entry->level] : "",
                  segue__level_name(entry->level), sink->colour ? "\033[0m" : "", entry->group);
  segue__printable_add(out, entry->message, strlen(entry->message));
  for (size_t i = 0; i < entry->field_count; i++) {
    segue__buf_addc(out, ' ');
    sink_add_word(out, entry->fields[i].key);
    segue__buf_addc(out, '=');
    add_text_value(out, &entry->fields[i]);
  }
  segue__buf_addc(out, '\n');
}

static void sink_add_json(segue__buf *out, const segue_log_entry *entry) {
  segue__buf_adds(out, "{\"time\":\"");
  add_time(out);
  segue__buf_addf(out, "\",\"level\":\"%s\",\"group\":\"%s\",\"message\":",
                  segue__level_name(entry->level), entry->group);
  segue__json_string(out, entry->message, strlen(entry->message));
  for (size_t i = 0; i < entry->field_count; i++) {
    const segue_log_field *field = &entry->fields[i];
    segue__buf_addc(out, ',');
    segue__json_string(out, field->key, strlen(field->key));
    segue__buf_addc(out, ':');
    if (field->text)
      segue__json_string(out, field->text, strlen(field->text));
    else
      segue__buf_addf(out, "%" PRId64, field->number);
  }
  segue__buf_adds(out, "}\n");
}

static void sink_add_entry(segue__buf *out, const segue__sink *sink, const segue_log_entry *entry) {
  if (sink->json)
    sink_add_json(out, entry);
  else
    sink_add_text(out, sink, entry);
}

/* ---- Queued lines ---------------------------------------------------------------------------- */

enum { CRASH_MS = 500 };
static const int deadly[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
enum { DEADLY = sizeof deadly / sizeof *deadly };

/* Global, because a signal handler and a thread that outlives its sink use them. */
static segue__log_queue *on_the_way;
static segue__sink manner;

static void report_lost(void *data, segue__buf *out, uint64_t count, int error) {
  const segue__sink *sink = data;
  segue_log_field fields[] = {{"lines", NULL, (int64_t)count}, {"error", strerror(error), 0}};
  segue_log_entry entry = {
      .level = SEGUE_WARN,
      .group = "segue",
      .message = error ? "log lines were lost: cannot write standard error"
                       : "log lines were dropped: the reader of standard error is too slow",
      .fields = fields,
      .field_count = error ? 2 : 1,
  };
  sink_add_entry(out, sink, &entry);
}

/* The lines before a crash are the most needed ones. This waits while the log's thread writes them,
 * then the signal has its default effect. It may run at any instruction, so it only loads atomics
 * and sleeps: both are allowed in a signal handler, a lock is not. */
static void on_deadly(int signum) {
  segue__log_queue *queue = __atomic_load_n(&on_the_way, __ATOMIC_ACQUIRE);
  if (queue) segue__log_queue_flush(queue, CRASH_MS);
  raise(signum);
}

/* A signal that has a handler already (of a sanitizer) keeps it. */
static void watch_deadly(void) {
  struct sigaction action = {.sa_handler = on_deadly,
                             .sa_flags = (int)(SA_RESETHAND | SA_NODEFER | SA_ONSTACK)};
  struct sigaction before;
  for (int i = 0; i < DEADLY; i++)
    if (sigaction(deadly[i], NULL, &before) == 0 && !(before.sa_flags & SA_SIGINFO) &&
        before.sa_handler == SIG_DFL)
      sigaction(deadly[i], &action, NULL);
}

int segue__sink_start(segue__sink *sink) {
  manner = *sink;
  segue__log_queue_options options = {.fd = 2, .report_lost = report_lost, .data = &manner};
  int rc = segue__log_queue_open(&sink->queue, &options);
  if (rc < 0) return rc;
  __atomic_store_n(&on_the_way, sink->queue, __ATOMIC_RELEASE);
  watch_deadly();
  return 0;
}

void segue__sink_flush(const segue__sink *sink, unsigned limit_ms) {
  if (sink->queue) segue__log_queue_flush(sink->queue, limit_ms);
}

void segue__sink_stop(segue__sink *sink, unsigned limit_ms) {
  __atomic_store_n(&on_the_way, NULL, __ATOMIC_RELEASE);
  segue__log_queue_close(sink->queue, limit_ms);
  sink->queue = NULL;
}

void segue__sink_write(const segue__sink *sink, const segue_log_entry *entry) {
  segue__buf line;
  segue__buf_init(&line);
  sink_add_entry(&line, sink, entry);
  if (line.failed)
    ;
  else if (sink->queue)
    segue__log_queue_add(sink->queue, line.data, line.len);
  else
    (void)segue__write_all(2, line.data, line.len, NULL);
  segue__buf_deinit(&line);
}
