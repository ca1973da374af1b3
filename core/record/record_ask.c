/* SPDX-License-Identifier: MIT
 *
 * Questions about the state folder: the record thread reads the history and the last good
 * generation, and answers with text, files or a snapshot.
 */
#include "record_internal.h"

#include <uv.h>

#include "../os/mem.h"

/* ---- On the record thread ---- */

static int read_last_good(segue__record *record, task *t) {
  segue__last_good info;
  int rc = segue__last_good_read(&record->last_good, &info, &t->answer.files);
  segue__last_good_deinit(&info);
  return rc;
}

static int ask_reloads(segue__record *record, task *t) {
  if (!record->history) return UV_ENOENT;
  return segue__history_reloads(record->history, t->number, t->number2, &t->answer.text);
}

static int ask_audits(segue__record *record, task *t) {
  if (!record->history) return UV_ENOENT;
  return segue__history_audits(record->history, t->number, &t->answer.text);
}

static int ask_reload(segue__record *record, task *t) {
  if (!record->history) return UV_ENOENT;
  return segue__history_reload(record->history, t->number, &t->answer.text);
}

static int ask_files(segue__record *record, task *t) {
  if (!record->history) return UV_ENOENT;
  int rc = t->number ? 0 : segue__history_before(record->history, t->number2, &t->number);
  t->answer.number = t->number;
  return rc ? rc : segue__history_files(record->history, t->number, &t->answer.files);
}

static int ask_snapshot(segue__record *record, task *t) {
  if (!record->history) return UV_ENOENT;
  return segue__history_snapshot(record->history, t->number, &t->answer.snapshot, &t->answer.error);
}

static int ask_file_changes(segue__record *record, task *t) {
  bool backward = t->number > t->number2;
  uint64_t from = backward ? t->number2 : t->number, to = backward ? t->number : t->number2;
  if (!record->history) return UV_ENOENT;
  int rc = segue__history_file_changes(record->history, from, to, backward, &t->answer.changes,
                                       &t->answer.number);
  return rc ? rc : segue__file_changes_clean(&t->answer.changes, t->mask);
}

static int ask_why(segue__record *record, task *t) {
  if (!record->history) return UV_ENOENT;
  return segue__history_why(record->history, t->text, (size_t)t->number2, t->number,
                            &t->answer.text);
}

/* ---- On the control thread ---- */

typedef struct record_ask_input {
  uint64_t number, number2;
  const char *text; /* copied */
  const segue__mask *mask;
} record_ask_input;

static int record_ask_ask(segue__record *record, work *run, segue__record_call *call,
                          const record_ask_input *input) {
  bool of_history = run != read_last_good;
  if (of_history && !__atomic_load_n(&record->history, __ATOMIC_ACQUIRE)) return UV_ENOENT;
  task *t = segue__record_task_new(run, call);
  if (!t) return UV_ENOMEM;
  t->number = input->number;
  t->number2 = input->number2;
  t->text = segue__strdup(input->text);
  if (input->text && !t->text) {
    segue__record_task_free(t);
    return UV_ENOMEM;
  }
  t->mask = segue__mask_ref(input->mask);
  segue__record_push(record, of_history ? &record->later : &record->urgent, t);
  return 0;
}

int segue__record_last_good(segue__record *record, segue__record_call *call) {
  return record_ask_ask(record, read_last_good, call, &(record_ask_input){0});
}

int segue__record_reloads(segue__record *record, uint64_t limit, uint64_t before,
                          segue__record_call *call) {
  return record_ask_ask(record, ask_reloads, call,
                        &(record_ask_input){.number = limit, .number2 = before});
}

int segue__record_audits(segue__record *record, uint64_t most, segue__record_call *call) {
  return record_ask_ask(record, ask_audits, call, &(record_ask_input){.number = most});
}

int segue__record_reload(segue__record *record, uint64_t id, segue__record_call *call) {
  return record_ask_ask(record, ask_reload, call, &(record_ask_input){.number = id});
}

int segue__record_files(segue__record *record, uint64_t generation, uint64_t live,
                        segue__record_call *call) {
  return record_ask_ask(record, ask_files, call,
                        &(record_ask_input){.number = generation, .number2 = live});
}

int segue__record_snapshot(segue__record *record, uint64_t generation, segue__record_call *call) {
  return record_ask_ask(record, ask_snapshot, call, &(record_ask_input){.number = generation});
}

int segue__record_file_changes(segue__record *record, uint64_t from, uint64_t to,
                               const segue__mask *mask, segue__record_call *call) {
  return record_ask_ask(record, ask_file_changes, call,
                        &(record_ask_input){.number = from, .number2 = to, .mask = mask});
}

int segue__record_why(segue__record *record, const char *path, size_t min_len, uint64_t until,
                      segue__record_call *call) {
  return record_ask_ask(record, ask_why, call,
                        &(record_ask_input){.number = until, .number2 = min_len, .text = path});
}
