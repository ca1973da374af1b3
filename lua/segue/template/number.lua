-- SPDX-License-Identifier: MIT
-- Constants of templates: Go's parse.Tree.newNumber. A constant is an int and a float at once, and
-- the argument that it becomes decides.
local ffi = require "ffi"
local quote = require "segue.template.quote"
local value = require "segue.template.value"

local byte, sub = string.byte, string.sub

local number = {}

--- @class segue.template.number @field int? any the value as an int @field uint? any as a uint64
--- @field float? number as a float64 @field is_float boolean it is used as a float where any type
--- is allowed @field overflows boolean it fits a uint64 only

-- Underscores are allowed between digits and after a base prefix.
local function underscores_are_good(text)
  if not text:find("_", 1, true) then return true end
  local at, last, hex = 1, "^", false
  if text:find "^[+-]" then at = 2 end
  local prefix = sub(text, at, at + 1):lower()
  if prefix == "0x" or prefix == "0b" or prefix == "0o" then
    hex, last, at = prefix == "0x", "0", at + 2
  end
  for i = at, #text do
    local c = sub(text, i, i)
    if c:find "%d" or (hex and c:find "%x") then
      last = "0"
    elseif c == "_" then
      if last ~= "0" then return false end
      last = "_"
    else
      if last == "_" then return false end
      last = "!"
    end
  end
  return last ~= "_"
end

local bases = { x = 16, o = 8, b = 2 }
local LIMIT = 2 ^ 64

-- strconv.ParseUint(text, 0, 64) without the sign; nil where it fails.
---@param text string
---@return ffi.cdata*?
function number.parse_uint(text)
  if not underscores_are_good(text) then return nil end
  local base, digits = 10, text
  local letter = text:match "^0([xXoObB])"
  if letter then
    base, digits = bases[letter:lower()], sub(text, 3)
  elseif #text > 1 and byte(text) == 48 then
    base, digits = 8, sub(text, 2)
  end
  digits = digits:gsub("_", "")
  if digits == "" then return nil end
  local total, rough = 0ULL, 0
  for i = 1, #digits do
    local d = tonumber(sub(digits, i, i), 36)
    if not d or d >= base then return nil end
    rough = rough * base + d
    if rough >= LIMIT * 2 then return nil end
    local before = total
    total = total * base + d
    if rough > LIMIT / 2 and total < before then return nil end
  end
  if rough > LIMIT * 1.0001 then return nil end
  return total
end

-- strconv.ParseFloat.
local not_finite = { nan = 0 / 0 }
for _, name in ipairs { "inf", "infinity" } do
  not_finite[name], not_finite["+" .. name] = math.huge, math.huge
  not_finite["-" .. name] = -math.huge
end

---@param text string
---@return number?
function number.parse_float(text)
  local named = not_finite[text:lower()]
  if named then return named end
  if not underscores_are_good(text) then return nil end
  local plain = text:gsub("_", "")
  local mantissa = plain:match "^[+-]?0[xX](.*)$"
  if mantissa then
    if not mantissa:find "^%x*%.?%x*[pP][+-]?%d+$" or not mantissa:find "^%.?%x" then return nil end
  elseif not plain:find "^[+-]?%.?%d" or not (plain:find "^[+-]?%d*%.?%d*$"
      or plain:find "^[+-]?%d*%.?%d*[eE][+-]?%d+$") then
    return nil
  end
  local result = tonumber((plain:gsub("^%+", "")))
  if not result or result == math.huge or result == -math.huge then return nil end
  return result
end

local INT_MAX = 9223372036854775807ULL

local function read_integers(text, n)
  local unsigned = number.parse_uint(text)
  local negative = byte(text) == 45
  local magnitude = unsigned or number.parse_uint((text:gsub("^[+-]", "")))
  n.uint = unsigned
  if magnitude and (magnitude <= INT_MAX or (negative and magnitude == INT_MAX + 1)) then
    local signed = ffi.cast("int64_t", magnitude)
    n.int = value.int(negative and -signed or signed)
    if magnitude == 0 then n.uint = magnitude end
  end
end

local function read_float(text, n)
  local f = number.parse_float(text)
  if not f then return nil end
  if not text:find "[.eEpP]" then return "integer overflow: " .. quote.quote(text) end
  n.float = f
  if f > -9.2e18 and f < 9.2e18 and f % 1 == 0 then
    n.int = value.int(ffi.cast("int64_t", f))
  end
  if f >= 0 and f < 1.8e19 and f % 1 == 0 then n.uint = ffi.cast("uint64_t", f) end
end

local function character(text, n)
  local _, after, code = quote.unquote_char(text, 2, 39)
  if not after then return nil, "invalid syntax" end
  if sub(text, after) ~= "'" then return nil, "malformed character constant: " .. text end
  n.int, n.uint, n.float = code, ffi.new("uint64_t", code), code
  return n
end

---@param text string
---@param kind string "number", "character" or "complex"
---@return segue.template.number? constant
---@return string? message
function number.parse(text, kind)
  local n = { is_float = false, overflows = false }
  if kind == "character" then return character(text, n) end
  if kind == "complex" or text:find "i$" then
    return nil, "complex numbers are not supported: " .. quote.quote(text)
  end
  read_integers(text, n)
  if n.int then
    n.float = tonumber(n.int)
  elseif n.uint then
    n.float = tonumber(n.uint)
  else
    local message = read_float(text, n)
    if message then return nil, message end
  end
  if not n.int and not n.uint and not n.float then
    return nil, "illegal number syntax: " .. quote.quote(text)
  end
  local is_hex_int = text:find "^0[xX]." and not text:find "[pP]"
  n.is_float = n.float ~= nil and not is_hex_int and text:find "[.eEpP]" ~= nil
  n.overflows = not n.is_float and n.int == nil
  return n
end

return number
