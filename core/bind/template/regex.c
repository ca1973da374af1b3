/* SPDX-License-Identifier: MIT
 *
 * Regular expressions for templates, on PCRE2. The translation from RE2's syntax is in Lua
 * (lua/segue/template/regex.lua); here are compiling, matching and the limits of a match: a pattern
 * that RE2 matches in linear time may take PCRE2 exponential time.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <lauxlib.h>
#include <pcre2.h>

#include "template_internal.h"

enum { STEPS_MAX = 10 * 1000 * 1000, HEAP_MAX_KIB = 64 * 1024 };

static const char regex_metatable[] = "segue.template.regex";

typedef struct template_regex {
  pcre2_code *code;
  pcre2_match_data *match;
  pcre2_match_context *context;
} template_regex;

static int regex_free(lua_State *L) {
  template_regex *re = luaL_checkudata(L, 1, regex_metatable);
  pcre2_match_data_free(re->match);
  pcre2_match_context_free(re->context);
  pcre2_code_free(re->code);
  *re = (template_regex){0};
  return 0;
}

/* regex_new(pattern) -> regex, or nil, message, offset. UTF-8; $ is only the end of the text. */
static int regex_new(lua_State *L) {
  size_t len, offset;
  int error;
  const char *pattern = luaL_checklstring(L, 1, &len);
  template_regex *re = lua_newuserdata(L, sizeof *re);
  *re = (template_regex){0};
  luaL_getmetatable(L, regex_metatable);
  lua_setmetatable(L, -2);
  const uint32_t options = PCRE2_UTF | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C;
  re->code = pcre2_compile((PCRE2_SPTR)pattern, len, options, &error, &offset, NULL);
  if (!re->code) {
    char message[256] = "";
    pcre2_get_error_message(error, (PCRE2_UCHAR *)message, sizeof message);
    lua_pushnil(L);
    lua_pushstring(L, message);
    lua_pushnumber(L, (lua_Number)offset);
    return 3;
  }
  re->match = pcre2_match_data_create_from_pattern(re->code, NULL);
  re->context = pcre2_match_context_create(NULL);
  if (!re->match || !re->context) {
    segue__template_of(L)->starved = true;
    return luaL_error(L, "not enough memory");
  }
  pcre2_set_match_limit(re->context, STEPS_MAX);
  pcre2_set_heap_limit(re->context, HEAP_MAX_KIB);
  return 1;
}

/* regex_match(regex, subject, from) -> first, last byte of the match and of each group (0, 0: the
 * group is not part of it), or nothing; false, message on failure. */
static int regex_match(lua_State *L) {
  template_regex *re = luaL_checkudata(L, 1, regex_metatable);
  size_t len;
  const char *subject = luaL_checklstring(L, 2, &len);
  size_t from = (size_t)luaL_checkinteger(L, 3) - 1;
  if (!re->code || from > len) return 0;
  int count = pcre2_match(re->code, (PCRE2_SPTR)subject, len, from, 0, re->match, re->context);
  if (count == PCRE2_ERROR_NOMATCH) return 0;
  if (count < 0) {
    char message[256] = "";
    pcre2_get_error_message(count, (PCRE2_UCHAR *)message, sizeof message);
    lua_pushboolean(L, false);
    lua_pushstring(L, message);
    return 2;
  }
  const PCRE2_SIZE *at = pcre2_get_ovector_pointer(re->match);
  uint32_t groups = pcre2_get_ovector_count(re->match);
  luaL_checkstack(L, (int)groups * 2, "too many groups");
  for (uint32_t i = 0; i < groups; i++) {
    bool found = i < (uint32_t)count && at[2 * i] != PCRE2_UNSET;
    lua_pushnumber(L, found ? (lua_Number)at[2 * i] + 1 : 0);
    lua_pushnumber(L, found ? (lua_Number)at[2 * i + 1] : 0);
  }
  return (int)groups * 2;
}

/* regex_groups(regex) -> the number of each named group by its name */
static int regex_groups(lua_State *L) {
  template_regex *re = luaL_checkudata(L, 1, regex_metatable);
  uint32_t count, size;
  PCRE2_SPTR names;
  pcre2_pattern_info(re->code, PCRE2_INFO_NAMECOUNT, &count);
  pcre2_pattern_info(re->code, PCRE2_INFO_NAMEENTRYSIZE, &size);
  pcre2_pattern_info(re->code, PCRE2_INFO_NAMETABLE, &names);
  lua_createtable(L, 0, (int)count);
  for (uint32_t i = 0; i < count; i++, names += size) {
    lua_pushnumber(L, names[0] << 8 | names[1]);
    lua_setfield(L, -2, (const char *)names + 2);
  }
  return 1;
}

void segue__template_regex_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"regex_new", regex_new},
                                       {"regex_match", regex_match},
                                       {"regex_groups", regex_groups},
                                       {NULL, NULL}};
  luaL_newmetatable(L, regex_metatable);
  lua_pushcfunction(L, regex_free);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  luaL_setfuncs(L, functions, 0);
}
