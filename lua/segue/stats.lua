-- SPDX-License-Identifier: MIT
-- The metrics that the modules of a program share, from Lua:
--   local stats = require "segue.stats"
--   stats.count('bids_total{kind="won"}')
-- The stats module of the policy keeps them (plugin = "stats", the instance that is live at that
-- moment) and shows them in /metrics. No function here waits.
local core = require "segue.core"

local M = {}
local messages = {
  SEGUE_EMODULE = "no module of the policy keeps metrics: add stats = { kind = \"c\", "
    .. "plugin = \"stats\" }",
  SEGUE_ELIMIT = "there are too many series",
  SEGUE_EUSAGE = "the series must be a name or a name with labels, and of the kind that it had "
    .. "before",
}

local function record(name, metric, series, value)
  if type(series) ~= "string" then
    error(("segue.stats: %s: the series must be a text, not a %s"):format(name, type(series)), 3)
  end
  if type(value) ~= "number" then
    error(("segue.stats: %s: the value must be a number, not a %s"):format(name, type(value)), 3)
  end
  local rc, code = core.record(metric, series, value)
  if rc < 0 then return nil, messages[code] or "the value could not be recorded", code end
  return true
end

--- Adds n, by default 1, to a counter. Returns true; nil, message, code if the value is lost.
---@param series string a name, or one with labels: requests_total{code="200"}
---@param n? integer
function M.count(series, n)
  n = n == nil and 1 or n
  if type(n) == "number" and (n < 0 or n % 1 ~= 0) then
    error("segue.stats: count: a counter grows by whole numbers", 2)
  end
  return record("count", "counter", series, n)
end

--- Sets a value.
---@param series string
---@param value number
function M.gauge(series, value)
  return record("gauge", "gauge", series, value)
end

--- Adds a value to a histogram.
---@param series string
---@param value number
function M.observe(series, value)
  return record("observe", "histogram", series, value)
end

return M
