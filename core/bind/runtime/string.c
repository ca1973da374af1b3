/* SPDX-License-Identifier: MIT
 *
 * string.find, match, gmatch, gsub, rep and format, and table.concat, sort and insert: replacements
 * of LuaJIT's own, which no hook interrupts. They have the same results, count their work against
 * the CPU budget of the call, and reject results that are too long.
 */
#include <lualib.h>
#include <math.h>
#include <stdalign.h>
#include <string.h>

#include "../../os/text.h"
#include "pattern.h"
#include "state.h"
#include "value.h"

/* Longer texts can be built in parts, within the memory limit. */
enum { TEXT_MAX = 16 * 1024 * 1024, CONCAT_MAX = 64 * 1024 * 1024 };
enum { PATTERN_MAX = 256 * 1024, CALLBACK_STEPS = 64 };

/* Up to this size LuaJIT's own loops are short enough: sorting the worst possible list makes a
 * quarter of a million comparisons, and inserting moves as many items. */
enum { SORT_PLAIN = 1000, INSERT_PLAIN = 100000 };

/* Compiled patterns of up to about fifty bytes are on the C stack. */
enum { SMALL = 2048 };
typedef struct memory {
  alignas(16) char small[SMALL];
} memory;

/* ---- Patterns -------------------------------------------------------------------------------- */

static bool may_go_on(void *data) {
  lua_State *L = data;
  return !segue__budget_is_spent(segue__lua_of(L)->budget);
}

/* Stores a pattern that is too large for the C stack in a value on the Lua stack, which must stay
 * there. */
static const segue__pattern *string_compile(lua_State *L, int index, bool anchor, memory *memory) {
  size_t len;
  const char *text = luaL_checklstring(L, index, &len);
  size_t size = len < PATTERN_MAX ? segue__pattern_size(len) : 0;
  if (!size) luaL_argerror(L, index, "the pattern is too long");
  void *at = size <= sizeof memory->small ? memory->small : lua_newuserdata(L, size);
  return segue__pattern_compile(at, text, len, anchor);
}

static void string_begin(lua_State *L, segue__match *m, const segue__pattern *pattern,
                         int subject) {
  size_t len;
  const char *text = lua_tolstring(L, subject, &len);
  segue__match_init(m, pattern, text, len);
  m->may_go_on = may_go_on;
  m->data = L;
}

static int string_fail(lua_State *L, const segue__match *m) {
  if (m->stopped) segue__budget_raise(L);
  return luaL_error(L, "%s", m->error);
}

static void push_capture(lua_State *L, segue__match *m, unsigned i) {
  const char *from;
  size_t len;
  switch (segue__match_capture(m, i, &from, &len)) {
  case SEGUE__CAPTURE_TEXT:
    lua_pushlstring(L, from, len);
    break;
  case SEGUE__CAPTURE_POSITION:
    lua_pushinteger(L, from - m->subject + 1);
    break;
  default:
    string_fail(L, m);
  }
}

/* Pushes all captures, or the whole match if the pattern has none and `whole` is set. */
static int push_captures(lua_State *L, segue__match *m, const char *from, const char *to,
                         bool whole) {
  unsigned n = segue__pattern_captures(m->pattern);
  luaL_checkstack(L, (int)n + 1, "too many captures");
  if (!n && whole) {
    lua_pushlstring(L, from, (size_t)(to - from));
    return 1;
  }
  for (unsigned i = 0; i < n; i++)
    push_capture(L, m, i);
  return (int)n;
}

/* ---- find, match ----------------------------------------------------------------------------- */

/* Returns the start position, from 0; negative positions count from the end. */
static size_t start_of(lua_State *L, int index, size_t len) {
  lua_Number n = trunc(luaL_optnumber(L, index, 1));
  if (n < 0) n += (lua_Number)len + 1;
  if (!(n > 1)) return 0;
  return n > (lua_Number)len ? len : (size_t)n - 1;
}

