/* SPDX-License-Identifier: MIT
 *
 * The errors of a validation. All have the words of configuration errors: "PATH must be EXPECTED,
 * not FOUND", with the file and line of the value.
 */
#include "fill.h"

#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../config/path.h"
#include "../config/quote.h"
#include "../os/units.h"

/* ---- Path ------------------------------------------------------------------------------------ */

size_t segue__fill_enter_key(segue__fill *j, const char *key, size_t len) {
  size_t before = j->path.len;
  segue__path_add_key(&j->path, key, len);
  return before;
}

size_t segue__fill_enter_item(segue__fill *j, size_t index) {
  size_t before = j->path.len;
  segue__path_add_index(&j->path, index + j->env->first);
  return before;
}

void segue__fill_leave(segue__fill *j, size_t path_len) {
  if (j->path.failed) return;
  j->path.len = path_len;
  if (j->path.data) j->path.data[path_len] = 0;
}

/* ---- Errors ---------------------------------------------------------------------------------- */

static const char *fill_path(const segue__fill *j) {
  return j->path.len && !j->path.failed ? j->path.data : "";
}

static void fill_add(segue__fill *j, segue_error *err) {
  j->count++;
  if (!j->rc) j->rc = err->code;
  if (j->errors) segue__errors_add(j->errors, err);
}

void segue__fill_wrong_at(segue__fill *j, uint32_t document, uint32_t line, uint32_t column,
                          const char *format, va_list args) {
  const char *path = fill_path(j), *subject = j->env->subject ? j->env->subject : "";
  char text[sizeof((segue_error *)0)->message];
  segue_error err;
  vsnprintf(text, sizeof text, format, args);
  segue__errorf(&err, j->env->code ? j->env->code : SEGUE_EPOLICY, "%s%s%s%s%s", subject,
                *subject && *path ? ": " : "", path, *subject || *path ? " " : "", text);
  /* A path of one step is the beginning of the sentence already. */
  if (strpbrk(path, ".[")) segue__error_path(&err, path);
  segue__error_set_place(&err, j->env->file ? j->env->file(j->env->data, document) : NULL, line,
                         column);
  fill_add(j, &err);
}

void segue__fill_wrong(segue__fill *j, const segue_node *node, const char *format, ...) {
  va_list args;
  va_start(args, format);
  segue__fill_wrong_at(j, node->document, node->line, node->column, format, args);
  va_end(args);
}

void segue__fill_no_memory(segue__fill *j) {
  segue_error err;
  if (j->rc == UV_ENOMEM) return;
  segue__errorf(&err, UV_ENOMEM, "out of memory");
  j->rc = UV_ENOMEM; /* also if a mistake was found before */
  fill_add(j, &err);
}

const char *segue__fill_found(const segue__fill *j, const segue_option *row, const segue_node *node,
                              char *buf, size_t size) {
  segue__quoted shown;
  bool container = node->type == SEGUE_MAP || node->type == SEGUE_LIST;
  bool hidden = j->env->hide || (row && row->flags & SEGUE_OPTION_SECRET);
  buf[0] = 0;
  if (node->flags & SEGUE__NODE_OPAQUE)
    snprintf(buf, size, ", not a %s",
             node->reserved == SEGUE__OPAQUE_FUNCTION ? "function" : "value that is no data");
  else if (container && !j->env->file)
    snprintf(buf, size, ", not a %s", node->type == SEGUE_MAP ? "map" : "list");
  else if (container)
    snprintf(buf, size, ", not a %s", node->type == SEGUE_MAP ? "table" : "list");
  else if (!hidden)
    snprintf(buf, size, ", not %s", segue__quote_node(&shown, true, node));
  return buf;
}

static void expect_type(const segue_option *row, segue_option_type type, segue__buf *out);
static void expect_option(const segue_option *row, segue__buf *out);

void segue__fill_wrong_type(segue__fill *j, const segue_option *row, segue_option_type type,
                            const segue_node *node) {
  char found[128];
  segue__buf expected;
  segue__buf_init(&expected);
  if (j->outer || type == row->type)
    expect_option(j->outer ? j->outer : row, &expected);
  else
    expect_type(row, type, &expected); /* an item */
  if (row->flags & SEGUE_OPTION_FALSE && type != row->type) segue__buf_adds(&expected, " or false");
  /* A table where a word belongs is more than a typing error: the example has what is possible. */
  bool shows_example =
      row->type == SEGUE_OPTION_CHOICE && row->example && node->type != SEGUE_STRING;
  if (expected.failed || !expected.data)
    segue__fill_no_memory(j);
  else
    segue__fill_wrong(j, node, "must be %s%s%s%s", expected.data,
                      segue__fill_found(j, row, node, found, sizeof found),
                      shows_example ? ": " : "", shows_example ? row->example : "");
  segue__buf_deinit(&expected);
}

/* ---- Expected -------------------------------------------------------------------------------- */

