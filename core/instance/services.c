/* SPDX-License-Identifier: MIT
 *
 * The log and the metrics services, which every thread may call. A caller finds the live one by one
 * atomic load inside a read section, so the module cannot be drained while the caller uses it. A
 * caller that has to wait for room in a full log leaves the section first, and then loads the live
 * service again: so a full log never delays its own replacement.
 */
#include <sched.h>
#include <time.h>
#include <uv.h>

#include "instance.h"

enum { YIELDS = 8, FIRST_WAIT_US = 20, LAST_WAIT_US = 1000 };

void segue__services_here(segue *s) {
  __atomic_store_n(&s->control, pthread_self(), __ATOMIC_RELAXED);
}

bool segue__services_is_here(const segue *s) {
  return pthread_equal(__atomic_load_n(&s->control, __ATOMIC_RELAXED), pthread_self());
}

/* Yields for a few rounds, then sleeps, twice as long in each round: from 20 us to 1 ms. */
static void pause_for_room(unsigned round) {
  if (round < YIELDS) {
    sched_yield();
    return;
  }
  unsigned shift = round - YIELDS < 6 ? round - YIELDS : 6;
  unsigned us = FIRST_WAIT_US << shift;
  struct timespec wait = {0, (long)(us < LAST_WAIT_US ? us : LAST_WAIT_US) * 1000};
  nanosleep(&wait, NULL);
}

static int write_once(segue *s, const segue_log_entry *entry, bool may_wait) {
  segue_read_begin(s);
  const segue__service *log = __atomic_load_n(&s->services.log, __ATOMIC_ACQUIRE);
  int rc = SEGUE_EMODULE;
  if (log) {
    rc = 0;
    if (log->log.enabled(log->object, entry->level))
      rc = log->log.write(log->object, entry, may_wait);
  }
  segue_read_end(s);
  return rc;
}

/* The control thread never waits for room: it may be the thread that replaces the log, and would
 * then wait for itself. */
static int services_write_line(void *instance, const segue_log_entry *entry) {
  segue *s = instance;
  bool may_wait = !segue__services_is_here(s);
  int rc = write_once(s, entry, may_wait);
  for (unsigned round = 0; rc == UV_EAGAIN; round++) {
    pause_for_room(round);
    rc = write_once(s, entry, true);
  }
  return rc;
}

/* Writes a line of a module to the log. Secrets are removed from a copy of the line before the read
 * section begins: a section must be short, because replaced generations stay in memory until it
 * ends. Only a policy with secrets pays for this, and only for lines whose level is on. */
int segue__services_log(segue *s, const segue_log_entry *entry) {
  if (segue__in_child(s->mark)) return SEGUE_ECLOSED;
  if (!segue__secrets_any(&s->secrets)) return services_write_line(s, entry);
  segue_read_begin(s);
  const segue__service *log = __atomic_load_n(&s->services.log, __ATOMIC_ACQUIRE);
  int rc = log ? log->log.enabled(log->object, entry->level) : SEGUE_EMODULE;
  segue_read_end(s);
  return rc > 0 ? segue__secrets_log(&s->secrets, entry, services_write_line, s) : rc;
}

static bool host_takes(const segue *s, segue_level level) {
  return s->options.on_log && level <= s->options.log_level;
}

/* Writes a line to the host's log, where the library's own lines go, if no module is a log: a host
 * that set on_log must not lose the lines of its modules. */
static int write_to_host(segue *s, const segue_log_entry *entry) {
  segue_log_entry own = *entry;
  if (!s->options.on_log) return SEGUE_EMODULE;
  if (!host_takes(s, entry->level)) return 0;
  if (own.field_count > SEGUE__LOG_FIELDS_MAX) own.field_count = SEGUE__LOG_FIELDS_MAX;
  segue__host_log(s, &own);
  return 1;
}

int segue_log(segue *s, segue_level level, const char *group, const char *message,
              const segue_log_field *fields, size_t field_count) {
  segue_log_entry entry = {level, group ? group : "", message ? message : "", fields, field_count};
  int rc = segue__services_log(s, &entry);
  return rc == SEGUE_EMODULE ? write_to_host(s, &entry) : rc;
}

bool segue_log_enabled(segue *s, segue_level level) {
  if (segue__in_child(s->mark)) return false;
  segue_read_begin(s);
  const segue__service *log = __atomic_load_n(&s->services.log, __ATOMIC_ACQUIRE);
  bool on = log ? log->log.enabled(log->object, level) : host_takes(s, level);
  segue_read_end(s);
  return on;
}

/* Labels are cleaned before the module that keeps the metrics gets them: later the secret may no
 * longer be known, and two series that differ only in a secret would be one line twice. */
static int record_clean(segue *s, const segue__service *stats, segue_metric metric,
                        const char *series, double value) {
  if (__atomic_load_n(&s->secrets.stuck, __ATOMIC_ACQUIRE)) return UV_ENOMEM;
  if (!series || !segue__secrets_find(&s->secrets, series))
    return stats->stats.record(stats->object, metric, series, value);
  char *copy = segue__secrets_clean(&s->secrets, series);
  int rc = copy ? stats->stats.record(stats->object, metric, copy, value) : UV_ENOMEM;
  segue__free(copy);
  return rc;
}

int segue__services_record(void *instance, segue_metric metric, const char *series, double value) {
  segue *s = instance;
  if (segue__in_child(s->mark)) return SEGUE_ECLOSED;
  segue_read_begin(s);
  const segue__service *stats = __atomic_load_n(&s->services.stats, __ATOMIC_ACQUIRE);
  int rc = stats ? record_clean(s, stats, metric, series, value) : SEGUE_EMODULE;
  segue_read_end(s);
  return rc;
}

int segue_count(segue *s, const char *series, uint64_t n) {
  return segue__services_record(s, SEGUE_COUNTER, series, (double)n);
}

int segue_gauge(segue *s, const char *series, double value) {
  return segue__services_record(s, SEGUE_GAUGE, series, value);
}

int segue_observe(segue *s, const char *series, double value) {
  return segue__services_record(s, SEGUE_HISTOGRAM, series, value);
}
