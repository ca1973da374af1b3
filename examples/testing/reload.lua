-- SPDX-License-Identifier: MIT
-- A policy with decisions in it: what it decides is shown by reload_spec.lua.
local segue = require "segue"

return {
  name = "tested",
  sources = { segue.file "config.yaml" },
  triggers = { segue.signal "HUP", segue.watch(), segue.poll "1m" },

  check = function(next, prev)
    if prev and math.abs(next.workers - prev.workers) > prev.workers / 2 then
      return nil, ("workers would go from %d to %d: at most half at once"):format(prev.workers,
        next.workers)
    end
    local validated, why = segue.run { "my-server", "--check", timeout = "10s" }
    if not validated then return nil, why end
    if not validated.ok then return nil, validated.message end
    return true
  end,

  reload = function(txn)
    if txn.prev and txn.prev.release and txn.next.release then
      return txn:defer("5m", "a release is on")
    end
    assert(txn:prepare())
    assert(txn:commit())
  end,
}
