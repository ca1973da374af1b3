/* SPDX-License-Identifier: MIT
 *
 * Finds the files that a text requires, without running it. The code of a module runs on other
 * threads later, but its files are read on the control thread together with the policy; so the name
 * in a require must be a literal. A computed name is not found at run time. pcall(require, "name")
 * may name a file that does not exist.
 */
#include <string.h>

#include "../../os/text.h"
#include "module.h"

typedef struct scan {
  const char *at, *end;
  uint32_t line;
} scan;

static bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static void requires_step(scan *s) {
  if (*s->at == '\n') s->line++;
  s->at++;
}

/* At "[": returns the level of a long bracket, or -1. */
static int long_level(const scan *s) {
  const char *p = s->at + 1;
  while (p < s->end && *p == '=')
    p++;
  return p < s->end && *p == '[' ? (int)(p - s->at) - 1 : -1;
}

static void requires_skip_long(scan *s, int level) {
  for (; s->at < s->end; requires_step(s)) {
    if (*s->at != ']' || s->end - s->at < level + 2 || s->at[level + 1] != ']') continue;
    int i = 0;
    while (i < level && s->at[1 + i] == '=')
      i++;
    if (i < level) continue;
    s->at += level + 2;
    return;
  }
}

static void requires_skip_comment(scan *s) {
  s->at += 2;
  int level = s->at < s->end && *s->at == '[' ? long_level(s) : -1;
  if (level >= 0)
    requires_skip_long(s, level);
  else
    while (s->at < s->end && *s->at != '\n')
      s->at++;
}

/* Reads a quoted text up to its end; *len is its length. An escape is skipped, not decoded: a name
 * with one is not a name that require accepts. */
static const char *take_quoted(scan *s, size_t *len) {
  char quote = *s->at++;
  const char *from = s->at;
  while (s->at < s->end && *s->at != quote && *s->at != '\n') {
    if (*s->at == '\\' && s->end - s->at > 1) s->at++;
    requires_step(s);
  }
  *len = (size_t)(s->at - from);
  if (s->at < s->end) requires_step(s);
  return from;
}

static void skip_blank(scan *s) {
  while (s->at < s->end) {
    if (s->end - s->at > 1 && s->at[0] == '-' && s->at[1] == '-')
      requires_skip_comment(s);
    else if (segue__is_one_of(*s->at, " \t\r\n"))
      requires_step(s);
    else
      return;
  }
}

typedef struct found {
  const char *name; /* in the text */
  size_t len;
  uint32_t line;
  bool may_miss;
} found;

/* Reads the argument after the word `require`. */
static bool take_argument(scan *s, found *out) {
  skip_blank(s);
  out->may_miss = s->at < s->end && *s->at == ',';
  if (s->at < s->end && (*s->at == '(' || *s->at == ',')) {
    s->at++;
    skip_blank(s);
  }
  if (s->at >= s->end || (*s->at != '"' && *s->at != '\'')) return false;
  out->line = s->line;
  out->name = take_quoted(s, &out->len);
  return true;
}

static bool requires_next(scan *s, found *out) {
  static const char word[] = "require";
  char before = 0;
  while (skip_blank(s), s->at < s->end) {
    size_t len = 0, ignored;
    while (s->at + len < s->end && is_name(s->at[len]))
      len++;
    bool here =
        len == sizeof word - 1 && !memcmp(s->at, word, len) && before != '.' && before != ':';
    before = *s->at;
    int level = before == '[' ? long_level(s) : -1;
    if (len)
      s->at += len;
    else if (before == '"' || before == '\'')
      take_quoted(s, &ignored);
    else if (level >= 0)
      requires_skip_long(s, level);
    else
      requires_step(s);
    if (here && take_argument(s, out)) return true;
  }
  return false;
}

/* Returns whether the name belongs to the module: the require of modules accepts it, and the
 * library has no such file. */
static bool requires_is_ours(const found *f) {
  char last = '.';
  if (f->len >= 5 && !memcmp(f->name, "segue", 5) && (f->len == 5 || f->name[5] == '.'))
    return false;
  for (size_t i = 0; i < f->len; i++) {
    char c = f->name[i];
    if ((!is_name(c) && c != '-' && c != '.') || (c == '.' && last == '.')) return false;
    last = c;
  }
  return last != '.';
}

static char *requires_path_of(const char *folder, const char *name) {
  segue__buf out;
  segue__buf_init(&out);
  if (*folder) segue__buf_addf(&out, "%s/", strcmp(folder, "/") ? folder : "");
  for (; *name; name++)
    segue__buf_addc(&out, *name == '.' ? '/' : *name);
  segue__buf_adds(&out, ".lua");
  if (!out.failed) return out.data;
  segue__buf_deinit(&out);
  return NULL;
}

static int requires_add(segue__program *program, const segue__os *os, const char *by,
                        const found *f, segue_error *err) {
  const segue__chunk *chunk;
  char *name = segue__strndup(f->name, f->len);
  char *path = name ? requires_path_of(program->folder, name) : NULL;
  int rc = path ? segue__program_add(program, os, name, path, &chunk, err)
                : segue__errorf(err, UV_ENOMEM, "%s: out of memory", by);
  if (rc == UV_ENOENT && f->may_miss) rc = 0;
  if (rc == UV_ENOENT) {
    segue__errorf(err, SEGUE_EPOLICY, "module '%s' not found: there is no %s", name, path);
    segue__error_set_place(err, by, f->line, 0);
    rc = SEGUE_EPOLICY;
  }
  segue__free(name);
  segue__free(path);
  return rc;
}

int segue__requires_add(segue__program *program, const segue__os *os, segue_error *err) {
  int rc = 0;
  for (size_t i = 0; i < program->count && !rc; i++) {
    const segue__chunk chunk = program->chunks[i]; /* the array may move */
    scan s = {chunk.text, chunk.text + chunk.len, 1};
    for (found f; !rc && requires_next(&s, &f);)
      if (requires_is_ours(&f)) rc = requires_add(program, os, chunk.path, &f, err);
  }
  return rc;
}
