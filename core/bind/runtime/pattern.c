/* SPDX-License-Identifier: MIT
 *
 * Lua's patterns. A pattern is compiled into a list of items, one for each element that can match;
 * a set of bytes is 256 bits. Patterns have no alternatives, so the capture that an item opens,
 * closes or repeats is known at compile time, and only repetitions backtrack: the matcher recurses
 * there, at most DEPTH_MAX deep, and loops everywhere else.
 */
#include "pattern.h"

#include <assert.h>
#include <string.h>

enum {
  DEPTH_MAX = 200,
  QUANTUM = 16384, /* steps between two checks of the time */
  STEPS_MAX =
      10000000 /* per attempt at one position, plus STEPS_PER_BYTE for each byte of the subject */
};
#define STEPS_PER_BYTE 16

typedef struct charset {
  uint64_t bits[4];
} charset;

typedef enum kind {
  ANY,  /* these three match one byte, and may be repeated */
  BYTE, /* c */
  SET,  /* set */
  OPEN, /* capture c */
  CLOSE,
  AGAIN,    /* capture c once more */
  BALANCED, /* from c to d */
  FRONTIER, /* set */
  AT_END,
  WRONG, /* why */
  DONE
} kind;

typedef enum repeat { ONCE, OPTIONAL, STAR, PLUS, LAZY } repeat;

typedef struct item {
  uint8_t kind, repeat, c, d;
  union {
    const charset *set;
    const char *why;
  } u;
} item;

struct segue__pattern {
  bool anchored;
  unsigned captures;
  uint32_t unclosed, positions; /* captures, as bits */
  item items[];
};

/* ---- Compiling ------------------------------------------------------------------------------- */

typedef struct compiler {
  const char *at, *end;
  segue__pattern *out;
  item *item;
  charset *sets; /* free sets */
} compiler;

/* The classes %a and so on for ASCII; other bytes belong to no class. */
static const struct {
  char name;
  uint64_t low, high;
} classes[] = {{'a', 0, 0x07fffffe07fffffe},
               {'c', 0x00000000ffffffff, 0x8000000000000000},
               {'d', 0x03ff000000000000, 0},
               {'g', 0xfffffffe00000000, 0x7fffffffffffffff},
               {'l', 0, 0x07fffffe00000000},
               {'p', 0xfc00fffe00000000, 0x78000001f8000001},
               {'s', 0x0000000100003e00, 0},
               {'u', 0, 0x0000000007fffffe},
               {'w', 0x03ff000000000000, 0x07fffffe07fffffe},
               {'x', 0x03ff000000000000, 0x0000007e0000007e},
               {'z', 1, 0}};

static size_t round_up(size_t n) {
  return (n + 15) & ~(size_t)15;
}

/* In the worst case every byte is an item, and every second one begins a set. */
size_t segue__pattern_size(size_t len) {
  return round_up(sizeof(segue__pattern) + (len + 1) * sizeof(item)) +
         (len / 2 + 1) * sizeof(charset);
}

static void add_byte(charset *set, uint8_t c) {
  set->bits[c >> 6] |= UINT64_C(1) << (c & 63);
}

static void pattern_add_range(charset *set, uint8_t first, uint8_t last) {
  for (unsigned c = first; c <= last; c++)
    add_byte(set, (uint8_t)c);
}

static bool pattern_has(const charset *set, uint8_t c) {
  return set->bits[c >> 6] >> (c & 63) & 1;
}

static void pattern_invert(charset *set) {
  for (int i = 0; i < 4; i++)
    set->bits[i] = ~set->bits[i];
}

/* Adds the class after a %, its complement, or the byte itself (then returns false). */
static bool add_class(charset *set, uint8_t c) {
  uint8_t lower = c >= 'A' && c <= 'Z' ? c | 32 : c;
  for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
    if ((uint8_t)classes[i].name != lower) continue;
    uint64_t flip = lower == c ? 0 : ~UINT64_C(0);
    set->bits[0] |= classes[i].low ^ flip;
    set->bits[1] |= classes[i].high ^ flip;
    set->bits[2] |= flip;
    set->bits[3] |= flip;
    return true;
  }
  add_byte(set, c);
  return false;
}

static void pattern_wrong(compiler *c, const char *why) {
  *c->item++ = (item){.kind = WRONG, .u.why = why};
  c->at = c->end;
}

/* Finds the ] that ends the set whose members begin at `at`; NULL: there is none. The first member
 * may be a ]. */
static const char *set_end(const char *at, const char *end) {
  do {
    if (at >= end) return NULL;
    if (*at++ == '%') at++;
  } while (at >= end || *at != ']');
  return at;
}

