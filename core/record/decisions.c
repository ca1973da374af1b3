/* SPDX-License-Identifier: MIT
 *
 * The decisions of operators as lines "name=value" of the state file. A name that is unknown is
 * ignored, so that a file of a newer version can be read.
 */
#include "decisions.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "../os/mem.h"
#include "result.h"

/* ---- Writing ---- */

/* Escapes line breaks: a reason that an operator writes must not add a line, and with it a
 * decision. */
static void put_text(segue__buf *b, const char *name, const char *text) {
  segue__buf_addf(b, "%s=", name);
  for (; *text; text++) {
    if (*text == '\\' || *text == '\n') segue__buf_addc(b, '\\');
    segue__buf_addc(b, *text == '\n' ? 'n' : *text);
  }
  segue__buf_addc(b, '\n');
}

static void put_hash(segue__buf *b, const char *name, segue__hash hash) {
  char hex[33];
  segue__hash_hex(hash, hex);
  segue__buf_addf(b, "%s=%s\n", name, hex);
}

int segue__decisions_write(segue__two_slot_file *state_file, const segue__decisions *state,
                           const segue__buf *journal) {
  segue__buf b;
  segue__buf_init(&b);
  segue__two_slot_file_begin(state_file, &b);
  if (state->frozen) {
    segue__buf_addf(&b, "frozen=%" PRId64 "\n", state->frozen_wall_ms);
    put_text(&b, "frozen_by", state->frozen_by);
    put_text(&b, "frozen_why", state->frozen_why);
  }
  if (state->unconfirmed) {
    segue__buf_addf(&b, "unconfirmed=%" PRIu64 "\n", state->unconfirmed_generation);
    put_hash(&b, "unconfirmed_raw", state->unconfirmed_raw);
    segue__buf_addf(&b, "unconfirmed_until=%" PRId64 "\n", state->unconfirmed_until_wall_ms);
    segue__buf_addf(&b, "unconfirmed_reload=%" PRIu64 "\n", state->unconfirmed_reload);
    put_text(&b, "unconfirmed_trigger",
             segue__trigger_name((segue__trigger)state->unconfirmed_trigger));
    segue__buf_addf(&b, "unconfirmed_since=%" PRId64 "\n", state->unconfirmed_wall_ms);
    put_text(&b, "unconfirmed_cause", state->unconfirmed_cause);
    if (state->unconfirmed_restores) {
      segue__buf_addf(&b, "unconfirmed_restores=%" PRIu64 "\n", state->unconfirmed_restores);
      put_hash(&b, "unconfirmed_sources", state->unconfirmed_sources);
    }
  }
  if (state->reverted) {
    segue__buf_addf(&b, "reverted=%" PRIu64 "\n", state->reverted_generation);
    segue__buf_addf(&b, "reverted_reload=%" PRIu64 "\n", state->reverted_reload);
    put_hash(&b, "reverted_raw", state->reverted_raw);
    put_text(&b, "reverted_why", state->reverted_why);
  }
  if (state->pinned) {
    segue__buf_addf(&b, "pinned=%" PRIu64 "\n", state->pinned_generation);
    put_hash(&b, "pinned_raw", state->pinned_raw);
  }
  if (state->good_wall_ms) segue__buf_addf(&b, "good=%" PRId64 "\n", state->good_wall_ms);
  if (journal) segue__buf_add(&b, journal->data, journal->len);
  int rc = segue__two_slot_file_write(state_file, &b);
  segue__buf_deinit(&b);
  return rc;
}

/* ---- Reading ---- */

static void decisions_get_text(const char *value, char *out, size_t size) {
  size_t len = 0;
  for (; *value && len + 1 < size; value++) {
    char c = *value;
    if (c == '\\' && value[1]) c = *++value == 'n' ? '\n' : *value;
    out[len++] = c;
  }
  out[len] = 0;
}

static segue__hash get_hash(const char *value) {
  segue__hash hash;
  (void)segue__hash_parse(value, &hash);
  return hash;
}

/* Versions before 0.1.0 wrote a number: the position in this list, which therefore never changes.
 */
