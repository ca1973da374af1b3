/* SPDX-License-Identifier: MIT
 *
 * Options that are one value: text, times, sizes, numbers, choices.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../config/config.h"
#include "../os/units.h"
#include "fill.h"

enum { COUNT_MAX_BITS = 50 }; /* a Lua number holds more exactly, and nothing counts further */

bool segue__option_is_scalar(segue_option_type type) {
  return type != SEGUE_OPTION_LIST && type != SEGUE_OPTION_MAP && type != SEGUE_OPTION_TABLE;
}

size_t segue__option_scalar_size(segue_option_type type) {
  switch (type) {
  case SEGUE_OPTION_TEXT:
  case SEGUE_OPTION_PATH:
    return sizeof(char *);
  case SEGUE_OPTION_STRING:
    return sizeof(segue_option_string);
  case SEGUE_OPTION_BOOLEAN:
  case SEGUE_OPTION_SWITCH:
    return sizeof(bool);
  case SEGUE_OPTION_FLAGS:
  case SEGUE_OPTION_MODE:
    return sizeof(unsigned);
  case SEGUE_OPTION_CHOICE:
  case SEGUE_OPTION_FUNCTION:
    return sizeof(int);
  case SEGUE_OPTION_ANY:
    return sizeof(const segue_node *);
  default:
    return sizeof(uint64_t);
  }
}

/* ---- Texts ----------------------------------------------------------------------------------- */

/* A text, or a number where the row allows it: then *made holds it. NULL: it is none. */
static const char *scalar_text(const segue_option *row, const segue_node *node, segue__buf *made,
                               size_t *len) {
  if (node->type == SEGUE_STRING) {
    *len = node->count;
    return node->v.s;
  }
  if (!(row->flags & SEGUE_OPTION_NUMBERS) ||
      (node->type != SEGUE_INT && node->type != SEGUE_FLOAT))
    return NULL;
  segue__json_write(made, node, 0);
  *len = made->len;
  return made->data;
}

static char *scalar_path(const segue__fill *j, const char *s, size_t len) {
  const char *folder = j->env->folder ? j->env->folder : "";
  if (!*folder || *s == '/') return segue__strndup(s, len);
  segue__buf path;
  segue__buf_init(&path);
  segue__buf_addf(&path, "%s/", strcmp(folder, "/") ? folder : "");
  segue__buf_add(&path, s, len);
  if (!path.failed) return path.data;
  segue__buf_deinit(&path);
  return NULL;
}

static void scalar_take_text(segue__fill *j, const segue_option *row, segue_option_type type,
                             const segue_node *node, void *at) {
  segue__buf made;
  size_t len = 0;
  segue__buf_init(&made);
  const char *s = scalar_text(row, node, &made, &len);
  if (made.failed) {
    segue__fill_no_memory(j);
  } else if (!s) {
    segue__fill_wrong_type(j, row, type, node);
  } else if (type == SEGUE_OPTION_STRING) {
    char *copy = segue__strndup(s, len); /* also bytes that are 0 */
    *(segue_option_string *)at = (segue_option_string){copy, copy ? len : 0};
    if (!copy) segue__fill_no_memory(j);
  } else if (!len) {
    segue__fill_wrong(j, node, "must not be empty");
  } else if (memchr(s, 0, len)) {
    segue__fill_wrong(j, node, "must not contain a zero byte");
  } else {
    char **out = at;
    *out = type == SEGUE_OPTION_PATH ? scalar_path(j, s, len) : segue__strndup(s, len);
    if (!*out) segue__fill_no_memory(j);
  }
  segue__buf_deinit(&made);
}

/* ---- Numbers --------------------------------------------------------------------------------- */

static const char *show_limit(segue_option_type type, double value, char buf[SEGUE__UNITS_SIZE]) {
  if (type == SEGUE_OPTION_DURATION) return segue__duration_text(value, buf);
  if (type == SEGUE_OPTION_SIZE) return segue__size_text(value, buf);
  snprintf(buf, SEGUE__UNITS_SIZE, "%.15g", value);
  return buf;
}

