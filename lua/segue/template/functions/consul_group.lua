-- SPDX-License-Identifier: MIT
-- consul-template's functions that look into lists and maps or regroup them, loop and scratch.
local calling = require("segue.template.runtime").calling
local def = require("segue.template.signature").def
local context = require "segue.template.context"
local integers = require "segue.template.integers"
local maps = require "segue.template.maps"
local printf = require("segue.template.printf").print
local quote = require "segue.template.quote"
local services = require "segue.template.services"
local strings = require "segue.template.strings"
local text = require "segue.template.format"
local value = require "segue.template.value"

local group = {}

-- ---- Membership ---------------------------------------------------------------------------------

-- int with int, float with float, string with string; all else is false.
local function same(a, b)
  local k = value.basic_kind(a)
  if k ~= value.basic_kind(b) or k == nil or k == "bool" then return false end
  if k == "float" then return a.v == b.v end
  if k == "int" then return value.int64_of(a) == value.int64_of(b) end
  if k == "uint" then return value.uint64_of(a) == value.uint64_of(b) end
  return a == b
end

local function is_in(list, v)
  if type(list) == "string" then return type(v) == "string" and strings.contains(list, v) end
  if value.kind(list) ~= "list" then return false end
  for i = 1, #list do
    if same(list[i], v) then return true end
  end
  return false
end

group["in"] = def({ "any", "any" }, function(_, list, v) return is_in(list, v) end)
group.contains = def({ "any", "any" }, function(_, v, list) return is_in(list, v) end)

