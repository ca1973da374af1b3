-- SPDX-License-Identifier: MIT
-- Values as numbers, by the rules of the library that sprig uses: a value that is none is 0.
local ffi = require "ffi"
local number = require "segue.template.number"
local value = require "segue.template.value"

local cast = {}

-- "12", "-0x1f", "12.00"; the fraction has to be zero.
local function read_integer(s)
  local constant = number.parse((s:gsub("%.0*$", "")), "number")
  return constant and constant.int and not constant.is_float and constant.int or 0
end

function cast.int64(v)
  local kind = value.kind(v)
  if kind == "float64" then return ffi.cast("int64_t", v.v) end
  if kind == "string" then return value.int64_of(read_integer(v)) end
  if kind == "bool" then return v and 1LL or 0LL end
  if kind == "int" or kind == "int64" or kind == "uint64" or kind == "uint8" then
    return value.int64_of(value.uint64_of(v))
  end
  return 0LL
end

function cast.float(v)
  local kind = value.kind(v)
  if kind == "float64" then return v.v end
  if kind == "string" then return number.parse_float(v) or 0 end
  return tonumber(cast.int64(v))
end

return cast
