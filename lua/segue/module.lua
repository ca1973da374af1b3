-- SPDX-License-Identifier: MIT
-- Checks the value that the code of a module returns: a table of functions.
local core = require "segue.core"
local check = require "segue.check"

local keys = { start = "function", handle = "function", drain = "function", stop = "function" }
local M = {}

--- Returns an error message and its line, if that is known; nil if the value is good.
---@param module any
---@param listens boolean
---@return string? message
---@return integer? line
function M.judge(module, listens)
  if type(module) ~= "table" or core.kind(module) then
    return ("the module returns a %s instead of a table: end it with `return { handle = "
      .. "function(request) ... end }`"):format(type(module))
  end
  local message, line
  check.table(module, keys, function(key, wrong)
    message = message or wrong
    line = line or type(key) == "string" and core.line_of(key) or nil
  end)
  if message then return message, line end
  if next(module) == nil then
    return "the module returns an empty table: it needs one of start, handle, drain, stop"
  end
  if listens and not module.handle then
    return "the module listens, but its code returns no handle: add handle = function(request) "
      .. "... end"
  end
end

return M