/* Returns whether value is in the range of the row; else the error is added. */
static bool in_range(segue__fill *j, const segue_option *row, segue_option_type type,
                     const segue_node *node, double value, double min, double max) {
  char low[SEGUE__UNITS_SIZE], high[SEGUE__UNITS_SIZE], found[128];
  if (value >= min && value <= max) return true;
  segue__fill_found(j, row, node, found, sizeof found);
  show_limit(type, min, low);
  show_limit(type, max, high);
  if (type == SEGUE_OPTION_DURATION && min == 1 && value < min)
    segue__fill_wrong(j, node, "must be longer than 0%s", found);
  else if (value < min && !row->max)
    segue__fill_wrong(j, node, "must be at least %s%s", low, found);
  else if (value > max && !row->min && !min && type != SEGUE_OPTION_NUMBER)
    segue__fill_wrong(j, node, "must be at most %s%s", high, found);
  else
    segue__fill_wrong(j, node, "must be between %s and %s%s", low, high, found);
  return false;
}

static bool node_number(const segue_node *node, double *out) {
  if (node->type == SEGUE_FLOAT)
    *out = node->v.f;
  else if (node->type == SEGUE_INT)
    *out = node->flags & SEGUE__NODE_UNSIGNED ? (double)node->v.u : (double)node->v.i;
  else
    return false;
  return !isnan(*out);
}

/* A duration or size: a text with a unit, or a number. */
static bool node_measure(segue_option_type type, const segue_node *node, double *out) {
  if (node->type == SEGUE_STRING)
    return type == SEGUE_OPTION_DURATION ? segue__duration_read(node->v.s, node->count, out)
                                         : segue__size_read(node->v.s, node->count, out);
  if (!node_number(node, out)) return false;
  if (type == SEGUE_OPTION_DURATION) *out *= 1000;
  return true;
}

static void take_measure(segue__fill *j, const segue_option *row, segue_option_type type,
                         const segue_node *node, uint64_t *at) {
  double value, most = type == SEGUE_OPTION_DURATION ? SEGUE__DURATION_MAX_MS
                                                     : (double)(UINT64_C(1) << COUNT_MAX_BITS);
  double min = row->min ? row->min : type == SEGUE_OPTION_SIZE ? 1 : 0;
  if (!node_measure(type, node, &value))
    segue__fill_wrong_type(j, row, type, node);
  else if (in_range(j, row, type, node, value, min, row->max ? row->max : most))
    *at = (uint64_t)(value + 0.5);
}

static void scalar_take_number(segue__fill *j, const segue_option *row, segue_option_type type,
                               const segue_node *node, void *at) {
  double value,
      most = type == SEGUE_OPTION_NUMBER ? HUGE_VAL : (double)(UINT64_C(1) << COUNT_MAX_BITS);
  double min = row->min                       ? row->min
               : row->max                     ? 0
               : type == SEGUE_OPTION_INTEGER ? -most
               : type == SEGUE_OPTION_COUNT   ? 1
                                              : -HUGE_VAL;
  if (type == SEGUE_OPTION_COUNT && !row->min) min = 1;
  bool whole = type != SEGUE_OPTION_NUMBER;
  if (!node_number(node, &value) || (whole && value != floor(value)))
    segue__fill_wrong_type(j, row, type, node);
  else if (!in_range(j, row, type, node, value, min, row->max ? row->max : most))
    return;
  else if (type == SEGUE_OPTION_NUMBER)
    *(double *)at = value;
  else if (type == SEGUE_OPTION_INTEGER)
    *(int64_t *)at = (int64_t)value;
  else
    *(uint64_t *)at = (uint64_t)value;
}

/* ---- All ------------------------------------------------------------------------------------- */

static void take_choice(segue__fill *j, const segue_option *row, segue_option_type type,
                        const segue_node *node, int *at) {
  int index =
      node->type == SEGUE_STRING ? segue__choices_find(row->choices, node->v.s, node->count) : -1;
  if (index < 0)
    segue__fill_wrong_type(j, row, type, node);
  else
    *at = index;
}

static void take_switch(segue__fill *j, const segue_option *row, const segue_node *node, bool *at) {
  size_t len;
  int index = -1;
  take_choice(j, row, SEGUE_OPTION_SWITCH, node, &index);
  if (index >= 0) *at = !segue__choices_at(row->choices, (size_t)index + 1, &len);
}

static void take_flags(segue__fill *j, const segue_option *row, const segue_node *node,
                       unsigned *at) {
  bool empty = node->type == SEGUE_MAP && !node->count;
  if (node->type != SEGUE_LIST && !empty) segue__fill_wrong_type(j, row, SEGUE_OPTION_FLAGS, node);
  for (uint32_t i = 0; node->type == SEGUE_LIST && i < node->count; i++) {
    size_t before = segue__fill_enter_item(j, i);
    int index = -1;
    take_choice(j, row, SEGUE_OPTION_CHOICE, &node->v.items[i], &index);
    if (index >= 0) *at |= 1u << index;
    segue__fill_leave(j, before);
  }
}

