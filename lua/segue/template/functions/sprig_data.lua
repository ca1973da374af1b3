-- SPDX-License-Identifier: MIT
-- sprig's lists and maps.
local calling = require("segue.template.runtime").calling
local cast = require "segue.template.cast"
local def = require("segue.template.signature").def
local maps = require "segue.template.maps"
local strings = require "segue.template.strings"
local text = require "segue.template.format"
local value = require "segue.template.value"

local NULL, truth = value.NULL, value.truth

local sprig = {}

-- ---- Lists --------------------------------------------------------------------------------------

local kinds = { struct = "struct", null = "invalid" }
local function need_list(site, name, v, message)
  local kind = value.kind(v)
  if kind == "list" then return v end
  if v == nil or v == NULL then
    calling(site, name, "runtime error: invalid memory address or nil pointer dereference")
  end
  calling(site, name, message:format(kinds[kind] or kind))
end

-- A list that Go has no memory for: it prints as an empty one, and is null in JSON.
local NONE = value.new_type("list", "[]interface {}", { is_nil = true })
local function no_list() return value.list({}, NONE) end

-- A function of one list, and its must form.
local function of_list(name, message, call, params, variadic)
  for _, own_name in ipairs { name, "must" .. name:sub(1, 1):upper() .. name:sub(2) } do
    local all = { "any" }
    for _, param in ipairs(params or {}) do all[#all + 1] = param end
    if variadic then
      sprig[own_name] = def(all, function(site, n, list, ...)
        return call(need_list(site, own_name, list, message), n - 1, ...)
      end, variadic)
    else
      sprig[own_name] = def(all, function(site, list, ...)
        return call(need_list(site, own_name, list, message), ...)
      end)
    end
  end
end

local function part(list, from, to, list_type)
  local out = {}
  for i = from, to do out[#out + 1] = list[i] end
  return value.list(out, list_type)
end

local function same(a, b)
  if type(a) == "table" and type(b) == "table" then
    if a == b then return true end
    local of_a, of_b = getmetatable(a), getmetatable(b)
    if of_a.type ~= of_b.type or of_a.is_nil ~= of_b.is_nil then return false end
    for key, v in next, a do
      if b[key] == nil or not same(v, b[key]) then return false end
    end
    for key in next, b do
      if a[key] == nil then return false end
    end
    return true
  end
  if type(a) == "cdata" or type(b) == "cdata" then
    return value.kind(a) == value.kind(b) and text.value(a) == text.value(b)
  end
  return a == b
end

local function holds(list, n, v)
  for i = 1, n do
    if same(list[i], v) then return true end
  end
  return false
end

local function filter(list, keeps)
  local out = {}
  for _, v in ipairs(list) do
    if keeps(v, out) then out[#out + 1] = v end
  end
  return value.list(out)
end

sprig.list = def({}, function(_, n, ...)
  local out = { ... }
  out[n + 1] = nil
  return value.list(out)
end, "any")
sprig.tuple = sprig.list

of_list("first", "Cannot find first on type %s", function(l)
  if #l == 0 then return NULL end
  return l[1]
end)
of_list("last", "Cannot find last on type %s", function(l)
  if #l == 0 then return NULL end
  return l[#l]
end)
of_list("rest", "Cannot find rest on type %s", function(l)
  return #l == 0 and no_list() or part(l, 2, #l)
end)
of_list("initial", "Cannot find initial on type %s", function(l)
  return #l == 0 and no_list() or part(l, 1, #l - 1)
end)
for _, name in ipairs { "append", "push" } do
  of_list(name, "Cannot push on type %s", function(l, v)
    local out = part(l, 1, #l)
    out[#out + 1] = v
    return out
  end, { "any" })
end
of_list("prepend", "Cannot prepend on type %s", function(l, v)
  local out = part(l, 1, #l)
  table.insert(out, 1, v)
  return out
end, { "any" })
of_list("reverse", "Cannot find reverse on type %s", function(l)
  local out = {}
  for i = #l, 1, -1 do out[#out + 1] = l[i] end
  return value.list(out)
end)
of_list("compact", "Cannot compact on type %s", function(l) return filter(l, truth) end)
of_list("uniq", "Cannot find uniq on type %s", function(l)
  return filter(l, function(v, out) return not holds(out, #out, v) end)
end)
of_list("without", "Cannot find without on type %s", function(l, n, ...)
  local omitted = { ... }
  return filter(l, function(v) return not holds(omitted, n, v) end)
end, {}, "any")
local function index_of(v) return tonumber(cast.int64(v)) end
for _, name in ipairs { "slice", "mustSlice" } do
  sprig[name] = def({ "any" }, function(site, n, list, from, to)
    need_list(site, name, list, "list should be type of slice or array but %s")
    if #list == 0 then return NULL end
    from, to = n > 1 and index_of(from) or 0, n > 2 and index_of(to) or #list
    if from < 0 or to > #list or from > to then
      calling(site, name, "reflect.Value.Slice: slice index out of bounds")
    end
    return part(list, from + 1, to, getmetatable(list))
  end, "any")
end

for _, name in ipairs { "has", "mustHas" } do
  sprig[name] = def({ "any", "any" }, function(site, v, list)
    if list == nil or list == NULL then return false end
    return holds(need_list(site, name, list, "Cannot find has on type %s"), #list, v)
  end)
end
local CHUNKS = value.new_type("list", "[][]interface {}", { elem_type = "[]interface {}" })
for _, name in ipairs { "chunk", "mustChunk" } do
  sprig[name] = def({ "int", "any" }, function(site, size, list)
    local out = {}
    size = tonumber(size)
    need_list(site, name, list, "Cannot chunk type %s")
    -- A negative size gives what the arithmetic of the original gives.
    local count = math.floor((#list - 1) / size) + 1
    for i = 0, size == 0 and 0 or count - 1 do
      local len = i < count - 1 and size or math.fmod(#list, size)
      if len == 0 then len = size end
      if size == 0 or len < 0 then count = -1 break end
      out[i + 1] = part(list, i * size + 1, i * size + len)
    end
    if count < 0 then calling(site, name, "runtime error: makeslice: len out of range") end
    return value.list(out, CHUNKS)
  end)
end
sprig.concat = def({}, function(site, n, ...)
  local out = {}
  for i = 1, n do
    local list = need_list(site, "concat", (select(i, ...)), "Cannot concat type %s as list")
    for _, v in ipairs(list) do out[#out + 1] = v end
  end
  if #out == 0 then return no_list() end
  return value.list(out)
end, "any")

local function texts_of(v)
  local out = {}
  if v == nil or v == NULL then return out end
  if value.kind(v) ~= "list" then return { text.value(v) } end
  for _, item in ipairs(v) do
    if item ~= NULL then out[#out + 1] = text.value(item) end
  end
  return out
end
sprig.toStrings = def({ "any" }, function(_, v) return value.list(texts_of(v), value.STRINGS) end)
sprig.join = def({ "string", "any" }, function(_, separator, v)
  return table.concat(texts_of(v), separator)
end)
sprig.sortAlpha = def({ "any" }, function(_, v)
  local out = (v == nil or v == NULL) and { "<nil>" } or texts_of(v)
  table.sort(out)
  return value.list(out, value.STRINGS)
end)
sprig.splitList = def({ "string", "string" }, function(_, separator, s)
  return value.list(strings.split(s, separator), value.STRINGS)
end)

local function numbered(parts)
  local out = {}
  for i, item in ipairs(parts) do out["_" .. i - 1] = item end
  return value.map(out, value.STRING_MAP)
end
sprig.split = def({ "string", "string" }, function(_, separator, s)
  return numbered(strings.split(s, separator))
end)
sprig.splitn = def({ "string", "int", "string" }, function(_, separator, n, s)
  local parts = strings.split(s, separator)
  n = tonumber(n)
  if n == 0 then return numbered {} end
  if n > 0 and #parts > n then
    parts[n] = table.concat(parts, separator, n)
    for i = #parts, n + 1, -1 do parts[i] = nil end
  end
  return numbered(parts)
end)

-- ---- Maps ---------------------------------------------------------------------------------------

sprig.dict = def({}, function(_, n, ...)
  local out, args = {}, { ... }
  for i = 1, n, 2 do
    local v = args[i + 1]
    if i == n then v = "" end
    out[text.value(args[i])] = v
  end
  return maps.new(out)
end, "any")
sprig.get = def({ "map", "string" }, function(_, map, key)
  local v = map and map[key]
  if v == nil then return "" end
  return v
end)
sprig.hasKey = def({ "map", "string" }, function(_, map, key)
  return map ~= nil and map[key] ~= nil
end)

local function need_own(site, name, map)
  if maps.is_own(map) then return map end
  if map == nil then calling(site, name, "assignment to entry in nil map") end
  calling(site, name, "the data cannot be changed: change a copy that deepCopy makes")
end

-- Whether a value is the map, or contains it. Maps of the data contain none that functions made.
local function contains(v, map)
  local kind = value.kind(v)
  if rawequal(v, map) then return true end
  if kind ~= "list" and not (kind == "map" and maps.is_own(v)) then return false end
  for _, item in next, v do
    if type(item) == "table" and contains(item, map) then return true end
  end
  return false
end

sprig.set = def({ "map", "string", "any" }, function(site, map, key, v)
  need_own(site, "set", map)
  if contains(v, map) then calling(site, "set", "the map would contain itself") end
  map[key] = v
  value.forget_keys(map)
  return map
end)
sprig.unset = def({ "map", "string" }, function(site, map, key)
  if map == nil then return maps.new() end -- as in Go, where delete accepts a nil map
  need_own(site, "unset", map)[key] = nil
  value.forget_keys(map)
  return map
end)
-- Go gives keys and values in an order of chance; here they are sorted.
sprig.keys = def({}, function(_, n, ...)
  local out = {}
  for i = 1, n do
    for _, key in ipairs(value.sorted_keys((select(i, ...)))) do out[#out + 1] = key end
  end
  return value.list(out, value.STRINGS)
end, "map")
sprig.values = def({ "map" }, function(_, map)
  local out = {}
  for i, key in ipairs(map and value.sorted_keys(map) or {}) do out[i] = map[key] end
  return value.list(out)
end)
sprig.pluck = def({ "string" }, function(_, n, key, ...)
  local out = {}
  for i = 1, n - 1 do
    local map = (select(i, ...))
    local v = map and map[key]
    if v ~= nil then out[#out + 1] = v end
  end
  return value.list(out)
end, "map")
sprig.pick = def({ "map" }, function(_, n, map, ...)
  local out = {}
  for i = 1, n - 1 do
    local key = (select(i, ...))
    out[key] = map and map[key]
  end
  return maps.new(out)
end, "string")
sprig.omit = def({ "map" }, function(_, n, map, ...)
  local out = {}
  for key, v in next, map or {} do out[key] = v end
  for i = 1, n - 1 do out[(select(i, ...))] = nil end
  return maps.new(out)
end, "string")

for _, name in ipairs { "deepCopy", "mustDeepCopy" } do
  sprig[name] = def({ "any" }, function(site, v)
    if v == nil or v == NULL then
      calling(site, name, "reflect: call of reflect.Value.Type on zero Value")
    end
    return maps.copy(v)
  end)
end

for name, overwrites in pairs { merge = false, mustMerge = false, mergeOverwrite = true,
  mustMergeOverwrite = true } do
  sprig[name] = def({ "map" }, function(site, n, first, ...)
    local into, message = first == nil and maps.new() or maps.changeable(first), nil
    for i = 1, n - 1 do
      local from = select(i, ...) or maps.new()
      -- The first map again is in Go the one that is being changed.
      if from ~= first then into, message = maps.merge(into, from, overwrites) end
      if message then calling(site, name, message) end
    end
    return into
  end, "map")
end

-- Text of Go where a value has another type.
local function wrong_type(site, v, wanted)
  calling(site, "dig", ("interface conversion: interface {} is %s, not %s"):format(
    (v == nil or v == NULL) and "nil" or value.type_name(v), wanted))
end
local function need_plain_map(site, v)
  if value.kind(v) == "map" and getmetatable(v).type == value.MAP.type then return v end
  wrong_type(site, v, value.MAP.type)
end
sprig.dig = def({}, function(site, n, ...)
  if n < 3 then calling(site, "dig", "dig needs at least three arguments") end
  local args = { ... }
  local at = need_plain_map(site, args[n])
  for i = 1, n - 2 do
    if type(args[i]) ~= "string" then wrong_type(site, args[i], "string") end
  end
  for i = 1, n - 2 do
    at = need_plain_map(site, at)[args[i]]
    if at == nil then return args[n - 1] end
  end
  return at
end, "any")

sprig.deepEqual = def({ "any", "any" }, function(_, a, b) return same(a, b) end)

for _, name in ipairs { "first", "last", "mustFirst", "mustLast", "get", "dig" } do
  sprig[name].result = "value" -- null is nothing for the next function
end

return sprig
