/* SPDX-License-Identifier: MIT
 *
 * The thread that records. Tasks come from the control thread, are done one at a time, and go back
 * as messages of its loop; a task owns all that it needs, so the control thread never waits.
 */
#include "record_internal.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#include "../os/fault.h"
#include "../os/mem.h"
#include "../os/thread.h"

/* How often an addition to a history that another process locks is tried, and how long between. */
enum { BUSY_TRIES = 100, BUSY_PAUSE_MS = 50, PATHS_MAX = 1000, WAITING_MAX = 1000, STOP_S = 5 };
/* A flood of requests must leave room in the queue for the entries of reloads. */
enum { AUDITS_MAX = WAITING_MAX / 2 };
/* How long a start waits for a history that another process locks; how often it is tried again. */
enum { OPEN_WAIT_MS = 1000, OPEN_AGAIN_MS = 1000 };
/* Added to the last known number where the history and the numbers are lost. */
enum { RELOAD_GAP = 1000 };

static void free_paths(segue__history_entry *entry);

/* ---- Tasks ----------------------------------------------------------------------------------- */

void segue__record_task_free(task *t) {
  segue__buf_deinit(&t->journal);
  segue__buf_deinit(&t->answer.text);
  segue__files_unref(t->answer.files);
  segue_snapshot_unref(t->answer.snapshot);
  segue__file_changes_deinit(&t->answer.changes);
  segue__files_unref(t->files);
  segue__last_good_deinit(&t->good);
  segue_snapshot_unref(t->entry.snapshot);
  free_paths(&t->entry);
  segue__free((void *)t->entry.summary);
  segue__free((void *)t->entry.detail);
  segue__mask_unref(t->mask);
  segue__free(t->text);
  segue__free(t->audit);
  segue__free(t);
}

task *segue__record_task_new(work *run, segue__record_call *call) {
  task *t = SEGUE_FAULT("record.task") < 0 ? NULL : segue__calloc(1, sizeof *t);
  if (!t) return NULL;
  t->run = run;
  t->call = call;
  segue__buf_init(&t->answer.text);
  segue__buf_init(&t->journal);
  return t;
}

static void writer_answered(segue__message *message) {
  task *t = (task *)message;
  segue__record_call *call = t->call;
  if (call) {
    call->task = NULL;
    call->cb(call, &t->answer);
  }
  segue__record_task_free(t);
}

void segue__record_forget(segue__record_call *call) {
  if (call->task) call->task->call = NULL;
  call->task = NULL;
}

static void writer_wake(segue__timer *timer) {
  pthread_cond_signal(&((segue__record *)timer->data)->wake);
}

/* Wakes the thread for urgent tasks at once, and for other tasks when the control thread has left
 * its present function. The entry of the history is handed over before the client of the reload is
 * answered, and the kernel likes to run a thread that was woken on the processor of the thread that
 * woke it: the answer waited 0.15 ms for SQLite. The signal comes after the unlock, or the woken
 * thread waits for the lock at once. */
void segue__record_push(segue__record *record, queue *q, task *t) {
  if (t->call) t->call->task = t;
  t->message.fn = writer_answered;
  pthread_mutex_lock(&record->lock);
  *q->last = t;
  q->last = &t->next;
  q->count++;
  pthread_mutex_unlock(&record->lock);
  record->wake_timer.data = record;
  if (q == &record->urgent ||
      segue__timer_start(record->loop, &record->wake_timer, 0, writer_wake) < 0)
    pthread_cond_signal(&record->wake);
}

static task *writer_pop(queue *q) {
  task *t = q->first;
  if (!t) return NULL;
  q->first = t->next;
  if (!q->first) q->last = &q->first;
  t->next = NULL;
  q->count--;
  return t;
}

static bool writer_due(const struct timespec *at) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec > at->tv_sec || (now.tv_sec == at->tv_sec && now.tv_nsec >= at->tv_nsec);
}

/* A task that the lock of another process delays is tried again after a pause; other tasks do not
 * wait for it. */