/* "10/s" */
static bool read_rate(const segue_node *node, double *out) {
  static const struct {
    char unit;
    double seconds;
  } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}};
  char digits[16];
  if (node->type != SEGUE_STRING) return false;
  const char *slash = memchr(node->v.s, '/', node->count);
  size_t len = slash ? (size_t)(slash - node->v.s) : 0;
  *out = 0;
  if (node->count == 4 && !memcmp(node->v.s, "none", 4)) return true;
  if (!len || len >= sizeof digits || len + 2 != node->count) return false;
  memcpy(digits, node->v.s, len);
  digits[len] = 0;
  if (strspn(digits, "0123456789") != len || !strtod(digits, NULL)) return false;
  for (size_t i = 0; i < sizeof units / sizeof *units; i++)
    if (units[i].unit == slash[1]) *out = strtod(digits, NULL) / units[i].seconds;
  return *out > 0;
}

/* "0644", "644": text, for a number 0644 is 644 in Lua and in YAML. */
static bool read_mode(const segue_node *node, unsigned *out) {
  if (node->type != SEGUE_STRING || (node->count != 3 && node->count != 4)) return false;
  if (strspn(node->v.s, "01234567") != node->count) return false;
  *out = (unsigned)strtoul(node->v.s, NULL, 8);
  return true;
}

void segue__option_scalar(segue__fill *j, const segue_option *row, segue_option_type type,
                          const segue_node *node, void *at) {
  bool function = node->flags & SEGUE__NODE_OPAQUE && node->reserved == SEGUE__OPAQUE_FUNCTION;
  switch (type) {
  case SEGUE_OPTION_TEXT:
  case SEGUE_OPTION_PATH:
  case SEGUE_OPTION_STRING:
    scalar_take_text(j, row, type, node, at);
    break;
  case SEGUE_OPTION_DURATION:
  case SEGUE_OPTION_SIZE:
    take_measure(j, row, type, node, at);
    break;
  case SEGUE_OPTION_BOOLEAN:
    if (node->type == SEGUE_BOOL)
      *(bool *)at = node->v.b;
    else
      segue__fill_wrong_type(j, row, type, node);
    break;
  case SEGUE_OPTION_CHOICE:
    take_choice(j, row, type, node, at);
    break;
  case SEGUE_OPTION_SWITCH:
    take_switch(j, row, node, at);
    break;
  case SEGUE_OPTION_FLAGS:
    take_flags(j, row, node, at);
    break;
  case SEGUE_OPTION_RATE:
    if (!read_rate(node, at)) segue__fill_wrong_type(j, row, type, node);
    break;
  case SEGUE_OPTION_MODE:
    if (!read_mode(node, at)) segue__fill_wrong_type(j, row, type, node);
    break;
  case SEGUE_OPTION_FUNCTION:
    if (function)
      *(int *)at = (int)node->v.u;
    else
      segue__fill_wrong_type(j, row, type, node);
    break;
  case SEGUE_OPTION_ANY:
    *(const segue_node **)at = node;
    break;
  default:
    scalar_take_number(j, row, type, node, at);
  }
}

/* The default as the node that a user's text would have made. It passes the same validation, so
 * that a default out of its own range is found by the first spec that loads the table. */
void segue__option_fallback(segue__fill *j, const segue_option *row, void *at) {
  const char *text = row->fallback;
  segue_node node = {.type = SEGUE_STRING, .count = (uint32_t)strlen(text), .v.s = text};
  if (row->type == SEGUE_OPTION_BOOLEAN) {
    node.type = SEGUE_BOOL;
    node.v.b = !strcmp(text, "true");
  } else if (row->type == SEGUE_OPTION_COUNT || row->type == SEGUE_OPTION_INTEGER ||
             row->type == SEGUE_OPTION_NUMBER) {
    node.type = SEGUE_FLOAT;
    node.v.f = strtod(text, NULL);
  }
  segue__option_scalar(j, row, row->type, &node, at);
}

void segue__option_scalar_free(segue_option_type type, void *at) {
  if (type == SEGUE_OPTION_TEXT || type == SEGUE_OPTION_PATH)
    segue__free(*(char **)at);
  else if (type == SEGUE_OPTION_STRING)
    segue__free(((segue_option_string *)at)->data);
}
