-- SPDX-License-Identifier: MIT
-- The data that the functions of a dialect can read during one run: data as a store, services,
-- nodes, the environment, files, the time. Batches set it per case; else it is the real one.
local host = require "segue.template.host"
local store = require "segue.template.store"
local value = require "segue.template.value"

local context = {}

---@class segue.template.context
---@field data any
---@field services? any by name: lists of instances
---@field nodes? any a list
---@field env? table<string, string> nil: of the process
---@field files? table<string, string> nil: the disk
---@field now? number seconds since 1970; nil: the clock's
---@field scratch table
---@field compiled? segue.template.compiled the running template
---@field config? boolean functions read the configuration of the host, not data
---@field asked table<string, segue.template.asked> what functions have read, by its path
---@field changing? boolean they have read something that is no part of the configuration
---@field limited? boolean the time of the rendering has begun
---@field paths table<string, boolean> of its data that a template in Lua has read

---@class segue.template.asked
---@field path string
---@field wanted boolean a source may deliver it on demand
---@field missing boolean the output makes no sense without it

---@type segue.template.context
local current = { scratch = {}, asked = {}, paths = {} }

---@param given? table
---@param data any
---@param compiled segue.template.compiled
function context.enter(given, data, compiled)
  current = { data = data, compiled = compiled, scratch = {}, asked = {}, paths = {} }
  if not given then return end
  for key, v in pairs(given) do current[key] = v end
end

---@return segue.template.context
function context.get() return current end

-- A member of the data that is named, or that stands beside it as "@name" or "name".
local function mock(name)
  local given = current[name]
  if given ~= nil and given ~= value.NULL then return given end
  local data = current.data
  if current.config then
    context.touch(name)
    return host.find(name)
  end
  if type(data) ~= "table" or getmetatable(data).kind ~= "map" then return nil end
  local found = data["@" .. name]
  if found == nil then found = data[name] end
  return found
end
context.mock = mock

-- ---- Data by their path -------------------------------------------------------------------------

-- Records that a function has read what is at a path.
--- @param path string keys joined by "/" @param wanted? boolean a source may deliver it on demand
--- @param missing? boolean it is missing, and the output makes no sense without it
function context.touch(path, wanted, missing)
  local asked = current.asked[path]
  if not asked then
    asked = { path = path, wanted = false, missing = false }
    current.asked[path] = asked
  end
  asked.wanted = asked.wanted or wanted or false
  asked.missing = asked.missing or missing or false
end

-- A template in Lua has read a member of its data; "": all of them.
---@param path string
function context.read_data(path) current.paths[path] = true end

-- The output depends on more than the configuration: it is rendered again by each reload.
function context.changes() current.changing = true end

-- The value at a path. leaves: nil instead of a list or a map.
---@param path string
---@param leaves? boolean
---@return any? nil: there is none
function context.find(path, leaves)
  if current.config then return host.find(path, leaves) end
  return store.find(current.data, path)
end

-- A text at a path, as a store has it; nil: there is none.
---@param path string
---@return string?
function context.text(path) return store.leaf(context.find(path, true)) end

-- One member of a map that the data name (a mock, or a value at NAME/KEY), or all of a list.
--- @param name string @param key string @return any? found nil: it is missing @return boolean
--- is_list
function context.member(name, key)
  if current.config and host.kind(name) ~= "list" then
    local v = host.find(name .. "/" .. key)
    context.touch(name .. "/" .. key, true, v == nil)
    return v, false
  end
  local all = mock(name)
  if type(all) == "table" and getmetatable(all).kind == "map" then return all[key], false end
  return all, true
end

-- The keys below a folder as a store, and the folder: the deepest one on the path that is there.
---@param folder string without a "/" at its end
---@return segue.template.store
---@return string folder
function context.below(folder)
  local v
  context.touch(folder, true)
  while true do
    v = context.find(folder)
    if type(v) == "table" or folder == "" then break end
    folder = folder:match "^(.*)/[^/]*$" or ""
  end
  context.touch(folder)
  return store.of(v, folder == "" and not current.config), folder
end

-- ---- The machine --------------------------------------------------------------------------------

---@param name string
---@return string? nil: it is not set
function context.getenv(name)
  local env = current.env
  if env == nil or env == value.NULL then return os.getenv(name) end
  local v = env[name]
  return type(v) == "string" and v or nil
end

---@return number seconds since 1970
function context.now()
  context.changes()
  return current.now or os.time()
end

-- The text of a file; nil and a message.
---@param path string
---@return string?, string?
function context.read(path)
  local files = current.files
  context.changes()
  if files ~= nil and files ~= value.NULL then
    local v = files[path]
    if type(v) == "string" then return v end
    return nil, ("open %s: no such file or directory"):format(path)
  end
  local file, message = io.open(path, "rb")
  if not file then
    local why = message and message:match ": ([^:]*)$" or "cannot be opened"
    return nil, ("open %s: %s"):format(path, why:lower())
  end
  local text = file:read "*a"
  file:close()
  if not text then return nil, ("read %s: is a directory"):format(path) end
  return text
end

return context
