/* SPDX-License-Identifier: MIT
 *
 * Patterns. A schema's patterns are ECMA-262 with Unicode; PCRE2 runs them, so each construct is
 * parsed here and written as a construct of PCRE2 with the same meaning. A construct without an
 * equivalent is rejected when the schema is loaded: a pattern that means something else than its
 * author thinks is worse than none. Characters are written as \x{..} throughout, so that no syntax
 * of PCRE2 can slip in.
 */
#include <string.h>
#include <uv.h>

#include "../config/utf8.h"
#include "../os/hex.h"
#include "../os/text.h"
#include "schema_internal.h"

enum { PATTERN_MAX = 1 << 14, NESTED_MAX = 100 };

/* The white space of ECMA-262, and all other characters. */
#define SPACE                                                                                      \
  "\\x{9}-\\x{d}\\x{20}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}"    \
  "\\x{3000}\\x{feff}"
#define NOT_SPACE                                                                                  \
  "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{"   \
  "2027}"                                                                                          \
  "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{fefe}\\x{ff00}-\\x{"     \
  "10ffff}"

typedef struct reader {
  const char *start, *p, *end;
  segue__buf *out;
  segue_error *err;
  segue__groups groups;
  unsigned depth;  /* open ones */
  uint32_t closed; /* the group that ends right before p, 0: none */
  int failed;      /* SEGUE_ESYNTAX, UV_ENOTSUP, UV_ENOMEM */
} reader;

/* One character or class of characters, inside or outside of brackets. */
typedef struct atom {
  uint32_t code;
  char set; /* 0: the character code; else d D w W s S, or p P (written out in text) */
  segue__buf text;
} atom;

static bool regex_stop(reader *r, int code, const char *at, const char *why) {
  if (!r->failed)
    segue__errorf(r->err, code, "%s (at character %zu)", why, (size_t)(at - r->start) + 1);
  if (!r->failed) r->failed = code;
  return false;
}

/* Records that the text is no pattern of ECMA-262. */
static bool regex_fail(reader *r, const char *at, const char *why) {
  return regex_stop(r, SEGUE_ESYNTAX, at, why);
}

/* Records that the text is a pattern of ECMA-262 which is not supported here. */
static bool regex_refuse(reader *r, const char *at, const char *why) {
  return regex_stop(r, UV_ENOTSUP, at, why);
}

static bool regex_starve(reader *r) {
  return regex_stop(r, UV_ENOMEM, r->p, "out of memory");
}

static bool regex_is_digit(char c) {
  return c >= '0' && c <= '9';
}

static bool regex_is_letter(char c) {
  return (c | 32) >= 'a' && (c | 32) <= 'z';
}

/* Everything but letters and digits is written as \x{..}, so that no character has a meaning in
 * PCRE2 that it does not have in ECMA-262. */
static void regex_put(reader *r, uint32_t code) {
  if (code < 128 && (regex_is_letter((char)code) || regex_is_digit((char)code)))
    segue__buf_addc(r->out, (char)code);
  else
    segue__buf_addf(r->out, "\\x{%x}", code);
}

/* ---- Escapes --------------------------------------------------------------------------------- */

/* Reads `count` hex digits at r->p. */
static bool read_hex(reader *r, int count, uint32_t *code) {
  *code = 0;
  for (int i = 0; i < count; i++) {
    int v = r->p < r->end ? segue__hex_value(*r->p) : -1;
    if (v < 0) return false;
    *code = *code * 16 + (uint32_t)v;
    r->p++;
  }
  return true;
}