static void put_off(segue__record *record, task *t) {
  struct timespec *at = &record->busy_until;
  *record->busy.last = t;
  record->busy.last = &t->next;
  record->busy.count++;
  clock_gettime(CLOCK_MONOTONIC, at);
  at->tv_nsec += BUSY_PAUSE_MS * 1000000L;
  if (at->tv_nsec >= 1000000000L) at->tv_sec++, at->tv_nsec -= 1000000000L;
}

/* The order of the queues: the state, the numbers and the last good generation first, because the
 * answer to a reload waits for them; then tasks that are tried again; then the entries of the
 * history. */
static task *writer_next(segue__record *record) {
  for (;;) {
    bool retry = record->busy.first && (record->stopping || writer_due(&record->busy_until));
    task *t = writer_pop(&record->urgent);
    if (!t && retry) t = writer_pop(&record->busy);
    if (!t) t = writer_pop(&record->later);
    if (t || record->stopping) return t;
    if (record->busy.first)
      pthread_cond_timedwait(&record->wake, &record->lock, &record->busy_until);
    else
      pthread_cond_wait(&record->wake, &record->lock);
  }
}

static bool is_idle(const segue__record *record) {
  return !record->urgent.first && !record->busy.first && !record->later.first && !record->working;
}

/* The lock is not held while a task runs, because a disk that hangs must not block the control
 * thread. */
static void *writer_thread(void *data) {
  segue__record *record = data;
  pthread_mutex_lock(&record->lock);
  for (task *t; (t = writer_next(record));) {
    record->working = true;
    pthread_mutex_unlock(&record->lock);
    t->answer.status = t->run(record, t);
    bool again = t->answer.status == UV_EBUSY && ++t->tries < BUSY_TRIES && !record->stopping;
    pthread_mutex_lock(&record->lock);
    record->working = false;
    if (record->abandoned) break; /* the loop is gone */
    if (again)
      put_off(record, t);
    else
      segue__post(record->loop, &t->message);
    if (is_idle(record)) pthread_cond_broadcast(&record->idle);
  }
  record->ended = true;
  pthread_cond_broadcast(&record->idle);
  pthread_mutex_unlock(&record->lock);
  return NULL;
}

/* ---- On the record thread -------------------------------------------------------------------- */

static int open_history(segue__record *record, unsigned wait_ms, uint64_t *generation,
                        uint64_t *reload) {
  segue__history *history = NULL;
  record->opened_at_ns = uv_hrtime();
  int rc =
      segue__history_open(&history, record->log, record->history_path, wait_ms, generation, reload);
  record->open_status = rc;
  if (!rc) segue__history_limit(history, &record->limits);
  __atomic_store_n(&record->history, history, __ATOMIC_RELEASE);
  return rc;
}

static const char *writer_why(int rc) {
  return rc == UV_EBUSY     ? "another process locks it"
         : rc == UV_ENOTSUP ? "a newer version of segue has written it"
                            : segue_strerror(rc);
}

static void report_not_open(const segue__record *record, int rc) {
  SEGUE__LOG(record->log, SEGUE_ERROR, "record",
             "the history cannot be opened: reloads continue without it",
             SEGUE__FIELD("file", record->history_path), SEGUE__FIELD("error", writer_why(rc)));
}

static void report_missing(const segue__record *record, uint64_t id, int rc) {
  SEGUE__LOG(record->log, SEGUE_ERROR, "record", "a reload is missing in the history",
             SEGUE__FIELD("reload", id), SEGUE__FIELD("error", writer_why(rc)));
}

static const char *writer_rendered(const segue__record *record, const segue__result *result,
                                   bool detail) {
  segue__buf text;
  segue__buf_init(&text);
  record->render(&text, result, detail);
  char *copy = text.failed ? NULL : segue__strndup(text.data, text.len);
  segue__buf_deinit(&text);
  return copy;
}

/* The last process died while a reload waited to be confirmed, perhaps before the history had its
 * entry. Its number was in an answer already, so the entry is added now. */
