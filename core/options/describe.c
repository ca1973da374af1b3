/* SPDX-License-Identifier: MIT
 *
 * Topics, and the help text of a table.
 */
#include "describe.h"

#include <stdio.h>
#include <string.h>

#include "../os/units.h"
#include "describe_internal.h"
#include "fill.h"

/* ---- Topics ---------------------------------------------------------------------------------- */

void segue__topic_title(const segue__option_kind *topic, segue__buf *out) {
  segue__buf_adds(out, topic->family);
  if (topic->name) segue__buf_addf(out, " %s", topic->name);
}

static bool title_is(const segue__option_kind *topic, const char *title) {
  size_t len = strlen(topic->family);
  if (!topic->name) return !strcmp(topic->family, title);
  return !strncmp(topic->family, title, len) && title[len] == ' ' &&
         !strcmp(topic->name, title + len + 1);
}

const segue__option_kind *segue__topic_find(const segue__topics *topics, const char *title) {
  const segue__option_kind *found = NULL;
  for (size_t i = 0; i < topics->count; i++)
    if (title_is(&topics->items[i], title)) return &topics->items[i];
  for (size_t i = 0; i < topics->count; i++) {
    const segue__option_kind *topic = &topics->items[i];
    if (!topic->name || strcmp(topic->name, title)) continue;
    if (found) return NULL; /* a module "c" and a source "c": the family must be named */
    found = topic;
  }
  return found;
}

const segue__option_kind *segue__topic_of(const segue__topics *topics,
                                          const segue_option_table *table) {
  for (size_t i = 0; i < topics->count; i++)
    if (topics->items[i].table == table) return &topics->items[i];
  return NULL;
}

const segue__option_kind *segue__topic_kind(const segue__topics *topics,
                                            const segue_option_table *table, size_t index) {
  for (size_t i = 0; table->family && i < topics->count; i++) {
    const segue__option_kind *topic = &topics->items[i];
    if (topic->name && !strcmp(topic->family, table->name) && !index--) return topic;
  }
  return NULL;
}

static void describe_collect(const segue_option_table *table, segue__tables *out) {
  for (size_t i = 0; i < out->count; i++)
    if (out->items[i] == table) return;
  if (!table || out->count == SEGUE__TABLES_MAX) return;
  out->items[out->count++] = table;
  const segue_option *row;
  for (size_t i = 0; (row = segue__options_row(table, i)); i++)
    if (row->table && !(row->flags & SEGUE_OPTION_HIDDEN)) describe_collect(row->table, out);
}

void segue__tables_collect(const segue__topics *topics, segue__tables *out) {
  out->count = 0;
  for (size_t i = 0; i < topics->count; i++)
    describe_collect(topics->items[i].table, out);
}

/* ---- A row in words -------------------------------------------------------------------------- */

static void add_choices(const char *choices, segue__buf *out) {
  const char *s;
  size_t len;
  for (size_t i = 0; (s = segue__choices_at(choices, i, &len)); i++)
    segue__buf_addf(out, "%s\"%.*s\"", i ? " | " : "", (int)len, s);
}

static const char *type_word(segue_option_type type) {
  static const char *const words[] = {
      [SEGUE_OPTION_TEXT] = "text",        [SEGUE_OPTION_PATH] = "path",
      [SEGUE_OPTION_STRING] = "text",      [SEGUE_OPTION_DURATION] = "duration",
      [SEGUE_OPTION_SIZE] = "size",        [SEGUE_OPTION_COUNT] = "number",
      [SEGUE_OPTION_INTEGER] = "number",   [SEGUE_OPTION_NUMBER] = "number",
      [SEGUE_OPTION_BOOLEAN] = "boolean",  [SEGUE_OPTION_FUNCTION] = "function",
      [SEGUE_OPTION_ANY] = "value",        [SEGUE_OPTION_TABLE] = "table",
      [SEGUE_OPTION_CHOICE] = "one of",    [SEGUE_OPTION_LIST] = "list",
      [SEGUE_OPTION_MAP] = "table",        [SEGUE_OPTION_RATE] = "rate",
      [SEGUE_OPTION_MODE] = "permissions",
  };
  return words[type];
}