static bool string_is_plain(const char *text, size_t len) {
  for (size_t i = 0; i < len; i++)
    if (segue__is_one_of(text[i], "^$*+?.([%-")) return false;
  return true;
}

static int find_plain(lua_State *L, size_t start) {
  size_t len, wanted_len;
  const char *text = lua_tolstring(L, 1, &len), *wanted = lua_tolstring(L, 2, &wanted_len);
  const char *at = memmem(text + start, len - start, wanted, wanted_len);
  if (!at) return lua_pushnil(L), 1;
  lua_pushinteger(L, at - text + 1);
  lua_pushinteger(L, at - text + (ptrdiff_t)wanted_len);
  return 2;
}

static int string_search(lua_State *L, size_t start, bool find) {
  memory memory;
  segue__match m;
  string_begin(L, &m, string_compile(L, 2, true, &memory), 1);
  const char *from = m.subject + start, *to = segue__match_search(&m, &from);
  if (m.error) return string_fail(L, &m);
  if (!to) return lua_pushnil(L), 1;
  if (!find) return push_captures(L, &m, from, to, true);
  lua_pushinteger(L, from - m.subject + 1);
  lua_pushinteger(L, to - m.subject);
  return 2 + push_captures(L, &m, from, to, false);
}

static int string_find(lua_State *L) {
  size_t len, wanted_len;
  luaL_checklstring(L, 1, &len);
  const char *wanted = luaL_checklstring(L, 2, &wanted_len);
  size_t start = start_of(L, 3, len);
  if (lua_toboolean(L, 4) || string_is_plain(wanted, wanted_len)) return find_plain(L, start);
  return string_search(L, start, true);
}

static int string_match(lua_State *L) {
  size_t len;
  luaL_checklstring(L, 1, &len);
  luaL_checkstring(L, 2);
  return string_search(L, start_of(L, 3, len), false);
}

/* ---- gmatch ---------------------------------------------------------------------------------- */

/* A userdata: this, and behind it the compiled pattern. */
typedef struct iterator {
  const segue__pattern *pattern;
  size_t at;
} iterator;

/* upvalues: subject, iterator */
static int next_match(lua_State *L) {
  iterator *it = lua_touserdata(L, lua_upvalueindex(2));
  segue__match m;
  string_begin(L, &m, it->pattern, lua_upvalueindex(1));
  if (it->at > (size_t)(m.end - m.subject)) return 0;
  const char *from = m.subject + it->at, *to = segue__match_search(&m, &from);
  if (m.error) return string_fail(L, &m);
  it->at = to ? (size_t)(to - m.subject) + (to == from) : (size_t)(m.end - m.subject) + 1;
  return to ? push_captures(L, &m, from, to, true) : 0;
}

static int string_gmatch(lua_State *L) {
  enum { HEAD = (sizeof(iterator) + 15) & ~15 };
  size_t len;
  luaL_checkstring(L, 1);
  const char *text = luaL_checklstring(L, 2, &len);
  if (len >= PATTERN_MAX) return luaL_argerror(L, 2, "the pattern is too long");
  lua_settop(L, 2);
  iterator *it = lua_newuserdata(L, HEAD + segue__pattern_size(len));
  it->pattern = segue__pattern_compile((char *)it + HEAD, text, len, false);
  it->at = 0;
  lua_replace(L, 2);
  lua_pushcclosure(L, next_match, 2);
  return 1;
}

/* ---- gsub ------------------------------------------------------------------------------------ */

/* A growing text; the collector owns it through the stack slot. */
typedef struct text {
  lua_State *L;
  int slot;
  size_t len, cap, max;
  char *data;
  char small[1024];
} text;

