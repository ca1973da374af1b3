-- SPDX-License-Identifier: MIT
-- Durations: texts with units ("50ms", "1.5s", "1h30m"), or numbers of seconds. Inside Segue they
-- are milliseconds.
local units = { ms = 1, s = 1000, m = 60000, h = 3600000, d = 86400000 }
local longest_ms = 366 * units.d

local M = {}

local function parse_text(text)
  local total, at = 0, 1
  while at <= #text do
    local number, unit, rest = text:match("^(%d+%.?%d*)(%a+)()", at)
    if not number or not units[unit] then return nil end
    total, at = total + tonumber(number) * units[unit], rest
  end
  return #text > 0 and total or nil
end

--- Returns the milliseconds of a duration; else nil and an error message.
---@param value string|number
---@return number? milliseconds
---@return string? message
function M.parse(value)
  local ms
  if type(value) == "number" then
    ms = value * 1000
  elseif type(value) == "string" then
    ms = parse_text(value)
  else
    return nil, ("must be a duration such as \"5s\", not a %s"):format(type(value))
  end
  if not ms then
    return nil, ("'%s' is not a duration: write a number and ms, s, m, h or d, such as \"50ms\" or "
      .. "\"1h30m\""):format(value)
  end
  if not (ms >= 0 and ms <= longest_ms) then
    return nil, ("'%s' is out of range: 0 to 366 days"):format(tostring(value))
  end
  return math.floor(ms + 0.5)
end

return M
