/* SPDX-License-Identifier: MIT
 *
 * segue.int: exact 64-bit integers that a Lua number cannot hold (beyond 2^53). Arithmetic with
 * integers is exact; its result is a plain number where that is exact, and a result beyond 64 bits
 * is an error. Division and fractions give numbers. The type segue__wide has more than 64 bits, so
 * sums and differences cannot overflow in C.
 */
#include <math.h>
#include <string.h>

#include "value.h"

static const char metatable[] = "segue.int";
#define EXACT ((segue__wide)1 << 53)

struct boxed {
  uint64_t bits;
  bool is_unsigned; /* above INT64_MAX */
};

static segue__wide int64_unbox(const struct boxed *box) {
  return box->is_unsigned ? (segue__wide)box->bits : (segue__wide)(int64_t)box->bits;
}

static void push_boxed(lua_State *L, segue__wide value) {
  if (value > UINT64_MAX || value < INT64_MIN)
    luaL_error(L, "the result does not fit into 64 bits");
  struct boxed *box = lua_newuserdata(L, sizeof *box);
  box->bits = (uint64_t)value;
  box->is_unsigned = value > INT64_MAX;
  luaL_setmetatable(L, metatable);
}

void segue__int_push(lua_State *L, segue__wide value) {
  if (value >= -EXACT && value <= EXACT)
    lua_pushnumber(L, (lua_Number)value);
  else
    push_boxed(L, value);
}

bool segue__int_test(lua_State *L, int index, segue__wide *out) {
  if (lua_type(L, index) != LUA_TUSERDATA) return false;
  struct boxed *box = luaL_testudata(L, index, metatable);
  if (box) *out = int64_unbox(box);
  return box != NULL;
}

/* A number beyond 2^53 may have been rounded, so it is not an exact integer. */
static bool from_number(lua_Number n, segue__wide *out) {
  if (n != floor(n) || fabs(n) > (lua_Number)EXACT) return false;
  *out = (segue__wide)n;
  return true;
}

static bool from_text(const char *text, segue__wide *out) {
  bool negative = *text == '-';
  const char *digits = text + negative;
  size_t len = strspn(digits, "0123456789");
  if (!len || digits[len] || len > 20) return false;
  segue__wide value = 0;
  for (; *digits; digits++)
    value = value * 10 + (*digits - '0');
  *out = negative ? -value : value;
  return *out <= UINT64_MAX && *out >= INT64_MIN;
}

int segue__int_new(lua_State *L) {
  segue__wide value;
  if (lua_type(L, 1) == LUA_TNUMBER   ? from_number(lua_tonumber(L, 1), &value)
      : lua_type(L, 1) == LUA_TSTRING ? from_text(lua_tostring(L, 1), &value)
                                      : segue__int_test(L, 1, &value)) {
    push_boxed(L, value);
    return 1;
  }
  return luaL_error(L, "segue.int needs a whole number of at most 64 bits, or a text of digits");
}

/* Reads both operands as exact integers; returns false if one is a fraction. */
static bool exact_operands(lua_State *L, segue__wide *a, segue__wide *b) {
  segue__wide *out[] = {a, b};
  bool exact = true;
  for (int i = 1; i <= 2; i++) {
    if (segue__int_test(L, i, out[i - 1])) continue;
    lua_Number n = luaL_checknumber(L, i);
    exact = from_number(n, out[i - 1]) && exact;
  }
  return exact;
}

static lua_Number as_number(lua_State *L, int index) {
  segue__wide value;
  return segue__int_test(L, index, &value) ? (lua_Number)value : luaL_checknumber(L, index);
}

static int int64_add(lua_State *L) {
  segue__wide a, b;
  if (exact_operands(L, &a, &b))
    segue__int_push(L, a + b);
  else
    lua_pushnumber(L, as_number(L, 1) + as_number(L, 2));
  return 1;
}

