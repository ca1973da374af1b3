/* SPDX-License-Identifier: MIT
 *
 * The journal of effects as named texts, and as lines of the state file.
 */
#include "journal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

static const char FIRST[] = "intent", PREFIX[] = "intent.", ACTION[] = "action";

/* ---- One intent ---- */

void segue__intent_init(segue__intent *intent) {
  *intent = (segue__intent){0};
}

void segue__intent_deinit(segue__intent *intent) {
  for (size_t i = 0; i < intent->count; i++) {
    segue__free(intent->fields[i].name);
    segue__free(intent->fields[i].value);
  }
  segue__free(intent->fields);
  *intent = (segue__intent){0};
}

/* A name with "=" or a line feed would begin another line of the state file. */
static bool intent_name_fits(const char *name) {
  static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
  return *name && name[strspn(name, allowed)] == 0;
}

static segue__intent_field *intent_find(const segue__intent *intent, const char *name) {
  for (size_t i = 0; i < intent->count; i++)
    if (!strcmp(intent->fields[i].name, name)) return &intent->fields[i];
  return NULL;
}

static int intent_append(segue__intent *intent, const char *name, char *value, size_t len) {
  segue__intent_field *fields =
      segue__realloc(intent->fields, (intent->count + 1) * sizeof *fields);
  if (!fields) return UV_ENOMEM;
  intent->fields = fields;
  char *copy = segue__strdup(name);
  if (!copy) return UV_ENOMEM;
  fields[intent->count++] = (segue__intent_field){copy, value, len};
  intent->bytes += strlen(name) + len;
  return 0;
}

int segue__intent_set_bytes(segue__intent *intent, const char *name, const void *data, size_t len) {
  if (!intent_name_fits(name)) return UV_EINVAL;
  segue__intent_field *field = intent_find(intent, name);
  size_t without = intent->bytes - (field ? strlen(name) + field->len : 0);
  if (len > SEGUE__INTENT_BYTES || without + strlen(name) + len > SEGUE__INTENT_BYTES)
    return UV_E2BIG;
  char *value = segue__strndup(len ? data : "", len);
  if (!value) return UV_ENOMEM;
  if (!field) {
    int rc = intent_append(intent, name, value, len);
    if (rc) segue__free(value);
    return rc;
  }
  segue__free(field->value);
  field->value = value;
  field->len = len;
  intent->bytes = without + strlen(name) + len;
  return 0;
}

int segue__intent_set(segue__intent *intent, const char *name, const char *text) {
  return segue__intent_set_bytes(intent, name, text, strlen(text));
}

int segue__intent_set_number(segue__intent *intent, const char *name, uint64_t number) {
  char text[24];
  snprintf(text, sizeof text, "%" PRIu64, number);
  return segue__intent_set(intent, name, text);
}

static const char *intent_get_bytes(const segue__intent *intent, const char *name, size_t *len) {
  const segue__intent_field *field = intent_find(intent, name);
  *len = field ? field->len : 0;
  return field ? field->value : NULL;
}

const char *segue__intent_get(const segue__intent *intent, const char *name) {
  size_t len;
  return intent_get_bytes(intent, name, &len);
}

uint64_t segue__intent_get_number(const segue__intent *intent, const char *name) {
  const char *text = segue__intent_get(intent, name);
  return text ? strtoull(text, NULL, 10) : 0;
}

static int intent_copy(segue__intent *to, const segue__intent *from) {
  segue__intent_init(to);
  for (size_t i = 0; i < from->count; i++) {
    const segue__intent_field *field = &from->fields[i];
    int rc = segue__intent_set_bytes(to, field->name, field->value, field->len);
    if (!rc) continue;
    segue__intent_deinit(to);
    return rc;
  }
  return 0;
}

/* ---- The journal ---- */

void segue__journal_init(segue__journal *journal) {
  *journal = (segue__journal){0};
}

void segue__journal_deinit(segue__journal *journal) {
  for (size_t i = 0; i < journal->count; i++)
    segue__intent_deinit(&journal->items[i]);
  segue__free(journal->items);
  *journal = (segue__journal){0};
}

/* Takes the fields of the intent. */
static int record_journal_append(segue__journal *journal, segue__intent *intent) {
  if (journal->count == journal->capacity) {
    size_t capacity = journal->capacity ? journal->capacity * 2 : 4;
    segue__intent *items = segue__realloc(journal->items, capacity * sizeof *items);
    if (!items) return UV_ENOMEM;
    journal->items = items;
    journal->capacity = capacity;
  }
  intent->id = ++journal->last_id;
  journal->bytes += intent->bytes;
  journal->items[journal->count++] = *intent;
  segue__intent_init(intent);
  return 0;
}

