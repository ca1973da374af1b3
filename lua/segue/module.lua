-- SPDX-License-Identifier: MIT
-- Checks the value that the code of a module returns: a table of functions.
local core = require "segue.core"

local names = { "drain", "handle", "start", "stop" }
local known = {}
for _, name in ipairs(names) do known[name] = true end

local M = {}

-- Returns the first wrong key, in the order of the keys as texts, and an error message.
local function wrong_key(module)
  local keys = {}
  for key in pairs(module) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for _, key in ipairs(keys) do
    if not known[key] then
      return key, ("%s is not a known key here: %s"):format(tostring(key),
        core.hint(tostring(key), names))
    elseif type(module[key]) ~= "function" then
      return key, ("%s must be a function, not a %s"):format(key, type(module[key]))
    end
  end
end

--- Returns an error message and its line, if that is known; nil if the value is good.
---@param module any
---@param listens boolean
---@return string? message
---@return integer? line
function M.validate(module, listens)
  if type(module) ~= "table" or core.kind(module) then
    return ("the module returns a %s instead of a table: end it with `return { handle = "
      .. "function(request) ... end }`"):format(type(module))
  end
  local key, message = wrong_key(module)
  if message then return message, type(key) == "string" and core.line_of(key) or nil end
  if next(module) == nil then
    return "the module returns an empty table: it needs one of start, handle, drain, stop"
  end
  if listens and not module.handle then
    return "the module listens, but its code returns no handle: add handle = function(request) "
      .. "... end"
  end
end

return M
