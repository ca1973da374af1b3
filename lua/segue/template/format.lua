-- SPDX-License-Identifier: MIT
-- Values as text, as fmt prints them by %v. The verbs of printf: printf.lua.
local ffi = require "ffi"
local value = require "segue.template.value"

local getmetatable, type, tostring, tonumber = getmetatable, type, tostring, tonumber
local format, sub, rep = string.format, string.sub, string.rep
local concat = table.concat
local istype = ffi.istype
local float, int64, uint8 = value.float, value.int64, value.uint8
local NULL = value.NULL

local text = {}

-- The C library rounds ties to even, as Go does; LuaJIT's own string.format does not.
ffi.cdef "int snprintf(char *s, size_t n, const char *format, ...);"
local digits_buffer = ffi.new "char[1600]"
---@param pattern string with one %.*
---@param precision integer
---@param v number
---@return string
function text.c_format(pattern, precision, v)
  local n = ffi.C.snprintf(digits_buffer, 1600, pattern, ffi.cast("int", precision), v)
  return ffi.string(digits_buffer, n < 1600 and n or 1599)
end

-- The decimal digits and the exponent of the shortest number that reads back as v (finite, not 0):
-- v = 0.DIGITS * 10^exponent.
---@param v number positive
---@return string digits
---@return integer exponent
function text.shortest(v)
  -- Denormal numbers near 0 have fewer than 15 significant digits.
  for precision = v < 2.3e-308 and 1 or 15, 17 do
    local s = precision == 15 and format("%.14e", v) or text.c_format("%.*e", precision - 1, v)
    if precision == 17 or tonumber(s) == v then
      local lead, digits, exponent = s:match "^(%d)%.?(%d*)e([+-]%d+)$"
      return ((lead .. digits):gsub("0+$", "")), tonumber(exponent) + 1
    end
  end
  error "unreachable"
end

-- Digits in the form 1.5e+06.
function text.exponent_form(digits, exponent, letter)
  local e = exponent - 1
  return sub(digits, 1, 1) .. (#digits > 1 and "." .. sub(digits, 2) or "")
    .. format("%s%s%02d", letter or "e", e < 0 and "-" or "+", math.abs(e))
end

-- Digits in the form 1500000 or 0.0015.
function text.plain_form(digits, exponent)
  if exponent <= 0 then return "0." .. rep("0", -exponent) .. digits end
  if exponent >= #digits then return digits .. rep("0", exponent - #digits) end
  return sub(digits, 1, exponent) .. "." .. sub(digits, exponent + 1)
end

-- strconv.FormatFloat(v, 'g', -1, 64): the exponent form from 1e+06 on, however many digits there
-- are.
---@param v number
---@return string
function text.float(v)
  if v ~= v then return "NaN" end
  if v == math.huge then return "+Inf" end
  if v == -math.huge then return "-Inf" end
  if v == 0 then return 1 / v < 0 and "-0" or "0" end
  local sign = v < 0 and "-" or ""
  local digits, exponent = text.shortest(v < 0 and -v or v)
  if exponent - 1 < -4 or exponent - 1 >= 6 then
    return sign .. text.exponent_form(digits, exponent)
  end
  return sign .. text.plain_form(digits, exponent)
end

-- The decimal digits of an int, int64 or uint64.
---@param v any
---@return string
function text.integer(v)
  if type(v) == "number" then return format("%.0f", v) end
  if istype(int64, v) or istype(uint8, v) then v = v.v end
  return (tostring(v):gsub("U?LL$", ""))
end
local integer = text.integer

local append

local function append_list(out, n, v)
  n = n + 1
  out[n] = "["
  for i = 1, #v do
    if i > 1 then
      n = n + 1
      out[n] = " "
    end
    n = append(out, n, v[i])
  end
  out[n + 1] = "]"
  return n + 1
end

local function append_map(out, n, v)
  n = n + 1
  out[n] = "map["
  for i, key in ipairs(value.sorted_keys(v)) do
    n = append(out, n, key)
    out[n] = (i > 1 and " " or "") .. out[n] .. ":"
    n = append(out, n, v[key])
  end
  out[n + 1] = "]"
  return n + 1
end

local function append_struct(out, n, v)
  n = n + 1
  out[n] = "{"
  for i, name in ipairs(getmetatable(v).fields) do
    if i > 1 then
      n = n + 1
      out[n] = " "
    end
    n = append(out, n, v[name])
  end
  out[n + 1] = "}"
  return n + 1
end

-- Adds the parts of v to out and returns their number.
function append(out, n, v)
  local t = type(v)
  if t == "table" then
    local m = getmetatable(v)
    if m.kind == "list" then return append_list(out, n, v) end
    if m.kind == "map" then return append_map(out, n, v) end
    if m.print then
      out[n + 1] = m.print(v)
      return n + 1
    end
    if m.kind == "struct" then return append_struct(out, n, v) end
    out[n + 1] = m.kind == "channel" and "0xc000000000" or "<nil>"
    return n + 1
  end
  out[n + 1] = text.value(v)
  return n + 1
end

-- %v: nil and NULL are <nil>.
---@param v any
---@return string
function text.value(v)
  local t = type(v)
  if t == "string" then return v end
  if t == "number" then return integer(v) end
  if t == "boolean" then return v and "true" or "false" end
  if v == nil or v == NULL then return "<nil>" end
  if t == "cdata" then
    if istype(float, v) then return text.float(v.v) end
    return integer(v)
  end
  local out = {}
  append(out, 0, v)
  return concat(out)
end

-- fmt.Sprint: a space between operands when neither is a string.
---@param n integer
---@param ... any
---@return string
function text.print(n, ...)
  if n == 1 then return text.value((...)) end
  local out, was_string = {}, true
  for i = 1, n do
    local v = select(i, ...)
    local is_string = type(v) == "string"
    local printed = text.value(v)
    out[i] = (i > 1 and not is_string and not was_string) and " " .. printed or printed
    was_string = is_string
  end
  return concat(out)
end

-- fmt.Sprintln
---@param n integer
---@param ... any
---@return string
function text.println(n, ...)
  local out = {}
  for i = 1, n do out[i] = text.value((select(i, ...))) end
  return concat(out, " ") .. "\n"
end

return text
