-- SPDX-License-Identifier: MIT
-- Waiting for an event with a deadline: runs the luv loop until a predicate holds. Specs never
-- sleep.
local uv = require "luv"
local M = {}

M.deadline_ms = 10000

-- A deadline ends a spec whose event never comes; it does not measure how fast an event comes. So
-- each deadline is written as for an idle machine, and every wait in the specs multiplies it by
-- this number: under load every step takes several times as long. A spec that has to find out that
-- an event does not happen must not wait for a deadline: it waits for a later event.
M.patience = tonumber(os.getenv "SEGUE_SPEC_PATIENCE" or "") or 8

--- The moment (uv.hrtime) when a wait of ms milliseconds (default M.deadline_ms) has to end.
function M.deadline(ms)
  return uv.hrtime() + (ms or M.deadline_ms) * M.patience * 1e6
end

--- Runs the loop until predicate() is true and returns its value; raises when deadline_ms (default
--- M.deadline_ms) is over. what: a text, or a function that returns one, for the error. The
--- predicate is also called every 5 ms, for changes that are no event of this loop (a file, another
--- process).
function M.until_true(predicate, deadline_ms, what)
  local value = predicate()
  if value then return value end
  local deadline = M.deadline(deadline_ms)
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
    error(("nothing came within %d ms: %s"):format((deadline_ms or M.deadline_ms) * M.patience,
      what or "the condition"), 2)
  end
  return value
end

--- Lets what is due on the loop happen, without waiting.
function M.pump()
  uv.run("nowait")
end

return M