static void string_grow(text *t, size_t more) {
  if (t->len + more > t->max)
    luaL_error(t->L, "string.gsub: the result would be longer than %d MiB", (int)(t->max >> 20));
  size_t cap = t->cap * 2 < t->len + more ? t->len + more : t->cap * 2;
  if (cap > t->max) cap = t->max;
  char *data = lua_newuserdata(t->L, cap);
  memcpy(data, t->data, t->len);
  lua_replace(t->L, t->slot);
  t->data = data;
  t->cap = cap;
}

static void string_append(text *t, const char *data, size_t len) {
  if (len > t->cap - t->len) string_grow(t, len);
  memcpy(t->data + t->len, data, len);
  t->len += len;
}

/* Stack slots of gsub. */
enum { SUBJECT = 1, PATTERN, REPLACEMENT, LIMIT, OUT };

typedef struct substitution {
  segue__match m;
  text out;
  int type; /* of the replacement */
} substitution;

/* %0 to %9 in the replacement: the whole match (also %1 if there are no captures), or a capture. */
static void append_capture(substitution *s, unsigned digit, const char *from, const char *to) {
  lua_State *L = s->out.L;
  unsigned n = segue__pattern_captures(s->m.pattern);
  if (!digit || (digit == 1 && !n)) {
    string_append(&s->out, from, (size_t)(to - from));
    return;
  }
  if (digit > n) luaL_error(L, "invalid capture index");
  size_t len;
  const char *data;
  if (segue__match_capture(&s->m, digit - 1, &data, &len) == SEGUE__CAPTURE_TEXT) {
    string_append(&s->out, data, len);
    return;
  }
  push_capture(L, &s->m, digit - 1);
  data = lua_tolstring(L, -1, &len);
  string_append(&s->out, data, len);
  lua_pop(L, 1);
}

static void append_template(substitution *s, const char *from, const char *to) {
  size_t len;
  const char *text = lua_tolstring(s->out.L, REPLACEMENT, &len), *end = text + len;
  for (const char *percent; (percent = memchr(text, '%', (size_t)(end - text))); text += 2) {
    string_append(&s->out, text, (size_t)(percent - text));
    text = percent;
    if (text[1] >= '0' && text[1] <= '9')
      append_capture(s, (unsigned)(text[1] - '0'), from, to);
    else
      string_append(&s->out, text + 1, 1); /* at the end, the byte that ends every text */
    if (text + 1 == end) return;
  }
  string_append(&s->out, text, (size_t)(end - text));
}

/* Calls the function, or indexes the table. false and nil keep the matched text. */
static void append_answer(substitution *s, const char *from, const char *to) {
  lua_State *L = s->out.L;
  if (!segue__match_charge(&s->m, CALLBACK_STEPS)) string_fail(L, &s->m);
  if (s->type == LUA_TFUNCTION) {
    lua_pushvalue(L, REPLACEMENT);
    lua_call(L, push_captures(L, &s->m, from, to, true), 1);
  } else {
    unsigned n = segue__pattern_captures(s->m.pattern);
    if (n)
      push_capture(L, &s->m, 0);
    else
      lua_pushlstring(L, from, (size_t)(to - from));
    lua_gettable(L, REPLACEMENT);
  }
  size_t len = (size_t)(to - from);
  const char *data = from;
  if (lua_toboolean(L, -1)) {
    if (!lua_isstring(L, -1))
      luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    data = lua_tolstring(L, -1, &len);
  }
  string_append(&s->out, data, len);
  lua_pop(L, 1);
}

static void append_replacement(substitution *s, const char *from, const char *to) {
  if (s->type == LUA_TSTRING)
    append_template(s, from, to);
  else
    append_answer(s, from, to);
}

/* Returns the number of replacements. A match begins where the previous one ended; after an empty
 * match one byte is skipped. */