/* Adds the members up to `last`, the position of the ]; a % directly before it means that byte. */
static void add_members(charset *set, const char *at, const char *last) {
  for (; at < last; at++) {
    if (*at == '%')
      add_class(set, (uint8_t) * ++at);
    else if (at[1] == '-' && at + 2 < last) {
      pattern_add_range(set, (uint8_t)at[0], (uint8_t)at[2]);
      at += 2;
    } else
      add_byte(set, (uint8_t)*at);
  }
}

/* Compiles the set at c->at and moves c->at past it; NULL: the set has no end. */
static const charset *compile_set(compiler *c) {
  const char *at = c->at + 1;
  bool inverted = at < c->end && *at == '^';
  at += inverted;
  const char *last = set_end(at, c->end);
  if (!last) {
    pattern_wrong(c, "malformed pattern (missing ']')");
    return NULL;
  }
  charset *set = c->sets++;
  memset(set, 0, sizeof *set);
  add_members(set, at, last);
  if (inverted) pattern_invert(set);
  c->at = last + 1;
  return set;
}

static void compile_open(compiler *c) {
  segue__pattern *out = c->out;
  bool position = c->at + 1 < c->end && c->at[1] == ')';
  if (out->captures == SEGUE__CAPTURES_MAX) {
    pattern_wrong(c, "too many captures");
    return;
  }
  uint32_t bit = UINT32_C(1) << out->captures;
  if (position)
    out->positions |= bit;
  else
    out->unclosed |= bit;
  *c->item++ = (item){.kind = OPEN, .c = (uint8_t)out->captures++};
  c->at += position ? 2 : 1;
}

static void compile_close(compiler *c) {
  uint32_t open = c->out->unclosed;
  if (!open) {
    pattern_wrong(c, "invalid pattern capture");
    return;
  }
  unsigned innermost = 31 - (unsigned)__builtin_clz(open);
  c->out->unclosed &= ~(UINT32_C(1) << innermost);
  *c->item++ = (item){.kind = CLOSE, .c = (uint8_t)innermost};
  c->at++;
}

static void compile_again(compiler *c) {
  unsigned i = (unsigned)(c->at[1] - '1');
  if (i >= c->out->captures || c->out->unclosed >> i & 1) {
    pattern_wrong(c, "invalid capture index");
    return;
  }
  *c->item++ = (item){.kind = AGAIN, .c = (uint8_t)i};
  c->at += 2;
}

static void compile_balanced(compiler *c) {
  if (c->end - c->at < 4) {
    pattern_wrong(c, "unbalanced pattern");
    return;
  }
  *c->item++ = (item){.kind = BALANCED, .c = (uint8_t)c->at[2], .d = (uint8_t)c->at[3]};
  c->at += 4;
}

static void compile_frontier(compiler *c) {
  c->at += 2;
  if (c->at == c->end || *c->at != '[') {
    pattern_wrong(c, "missing '[' after '%f' in pattern");
    return;
  }
  const charset *set = compile_set(c);
  if (set) *c->item++ = (item){.kind = FRONTIER, .u.set = set};
}

static repeat compile_repeat(compiler *c) {
  switch (c->at < c->end ? *c->at : 0) {
  case '?':
    c->at++;
    return OPTIONAL;
  case '*':
    c->at++;
    return STAR;
  case '+':
    c->at++;
    return PLUS;
  case '-':
    c->at++;
    return LAZY;
  default:
    return ONCE;
  }
}

static void compile_class(compiler *c, item *single) {
  charset *set = c->sets;
  memset(set, 0, sizeof *set);
  single->c = (uint8_t)c->at[1];
  c->at += 2;
  if (!add_class(set, single->c)) return;
  single->kind = SET;
  single->u.set = c->sets++;
}

/* Compiles a single-byte element and its repetition. */
static void compile_single(compiler *c) {
  item single = {.kind = BYTE};
  if (*c->at == '[') {
    single.kind = SET;
    single.u.set = compile_set(c);
    if (!single.u.set) return;
  } else if (*c->at == '%') {
    compile_class(c, &single);
  } else {
    if (*c->at == '.') single.kind = ANY;
    single.c = (uint8_t)*c->at++;
  }
  single.repeat = (uint8_t)compile_repeat(c);
  *c->item++ = single;
}

static void compile_escape(compiler *c) {
  char next = c->at + 1 < c->end ? c->at[1] : 0;
  if (c->at + 1 == c->end)
    pattern_wrong(c, "malformed pattern (ends with '%')");
  else if (next >= '0' && next <= '9')
    compile_again(c);
  else if (next == 'b')
    compile_balanced(c);
  else if (next == 'f')
    compile_frontier(c);
  else
    compile_single(c);
}