int segue__journal_add(segue__journal *journal, const segue__intent *intent, uint64_t *id) {
  const char *action = segue__intent_get(intent, ACTION);
  *id = 0;
  if (!action || !*action) return UV_EINVAL;
  if (journal->count >= SEGUE__INTENTS_MAX || journal->bytes + intent->bytes > SEGUE__JOURNAL_BYTES)
    return UV_ENOSPC;
  segue__intent copy;
  int rc = intent_copy(&copy, intent);
  if (!rc) rc = record_journal_append(journal, &copy);
  segue__intent_deinit(&copy);
  if (!rc) *id = journal->last_id;
  return rc;
}

void segue__journal_remove(segue__journal *journal, uint64_t id) {
  for (size_t i = 0; i < journal->count; i++) {
    if (journal->items[i].id != id) continue;
    journal->bytes -= journal->items[i].bytes;
    segue__intent_deinit(&journal->items[i]);
    memmove(&journal->items[i], &journal->items[i + 1],
            (journal->count - i - 1) * sizeof *journal->items);
    journal->count--;
    return;
  }
}

const segue__intent *segue__journal_find(const segue__journal *journal, uint64_t id) {
  for (size_t i = 0; i < journal->count; i++)
    if (journal->items[i].id == id) return &journal->items[i];
  return NULL;
}

const segue__intent *segue__journal_of_module(const segue__journal *journal, const char *module) {
  for (size_t i = 0; i < journal->count; i++) {
    const char *name = segue__intent_get(&journal->items[i], "module");
    if (name && !strcmp(name, module)) return &journal->items[i];
  }
  return NULL;
}

/* ---- As lines ---- */

static void journal_put(segue__buf *out, const char *value, size_t len) {
  for (size_t i = 0; i < len; i++) {
    char c = value[i];
    if (c == '\\' || c == '\n' || c == 0) segue__buf_addc(out, '\\');
    segue__buf_addc(out, c == '\n' ? 'n' : c == 0 ? '0' : c);
  }
  segue__buf_addc(out, '\n');
}

/* The action is written first, because its line begins a new intent for the reader. */
void segue__journal_write(const segue__journal *journal, segue__buf *out) {
  for (size_t i = 0; i < journal->count; i++) {
    const segue__intent *intent = &journal->items[i];
    const char *action = segue__intent_get(intent, ACTION);
    segue__buf_addf(out, "%s=", FIRST);
    journal_put(out, action, strlen(action));
    for (size_t f = 0; f < intent->count; f++) {
      const segue__intent_field *field = &intent->fields[f];
      if (!strcmp(field->name, ACTION)) continue;
      segue__buf_addf(out, "%s%s=", PREFIX, field->name);
      journal_put(out, field->value, field->len);
    }
  }
}

/* Undoes the escapes of a value in place; returns its length. */
static size_t journal_unescape(char *value) {
  size_t len = 0;
  for (const char *c = value; *c; c++) {
    char plain = *c;
    if (plain == '\\' && c[1]) {
      plain = *++c;
      if (plain == 'n') plain = '\n';
      if (plain == '0') plain = 0;
    }
    value[len++] = plain;
  }
  return len;
}

static int journal_read_field(segue__journal *journal, const char *name, char *value) {
  size_t len = journal_unescape(value);
  if (!*name) return UV_EINVAL;
  if (strcmp(name, ACTION) != 0)
    return journal->count
               ? segue__intent_set_bytes(&journal->items[journal->count - 1], name, value, len)
               : UV_EINVAL;
  segue__intent intent;
  segue__intent_init(&intent);
  int rc = segue__intent_set_bytes(&intent, ACTION, value, len);
  if (!rc) rc = record_journal_append(journal, &intent);
  segue__intent_deinit(&intent);
  return rc;
}

bool segue__journal_read_line(segue__journal *journal, const char *name, const char *value) {
  bool first = !strcmp(name, FIRST);
  if (!first && strncmp(name, PREFIX, sizeof PREFIX - 1) != 0) return false;
  char *copy = segue__strdup(value);
  size_t before = journal->count ? journal->items[journal->count - 1].bytes : 0;
  size_t count = journal->count;
  int rc = copy ? journal_read_field(journal, first ? ACTION : name + sizeof PREFIX - 1, copy)
                : UV_ENOMEM;
  if (!rc && journal->count == count) journal->bytes += journal->items[count - 1].bytes - before;
  if (rc) journal->incomplete = true;
  segue__free(copy);
  return true;
}