void segue__option_word(const segue_option *row, segue__buf *out) {
  bool list = row->type == SEGUE_OPTION_LIST, map = row->type == SEGUE_OPTION_MAP;
  const segue_option *inner =
      row->shorthand && row->type == SEGUE_OPTION_TABLE
          ? segue__options_find(row->table, row->shorthand, strlen(row->shorthand))
          : NULL;
  if (row->flags & SEGUE_OPTION_TRUE) segue__buf_adds(out, "true | ");
  if (inner) {
    segue__option_word(inner, out);
    segue__buf_adds(out, segue__options_function(row) ? " | function | " : " | ");
  }
  if (list && row->flags & SEGUE_OPTION_ONE)
    segue__buf_addf(out, "%s | ", row->of == SEGUE_OPTION_CHOICE ? "text" : type_word(row->of));
  if (list || map) segue__buf_adds(out, list ? "list of " : "table of ");
  if (row->type == SEGUE_OPTION_FLAGS) segue__buf_adds(out, "list of ");
  if ((list || map) && row->table && row->table->family)
    segue__buf_addf(out, "%ss", row->table->name);
  else if (row->type == SEGUE_OPTION_SWITCH || row->type == SEGUE_OPTION_FLAGS ||
           row->type == SEGUE_OPTION_CHOICE || ((list || map) && row->of == SEGUE_OPTION_CHOICE))
    add_choices(row->choices, out);
  else
    segue__buf_addf(out, "%s%s", type_word(list || map ? row->of : row->type),
                    list || map ? "s" : "");
}

static const char *limit_text(const segue_option *row, double value, char buf[SEGUE__UNITS_SIZE]) {
  if (row->type == SEGUE_OPTION_DURATION) return segue__duration_text(value, buf);
  if (row->type == SEGUE_OPTION_SIZE) return segue__size_text(value, buf);
  snprintf(buf, SEGUE__UNITS_SIZE, "%.15g", value);
  return buf;
}

static void describe_add_range(const segue_option *row, segue__buf *out) {
  char low[SEGUE__UNITS_SIZE], high[SEGUE__UNITS_SIZE];
  const char *gap = out->len ? " " : "";
  bool items = row->type == SEGUE_OPTION_LIST || row->type == SEGUE_OPTION_MAP;
  const char *unit = items ? row->unit ? row->unit : "items" : row->unit ? row->unit : "";
  double min = row->type == SEGUE_OPTION_COUNT && !row->min ? 1 : row->min;
  limit_text(row, min, low);
  limit_text(row, row->max, high);
  if (row->type == SEGUE_OPTION_DURATION && min == 1 && !row->max)
    segue__buf_addf(out, "%sLonger than 0.", gap);
  else if (items && row->min == 1 && !row->max)
    segue__buf_addf(out, "%sNot empty.", gap);
  else if (row->max && (min || row->type == SEGUE_OPTION_NUMBER))
    segue__buf_addf(out, "%s%s to %s%s%s.", gap, low, high, *unit ? " " : "", unit);
  else if (row->max)
    segue__buf_addf(out, "%sAt most %s%s%s.", gap, high, *unit ? " " : "", unit);
  else if (row->min)
    segue__buf_addf(out, "%sAt least %s%s%s.", gap, low, *unit ? " " : "", unit);
  else if (*unit && !items)
    segue__buf_addf(out, "%sIn %s.", gap, unit);
}

void segue__option_facts(const segue_option *row, segue__buf *out) {
  if (row->flags & SEGUE_OPTION_REQUIRED) segue__buf_adds(out, "Required.");
  if (row->fallback && row->choices)
    segue__buf_addf(out, "%sDefault: \"%s\".", out->len ? " " : "", row->fallback);
  else if (row->fallback || row->absent)
    segue__buf_addf(out, "%sDefault: %s.", out->len ? " " : "",
                    row->fallback ? row->fallback : row->absent);
  describe_add_range(row, out);
}

/* ---- Help ------------------------------------------------------------------------------------ */

enum { COLUMN = 34, WIDTH = 98 };

