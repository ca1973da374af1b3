/* SPDX-License-Identifier: MIT
 *
 * The answers of an incident. A task of the policy may send a request every second while the next
 * reload is hours away: its old answers are removed in favour of those of reloads, which a replay
 * needs completely. An answer of a reload for which there is no room is stored without its values,
 * so that the replay can name it and the order of the others is kept.
 */
#include "recorded_answers.h"

#include <inttypes.h>
#include <string.h>
#include <uv.h>

#include "../config/config.h"

/* For an answer besides its texts; and bytes for the names of answers that are left out. */
enum { OVERHEAD = 128, NAMES_BYTES = 256 << 10 };

struct segue__answers {
  bool on, running;
  uint64_t asked;
  size_t bytes;
  uint64_t left_out;
  segue__policy_answer *first, **last;
};

void segue__answers_drop(segue__policy_answer *answer) {
  segue__buf_deinit(&answer->key);
  segue__buf_deinit(&answer->events);
  segue__free(answer);
}

static size_t recorded_answers_bytes_of(const segue__policy_answer *answer) {
  return answer->key.len + answer->events.len + OVERHEAD;
}

static void unlink_answer(segue__answers *answers, segue__policy_answer **link) {
  segue__policy_answer *answer = *link;
  *link = answer->next;
  if (answers->last == &answer->next) answers->last = link;
  answers->bytes -= recorded_answers_bytes_of(answer);
  segue__answers_drop(answer);
}

static void forget_all(segue__answers *answers) {
  while (answers->first)
    unlink_answer(answers, &answers->first);
  answers->left_out = 0;
}

int segue__answers_new(segue__answers **out) {
  *out = segue__calloc(1, sizeof **out);
  if (!*out) return UV_ENOMEM;
  (*out)->last = &(*out)->first;
  return 0;
}

void segue__answers_free(segue__answers *answers) {
  if (!answers) return;
  forget_all(answers);
  segue__free(answers);
}

void segue__answers_keep(segue__answers *answers, bool on) {
  if (!answers) return;
  forget_all(answers);
  answers->on = on;
}

bool segue__answers_kept(const segue__answers *answers) {
  return answers && answers->on;
}

void segue__answers_running(segue__answers *answers, bool running) {
  if (answers) answers->running = running;
}

segue__policy_answer *segue__answers_ask(segue__answers *answers, const char *kind) {
  if (!answers || !answers->on) return NULL;
  segue__policy_answer *answer = segue__calloc(1, sizeof *answer);
  if (!answer) {
    answers->left_out++;
    return NULL;
  }
  answer->number = ++answers->asked;
  answer->running = answers->running;
  answer->kind = kind;
  segue__buf_init(&answer->key);
  segue__buf_init(&answer->events);
  return answer;
}

/* Frees the oldest answer to a task; returns false if there is none. */
static bool recorded_answers_make_room(segue__answers *answers) {
  for (segue__policy_answer **link = &answers->first; *link; link = &(*link)->next) {
    if ((*link)->running) continue;
    unlink_answer(answers, link);
    answers->left_out++;
    return true;
  }
  return false;
}

static void leave_out(segue__policy_answer *answer) {
  segue__buf_deinit(&answer->events);
  segue__buf_init(&answer->events);
  answer->left_out = true;
}

void segue__answers_add(segue__answers *answers, segue__policy_answer *answer) {
  if (!answers->on || answer->key.failed) {
    if (answers->on) answers->left_out++;
    segue__answers_drop(answer);
    return;
  }
  if (answer->left_out || answer->events.failed ||
      recorded_answers_bytes_of(answer) > SEGUE__ANSWERS_BYTES)
    leave_out(answer);
  while (answers->bytes + recorded_answers_bytes_of(answer) > SEGUE__ANSWERS_BYTES &&
         recorded_answers_make_room(answers)) {
  }
  if (answers->bytes + recorded_answers_bytes_of(answer) > SEGUE__ANSWERS_BYTES) leave_out(answer);
  if (answer->left_out) answers->left_out++;
  if (answers->bytes + recorded_answers_bytes_of(answer) > SEGUE__ANSWERS_BYTES + NAMES_BYTES) {
    segue__answers_drop(answer);
    return;
  }
  answers->bytes += recorded_answers_bytes_of(answer);
  *answers->last = answer;
  answers->last = &answer->next;
}

void segue__answers_forget(segue__answers *answers) {
  if (!answers) return;
  for (segue__policy_answer **link = &answers->first; *link;) {
    if ((*link)->running)
      unlink_answer(answers, link);
    else
      link = &(*link)->next;
  }
}

static void write_answer(segue__buf *out, const segue__policy_answer *answer) {
  segue__buf_addf(out,
                  "{\"number\":%" PRIu64 ",\"running\":%s,\"kind\":\"%s\",\"key\":", answer->number,
                  answer->running ? "true" : "false", answer->kind);
  segue__json_bytes(out, answer->key.data ? answer->key.data : "", answer->key.len);
  if (answer->left_out)
    segue__buf_adds(out, ",\"left_out\":true");
  else if (answer->abandoned)
    segue__buf_adds(out, ",\"abandoned\":true");
  else
    segue__buf_addf(out, ",\"ms\":%" PRIu64 ",\"events\":[%s]", answer->ms,
                    answer->events.data ? answer->events.data : "");
  segue__buf_addc(out, '}');
}

void segue__answers_take(segue__answers *answers, segue__buf *out) {
  segue__buf_adds(out, "\"answers\":[");
  if (!answers) {
    segue__buf_addc(out, ']');
    return;
  }
  for (const segue__policy_answer *answer = answers->first; answer; answer = answer->next) {
    if (answer != answers->first) segue__buf_addc(out, ',');
    write_answer(out, answer);
  }
  segue__buf_addc(out, ']');
  if (answers->left_out) segue__buf_addf(out, ",\"answers_left_out\":%" PRIu64, answers->left_out);
  forget_all(answers);
}
