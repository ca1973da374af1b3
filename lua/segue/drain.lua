-- SPDX-License-Identifier: MIT
-- How a module is drained: "5s", or { within = "5s", over = "wait", again = 3 }. within: the time
-- in which all callers must leave. over: the action if some do not: cut (the module stops although
-- they are inside), wait (as long again, `again` times, with a warning each time; then cut), or
-- undo (undoes the reload). The module's key and txn.module.x:drain take the same table.
local check = require "segue.check"
local duration = require "segue.duration"

local M = {}

local keys = { within = "duration", over = { "cut", "wait", "undo" }, again = "count" }
local again_most = 1000

local function milliseconds(time)
  return math.max(duration.parse(time), 1) -- no time at all is not the default
end

--- Returns { ms, over, again }; or nil, an error message, and the key that is wrong.
---@param drain any
---@return table?
---@return string? message
---@return string? key
function M.parse(drain)
  if type(drain) ~= "table" then
    local _, wrong = duration.parse(drain)
    if wrong then return nil, "drain " .. wrong end
    return { ms = milliseconds(drain) }
  end
  local message, where
  check.table(drain, keys, function(key, what)
    if not message then message, where = "drain: " .. what, key end
  end)
  if not message and drain.again and drain.over ~= "wait" then
    message, where = 'drain: again is for over = "wait"', "again"
  elseif not message and drain.again and drain.again > again_most then
    message, where = ("drain: again is at most %d, not %d"):format(again_most, drain.again), "again"
  end
  if message then return nil, message, type(where) == "string" and where or nil end
  return { ms = drain.within ~= nil and milliseconds(drain.within) or nil, over = drain.over,
    again = drain.again }
end

return M
