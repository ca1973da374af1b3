/* SPDX-License-Identifier: MIT
 *
 * The log as a module of segue: its life cycle, and the functions that it offers while it is live.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

/* ---- What is counted outlives the instances ---- */

static log_counts *counts_new(void) {
  log_counts *counts = calloc(1, sizeof *counts);
  if (counts) atomic_store(&counts->refs, 1);
  return counts;
}

static void counts_unref(log_counts *counts) {
  if (counts && atomic_fetch_sub(&counts->refs, 1) == 1) free(counts);
}

static void log_module_inherit(void *instance, void *prev) {
  log_writer *writer = instance;
  log_counts *counts = ((log_writer *)prev)->counts;
  atomic_fetch_add(&counts->refs, 1);
  counts_unref(writer->counts);
  writer->counts = counts;
}

/* ---- Life ---- */

static void log_module_destroy(void *instance) {
  log_writer *writer = instance;
  log_writer_end(writer);
  free(writer->memory);
  log_config_deinit(&writer->config);
  counts_unref(writer->counts);
  free(writer);
}

/* Checks the file without creating it, because the reload may still fail: opens it if it exists,
 * else checks the access to its folder. */
static int try_file(const char *path, segue_error *error) {
  if (!strcmp(path, "-")) return 0;
  int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  int rc = fd < 0 ? -errno : 0;
  if (fd >= 0) close(fd);
  if (rc != -ENOENT)
    return rc ? segue_error_set(error, rc, "%s cannot be written: %s", path, strerror(-rc)) : 0;
  const char *slash = strrchr(path, '/');
  size_t len = slash ? (size_t)(slash - path) : 0;
  char *folder = slash ? strndup(path, len ? len : 1) : strdup(".");
  rc = !folder ? -ENOMEM : access(folder, W_OK | X_OK) ? -errno : 0;
  if (rc)
    segue_error_set(error, rc,
                    "%s cannot be made: %s: make its folder, and let the daemon write to it", path,
                    strerror(-rc));
  free(folder);
  return rc;
}

static int module_build(log_writer *writer, const segue_slice *next, segue_error *error) {
  int rc = log_config_read(&writer->config, next, error);
  if (!rc) rc = try_file(writer->config.file, error);
  if (rc) return rc;
  writer->counts = counts_new();
  writer->memory = malloc(writer->config.queue_bytes);
  if (!writer->counts || !writer->memory) return segue_error_set(error, -ENOMEM, "out of memory");
  /* Not calloc(3): no thread that logs pays for the first use of a page. */
  memset(writer->memory, 0, writer->config.queue_bytes);
  segue__line_queue_init(&writer->lines, writer->memory, writer->config.queue_bytes,
                         &writer->thread);
  return 0;
}

static void log_module_prepare(void *userdata, segue_op *op, const segue_slice *next,
                               const segue_slice *prev, void **instance) {
  (void)userdata, (void)prev;
  segue_error error;
  log_writer *writer = calloc(1, sizeof *writer);
  if (!writer) {
    segue_op_done(op, -ENOMEM, NULL);
    return;
  }
  writer->file.fd = -1;
  int rc = module_build(writer, next, &error);
  *instance = writer; /* also if it is not complete: segue destroys it */
  segue_op_done(op, rc, rc ? &error : NULL);
}

static void log_module_start(void *instance, segue_op *op) {
  segue_error error;
  int rc = log_writer_start(instance, &error);
  segue_op_done(op, rc, rc ? &error : NULL);
}

static void log_module_drain(void *instance, segue_op *op) {
  log_writer *writer = instance;
  if (writer->running)
    log_writer_drain(writer, op);
  else
    segue_op_done(op, 0, NULL);
}

/* ---- The interface ---- */

static bool module_enabled(void *instance, segue_level level) {
  return level <= ((log_writer *)instance)->config.level;
}

static int put_line(log_writer *writer, const log_text *text, bool is_urgent) {
  segue__line_put put = {
      .text = text->data, .len = text->len, .time_ns = log_now_ns(), .is_urgent = is_urgent};
  return text->failed ? SEGUE_ELIMIT : segue__line_queue_put(&writer->lines, &put);
}

static int write_entry(void *instance, const segue_log_entry *entry, bool may_wait) {
  log_writer *writer = instance;
  char memory[2048];
  log_text text;
  log_text_init(&text, memory, sizeof memory);
  log_format(&text, entry, writer->config.json);
  int rc = put_line(writer, &text, entry->level <= SEGUE_WARN);
  log_text_deinit(&text);
  if (rc == 0) return 1;
  if (rc == -EAGAIN && may_wait && !writer->config.drop) return -EAGAIN;
  atomic_fetch_add(&writer->counts->dropped, 1);
  segue__line_queue_lost(&writer->lines);
  return SEGUE_ELIMIT;
}

static void module_reopen(void *instance) {
  log_writer_reopen(instance);
}

static void add_counter(void (*add)(void *sink, const char *text, size_t len), void *sink,
                        const char *name, const char *help, unsigned long long value) {
  char text[512];
  int len = snprintf(text, sizeof text, "# HELP %s %s\n# TYPE %s counter\n%s %llu\n", name, help,
                     name, name, value);
  add(sink, text, (size_t)len);
}

static void log_module_metrics(void *instance,
                               void (*add)(void *sink, const char *text, size_t len), void *sink) {
  log_counts *c = ((log_writer *)instance)->counts;
  add_counter(add, sink, "segue_log_lines_total", "Lines that the log has written.",
              atomic_load(&c->lines));
  add_counter(add, sink, "segue_log_bytes_total", "Bytes that the log has written.",
              atomic_load(&c->bytes));
  add_counter(add, sink, "segue_log_dropped_total", "Lines for which there was no room.",
              atomic_load(&c->dropped));
  add_counter(add, sink, "segue_log_failures_total", "Writes of the log that failed.",
              atomic_load(&c->failures));
  add_counter(add, sink, "segue_log_rotations_total", "Files that the log has rotated.",
              atomic_load(&c->rotations));
  add_counter(add, sink, "segue_log_reopened_total", "How often the log opened its file again.",
              atomic_load(&c->reopened));
}

static const segue_log_ops log_ops = {
    .size = sizeof log_ops, .enabled = module_enabled, .write = write_entry};

static const segue_module_ops module_ops = {.size = sizeof module_ops,
                                            .prepare = log_module_prepare,
                                            .start = log_module_start,
                                            .drain = log_module_drain,
                                            .destroy = log_module_destroy,
                                            .inherit = log_module_inherit,
                                            .reopen = module_reopen,
                                            .metrics = log_module_metrics,
                                            .log = &log_ops};

SEGUE_API const segue_module_descriptor segue_module = {.magic = SEGUE_MODULE_MAGIC,
                                                        .abi = SEGUE_MODULE_ABI,
                                                        .size = sizeof(segue_module_descriptor),
                                                        .name = "log",
                                                        .version = SEGUE_VERSION,
                                                        .ops = &module_ops};
