/* SPDX-License-Identifier: MIT
 *
 * Renders one reload as text for people and as JSON for programs. Answers, history and event stream
 * use the same functions, so that they cannot disagree.
 */
#include "render.h"

#include "../config/printable.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

enum { VALUE_MAX = 4096, VALUE_CUT = 200 };

static void render_errors_json(segue__buf *out, const segue__errors *errors);
static void phases_json(segue__buf *out, const segue__result *result);
static void steps_json(segue__buf *out, const segue__result *result);
static void changes_json(segue__buf *out, const segue__result *result);
static void errors_text(segue__buf *out, const segue__result *result, const char *prefix);

int segue__render_status(segue__outcome outcome) {
  switch (outcome) {
  case SEGUE__APPLIED:
  case SEGUE__UNCHANGED:
    return 200;
  case SEGUE__REJECTED:
    return 422;
  case SEGUE__HELD:
    return 409;
  default:
    return 500;
  }
}

uint64_t segue__render_total_us(const segue__result *result) {
  uint64_t total = 0;
  for (int i = 0; i < SEGUE__PHASE_COUNT; i++)
    total += result->phase_us[i];
  return total;
}

void segue__render_duration(segue__buf *out, uint64_t us) {
  if (us < 1000)
    segue__buf_addf(out, "%" PRIu64 " us", us);
  else if (us < 1000000)
    segue__buf_addf(out, "%.1f ms", (double)us / 1e3);
  else
    segue__buf_addf(out, "%.1f s", (double)us / 1e6);
}

/* Returns the outcome of a plan in the conditional: "would be rejected". */
const char *segue__render_would(segue__outcome outcome) {
  switch (outcome) {
  case SEGUE__APPLIED:
    return "would be applied";
  case SEGUE__UNCHANGED:
    return "would do nothing";
  case SEGUE__HELD:
    return "would be held";
  case SEGUE__REJECTED:
    return "would be rejected";
  case SEGUE__FAILED:
    return "would fail";
  default:
    return "would be reverted";
  }
}

static void generation_text(segue__buf *out, const segue__result *result) {
  if (!result->generation)
    segue__buf_adds(out, "no generation is live");
  else if (result->outcome == SEGUE__APPLIED)
    segue__buf_addf(out, "generation %" PRIu64 " is live", result->generation);
  else
    segue__buf_addf(out, "generation %" PRIu64 " stays live", result->generation);
}

void segue__render_result_text(segue__buf *out, const segue__result *result) {
  segue__buf_addf(out, "%s: ", segue__outcome_name(result->outcome));
  generation_text(out, result);
  segue__buf_addf(out, " (reload %" PRIu64 ", ", result->id);
  segue__render_duration(out, segue__render_total_us(result));
  segue__buf_adds(out, result->undo_failed ? "; undoing it failed too)\n" : ")\n");
  if (result->taken_at_start)
    segue__buf_addf(out,
                    "the start of the daemon has applied the changed files: generation %" PRIu64
                    " was made of them\n",
                    result->generation);
  bool good = result->outcome == SEGUE__APPLIED || result->outcome == SEGUE__UNCHANGED;
  errors_text(out, result, good ? "warning: " : "");
}

static void errors_text(segue__buf *out, const segue__result *result, const char *prefix) {
  for (size_t i = 0; i < result->errors.count; i++) {
    segue__buf_adds(out, prefix);
    segue__render_error_text(out, &result->errors.items[i]);
    segue__buf_addc(out, '\n');
  }
  if (result->errors.total > result->errors.count)
    segue__buf_addf(out, "and %zu more\n", result->errors.total - result->errors.count);
}

static char change_sign(segue__change_op op) {
  return op == SEGUE__ADD ? '+' : op == SEGUE__REMOVE ? '-' : '~';
}

void segue__render_plan_text(segue__buf *out, const segue__result *result) {
  if (result->outcome != SEGUE__APPLIED && result->outcome != SEGUE__UNCHANGED) {
    segue__buf_addf(out, "plan: the reload %s\n", segue__render_would(result->outcome));
    errors_text(out, result, "");
    segue__render_files_text(out, &result->outputs);
    return;
  }
  if (result->outcome == SEGUE__UNCHANGED) {
    segue__buf_adds(out, "plan: nothing has changed, the reload would do nothing\n");
    return;
  }
  segue__buf_addf(out, "plan: %zu change%s, %zu module%s\n", result->changes.total,
                  result->changes.total == 1 ? "" : "s", result->step_count,
                  result->step_count == 1 ? "" : "s");
  for (size_t i = 0; i < result->changes.count; i++) {
    const segue__change *change = &result->changes.items[i];
    const char *value = result->change_texts ? result->change_texts[i] : NULL;
    segue__buf_addf(out, "  %c ", change_sign(change->op));
    segue__render_line(out, change->path[0] ? change->path : "(everything)");
    segue__buf_adds(out, value ? " = " : "");
    segue__render_line(out, value ? value : "");
    segue__buf_addc(out, '\n');
  }
  if (result->changes.total > result->changes.count)
    segue__buf_addf(out, "  and %zu more\n", result->changes.total - result->changes.count);
  for (size_t i = 0; i < result->step_count; i++) {
    const segue__plan_step *step = &result->steps[i];
    segue__buf_addf(out, "  %-8s %-16s ", step->action, step->module);
    segue__render_line(out, step->why ? step->why : "");
    segue__buf_addc(out, '\n');
  }
  errors_text(out, result, "warning: ");
  segue__render_untried_text(out, result);
  segue__render_files_text(out, &result->outputs);
}