static int add_window(segue__record *record, uint64_t in_history) {
  segue__decisions *d = &record->found.state;
  if (!d->unconfirmed || d->unconfirmed_reload <= in_history) return 0;
  if (record->found.reload < d->unconfirmed_reload) record->found.reload = d->unconfirmed_reload;
  segue__result lost = {.id = d->unconfirmed_reload,
                        .unconfirmed = true,
                        .cause = d->unconfirmed_cause,
                        .phase = SEGUE__PHASE_COMMIT,
                        .generation = d->unconfirmed_generation,
                        .started_wall_ms = d->unconfirmed_wall_ms};
  lost.trigger = d->unconfirmed_trigger;
  segue__history_entry entry = {.id = lost.id,
                                .wall_ms = lost.started_wall_ms,
                                .outcome = segue__result_outcome(&lost),
                                .summary = writer_rendered(record, &lost, false),
                                .detail = writer_rendered(record, &lost, true)};
  int rc = entry.summary && entry.detail ? 0 : UV_ENOMEM;
  if (!rc && record->history) rc = segue__history_add(record->history, &entry);
  segue__free((void *)entry.summary);
  segue__free((void *)entry.detail);
  if (rc && rc != UV_ENOMEM) report_missing(record, lost.id, rc);
  return rc == UV_ENOMEM ? rc : 0;
}

static int put_numbers(segue__record *record) {
  int rc = segue__numbers_write(&record->numbers, &record->given);
  if (rc)
    SEGUE__LOG(record->log, SEGUE_WARN, "record",
               "no numbers of reloads can be reserved: after a crash one may be given again",
               SEGUE__FIELD("file", segue__two_slot_file_next(&record->numbers)),
               SEGUE__FIELD("error", segue_strerror(rc)));
  return rc;
}

/* Reserves the first block of numbers on this thread: the first run of this process begins before
 * the record thread could write one. */
static int reserve_first(segue__record *record) {
  segue__record_contents *found = &record->found;
  const segue__numbers given = {found->reload, found->generation};
  record->given = segue__numbers_block(&given);
  int rc = put_numbers(record);
  found->reserved = rc ? given : record->given;
  return rc == UV_ENOMEM ? rc : 0;
}

static int writer_open_all(segue__record *record) {
  segue__record_contents *found = &record->found;
  segue__files *files = NULL;
  int rc = segue__decisions_read(&record->state, &found->state, &found->journal);
  if (rc == UV_ENOMEM) return rc;
  if (found->journal.incomplete)
    SEGUE__LOG(record->log, SEGUE_ERROR, "record",
               "a part of the journal of effects cannot be read");
  if (rc && rc != UV_ENOENT)
    SEGUE__LOG(record->log, SEGUE_ERROR, "record",
               "the state cannot be read: freezes and rollbacks are forgotten",
               SEGUE__FIELD("error", segue_strerror(rc)));
  rc = segue__last_good_read(&record->last_good, &found->last_good, &files);
  if (rc == UV_ENOMEM) return rc;
  if (rc && rc != UV_ENOENT)
    SEGUE__LOG(record->log, SEGUE_ERROR, "record", "the last good generation cannot be read",
               SEGUE__FIELD("error", segue_strerror(rc)));
  segue__files_unref(files);
  rc = segue__numbers_read(&record->numbers, &record->given);
  if (rc == UV_ENOMEM) return rc;
  rc = open_history(record, OPEN_WAIT_MS, &found->generation, &found->reload);
  if (rc == UV_ENOMEM) return rc;
  if (rc) report_not_open(record, rc);
  uint64_t in_history = found->reload;
  const segue__last_good *good = &found->last_good;
  if (found->reload < record->given.reload) found->reload = record->given.reload;
  if (found->generation < record->given.generation) found->generation = record->given.generation;
  if (found->generation < good->generation) found->generation = good->generation;
  if (found->generation < found->state.unconfirmed_generation)
    found->generation = found->state.unconfirmed_generation;
  /* Without history and numbers, only the last good generation knows a number. Reloads after it had
   * higher ones, so a gap is left. */
  if (found->reload < good->reload) found->reload = good->reload + RELOAD_GAP;
  rc = add_window(record, in_history);
  return rc ? rc : reserve_first(record);
}

