-- SPDX-License-Identifier: MIT
-- consul-template's functions that read data: keys, services, nodes, the environment, files. Keys
-- come from the data of the template, read as a store.
local buffer = require "string.buffer"
local calling = require("segue.template.runtime").calling
local def = require("segue.template.signature").def
local context = require "segue.template.context"
local gotime = require "segue.template.gotime"
local quote = require "segue.template.quote"
local services = require "segue.template.services"
local store = require "segue.template.store"
local strings = require "segue.template.strings"
local structs = require "segue.template.structs"
local value = require "segue.template.value"

local data = {}

local Pair = structs.new("*dependency.KeyPair", { "Path", "Key", "Value", "CreateIndex",
  "ModifyIndex",
  "LockIndex", "Flags", "Session" })
local PAIRS = structs.list_of(Pair)
local zero = value.uint64(0)

-- ---- Keys ---------------------------------------------------------------------------------------

-- A path without its datacenter and query, and without the "/" before it.
local function key_path(site, name, path)
  local plain = path:gsub("^/+", "")
  local rest = plain:match "^([^@?]*)"
  local suffix = plain:sub(#rest + 1)
  if suffix ~= "" and not suffix:find "^%?[^@]*$" and not suffix:find "^@[%w_.-]+$"
    and not suffix:find "^%?[^@]*@[%w_.-]+$" then
    calling(site, name, "kv.get: invalid format: " .. quote.quote(path))
  end
  return rest
end

-- held: the output makes no sense without the key.
local function lookup(site, name, path, held)
  local plain = key_path(site, name, path)
  local v = context.text(plain)
  context.touch(plain, true, held and v == nil)
  return v
end

data.key = def({ "string" }, function(site, path) return lookup(site, "key", path, true) or "" end)
data.keyExists = def({ "string" }, function(site, path)
  return lookup(site, "keyExists", path) ~= nil
end)
data.keyOrDefault = def({ "string", "string" }, function(site, path, default)
  local v = lookup(site, "keyOrDefault", path)
  return (v == nil or v == "") and default or v
end)

local function pair(path, key, v)
  return setmetatable({ Path = path, Key = key, Value = v, CreateIndex = zero, ModifyIndex = zero,
    LockIndex = zero, Flags = zero, Session = "" }, Pair)
end

-- The pairs whose path begins with a text; their key is the rest. held: none at all make no sense.
local function below(site, name, prefix, whole_tree, held)
  prefix = key_path(site, name, prefix)
  local found = {}
  local keys, folder = context.below(prefix:match "^(.*)/[^/]*$" or "")
  local head = folder == "" and "" or folder .. "/"
  for _, path in ipairs(store.below(keys, prefix:sub(#head + 1))) do
    local full = head .. path
    local key = full:sub(#prefix + 1):gsub("^/+", "")
    if key ~= "" and (whole_tree or not key:find("/", 1, true)) then
      found[#found + 1] = pair(full, key, keys.values[path])
    end
  end
  if held and #found == 0 then context.touch(prefix, true, true) end
  return value.list(found, PAIRS)
end

for name, whole_tree in pairs { ls = false, safeLs = false, tree = true, safeTree = true } do
  data[name] = def({ "string" }, function(site, prefix)
    return below(site, name, prefix, whole_tree, name:find "^safe" ~= nil)
  end)
end

-- ---- Services and nodes -------------------------------------------------------------------------

for _, name in ipairs { "service", "connect" } do
  data[name] = def({}, function(site, n, query, ...)
    local filter = n > 1 and table.concat({ query, ... }, "|") or query
    if n == 0 or query == "" then return value.list({}, services.LIST) end
    local found, message = services.find(filter)
    return found or calling(site, name, message)
  end, "string")
end
data.services = def({}, function() return services.catalog() end, "string")
data.nodes = def({}, function() return services.nodes() end, "string")
data.node = def({}, function(_, n, name) return services.node(n > 0 and name or nil) end, "string")
data.datacenters = def({}, function()
  local out, seen = {}, {}
  for _, node in ipairs(services.nodes()) do
    if node.Datacenter ~= "" and not seen[node.Datacenter] then out[#out + 1] = node.Datacenter end
    seen[node.Datacenter] = true
  end
  table.sort(out)
  return value.list(out, value.STRINGS)
end, "bool")

-- ---- The machine --------------------------------------------------------------------------------

data.env = def({ "string" }, function(_, name) return context.getenv(name) or "" end)
data.envOrDefault = def({ "string", "string" }, function(_, name, default)
  return context.getenv(name) or default
end)
data.mustEnv = def({ "string" }, function(site, name)
  local v = context.getenv(name)
  if v == nil or v == "" then
    calling(site, "mustEnv", ("required environment variable %s is empty"):format(name))
  end
  return v
end)
data.file = def({ "string" }, function(site, path)
  local text, message = context.read(strings.trim_space(path))
  return text or calling(site, "file", message)
end)

data.timestamp = def({}, function(site, n, layout)
  local now = gotime.now(context.now(), false)
  if n > 1 then
    calling(site, "timestamp", ("timestamp: wrong number of arguments, expected 0 or 1, but got %d")
      :format(n))
  end
  if layout == "unix" then return ("%d"):format(math.floor(now.seconds)) end
  return gotime.format(now, n == 0 and "2006-01-02T15:04:05Z07:00" or layout)
end, "string")

data.executeTemplate = def({ "string" }, function(site, n, name, argument)
  if n > 2 then
    calling(site, "executeTemplate", "executeTemplate: wrong number of arguments")
  end
  local compiled = context.get().compiled
  local id = name == compiled.name and compiled.main or compiled.code.ids[name]
  if not id then
    calling(site, "executeTemplate", ("template: no template %s associated with template %s")
      :format(quote.quote(name), quote.quote(compiled.name)))
  end
  local inner = buffer.new()
  compiled.functions[id](inner, argument)
  return inner:get()
end, "any")

-- ---- Secrets and variables ----------------------------------------------------------------------

local Secret = structs.new("*dependency.Secret", { "LeaseID", "LeaseDuration", "Renewable", "Data",
  "Metadata" })

-- A map at NAME/PATH, from any source; nil if it is missing.
local function document(site, name, root, path)
  local plain = strings.trim_space(path):gsub("^/+", "")
  if plain == "" then calling(site, name, ("%s: no path given"):format(name)) end
  local full = root .. "/" .. plain
  local v = context.find(full)
  local is_map = value.kind(v) == "map"
  context.touch(full, true, not is_map)
  return is_map and v or nil
end

-- Arguments behind the path would be written to Vault.
data.secret = def({ "string" }, function(site, n, path)
  if n > 1 then calling(site, "secret", "secret: writing is not supported") end
  local found = document(site, "secret", "secrets", path)
  return found and setmetatable({ LeaseID = "", LeaseDuration = 0, Renewable = false, Data = found,
    Metadata = value.map {} }, Secret)
end, "string")
data.secrets = def({ "string" }, function(site, path)
  local names = {}
  for _, name in ipairs(value.sorted_keys(
    document(site, "secrets", "secrets", path) or value.map {})) do
    names[#names + 1] = name
  end
  return value.list(names, value.STRINGS)
end)
data.nomadVar = def({ "string" }, function(site, path)
  return document(site, "nomadVar", "nomadVars", path) or value.map {}
end)

return data
