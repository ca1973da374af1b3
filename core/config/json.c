/* SPDX-License-Identifier: MIT
 *
 * A strict reader of JSON (RFC 8259). libyaml cannot replace it: libyaml rejects surrogate pairs
 * and accepts text that is not JSON. It does not recurse: the builder has the stack, so 100,000
 * open brackets reach a limit instead of the end of the thread's stack.
 */
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../os/hex.h"
#include "parse.h"
#include "scalar.h"
#include "utf8.h"

typedef struct reader {
  segue__parse *parse;
  segue__builder *b;
  const char *p, *end, *line_start;
  uint32_t line;
  segue__buf text; /* a string with its escapes resolved */
} reader;

static void json_at(reader *r, const char *p) {
  segue__builder_at(r->b, r->line, (uint32_t)(p - r->line_start) + 1);
}

static int json_fail(reader *r, const char *p, const char *message) {
  json_at(r, p);
  return segue__builder_fail(r->b, SEGUE_ESYNTAX, "%s", message);
}

/* Fails with "expected X", the text that is there instead, and a hint where people expect an
 * extension of JSON (comments, single quotes). */
static int fail_expected(reader *r, const char *what) {
  segue__quoted found;
  json_at(r, r->p);
  if (r->p == r->end)
    return segue__builder_fail(r->b, SEGUE_ESYNTAX, "the text ends where %s is expected", what);
  char c = *r->p;
  if (c == '/' || c == '#')
    return segue__builder_fail(r->b, SEGUE_ESYNTAX, "JSON has no comments: remove this one");
  if (c == '\'')
    return segue__builder_fail(r->b, SEGUE_ESYNTAX, "JSON strings are in double quotes");
  size_t len = segue__utf8_next(r->p, (size_t)(r->end - r->p));
  return segue__builder_fail(r->b, SEGUE_ESYNTAX, "expected %s, found '%s'", what,
                             segue__builder_quote_stray(r->b, &found, r->p, len));
}

static void json_skip_space(reader *r) {
  for (; r->p < r->end; r->p++) {
    if (*r->p == '\n') {
      r->line++;
      r->line_start = r->p + 1;
    } else if (*r->p != ' ' && *r->p != '\t' && *r->p != '\r') {
      return;
    }
  }
}

/* ---- Strings --------------------------------------------------------------------------------- */

/* Returns the value of four hex digits at p, or -1. */
static int json_hex4(const char *p, const char *end) {
  int code = 0;
  if (end - p < 4) return -1;
  for (int i = 0; i < 4; i++) {
    int value = segue__hex_value(p[i]);
    if (value < 0) return -1;
    code = code * 16 + value;
  }
  return code;
}

/* Reads \uXXXX, or two of them for a character above U+FFFF. p is behind "\u". */
static const char *json_unicode(reader *r, const char *p) {
  int code = json_hex4(p, r->end);
  if (code < 0 || (code == 0 && !r->b->doc->foreign)) {
    json_fail(r, p - 2,
              code ? "\\u wants four hex digits" : "\\u0000 is not allowed: strings end at NUL");
    return NULL;
  }
  const char *next = p + 4;
  if (code >= 0xd800 && code < 0xe000) {
    int low = code < 0xdc00 && r->end - next >= 6 && next[0] == '\\' && next[1] == 'u'
                  ? json_hex4(next + 2, r->end)
                  : -1;
    if (low < 0xdc00 || low > 0xdfff) {
      json_fail(r, p - 2, "a lone surrogate is no character: characters above U+FFFF take a pair");
      return NULL;
    }
    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    next += 6;
  }
  char utf8[4];
  segue__buf_add(&r->text, utf8, segue__utf8_put((uint32_t)code, utf8));
  return next;
}

/* Reads one escape; p is behind the backslash. Returns the position behind the escape. */
static const char *json_escape(reader *r, const char *p) {
  static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
  if (p < r->end && *p == 'u') return json_unicode(r, p + 1);
  const char *found = p < r->end ? memchr(from, *p, sizeof from - 1) : NULL;
  if (!found) {
    json_fail(r, p - 1,
              "this escape is not known: JSON has \\\" \\\\ \\/ \\b \\f \\n \\r \\t and \\uXXXX");
    return NULL;
  }
  segue__buf_addc(&r->text, to[found - from]);
  return p + 1;
}

static const char *plain_end(const char *p, const char *end) {
  while (p < end && *p != '"' && *p != '\\' && (unsigned char)*p >= 0x20)
    p++;
  return p;
}

/* Reads the string that starts at r->p. *out points into the text, or into r->text if the string
 * has escapes. */
static int read_string(reader *r, const char **out, size_t *len) {
  const char *start = r->p + 1, *p = plain_end(start, r->end);
  if (p < r->end && *p == '"') {
    *out = start;
    *len = (size_t)(p - start);
    r->p = p + 1;
    return 0;
  }
  r->text.len = 0;
  for (;;) {
    segue__buf_add(&r->text, start, (size_t)(p - start));
    if (p == r->end) return json_fail(r, r->p, "this string is not closed");
    if (*p == '"') break;
    if (*p != '\\')
      return json_fail(r, p,
                       *p == '\n' ? "a string cannot go over the end of a line: write \\n"
                                  : "a control character must be written as \\uXXXX");
    start = json_escape(r, p + 1);
    if (!start) return r->b->status;
    p = plain_end(start, r->end);
  }
  if (r->text.failed)
    return segue__builder_fail(r->b, UV_ENOMEM, "out of memory while reading a string");
  *out = r->text.data ? r->text.data : "";
  *len = r->text.len;
  r->p = p + 1;
  return 0;
}