/* text in lines from COLUMN on; the first line begins where out is. */
static void add_wrapped(segue__buf *out, const char *text) {
  size_t column = COLUMN;
  while (*text) {
    size_t len = strcspn(text, " ");
    if (column > COLUMN && column + 1 + len > WIDTH) {
      segue__buf_addf(out, "\n%*s", COLUMN, "");
      column = COLUMN;
    } else if (column > COLUMN) {
      segue__buf_addc(out, ' ');
      column++;
    }
    segue__buf_add(out, text, len);
    column += len;
    text += len;
    text += strspn(text, " ");
  }
  segue__buf_addc(out, '\n');
}

static void help_table(const segue__topics *topics, const segue_option_table *table, int indent,
                       segue__buf *out);

static void help_row(const segue__topics *topics, const segue_option *row, int indent,
                     segue__buf *out) {
  segue__buf head, facts, text;
  segue__buf_init(&head);
  segue__buf_init(&facts);
  segue__buf_init(&text);
  segue__buf_addf(&head, "%*s%s = ", indent, "", row->name);
  segue__option_word(row, &head);
  segue__option_facts(row, &facts);
  const char *doc = row->doc ? row->doc : "";
  segue__buf_addf(&text, "%s%s%s", doc, *doc && facts.len ? ". " : "", facts.len ? facts.data : "");
  if (!head.failed && !text.failed && !facts.failed) {
    segue__buf_adds(out, head.data);
    if (head.len + 2 > COLUMN)
      segue__buf_addf(out, "\n%*s", COLUMN, "");
    else
      segue__buf_addf(out, "%*s", (int)(COLUMN - head.len), "");
    add_wrapped(out, text.data);
  }
  out->failed |= head.failed || text.failed || facts.failed;
  segue__buf_deinit(&head);
  segue__buf_deinit(&facts);
  segue__buf_deinit(&text);
  const segue__option_kind *topic = row->table ? segue__topic_of(topics, row->table) : NULL;
  if (topic && !topic->table->family) {
    segue__buf_addf(out, "%*ssee: segue help options ", COLUMN, "");
    segue__topic_title(topic, out);
    segue__buf_addc(out, '\n');
  } else if (row->table && !topic) {
    help_table(topics, row->table, indent + 2, out);
  }
}

static void help_table(const segue__topics *topics, const segue_option_table *table, int indent,
                       segue__buf *out) {
  const segue_option *row;
  for (size_t i = 0; table && (row = segue__options_row(table, i)); i++)
    if (!(row->flags & SEGUE_OPTION_HIDDEN)) help_row(topics, row, indent, out);
}

static void help_topics(const segue__topics *topics, segue__buf *out) {
  segue__buf_adds(out, "segue help options TOPIC describes the options of a policy. Topics:\n");
  for (size_t i = 0; i < topics->count; i++) {
    size_t before = out->len;
    segue__buf_adds(out, "  ");
    segue__topic_title(&topics->items[i], out);
    size_t used = out->len - before;
    const segue_option_table *table = topics->items[i].table;
    segue__buf_addf(out, "%*s%s\n", used < 24 ? (int)(24 - used) : 1, "",
                    table && table->doc ? table->doc : "");
  }
}

/* The table of the family of a kind, which has rows for all of its kinds. */
static const segue_option_table *family_of(const segue__topics *topics,
                                           const segue__option_kind *topic) {
  for (size_t i = 0; topic->name && i < topics->count; i++)
    if (!topics->items[i].name && !strcmp(topics->items[i].family, topic->family))
      return topics->items[i].table;
  return NULL;
}

void segue__describe_help(const segue__topics *topics, const segue__option_kind *topic,
                          segue__buf *out) {
  if (!topic) {
    help_topics(topics, out);
    return;
  }
  segue__topic_title(topic, out);
  segue__buf_addf(out, ": %s\n", topic->table && topic->table->doc ? topic->table->doc : "");
  if (topic->table) help_table(topics, topic->table, 2, out);
  const segue_option_table *family = family_of(topics, topic);
  if (family && family->count) {
    segue__buf_addf(out, "and as every %s:\n", topic->family);
    help_table(topics, family, 2, out);
  }
}
