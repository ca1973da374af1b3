-- SPDX-License-Identifier: MIT
-- Restarts wait for the window from 02:00 to 04:00 (UTC); everything else goes live at once.
local segue = require "segue"

local opens, closes = 2 * 3600, 4 * 3600

local function seconds_to_window()
  local second = os.time() % 86400
  if second >= opens and second < closes then return 0 end
  return (opens - second) % 86400
end

local function restarts(txn)
  for _, step in ipairs(txn.plan) do
    if step.action == "restart" then return step.module end
  end
end

return {
  name = "maintenance",
  sources = { segue.file "config.yaml" },
  triggers = { segue.signal "HUP" },

  modules = {
    store = { kind = "c", config = "store", replace = "restart" },
    front = { kind = "c", config = "front", needs = { "store" } },
  },

  reload = function(txn)
    local module, wait = restarts(txn), seconds_to_window()
    if module and wait > 0 and not txn.next.urgent then
      return txn:defer(wait, module .. " is restarted between 02:00 and 04:00 only")
    end
    assert(txn:prepare())
    assert(txn:commit())
    assert(txn:confirm())
  end,
}
