-- SPDX-License-Identifier: MIT
-- sprig's numbers. A value that is not a number becomes 0, as in the library that sprig uses.
local calling = require("segue.template.runtime").calling
local cast = require "segue.template.cast"
local def = require("segue.template.signature").def
local integers = require "segue.template.integers"
local text = require "segue.template.format"
local value = require "segue.template.value"

local to_int64, to_float = cast.int64, cast.float
local sprig = {}
local INTS = value.new_type("list", "[]int", { elem_type = "int" })
local ITEMS_MAX = 10000000

sprig.int = def({ "any" }, function(_, v) return value.int(to_int64(v)) end)
sprig.int64 = def({ "any" }, function(_, v) return value.int64(to_int64(v)) end)
sprig.float64 = def({ "any" }, function(_, v) return value.float(to_float(v)) end)
sprig.atoi = def({ "string" }, function(_, s) return integers.parse(s, "strconv.Atoi") or 0 end)
sprig.toDecimal = def({ "any" }, function(_, v)
  local digits = text.value(v)
  local n = digits:find "^[+-]?[0-7]+$" and tonumber((digits:gsub("^[+-]", "")), 8) or 0
  return value.int64(digits:byte() == 45 and -n or n)
end)

-- From left to right.
local function fold(name, operation, first)
  return function(site, n, ...)
    local total = first
    for i = 1, n do
      local v = to_int64((select(i, ...)))
      if total then
        local message
        v, message = integers.bits(operation, total, v)
        if message then calling(site, name, message) end
      end
      total = v
    end
    return value.int64(total)
  end
end
sprig.add = def({}, fold("add", "add", 0LL), "any")
sprig.mul = def({ "any" }, fold("mul", "mul"), "any")
for name, operation in pairs { max = "max", biggest = "max", min = "min" } do
  sprig[name] = def({ "any" }, fold(name, operation), "any")
end
for _, name in ipairs { "sub", "div", "mod" } do
  local call = fold(name, name)
  sprig[name] = def({ "any", "any" }, function(site, a, b) return call(site, 2, a, b) end)
end
sprig.add1 = def({ "any" }, function(_, v) return value.int64(to_int64(v) + 1) end)

-- sprig calculates with decimal numbers: 0.1 and 0.2 is 0.3.
local function decimal(v) return tonumber(("%.15g"):format(v)) end
local float_operations = {
  addf = function(a, b) return a + b end, subf = function(a, b) return a - b end,
  mulf = function(a, b) return a * b end, divf = function(a, b) return a / b end,
  maxf = math.max, minf = math.min,
}
for name, operation in pairs(float_operations) do
  sprig[name] = def(name == "addf" and {} or { "any" }, function(site, n, ...)
    local total = n > 0 and to_float((...)) or 0
    for i = 2, n do
      local b = to_float((select(i, ...)))
      if name == "divf" and b == 0 then calling(site, name, "decimal division by 0") end
      total = decimal(operation(total, b))
    end
    return value.float(total)
  end, "any")
end
sprig.add1f = def({ "any" }, function(_, v) return value.float(decimal(to_float(v) + 1)) end)

sprig.floor = def({ "any" }, function(_, v) return value.float(math.floor(to_float(v))) end)
sprig.ceil = def({ "any" }, function(_, v) return value.float(math.ceil(to_float(v))) end)
sprig.round = def({ "any", "int" }, function(_, n, v, places, on)
  local power = 10 ^ tonumber(places)
  local digit = power * to_float(v)
  local whole, rest = math.modf(digit)
  local up = rest >= (n > 2 and on.v or 0.5)
  if whole == digit then return value.float(digit / power) end
  return value.float((up and math.ceil(digit) or math.floor(digit)) / power)
end, "float64")

local function steps(site, name, from, to, step)
  local out = {}
  from, to, step = tonumber(from), tonumber(to), tonumber(step)
  if step == 0 or (to < from) ~= (step < 0) then return value.list(out, INTS) end
  if (to - from) / step > ITEMS_MAX then
    calling(site, name, ("more than %d numbers"):format(ITEMS_MAX))
  end
  for i = from, to - (step > 0 and 1 or -1), step do out[#out + 1] = i end
  return value.list(out, INTS)
end
sprig["until"] = def({ "int" }, function(site, n)
  return steps(site, "until", 0, n, tonumber(n) < 0 and -1 or 1)
end)
sprig.untilStep = def({ "int", "int", "int" }, function(site, from, to, step)
  return steps(site, "untilStep", from, to, step)
end)

-- seq TO, seq FROM TO, seq FROM STEP TO: both ends, as one text.
sprig.seq = def({}, function(site, n, ...)
  local a, b, c = ...
  if n == 0 or n > 3 then return "" end
  local from = n == 1 and 1 or tonumber(a)
  local to = tonumber(n == 1 and a or n == 2 and b or c)
  local down = to < from
  local step = n == 3 and tonumber(b) or down and -1 or 1
  if n == 3 and down and step > 0 then return "" end
  return table.concat(steps(site, "seq", from, to + (down and -1 or 1), step), " ")
end, "int")

return sprig
