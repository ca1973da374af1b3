/* SPDX-License-Identifier: MIT
 *
 * Logs every settled run: one line with its outcome and cause, and one line for each error. An
 * automatic run that found no change is logged at debug level.
 */
#include "admin.h"
#include "render.h"

#include <inttypes.h>
#include <stdio.h>

/* A line at each poll that finds nothing would hide the others, so it is for debugging. A plan and
 * a postponed run are no errors, whatever their outcome is. */
static segue_level level_of(const segue__result *result) {
  if (result->plan_only || result->deferred) return SEGUE_INFO;
  switch (result->outcome) {
  case SEGUE__APPLIED:
    return SEGUE_INFO;
  case SEGUE__UNCHANGED:
    if (result->trigger == SEGUE__BY_POLL || result->trigger == SEGUE__BY_WATCH) return SEGUE_DEBUG;
    /* A file is still being written: the start of that wait is in the log already. */
    return result->trigger == SEGUE__BY_RETRY && result->errors.count ? SEGUE_DEBUG : SEGUE_INFO;
  case SEGUE__HELD:
    return SEGUE_WARN;
  default:
    return result->skipped ? SEGUE_DEBUG : SEGUE_ERROR;
  }
}

static void message_of(const segue__result *result, char *buf, size_t size) {
  const char *outcome = segue__outcome_name(result->outcome);
  if (result->plan_only)
    snprintf(buf, size, "planned: the reload %s", segue__render_would(result->outcome));
  else if (result->deferred)
    snprintf(buf, size, "postponed: it will run later");
  else if (result->skipped)
    snprintf(buf, size, "skipped: this input was %s before and has not changed", outcome);
  else if (!result->generation)
    snprintf(buf, size, "%s: no generation is live", outcome);
  else if (result->outcome == SEGUE__APPLIED)
    snprintf(buf, size, "applied: generation %" PRIu64 " is live", result->generation);
  else if (result->undo_failed)
    snprintf(buf, size, "%s, and undoing it failed: generation %" PRIu64 " may be incomplete",
             outcome, result->generation);
  else
    snprintf(buf, size, "%s: generation %" PRIu64 " stays live", outcome, result->generation);
}

void segue__announce(const segue__logger *log, const segue__result *result) {
  segue_level level = level_of(result);
  if (!log->sink || level > log->level) return;
  char message[160], took[32];
  message_of(result, message, sizeof message);
  snprintf(took, sizeof took, "%.1fms", (double)segue__render_total_us(result) / 1e3);
  SEGUE__LOG(log, level, "reload", message, SEGUE__FIELD("id", result->id),
             SEGUE__FIELD("cause", result->cause), SEGUE__FIELD("changes", result->changes.total),
             SEGUE__FIELD("took", took));
  if (result->skipped || result->plan_only) return; /* logged before, or in the answer */
  for (size_t i = 0; i < result->errors.count; i++) {
    char text[sizeof(segue_error) + 64];
    segue_error_format(&result->errors.items[i], text, sizeof text);
    SEGUE__LOG(log, result->outcome == SEGUE__APPLIED ? SEGUE_WARN : level, "reload", text,
               SEGUE__FIELD("id", result->id));
  }
}