/* Another process owns the state folder now: from here on nothing is written there (`stuck`). */
static int writer_lose(segue__record *record, task *t) {
  segue__history *history = record->history;
  (void)t;
  __atomic_store_n(&record->history, NULL, __ATOMIC_RELEASE);
  segue__history_close(history);
  record->stuck = true;
  return 0;
}

static int write_numbers(segue__record *record, task *t) {
  record->given = t->numbers;
  return record->stuck ? 0 : put_numbers(record);
}

static int write_state(segue__record *record, task *t);

static int begin_anew(segue__record *record, task *t) {
  uint64_t generation, reload;
  (void)writer_lose(record, t);
  record->stuck = false;
  segue__two_slot_file_anew(&record->last_good);
  int rc = open_history(record, OPEN_WAIT_MS, &generation, &reload);
  if (rc) report_not_open(record, rc);
  (void)put_numbers(record);
  return write_state(record, t);
}

static int is_lost(task *t) {
  return segue__errorf(&t->answer.error, SEGUE_ERECORD,
                       "the state folder is another process's: nothing can be kept there");
}

static int write_state(segue__record *record, task *t) {
  if (record->stuck) return is_lost(t);
  int rc = segue__decisions_write(&record->state, &t->state, &t->journal);
  if (rc)
    segue__errorf(&t->answer.error, SEGUE_ERECORD, "cannot record: %s cannot be written: %s",
                  segue__two_slot_file_next(&record->state), segue_strerror(rc));
  return rc ? SEGUE_ERECORD : 0;
}

static int write_good(segue__record *record, task *t) {
  if (record->stuck) return is_lost(t);
  int rc = t->files ? segue__last_good_write(&record->last_good, &t->good, t->files) : UV_ENOMEM;
  if (rc == 0) {
    SEGUE__LOG(record->log, SEGUE_DEBUG, "record", "the last good generation is on disk",
               SEGUE__FIELD("generation", t->good.generation));
    return 0;
  }
  const char *file = segue__two_slot_file_next(&record->last_good);
  segue__errorf(&t->answer.error, SEGUE_ERECORD,
                "generation %llu cannot be kept for a start without its files (the one before "
                "stays): %s: %s",
                (unsigned long long)t->good.generation, file, segue_strerror(rc));
  SEGUE__LOG(record->log, SEGUE_ERROR, "record",
             "this generation cannot be kept for a start without its files: the one before stays",
             SEGUE__FIELD("generation", t->good.generation), SEGUE__FIELD("file", file),
             SEGUE__FIELD("error", segue_strerror(rc)));
  return SEGUE_ERECORD;
}

static int copy_paths(segue__history_entry *entry, const segue__changes *changes);

static void free_paths(segue__history_entry *entry) {
  for (size_t i = 0; i < entry->path_count; i++)
    segue__free(entry->paths[i]);
  segue__free((void *)entry->paths);
  entry->paths = NULL;
  entry->path_count = 0;
}

/* The first generation of a process is compared with the last one of the process before it. */
static int compare_with_last(segue__record *record, task *t) {
  segue_snapshot *last = NULL;
  segue__changes changes = {0};
  segue_error error;
  uint64_t number;
  int rc = segue__history_before(record->history, t->entry.snapshot->generation, &number);
  if (!rc) rc = segue__history_snapshot(record->history, number, &last, &error);
  if (rc) return rc == UV_EBUSY ? rc : 0; /* there is none: everything is new */
  rc = segue__diff(segue_snapshot_root(last), segue_snapshot_root(t->entry.snapshot), &changes);
  if (!rc) rc = segue__mask_changes(t->entry.snapshot->mask, &changes);
  free_paths(&t->entry);
  if (!rc) rc = copy_paths(&t->entry, &changes);
  segue__changes_deinit(&changes);
  segue_snapshot_unref(last);
  t->fresh = false;
  return rc;
}