void segue__render_untried_text(segue__buf *out, const segue__result *result) {
  for (size_t i = 0; i < result->untried_count; i++)
    segue__buf_addf(out, "%s%s", i ? "; " : "not tried: ", result->untried[i]);
  if (result->untried_count) segue__buf_addc(out, '\n');
}

static void untried_json(segue__buf *out, const segue__result *result) {
  segue__buf_adds(out, ",\"not_tried\":[");
  for (size_t i = 0; i < result->untried_count; i++) {
    if (i) segue__buf_addc(out, ',');
    segue__json_string(out, result->untried[i], strlen(result->untried[i]));
  }
  segue__buf_addc(out, ']');
}

void segue__render_result_json(segue__buf *out, const segue__result *result, bool detail) {
  segue__buf_addf(out, "{\"id\":%" PRIu64 ",\"outcome\":\"%s\",\"generation\":%" PRIu64 ",",
                  result->id, segue__result_outcome(result), result->generation);
  segue__render_member(out, "hash", result->generation && result->hash[0] ? result->hash : NULL);
  segue__buf_addf(out, ",\"trigger\":\"%s\",", segue__trigger_name(result->trigger));
  segue__render_member(out, "cause", result->cause);
  if (detail && result->previous && result->previous != result->generation)
    segue__buf_addf(out, ",\"previous\":%" PRIu64, result->previous);
  if (result->restores) segue__buf_addf(out, ",\"restores\":%" PRIu64, result->restores);
  if (result->confirmed_by[0]) {
    segue__buf_addc(out, ',');
    segue__render_member(out, "confirmed_by", result->confirmed_by);
  }
  segue__buf_addf(out, ",\"phase\":\"%s\",\"started\":", segue__phase_name(result->phase));
  segue__render_time(out, result->started_wall_ms);
  segue__buf_adds(out, ",\"ended\":");
  segue__render_time(out, result->ended_wall_ms);
  segue__buf_addf(
      out, ",\"duration_ms\":%.3f,\"phases_ms\":", (double)segue__render_total_us(result) / 1e3);
  phases_json(out, result);
  segue__buf_addf(out,
                  ",\"plan_only\":%s,\"skipped\":%s,\"undo_failed\":%s,\"deferred\":%s,\"errors\":",
                  result->plan_only ? "true" : "false", result->skipped ? "true" : "false",
                  result->undo_failed ? "true" : "false", result->deferred ? "true" : "false");
  render_errors_json(out, &result->errors);
  if (result->taken_at_start) segue__buf_adds(out, ",\"taken_at_start\":true");
  segue__buf_addf(out, ",\"error_count\":%zu,\"change_count\":%zu", result->errors.total,
                  result->changes.total);
  if (detail) {
    steps_json(out, result);
    changes_json(out, result);
    segue__render_files_json(out, &result->outputs);
    if (result->plan_only) untried_json(out, result);
  }
  segue__buf_addc(out, '}');
}

static void phases_json(segue__buf *out, const segue__result *result) {
  segue__buf_addc(out, '{');
  for (int i = 0; i < SEGUE__PHASE_COUNT && i <= (int)result->phase; i++)
    segue__buf_addf(out, "%s\"%s\":%.3f", i ? "," : "", segue__phase_name((segue__phase)i),
                    (double)result->phase_us[i] / 1e3);
  segue__buf_addc(out, '}');
}

static void steps_json(segue__buf *out, const segue__result *result) {
  segue__buf_adds(out, ",\"steps\":[");
  for (size_t i = 0; i < result->step_count; i++) {
    const segue__plan_step *step = &result->steps[i];
    segue__buf_addf(out, "%s{\"action\":\"%s\",", i ? "," : "", step->action);
    segue__render_member(out, "module", step->module);
    segue__buf_addc(out, ',');
    segue__render_member(out, "why", step->why);
    segue__buf_addc(out, '}');
  }
  segue__buf_addc(out, ']');
}

static const char *op_name(segue__change_op op) {
  return op == SEGUE__ADD ? "add" : op == SEGUE__REMOVE ? "remove" : "change";
}

/* The new values are strings here, not JSON inside JSON, because a long value has been cut and
 * would not parse. */
