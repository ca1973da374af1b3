-- SPDX-License-Identifier: MIT
-- CPU time of the specs' process: the load of other processes does not count.
local uv = require "luv"
local M = {}

--- CPU time so far, in ms.
function M.ms()
  local usage = uv.getrusage()
  return (usage.utime.sec + usage.stime.sec) * 1000 + (usage.utime.usec + usage.stime.usec) / 1000
end

--- Returns fn(), an answer of spec.support.bind, which must take less than limit_ms of CPU time.
function M.ends_in(limit_ms, fn)
  local began = M.ms()
  local answer = fn()
  local took = M.ms() - began
  assert(took < limit_ms, ("it took %d ms of CPU time: %s"):format(took, answer.text))
  return answer
end

return M
