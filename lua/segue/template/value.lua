-- SPDX-License-Identifier: MIT
-- Values of templates. Go's kinds survive in them:
--
--   int       a number of Lua up to 2^53, an int64_t above
--   int64     cdata box with an int64_t;   uint64: an uint64_t;   uint8 (a byte of a string): a box
--   float64   cdata box with a double: 1000000 and 1e+06 differ
--   string, bool   as in Lua
--   list, map, struct   a table whose metatable is its type (value.LIST, value.MAP ...)
--   null      value.NULL: a value that is there and null
-- nothing nil: a missing key, and null behind a pipeline
--
-- A list holds NULL, never nil, so that # is its length. Tables of data are never changed.
local ffi = require "ffi"
local new_table = require "table.new"

local getmetatable, setmetatable, type, tonumber = getmetatable, setmetatable, type, tonumber
local istype = ffi.istype

ffi.cdef [[
typedef struct segue_template_float { double v; } segue_template_float;
typedef struct segue_template_int64 { int64_t v; } segue_template_int64;
typedef struct segue_template_uint8 { uint64_t v; } segue_template_uint8;
]]

local value = {}

local float = ffi.typeof "segue_template_float"
local int64 = ffi.typeof "segue_template_int64"
local uint8 = ffi.typeof "segue_template_uint8"
local cint64, cuint64 = ffi.typeof "int64_t", ffi.typeof "uint64_t"
value.float, value.int64, value.uint64 = float, int64, cuint64
value.cint64, value.uint8 = cint64, uint8

---@class segue.template.type: table
---@field kind string "list", "map", "struct", "null", "channel"
---@field type string Go's name
---@field elem? any what a missing key of a map gives; nil: null
---@field elem_type? string Go's type of the elements; nil: interface {}
---@field fields? string[] of a struct, in their order

---@param kind string
---@param name string
---@param more? table
---@return segue.template.type
function value.new_type(kind, name, more)
  local t = more or {}
  t.kind, t.type = kind, name
  return t
end

value.LIST = value.new_type("list", "[]interface {}")
value.STRINGS = value.new_type("list", "[]string", { elem_type = "string" })
value.MAP = value.new_type("map", "map[string]interface {}", { key = "string" })
value.STRING_MAP = value.new_type("map", "map[string]string",
  { key = "string", elem = "", elem_type = "string" })
-- Keys of any type, as YAML has them.
value.ANY_MAP = value.new_type("map", "map[interface {}]interface {}", { key = "interface {}" })
value.NULL = setmetatable({}, value.new_type("null", "<nil>"))
value.BOXED = setmetatable({}, value.new_type("null", "interface {}"))
-- `range` over an integer takes its items from here: item i is i - 1.
value.COUNT = setmetatable({}, { kind = "count", type = "int", elem_type = "int",
  __index = function(_, i) return i - 1 end })

local NULL, MAP, LIST = value.NULL, value.MAP, value.LIST
---@param items table
---@param t? segue.template.type
function value.list(items, t)
  return setmetatable(items, t or LIST)
end

---@param members table
---@param t? segue.template.type
function value.map(members, t)
  return setmetatable(members, t or MAP)
end

-- An int from an int64_t or a number.
---@param n any
function value.int(n)
  local plain = tonumber(n)
  if plain > -9007199254740992 and plain < 9007199254740992 then return plain + 0 end
  return cint64(n)
end
local int = value.int

-- "int", "string", "list" ...
---@param v any
---@return string? kind nil for nil
function value.kind(v)
  local t = type(v)
  if t == "string" then return "string" end
  if t == "number" then return "int" end
  if t == "boolean" then return "bool" end
  if t == "table" then return getmetatable(v).kind end
  if t == "cdata" then
    if istype(float, v) then return "float64" end
    if istype(cint64, v) then return "int" end
    if istype(cuint64, v) then return "uint64" end
    if istype(int64, v) then return "int64" end
    if istype(uint8, v) then return "uint8" end
  end
  return nil
end
local kind = value.kind

-- Go's name of the type of a value.
---@param v any
---@return string
function value.type_name(v)
  if v == nil then return "<nil>" end
  if type(v) == "table" then return getmetatable(v).type end
  return kind(v) --[[@as string]]
end

-- "bool", "int", "uint", "float", "string", or nil: the kinds that compare.
---@param v any
---@return string?
function value.basic_kind(v)
  local t = type(v)
  if t == "number" then return "int" end
  if t == "string" then return "string" end
  if t == "boolean" then return "bool" end
  if t ~= "cdata" then return nil end
  local k = kind(v)
  if k == "int64" then return "int" end
  if k == "uint64" or k == "uint8" then return "uint" end
  if k == "float64" then return "float" end
  return k
end

-- Its 64 bits.
---@param v any int, int64, uint64 or uint8
function value.int64_of(v)
  if type(v) == "number" then return cint64(v) end
  if istype(int64, v) or istype(uint8, v) then return cint64(v.v) end
  return cint64(v)
end

---@param v any uint64 or uint8
function value.uint64_of(v)
  return istype(uint8, v) and v.v or v
end

---@param v any
---@return boolean
function value.truth(v)
  if v == nil or v == false or v == "" or v == 0 or v == NULL then return false end
  local t = type(v)
  if t == "table" then
    local k = getmetatable(v).kind
    if k == "list" then return v[1] ~= nil end
    if k == "map" then return next(v) ~= nil end
    return true
  end
  if t == "cdata" then
    if istype(float, v) then return v.v ~= 0 end
    if istype(int64, v) or istype(uint8, v) then return v.v ~= 0 end
    return v ~= 0
  end
  return true
end

-- Keys sort by type first where a map has several.
local ranks = {
  ["nil"] = 0, int = 1, int64 = 1, uint64 = 1, uint8 = 1, float64 = 2, bool = 3, string = 4,
}
local function comes_before(a, b)
  local ka, kb = kind(a), kind(b)
  local ra, rb = ranks[ka] or 5, ranks[kb] or 5
  if ra ~= rb then return ra < rb end
  if ka == "bool" then return not a and b end
  if ka == "float64" then return a.v < b.v or (a.v ~= a.v and b.v == b.v) end
  if ka == "string" or type(a) == "number" then return a < b end
  return tostring(a) < tostring(b)
end

-- Data never changes, so that the order of a map is worked out once. A function that changes a map
-- calls forget_keys.
local order = setmetatable({}, { __mode = "k" })

---@param map table
---@return table keys sorted as Go prints them
function value.sorted_keys(map)
  local keys = order[map]
  if keys then return keys end
  local n = 0
  keys = new_table(8, 0)
  for key in next, map do
    n = n + 1
    keys[n] = key
  end
  local t = getmetatable(map)
  if t.key == "string" then table.sort(keys) else table.sort(keys, t.before or comes_before) end
  order[map] = keys
  return keys
end

---@param map table
function value.forget_keys(map)
  order[map] = nil
end

-- Bytes, items or members; nil for other kinds.
---@param v any
---@return integer?
function value.length(v)
  if type(v) == "string" then return #v end
  if type(v) ~= "table" then return nil end
  local k = getmetatable(v).kind
  if k == "list" or k == "channel" then return #v end
  if k == "map" then return #value.sorted_keys(v) end
  return nil
end

---@param n any an integer of a data source, at most 64 bits
function value.from_integer(n)
  return int(n)
end

return value