/* Reads what follows \u: XXXX, a pair of surrogates, or {X...}. */
static bool read_unicode(reader *r, const char *at, uint32_t *code) {
  if (r->p < r->end && *r->p == '{') {
    *code = 0;
    const char *digits = ++r->p;
    for (; r->p < r->end && segue__hex_value(*r->p) >= 0 && *code <= 0x10ffff; r->p++)
      *code = *code * 16 + (uint32_t)segue__hex_value(*r->p);
    if (r->p == digits || r->p == r->end || *r->p != '}' || *code > 0x10ffff)
      return regex_fail(r, at, "\\u{...} wants hex digits up to 10FFFF");
    r->p++;
  } else if (!read_hex(r, 4, code)) {
    return regex_fail(r, at, "\\u wants four hex digits");
  }
  if (*code >= 0xd800 && *code < 0xdc00 && r->end - r->p >= 6 && r->p[0] == '\\' &&
      r->p[1] == 'u') {
    uint32_t low;
    const char *back = r->p;
    r->p += 2;
    if (read_hex(r, 4, &low) && low >= 0xdc00 && low < 0xe000) {
      *code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
      return true;
    }
    r->p = back;
  }
  if (*code >= 0xd800 && *code < 0xe000)
    return regex_refuse(r, at, "a lone surrogate is no character");
  return true;
}

static bool read_property(reader *r, const char *at, atom *a) {
  const char *name = r->p + 1;
  bool open = r->p < r->end && *r->p == '{';
  const char *close = open ? memchr(r->p, '}', (size_t)(r->end - r->p)) : NULL;
  if (!close) return regex_fail(r, at, "\\p wants a property in braces, such as \\p{L}");
  bool negate = false;
  segue__buf_init(&a->text);
  if (!segue__regex_property(name, (size_t)(close - name), &negate, &a->text)) {
    segue__buf_deinit(&a->text);
    return regex_fail(
        r, at,
        "this property of characters is not known: write a general category, a binary "
        "property or Script=...");
  }
  if (a->text.failed) r->out->failed = 1;
  if (negate) a->set = a->set == 'p' ? 'P' : 'p';
  r->p = close + 1;
  return true;
}

/* An escape that stands for a character or a class; r->p is behind the backslash. */
static bool read_escape(reader *r, bool in_class, atom *a) {
  static const char controls[] = "t\tn\nv\vf\fr\r";
  const char *at = r->p - 1;
  if (r->p == r->end) return regex_fail(r, at, "the pattern ends with a backslash");
  char c = *r->p++;
  const char *control = memchr(controls, c, sizeof controls - 1);
  if (control && regex_is_letter(c)) {
    a->code = (uint32_t)control[1];
  } else if (segue__is_one_of(c, "dDwWsS")) {
    a->set = c;
  } else if (c == 'p' || c == 'P') {
    a->set = c;
    return read_property(r, at, a);
  } else if (c == 'u') {
    return read_unicode(r, at, &a->code);
  } else if (c == 'x') {
    if (!read_hex(r, 2, &a->code)) return regex_fail(r, at, "\\x wants two hex digits");
  } else if (c == 'c') {
    if (r->p == r->end || !regex_is_letter(*r->p)) return regex_fail(r, at, "\\c wants a letter");
    a->code = (uint32_t)*r->p++ & 31;
  } else if (c == '0') {
    if (r->p < r->end && regex_is_digit(*r->p))
      return regex_fail(r, at, "octal escapes are not part of ECMA-262: write \\xHH");
    a->code = 0;
  } else if (c == 'b' && in_class) {
    a->code = 8;
  } else if (regex_is_letter(c) || regex_is_digit(c) || (unsigned char)c >= 128) {
    return regex_fail(r, at, "this escape is not part of ECMA-262");
  } else {
    a->code = (unsigned char)c;
  }
  return true;
}

static uint32_t read_char(reader *r) {
  size_t n = segue__utf8_next(r->p, (size_t)(r->end - r->p));
  const unsigned char *s = (const unsigned char *)r->p;
  r->p += n ? n : 1;
  switch (n) {
  case 2:
    return (uint32_t)(s[0] & 31) << 6 | (s[1] & 63);
  case 3:
    return (uint32_t)(s[0] & 15) << 12 | (uint32_t)(s[1] & 63) << 6 | (s[2] & 63);
  case 4:
    return (uint32_t)(s[0] & 7) << 18 | (uint32_t)(s[1] & 63) << 12 | (uint32_t)(s[2] & 63) << 6 |
           (s[3] & 63);
  default:
    return s[0];
  }
}

