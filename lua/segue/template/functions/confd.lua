-- SPDX-License-Identifier: MIT
-- The functions of confd. The data of the template are its store: getv "/app/port" reads app.port.
local calling = require("segue.template.runtime").calling
local def = require("segue.template.signature").def
local context = require "segue.template.context"
local gotime = require "segue.template.gotime"
local json = require "segue.template.json"
local integers = require "segue.template.integers"
local store = require "segue.template.store"
local strings = require "segue.template.strings"
local signature = require "segue.template.signature"
local value = require "segue.template.value"

local confd = {}

local KV = value.new_type("struct", "memkv.KVPair", { fields = { "Key", "Value" } })
KV.has = { Key = true, Value = true }
local KVS = value.new_type("list", "[]memkv.KVPair", { elem_type = "memkv.KVPair" })
local INTS = value.new_type("list", "[]int", { elem_type = "int" })
signature.add("confd pairs", KVS)

local function pair(key, v) return setmetatable({ Key = key, Value = v }, KV) end
local function texts(list) return value.list(list, value.STRINGS) end

-- ---- The store ----------------------------------------------------------------------------------

-- A key is looked up as it is written: "/app//port" and "/app/port/" are not "/app/port".
local function is_plain(key)
  return key:sub(1, 1) == "/" and key:sub(-1) ~= "/" and not key:find("//", 1, true)
end

-- Keys begin with "/"; the store has them without. held: the output makes no sense without it.
local function lookup(key, held)
  if not is_plain(key) then return nil end
  local v = context.text(key:sub(2))
  context.touch(key:sub(2), true, held and v == nil)
  return v
end

local function need(site, name, key)
  local v = lookup(key, true)
  if v == nil then calling(site, name, "key does not exist: " .. key) end
  return v
end