static void compile_item(compiler *c) {
  switch (*c->at) {
  case '(':
    compile_open(c);
    break;
  case ')':
    compile_close(c);
    break;
  case '%':
    compile_escape(c);
    break;
  case '$':
    if (c->at + 1 == c->end) {
      *c->item++ = (item){.kind = AT_END};
      c->at++;
      break;
    }
    /* fall through */
  default:
    compile_single(c);
  }
}

const segue__pattern *segue__pattern_compile(void *memory, const char *text, size_t len,
                                             bool anchor) {
  segue__pattern *out = memory;
  memset(out, 0, sizeof *out);
  char *sets = (char *)memory + round_up(sizeof *out + (len + 1) * sizeof(item));
  compiler c = {text, text + len, out, out->items, (charset *)(void *)sets};
  out->anchored = anchor && len && *text == '^';
  c.at += out->anchored;
  while (c.at < c.end)
    compile_item(&c);
  *c.item = (item){.kind = DONE};
  return out;
}

unsigned segue__pattern_captures(const segue__pattern *pattern) {
  return pattern->captures;
}

bool segue__pattern_is_anchored(const segue__pattern *pattern) {
  return pattern->anchored;
}

/* ---- Matching -------------------------------------------------------------------------------- */

static const char *pattern_run(segue__match *m, const char *s, const item *it);

void segue__match_init(segue__match *m, const segue__pattern *pattern, const char *subject,
                       size_t len) {
  m->pattern = pattern;
  m->subject = subject;
  m->end = subject + len;
  m->may_go_on = NULL;
  m->data = NULL;
  m->error = NULL;
  m->stopped = false;
  m->fuel = QUANTUM;
  m->spent = 0;
  m->spent_max = STEPS_MAX + (uint64_t)STEPS_PER_BYTE * len;
  m->depth = 0;
}

/* The steps of the quantum are used: returns whether the match may continue. */
static bool pattern_refuel(segue__match *m) {
  m->spent += (uint64_t)(QUANTUM - m->fuel);
  m->fuel = QUANTUM;
  if (m->may_go_on && !m->may_go_on(m->data)) {
    m->stopped = true;
    m->error = "out of CPU time";
  } else if (m->spent > m->spent_max) {
    m->error = "pattern too complex: it needs more than 10 million steps at one place";
  }
  return !m->error;
}

bool segue__match_charge(segue__match *m, unsigned steps) {
  m->spent = 0;
  m->fuel -= steps;
  return m->fuel > 0 || pattern_refuel(m);
}

static bool pattern_burn(segue__match *m, size_t steps) {
  m->fuel -= (int64_t)steps;
  return m->fuel > 0 || pattern_refuel(m);
}

static const char *pattern_deeper(segue__match *m, const char *s, const item *it) {
  if (m->depth == DEPTH_MAX) {
    m->error = "pattern too complex";
    return NULL;
  }
  m->depth++;
  const char *end = pattern_run(m, s, it);
  m->depth--;
  return end;
}

static bool pattern_fits(const item *it, char c) {
  return it->kind == ANY ||
         (it->kind == BYTE ? it->c == (uint8_t)c : pattern_has(it->u.set, (uint8_t)c));
}

/* Returns the number of bytes from s on that the item matches. */
static size_t pattern_span(const segue__match *m, const char *s, const item *it) {
  const char *p = s;
  if (it->kind == ANY) return (size_t)(m->end - s);
  if (it->kind == BYTE)
    while (p < m->end && (uint8_t)*p == it->c)
      p++;
  else
    while (p < m->end && pattern_has(it->u.set, (uint8_t)*p))
      p++;
  return (size_t)(p - s);
}

/* Returns whether the item needs its byte here, whatever follows. The matcher then skips positions
 * without that byte. */
static bool wants_byte(const item *it) {
  return it->kind == BYTE && (it->repeat == ONCE || it->repeat == PLUS);
}

/* Takes as many bytes as possible, then one less, and so on. */
static const char *match_greedy(segue__match *m, const char *s, const item *it) {
  size_t n = pattern_span(m, s, it), least = it->repeat == PLUS;
  const item *next = it + 1;
  if (n < least || !pattern_burn(m, n / 4 + 1)) return NULL;
  if (next->kind == DONE) return s + n;
  bool pick = wants_byte(next);
  for (const char *at = s + n; at >= s + least; at--) {
    if (pick && (at == m->end || (uint8_t)*at != next->c)) continue;
    const char *end = pattern_deeper(m, at, next);
    if (end || m->error) return end;
  }
  return NULL;
}

