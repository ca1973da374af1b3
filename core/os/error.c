/* SPDX-License-Identifier: MIT
 *
 * Errors as text: names and meanings of codes, and the position in front of a message.
 */
#include "error.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "mem.h"
#include "text.h"

const char *segue_error_name(int code) {
  switch (code) {
  case 0:
    return "OK";
#define X(name, number, meaning)                                                                   \
  case number:                                                                                     \
    return "SEGUE_E" #name;
    SEGUE_ERRORS(X)
#undef X
#define X(name, meaning)                                                                           \
  case UV_##name:                                                                                  \
    return #name;
    UV_ERRNO_MAP(X)
#undef X
  default:
    return "UNKNOWN";
  }
}

int segue__error_find(const char *name) {
  static const struct {
    const char *name;
    int code;
  } all[] = {
#define X(name, number, meaning) {"SEGUE_E" #name, number},
      SEGUE_ERRORS(X)
#undef X
#define X(name, meaning) {#name, UV_##name},
          UV_ERRNO_MAP(X)
#undef X
  };
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    if (strcmp(all[i].name, name) == 0) return all[i].code;
  return 0;
}

const char *segue_strerror(int code) {
  switch (code) {
  case 0:
    return "no error";
#define X(name, number, meaning)                                                                   \
  case number:                                                                                     \
    return meaning;
    SEGUE_ERRORS(X)
#undef X
#define X(name, meaning)                                                                           \
  case UV_##name:                                                                                  \
    return meaning;
    UV_ERRNO_MAP(X)
#undef X
  default:
    return "unknown error";
  }
}

const char *segue_version(void) {
  return SEGUE_VERSION;
}

const char *segue_type_name(segue_type type) {
  static const char *const names[] = {"null",   "boolean", "integer", "float",
                                      "string", "list",    "map"};
  return (unsigned)type <= SEGUE_MAP ? names[type] : "unknown";
}

static bool of_name(char c) {
  return isalnum((unsigned char)c) || segue__is_one_of(c, "_-./[]") || (unsigned char)c > 127;
}

/* Returns whether the message already contains the name as a whole word; then it is not repeated. A
 * plain word without "." "/" or "[" may mean something else in the message, so it does not count.
 */
static bool error_says(const char *message, const char *name) {
  size_t len = strlen(name);
  if (!strpbrk(name, "./[")) return false;
  for (const char *at = strstr(message, name); at; at = strstr(at + 1, name))
    if ((at == message || !of_name(at[-1])) && !of_name(at[len])) return true;
  return false;
}

/* The format of compilers, FILE:LINE:COLUMN: MESSAGE, so that editors find the place. */
size_t segue_error_format(const segue_error *error, char *buf, size_t size) {
  const char *place = error->file[0] ? error->file : error->source;
  char where[400] = "";
  if (place[0] && error->line && error->column)
    snprintf(where, sizeof where, "%s:%u:%u: ", place, error->line, error->column);
  else if (place[0] && error->line)
    snprintf(where, sizeof where, "%s:%u: ", place, error->line);
  else if (place[0] && !error_says(error->message, place))
    snprintf(where, sizeof where, "%s: ", place);
  bool tell_path = error->path[0] && !error_says(error->message, error->path);
  int n = snprintf(buf, size, "%s%s%s%s%s", where,
                   error->message[0] ? error->message : segue_strerror(error->code),
                   tell_path ? " (at " : "", tell_path ? error->path : "", tell_path ? ")" : "");
  return n < 0 ? 0 : (size_t)n;
}

static void error_copy(char *to, size_t size, const char *from) {
  size_t len = strlen(from);
  if (len >= size) len = size - 1;
  memcpy(to, from, len);
  to[len] = 0;
}

void segue__error_vset(segue_error *err, int code, const char *format, va_list args) {
  memset(err, 0, sizeof *err);
  err->code = code;
  vsnprintf(err->message, sizeof err->message, format, args);
}

int segue__errorf(segue_error *err, int code, const char *format, ...) {
  if (!err) return code;
  va_list args;
  va_start(args, format);
  segue__error_vset(err, code, format, args);
  va_end(args);
  return code;
}

void segue__error_set_place(segue_error *err, const char *file, uint32_t line, uint32_t column) {
  if (!err) return;
  if (file) error_copy(err->file, sizeof err->file, file);
  if (line) err->line = line;
  if (column) err->column = column;
}

/* Returns whether a step of a path begins at this character. */
static bool begins_step(char c) {
  return c == '[' || c == '.';
}

static bool inside_character(char c) {
  return ((unsigned char)c & 0xc0) == 0x80;
}

/* A path that is too long keeps its beginning and its end, in whole steps where there are any. */
static void error_shorten(char *to, size_t size, const char *from, size_t len) {
  static const char gap[] = "\xe2\x80\xa6"; /* the sign of an ellipsis */
  size_t room = size - sizeof gap, head = room / 2, tail = len - (room - room / 2);
  size_t whole_head = head, whole_tail = tail;
  while (whole_head && !begins_step(from[whole_head]))
    whole_head--;
  while (whole_tail < len && !begins_step(from[whole_tail]))
    whole_tail++;
  while (head && inside_character(from[head]))
    head--;
  while (inside_character(from[tail]))
    tail++;
  if (whole_head) head = whole_head;
  if (whole_tail < len) tail = whole_tail;
  memcpy(to, from, head);
  memcpy(to + head, gap, sizeof gap - 1);
  memcpy(to + head + sizeof gap - 1, from + tail, len - tail + 1);
}

void segue__error_path(segue_error *err, const char *path) {
  if (!err || !path) return;
  size_t len = strlen(path);
  if (len < sizeof err->path)
    memcpy(err->path, path, len + 1);
  else
    error_shorten(err->path, sizeof err->path, path, len);
}

void segue__error_source(segue_error *err, const char *source) {
  if (err && source) error_copy(err->source, sizeof err->source, source);
}

void segue__errors_init(segue__errors *list) {
  memset(list, 0, sizeof *list);
}

void segue__errors_deinit(segue__errors *list) {
  segue__free(list->items);
  memset(list, 0, sizeof *list);
}

/* An error that is not stored (the list is full, or memory has run out) still counts in `total`: so
 * a run with errors never looks like one without. */
void segue__errors_add(segue__errors *list, const segue_error *err) {
  list->total++;
  if (list->count == SEGUE__ERRORS_MAX) return;
  if (list->count == list->capacity) {
    size_t capacity = list->capacity ? list->capacity * 2 : 4;
    segue_error *items = segue__realloc(list->items, capacity * sizeof *items);
    if (!items) return;
    list->items = items;
    list->capacity = capacity;
  }
  list->items[list->count++] = *err;
}
