/* SPDX-License-Identifier: MIT
 *
 * The metrics of modules: each module writes its own lines, and two modules of a kind write the
 * same names. The text format has each family in one piece, with one HELP and one TYPE line, and
 * some readers (promtool) reject a page that has a family twice. So the lines are sorted into
 * families, in the order in which the families begin.
 */
#include "metrics.h"

#include <string.h>

#include "../os/text.h"

typedef struct family {
  const char *name; /* in the text */
  size_t name_len;
  bool has_suffixes; /* a histogram or a summary */
  segue__buf help, type, samples;
} family;

typedef struct family_list {
  family *items;
  size_t count, capacity, current;
} family_list;

static bool family_is(const family *f, const char *name, size_t len) {
  return f->name_len == len && !memcmp(f->name, name, len);
}

/* The length of the name of the family that a sample NAME_bucket, NAME_sum or NAME_count is of. */
static size_t family_base(const char *name, size_t len) {
  static const char *const suffixes[] = {"_bucket", "_sum", "_count"};
  for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
    size_t suffix = strlen(suffixes[i]);
    if (len > suffix && !memcmp(name + len - suffix, suffixes[i], suffix)) return len - suffix;
  }
  return len;
}

static bool family_has(const family *f, const char *name, size_t len, bool sample) {
  if (family_is(f, name, len)) return true;
  return sample && f->has_suffixes && family_is(f, name, family_base(name, len));
}

/* Most lines are of the family of the line before. NULL: no memory. */
static family *family_get(family_list *list, const char *name, size_t len, bool sample) {
  if (list->count && family_has(&list->items[list->current], name, len, sample))
    return &list->items[list->current];
  for (size_t i = 0; i < list->count; i++) {
    if (!family_has(&list->items[i], name, len, sample)) continue;
    list->current = i;
    return &list->items[i];
  }
  if (list->count == list->capacity) {
    size_t capacity = list->capacity ? 2 * list->capacity : 32;
    family *items = segue__realloc(list->items, capacity * sizeof *items);
    if (!items) return NULL;
    list->items = items;
    list->capacity = capacity;
  }
  list->current = list->count++;
  family *f = &list->items[list->current];
  *f = (family){.name = name, .name_len = len};
  segue__buf_init(&f->help);
  segue__buf_init(&f->type);
  segue__buf_init(&f->samples);
  return f;
}

static bool line_begins(const char *line, size_t len, const char *with) {
  size_t n = strlen(with);
  return len >= n && !memcmp(line, with, n);
}

/* One line without its end. Returns false if memory ran out. */
static bool family_add(family_list *list, const char *line, size_t len) {
  bool help = line_begins(line, len, "# HELP "), type = line_begins(line, len, "# TYPE ");
  if (!len || (*line == '#' && !help && !type)) return true; /* a comment */
  const char *name = line + (help || type ? strlen("# HELP ") : 0), *end = line + len;
  size_t name_len = 0;
  while (name + name_len < end && !segue__is_one_of(name[name_len], " \t{"))
    name_len++;
  family *f = family_get(list, name, name_len, !help && !type);
  if (!f) return false;
  segue__buf *part = help ? &f->help : type ? &f->type : &f->samples;
  if ((help || type) && part->len) return true;
  segue__buf_add(part, line, len);
  segue__buf_addc(part, '\n');
  const char *kind = name + name_len + (name + name_len < end);
  if (type)
    f->has_suffixes = line_begins(kind, (size_t)(end - kind), "histogram") ||
                      line_begins(kind, (size_t)(end - kind), "summary");
  return !part->failed;
}

void segue__metrics_gather(segue__buf *out, const char *text, size_t len) {
  family_list list = {0};
  bool good = true;
  const char *end = len ? text + len : text; /* NULL where no module has metrics */
  for (const char *line = text; line < end && good;) {
    const char *stop = memchr(line, '\n', (size_t)(end - line));
    size_t line_len = (size_t)((stop ? stop : end) - line);
    good = family_add(&list, line, line_len);
    line = stop ? stop + 1 : end;
  }
  if (!good) out->failed = true;
  for (size_t i = 0; i < list.count; i++) {
    family *f = &list.items[i];
    segue__buf_add(out, f->help.data, f->help.len);
    segue__buf_add(out, f->type.data, f->type.len);
    segue__buf_add(out, f->samples.data, f->samples.len);
    segue__buf_deinit(&f->help);
    segue__buf_deinit(&f->type);
    segue__buf_deinit(&f->samples);
  }
  segue__free(list.items);
}