static unsigned get_trigger(const char *value) {
  static const char *const numbered[] = {"start",   "signal", "watch", "http",
                                         "control", "poll",   "push",  "retry"};
  segue__trigger trigger = SEGUE__BY_START;
  unsigned long n = strtoul(value, NULL, 10);
  bool digit = *value >= '0' && *value <= '9' && n < sizeof numbered / sizeof *numbered;
  (void)segue__trigger_find(digit ? numbered[n] : value, &trigger);
  return trigger;
}

static void take_reverted(segue__decisions *state, const char *name, const char *value) {
  if (!strcmp(name, "reverted")) {
    state->reverted = true;
    state->reverted_generation = strtoull(value, NULL, 10);
  } else if (!strcmp(name, "reverted_reload")) {
    state->reverted_reload = strtoull(value, NULL, 10);
  } else if (!strcmp(name, "reverted_raw")) {
    state->reverted_raw = get_hash(value);
  } else if (!strcmp(name, "reverted_why")) {
    decisions_get_text(value, state->reverted_why, sizeof state->reverted_why);
  }
}

static void take_window(segue__decisions *state, const char *name, const char *value) {
  if (!strcmp(name, "unconfirmed")) {
    state->unconfirmed = true;
    state->unconfirmed_generation = strtoull(value, NULL, 10);
  } else if (!strcmp(name, "unconfirmed_raw")) {
    state->unconfirmed_raw = get_hash(value);
  } else if (!strcmp(name, "unconfirmed_until")) {
    state->unconfirmed_until_wall_ms = strtoll(value, NULL, 10);
  } else if (!strcmp(name, "unconfirmed_reload")) {
    state->unconfirmed_reload = strtoull(value, NULL, 10);
  } else if (!strcmp(name, "unconfirmed_trigger")) {
    state->unconfirmed_trigger = get_trigger(value);
  } else if (!strcmp(name, "unconfirmed_since")) {
    state->unconfirmed_wall_ms = strtoll(value, NULL, 10);
  } else if (!strcmp(name, "unconfirmed_cause")) {
    decisions_get_text(value, state->unconfirmed_cause, sizeof state->unconfirmed_cause);
  } else if (!strcmp(name, "unconfirmed_restores")) {
    state->unconfirmed_restores = strtoull(value, NULL, 10);
  } else if (!strcmp(name, "unconfirmed_sources")) {
    state->unconfirmed_sources = get_hash(value);
  }
}

static void decisions_take(segue__decisions *state, const char *name, const char *value) {
  if (!strncmp(name, "unconfirmed", 11)) {
    take_window(state, name, value);
  } else if (!strncmp(name, "reverted", 8)) {
    take_reverted(state, name, value);
  } else if (!strcmp(name, "frozen")) {
    state->frozen = true;
    state->frozen_wall_ms = strtoll(value, NULL, 10);
  } else if (!strcmp(name, "frozen_by")) {
    decisions_get_text(value, state->frozen_by, sizeof state->frozen_by);
  } else if (!strcmp(name, "frozen_why")) {
    decisions_get_text(value, state->frozen_why, sizeof state->frozen_why);
  } else if (!strcmp(name, "pinned")) {
    state->pinned = true;
    state->pinned_generation = strtoull(value, NULL, 10);
  } else if (!strcmp(name, "pinned_raw")) {
    state->pinned_raw = get_hash(value);
  } else if (!strcmp(name, "good")) {
    state->good_wall_ms = strtoll(value, NULL, 10);
  }
}

int segue__decisions_read(segue__two_slot_file *state_file, segue__decisions *state,
                          segue__journal *journal) {
  segue__bytes file;
  const char *value;
  size_t len;
  *state = (segue__decisions){0};
  int rc = segue__two_slot_file_read(state_file, &file, &value, &len);
  if (rc) return rc;
  char *text = segue__strndup(value, len), *rest = text;
  segue__free(file.data);
  if (!text) return UV_ENOMEM;
  for (char *line; (line = strsep(&rest, "\n"));) {
    char *equals = strchr(line, '=');
    if (!equals) continue;
    *equals = 0;
    if (!segue__journal_read_line(journal, line, equals + 1))
      decisions_take(state, line, equals + 1);
  }
  segue__free(text);
  return 0;
}