/* ---- Classes in brackets --------------------------------------------------------------------- */

static void put_set(reader *r, const atom *a, bool in_class) {
  if (a->set == 's' || a->set == 'S') {
    if (!in_class) segue__buf_addc(r->out, '[');
    segue__buf_adds(r->out, a->set == 's' ? SPACE : NOT_SPACE);
    if (!in_class) segue__buf_addc(r->out, ']');
  } else if (a->set == 'p' || a->set == 'P') {
    segue__buf_addf(r->out, "\\%c{%s}", a->set, a->text.data ? a->text.data : "");
  } else {
    segue__buf_addf(r->out, "\\%c", a->set);
  }
}

static bool class_atom(reader *r, atom *a) {
  *a = (atom){0};
  if (*r->p != '\\') {
    a->code = read_char(r);
    return true;
  }
  r->p++;
  return read_escape(r, true, a);
}

static bool class_range(reader *r, const atom *low) {
  const char *at = r->p;
  atom high;
  r->p++; /* the "-" */
  if (!class_atom(r, &high)) return false;
  if (low->set || high.set) { /* then the "-" is one itself */
    if (low->set)
      put_set(r, low, true);
    else
      regex_put(r, low->code);
    regex_put(r, '-');
    if (high.set)
      put_set(r, &high, true);
    else
      regex_put(r, high.code);
    segue__buf_deinit(&high.text);
    return true;
  }
  if (low->code > high.code) return regex_fail(r, at, "the range is the wrong way round");
  regex_put(r, low->code);
  segue__buf_addc(r->out, '-');
  regex_put(r, high.code);
  return true;
}

/* [] matches nothing and [^] everything in ECMA-262. PCRE2 takes a first ] for a member of the
 * class, so both are written in another way. */
static bool read_class(reader *r) {
  const char *at = r->p++;
  bool negate = r->p < r->end && *r->p == '^';
  r->p += negate;
  if (r->p < r->end && *r->p == ']') { /* nothing, or everything */
    r->p++;
    segue__buf_adds(r->out, negate ? "[\\x{0}-\\x{10ffff}]" : "(?!)");
    return true;
  }
  segue__buf_adds(r->out, negate ? "[^" : "[");
  while (r->p < r->end && *r->p != ']') {
    atom a;
    bool good = class_atom(r, &a);
    if (good && r->end - r->p >= 2 && r->p[0] == '-' && r->p[1] != ']')
      good = class_range(r, &a);
    else if (good && a.set)
      put_set(r, &a, true);
    else if (good)
      regex_put(r, a.code);
    segue__buf_deinit(&a.text);
    if (!good) return false;
  }
  if (r->p == r->end) return regex_fail(r, at, "the bracket is not closed");
  r->p++;
  segue__buf_addc(r->out, ']');
  return true;
}

/* ---- Groups and quantifiers ------------------------------------------------------------------ */

static bool regex_name_char(char c, bool first) {
  return regex_is_letter(c) || c == '_' || (!first && regex_is_digit(c));
}

/* Reads the name at p, which ends with ">"; returns false after it has recorded an error. ECMA-262
 * allows more names. */
static bool read_name(reader *r, const char *at, const char *p, const char **end) {
  const char *s = p;
  bool plain = true;
  for (; s < r->end && (regex_name_char(*s, s == p) || *s == '$' || (unsigned char)*s >= 128); s++)
    plain = plain && regex_name_char(*s, s == p);
  *end = s;
  static const char wants[] = "the name of a group is made of up to 32 letters, digits and _";
  if (s == p || s == r->end || *s != '>') return regex_fail(r, at, wants);
  return (plain && s - p <= 32) || regex_refuse(r, at, wants);
}

static bool open_plain(reader *r) {
  segue__buf_addc(r->out, '(');
  return segue__groups_open(&r->groups, true, false, NULL, 0) || regex_starve(r);
}

