-- SPDX-License-Identifier: MIT
-- The functions that every template of Go has (text/template/funcs.go). Escaping: escape.lua; eq,
-- lt ...: comparison.lua.
--
-- A function is { params, variadic, result, call }. call gets the number of the node that runs, for
-- errors; then the number of arguments, if the function is variadic; then the arguments.
local calling = require("segue.template.runtime").calling
local comparison = require "segue.template.functions.comparison"
local escape = require "segue.template.functions.escape"
local printf = require("segue.template.printf").print
local text = require "segue.template.format"
local value = require "segue.template.value"

local getmetatable, type = getmetatable, type
local NULL = value.NULL

---@class segue.template.function
---@field params string[]
---@field variadic? string the type of further arguments
---@field result? string "value": what came out of a container
---@field call? fun(site: integer, ...): any
---@field short_circuit? string
---@field sees_interfaces? boolean refuses arguments, except the first, that came out of a container
---@field needs_out? boolean gets the output buffer as its last argument

local builtins = {}

builtins["and"] = { params = { "value" }, variadic = "value", short_circuit = "and" }
builtins["or"] = { params = { "value" }, variadic = "value", short_circuit = "or" }
builtins["not"] = { params = { "value" }, call = function(_, v) return not value.truth(v) end }

builtins.print = { params = {}, variadic = "any",
  call = function(_, n, ...) return text.print(n, ...) end }
builtins.println = { params = {}, variadic = "any",
  call = function(_, n, ...) return text.println(n, ...) end }
builtins.printf = { params = { "string" }, variadic = "any",
  call = function(_, n, format, ...) return printf(n - 1, format, ...) end }

builtins.len = { params = { "value" }, call = function(site, v)
  local n = value.length(v)
  if n then return n end
  if v == nil then
    calling(site, "len", "reflect: call of reflect.Value.Type on zero Value")
  elseif v == NULL then
    calling(site, "len", "len of nil pointer")
  end
  calling(site, "len", "len of type " .. value.type_name(v))
end }

-- ---- index, slice -------------------------------------------------------------------------------

-- An index into a list or string, at most max.
local function index_argument(site, name, index, max)
  local k = value.kind(index)
  if k ~= "int" and k ~= "int64" and k ~= "uint64" and k ~= "uint8" then
    local given = (index == nil or index == NULL) and "nil" or "type " .. value.type_name(index)
    calling(site, name, "cannot index slice/array with " .. given)
  end
  local x = value.int64_of(index)
  if x < 0 or x > max then
    calling(site, name, "index out of range: " .. text.integer(value.int(x)))
  end
  return tonumber(x)
end

local key_kinds = { string = "string", int = "int" }

-- The value of a map's key; null (or the empty value of its type) if the key is missing.
local function map_item(site, m, map, key)
  if m.key == "interface {}" then
    if key ~= nil and map[key] ~= nil then return map[key] end
  else
    if key == nil or key == NULL then
      calling(site, "index", "value is nil; should be of type " .. m.key)
    end
    if value.kind(key) ~= key_kinds[m.key] then
      local got = value.type_name(key)
      calling(site, "index", ("value has type %s; should be %s"):format(got, m.key))
    end
    if map[key] ~= nil then return map[key] end
  end
  if m.elem ~= nil then return m.elem end
  return NULL
end

local function index_one(site, item, index)
  if type(item) == "string" then
    local x = index_argument(site, "index", index, #item)
    if x == #item then calling(site, "index", "reflect: string index out of range") end
    return value.uint8(item:byte(x + 1))
  end
  local m = type(item) == "table" and getmetatable(item)
  local k = m and m.kind
  if k == "list" then
    local x = index_argument(site, "index", index, #item)
    if x == #item then calling(site, "index", "reflect: slice index out of range") end
    return item[x + 1]
  elseif k == "map" then
    return map_item(site, m, item, index)
  elseif k == "null" or item == nil then
    calling(site, "index", "index of nil pointer")
  end
  calling(site, "index", "can't index item of type " .. value.type_name(item))
end

builtins.index = { params = { "value" }, variadic = "value", result = "value",
  call = function(site, n, item, a, ...)
    if item == nil or item == NULL then calling(site, "index", "index of untyped nil") end
    if n == 1 then return item end
    item = index_one(site, item, a)
    for i = 1, n - 2 do item = index_one(site, item, (select(i, ...))) end
    return item
  end }

local function slice(site, n, item, ...)
  if item == nil or item == NULL then calling(site, "slice", "slice of untyped nil") end
  local count = n - 1
  if count > 3 then calling(site, "slice", "too many slice indexes: " .. count) end
  local is_list = type(item) == "table" and getmetatable(item).kind == "list"
  if type(item) ~= "string" and not is_list then
    calling(site, "slice", "can't slice item of type " .. value.type_name(item))
  elseif count == 3 and not is_list then
    calling(site, "slice", "cannot 3-index slice a string")
  end
  local bounds = { 0, #item, #item }
  for i = 1, count do bounds[i] = index_argument(site, "slice", select(i, ...), #item) end
  for i = 1, count == 3 and 2 or 1 do
    if bounds[i] > bounds[i + 1] then
      calling(site, "slice", ("invalid slice index: %d > %d"):format(bounds[i], bounds[i + 1]))
    end
  end
  if not is_list then return item:sub(bounds[1] + 1, bounds[2]) end
  local out = {}
  for i = bounds[1] + 1, bounds[2] do out[#out + 1] = item[i] end
  return value.list(out, getmetatable(item))
end
builtins.slice = { params = { "value" }, variadic = "value", sees_interfaces = true, call = slice }

-- Values are never functions: only Go's messages.
builtins.call = { params = { "value" }, variadic = "value", call = function(site, _, f)
  if f == nil or f == NULL then calling(site, "call", "call of nil") end
  calling(site, "call", "non-function of type " .. value.type_name(f))
end }

for name, f in pairs(comparison) do builtins[name] = f end
for name, f in pairs(escape) do builtins[name] = f end

return builtins