static size_t substitute(substitution *s, size_t limit) {
  segue__match *m = &s->m;
  const char *at = m->subject; /* the text before it is done */
  size_t n = 0;
  while (n < limit) {
    const char *from = at, *to = segue__match_search(m, &from);
    if (m->error) string_fail(s->out.L, m);
    if (!to) break;
    string_append(&s->out, at, (size_t)(from - at));
    append_replacement(s, from, to);
    n++;
    at = to;
    if (to == from && at < m->end) string_append(&s->out, at++, 1);
    if ((to == from && to == m->end) || segue__pattern_is_anchored(m->pattern)) break;
  }
  string_append(&s->out, at, (size_t)(m->end - at));
  return n;
}

static int check_replacement(lua_State *L) {
  int type = lua_type(L, REPLACEMENT);
  if (type == LUA_TNUMBER) lua_tostring(L, REPLACEMENT);
  if (type == LUA_TNUMBER) type = LUA_TSTRING;
  if (type == LUA_TSTRING || type == LUA_TFUNCTION || type == LUA_TTABLE) return type;
  if (!segue__value_test(L, REPLACEMENT))
    luaL_argerror(L, REPLACEMENT, "string, table or function expected");
  return LUA_TTABLE;
}

static size_t string_limit_of(lua_State *L, size_t len) {
  lua_Number n = luaL_optnumber(L, LIMIT, (lua_Number)len + 1);
  return n >= (lua_Number)len + 1 ? len + 1 : n >= 1 ? (size_t)n : 0;
}

static int string_gsub(lua_State *L) {
  memory memory;
  substitution s;
  size_t len;
  segue__lua_guard(L);
  luaL_checklstring(L, SUBJECT, &len);
  luaL_checkstring(L, PATTERN);
  s.type = check_replacement(L);
  size_t limit = string_limit_of(L, len);
  lua_settop(L, OUT);
  string_begin(L, &s.m, string_compile(L, PATTERN, true, &memory), SUBJECT);
  s.out.L = L;
  s.out.slot = OUT;
  s.out.len = 0;
  s.out.cap = sizeof s.out.small;
  s.out.max = len + TEXT_MAX;
  s.out.data = s.out.small;
  size_t n = substitute(&s, limit);
  if (n)
    lua_pushlstring(L, s.out.data, s.out.len);
  else
    lua_pushvalue(L, SUBJECT);
  lua_pushinteger(L, (lua_Integer)n);
  return 2;
}

/* ---- rep, format, concat, sort --------------------------------------------------------------- */

/* Calls the original function (the upvalue) with the arguments on the stack. */
static int string_original(lua_State *L, int results) {
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, results);
  return lua_gettop(L);
}

static int string_rep(lua_State *L) {
  size_t len, gap = 0;
  luaL_checklstring(L, 1, &len);
  lua_Number n = luaL_checknumber(L, 2);
  luaL_optlstring(L, 3, "", &gap);
  if (n > 1 && n * (lua_Number)(len + gap) > TEXT_MAX)
    return luaL_error(L, "string.rep: the result would be longer than %d MiB", TEXT_MAX >> 20);
  return string_original(L, 1);
}

/* Widths and precisions have at most two digits: only texts make a result long. */
static int string_format(lua_State *L) {
  size_t sum = 0;
  segue__lua_guard(L);
  for (int i = lua_gettop(L); i > 0; i--)
    sum += lua_type(L, i) == LUA_TSTRING ? lua_objlen(L, i) : 0;
  if (sum > CONCAT_MAX)
    return luaL_error(L, "string.format: the result would be longer than %d MiB", CONCAT_MAX >> 20);
  return string_original(L, 1);
}

static void check_budget(lua_State *L) {
  if (!may_go_on(L)) segue__budget_raise(L);
}