/* ---- Values ---------------------------------------------------------------------------------- */

static int string_value(reader *r) {
  const char *s;
  size_t len;
  json_at(r, r->p);
  if (read_string(r, &s, &len) || segue__expand(r->parse, &s, &len)) return r->b->status;
  return segue__builder_add_string(r->b, s, len);
}

static int json_number(reader *r) {
  segue__quoted shown;
  segue_node node;
  size_t used;
  const char *start = r->p;
  int rc = segue__scalar_json(start, (size_t)(r->end - start), &used, &node);
  json_at(r, start);
  if (rc == SEGUE_ERANGE && r->b->doc->foreign) {
    rc = segue__scalar_wide(start, used, &node);
    if (!rc) segue__builder_wide(r->b);
  }
  if (rc == SEGUE_ERANGE) return segue__builder_fail_range(r->b, start, used);
  if (rc == UV_ENOMEM) return segue__builder_fail(r->b, rc, "out of memory while reading a number");
  if (rc)
    return segue__builder_fail(r->b, rc, "'%s' is not a JSON number",
                               segue__builder_quote(r->b, &shown, start, used ? used : 1));
  r->p += used;
  return segue__builder_add_scalar(r->b, node);
}

static int json_word(reader *r) {
  static const char *const words[] = {"null", "false", "true"};
  for (int i = 0; i < 3; i++) {
    size_t len = strlen(words[i]);
    if ((size_t)(r->end - r->p) < len || memcmp(r->p, words[i], len)) continue;
    json_at(r, r->p);
    r->p += len;
    if (i) return segue__builder_bool(r->b, i == 2);
    return r->b->depth > r->parse->depth ? segue__builder_null(r->b)
                                         : segue__parse_empty(r->parse, true);
  }
  return fail_expected(r, "a value");
}

static int json_begin(reader *r, segue_type type) {
  json_at(r, r->p++);
  return segue__builder_begin(r->b, type);
}

/* Reads a scalar, or the start of a list or map. */
static int json_value(reader *r) {
  json_skip_space(r);
  if (r->p == r->end) return fail_expected(r, "a value");
  switch (*r->p) {
  case '{':
    return json_begin(r, SEGUE_MAP);
  case '[':
    return json_begin(r, SEGUE_LIST);
  case '"':
    return string_value(r);
  case '-':
  case '0' ... '9':
    return json_number(r);
  default:
    return json_word(r);
  }
}

static int json_key(reader *r) {
  const char *s = NULL;
  size_t len = 0;
  json_skip_space(r);
  if (r->p == r->end || *r->p != '"') return fail_expected(r, "a key in double quotes");
  json_at(r, r->p);
  if (read_string(r, &s, &len) || segue__builder_add_key(r->b, s, len)) return r->b->status;
  json_skip_space(r);
  if (r->p == r->end || *r->p != ':') return fail_expected(r, "':' after the key");
  r->p++;
  return 0;
}

/* Called after a value: ends the containers that close here, skips the comma. Returns 1 if another
 * child follows. */
static int json_after(reader *r, bool first) {
  while (r->b->depth > r->parse->depth) {
    bool map = r->b->frames[r->b->depth - 1].type == SEGUE_MAP;
    char close = map ? '}' : ']';
    json_skip_space(r);
    if (r->p < r->end && *r->p == close) {
      r->p++;
      if (segue__builder_end(r->b)) return r->b->status;
      first = false;
      continue;
    }
    if (first) return 1;
    if (r->p == r->end || *r->p != ',') return fail_expected(r, map ? "',' or '}'" : "',' or ']'");
    const char *comma = r->p++;
    uint32_t line = r->line;
    const char *line_start = r->line_start;
    json_skip_space(r);
    if (r->p < r->end && (*r->p == '}' || *r->p == ']')) {
      r->line = line;
      r->line_start = line_start;
      return json_fail(r, comma, "JSON has no comma after the last item: remove it");
    }
    return 1;
  }
  return 0;
}

int segue__json_parse(segue__parse *parse) {
  segue__builder *b = parse->builder;
  reader r = {.parse = parse,
              .b = b,
              .p = parse->text,
              .end = parse->text + parse->len,
              .line_start = parse->text,
              .line = 1};
  int more = 1;
  while (more > 0 && !b->status) {
    size_t depth = b->depth;
    if (segue__builder_wants_key(b) && json_key(&r)) break;
    if (json_value(&r)) break;
    more = json_after(&r, b->depth > depth);
  }
  if (!b->status) {
    json_skip_space(&r);
    if (r.p < r.end) fail_expected(&r, "the end of the text");
  }
  segue__buf_deinit(&r.text);
  return b->status;
}
