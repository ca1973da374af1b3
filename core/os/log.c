/* SPDX-License-Identifier: MIT
 *
 * Log entries go to the sink unchanged and unformatted; a repeated entry is folded into a count.
 */
#include "log.h"

#include <pthread.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <uv.h>

#include "mem.h"

enum { FOLD_MS = 1000 };

static const char repeated[] = "repeated: ";

struct segue__log_fold {
  pthread_mutex_t mutex;
  uint64_t hash; /* of the last entry; 0 = none */
  uint64_t since_ms;
  int64_t repeats;
  segue_level level;
  /* "repeated: ", the message, a NUL, the group. Whole, because the sink removes secrets, and could
   * not find one that was cut here. */
  char *text;
  size_t group, capacity;
};

segue__log_fold *segue__log_fold_new(void) {
  segue__log_fold *fold = segue__calloc(1, sizeof *fold);
  if (fold) pthread_mutex_init(&fold->mutex, NULL);
  return fold;
}

void segue__log_fold_free(segue__log_fold *fold) {
  if (!fold) return;
  pthread_mutex_destroy(&fold->mutex);
  segue__free(fold->text);
  segue__free(fold);
}

static uint64_t log_now_ms(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* FNV-1a, with the terminator, so that "ab","c" and "a","bc" differ. */
static uint64_t hash_bytes(uint64_t hash, const void *data, size_t len) {
  const unsigned char *bytes = data;
  for (size_t i = 0; i < len; i++)
    hash = (hash ^ bytes[i]) * 1099511628211u;
  return hash;
}

static uint64_t hash_entry(const segue_log_entry *entry) {
  uint64_t hash = 14695981039346656037u ^ (uint64_t)entry->level;
  hash = hash_bytes(hash, entry->group, strlen(entry->group) + 1);
  hash = hash_bytes(hash, entry->message, strlen(entry->message) + 1);
  for (size_t i = 0; i < entry->field_count; i++) {
    const segue_log_field *field = &entry->fields[i];
    hash = hash_bytes(hash, field->key, strlen(field->key) + 1);
    if (field->text)
      hash = hash_bytes(hash, field->text, strlen(field->text) + 1);
    else
      hash = hash_bytes(hash, &field->number, sizeof field->number);
  }
  return hash ? hash : 1;
}

static void report_repeats(const segue__logger *log, segue__log_fold *fold) {
  if (!fold->repeats) return;
  segue_log_field field = {"times", NULL, fold->repeats};
  segue_log_entry entry = {fold->level, fold->text + fold->group, fold->text, &field, 1};
  fold->repeats = 0;
  log->sink(log->data, &entry);
}

/* Remembers the entry, so that repetitions can be counted. Without memory nothing is remembered,
 * and each repetition is written. */
static void log_remember(segue__log_fold *fold, const segue_log_entry *entry) {
  size_t message = strlen(entry->message) + 1, group = strlen(entry->group) + 1;
  size_t prefix = sizeof repeated - 1, need = prefix + message + group;
  if (need > fold->capacity) {
    char *grown = segue__realloc(fold->text, need);
    fold->hash = 0;
    if (!grown) return;
    fold->text = grown;
    fold->capacity = need;
  }
  memcpy(fold->text, repeated, prefix);
  memcpy(fold->text + prefix, entry->message, message);
  memcpy(fold->text + prefix + message, entry->group, group);
  fold->group = prefix + message;
  fold->level = entry->level;
  fold->hash = hash_entry(entry);
}

/* The mutex is held while the sink writes, so that the count of repetitions is written before the
 * next entry. */
static void emit_folded(const segue__logger *log, const segue_log_entry *entry) {
  segue__log_fold *fold = log->fold;
  uint64_t hash = hash_entry(entry), now = log_now_ms();
  pthread_mutex_lock(&fold->mutex);
  if (hash == fold->hash && now - fold->since_ms < FOLD_MS) {
    fold->repeats++;
  } else {
    report_repeats(log, fold);
    log_remember(fold, entry);
    fold->since_ms = now;
    log->sink(log->data, entry);
  }
  pthread_mutex_unlock(&fold->mutex);
}

void segue__log_flush(const segue__logger *log) {
  if (!log || !log->sink || !log->fold) return;
  pthread_mutex_lock(&log->fold->mutex);
  report_repeats(log, log->fold);
  log->fold->hash = 0;
  pthread_mutex_unlock(&log->fold->mutex);
}

void segue__log_write(const segue__logger *log, segue_level level, const char *group,
                      const char *message, const segue_log_field *fields, size_t field_count) {
  if (!segue__log_is_on(log, level)) return;
  if (field_count > SEGUE__LOG_FIELDS_MAX) field_count = SEGUE__LOG_FIELDS_MAX;
  const segue_log_entry entry = {level, group, message, fields, field_count};
  if (log->fold)
    emit_folded(log, &entry);
  else
    log->sink(log->data, &entry);
}

bool segue__log_is_on(const segue__logger *log, segue_level level) {
  return log && log->sink && level <= log->level;
}

static const char *const level_names[] = {"error", "warn", "info", "debug"};

const char *segue__level_name(segue_level level) {
  return (unsigned)level <= SEGUE_DEBUG ? level_names[level] : "unknown";
}

int segue__level_parse(const char *name, segue_level *out) {
  for (int i = 0; i <= SEGUE_DEBUG; i++) {
    if (strcasecmp(name, level_names[i])) continue;
    *out = (segue_level)i;
    return 0;
  }
  return UV_EINVAL;
}