/* Opens a history that could not be opened at the start, at most once a second. */
static int open_late(segue__record *record) {
  uint64_t generation, reload;
  if (uv_hrtime() - record->opened_at_ns < OPEN_AGAIN_MS * UINT64_C(1000000)) return UV_EBUSY;
  int rc = open_history(record, 0, &generation, &reload);
  if (!rc)
    SEGUE__LOG(record->log, SEGUE_INFO, "record", "the history is open again",
               SEGUE__FIELD("file", record->history_path));
  return rc;
}

static int writer_add_entry(segue__record *record, task *t) {
  int rc = 0;
  if (record->stuck) return 0;
  if (!record->history) rc = open_late(record);
  t->entry.files = t->files;
  if (!rc && t->fresh && t->entry.snapshot) rc = compare_with_last(record, t);
  if (!rc) rc = segue__history_add(record->history, &t->entry);
  if (rc && (rc != UV_EBUSY || t->tries + 1 >= BUSY_TRIES || record->stopping))
    report_missing(record, t->entry.id, record->history ? rc : record->open_status);
  return rc;
}

static void report_audit_missing(const segue__record *record, const segue__audit *audit,
                                 const char *error) {
  SEGUE__LOG(record->log, SEGUE_ERROR, "record", "a request is missing in the audit of the history",
             SEGUE__FIELD("path", audit->path),
             SEGUE__FIELD("who", audit->who[0] ? audit->who : NULL),
             SEGUE__FIELD("peer", audit->peer), SEGUE__FIELD("error", error));
}

static int writer_add_audit(segue__record *record, task *t) {
  int rc = 0;
  if (record->stuck) return 0;
  if (!record->history) rc = open_late(record);
  if (!rc) rc = segue__history_add_audit(record->history, t->audit);
  if (rc && (rc != UV_EBUSY || t->tries + 1 >= BUSY_TRIES || record->stopping))
    report_audit_missing(record, t->audit, writer_why(record->history ? rc : record->open_status));
  return rc;
}

static int writer_limit(segue__record *record, task *t) {
  record->limits = t->limits;
  if (record->history) segue__history_limit(record->history, &t->limits);
  return 0;
}

/* ---- On the control thread -------------------------------------------------------- */

const segue__record_contents *segue__record_found(const segue__record *record) {
  return &record->found;
}

void segue__record_take_journal(segue__record *record, segue__journal *out) {
  *out = record->found.journal;
  segue__journal_init(&record->found.journal);
}

segue__inputs *segue__record_inputs(segue__record *record) {
  return record->inputs;
}

void segue__record_limit(segue__record *record, const segue__history_limits *limits) {
  task *t = segue__record_task_new(writer_limit, NULL);
  if (!t) return; /* the limits stay as they were */
  t->limits = *limits;
  segue__record_push(record, &record->later, t);
}

static task *state_task(work *run, const segue__decisions *state, const segue__journal *journal,
                        segue__record_call *call) {
  task *t = segue__record_task_new(run, call);
  if (!t) return NULL;
  t->state = *state;
  segue__journal_write(journal, &t->journal);
  if (!t->journal.failed) return t;
  segue__record_task_free(t);
  return NULL;
}

int segue__record_state(segue__record *record, const segue__decisions *state,
                        const segue__journal *journal, segue__record_call *call) {
  task *t = state_task(write_state, state, journal, call);
  if (!t) return UV_ENOMEM;
  segue__record_push(record, &record->urgent, t);
  return 0;
}

int segue__record_numbers(segue__record *record, const segue__numbers *numbers,
                          segue__record_call *call) {
  task *t = segue__record_task_new(write_numbers, call);
  if (!t) return UV_ENOMEM;
  t->numbers = *numbers;
  segue__record_push(record, &record->urgent, t);
  return 0;
}

static int copy_paths(segue__history_entry *entry, const segue__changes *changes) {
  size_t count = changes ? changes->count : 0;
  if (count > PATHS_MAX) count = PATHS_MAX;
  entry->more_paths = changes && changes->total > count;
  if (!count) return 0;
  char **paths = segue__calloc(count, sizeof *paths);
  if (!paths) return UV_ENOMEM;
  entry->paths = paths;
  for (; entry->path_count < count; entry->path_count++)
    if (!(paths[entry->path_count] = segue__strdup(changes->items[entry->path_count].path)))
      return UV_ENOMEM;
  return 0;
}