/* Takes as few bytes as possible. */
static const char *match_lazy(segue__match *m, const char *s, const item *it) {
  const item *next = it + 1;
  bool jump = it->kind == ANY && wants_byte(next);
  for (;; s++) {
    if (jump) {
      const char *at = memchr(s, next->c, (size_t)(m->end - s));
      if (!pattern_burn(m, (size_t)((at ? at : m->end) - s) / 16) || !at) return NULL;
      s = at;
    }
    const char *end = pattern_deeper(m, s, next);
    if (end || m->error) return end;
    assert(s);
    if (s == m->end || !pattern_fits(it, *s)) return NULL;
  }
}

static const char *match_again(segue__match *m, const char *s, unsigned i) {
  if (m->pattern->positions >> i & 1) return NULL;
  size_t len = (size_t)(m->to[i] - m->from[i]);
  if (len > (size_t)(m->end - s) || !pattern_burn(m, len / 16)) return NULL;
  return memcmp(s, m->from[i], len) == 0 ? s + len : NULL;
}

static const char *match_balanced(segue__match *m, const char *s, const item *it) {
  if (s == m->end || (uint8_t)*s != it->c) return NULL;
  size_t open = 1;
  for (const char *p = s + 1; p < m->end; p++) {
    if ((uint8_t)*p == it->d) {
      if (!--open) return pattern_burn(m, (size_t)(p - s) / 4) ? p + 1 : NULL;
    } else if ((uint8_t)*p == it->c) {
      open++;
    }
  }
  pattern_burn(m, (size_t)(m->end - s) / 4);
  return NULL;
}

static bool is_frontier(const segue__match *m, const char *s, const charset *set) {
  uint8_t before = s == m->subject ? 0 : (uint8_t)s[-1], here = s == m->end ? 0 : (uint8_t)*s;
  return !pattern_has(set, before) && pattern_has(set, here);
}

/* Matches an item that cannot be repeated; returns the end of the match, or NULL. */
static const char *match_other(segue__match *m, const char *s, const item *it) {
  switch (it->kind) {
  case OPEN:
    m->from[it->c] = s;
    return s;
  case CLOSE:
    m->to[it->c] = s;
    return s;
  case AGAIN:
    return match_again(m, s, it->c);
  case BALANCED:
    return match_balanced(m, s, it);
  case FRONTIER:
    return is_frontier(m, s, it->u.set) ? s : NULL;
  case AT_END:
    return s == m->end ? s : NULL;
  default:
    m->error = it->u.why;
    return NULL;
  }
}

static const char *pattern_run(segue__match *m, const char *s, const item *it) {
  for (;; it++) {
    if (--m->fuel <= 0 && !pattern_refuel(m)) return NULL;
    if (it->kind == DONE) return s;
    if (it->kind > SET) {
      s = match_other(m, s, it);
      if (!s) return NULL;
    } else if (it->repeat == ONCE) {
      if (s == m->end || !pattern_fits(it, *s)) return NULL;
      s++;
    } else if (it->repeat == OPTIONAL) {
      if (s == m->end || !pattern_fits(it, *s)) continue;
      const char *end = pattern_deeper(m, s + 1, it + 1);
      if (end || m->error) return end;
    } else {
      return it->repeat == LAZY ? match_lazy(m, s, it) : match_greedy(m, s, it);
    }
  }
}

const char *segue__match_at(segue__match *m, const char *at) {
  m->spent = 0;
  return pattern_run(m, at, m->pattern->items);
}

const char *segue__match_search(segue__match *m, const char **at) {
  const segue__pattern *pattern = m->pattern;
  if (pattern->anchored) return segue__match_at(m, *at);
  const item *first = pattern->items;
  bool jump = wants_byte(first);
  for (const char *s = *at; s <= m->end; s++) {
    if (jump) {
      const char *found = memchr(s, first->c, (size_t)(m->end - s));
      if (!pattern_burn(m, (size_t)((found ? found : m->end) - s) / 16) || !found) return NULL;
      s = found;
    }
    const char *end = segue__match_at(m, s);
    if (end) *at = s;
    if (end || m->error) return end;
  }
  return NULL;
}

segue__capture segue__match_capture(segue__match *m, unsigned i, const char **from, size_t *len) {
  *from = m->from[i];
  if (m->pattern->positions >> i & 1) return SEGUE__CAPTURE_POSITION;
  if (m->pattern->unclosed >> i & 1) {
    m->error = "unfinished capture";
    return SEGUE__CAPTURE_BAD;
  }
  *len = (size_t)(m->to[i] - m->from[i]);
  return SEGUE__CAPTURE_TEXT;
}
