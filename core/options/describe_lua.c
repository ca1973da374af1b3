/* SPDX-License-Identifier: MIT
 *
 * LuaCATS classes: what editors complete and check in a policy.
 */
#include <string.h>

#include "describe_internal.h"
#include "fill.h"

/* "source url" -> segue.SourceUrl */
static void lua_class(const segue__topics *topics, const segue_option_table *table,
                      segue__buf *out) {
  const segue__option_kind *topic = segue__topic_of(topics, table);
  segue__buf title;
  segue__buf_init(&title);
  if (topic)
    segue__topic_title(topic, &title);
  else
    segue__buf_adds(&title, table->name);
  out->failed |= title.failed;
  segue__buf_adds(out, "segue.");
  bool start = true;
  for (const char *s = title.failed ? "" : title.data; *s; s++) {
    bool letter = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z');
    if (letter) segue__buf_addc(out, start && *s >= 'a' ? (char)(*s - 'a' + 'A') : *s);
    start = !letter;
  }
  segue__buf_deinit(&title);
}

static void lua_choices(const char *choices, segue__buf *out) {
  const char *s;
  size_t len;
  for (size_t i = 0; (s = segue__choices_at(choices, i, &len)); i++)
    segue__buf_addf(out, "%s\"%.*s\"", i ? "|" : "", (int)len, s);
}

static void lua_table(const segue__topics *topics, const segue_option_table *table,
                      segue__buf *out) {
  const segue__option_kind *kind;
  static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
  if (table->tag) { /* made by a constructor: segue.Source */
    segue__buf_addf(out, "segue.%c%s", table->name[0] - 'a' + 'A', table->name + 1);
    (void)letters;
    return;
  }
  if (!segue__topic_kind(topics, table, 0)) {
    lua_class(topics, table, out);
    return;
  }
  for (size_t i = 0; (kind = segue__topic_kind(topics, table, i)); i++) {
    if (i) segue__buf_addc(out, '|');
    lua_class(topics, kind->table ? kind->table : table, out);
  }
}

static void lua_type(const segue__topics *topics, const segue_option *row, segue_option_type type,
                     segue__buf *out) {
  static const char *const names[] = {
      [SEGUE_OPTION_TEXT] = "string",         [SEGUE_OPTION_PATH] = "string",
      [SEGUE_OPTION_STRING] = "string",       [SEGUE_OPTION_DURATION] = "segue.Duration",
      [SEGUE_OPTION_SIZE] = "integer|string", [SEGUE_OPTION_COUNT] = "integer",
      [SEGUE_OPTION_INTEGER] = "integer",     [SEGUE_OPTION_NUMBER] = "number",
      [SEGUE_OPTION_BOOLEAN] = "boolean",     [SEGUE_OPTION_ANY] = "any",
      [SEGUE_OPTION_FUNCTION] = "function",   [SEGUE_OPTION_RATE] = "string",
      [SEGUE_OPTION_MODE] = "string",
  };
  if (type == SEGUE_OPTION_FLAGS) segue__buf_addc(out, '(');
  if (type == SEGUE_OPTION_CHOICE || type == SEGUE_OPTION_SWITCH || type == SEGUE_OPTION_FLAGS)
    lua_choices(row->choices, out);
  else if (type == SEGUE_OPTION_TABLE)
    lua_table(topics, row->table, out);
  else if (type == SEGUE_OPTION_FUNCTION && row->signature)
    segue__buf_adds(out, row->signature);
  else
    segue__buf_adds(out, names[type]);
  if (type == SEGUE_OPTION_FLAGS) segue__buf_adds(out, ")[]");
  if (row->flags & SEGUE_OPTION_NUMBERS) segue__buf_adds(out, "|number");
}

enum { LINE_MAX_LEN = 98 };

/* The documentation of a field, in lines of a comment. */
static void lua_comment(segue__buf *out, const char *doc, const char *facts) {
  const char *parts[] = {doc, facts ? ". " : "", facts ? facts : ""};
  size_t column = 3;
  segue__buf_adds(out, "---");
  for (size_t i = 0; i < 3; i++)
    for (const char *s = parts[i]; s && *s;) {
      size_t len = strcspn(s, " ");
      bool glued = i == 1; /* the full stop */
      if (!glued && column > 4 && column + 1 + len > LINE_MAX_LEN) {
        segue__buf_adds(out, "\n---");
        column = 3;
      }
      if (!glued) segue__buf_addc(out, ' ');
      segue__buf_add(out, s, len);
      column += len + !glued;
      s += len;
      s += strspn(s, " ");
    }
  segue__buf_addc(out, '\n');
}

