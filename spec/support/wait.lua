-- SPDX-License-Identifier: MIT
-- Waiting for an event with a deadline: runs the luv loop until a predicate holds. Specs never
-- sleep.
local uv = require "luv"
local M = {}

M.deadline_ms = 10000

--- Runs the loop until predicate() is true and returns its value; raises when deadline_ms (default
--- M.deadline_ms) is over. what: a text, or a function that returns one, for the error. The
--- predicate is also asked every 5 ms, for changes that are no event of this loop (a file, another
--- process).
function M.until_true(predicate, deadline_ms, what)
  local value = predicate()
  if value then return value end
  deadline_ms = deadline_ms or M.deadline_ms
  local deadline = uv.hrtime() + deadline_ms * 1e6
  local tick = uv.new_timer()
  tick:start(5, 5, function() end)
  local ok, problem = pcall(function()
    repeat
      uv.run("once")
      value = predicate()
    until value or uv.hrtime() > deadline
  end)
  tick:close()
  if not ok then error(problem, 0) end
  if not value then
    if type(what) == "function" then what = what() end
    error(("nothing came within %d ms: %s"):format(deadline_ms, what or "the condition"), 2)
  end
  return value
end

--- Lets what is due on the loop happen, without waiting.
function M.pump()
  uv.run("nowait")
end

return M