static bool open_named(reader *r, const char *at) {
  const char *name = r->p + 2, *end;
  if (!read_name(r, at, name, &end)) return false;
  segue__buf_addf(r->out, "(?<%.*s>", (int)(end - name), name);
  r->p = end + 1;
  return segue__groups_open(&r->groups, true, false, name, (size_t)(end - name)) || regex_starve(r);
}

/* Sets *look for lookaheads and lookbehinds, which cannot be repeated. */
static bool open_group(reader *r, bool *look) {
  const char *at = r->p++;
  *look = false;
  if (++r->depth > NESTED_MAX) return regex_refuse(r, at, "the groups are nested too deep");
  if (r->p == r->end || *r->p != '?') return open_plain(r);
  static const char *const heads[] = {"?:", "?=", "?!", "?<=", "?<!"};
  for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
    size_t len = strlen(heads[i]);
    if ((size_t)(r->end - r->p) < len || memcmp(r->p, heads[i], len) != 0) continue;
    r->p += len;
    *look = i > 0;
    segue__buf_addf(r->out, "(%s", heads[i]);
    return segue__groups_open(&r->groups, false, i > 2, NULL, 0) || regex_starve(r);
  }
  if (r->end - r->p > 2 && r->p[1] == '<') return open_named(r, at);
  return regex_fail(r, at, "this kind of group is not part of ECMA-262");
}

/* Returns the end of {n}, {n,} or {n,m} at p, or NULL if it is none of these. */
static const char *braces_end(const reader *r, const char *p) {
  const char *digits = ++p;
  while (p < r->end && regex_is_digit(*p))
    p++;
  if (p == digits) return NULL;
  if (p < r->end && *p == ',')
    for (p++; p < r->end && regex_is_digit(*p);)
      p++;
  return p < r->end && *p == '}' ? p + 1 : NULL;
}

/* Returns whether {m,n} has m > n. The numbers have no limit, so their digits are compared. */
static bool regex_falls(const char *at, const char *end) {
  const char *comma = memchr(at, ',', (size_t)(end - at)), *low = at + 1, *high;
  if (!comma || comma + 2 == end) return false;
  high = comma + 1;
  while (low < comma && *low == '0')
    low++;
  while (high < end - 1 && *high == '0')
    high++;
  size_t m = (size_t)(comma - low), n = (size_t)(end - 1 - high);
  return m != n ? m > n : memcmp(low, high, m) > 0;
}

/* Reads the quantifier behind an atom, if there is one. */
static bool read_quantifier(reader *r, bool repeatable) {
  if (r->p == r->end || !segue__is_one_of(*r->p, "*+?{")) return true;
  const char *at = r->p, *end = *r->p == '{' ? braces_end(r, r->p) : r->p + 1;
  if (!end) return regex_fail(r, at, "a { that is no quantifier must be written \\{");
  if (!repeatable) return regex_fail(r, at, "there is nothing that could be repeated");
  if (*at == '{' && regex_falls(at, end))
    return regex_fail(r, at, "the numbers of the quantifier are the wrong way round");
  if (r->closed) segue__groups_repeat(&r->groups, r->closed, *at == '?');
  segue__buf_add(r->out, at, (size_t)(end - at));
  r->p = end;
  if (r->p < r->end && *r->p == '?') segue__buf_addc(r->out, *r->p++);
  if (r->p < r->end && segue__is_one_of(*r->p, "*+?{"))
    return regex_fail(r, r->p, "a quantifier cannot follow a quantifier");
  return true;
}

static void regex_refer(reader *r, const char *at, unsigned number, const char *name, size_t len) {
  if (!segue__groups_refer(&r->groups, number, name, len, (size_t)(at - r->start))) regex_starve(r);
}