static void lua_row(const segue__topics *topics, const segue_option *row, segue__buf *out) {
  bool list = row->type == SEGUE_OPTION_LIST, map = row->type == SEGUE_OPTION_MAP;
  bool required = row->flags & SEGUE_OPTION_REQUIRED;
  segue__buf facts;
  segue__buf_init(&facts);
  segue__option_facts(row, &facts);
  out->failed |= facts.failed;
  lua_comment(out, row->doc, facts.data);
  segue__buf_deinit(&facts);
  segue__buf_addf(out, "---@field %s%s ", row->name, required ? "" : "?");
  const segue_option *inner =
      row->shorthand && row->type == SEGUE_OPTION_TABLE
          ? segue__options_find(row->table, row->shorthand, strlen(row->shorthand))
          : NULL;
  if (row->flags & SEGUE_OPTION_TRUE) segue__buf_adds(out, "true|");
  if (inner) {
    lua_type(topics, inner, inner->type, out);
    segue__buf_addc(out, '|');
    const segue_option *function = segue__options_function(row);
    if (function) lua_type(topics, function, function->type, out);
    if (function) segue__buf_addc(out, '|');
  }
  if (list && row->flags & SEGUE_OPTION_ONE) {
    lua_type(topics, row, row->of, out);
    segue__buf_addc(out, '|');
  }
  if (map)
    segue__buf_addf(out, "table<string%s, ", row->flags & SEGUE_OPTION_KEYLESS ? "|integer" : "");
  if (list) segue__buf_addc(out, '(');
  lua_type(topics, row, list || map ? row->of : row->type, out);
  if (list) segue__buf_adds(out, ")[]");
  if (map && row->flags & SEGUE_OPTION_ONE) segue__buf_adds(out, "|string[]");
  if (map && row->flags & SEGUE_OPTION_FALSE) segue__buf_adds(out, "|false");
  if (map) segue__buf_addc(out, '>');
  segue__buf_addc(out, '\n');
}

static void lua_positional(const segue__topics *topics, const segue_option_table *table,
                           segue__buf *out) {
  const segue_option *row =
      table->positional ? segue__options_find(table, table->positional, strlen(table->positional))
                        : NULL;
  if (!row) return;
  bool list = row->type == SEGUE_OPTION_LIST;
  segue__buf_addf(out, "---@field %s ", list ? "[integer]?" : "[1]?");
  lua_type(topics, row, list ? row->of : row->type, out);
  segue__buf_addf(out, " the same as %s\n", row->name);
}

static const segue_option_table *lua_parent(const segue__topics *topics,
                                            const segue_option_table *table) {
  const segue__option_kind *topic = segue__topic_of(topics, table);
  for (size_t i = 0; topic && topic->name && i < topics->count; i++)
    if (!topics->items[i].name && !strcmp(topics->items[i].family, topic->family) &&
        !topics->items[i].table->tag)
      return topics->items[i].table;
  return NULL;
}

void segue__describe_lua(const segue__topics *topics, segue__buf *out) {
  segue__tables tables;
  segue__tables_collect(topics, &tables);
  for (size_t t = 0; t < tables.count; t++) {
    const segue_option_table *table = tables.items[t];
    const segue_option_table *parent = lua_parent(topics, table);
    const segue_option *row;
    if (table->tag) continue;
    if (out->len) segue__buf_addc(out, '\n');
    if (table->doc) segue__buf_addf(out, "--- %s\n", table->doc);
    segue__buf_adds(out, "---@class ");
    lua_class(topics, table, out);
    if (parent) {
      segue__buf_adds(out, ": ");
      lua_class(topics, parent, out);
    }
    segue__buf_addc(out, '\n');
    if (table->family) segue__buf_adds(out, "---@field kind string\n");
    lua_positional(topics, table, out);
    for (size_t i = 0; (row = segue__options_row(table, i)); i++)
      if (!(row->flags & SEGUE_OPTION_HIDDEN)) lua_row(topics, row, out);
  }
}
