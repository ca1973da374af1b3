/* SPDX-License-Identifier: MIT
 *
 * log.h: log entries on their way to the host's sink: level, group, one message and key=value
 * fields. Arguments are not evaluated when the level is off; a message repeated within a second is
 * folded and its count is told when it changes. The core never prints: what an entry looks like is
 * the sink's affair.
 */
#ifndef SEGUE_OS_LOG_H
#define SEGUE_OS_LOG_H

#include <stddef.h>
#include <stdint.h>

typedef enum segue__log_level {
  SEGUE__ERROR,
  SEGUE__WARN,
  SEGUE__INFO,
  SEGUE__DEBUG
} segue__log_level;

typedef struct segue__log_pair {
  const char *key;
  const char *text; /* NULL: number */
  int64_t number;
} segue__log_pair;

#define SEGUE__LOG_FIELDS_MAX 16
/* Bytes of a message or a text that a line may have. Writers of long texts and the cleaning of
 * secrets cut at the same length, so that the latter knows which texts were cut. */
#define SEGUE__LOG_TEXT_MAX ((size_t)64 << 10)
typedef struct segue__log_record {
  segue__log_level level;
  const char *group; /* "reload", "watch", "http", "policy" ... */
  const char *message;
  const segue__log_pair *fields;
  size_t field_count;
} segue__log_record;

/* Remembers the last entry, so that an endless repetition becomes one line and a count. Several
 * logs may share one. */
typedef struct segue__log_fold segue__log_fold;
segue__log_fold *segue__log_fold_new(void); /* NULL: out of memory, then nothing is folded */
void segue__log_fold_free(segue__log_fold *fold);

typedef struct segue__logger {
  segue__log_level level; /* entries above it are off */
  void (*sink)(void *data,
               const segue__log_record *entry); /* [any thread]; NULL: nothing is logged */
  void *data;
  segue__log_fold *fold; /* NULL: repeats are not folded */
} segue__logger;

/* SEGUE__LOG(log, SEGUE__INFO, "reload", "applied", "id", 'u', (uint64_t)7, "cause", 's', "http",
 * NULL). Types: 's' const char* (NULL -> "-"), 'd' int64_t, 'u' uint64_t. Fields past
 * SEGUE__LOG_FIELDS_MAX are dropped. An unsigned number past INT64_MAX is told as INT64_MAX. log
 * may be NULL. [any thread] */
#define SEGUE__LOG(log, lvl, ...)                                                                  \
  do {                                                                                             \
    if (segue__log_is_on((log), (lvl))) segue__log_write((log), (lvl), __VA_ARGS__);               \
  } while (0)
int segue__log_is_on(const segue__logger *log, segue__log_level level);
void segue__log_write(const segue__logger *log, segue__log_level level, const char *group,
                      const char *message, ...);
/* Tells the count of a repetition that is still going on: for shutdown. */
void segue__log_flush(const segue__logger *log);
const char *segue__level_name(segue__log_level level);
int segue__level_parse(const char *name, segue__log_level *out); /* UV_EINVAL: no such level */

#endif