static int int64_subtract(lua_State *L) {
  segue__wide a, b;
  if (exact_operands(L, &a, &b))
    segue__int_push(L, a - b);
  else
    lua_pushnumber(L, as_number(L, 1) - as_number(L, 2));
  return 1;
}

static int int64_multiply(lua_State *L) {
  segue__wide a, b, product;
  if (!exact_operands(L, &a, &b)) {
    lua_pushnumber(L, as_number(L, 1) * as_number(L, 2));
    return 1;
  }
  if (__builtin_mul_overflow(a, b, &product))
    return luaL_error(L, "the result does not fit into 64 bits");
  segue__int_push(L, product);
  return 1;
}

/* As in Lua, the result has the sign of the divisor; the % of C has that of the dividend. */
static int int64_modulo(lua_State *L) {
  segue__wide a, b;
  if (!exact_operands(L, &a, &b)) {
    lua_Number x = as_number(L, 1), y = as_number(L, 2);
    lua_pushnumber(L, x - floor(x / y) * y);
    return 1;
  }
  if (!b) return luaL_error(L, "attempt to perform 'n%%%%0'");
  segue__wide rest = a % b;
  segue__int_push(L, rest && (rest < 0) != (b < 0) ? rest + b : rest);
  return 1;
}

static int int64_divide(lua_State *L) {
  lua_pushnumber(L, as_number(L, 1) / as_number(L, 2));
  return 1;
}

static int int64_power(lua_State *L) {
  lua_pushnumber(L, pow(as_number(L, 1), as_number(L, 2)));
  return 1;
}

static int int64_negate(lua_State *L) {
  segue__wide a;
  if (!segue__int_test(L, 1, &a)) return luaL_argerror(L, 1, "segue.int expected");
  segue__int_push(L, -a);
  return 1;
}

static int int64_equal(lua_State *L) {
  segue__wide a, b;
  lua_pushboolean(L, segue__int_test(L, 1, &a) && segue__int_test(L, 2, &b) && a == b);
  return 1;
}

static int int64_less(lua_State *L) {
  segue__wide a, b;
  if (exact_operands(L, &a, &b))
    lua_pushboolean(L, a < b);
  else
    lua_pushboolean(L, as_number(L, 1) < as_number(L, 2));
  return 1;
}

static int less_or_equal(lua_State *L) {
  segue__wide a, b;
  if (exact_operands(L, &a, &b))
    lua_pushboolean(L, a <= b);
  else
    lua_pushboolean(L, as_number(L, 1) <= as_number(L, 2));
  return 1;
}

static int push_digits(lua_State *L, segue__wide value) {
  char text[24];
  int n = value > INT64_MAX ? snprintf(text, sizeof text, "%llu", (unsigned long long)value)
                            : snprintf(text, sizeof text, "%lld", (long long)value);
  lua_pushlstring(L, text, (size_t)n);
  return 1;
}

static int int64_to_string(lua_State *L) {
  segue__wide value;
  if (!segue__int_test(L, 1, &value)) return luaL_argerror(L, 1, "segue.int expected");
  return push_digits(L, value);
}

static int concatenate(lua_State *L) {
  for (int i = 1; i <= 2; i++) {
    segue__wide value;
    if (segue__int_test(L, i, &value))
      push_digits(L, value);
    else {
      luaL_checkstring(L, i);
      lua_pushvalue(L, i);
    }
  }
  lua_concat(L, 2);
  return 1;
}

void segue__int_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"__add", int64_add},
                                       {"__sub", int64_subtract},
                                       {"__mul", int64_multiply},
                                       {"__mod", int64_modulo},
                                       {"__div", int64_divide},
                                       {"__pow", int64_power},
                                       {"__unm", int64_negate},
                                       {"__eq", int64_equal},
                                       {"__lt", int64_less},
                                       {"__le", less_or_equal},
                                       {"__tostring", int64_to_string},
                                       {"__concat", concatenate},
                                       {NULL, NULL}};
  luaL_newmetatable(L, metatable);
  luaL_setfuncs(L, functions, 0);
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
}