static bool has_room(segue__record *record, size_t most) {
  pthread_mutex_lock(&record->lock);
  bool room = record->busy.count + record->later.count < most;
  pthread_mutex_unlock(&record->lock);
  return room;
}

/* The texts are rendered here and not on the record thread, because the counter of a result is not
 * atomic: a result belongs to the control thread. */
void segue__record_settled(segue__record *record, const segue__record_run *settled) {
  const segue__result *result = settled->result;
  task *t = segue__record_task_new(writer_add_entry, NULL);
  bool whole = false;
  if (t) {
    t->files = segue__files_ref(settled->files);
    t->entry = (segue__history_entry){.id = result->id,
                                      .wall_ms = result->ended_wall_ms ? result->ended_wall_ms
                                                                       : result->started_wall_ms,
                                      .outcome = segue__result_outcome(result),
                                      .summary = writer_rendered(record, result, false),
                                      .detail = writer_rendered(record, result, true),
                                      .input = settled->input};
    t->fresh = settled->fresh;
    if (settled->snapshot && !settled->resumed)
      t->entry.snapshot = (segue_snapshot *)segue_snapshot_ref(settled->snapshot);
    whole = t->entry.summary && t->entry.detail &&
            (!t->entry.snapshot || copy_paths(&t->entry, settled->changes) == 0);
  }
  bool room = has_room(record, WAITING_MAX);
  if (whole && room) {
    segue__record_push(record, &record->later, t);
    return;
  }
  if (t) segue__record_task_free(t);
  SEGUE__LOG(record->log, SEGUE_ERROR, "record", "a reload is missing in the history",
             SEGUE__FIELD("reload", result->id),
             SEGUE__FIELD("error", room ? segue_strerror(UV_ENOMEM) : "the disk does not keep up"));
}

void segue__record_audit(segue__record *record, const segue__audit *audit) {
  bool room = has_room(record, AUDITS_MAX);
  task *t = room ? segue__record_task_new(writer_add_audit, NULL) : NULL;
  if (t && (t->audit = segue__malloc(sizeof *audit))) {
    *t->audit = *audit;
    segue__record_push(record, &record->later, t);
    return;
  }
  if (t) segue__record_task_free(t);
  report_audit_missing(record, audit,
                       room ? segue_strerror(UV_ENOMEM) : "the disk does not keep up");
}

int segue__record_good(segue__record *record, const segue__record_run *settled,
                       segue__record_call *call) {
  task *t = segue__record_task_new(write_good, call);
  if (!t) return UV_ENOMEM;
  t->good.generation = settled->snapshot->generation;
  t->good.reload = settled->result->id;
  t->good.wall_ms = settled->result->ended_wall_ms;
  memcpy(t->good.hash, settled->snapshot->hash, sizeof t->good.hash);
  t->good.input = settled->input;
  t->files = segue__files_ref(settled->files); /* without files the task fails, and logs it */
  if (segue__source_counts_copy(&t->good.sources, settled->items) < 0) {
    segue__record_task_free(t);
    return UV_ENOMEM;
  }
  segue__record_push(record, &record->urgent, t);
  return 0;
}

void segue__record_lose(segue__record *record) {
  task *t = segue__record_task_new(writer_lose, NULL);
  if (t) segue__record_push(record, &record->urgent, t);
}

void segue__record_begin_anew(segue__record *record, const segue__decisions *state,
                              const segue__journal *journal) {
  task *t = state_task(begin_anew, state, journal, NULL);
  if (t) segue__record_push(record, &record->urgent, t);
}

void segue__record_flush(segue__record *record) {
  pthread_mutex_lock(&record->lock);
  pthread_cond_signal(&record->wake);
  while (!is_idle(record))
    pthread_cond_wait(&record->idle, &record->lock);
  pthread_mutex_unlock(&record->lock);
}

/* ---- Life ------------------------------------------------------------------------------------ */