-- How many of the wanted values are in the list decides.
for name, decide in pairs {
  containsAll = function(found, wanted) return found == wanted end,
  containsAny = function(found) return found > 0 end,
  containsNone = function(found) return found == 0 end,
  containsNotAll = function(found, wanted) return found < wanted end,
} do
  group[name] = def({ "list", "any" }, function(_, wanted, list)
    local found = 0
    wanted = wanted or {}
    for i = 1, #wanted do
      if is_in(list, wanted[i]) then found = found + 1 end
    end
    return decide(found, #wanted)
  end)
end

-- ---- Groups -------------------------------------------------------------------------------------

local Grouped = value.new_type("map", "map[string][]*dependency.HealthService",
  { key = "string", elem_type = services.LIST.type, elem = value.list({}, services.LIST) })
local ByPort = value.new_type("map", "map[int][]*dependency.HealthService",
  { key = "int", elem_type = services.LIST.type, elem = value.list({}, services.LIST) })

local function add(out, key, item, list_type)
  if not out[key] then out[key] = value.list({}, list_type) end
  table.insert(out[key], item)
end

group.byTag = def({ "any" }, function(site, list)
  local out = {}
  if value.kind(list) ~= "list" then
    calling(site, "byTag", ("byTag: wrong argument type %s"):format(value.type_name(list)))
  end
  for _, item in ipairs(list) do
    for _, tag in ipairs(item.Tags or {}) do add(out, tag, item, getmetatable(list)) end
  end
  return value.map(out, Grouped)
end)

group.byPort = def({ "any" }, function(site, list)
  local out = {}
  if getmetatable(list) ~= services.LIST then
    calling(site, "byPort", ("byPort: wrong argument type %s"):format(value.type_name(list)))
  end
  for _, item in ipairs(list) do add(out, item.Port, item, services.LIST) end
  return value.map(out, ByPort)
end)

-- "a,b|int": the values of these keys of the services' data, joined by "_".
group.byMeta = def({ "string", "any" }, function(site, keys, list)
  local out = {}
  if getmetatable(list) ~= services.LIST then
    calling(site, "byMeta", ("byMeta: wrong argument type %s"):format(value.type_name(list)))
  end
  for _, item in ipairs(list) do
    local parts = {}
    for _, key in ipairs(strings.split(keys, ",")) do
      local name = key:match "^(.-)|int$"
      local v = item.ServiceMeta[name or key]
      if v == nil then
        v = "_no_" .. (name or key) .. "_"
      elseif name then
        local n = integers.parse(v, "strconv.Atoi")
        v = n and printf(1, "%05d", n) or v
      end
      parts[#parts + 1] = v
    end
    add(out, (table.concat(parts, "_"):gsub("[^%w_]", "_")), item, services.LIST)
  end
  return value.map(out, Grouped)
end)

-- Pairs "a/b" as a map of "a" to a map of "b", where the key of the pair is "b", too; pairs without
-- "/" are left out.
group.byKey = def({ "any" }, function(_, pairs_list)
  local out = {}
  for _, pair in ipairs(value.kind(pairs_list) == "list" and pairs_list or {}) do
    local top, rest = pair.Key:match "^([^/]+)/(.+)$"
    if top then
      out[top] = out[top] or value.map {}
      local copy = {}
      for field, v in next, pair do copy[field] = v end
      copy.Key = rest
      out[top][rest] = setmetatable(copy, getmetatable(pair))
    end
  end
  return value.map(out)
end)

local function put_deep(site, name, out, path, v)
  local at = out
  local parts = strings.split(path, "/")
  for i = 1, #parts - 1 do
    if at[parts[i]] == nil then at[parts[i]] = value.map {} end
    at = at[parts[i]]
    if value.kind(at) ~= "map" then
      calling(site, name, ("not a map: %s: %s"):format(quote.quote(path), quote.quote(parts[i])))
    end
  end
  at[parts[#parts]] = v
end

group.explode = def({ "any" }, function(site, pairs_list)
  local out = value.map {}
  for _, pair in ipairs(value.kind(pairs_list) == "list" and pairs_list or {}) do
    put_deep(site, "explode", out, pair.Key, pair.Value)
  end
  return out
end)

group.explodeMap = def({ "map" }, function(site, map)
  local out = value.map {}
  for _, key in ipairs(map and value.sorted_keys(map) or {}) do
    put_deep(site, "explodeMap", out, text.value(key), map[key])
  end
  return out
end)

-- {{$b | mergeMap $a}}: $a with what $b adds.
for name, overwrites in pairs { mergeMap = false, mergeMapWithOverride = true } do
  group[name] = def({ "map", "map" }, function(site, into, from)
    local merged, message = maps.merge(into or maps.new(), from or maps.new(), overwrites)
    return merged or calling(site, name, message)
  end)
end

-- ---- loop ---------------------------------------------------------------------------------------

local Loop = value.new_type("channel", "<-chan int64", { elem_type = "int64" })

local function loop_bound(site, v)
  local k = value.basic_kind(v)
  if k == "int" or k == "uint" then return tonumber(value.int64_of(v)) end
  if k == "string" then
    local n, message = integers.parse(v, "strconv.ParseInt")
    return n and tonumber(n) or calling(site, "loop", message)
  end
  calling(site, "loop", ("loop: bad argument type: %s"):format(value.type_name(v)))
end

-- loop n, loop a b: to b - 1.
group.loop = def({ "any" }, function(site, n, a, b)
  if n > 2 then
    calling(site, "loop",
      ("loop: wrong number of arguments, expected 1 or 2, but got %d"):format(n))
  end
  local from = n == 2 and loop_bound(site, a) or 0
  local to = loop_bound(site, n == 2 and b or a)
  if to - from > 10000000 then calling(site, "loop", "more than 10000000 numbers") end
  local out = {}
  for i = from, to - 1 do out[#out + 1] = value.int64(i) end
  return setmetatable(out, Loop)
end, "any")

-- ---- scratch ------------------------------------------------------------------------------------

local Scratch = value.new_type("struct", "*template.Scratch", { fields = {}, has = {} })
Scratch.print = function() return "&{}" end
local methods = {}
Scratch.methods = methods

local function scratch_map(site, name, key)
  local values = context.get().scratch
  if values[key] == nil then values[key] = maps.new() end
  if value.kind(values[key]) ~= "map" then
    calling(site, name, quote.quote(key) .. " is not a map")
  end
  return values[key]
end

-- The map for a change: a copy where Set has put data there, which other templates share.
local function changeable_map(site, name, key)
  local map = maps.changeable(scratch_map(site, name, key))
  context.get().scratch[key] = map
  return map
end

function methods.Key(_, _, key) return context.get().scratch[key] ~= nil end
function methods.Get(_, _, key)
  local v = context.get().scratch[key]
  if v == nil then return value.NULL end
  return v
end
function methods.Set(_, _, key, v)
  context.get().scratch[key] = v
  return ""
end
function methods.SetX(_, _, key, v)
  local values = context.get().scratch
  if values[key] == nil then values[key] = v end
  return ""
end
function methods.MapSet(site, _, key, name, v)
  local map = changeable_map(site, "MapSet", key)
  map[name] = v
  value.forget_keys(map)
  return ""
end
function methods.MapSetX(site, _, key, name, v)
  local map = changeable_map(site, "MapSetX", key)
  if map[name] == nil then map[name] = v end
  value.forget_keys(map)
  return ""
end
function methods.MapValues(site, _, key)
  local map, out = scratch_map(site, "MapValues", key), {}
  for i, name in ipairs(value.sorted_keys(map)) do out[i] = map[name] end
  return value.list(out)
end

group.scratch = def({}, function() return setmetatable({}, Scratch) end)

return group
