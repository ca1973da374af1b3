-- SPDX-License-Identifier: MIT
-- Arithmetic of Go's integers: 64 bits that wrap, division towards zero; strconv's readers.
local ffi = require "ffi"
local number = require "segue.template.number"
local quote = require "segue.template.quote"
local value = require "segue.template.value"

local integers = {}

local INT_MAX = 9223372036854775807ULL

-- A decimal number of 64 bits. Returns an int, or nil and the message of the function `who`.
---@param s string
---@param who string
function integers.parse(s, who)
  local sign, digits = s:match "^([+-]?)(%d+)$"
  if not digits then
    return nil, ("%s: parsing %s: invalid syntax"):format(who, quote.quote(s))
  end
  digits = digits:gsub("^0+(%d)", "%1")
  local magnitude = #digits <= 20 and number.parse_uint(digits) --[[@as any]]
  if not magnitude or magnitude > INT_MAX + (sign == "-" and 1 or 0) then
    return nil, ("%s: parsing %s: value out of range"):format(who, quote.quote(s))
  end
  local signed = ffi.cast("int64_t", magnitude)
  return value.int(sign == "-" and -signed or signed)
end

local operations = {
  add = function(a, b) return a + b end,
  sub = function(a, b) return a - b end,
  mul = function(a, b) return a * b end,
  div = function(a, b) return a / b end,
  mod = function(a, b) return a % b end,
  min = function(a, b) return a < b and a or b end,
  max = function(a, b) return a > b and a or b end,
}

-- The bits of an operation; nil and a message where Go panics.
---@param name string
---@param a any int64_t or uint64_t
---@param b any
function integers.bits(name, a, b)
  if (name == "div" or name == "mod") and b == 0 then
    return nil, "runtime error: integer divide by zero"
  end
  -- The smallest number divided by -1 is itself in Go; the processor traps.
  if name == "div" and b == -1 and ffi.istype("int64_t", b) then return -a end
  if name == "mod" and b == -1 and ffi.istype("int64_t", b) then return a - a end
  return operations[name](a, b)
end

-- An operation of two ints.
---@param name string
---@param a any
---@param b any
function integers.calculate(name, a, b)
  local bits, message = integers.bits(name, value.int64_of(a), value.int64_of(b))
  if message then return nil, message end
  return value.int(bits)
end

return integers