static void expect_choices(const char *choices, segue__buf *out) {
  const char *s;
  size_t len, next_len;
  for (size_t i = 0; (s = segue__choices_at(choices, i, &len)); i++) {
    bool last = !segue__choices_at(choices, i + 1, &next_len);
    segue__buf_addf(out, "%s\"%.*s\"", !i ? "" : last ? " or " : ", ", (int)len, s);
  }
}

static void expect_type(const segue_option *row, segue_option_type type, segue__buf *out) {
  static const char *const names[] = {
      [SEGUE_OPTION_TEXT] = "a text",
      [SEGUE_OPTION_PATH] = "the path of a file",
      [SEGUE_OPTION_STRING] = "a text",
      [SEGUE_OPTION_DURATION] = "a duration such as 500ms, 10s or 1h30m",
      [SEGUE_OPTION_SIZE] = "a size such as 16MiB",
      [SEGUE_OPTION_COUNT] = "a whole number",
      [SEGUE_OPTION_INTEGER] = "a whole number",
      [SEGUE_OPTION_NUMBER] = "a number",
      [SEGUE_OPTION_BOOLEAN] = "true or false",
      [SEGUE_OPTION_FUNCTION] = "a function",
      [SEGUE_OPTION_ANY] = "a value",
      [SEGUE_OPTION_TABLE] = "a table",
      [SEGUE_OPTION_RATE] = "a rate such as 10/s, 600/m or 1000/h, or \"none\"",
      [SEGUE_OPTION_MODE] = "permissions such as \"0644\"",
  };
  if (type == SEGUE_OPTION_FLAGS) segue__buf_adds(out, "a list of ");
  if (type == SEGUE_OPTION_CHOICE || type == SEGUE_OPTION_SWITCH || type == SEGUE_OPTION_FLAGS)
    expect_choices(row->choices, out);
  else
    segue__buf_adds(out, names[type]);
}

static void expect_items(const segue_option *row, segue__buf *out) {
  static const char *const names[] = {
      [SEGUE_OPTION_TEXT] = "texts",
      [SEGUE_OPTION_PATH] = "paths",
      [SEGUE_OPTION_STRING] = "texts",
      [SEGUE_OPTION_DURATION] = "durations",
      [SEGUE_OPTION_SIZE] = "sizes",
      [SEGUE_OPTION_COUNT] = "whole numbers",
      [SEGUE_OPTION_INTEGER] = "whole numbers",
      [SEGUE_OPTION_NUMBER] = "numbers",
      [SEGUE_OPTION_BOOLEAN] = "booleans",
      [SEGUE_OPTION_FUNCTION] = "functions",
      [SEGUE_OPTION_ANY] = "values",
      [SEGUE_OPTION_TABLE] = "tables",
  };
  if (row->flags & SEGUE_OPTION_ONE && row->type == SEGUE_OPTION_LIST) {
    expect_type(row, row->of, out);
    segue__buf_adds(out, " or ");
  }
  segue__buf_adds(out, row->type == SEGUE_OPTION_LIST ? "a list of " : "a table of ");
  if (row->table && row->table->family)
    segue__buf_addf(out, "%ss", row->table->name);
  else if (row->of == SEGUE_OPTION_CHOICE)
    expect_choices(row->choices, out);
  else
    segue__buf_adds(out, names[row->of]);
}

static void expect_table(const segue_option *row, segue__buf *out) {
  if (row->table->tag && row->shorthand) {
    segue__buf_addf(out, "a function or a %s such as %s", row->table->name, row->table->tag);
    return;
  }
  const segue_option *inner =
      row->shorthand ? segue__options_find(row->table, row->shorthand, strlen(row->shorthand))
                     : NULL;
  if (row->flags & SEGUE_OPTION_TRUE) segue__buf_addf(out, "true%s", inner ? ", " : " or ");
  if (inner) {
    expect_option(inner, out);
    segue__buf_adds(out, segue__options_function(row) ? ", a function or " : " or ");
  }
  segue__buf_adds(out, "a table");
}

/* "a duration such as 500ms, 10s or 1h30m": the expected value. */
static void expect_option(const segue_option *row, segue__buf *out) {
  if (row->type == SEGUE_OPTION_LIST || row->type == SEGUE_OPTION_MAP)
    expect_items(row, out);
  else if (row->type == SEGUE_OPTION_TABLE)
    expect_table(row, out);
  else
    expect_type(row, row->type, out);
}

/* ---- Choices --------------------------------------------------------------------------------- */

const char *segue__choices_at(const char *choices, size_t index, size_t *len) {
  for (; choices; index--) {
    const char *bar = strchr(choices, '|');
    *len = bar ? (size_t)(bar - choices) : strlen(choices);
    if (!index) return choices;
    choices = bar ? bar + 1 : NULL;
  }
  return NULL;
}

int segue__choices_find(const char *choices, const char *text, size_t len) {
  const char *s;
  size_t n;
  for (size_t i = 0; (s = segue__choices_at(choices, i, &n)); i++)
    if (n == len && !memcmp(s, text, n)) return (int)i;
  return -1;
}