/* Reads \1, \k<name>, \b and \B. Returns false for any other escape. */
static bool read_special(reader *r, bool *repeatable) {
  const char *at = r->p, *end;
  char c = r->end - r->p > 1 ? r->p[1] : 0;
  if (c == 'b' || c == 'B') {
    r->p += 2;
    *repeatable = false;
    segue__buf_addf(r->out, "\\%c", c);
    return true;
  }
  if (c >= '1' && c <= '9') {
    unsigned number = 0;
    for (r->p++; r->p < r->end && regex_is_digit(*r->p) && number < 100000; r->p++)
      number = number * 10 + (unsigned)(*r->p - '0');
    regex_refer(r, at, number, NULL, 0);
    segue__buf_addf(r->out, "\\g{%u}", number);
    return true;
  }
  if (c != 'k') return false;
  if (r->end - r->p < 4 || r->p[2] != '<') {
    regex_fail(r, at, "\\k wants the name of a group: \\k<name>");
  } else if (read_name(r, at, r->p + 3, &end)) {
    regex_refer(r, at, 0, r->p + 3, (size_t)(end - r->p - 3));
    segue__buf_addf(r->out, "\\k<%.*s>", (int)(end - r->p - 3), r->p + 3);
    r->p = end + 1;
  }
  return true;
}

static bool read_atom_escape(reader *r, bool *repeatable) {
  if (read_special(r, repeatable)) return !r->failed;
  atom a = {0};
  r->p++;
  bool good = read_escape(r, false, &a);
  if (good && a.set)
    put_set(r, &a, false);
  else if (good)
    regex_put(r, a.code);
  segue__buf_deinit(&a.text);
  return good;
}

static bool close_group(reader *r, bool *looks, bool *repeatable) {
  if (!r->depth) return regex_fail(r, r->p, "there is no ( for this )");
  r->p++;
  segue__buf_addc(r->out, ')');
  *repeatable = !looks[r->depth--];
  r->closed = segue__groups_close(&r->groups, (size_t)(r->p - r->start));
  return true;
}

static bool regex_read_all(reader *r) {
  bool looks[NESTED_MAX + 2];
  while (r->p < r->end && !r->failed) {
    bool repeatable = true, good = true;
    r->closed = 0;
    switch (*r->p) {
    case '(': {
      bool look;
      good = open_group(r, &look);
      if (good) looks[r->depth] = look;
      repeatable = false;
      break;
    }
    case ')':
      good = close_group(r, looks, &repeatable);
      break;
    case '[':
      good = read_class(r);
      break;
    case '\\':
      good = read_atom_escape(r, &repeatable);
      break;
    case '.':
      r->p++;
      segue__buf_adds(r->out, "[^\\x{a}\\x{d}\\x{2028}\\x{2029}]");
      break;
    case '|':
      segue__groups_branch(&r->groups);
      /* fall through */
    case '^':
    case '$':
      segue__buf_adds(r->out, *r->p == '^' ? "\\A" : *r->p == '$' ? "\\z" : "|");
      r->p++;
      repeatable = false;
      break;
    case '*':
    case '+':
    case '?':
    case '{':
      repeatable = false; /* there is nothing before it */
      break;
    case '}':
    case ']':
      good =
          regex_fail(r, r->p, "a bracket that stands for itself must be written with a backslash");
      break;
    default:
      regex_put(r, read_char(r));
    }
    if (!good || !read_quantifier(r, repeatable)) return false;
  }
  return !r->failed;
}

static void read_pattern(reader *r) {
  size_t at;
  bool unsupported;
  if (r->end - r->start > PATTERN_MAX) {
    regex_refuse(r, r->start, "the pattern is longer than 16 KiB");
    return;
  }
  if (!segue__groups_init(&r->groups)) {
    regex_starve(r);
    return;
  }
  if (!regex_read_all(r)) return;
  if (r->depth) {
    regex_fail(r, r->end, "a ( is not closed");
    return;
  }
  const char *why = segue__groups_validate(&r->groups, &at, &unsupported);
  if (why) regex_stop(r, unsupported ? UV_ENOTSUP : SEGUE_ESYNTAX, r->start + at, why);
}

int segue__regex_translate(const char *pattern, size_t len, segue__buf *out, segue_error *err) {
  reader r = {.start = pattern, .p = pattern, .end = pattern + len, .out = out, .err = err};
  read_pattern(&r);
  segue__groups_deinit(&r.groups);
  if (out->failed) return segue__errorf(err, UV_ENOMEM, "out of memory");
  return r.failed;
}
