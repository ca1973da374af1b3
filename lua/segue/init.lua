-- SPDX-License-Identifier: MIT
-- segue: the library for policies. `local segue = require "segue"`.
local core = require "segue.core"
local constructors = require "segue.constructors"
require "segue.transaction"

---@class segue.Source
---@class segue.Trigger
---@class segue.Probe

---@class segue
---@field state table what survives a reload of the policy: plain data, copied from state to state
---@field null userdata an explicit null in a list
local segue = { version = "0.1.0", state = core.state, null = core.null, int = core.int }
for name, constructor in pairs(constructors) do segue[name] = constructor end
for name, constructor in pairs(require "segue.sources") do segue[name] = constructor end
segue.validate = require "segue.validate"
segue.verify = require "segue.verify"
segue.run, segue.fetch = require("segue.run").run, require "segue.fetch"
segue.connect = require "segue.connect"
for name, fn in pairs(require "segue.files") do segue[name] = fn end
for name, fn in pairs(require "segue.tasks") do segue[name] = fn end
segue.keys = require("segue.keys").keys
for name, codec in pairs(require "segue.codecs") do
  assert(segue[name] == nil, name) -- a second function of one name would replace the first
  segue[name] = codec
end

--- Waits. Hooks only: while a policy is being loaded nothing can wait.
---@param time string|number
function segue.sleep(time)
  local ms, wrong = core.duration(time)
  if not ms then error("segue.sleep: the time " .. wrong, 2) end
  return core.sleep(ms)
end

--- Where a config value, its member `key`, or the value at a path in it was written:
--- "file:line:column", or nil if there is no such value.
---@param value any
---@param key? string|number
---@return string?
function segue.where(value, key)
  local kind = core.kind(value)
  if kind ~= "map" and kind ~= "list" then
    error("segue.where needs a config value, and a key in it", 2)
  end
  local file, line, column = core.where(value, key)
  return file and ("%s:%d:%d"):format(file, line, column)
end

local function copy(value, depth)
  if type(value) ~= "table" then return value end
  if depth > 200 then error("segue.copy: the value is nested too deeply, or contains itself", 0) end
  local result = core.is_list(value) and core.mark_list {} or {}
  for key, item in pairs(value) do result[key] = copy(item, depth + 1) end
  return result
end

--- An ordinary table with the same content, all the way down.
---@generic T
---@param value T
---@return T
function segue.copy(value)
  return copy(value, 1)
end

local function equal(a, b, depth)
  if a == b then return true end
  if type(a) ~= "table" or type(b) ~= "table" or depth > 200 then return false end
  local count = 0
  for key, item in pairs(a) do
    count = count + 1
    if not equal(item, b[key], depth + 1) then return false end
  end
  for _ in pairs(b) do count = count - 1 end
  return count == 0
end

--- True if two values have the same content, plain tables and config values mixed as you like.
---@param a any
---@param b any
---@return boolean
function segue.equal(a, b)
  return equal(a, b, 1)
end

segue.log = {}
for level, name in pairs { [0] = "error", "warn", "info", "debug" } do
  --- Writes to the daemon's log, with up to eight fields, in the order of their keys.
  ---@param message string
  ---@param fields? table<string, any>
  segue.log[name] = function(message, fields)
    if type(message) ~= "string" then
      error(("segue.log.%s: the message must be a text, not a %s"):format(name, type(message)), 2)
    end
    if fields ~= nil and type(fields) ~= "table" then
      error(("segue.log.%s: fields must be a table, not a %s"):format(name, type(fields)), 2)
    end
    core.log(level, message, fields)
  end
end

local function names()
  local list = {}
  for name in pairs(segue) do list[#list + 1] = name end
  table.sort(list)
  return list
end

-- The constructor that a plugin in Lua provides: the function that it returns, or one that builds a
-- source from the table with fetch that it returns; any other value is itself.
local function constructor_of(name, plugin)
  if type(plugin) ~= "table" or type(plugin.fetch) ~= "function" then return plugin end
  return function(options)
    core.argument(("segue.%s: its argument"):format(name), options, "table")
    local source, own = { name = name, plugin = name }, plugin.options or {}
    local given = {}
    for key, value in pairs(options) do
      if own[key] ~= nil then given[key] = value else source[key] = value end
    end
    source.options = given
    return segue.source(source)
  end
end

return setmetatable(segue, {
  -- segue.NAME is a plugin of this name, which is loaded on first use.
  __index = function(_, name)
    if type(name) == "string" and name:find "^[%a_][%w_]*$"
        and core.has_library("segue.plugin." .. name) then
      local value = constructor_of(name, require("segue.plugin." .. name))
      rawset(segue, name, value)
      return value
    end
    error(("there is no segue.%s in this version: %s"):format(tostring(name),
      core.hint(tostring(name), names())), 2)
  end,
})
