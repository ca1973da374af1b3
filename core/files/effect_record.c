/* SPDX-License-Identifier: MIT
 *
 * The outcomes of effects in the recording of an incident: one answer for each try, beside those
 * that the policy gets. A replay finds them by what they are and how they are shown, because the
 * words of a check command have other names of staged files each time.
 */
#include <string.h>

#include "../config/config.h"
#include "effect_internal.h"

segue__effect_asked segue__effect_asked_of(const segue__effect_run *run, segue__buf *shown) {
  segue__buf_init(shown);
  segue__effect_shown(&run->shown, shown);
  return (segue__effect_asked){.module = run->options.module ? run->options.module : "",
                               .title = run->options.title,
                               .shown = shown->failed ? "" : shown->data,
                               .effect = &run->effect};
}

void segue__effect_ask(segue__effect_run *run) {
  const char *kind = run->effect.pidfile ? "files.signal"
                     : run->effect.url   ? "files.request"
                                         : "files.command";
  segue__policy_answer *answer = segue__answers_ask(run->options.answers, kind);
  if (!answer) return;
  segue__buf_addf(&answer->key, "%s ", run->options.title);
  segue__effect_shown(&run->shown, &answer->key);
  run->answer = answer;
  run->asked_ms = segue__loop_now_ms(run->options.loop);
}

void segue__effect_note(segue__effect_run *run, int number, int term_signal, bool timed_out,
                        const char *output, size_t len) {
  if (!run->answer || run->answer->events.len) return;
  segue__buf *out = &run->answer->events;
  segue__buf_addf(out,
                  "{\"count\":1,\"values\":[{\"table\":{\"number\":%d,\"signal\":%d,"
                  "\"timed_out\":%s,\"output\":",
                  number, term_signal, timed_out ? "true" : "false");
  segue__json_bytes(out, len ? output : "", len);
  segue__buf_adds(out, "}}]}");
}

void segue__effect_note_failure(segue__effect_run *run, const segue_error *error) {
  if (!run->answer || run->answer->events.len) return;
  segue__buf *out = &run->answer->events;
  segue__buf_addf(out, "{\"count\":1,\"values\":[{\"table\":{\"error\":\"%s\",\"message\":",
                  segue_error_name(error->code));
  segue__json_string(out, error->message, strlen(error->message));
  segue__buf_adds(out, "}}]}");
}

void segue__effect_answered(segue__effect_run *run) {
  segue__policy_answer *answer = run->answer;
  run->answer = NULL;
  if (!answer) return;
  answer->ms = segue__loop_now_ms(run->options.loop) - run->asked_ms;
  answer->abandoned = run->stopped;
  segue__answers_add(run->options.answers, answer);
}
