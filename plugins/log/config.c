/* SPDX-License-Identifier: MIT
 *
 * Reads the slice of the log. Every key is known, and errors name the place in the configuration.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

enum { QUEUE_MIN = 1 << 16, QUEUE_MAX = 1 << 30, QUEUE_DEFAULT = 1 << 20, KEEP_MAX = 1000 };

static int config_wrong(segue_error *error, const segue_slice *slice, const segue_node *node,
                        const char *key, const char *what) {
  return segue_error_at(error, SEGUE_ECONFIG, slice->snapshot, node, "%s %s", key, what);
}

/* ---- Values ---- */

static bool config_choose(const char *text, const char *const *names, unsigned *out) {
  for (unsigned i = 0; names[i]; i++) {
    if (strcmp(names[i], text) != 0) continue;
    *out = i;
    return true;
  }
  return false;
}

typedef struct unit {
  const char *name;
  uint64_t factor;
} unit;

static const unit sizes[] = {{"", 1},          {"B", 1},           {"KiB", 1 << 10},
                             {"MiB", 1 << 20}, {"GiB", 1 << 30},   {"kB", 1000},
                             {"MB", 1000000},  {"GB", 1000000000}, {NULL, 0}};
static const unit times[] = {{"", 1}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}, {NULL, 0}};

/* 16, "16MiB", "1d". False: it is none. */
static bool config_measure(const segue_node *node, const unit *units, uint64_t *out) {
  const char *text;
  char *end;
  if (segue_node_uint(node, out) == 0) return *out > 0;
  if (segue_node_string(node, &text, NULL) || *text < '0' || *text > '9') return false;
  errno = 0;
  uint64_t number = strtoull(text, &end, 10);
  while (*end == ' ')
    end++;
  for (; units->name; units++) {
    if (strcmp(units->name, end) != 0) continue;
    *out = number * units->factor;
    return !errno && number && *out / units->factor == number;
  }
  return false;
}

/* ---- Keys ---- */

typedef struct reader {
  log_config *out;
  const segue_slice *slice;
  segue_error *error;
} reader;

static int config_read_file(reader *r, const segue_node *node) {
  const char *text;
  size_t len;
  if (segue_node_string(node, &text, &len) || !len || strlen(text) != len)
    return config_wrong(r->error, r->slice, node, "file",
                        "must be a path, or - for standard error");
  free(r->out->file);
  r->out->file = strdup(text);
  return r->out->file ? 0 : segue_error_set(r->error, -ENOMEM, "out of memory");
}

static int read_choice(reader *r, const segue_node *node, const char *key, const char *what,
                       const char *const *names, unsigned *out) {
  const char *text;
  if (segue_node_string(node, &text, NULL) || !config_choose(text, names, out))
    return config_wrong(r->error, r->slice, node, key, what);
  return 0;
}

static int read_level(reader *r, const segue_node *node) {
  static const char *const names[] = {"error", "warn", "info", "debug", NULL};
  unsigned at = 0;
  int rc = read_choice(r, node, "level", "must be error, warn, info or debug", names, &at);
  if (!rc) r->out->level = (segue_level)at;
  return rc;
}

static int read_format(reader *r, const segue_node *node) {
  static const char *const names[] = {"text", "json", NULL};
  unsigned at = 0;
  int rc = read_choice(r, node, "format", "must be text or json", names, &at);
  r->out->json = at == 1;
  return rc;
}

static int read_overflow(reader *r, const segue_node *node) {
  static const char *const names[] = {"wait", "drop", NULL};
  unsigned at = 0;
  int rc = read_choice(r, node, "overflow", "must be wait or drop", names, &at);
  r->out->drop = at == 1;
  return rc;
}

static int read_queue(reader *r, const segue_node *node) {
  uint64_t bytes;
  if (!config_measure(node, sizes, &bytes) || bytes < QUEUE_MIN || bytes > QUEUE_MAX)
    return config_wrong(r->error, r->slice, node, "queue",
                        "must be a size from 64KiB to 1GiB, such as 1MiB");
  for (r->out->queue_bytes = QUEUE_MIN; r->out->queue_bytes < bytes;)
    r->out->queue_bytes *= 2;
  return 0;
}

static int read_mode(reader *r, const segue_node *node) {
  const char *text;
  char *end;
  if (segue_node_string(node, &text, NULL) || !*text)
    return config_wrong(r->error, r->slice, node, "mode", "must be a text such as \"0640\"");
  unsigned long mode = strtoul(text, &end, 8);
  if (*end || mode > 0777 || !(mode & 0200))
    return config_wrong(r->error, r->slice, node, "mode", "must be a text such as \"0640\"");
  r->out->mode = (unsigned)mode;
  return 0;
}

static int read_rotate(reader *r, const segue_node *node) {
  const char *key;
  uint64_t keep;
  if (segue_node_type(node) != SEGUE_MAP)
    return config_wrong(r->error, r->slice, node, "rotate",
                        "must be a map: rotate: {size: 100MiB, age: 1d, keep: 5}");
  for (size_t i = 0; i < segue_node_count(node); i++) {
    const segue_node *value = segue_node_at(node, i, &key);
    if (!strcmp(key, "size")) {
      if (!config_measure(value, sizes, &r->out->rotate_bytes))
        return config_wrong(r->error, r->slice, value, "rotate.size",
                            "must be a size such as 100MiB");
    } else if (!strcmp(key, "age")) {
      if (!config_measure(value, times, &r->out->rotate_s))
        return config_wrong(r->error, r->slice, value, "rotate.age", "must be a time such as 1d");
    } else if (!strcmp(key, "keep")) {
      if (segue_node_uint(value, &keep) || keep > KEEP_MAX)
        return config_wrong(r->error, r->slice, value, "rotate.keep",
                            "must be a number up to 1000");
      r->out->keep = (unsigned)keep;
    } else {
      return config_wrong(r->error, r->slice, value, "rotate",
                          "has a key that is not known: it has size, age and keep");
    }
  }
  return 0;
}

static int config_read_key(reader *r, const char *key, const segue_node *value) {
  static const struct {
    const char *key;
    int (*read)(reader *r, const segue_node *node);
  } keys[] = {{"file", config_read_file},  {"level", read_level}, {"format", read_format},
              {"overflow", read_overflow}, {"queue", read_queue}, {"rotate", read_rotate},
              {"mode", read_mode}};
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
    if (!strcmp(keys[i].key, key)) return keys[i].read(r, value);
  return config_wrong(
      r->error, r->slice, value, key,
      "is not a key of a log: it has file, level, format, overflow, queue, rotate, mode");
}

int log_config_read(log_config *out, const segue_slice *slice, segue_error *error) {
  reader r = {out, slice, error};
  const char *key;
  int rc = 0;
  *out = (log_config){.level = SEGUE_INFO, .queue_bytes = QUEUE_DEFAULT, .keep = 5, .mode = 0640};
  if (slice->config && segue_node_type(slice->config) != SEGUE_MAP)
    return config_wrong(error, slice, slice->config, "the log's configuration", "must be a map");
  for (size_t i = 0; i < segue_node_count(slice->config) && !rc; i++) {
    const segue_node *value = segue_node_at(slice->config, i, &key);
    rc = config_read_key(&r, key, value);
  }
  if (!rc && !out->file)
    rc = config_wrong(error, slice, slice->config, "file",
                      "is missing: name one, or - for standard error");
  if (rc) log_config_deinit(out);
  return rc;
}

void log_config_deinit(log_config *config) {
  free(config->file);
  config->file = NULL;
}