local function matching(site, name, pattern)
  local found = {}
  if store.match(pattern, "") == nil then calling(site, name, "syntax error in pattern") end
  if not is_plain(pattern) then return found end
  -- The folder is the part before the first special character, up to its last "/".
  local keys, folder = context.below(pattern:match "^/?([^*?%[\\]*)/" or "")
  local head = folder == "" and "/" or "/" .. folder .. "/"
  for _, key in ipairs(keys.keys) do
    if store.match(pattern, head .. key) then
      found[#found + 1] = pair(head .. key, keys.values[key])
    end
  end
  return found
end

confd.exists = def({ "string" }, function(_, key) return lookup(key) ~= nil end)
confd.get = def({ "string" }, function(site, key) return pair(key, need(site, "get", key)) end)
confd.getv = def({ "string" }, function(site, n, key, default)
  local v = lookup(key)
  if v == nil and n > 1 then return default end
  return v or need(site, "getv", key)
end, "string")
confd.gets = def({ "string" }, function(site, pattern)
  return value.list(matching(site, "gets", pattern), KVS)
end)
confd.getvs = def({ "string" }, function(site, pattern)
  local found = {}
  for i, kv in ipairs(matching(site, "getvs", pattern)) do found[i] = kv.Value end
  table.sort(found)
  return texts(found)
end)

-- The names one level below a folder. Of "/" confd lists the leaves only.
local function list(given, only_folders)
  if given == "" or given:find("//", 1, true) then return texts {} end
  local folder = "/" .. given:gsub("^/+", ""):gsub("/+$", "")
  local names, seen = {}, {}
  local function add(name)
    if not seen[name] then names[#names + 1] = name end
    seen[name] = true
  end
  -- Of a leaf too: its store is the one of the folder above it.
  local keys, above = context.below(folder:sub(2))
  for _, key in ipairs(keys.keys) do
    key = (above == "" and "/" or "/" .. above .. "/") .. key
    if folder == "/" then
      if not only_folders and not key:find("/", 2, true) then add(key:sub(2)) end
    elseif key == folder then
      if not only_folders and given == key then add(strings.base(key)) end
    elseif strings.has_prefix(key, folder .. "/") then
      local name, rest = key:sub(#folder + 2):match "^([^/]*)(.*)$"
      if rest ~= "" or not only_folders then add(name) end
    end
  end
  table.sort(names)
  return texts(names)
end

confd.ls = def({ "string" }, function(_, folder) return list(folder, false) end)
confd.lsdir = def({ "string" }, function(_, folder) return list(folder, true) end)

-- ---- Data ---------------------------------------------------------------------------------------

local function decode(name, wanted, go_type)
  return def({ "string" }, function(site, s)
    local v, message = json.decode(s)
    if message then calling(site, name, message) end
    if v == value.NULL then return value[wanted] {} end -- Go: a nil one
    local kind = value.kind(v)
    if kind == wanted then return v end
    local found = ({ list = "array", map = "object", string = "string", bool = "bool",
      float64 = "number" })[kind]
    calling(site, name, ("json: cannot unmarshal %s into Go value of type %s"):format(found,
      go_type))
  end)
end
confd.json = decode("json", "map", "map[string]interface {}")
confd.jsonArray = decode("jsonArray", "list", "[]interface {}")

confd.map = def({}, function(site, n, ...)
  if n % 2 ~= 0 then calling(site, "map", "invalid map call") end
  local out, args = {}, { ... }
  for i = 1, n, 2 do
    if type(args[i]) ~= "string" then calling(site, "map", "map keys must be strings") end
    out[args[i]] = args[i + 1]
  end
  return value.map(out)
end, "any")

confd.getenv = def({ "string" }, function(_, n, name, default)
  local v = context.getenv(name)
  if (v == nil or v == "") and n > 1 then return default end
  return v or ""
end, "string")
confd.datetime = def({}, function() return gotime.now(context.now(), true) end)

-- ---- Strings ------------------------------------------------------------------------------------

confd.split = def({ "string", "string" }, function(_, s,
  sep) return texts(strings.split(s, sep)) end)
confd.join = def({ "strings", "string" }, function(_, items, sep)
  return table.concat(items or {}, sep)
end)
confd.replace = def({ "string", "string", "string", "int" }, function(_, s, old, new, n)
  return strings.replace(s, old, new, tonumber(n))
end)
confd.trimSuffix = def({ "string", "string" }, function(_, s, suffix)
  return strings.trim_suffix(suffix, s)
end)
confd.contains = def({ "string", "string" }, function(_, s, part) return strings.contains(s,
  part) end)
confd.toUpper = def({ "string" }, function(_, s) return strings.upper(s) end)
confd.toLower = def({ "string" }, function(_, s) return strings.lower(s) end)
confd.base = def({ "string" }, function(_, s) return strings.base(s) end)
confd.dir = def({ "string" }, function(_, s) return strings.dir(s) end)
confd.base64Encode = def({ "string" }, function(_, s) return strings.base64(s) end)
confd.base64Decode = def({ "string" }, function(site, s)
  local out, message = strings.unbase64(s)
  return out or calling(site, "base64Decode", message)
end)
confd.parseBool = def({ "string" }, function(site, s)
  local v, message = strings.parse_bool(s)
  if message then calling(site, "parseBool", message) end
  return v
end)

-- ---- Numbers ------------------------------------------------------------------------------------

confd.atoi = def({ "string" }, function(site, s)
  local v, message = integers.parse(s, "strconv.Atoi")
  return v or calling(site, "atoi", message)
end)
for name in pairs { add = 1, sub = 1, mul = 1, div = 1, mod = 1 } do
  confd[name] = def({ "int", "int" }, function(site, a, b)
    local v, message = integers.calculate(name, a, b)
    return v or calling(site, name, message)
  end)
end
confd.seq = def({ "int", "int" }, function(site, a, b)
  local out = {}
  a, b = tonumber(a), tonumber(b)
  if b - a > 10000000 then calling(site, "seq", "more than 10000000 numbers") end
  for i = a, b do out[#out + 1] = i end
  return value.list(out, INTS)
end)

-- ---- Lists --------------------------------------------------------------------------------------

-- Only a []string or []interface {} is reversed, in place of nothing else.
confd.reverse = def({ "any" }, function(_, items)
  local t = type(items) == "table" and getmetatable(items)
  if t ~= value.STRINGS and t ~= value.LIST then return items end
  local out = {}
  for i = #items, 1, -1 do out[#out + 1] = items[i] end
  return value.list(out, t)
end)

local function by_length(items, length)
  local order = {}
  for i, item in ipairs(items or {}) do order[i] = { item, length(item), i } end
  table.sort(order, function(a, b)
    if a[2] ~= b[2] then return a[2] < b[2] end
    return a[3] < b[3]
  end)
  for i, entry in ipairs(order) do order[i] = entry[1] end
  return order
end
confd.sortByLength = def({ "strings" }, function(_, items)
  return texts(by_length(items, function(s) return #s end))
end)
confd.sortKVByLength = def({ "confd pairs" }, function(_, items)
  return value.list(by_length(items, function(kv) return #kv.Key end), KVS)
end)

-- ---- The machine --------------------------------------------------------------------------------

confd.fileExists = def({ "string" }, function(_, path) return context.read(path) ~= nil end)
for _, name in ipairs { "lookupIP", "lookupIPV4", "lookupIPV6" } do
  confd[name] = def({ "string" }, function() return texts {} end)
end
confd.lookupSRV = def({ "string", "string", "string" }, function() return value.list {} end)

return confd
