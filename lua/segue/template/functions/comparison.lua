-- SPDX-License-Identifier: MIT
-- eq ne lt le gt ge: Go's rules. int and float, int and string do not compare; int and uint do, by
-- value.
local calling = require("segue.template.runtime").calling
local printf = require("segue.template.printf").print
local value = require "segue.template.value"

local type = type
local NULL = value.NULL
local basic_kind, uint64_of = value.basic_kind, value.uint64_of

local function incompatible(site, name, a, b)
  calling(site, name, ("incompatible types for comparison: %s and %s"):format(value.type_name(a),
    value.type_name(b)))
end

local function same_kind_equal(k, a, b)
  if k == "int" then return value.int64_of(a) == value.int64_of(b) end
  if k == "float" then return a.v == b.v end
  if k == "uint" then return uint64_of(a) == uint64_of(b) end
  return a == b
end

-- Lists, maps, structs and nothing.
local function equal_others(site, name, a, b)
  local nothing_a, nothing_b = a == nil or a == NULL, b == nil or b == NULL
  if nothing_a or nothing_b then return nothing_a and nothing_b end
  if value.kind(a) ~= value.kind(b) then
    calling(site, name, printf(4, "non-comparable types %s: %v, %s: %v", a, value.type_name(a),
      value.type_name(b), b))
  end
  if value.kind(b) == "struct" then return a == b end
  calling(site, name, printf(2, "non-comparable type %s: %v", b, value.type_name(b)))
end

local function equal(site, name, a, b)
  if type(a) == "string" and type(b) == "string" or type(a) == "number" and type(b) == "number" then
    return a == b
  end
  local ka, kb = basic_kind(a), basic_kind(b)
  if ka == kb then
    if not ka then return equal_others(site, name, a, b) end
    return same_kind_equal(ka, a, b)
  elseif ka == "int" and kb == "uint" then
    local bits = value.int64_of(a)
    return bits >= 0 and value.uint64(bits) == uint64_of(b)
  elseif ka == "uint" and kb == "int" then
    local bits = value.int64_of(b)
    return bits >= 0 and value.uint64(bits) == uint64_of(a)
  end
  if a ~= nil and a ~= NULL and b ~= nil and b ~= NULL then incompatible(site, name, a, b) end
  return false
end

local function less(site, name, a, b)
  if type(a) == "number" and type(b) == "number" then return a < b end
  local ka, kb = basic_kind(a), basic_kind(b)
  if not ka or not kb then calling(site, name, "invalid type for comparison") end
  if ka == kb then
    if ka == "bool" then calling(site, name, "invalid type for comparison") end
    if ka == "float" then return a.v < b.v end
    if ka == "int" then return value.int64_of(a) < value.int64_of(b) end
    if ka == "uint" then return uint64_of(a) < uint64_of(b) end
    return a < b
  elseif ka == "int" and kb == "uint" then
    local bits = value.int64_of(a)
    return bits < 0 or value.uint64(bits) < uint64_of(b)
  elseif ka == "uint" and kb == "int" then
    local bits = value.int64_of(b)
    return bits >= 0 and uint64_of(a) < value.uint64(bits)
  end
  incompatible(site, name, a, b)
end

local function less_or_equal(site, name, a, b)
  return less(site, name, a, b) or equal(site, name, a, b)
end

local comparison = {}

comparison.eq = { params = { "value" }, variadic = "value", call = function(site, n, a, b, ...)
  if n == 1 then calling(site, "eq", "missing argument for comparison") end
  if equal(site, "eq", a, b) then return true end
  for i = 1, n - 2 do
    if equal(site, "eq", a, (select(i, ...))) then return true end
  end
  return false
end }

local function pair(call) return { params = { "value", "value" }, call = call } end

comparison.ne = pair(function(site, a, b) return not equal(site, "ne", a, b) end)
comparison.lt = pair(function(site, a, b) return less(site, "lt", a, b) end)
comparison.le = pair(function(site, a, b) return less_or_equal(site, "le", a, b) end)
comparison.gt = pair(function(site, a, b) return not less_or_equal(site, "gt", a, b) end)
comparison.ge = pair(function(site, a, b) return not less(site, "ge", a, b) end)

return comparison
