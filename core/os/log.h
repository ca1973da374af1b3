/* SPDX-License-Identifier: MIT
 *
 * log.h: log entries for the host's sink: level, group, one message and key=value fields. Arguments
 * are not evaluated when the level is off; a message repeated within a second is folded into one
 * line with a count. The core never prints: the sink formats an entry.
 */
#ifndef SEGUE_OS_LOG_H
#define SEGUE_OS_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../segue.h"

#define SEGUE__LOG_FIELDS_MAX 16
/* Bytes of a message or a text that a line may have. Writers of long texts and the cleaning of
 * secrets cut at the same length, so that the latter knows which texts were cut. */
#define SEGUE__LOG_TEXT_MAX ((size_t)64 << 10)
/* Remembers the last entry, so that an endless repetition becomes one line and a count. Several
 * logs may share one. */
typedef struct segue__log_fold segue__log_fold;
segue__log_fold *segue__log_fold_new(void); /* NULL: out of memory, then nothing is folded */
void segue__log_fold_free(segue__log_fold *fold);

typedef struct segue__logger {
  segue_level level; /* entries above it are off */
  void (*sink)(void *data,
               const segue_log_entry *entry); /* [any thread]; NULL: nothing is logged */
  void *data;
  segue__log_fold *fold; /* NULL: repeats are not folded */
} segue__logger;

/* One field of SEGUE__LOG. The compiler chooses the kind from the type of the value: a text (NULL
 * is logged as "-"), a signed or an unsigned number (one past INT64_MAX is logged as INT64_MAX).
 * Every other type does not compile. */
#define SEGUE__FIELD(key, value)                                                                   \
  _Generic((value),                                                                                \
           char *: segue__log_text,                                                                \
           const char *: segue__log_text,                                                          \
           bool: segue__log_number,                                                                \
           int: segue__log_number,                                                                 \
           long: segue__log_number,                                                                \
           long long: segue__log_number,                                                           \
           unsigned: segue__log_unsigned,                                                          \
           unsigned long: segue__log_unsigned,                                                     \
           unsigned long long: segue__log_unsigned)((key), (value))

static inline segue_log_field segue__log_text(const char *key, const char *text) {
  return (segue_log_field){key, text ? text : "-", 0};
}
static inline segue_log_field segue__log_number(const char *key, int64_t number) {
  return (segue_log_field){key, NULL, number};
}
static inline segue_log_field segue__log_unsigned(const char *key, uint64_t number) {
  return (segue_log_field){key, NULL, number > INT64_MAX ? INT64_MAX : (int64_t)number};
}

/* SEGUE__LOG(log, SEGUE_INFO, "reload", "applied", SEGUE__FIELD("id", id), SEGUE__FIELD("cause",
 * "http")): message and fields are evaluated only if the level is on. log may be NULL. [any
 * thread] */
#define SEGUE__LOG(log, lvl, group, message, ...)                                                  \
  do {                                                                                             \
    if (segue__log_is_on((log), (lvl))) {                                                          \
      const segue_log_field fields_[] = {{NULL, NULL, 0}, ##__VA_ARGS__};                          \
      segue__log_write((log), (lvl), (group), (message), fields_ + 1,                              \
                       sizeof fields_ / sizeof *fields_ - 1);                                      \
    }                                                                                              \
  } while (0)
bool segue__log_is_on(const segue__logger *log, segue_level level);
/* Fields past SEGUE__LOG_FIELDS_MAX are dropped. */
void segue__log_write(const segue__logger *log, segue_level level, const char *group,
                      const char *message, const segue_log_field *fields, size_t field_count);
/* Logs the count of the message that was repeated last, if any: for shutdown. */
void segue__log_flush(const segue__logger *log);
const char *segue__level_name(segue_level level);
int segue__level_parse(const char *name, segue_level *out); /* UV_EINVAL: no such level */

#endif
