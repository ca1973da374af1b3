-- SPDX-License-Identifier: MIT
-- Random specs: each run has other seeds. A failure names its seed; SEGUE_SPEC_SEED=n runs that one
-- and no other.
local M = {}

--- The seed that was requested, or nil.
M.given = tonumber(os.getenv "SEGUE_SPEC_SEED" or "")

local first = M.given or os.time() % 400000

--- Calls act(seed) for `count` seeds.
function M.each(count, act)
  for n = first, first + (M.given and 0 or count - 1) do
    local ok, problem = xpcall(act, function(message)
      if type(message) == "table" then message = message.message or tostring(message) end
      return ("SEGUE_SPEC_SEED=%d: %s"):format(n, debug.traceback(tostring(message), 2))
    end, n)
    if not ok then error(problem, 0) end
  end
end

return M
