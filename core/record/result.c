/* SPDX-License-Identifier: MIT
 *
 * Results of runs: one for answers, log, history and events.
 */
#include "result.h"

#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../os/mem.h"

static void result_drop_changes(segue__result *result);

enum { CHANGES_SHOWN = 100, CHANGE_TEXT = 200 };

#define NAMES(LIST)                                                                                \
  static const char *const names[] = {LIST(X)};                                                    \
  return names[i]

const char *segue__trigger_name(segue__trigger i) {
#define X(name, text, automatic) text,
  NAMES(SEGUE__TRIGGERS);
#undef X
}

bool segue__trigger_find(const char *name, segue__trigger *out) {
  for (int i = 0; i < SEGUE__TRIGGER_COUNT; i++)
    if (strcmp(name, segue__trigger_name((segue__trigger)i)) == 0) {
      *out = (segue__trigger)i;
      return true;
    }
  return false;
}

const char *segue__outcome_name(segue__outcome i) {
#define X(name, text) text,
  NAMES(SEGUE__OUTCOMES);
}

const char *segue__phase_name(segue__phase i) {
  NAMES(SEGUE__PHASES);
#undef X
}

int segue__result_new(segue__result **out, uint64_t id, const segue__buf *cause, size_t joined) {
  const char *text = cause->data ? cause->data : "";
  segue__result *result = *out = segue__calloc(1, sizeof *result);
  if (!result) return UV_ENOMEM;
  result->refs = 1;
  result->id = id;
  segue__errors_init(&result->errors);
  size_t room = cause->len + 40;
  result->cause = segue__malloc(room);
  if (!result->cause) {
    segue__free(result);
    *out = NULL;
    return UV_ENOMEM;
  }
  if (joined)
    snprintf(result->cause, room, "%s, +%zu more", text, joined);
  else
    snprintf(result->cause, room, "%s", text);
  return 0;
}

const char *segue__result_outcome(const segue__result *result) {
  return result->unconfirmed ? "unconfirmed" : segue__outcome_name(result->outcome);
}

segue__result *segue__result_ref(segue__result *result) {
  result->refs++;
  return result;
}

void segue__result_unref(segue__result *result) {
  if (!result || --result->refs > 0) return;
  segue__free(result->cause);
  segue__errors_deinit(&result->errors);
  for (size_t i = 0; i < result->step_count; i++) {
    segue__free(result->steps[i].module);
    segue__free(result->steps[i].why);
  }
  segue__free(result->steps);
  result_drop_changes(result);
  for (size_t i = 0; i < result->untried_count; i++)
    segue__free(result->untried[i]);
  segue__free(result->untried);
  segue__file_changes_deinit(&result->outputs);
  segue__free(result);
}

void segue__result_error(segue__result *result, const segue_error *error) {
  segue__errors_add(&result->errors, error);
}

static char *result_text_of(const segue__change *change, const segue__mask *mask) {
  segue__buf text;
  segue__buf_init(&text);
  segue__mask_write_change(&text, mask, change, change->to, CHANGE_TEXT + 1);
  if (!text.failed && text.len > CHANGE_TEXT) {
    size_t end = CHANGE_TEXT;
    while (end > 0 && ((unsigned char)text.data[end] & 0xC0) == 0x80)
      end--; /* a character of UTF-8 is not cut in two */
    text.len = end;
    segue__buf_adds(&text, "...");
  }
  char *copy = text.failed ? NULL : segue__strdup(text.data);
  segue__buf_deinit(&text);
  return copy;
}

static void result_drop_changes(segue__result *result) {
  for (size_t i = 0; i < result->changes.count; i++)
    segue__free(result->change_texts[i]);
  segue__free(result->change_texts);
  result->change_texts = NULL;
  segue__changes_deinit(&result->changes);
}

void segue__result_drop_changes(segue__result *result) {
  result_drop_changes(result);
  memset(&result->changes, 0, sizeof result->changes);
}

/* Paths and texts are copied: a result outlives its snapshots. */
int segue__result_take_changes(segue__result *result, const segue__changes *changes,
                               const segue__mask *mask) {
  size_t count = changes->count < CHANGES_SHOWN ? changes->count : CHANGES_SHOWN;
  result->changes.total = changes->total;
  if (!count) return 0;
  result->changes.items = segue__calloc(count, sizeof *result->changes.items);
  result->change_texts = segue__calloc(count, sizeof *result->change_texts);
  if (!result->changes.items || !result->change_texts) return UV_ENOMEM;
  result->changes.capacity = count;
  for (size_t i = 0; i < count; i++) {
    segue__change *change = &result->changes.items[i];
    change->op = changes->items[i].op;
    change->path = segue__strdup(changes->items[i].path);
    result->changes.count = i + 1;
    if (!change->path) return UV_ENOMEM;
    if (!changes->items[i].to) continue;
    result->change_texts[i] = result_text_of(&changes->items[i], mask);
    if (!result->change_texts[i]) return UV_ENOMEM;
  }
  return 0;
}