static void free_parts(segue__record *record) {
  segue__two_slot_file_deinit(&record->last_good);
  segue__two_slot_file_deinit(&record->state);
  segue__two_slot_file_deinit(&record->numbers);
  segue__last_good_deinit(&record->found.last_good);
  segue__journal_deinit(&record->found.journal);
  segue__history_close(record->history);
  segue__inputs_free(record->inputs);
  segue__free(record->history_path);
  pthread_cond_destroy(&record->wake);
  pthread_cond_destroy(&record->idle);
  pthread_mutex_destroy(&record->lock);
  segue__free(record);
}

static char *writer_path_in(const char *folder, const char *name) {
  segue__buf path;
  segue__buf_init(&path);
  segue__buf_addf(&path, "%s/%s", folder, name);
  char *copy = path.failed ? NULL : segue__strdup(path.data);
  segue__buf_deinit(&path);
  return copy;
}

static int init_parts(segue__record *record, const segue__record_options *options) {
  record->history_path = writer_path_in(options->folder, "history.db");
  int rc = record->history_path ? 0 : UV_ENOMEM;
  if (!rc)
    rc = segue__two_slot_file_init(&record->last_good, record->log, options->folder, "last-good",
                                   SEGUE__LAST_GOOD_MAGIC);
  if (!rc) rc = segue__two_slot_file_log(&record->last_good, options->folder, "last-good");
  if (!rc)
    rc = segue__two_slot_file_init(&record->state, record->log, options->folder, "state",
                                   SEGUE__DURABLE_MAGIC);
  if (!rc) rc = segue__numbers_init(&record->numbers, record->log, options->folder);
  if (!rc)
    rc = segue__inputs_new(&record->inputs, options->os ? options->os : segue__os_default(),
                           options->pass);
  return rc;
}

int segue__record_new(segue__record **out, const segue__record_options *options) {
  *out = NULL;
  segue__record *record = segue__calloc(1, sizeof *record);
  if (!record) return UV_ENOMEM;
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_mutex_init(&record->lock, NULL);
  pthread_cond_init(&record->wake, &monotonic);
  pthread_cond_init(&record->idle, &monotonic);
  pthread_condattr_destroy(&monotonic);
  record->loop = options->loop;
  if (options->log) record->own_log = *options->log;
  record->log = &record->own_log;
  record->render = options->render;
  record->urgent.last = &record->urgent.first;
  record->busy.last = &record->busy.first;
  record->later.last = &record->later.first;
  int rc = init_parts(record, options);
  if (!rc) rc = writer_open_all(record);
  if (!rc) rc = segue__thread_start(&record->thread, "segue-record", 0, writer_thread, record);
  if (rc) {
    free_parts(record);
    return rc;
  }
  *out = record;
  return 0;
}

/* The disk hangs, and the thread with it. The thread is detached, and the memory that it uses is
 * never freed. */
static void writer_abandon(segue__record *record) {
  SEGUE__LOG(record->log, SEGUE_ERROR, "record",
             "the state folder hangs: what was not written yet is lost",
             SEGUE__FIELD("file", record->history_path));
  pthread_mutex_lock(&record->lock);
  record->abandoned = true;
  __atomic_store_n(&record->own_log.sink, NULL, __ATOMIC_RELEASE);
  pthread_mutex_unlock(&record->lock);
  pthread_detach(record->thread);
  segue__inputs_free(record->inputs);
}

/* Not pthread_timedjoin_np(3): its limit is a time of day, which an operator may set. The lock is
 * held. */
static bool writer_wait_end(segue__record *record) {
  struct timespec until;
  int rc = 0;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += STOP_S;
  while (!record->ended && !rc)
    rc = pthread_cond_timedwait(&record->idle, &record->lock, &until);
  return record->ended;
}

void segue__record_free(segue__record *record) {
  if (!record) return;
  segue__timer_stop(record->loop, &record->wake_timer);
  pthread_mutex_lock(&record->lock);
  record->stopping = true;
  pthread_cond_signal(&record->wake);
  bool ended = writer_wait_end(record);
  pthread_mutex_unlock(&record->lock);
  if (ended) {
    pthread_join(record->thread, NULL);
    free_parts(record);
  } else {
    writer_abandon(record);
  }
}