static int table_concat(lua_State *L) {
  size_t gap = 0;
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_optlstring(L, 2, "", &gap);
  lua_Number first = luaL_optnumber(L, 3, 1), last = luaL_optnumber(L, 4, -1), sum = 0;
  if (lua_isnoneornil(L, 4)) last = (lua_Number)lua_objlen(L, 1);
  if (!(last - first < INT32_MAX) || !(first > INT32_MIN) || !(last < INT32_MAX)) last = first - 1;
  for (lua_Number i = first; i <= last; i++) {
    lua_rawgeti(L, 1, (int)i);
    bool text = lua_type(L, -1) == LUA_TSTRING;
    sum += (lua_Number)((text ? lua_objlen(L, -1) : 0) + gap);
    bool end = lua_isnil(L, -1);
    lua_pop(L, 1);
    if (end) break; /* the original reports the error */
    if (sum > CONCAT_MAX)
      return luaL_error(L, "table.concat: the result would be longer than %d MiB",
                        CONCAT_MAX >> 20);
    if (!((int)i & 0xffff)) check_budget(L);
  }
  return string_original(L, 1);
}

/* a < b, for sorting without an order function; upvalue: the steps so far. */
static int is_less(lua_State *L) {
  size_t *steps = lua_touserdata(L, lua_upvalueindex(1));
  if (lua_type(L, 1) == LUA_TSTRING) *steps += lua_objlen(L, 1) / 64;
  if (++*steps >= 4096) {
    *steps = 0;
    check_budget(L);
  }
  lua_pushboolean(L, lua_lessthan(L, 1, 2));
  return 1;
}

/* The same with an order function written in C, such as rawequal: whether a hook runs between its
 * calls depends on how the budget measures time. upvalues: the steps so far, the function. */
static int is_before(lua_State *L) {
  size_t *steps = lua_touserdata(L, lua_upvalueindex(1));
  if (!(++*steps & 1023)) check_budget(L);
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, 1);
  return 1;
}

static int table_sort(lua_State *L) {
  segue__lua_guard(L);
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 2);
  bool plain = lua_isnil(L, 2);
  if ((plain || lua_iscfunction(L, 2)) && lua_objlen(L, 1) > SORT_PLAIN) {
    size_t *steps = lua_newuserdata(L, sizeof *steps);
    *steps = 0;
    if (!plain) lua_pushvalue(L, 2);
    lua_pushcclosure(L, plain ? is_less : is_before, plain ? 1 : 2);
    lua_replace(L, 2);
  }
  return string_original(L, 0);
}

/* insert(t, [position,] value). LuaJIT's takes any position: from -2^31 it moves nothing for 18 s.
 * And the length of a table with few items may be 2^30 (t[1], t[2], t[4] ...). */
static int table_insert(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  int n = lua_gettop(L);
  if (n != 3) return string_original(L, 0);
  lua_Number at = luaL_checknumber(L, 2), end = (lua_Number)lua_objlen(L, 1) + 1;
  if (!(at >= 1 && at <= INT32_MAX))
    return luaL_error(L, "bad argument #2 to 'insert' (the position %.14g is not in the list)", at);
  if (end - at <= INSERT_PLAIN) return string_original(L, 0);
  for (int i = (int)end; i > (int)at; i--) {
    lua_rawgeti(L, 1, i - 1);
    lua_rawseti(L, 1, i);
    if (!(i & 0xffff)) check_budget(L);
  }
  lua_rawseti(L, 1, (int)at);
  return 0;
}

/* Replaces member `name` of the table on top by fn with the original as upvalue. */
static void string_wrap(lua_State *L, const char *name, lua_CFunction fn) {
  lua_getfield(L, -1, name);
  lua_pushcclosure(L, fn, 1);
  lua_setfield(L, -2, name);
}

void segue__string_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"find", string_find},
                                       {"match", string_match},
                                       {"gmatch", string_gmatch},
                                       {"gsub", string_gsub},
                                       {NULL, NULL}};
  lua_getglobal(L, "string");
  luaL_setfuncs(L, functions, 0);
  string_wrap(L, "rep", string_rep);
  string_wrap(L, "format", string_format);
  lua_getglobal(L, "table");
  string_wrap(L, "concat", table_concat);
  string_wrap(L, "sort", table_sort);
  string_wrap(L, "insert", table_insert);
  lua_pop(L, 2);
}
