-- SPDX-License-Identifier: MIT
-- Guards of sources: conditions that a delivery must meet before it may go live.
local check = require "segue.check"
local duration = require "segue.duration"

local M = {}

local keys = { min_items = "count", max_shrink = "number", required = "texts",
  max_age = "duration" }

---@class segue.Guard
---@field min_items? integer members or items at the root of its documents, at least
---@field max_shrink? number the part of them, 0 to 1, that may be missing in the next generation
---@field required? string[] paths that must exist: "listen.port"
---@field max_age? string|number of the cached delivery while the source is away

--- Checks a guard and converts it for the core; throws mistakes at the caller of the constructor
--- `name`.
---@param name string
---@param guard segue.Guard?
---@param level? integer
---@return table?
function M.parse(name, guard, level)
  if guard == nil then return nil end
  level = level or 3
  check.table(guard, keys, function(_, message)
    error(("%s: guard: %s"):format(name, message), level + 2)
  end)
  local shrink = guard.max_shrink
  if shrink and not (shrink >= 0 and shrink <= 1) then
    error(("%s: guard: max_shrink must be a part from 0 to 1, such as 0.5, not %s"):format(name,
      tostring(shrink)), level)
  end
  for _, path in ipairs(guard.required or {}) do
    if path == "" then error(("%s: guard: required names an empty path"):format(name), level) end
  end
  return { min_items = guard.min_items, max_shrink = shrink, required = guard.required,
    max_age_ms = guard.max_age and duration.parse(guard.max_age) }
end

return M