static void changes_json(segue__buf *out, const segue__result *result) {
  segue__buf_adds(out, ",\"changes\":[");
  for (size_t i = 0; i < result->changes.count; i++) {
    const segue__change *change = &result->changes.items[i];
    segue__buf_addf(out, "%s{\"op\":\"%s\",", i ? "," : "", op_name(change->op));
    segue__render_member(out, "path", change->path);
    segue__buf_addc(out, ',');
    segue__render_member(out, "to_text", result->change_texts ? result->change_texts[i] : NULL);
    segue__buf_addc(out, '}');
  }
  segue__buf_addc(out, ']');
}

void segue__render_line(segue__buf *out, const char *text) {
  segue__printable_add(out, text, strlen(text));
}

void segue__render_error_text(segue__buf *out, const segue_error *error) {
  char text[sizeof *error + 64];
  segue_error_format(error, text, sizeof text);
  segue__printable_lines(out, text, strlen(text));
}

void segue__render_error_json(segue__buf *out, const segue_error *error) {
  if (!error) {
    segue__buf_adds(out, "null");
    return;
  }
  segue__buf_addc(out, '{');
  segue__render_member(out, "code", segue_error_name(error->code));
  segue__buf_addc(out, ',');
  segue__render_member(out, "message", error->message);
  segue__buf_addc(out, ',');
  segue__render_member(out, "source", error->source[0] ? error->source : NULL);
  segue__buf_addc(out, ',');
  segue__render_member(out, "file", error->file[0] ? error->file : NULL);
  if (error->line)
    segue__buf_addf(out, ",\"line\":%" PRIu32, error->line);
  else
    segue__buf_adds(out, ",\"line\":null");
  if (error->column)
    segue__buf_addf(out, ",\"column\":%" PRIu32 ",", error->column);
  else
    segue__buf_adds(out, ",\"column\":null,");
  segue__render_member(out, "path", error->path[0] ? error->path : NULL);
  segue__buf_addc(out, '}');
}

static void render_errors_json(segue__buf *out, const segue__errors *errors) {
  segue__buf_addc(out, '[');
  for (size_t i = 0; i < errors->count; i++) {
    if (i) segue__buf_addc(out, ',');
    segue__render_error_json(out, &errors->items[i]);
  }
  segue__buf_addc(out, ']');
}

void segue__render_member(segue__buf *out, const char *key, const char *value) {
  segue__buf_addf(out, "\"%s\":", key);
  if (value)
    segue__json_string(out, value, strlen(value));
  else
    segue__buf_adds(out, "null");
}

void segue__render_clean(segue__buf *out, const segue__engine *engine, const char *key,
                         const char *value) {
  char *copy = value ? segue__strdup(value) : NULL;
  if (copy) segue__engine_scrub_text(engine, copy);
  segue__render_member(out, key, copy || !value ? copy : SEGUE__MASKED);
  segue__free(copy);
}

void segue__render_clock(segue__buf *out, int64_t wall_ms) {
  time_t seconds = (time_t)(wall_ms / 1000);
  struct tm tm;
  char text[32];
  if (!wall_ms || !gmtime_r(&seconds, &tm)) {
    segue__buf_addc(out, '?');
    return;
  }
  strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
  segue__buf_addf(out, "%s.%03dZ", text, (int)(wall_ms % 1000));
}

void segue__render_time(segue__buf *out, int64_t wall_ms) {
  if (!wall_ms) {
    segue__buf_adds(out, "null");
    return;
  }
  segue__buf_addc(out, '"');
  segue__render_clock(out, wall_ms);
  segue__buf_addc(out, '"');
}

/* A value that is too long for an answer is replaced by a string: the beginning of its JSON. */
static void add_shortened(segue__buf *out, segue__buf *text) {
  if (text->failed) {
    out->failed = 1;
  } else if (text->len <= VALUE_MAX) {
    segue__buf_add(out, text->data, text->len);
  } else {
    size_t cut = VALUE_CUT;
    while (cut && ((unsigned char)text->data[cut] & 0xc0) == 0x80) /* not inside a character */
      cut--;
    text->len = cut;
    segue__buf_adds(text, "...");
    segue__json_string(out, text->data, text->len);
  }
}

void segue__render_value(segue__buf *out, const segue_node *node, const char *path,
                         const segue__mask *mask) {
  segue__buf text;
  segue__buf_init(&text);
  if (node)
    segue__mask_write(&text, mask, node, path, 0, VALUE_MAX + 1);
  else
    segue__buf_adds(&text, "null");
  add_shortened(out, &text);
  segue__buf_deinit(&text);
}

void segue__render_side(segue__buf *out, const segue__change *change, const segue_node *side,
                        const segue__mask *mask) {
  segue__buf text;
  segue__buf_init(&text);
  if (side)
    segue__mask_write_change(&text, mask, change, side, VALUE_MAX + 1);
  else
    segue__buf_adds(&text, "null");
  add_shortened(out, &text);
  segue__buf_deinit(&text);
}
