-- SPDX-License-Identifier: MIT
-- The world that the functions of a dialect see during one run: data as a store, services, nodes,
-- the environment, files, the time. Batches set it per case; else it is the real one.
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

---@type segue.template.context
local current = { scratch = {} }

---@param given? table
---@param data any
---@param compiled segue.template.compiled
function context.enter(given, data, compiled)
  current = { data = data, compiled = compiled, scratch = {} }
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
  if type(data) ~= "table" or getmetatable(data).kind ~= "map" then return nil end
  local found = data["@" .. name]
  if found == nil then found = data[name] end
  return found
end
context.mock = mock

---@return segue.template.store
function context.store() return store.of(current.data) end

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
  return current.now or os.time()
end

-- The text of a file; nil and a message.
---@param path string
---@return string?, string?
function context.read(path)
  local files = current.files
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
