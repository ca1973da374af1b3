-- SPDX-License-Identifier: MIT
-- A change in a custom order: the front is emptied, the store is restarted, then both workers at
-- once; the commit does the remaining steps. Where the front does not empty in time, or anything
-- fails, the whole reload is undone. At night only: by day a change of the store waits.
local segue = require "segue"

return {
  name = "orchestration",
  sources = { segue.file "config.yaml" },
  triggers = { segue.signal "HUP" },

  modules = {
    front = { kind = "c", config = "front", drain = "10s" },
    store = { kind = "c", config = "store", replace = "restart" },
    left = { kind = "c", config = "workers", replace = "restart", needs = { "store" } },
    right = { kind = "c", config = "workers", replace = "restart", needs = { "store" } },
  },

  reload = function(txn)
    if txn:changed "store" and txn.prev and not txn.next.night then
      return txn:defer("10m", "the store is changed at night")
    end
    txn:prepare()
    if txn.prev and txn:changed "store" then
      local empty, why = txn.module.front:drain { within = "2s" }
      if not empty then return txn:reject(why) end
      txn.module.store:restart()
      local both, code
      both, why, code = segue.all {
        function() return txn.module.left:restart() end,
        function() return txn.module.right:restart() end,
      }
      if not both then return nil, why, code end
    end
    txn:commit() -- the front too, if it changed; every gate is open afterwards
    return txn:confirm() -- a step after one that failed does nothing, and returns that failure
  end,
}
